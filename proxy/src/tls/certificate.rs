//! What a certificate says of itself, for metrics and `check`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// When a DER certificate expires, in Unix seconds; `None` if it is not a certificate.
#[must_use]
pub fn expiry(der: &[u8]) -> Option<i64> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}

/// The hash that binds a login to a server's certificate, `tls-server-end-point` of RFC 5929, section 4.1: by the hash of the certificate's
/// own signature, or SHA-256 where that is MD5 or SHA-1. `None` where it has no hash of its own (Ed25519): the RFC leaves that open, and
/// PostgreSQL fails there.
#[must_use]
pub fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let hash = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => parameters.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    let hash = match hash.as_str() {
        // With RSA, with ECDSA, and alone as RSASSA-PSS names it: MD5, SHA-1, SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.3.14.3.2.26"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => &digest::SHA224,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, der).as_ref().to_vec())
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
