//! The one HTTPS client: for DigitalOcean's API and for Spaces.
//!
//! It trusts the roots that are built in, so it works from an image without certificates. It follows no redirect: what it sends (tokens,
//! signatures) is for one host alone. `HTTPS_PROXY` and `NO_PROXY` count as everywhere; `HTTP_PROXY` does not, because nothing that we say in
//! clear is for anybody but this machine.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// What we call ourselves.
const USER_AGENT: &str = concat!("doks-harbor/", env!("CARGO_PKG_VERSION"));
/// From the name to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Where the address of a proxy may be said, the strongest first.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// A client; cheap to clone, and clones share their connections.
///
/// # Errors
/// When the environment names a proxy that is no URL.
pub fn client() -> Result<reqwest::Client> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
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
    if let Some((name, url)) = proxy {
        // The URL may hold a password, so the error names only where it stands.
        let proxy = Proxy::https(url).ok().with_context(|| format!("{name} is no URL of a proxy; correct or unset it"))?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_env()));
    }
    builder.build().map_err(reqwest::Error::without_url).context("the HTTPS client cannot be made")
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_can_be_made_without_any_provider_being_installed() {
        super::client().unwrap();
    }
}
