//! What a certificate says of itself, for metrics and `check`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// When a DER certificate expires, in Unix seconds; `None` if it is not a certificate.
#[must_use]
pub fn expiry(der: &[u8]) -> Option<i64> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}

/// What people want to know of a certificate. The texts are the certificate's own: whoever shows them takes out control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for, `CN=db.example.com, O=Example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The DNS names and IP addresses it is valid for; a CA's has none.
    pub names: Vec<String>,
    /// Valid until, Unix seconds.
    pub not_after: i64,
}

impl Certificate {
    /// Reads a DER certificate; `None` if it is none.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.iter().flat_map(|extension| &extension.value.general_names).filter_map(name).collect(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Whole days between `now` (Unix seconds) and the end; negative afterwards.
    #[must_use]
    pub fn days_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(24 * 60 * 60)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
            let any = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))));
            any.ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parties_and_days() {
        let authority = lab::Authority::new().unwrap();
        let issued = authority.issue(&lab::Leaf::server().days_left(20)).unwrap();
        let der = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(issued.chain_pem.as_bytes());
        let read = Certificate::read(&der.unwrap()).unwrap();
        assert!(read.subject.contains("CN=localhost"), "{}", read.subject);
        assert!(read.issuer.contains("Lab Root CA"), "{}", read.issuer);
        assert_eq!(read.names, ["localhost", "127.0.0.1", "::1"]);
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        assert_eq!(read.days_left(now), 20);
        assert_eq!(read.days_left(read.not_after + 1), -1);
        assert_eq!(Certificate::read(b"not a certificate"), None);
    }
}
