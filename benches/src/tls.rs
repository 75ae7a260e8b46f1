//! The TLS ends that tests need: a client that trusts the lab's authority, and a server of one's own making.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certs::{Authority, Issued};

/// A client configuration that trusts `authority` alone and shows `client` where a server asks for a certificate.
///
/// # Errors
/// When the PEM is broken.
pub fn client_config(authority: &Authority, client: Option<&Issued>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority)?);
    let config = match client {
        Some(issued) => {
            let (chain, key) = parse(issued)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// A server configuration with this certificate; clients must show one of `clients` when given.
///
/// # Errors
/// When the PEM is broken.
pub fn server_config(issued: &Issued, clients: Option<&Authority>) -> Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = parse(issued)?;
    Ok(builder.with_single_cert(chain, key)?)
}

/// Connects and shakes hands with a server whose certificate must be for `name`.
///
/// # Errors
/// As the connection or the handshake fails.
pub async fn connect(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned())?;
    TlsConnector::from(config).connect(name, tcp).await.with_context(|| format!("TLS handshake with {address} failed"))
}

fn roots(authority: &Authority) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.ca_der())?;
    Ok(roots)
}

fn parse(issued: &Issued) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?))
}
