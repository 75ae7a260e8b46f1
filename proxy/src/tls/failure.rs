//! What a failed TLS connection means, in words that say what to do.

use std::fmt::Display;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};
use rustls_pki_types::UnixTime;

use crate::error::{Error, Kind, Side};

/// Turns a socket or TLS failure into an error with its kind, cause and cure. `side` is the peer of the connection that failed.
#[must_use]
pub fn explain(side: Side, error: &io::Error) -> Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return Error::io(side, error);
    };
    let (kind, why) = describe(side, tls);
    Error::on(side, kind, why)
}

fn describe(side: Side, error: &TlsError) -> (Kind, String) {
    match error {
        TlsError::InvalidCertificate(certificate) => bad_certificate(certificate),
        TlsError::AlertReceived(alert) => (Kind::TlsRefused, refused(side, *alert)),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => (
            Kind::TlsPlaintext,
            match side {
                Side::Client => "the client does not speak TLS, but this listener has a certificate".to_owned(),
                _ => "the server answered in plaintext: this is not a TLS port; use the port that speaks TLS".to_owned(),
            },
        ),
        TlsError::PeerIncompatible(why) => {
            (Kind::TlsRefused, format!("no common TLS version, cipher or group ({why:?}); the peer is too old or `tls_min` too new"))
        }
        TlsError::NoCertificatesPresented => {
            (Kind::TlsIssuer, format!("the {} showed no certificate", if side == Side::Client { "client" } else { "server" }))
        }
        other => (Kind::TlsOther, other.to_string()),
    }
}

fn bad_certificate(error: &CertificateError) -> (Kind, String) {
    use CertificateError as E;
    match error {
        E::ExpiredContext { not_after, .. } => {
            (Kind::TlsExpired, format!("the certificate has expired (on {}); renew it, or check this machine's clock", utc(*not_after)))
        }
        E::Expired => (Kind::TlsExpired, "the certificate has expired; renew it, or check this machine's clock".to_owned()),
        E::NotValidYetContext { not_before, .. } => {
            (Kind::TlsNotYetValid, format!("the certificate is not valid yet (from {} on); check this machine's clock", utc(*not_before)))
        }
        E::NotValidYet => (Kind::TlsNotYetValid, "the certificate is not valid yet; check this machine's clock".to_owned()),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            (Kind::TlsName, format!("the certificate is for another name ({error}); connect by its name or set server_name"))
        }
        E::UnknownIssuer => (
            Kind::TlsIssuer,
            "the certificate's issuer is not trusted; give its CA with ca_file (managed PostgreSQL has one of its own)".to_owned(),
        ),
        // A CA that was made anew under its old name.
        E::BadSignature => (
            Kind::TlsIssuer,
            "the certificate's issuer is not trusted: a CA of that name is, but with another key; give its present certificate with ca_file"
                .to_owned(),
        ),
        // webpki's own word: rustls has none for it.
        E::Other(other) if other.to_string() == "CaUsedAsEndEntity" => (
            Kind::TlsIssuer,
            "the server shows a CA certificate as its own; issue a server certificate from a CA, or make the self-signed one with \
             basicConstraints CA:FALSE (openssl req -x509 … -addext basicConstraints=critical,CA:FALSE)"
                .to_owned(),
        ),
        other => (Kind::TlsOther, format!("the certificate was refused: {other}")),
    }
}

fn utc(time: UnixTime) -> impl Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

fn refused(side: Side, alert: AlertDescription) -> String {
    let cure = match (side, alert) {
        (Side::Upstream, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            "; if the server wants a client certificate, set client_cert and client_key"
        }
        (Side::Upstream, AlertDescription::ProtocolVersion) => "; the server speaks none of the TLS versions allowed here",
        (Side::Client, AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            "; the client does not trust this listener's certificate"
        }
        _ => "",
    };
    format!("the {side} refused the handshake ({alert:?}){cure}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls_pki_types::ServerName;

    use super::*;

    /// What a client says that trusts this self-signed certificate alone and is shown it.
    fn shown_its_own_root(is_ca: IsCa) -> Result<(), TlsError> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, certificate.der(), &[], &name, &[], UnixTime::now())
            .map(drop)
    }

    #[test]
    fn a_self_signed_certificate_serves_only_if_it_is_no_ca() {
        let error = shown_its_own_root(IsCa::Ca(BasicConstraints::Unconstrained)).unwrap_err();
        let (kind, why) = describe(Side::Upstream, &error);
        assert_eq!(kind, Kind::TlsIssuer, "{why}");
        assert!(why.contains("CA:FALSE"), "{why}");
        assert_eq!(shown_its_own_root(IsCa::ExplicitNoCa), Ok(()), "the cure works");
    }

    #[test]
    fn who_showed_no_certificate() {
        for (side, who) in [(Side::Client, "the client"), (Side::Upstream, "the server")] {
            assert_eq!(describe(side, &TlsError::NoCertificatesPresented).1, format!("{who} showed no certificate"));
        }
    }
}
