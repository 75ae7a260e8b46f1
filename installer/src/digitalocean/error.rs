//! What a call can end with. Each says which call, why, and DigitalOcean's own words; none holds the token or a body.

/// What a call comes to.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered no.
    #[error("{call}: {message} ({status} {id}{}{}", request_id.as_deref().map_or_else(|| ")".to_owned(), |id| format!(", request {id})")), lacks(*status, call))]
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
    /// Sent, and no answer came, or one that says nothing (5xx to a create): nobody knows whether it was done.
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
        let Self::Refused { status: 409 | 422, message, .. } = self else { return false };
        let message = message.to_ascii_lowercase();
        // "region … is not available" and "project does not exist" are something else.
        ["name is not available", "already exist", "already taken", "already in use"].iter().any(|words| message.contains(words))
    }

    /// 429 that is not worth waiting for: the message says when it is free again.
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        self.status() == Some(429)
    }
}

/// DigitalOcean does not say which scope it misses.
fn lacks(status: u16, call: &str) -> String {
    let scope = scope(call).filter(|_| status == 403);
    scope.map_or_else(String::new, |scope| format!("; give the token the scope {scope}"))
}

/// What a call needs.
fn scope(call: &str) -> Option<&'static str> {
    let (method, path) = call.split_once(' ')?;
    let resource = path.strip_prefix("/v2/")?.split('/').next()?;
    Some(match (method, resource) {
        ("GET", "account") => "account:read",
        ("GET", "kubernetes") => "kubernetes:read",
        ("GET", "databases") => "database:read",
        ("POST", "databases") if path.ends_with("/reset_auth") => "database:update",
        ("POST", "databases") => "database:create (and tag:create, vpc:read)",
        ("PUT" | "PATCH", "databases") => "database:update",
        ("DELETE", "databases") => "database:delete",
        ("GET", "spaces") => "spaces_key:read",
        ("POST", "spaces") => "spaces_key:create_credentials",
        ("DELETE", "spaces") => "spaces_key:delete",
        ("GET", "projects") => "project:read",
        ("POST", "projects") => "project:assign_resource",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_told_from_other_things_that_are_not_there() {
        let taken = |status, message: &str| {
            let message = message.to_owned();
            Error::Refused { call: String::new(), status, id: String::new(), message, request_id: None }.is_name_taken()
        };
        assert!(taken(422, "Cluster name is not available"));
        assert!(taken(422, "user already exists"));
        assert!(taken(409, "database name already exists"));
        assert!(!taken(422, "region nyc2 is not available for valkey"));
        assert!(!taken(422, "project does not exist"));
        assert!(!taken(404, "name is not available"));
    }
}
