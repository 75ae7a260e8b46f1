//! What goes wrong with Harbor: which call, why, and what to do. Never a login, a query or a body of ours.

use std::fmt::Write;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::http;

/// Of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Of what Harbor says, the most that is shown.
const LONGEST: usize = 400;

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or half of one.
    #[error("Harbor does not answer {method} {path}: {why}; {cure}")]
    Silent {
        /// `GET` …
        method: String,
        /// After `/api/v2.0`.
        path: String,
        /// The innermost cause.
        why: String,
        /// What to do.
        cure: &'static str,
        /// Whether its certificate was refused.
        certificate: bool,
    },
    /// An answer that is not the one that was hoped for.
    #[error("Harbor answered {method} {path} with {status}{said}; {cure}")]
    Refused {
        /// `GET` …
        method: String,
        /// After `/api/v2.0`.
        path: String,
        /// As told.
        status: StatusCode,
        /// Harbor's own messages, with a colon before them, or nothing.
        said: String,
        /// What to do.
        cure: &'static str,
    },
    /// An answer that Harbor does not give.
    #[error("the answer to {method} {path} is not Harbor's: {why}; is there another server at this address?")]
    Strange {
        /// `GET` …
        method: String,
        /// After `/api/v2.0`.
        path: String,
        /// What is strange.
        why: String,
    },
}

impl Error {
    /// The status, where there was an answer.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Silent { .. } | Self::Strange { .. } => None,
        }
    }

    /// Whether the server's certificate is not trusted.
    #[must_use]
    pub const fn is_certificate(&self) -> bool {
        matches!(self, Self::Silent { certificate: true, .. })
    }
}

pub(super) fn silent(method: &Method, path: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let certificate = http::certificate_error(&error);
    let cure = match &certificate {
        Some(rustls::CertificateError::UnknownIssuer) => {
            "its certificate is of an authority that is not public: say --ca-file, or let the cluster tell it (--kubeconfig, or DigitalOcean's token)"
        }
        Some(rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: renew it (cert-manager, or the Secret in harbor.tls_secret)"
        }
        Some(_) => "its certificate does not fit: look at harbor.host and harbor.tls_secret in the spec",
        None if error.is_timeout() => "is it very busy? look at its pods with `kubectl get pods`",
        None => "is it running, and is the address right? `doks-harbor doctor` looks closer",
    };
    let why = match (&certificate, error.is_timeout()) {
        (Some(why), _) => format!("its certificate is not accepted ({why})"),
        (None, true) => "it takes too long".to_owned(),
        (None, false) => http::innermost(&error),
    };
    Error::Silent { method: method.to_string(), path: path.to_owned(), why, cure, certificate: certificate.is_some() }
}

pub(super) fn strange(method: &Method, path: &str, why: &str) -> Error {
    Error::Strange { method: method.to_string(), path: path.to_owned(), why: why.to_owned() }
}

pub(super) fn refused(method: &Method, path: &str, status: StatusCode, location: Option<&str>, body: &[u8]) -> Error {
    let mut said = said(body);
    if status.is_redirection() {
        let _ = write!(said, ": go to {}", location.unwrap_or("nowhere"));
    }
    Error::Refused { method: method.to_string(), path: path.to_owned(), status, said, cure: cure(status) }
}

fn cure(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "the login is not accepted: if somebody changed admin's password in Harbor, write the current one into the keyring's \
             harbor-admin-password, or say --user and --password-file"
        }
        StatusCode::FORBIDDEN => "this login may not do that: say --user and --password-file of an administrator",
        StatusCode::NOT_FOUND => "either it is gone, or there is another server at this address",
        StatusCode::CONFLICT => "it is there already",
        StatusCode::PRECONDITION_FAILED => "something else has to go first, or a quota is used up",
        StatusCode::TOO_MANY_REQUESTS => "wait a little, then run again",
        status if status.is_redirection() => "say the address at which Harbor answers by itself: https, and the host of the spec",
        status if status.is_server_error() => {
            "look at the logs of core (`kubectl logs deployment/…-core`); `doks-harbor doctor` looks closer"
        }
        _ => "does this version of Harbor know the call? doks-harbor speaks with 2.4 and newer",
    }
}

/// `{"errors":[{"code":"CONFLICT","message":"…"}]}`, or a short text.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => {
            let each = body.errors.into_iter().map(|one| if one.message.is_empty() { one.code } else { one.message });
            each.collect::<Vec<_>>().join("; ")
        }
        // A load balancer's page in HTML helps nobody.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harbors_words_are_passed_on_and_pages_are_not() {
        assert_eq!(
            said(br#"{"errors":[{"code":"CONFLICT","message":"The project named x already exists"}]}"#),
            ": The project named x already exists"
        );
        assert_eq!(said(br#"{"errors":[{"code":"DENIED","message":""},{"code":"B","message":"b"}]}"#), ": DENIED; b");
        assert_eq!(said(b"<html>504</html>"), "");
        assert_eq!(said(b"plain\ntext\n"), ": plain text");
        assert_eq!(said(&[b'x'; 5000]).len(), LONGEST + 2);
        assert_eq!(said(b""), "");
    }
}
