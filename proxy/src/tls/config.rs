//! rustls configurations from the settings: roots, client certificate, versions, groups, ALPN.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;

use super::sessions::Sessions;
use crate::config::{ListenTls, UpstreamTls, read_pair, read_roots};

static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS12_AND_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// How an upstream is verified and spoken to. Sessions are resumed among all connections made with the same value, and only among those: a
/// new CA starts without old sessions, because a resumed session is not verified again.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn client_config(tls: &UpstreamTls, alpn: &[&[u8]]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if !tls.ca_only {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = &tls.ca_file {
        add_roots(&mut roots, path)?;
    }
    let versions = if tls.tls13_only { TLS13 } else { TLS12_AND_13 };
    let builder = ClientConfig::builder_with_provider(provider(tls.post_quantum))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &tls.client_cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (chain, private) = read_pair(cert, key)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| mismatch(cert, key, &error))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    Ok(config)
}

/// How clients' TLS is terminated.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn server_config(tls: &ListenTls, alpn: &[&[u8]]) -> Result<ServerConfig, String> {
    let provider = provider(true);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(TLS12_AND_13)
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            add_roots(&mut roots, path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, private) = read_pair(&tls.cert, &tls.key)?;
    let mut config = builder.with_single_cert(chain, private).map_err(|error| mismatch(&tls.cert, &tls.key, &error))?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The name that is sent and verified.
///
/// # Errors
/// If it is neither a DNS name nor an IP address.
pub fn server_name(tls: &UpstreamTls, host: &str) -> Result<ServerName<'static>, String> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    // A trailing dot makes a name absolute for the resolver; certificates are issued without it.
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is not a name that a certificate can be for"))
}

/// The one crypto provider.
///
/// The post-quantum hybrid goes first when offered: its ClientHello carries a classical X25519 share as well, so a server without it costs no
/// extra round trip, and rustls remembers what the server chose. AES-128 with SHA-256 goes before AES-256 with SHA-384, as in Go and
/// BoringSSL: servers follow the client's order, and the key schedule of a handshake is mostly hashing, which processors do in hardware for
/// SHA-256 only.
fn provider(post_quantum: bool) -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let classical: [&'static dyn SupportedKxGroup; 3] = [X25519, SECP256R1, SECP384R1];
    let hybrid: &[&'static dyn SupportedKxGroup] = if post_quantum { &[X25519MLKEM768] } else { &[] };
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = hybrid.iter().copied().chain(classical).collect();
    // Stable: everything else keeps its order.
    provider.cipher_suites.sort_by_key(|suite| *suite != TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in read_roots(path)? {
        roots.add(certificate).map_err(|error| format!("{}: not usable as a CA certificate: {error}", path.display()))?;
    }
    Ok(())
}

fn mismatch(cert: &Path, key: &Path, error: &rustls::Error) -> String {
    format!("{} and {} do not work together: {error}", cert.display(), key.display())
}
