//! The one HTTPS client: for DigitalOcean's API, for Spaces and for Harbor.
//!
//! It trusts the roots that are built in, so it works from an image without certificates. It follows no redirect: what it sends (tokens,
//! signatures) is for one host alone. `HTTPS_PROXY` and `NO_PROXY` count as everywhere; `HTTP_PROXY` does not, because nothing that we say in
//! clear is for anybody but this machine.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy};
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// What we call ourselves.
const USER_AGENT: &str = concat!("doks-harbor/", env!("CARGO_PKG_VERSION"));
/// From the name to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Where the address of a proxy may be said, the strongest first.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What a client trusts and where it connects, besides what it does by itself.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Authorities beside the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
    /// This name, without a port in the URL, is here; nothing goes through a proxy of the environment then. TLS still verifies the name.
    pub at: Option<(String, SocketAddr)>,
}

/// A client; cheap to clone, and clones share their connections.
///
/// # Errors
/// When the environment names a proxy that is no URL.
pub fn client() -> Result<reqwest::Client> {
    client_for(&Route::default())
}

/// A client for one server that is not reached, or not trusted, like everybody else.
///
/// # Errors
/// As [`client`], and when an authority is no certificate.
pub fn client_for(route: &Route) -> Result<reqwest::Client> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for authority in &route.authorities {
        roots.add(authority.clone()).context("the authority (CA) is no certificate that could sign others")?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("this build has no TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
        .referer(false)
        .no_proxy();
    let proxy = PROXY.iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()).map(|url| (name, url)));
    match (&route.at, proxy) {
        (Some((name, address)), _) => builder = builder.resolve(name, *address),
        (None, Some((name, url))) => {
            // The URL may hold a password, so the error names only where it stands.
            let proxy = Proxy::https(url).ok().with_context(|| format!("{name} is no URL of a proxy; correct or unset it"))?;
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_env()));
        }
        (None, None) => {}
    }
    builder.build().map_err(reqwest::Error::without_url).context("the HTTPS client cannot be made")
}

/// The certificates in a PEM file or a Secret.
///
/// # Errors
/// When there is none, or one is malformed.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok().filter(|found| !found.is_empty());
    found.context("there is no certificate in it (PEM, -----BEGIN CERTIFICATE-----)")
}

/// Why the server's certificate was refused, if that is what went wrong.
#[must_use]
pub fn certificate_error(error: &(dyn Error + 'static)) -> Option<CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error does not tell of the error in it as its source, but of that one's.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        for error in [Some(error), inner].into_iter().flatten() {
            if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
                return Some(why.clone());
            }
        }
        next = inner.or_else(|| error.source());
    }
    None
}

/// The innermost cause: what a person wants to read.
#[must_use]
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_can_be_made_without_any_provider_being_installed() {
        super::client().unwrap();
    }
}
