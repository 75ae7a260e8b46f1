//! What goes wrong with a registry. Never a login, a token or a query.

use reqwest::StatusCode;

use crate::harbor::said;
use crate::http;

/// Of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or half of one.
    #[error("the registry does not answer {what}: {why}")]
    Silent {
        /// Method and path.
        what: String,
        /// The innermost cause.
        why: String,
    },
    /// A status that is no success.
    #[error("the registry answered {what} with {status}{said}")]
    Refused {
        /// Method and path, or `the token`.
        what: String,
        /// As told.
        status: StatusCode,
        /// The registry's own messages, with a colon before them, or nothing.
        said: String,
    },
    /// A realm or a location that is somebody else's. Nothing was sent there.
    #[error(
        "the registry sends its clients to another host ({of} {told}), where no login of ours goes: is Harbor's externalURL the address that clients use?"
    )]
    Foreign {
        /// `realm`, `Location`.
        of: &'static str,
        /// What it says.
        told: String,
    },
    /// An address in plain HTTP, told over https.
    #[error(
        "the registry sends its clients to plain HTTP ({of} {told}), where docker fails or says its password in clear: whatever ends TLS in front of \
         Harbor must pass on X-Forwarded-Proto: https, and externalURL must begin with https"
    )]
    Plain {
        /// `realm`, `Location`.
        of: &'static str,
        /// What it says.
        told: String,
    },
    /// The bucket that a redirect leads to.
    #[error(
        "the bucket at {host}, where the registry sends its clients for blobs, does not answer: {why}; say `redirect: false` in the spec's harbor section where clients cannot reach Spaces"
    )]
    Bucket {
        /// Its host name.
        host: String,
        /// The innermost cause.
        why: String,
    },
    /// Not what was asked for.
    #[error("{what} is not what was asked for: its digest is {found}, not {wanted}; it was changed on its way or in the bucket")]
    Digest {
        /// Method and path.
        what: String,
        /// Of what came.
        found: String,
        /// By name.
        wanted: String,
    },
    /// An answer that no registry gives.
    #[error("the answer to {what} is no registry's: {why}")]
    Strange {
        /// Method and path.
        what: String,
        /// What is strange.
        why: String,
    },
}

impl Error {
    /// The login was not accepted, or it may not do that.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }

    /// There is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

pub(super) fn silent(what: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let why = if error.is_timeout() { "it takes too long".to_owned() } else { http::innermost(&error) };
    Error::Silent { what: what.to_owned(), why }
}

pub(super) fn refused(what: &str, status: StatusCode, body: &[u8]) -> Error {
    Error::Refused { what: what.to_owned(), status, said: said(body) }
}

pub(super) fn strange(what: &str, why: &str) -> Error {
    Error::Strange { what: what.to_owned(), why: why.to_owned() }
}
