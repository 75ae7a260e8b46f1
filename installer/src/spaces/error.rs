//! What a call to Spaces can end with. None holds a URL, because URLs are signed, or a key's secret half.

use super::Step;
use super::call::Call;

/// What a call comes to.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered no. Its own sentences are empty, so a hint stands in for them.
    #[error("{call}: {code} ({status}{}){}", request(request_id.as_deref()), hint(code))]
    Refused {
        /// Method, bucket and object.
        call: String,
        /// HTTP.
        status: u16,
        /// S3's word for it: `AccessDenied`, `NoSuchBucket` …
        code: String,
        /// For DigitalOcean's support.
        request_id: Option<String>,
    },
    /// No answer came, however often it was tried.
    #[error("{call}: {why}")]
    Unreachable {
        /// Method, bucket and object.
        call: String,
        /// What happened instead.
        why: String,
    },
    /// An answer that makes no sense.
    #[error("{call}: the answer cannot be used: {why}; is this endpoint S3?")]
    Malformed {
        /// Method, bucket and object.
        call: String,
        /// What is wrong with it.
        why: String,
    },
    /// Waited for in vain.
    #[error("waited in vain for {what}{}", last.as_ref().map_or_else(String::new, |last| format!("; the last answer was: {last}")))]
    TooLate {
        /// For what.
        what: String,
        /// The last refusal.
        last: Option<Box<Self>>,
    },
    /// A key did not prove that it can do what Harbor does.
    #[error("bucket {bucket}, {step}: {cause}. {means}")]
    Unproven {
        /// The bucket.
        bucket: String,
        /// Where it failed.
        step: Step,
        /// What that says about key and bucket.
        means: &'static str,
        /// The refusal.
        cause: Box<Self>,
    },
    /// Objects that the server did not delete, though it was asked to.
    #[error("bucket {bucket}: {objects} objects could not be deleted, the first of them {first:?}: {code}{}", hint(code))]
    Undeleted {
        /// The bucket.
        bucket: String,
        /// How many of one page.
        objects: usize,
        /// The name of one.
        first: String,
        /// S3's word for the reason.
        code: String,
    },
    /// A name that no URL can carry.
    #[error(
        "object {object:?} in bucket {bucket}: names with `.` or `..` between slashes cannot be addressed; delete it with another tool"
    )]
    Name {
        /// The bucket.
        bucket: String,
        /// The object.
        object: String,
    },
    /// No URL to speak to.
    #[error("{endpoint:?} is no S3 endpoint: it should look like https://nyc3.digitaloceanspaces.com")]
    Endpoint {
        /// As it was given.
        endpoint: String,
    },
}

impl Error {
    pub(super) fn refused(call: &Call<'_>, status: u16, code: &str) -> Self {
        Self::Refused { call: call.to_string(), status, code: code.to_owned(), request_id: None }
    }

    pub(super) fn malformed(call: &Call<'_>, why: impl Into<String>) -> Self {
        Self::Malformed { call: call.to_string(), why: why.into() }
    }

    /// HTTP, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// S3's word, if there was an answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } | Self::Undeleted { code, .. } => Some(code),
            _ => None,
        }
    }

    /// True when this is S3's word for it.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code() == Some(code)
    }

    /// True for what the same call may not meet a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                matches!(status, 429 | 500 | 502 | 503 | 504) || matches!(code.as_str(), "RequestTimeout" | "SlowDown")
            }
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// True also for what passes when something new has become known everywhere.
    pub(super) fn may_pass(&self) -> bool {
        let settling = matches!(self.code(), Some("InvalidAccessKeyId" | "AccessDenied" | "NoSuchBucket"));
        self.is_passing() || settling
    }
}

fn request(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(", request {id}"))
}

/// What a code means here, and what to do.
fn hint(code: &str) -> &'static str {
    match code {
        "InvalidAccessKeyId" => ": this region knows no such access key; a new one takes a moment, a deleted one stays gone",
        "SignatureDoesNotMatch" => ": the secret half does not belong to this access key; make a new key, secrets are told only once",
        "AccessDenied" => ": the key may not do this, or the bucket is another's",
        "RequestTimeTooSkewed" => ": this machine's clock is wrong; set it and try again",
        "NoSuchBucket" => ": there is no such bucket in this region",
        "BucketAlreadyExists" => ": the name is taken, or was deleted less than a week ago; choose another",
        "OperationAborted" => ": another change of this bucket is still under way; try again in a few minutes",
        "BucketNotEmpty" => ": something was written while it was being emptied; stop Harbor and try again",
        "InvalidBucketName" => ": 3 to 63 lower-case letters, digits and hyphens",
        "SlowDown" | "ServiceUnavailable" => ": the server is busy; try again later",
        "TooManyBuckets" => ": the account's limit; delete a bucket or ask DigitalOcean for more",
        "InvalidLocationConstraint" => ": the endpoint is not of the bucket's region",
        _ => "",
    }
}
