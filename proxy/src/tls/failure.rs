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
    Error { side, kind, why }
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
        TlsError::NoCertificatesPresented => (Kind::TlsIssuer, "the peer showed no certificate".to_owned()),
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
