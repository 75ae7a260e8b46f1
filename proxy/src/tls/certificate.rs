//! What a certificate says of itself, for metrics and `check`.

use x509_parser::prelude::{FromDer, X509Certificate};

/// When a DER certificate expires, in Unix seconds; `None` if it is not a certificate.
#[must_use]
pub fn expiry(der: &[u8]) -> Option<i64> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}
