//! Spaces: DigitalOcean's S3, which is Ceph's gateway. What the API cannot do to buckets is done here.
//!
//! ```text
//!   accepted ─► find ─► create ─► abort_uploads_after ─► prove ─► write_new (the claim)        … ─► contents ─► empty ─► delete_bucket
//!   (the key)                     (lifecycle)            (put, get, list, delete)
//! ```
//!
//! Every call is a presigned URL that lives for minutes ([`rusty_s3`] signs, [`reqwest`] sends). Such a URL is a secret: none is ever part of
//! an error. Calls here may all be sent twice, so all of them are tried again when the server is busy or the connection breaks.

mod call;
mod contents;
mod error;
mod lifecycle;
mod objects;
mod proof;
mod regions;
mod xml;

use std::fmt;
use std::time::Duration;

use reqwest::{Method, Url};
use secrecy::SecretString;
use tokio::time::Instant;

pub use contents::{Contents, Emptied};
pub use error::{Error, Result};
pub use proof::Step;
pub use regions::{REGIONS, endpoint, nearest};

use call::Call;

/// Below this name, in every bucket, is what belongs to this program and not to Harbor.
pub const FOLDER: &str = ".harbor-proxy/";
/// The object whose writer owns the bucket.
pub const OWNER: &str = ".harbor-proxy/owner.json";

/// Between two looks at something that takes its time.
const POLL: Duration = Duration::from_millis(500);
/// Several gateways answer for one region, and they learn of a key or a bucket one after the other: only so many good answers in a row count.
const AGREED: u32 = 3;

/// Both halves of a key.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The public one.
    pub access_key: String,
    /// The other.
    pub secret_key: SecretString,
}

/// One region's buckets, with one key.
#[derive(Clone)]
pub struct Spaces {
    endpoint: Url,
    keys: Keys,
    http: reqwest::Client,
}

/// What is behind a bucket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A bucket that this key may use.
    Mine,
    /// A bucket that this key may not use: another customer's, or the key is for another bucket.
    Foreign,
    /// A bucket of another region.
    Elsewhere,
}

/// What became of a wish for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is there, and was not before. Two runs at once may both be told so: the claim on [`OWNER`] decides between them.
    Created,
    /// It was there already, and this key may use it.
    Existed,
    /// The name belongs to somebody else, or to a bucket of ours that was deleted in the control panel within the last week.
    Taken,
}

impl Spaces {
    /// For `https://nyc3.digitaloceanspaces.com`, or another place that speaks like it (`http://127.0.0.1:8480`).
    ///
    /// # Errors
    /// When the endpoint is no http or https URL, or has a password in it.
    pub fn new(endpoint: &str, keys: Keys, http: reqwest::Client) -> Result<Self> {
        let is_plain = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host() && !endpoint.contains('@');
        let Some(endpoint) = Url::parse(endpoint).ok().filter(is_plain) else {
            // What is before an `@` may be a password.
            let shown = endpoint.rsplit('@').next().unwrap_or_default();
            return Err(Error::Endpoint { endpoint: shown.to_owned() });
        };
        Ok(Self { endpoint, keys, http })
    }

    /// Looks behind a name.
    ///
    /// # Errors
    /// When the key is not known or wrong, and as every call.
    pub async fn find(&self, bucket: &str) -> Result<Found> {
        let Err(refused) = self.send(&Call::new(Method::HEAD, bucket)).await else { return Ok(Found::Mine) };
        match refused.status() {
            Some(404) => Ok(Found::Missing),
            Some(301 | 307) => Ok(Found::Elsewhere),
            // The answer to a HEAD has no body, so it cannot tell a foreign bucket from a key that nobody knows. This one's can.
            Some(403) => match self.send(&Call::new(Method::GET, bucket).query("list-type", "2").query("max-keys", "1")).await {
                Ok(_) => Ok(Found::Mine),
                Err(error) if error.is("AccessDenied") => Ok(Found::Foreign),
                Err(error) => Err(error),
            },
            _ => Err(refused),
        }
    }

    /// Makes a private bucket and waits until it is seen. Making one's own again is no error.
    ///
    /// # Errors
    /// When it is not seen at `deadline`, and as every call.
    pub async fn create(&self, bucket: &str, deadline: Instant) -> Result<Made> {
        match self.find(bucket).await? {
            Found::Mine => return Ok(Made::Existed),
            Found::Foreign | Found::Elsewhere => return Ok(Made::Taken),
            Found::Missing => {}
        }
        loop {
            // No LocationConstraint: the gateway knows none that has a region's name, and refuses it.
            match self.send(&Call::new(Method::PUT, bucket)).await {
                Ok(_) => break,
                // The end of a bucket of this name is still under way, which may take minutes.
                Err(error) if error.is("OperationAborted") && Instant::now() < deadline => tokio::time::sleep(call::jittered(POLL)).await,
                Err(error) if error.is("BucketAlreadyOwnedByYou") => return Ok(Made::Existed),
                Err(error) if error.is("BucketAlreadyExists") => return Ok(Made::Taken),
                Err(error) => return Err(error),
            }
        }
        self.agreed(&format!("bucket {bucket} to be seen"), deadline, async || match self.find(bucket).await {
            Ok(Found::Mine) => Ok(()),
            Ok(_) => Err(Error::refused(&Call::new(Method::HEAD, bucket), 404, "NoSuchBucket")),
            Err(error) => Err(error),
        })
        .await?;
        Ok(Made::Created)
    }

    /// Waits until the servers know this key: a fresh one is refused for a while. Asks for a bucket, which need not exist.
    ///
    /// # Errors
    /// At once when the secret half is wrong or the clock is; else when the key is still refused at `deadline`.
    pub async fn accepted(&self, bucket: &str, deadline: Instant) -> Result<()> {
        let probe = Call::new(Method::GET, bucket).query("list-type", "2").query("max-keys", "1");
        self.agreed(&format!("key {} to be accepted", self.keys.access_key), deadline, async || match self.send(&probe).await {
            // Whoever is told that there is no such bucket has been let in.
            Err(error) if error.is("NoSuchBucket") => Ok(()),
            result => result.map(drop),
        })
        .await
    }

    /// Deletes an empty bucket; that it is gone is no error.
    ///
    /// # Errors
    /// When it is not empty (`BucketNotEmpty`), and as every call.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        match self.send(&Call::new(Method::DELETE, bucket)).await {
            Err(error) if error.status() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks until the answer is good several times in a row; gives up at once on what waiting cannot cure.
    async fn agreed(&self, what: &str, deadline: Instant, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let (mut in_a_row, mut last) = (0, None);
        loop {
            match tokio::time::timeout_at(deadline, ask()).await {
                Ok(Ok(())) => in_a_row += 1,
                Ok(Err(error)) if error.may_pass() => (in_a_row, last) = (0, Some(error)),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
            if in_a_row >= AGREED {
                return Ok(());
            }
            let pause = if in_a_row > 0 { POLL / 10 } else { call::jittered(POLL) };
            if Instant::now() + pause >= deadline {
                return Err(Error::TooLate { what: what.to_owned(), last: last.map(Box::new) });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl fmt::Debug for Spaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spaces").field("endpoint", &self.endpoint.as_str()).field("keys", &self.keys).finish_non_exhaustive()
    }
}
