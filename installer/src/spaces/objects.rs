//! Small objects, whole.

use reqwest::Method;

use super::call::Call;
use super::{Result, Spaces};

/// What is read here are notes of this program, not layers of images.
const LIMIT: usize = 1 << 20;

impl Spaces {
    /// An object's bytes, if it is there.
    ///
    /// # Errors
    /// When it is longer than 1 MiB, when there is no such bucket, and as every call.
    pub async fn read(&self, bucket: &str, name: &str) -> Result<Option<Vec<u8>>> {
        match self.send(&Call::new(Method::GET, bucket).object(name).limit(LIMIT)).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) if error.is("NoSuchKey") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, over what was there.
    ///
    /// # Errors
    /// As every call.
    pub async fn write(&self, bucket: &str, name: &str, bytes: &[u8]) -> Result<()> {
        self.send(&Call::new(Method::PUT, bucket).object(name).body(bytes.to_vec())).await.map(drop)
    }

    /// Writes an object that is not there yet; true when it is there now and holds these bytes. Of many who try at once one is told so: this is
    /// how a bucket is claimed. The bytes must therefore differ between them (hold an id of the run).
    ///
    /// It rests on `If-None-Match: *`, which Ceph's gateway honours also among writes at the same moment. The object is looked at before and
    /// after as well: for an answer that was lost, and for a server that ignores the condition. Such a server could still tell two that both
    /// won, when the second has looked before the first writes, and writes after the first has looked again.
    ///
    /// # Errors
    /// As every call.
    pub async fn write_new(&self, bucket: &str, name: &str, bytes: &[u8]) -> Result<bool> {
        if let Some(there) = self.read(bucket, name).await? {
            return Ok(there == bytes);
        }
        let call = Call::new(Method::PUT, bucket).object(name).header("if-none-match", "*").body(bytes.to_vec());
        match self.send(&call).await {
            // Also the answer to a second attempt after one whose answer was lost, hence what is there decides.
            Err(error) if !matches!(error.status(), Some(409 | 412)) => Err(error),
            _ => Ok(self.read(bucket, name).await?.is_some_and(|there| there == bytes)),
        }
    }

    /// Deletes an object; that it is gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete(&self, bucket: &str, name: &str) -> Result<()> {
        match self.send(&Call::new(Method::DELETE, bucket).object(name)).await {
            Err(error) if !error.is("NoSuchKey") => Err(error),
            _ => Ok(()),
        }
    }
}
