//! The proof that a key can do with a bucket what Harbor will: before Harbor is told of it, not after.

use std::fmt;

use reqwest::Method;

use super::call::Call;
use super::{Error, FOLDER, Result, Spaces};

/// What a key has to be able to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write an object.
    Put,
    /// Read the same bytes.
    Get,
    /// See it in a list.
    List,
    /// Delete it, after which it is gone.
    Delete,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "writing an object",
            Self::Get => "reading it back",
            Self::List => "listing it",
            Self::Delete => "deleting it",
        })
    }
}

impl Spaces {
    /// Writes, reads, lists and deletes a small object of a random name, which is gone afterwards whatever happened. (A bucket that keeps
    /// versions keeps this one, too.)
    ///
    /// # Errors
    /// [`Error::Unproven`] with the step that failed and what that means.
    pub async fn prove(&self, bucket: &str) -> Result<()> {
        let name = format!("{FOLDER}proof-{:032x}", fastrand::u128(..));
        let outcome = self.steps(bucket, &name).await;
        if let Err((step, _)) = &outcome
            && *step != Step::Delete
        {
            // The first error is the one to tell. A put whose answer was lost may have left the object as well.
            let _ = self.delete(bucket, &name).await;
        }
        outcome.map_err(|(step, cause)| Error::Unproven {
            bucket: bucket.to_owned(),
            step,
            means: meaning(step, &cause),
            cause: Box::new(cause),
        })
    }

    async fn steps(&self, bucket: &str, name: &str) -> Result<(), (Step, Error)> {
        let at = |step| move |error| (step, error);
        self.write(bucket, name, name.as_bytes()).await.map_err(at(Step::Put))?;

        let got = self.read(bucket, name).await.map_err(at(Step::Get))?;
        if got.as_deref() != Some(name.as_bytes()) {
            let call = Call::new(Method::GET, bucket).object(name);
            let why = if got.is_some() { "other bytes came back than were written" } else { "what was just written is not there" };
            return Err((Step::Get, Error::malformed(&call, why)));
        }

        let list = Call::new(Method::GET, bucket).query("list-type", "2").query("prefix", name);
        let listed = self.send(&list).await.and_then(|answer| answer.xml(&list)).map_err(at(Step::List))?;
        if !listed.all("Contents").any(|object| object.text_of("Key") == Some(name)) {
            return Err((Step::List, Error::malformed(&list, "what was just written is not in the list")));
        }

        self.delete(bucket, name).await.map_err(at(Step::Delete))?;
        if self.read(bucket, name).await.map_err(at(Step::Delete))?.is_some() {
            return Err((Step::Delete, Error::malformed(&Call::new(Method::DELETE, bucket).object(name), "it is still there")));
        }
        Ok(())
    }
}

fn meaning(step: Step, cause: &Error) -> &'static str {
    match (step, cause.code()) {
        (_, Some("NoSuchBucket")) => "There is no such bucket in this region: check its name and its region, or let it be created.",
        (_, Some("InvalidAccessKeyId" | "SignatureDoesNotMatch")) => "The key itself is wrong: nothing is known about the bucket yet.",
        (Step::Put, Some("AccessDenied")) => {
            "The key can only read here, or the bucket is not its: Harbor needs a readwrite key for this bucket."
        }
        (Step::Put, Some("QuotaExceeded")) => "The bucket is full.",
        (Step::Get | Step::List, Some("AccessDenied")) => "The key can write and not read: Harbor needs a readwrite key for this bucket.",
        (Step::Delete, Some("AccessDenied")) => {
            "The key cannot delete, so Harbor could never collect garbage: it needs a readwrite key for this bucket. \
             The object below .harbor-proxy/ was left behind."
        }
        _ => "The server did not do what S3 does; try again, and if that does not help, choose another bucket.",
    }
}
