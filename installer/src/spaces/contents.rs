//! What is in a bucket, and the end of it.

use reqwest::Method;
use rusty_s3::actions::ObjectIdentifier;
use rusty_s3::{Bucket, UrlStyle};

use super::call::Call;
use super::xml::{Element, can_carry};
use super::{Error, Result, Spaces, call};

/// Of a thousand names each; more is told as "more than".
const PAGES: u32 = 20;
/// A page that has not changed after it was deleted this often never will.
const PATIENCE: u32 = 5;

/// How much is in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Objects counted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// There is more than was counted.
    pub more: bool,
}

/// What emptying has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Objects, versions of objects, and marks of deleted ones.
    pub objects: u64,
    /// Unfinished uploads.
    pub uploads: u64,
}

/// A page to be deleted, as the server names what is in it: an object and its version, or an unfinished upload and its id.
type Page = Vec<(String, String)>;

impl Spaces {
    /// Counts what is in a bucket, up to 20,000 objects.
    ///
    /// # Errors
    /// As every call.
    pub async fn contents(&self, bucket: &str) -> Result<Contents> {
        let (mut seen, mut last) = (Contents::default(), String::new());
        for _ in 0..PAGES {
            // Where the last page ended rather than its token, which servers encode each in their own way.
            let call = listing(bucket, "list-type", "2").query("start-after", &last);
            let page = self.send(&call).await?.xml(&call)?;
            for object in page.all("Contents") {
                last = name(&page, object, &call)?;
                seen.objects += 1;
                seen.bytes += object.text_of("Size").and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
            }
            seen.more = page.is_true("IsTruncated");
            if !seen.more {
                break;
            }
        }
        Ok(seen)
    }

    /// Deletes all objects in all versions, and all unfinished uploads. `progress` is told after each page.
    ///
    /// # Errors
    /// [`Error::Undeleted`] when the server keeps something, and as every call. What was deleted until then stays deleted.
    pub async fn empty(&self, bucket: &str, mut progress: impl FnMut(Emptied)) -> Result<Emptied> {
        let mut done = Emptied::default();
        // Each look is at the first page: the one before it is gone.
        let (mut before, mut tries) = (Page::new(), 0);
        loop {
            let objects = self.page(bucket, "versions", &["Version", "DeleteMarker"], "VersionId").await?;
            let uploads = self.page(bucket, "uploads", &["Upload"], "UploadId").await?;
            let now = objects.iter().chain(&uploads).cloned().collect();
            tries = if before == now { tries + 1 } else { 0 };
            if let Some((first, _)) = before.first().filter(|_| tries > PATIENCE) {
                let (first, code) = (first.clone(), "still there".to_owned());
                return Err(Error::Undeleted { bucket: bucket.to_owned(), objects: before.len(), first, code });
            }
            if objects.is_empty() && uploads.is_empty() {
                return Ok(done);
            }
            if tries > 0 {
                tokio::time::sleep(call::jittered(super::POLL)).await;
            }
            self.delete_page(bucket, &objects).await?;
            for (object, upload) in &uploads {
                let call = Call::new(Method::DELETE, bucket).object(object).query("uploadId", upload);
                self.gone(&call).await?;
            }
            if tries == 0 {
                done.objects += count(&objects);
                done.uploads += count(&uploads);
            }
            progress(done);
            before = now;
        }
    }

    async fn page(&self, bucket: &str, what: &'static str, kinds: &[&str], id: &str) -> Result<Page> {
        let call = listing(bucket, what, "");
        let page = self.send(&call).await?.xml(&call)?;
        let items = page.children.iter().filter(|item| kinds.contains(&item.name.as_str()));
        items.map(|item| Ok((name(&page, item, &call)?, item.text_of(id).unwrap_or_default().to_owned()))).collect()
    }

    async fn delete_page(&self, bucket: &str, page: &Page) -> Result<()> {
        let (in_xml, alone): (Vec<_>, Vec<_>) = page.iter().partition(|(object, _)| can_carry(object));
        for (object, version) in alone {
            self.gone(&Call::new(Method::DELETE, bucket).object(object).query("versionId", version)).await?;
        }
        if in_xml.is_empty() {
            return Ok(());
        }
        let versions = in_xml.into_iter().map(|(object, version)| ObjectIdentifier {
            key: object.clone(),
            version_id: Some(version.clone()).filter(|version| !version.is_empty()),
        });
        let (body, sum) = self.deletion(bucket, &versions.collect::<Vec<_>>())?;
        let call = Call::new(Method::POST, bucket).header("content-md5", sum).body(body.into_bytes());
        let answer = self.send(&call).await?.xml(&call)?;
        // 200 says that the list was read, not that its objects are gone.
        let mut errors = answer.all("Error").filter(|error| !matches!(error.text_of("Code"), Some("NoSuchKey" | "NoSuchVersion")));
        let Some(error) = errors.next() else { return Ok(()) };
        Err(Error::Undeleted {
            bucket: bucket.to_owned(),
            objects: 1 + errors.count(),
            first: error.text_of("Key").unwrap_or_default().to_owned(),
            code: error.text_of("Code").unwrap_or_default().to_owned(),
        })
    }

    /// The body of a list to delete, and its checksum.
    fn deletion(&self, bucket: &str, objects: &[ObjectIdentifier]) -> Result<(String, String)> {
        let endpoint = self.endpoint.clone();
        let named = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), "")
            .map_err(|_| Error::Endpoint { endpoint: self.endpoint.to_string() })?;
        let mut action = named.delete_objects(None, objects.iter());
        action.set_quiet(true);
        Ok(action.body_with_md5())
    }

    async fn gone(&self, call: &Call<'_>) -> Result<()> {
        match self.send(call).await {
            Err(error) if error.status() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }
}

fn listing<'a>(bucket: &'a str, what: &'static str, value: &str) -> Call<'a> {
    // Names may hold what XML cannot.
    Call::new(Method::GET, bucket).query(what, value).query("encoding-type", "url")
}

/// The name of something in a page, decoded if the server has encoded it: it was asked to, and may not have understood.
fn name(page: &Element, item: &Element, call: &Call<'_>) -> Result<String> {
    let name = item.text_of("Key").ok_or_else(|| Error::malformed(call, "something in it has no name"))?;
    // Ceph's list of uploads has encoded names and does not say so.
    if page.text_of("EncodingType") != Some("url") && page.name != "ListMultipartUploadsResult" {
        return Ok(name.to_owned());
    }
    let name = percent_encoding::percent_decode_str(name).decode_utf8();
    name.map(Into::into).map_err(|_| Error::malformed(call, "a name in it is not UTF-8"))
}

fn count(page: &Page) -> u64 {
    u64::try_from(page.len()).unwrap_or(u64::MAX)
}
