//! What a call can end with. Each says which call, why, and DigitalOcean's own words; none holds the token or a body.

/// What a call comes to.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered no.
    #[error("{call}: {message} ({status} {id}{}", request_id.as_deref().map_or_else(|| ")".to_owned(), |id| format!(", request {id})")))]
    Refused {
        /// Method and path.
        call: String,
        /// HTTP.
        status: u16,
        /// DigitalOcean's word for it: `not_found`, `unprocessable_entity` …
        id: String,
        /// DigitalOcean's sentence.
        message: String,
        /// For its support.
        request_id: Option<String>,
    },
    /// Sent, and no answer came: nobody knows whether it was done.
    #[error("{call}: the answer was lost ({why}); whether it was done is not known")]
    Lost {
        /// Method and path.
        call: String,
        /// What happened instead.
        why: String,
    },
    /// It never reached the API.
    #[error("{call}: {why}")]
    Unreachable {
        /// Method and path.
        call: String,
        /// What happened instead.
        why: String,
    },
    /// An answer that makes no sense.
    #[error("{call}: the answer cannot be read: {why}")]
    Malformed {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    pub(super) fn malformed(call: String, why: String) -> Self {
        Self::Malformed { call, why }
    }

    /// HTTP, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// 404.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// 403: the token lacks a scope.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// Nobody knows whether it was done.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// 422 because of a name that exists already, or still.
    #[must_use]
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Refused { status: 409 | 422, message, .. } if message.contains("not available") || message.contains("exist"))
    }
}
