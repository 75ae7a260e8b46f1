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

    /// Self-signed with RSASSA-PSS and SHA-384; nobody has the key.
    const PSS: &str = "MIICYjCCAZegAwIBAgIUaaOKlpQEP3+XXrVFqbgpeSDrbYgwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIFAK\
        IDAgEwMA4xDDAKBgNVBAMMA3BzczAgFw0yNjExMjIwNjQ1NTZaGA8yMTI2MTAyOTA2NDU1NlowDjEMMAoGA1UEAwwDcHNzMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKB\
        gQDh+P1FM/v6H2lp2jX5ELVCGZ+3jJ+i/snlNuJIfL/4tO4IwWDrIAe3BcqLk6etVxNKyHL1wurAATuG9P4MKiJUx6NYNzZspTXwr7MNW0qalmOlEjXGYtUHsfr65qYDNd\
        +vI1f4AMvQ38wB2aNiN0980huhcpKysDDgKoGdaOBUQQIDAQABo1MwUTAdBgNVHQ4EFgQUx+x9Ha7nhQ29foBN2uNM4gCvPv4wHwYDVR0jBBgwFoAUx+x9Ha7nhQ29foBN\
        2uNM4gCvPv4wDwYDVR0TAQH/BAUwAwEB/zBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAgUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFlAwQCAgUAogMCATADgYEAdI\
        3yKaCtCCx2VaZAVNb4DhRSF649E1mLWkkCvJjhLTL9RVOlSAwwzib6IPT4IhAdKIu8BO9fNw0Hnf8I5GdzNTBKfiRfNaZMvAe7eDM3oizoBVhisc/BXAHUgvSWnZtdi2y8\
        CC9qHf8zJr8DjbwnHclFfSr2/B2CylIjtDjEUyc=";

    #[test]
    fn the_end_point_is_hashed_as_the_certificate_was_signed() {
        use base64::Engine as _;
        let signed = |algorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec()
        };
        let sha256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
        let rsa = signed(&rcgen::PKCS_RSA_SHA256);
        // The same, as if it were signed with another hash: nothing here checks the signature.
        let resigned = |last: u8| {
            let mut der = rsa.clone();
            while let Some(at) = der.windows(9).position(|oid| oid == sha256) {
                der[at + 8] = last;
            }
            der
        };
        for (der, hash) in [
            (rsa.clone(), Some(&digest::SHA256)),
            (resigned(4), Some(&digest::SHA256)),
            (resigned(5), Some(&digest::SHA256)),
            (resigned(14), Some(&digest::SHA224)),
            (signed(&rcgen::PKCS_RSA_SHA384), Some(&digest::SHA384)),
            (signed(&rcgen::PKCS_RSA_SHA512), Some(&digest::SHA512)),
            (signed(&rcgen::PKCS_ECDSA_P256_SHA256), Some(&digest::SHA256)),
            (signed(&rcgen::PKCS_ECDSA_P384_SHA384), Some(&digest::SHA384)),
            (base64::engine::general_purpose::STANDARD.decode(PSS).unwrap(), Some(&digest::SHA384)),
            (signed(&rcgen::PKCS_ED25519), None),
            (b"not a certificate".to_vec(), None),
        ] {
            assert_eq!(end_point(&der), hash.map(|hash| digest::digest(hash, &der).as_ref().to_vec()));
        }
    }
}
