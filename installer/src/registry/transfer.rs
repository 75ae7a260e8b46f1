//! Blobs and manifests, there and back. What comes is compared with what was asked for, by its digest.

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::Method;
use reqwest::header::LOCATION;

use super::error::{Error, Result, strange};
use super::image::{Image, MANIFEST};
use super::{Asked, Registry, succeeded};

/// What registries take for a manifest at most.
const LARGEST_MANIFEST: usize = 4 << 20;
/// Manifests that may come when one is asked for.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// `sha256:…` of what is there.
#[must_use]
pub fn digest_of(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Registry {
    /// An image under a tag: its blobs first, its manifest last.
    ///
    /// # Errors
    /// At the first step that fails.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<()> {
        for blob in image.blobs() {
            self.put_blob(repository, blob).await?;
        }
        self.put_manifest(repository, tag, &image.manifest).await
    }

    /// Uploads a blob in one piece, unless it is there.
    ///
    /// # Errors
    /// [`Error::Refused`] when the login may not, and when the bucket does not take it.
    pub async fn put_blob(&self, repository: &str, blob: &[u8]) -> Result<()> {
        let digest = digest_of(blob);
        if self.has_blob(repository, &digest).await? {
            return Ok(());
        }
        let begin = Asked { method: Method::POST, url: self.url(&format!("{repository}/blobs/uploads/")), headers: &[], body: Some(&[]) };
        let (headers, _) = succeeded(&begin.to_string(), self.send(&begin).await?, super::SMALL).await?;
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| strange(&begin.to_string(), "it does not say where to upload (Location)"))?;
        let mut url = self.at_home("Location", location)?;
        url.query_pairs_mut().append_pair("digest", &digest);
        let put = Asked { method: Method::PUT, url, headers: &[("content-type", "application/octet-stream")], body: Some(blob) };
        succeeded(&put.to_string(), self.send(&put).await?, super::SMALL).await?;
        Ok(())
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// Of anything but yes and no.
    pub async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool> {
        let asked = Asked { method: Method::HEAD, url: self.url(&format!("{repository}/blobs/{digest}")), headers: &[], body: None };
        let answer = self.send(&asked).await?;
        if answer.status().is_redirection() {
            return Ok(true);
        }
        match succeeded(&asked.to_string(), answer, 0).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A manifest under a tag.
    ///
    /// # Errors
    /// When it is refused, or filed under another digest.
    pub async fn put_manifest(&self, repository: &str, tag: &str, manifest: &[u8]) -> Result<()> {
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        let put = Asked { method: Method::PUT, url, headers: &[("content-type", MANIFEST)], body: Some(manifest) };
        let (headers, _) = succeeded(&put.to_string(), self.send(&put).await?, super::SMALL).await?;
        match headers.get("docker-content-digest").and_then(|value| value.to_str().ok()) {
            Some(found) if found != digest_of(manifest) => {
                Err(Error::Digest { what: put.to_string(), found: found.to_owned(), wanted: digest_of(manifest) })
            }
            _ => Ok(()),
        }
    }

    /// The manifest under a tag or digest.
    ///
    /// # Errors
    /// When it is not there, and when it has not the digest by which it was asked for.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Vec<u8>> {
        let url = self.url(&format!("{repository}/manifests/{reference}"));
        let asked = Asked { method: Method::GET, url, headers: &[("accept", ACCEPTED)], body: None };
        let (_, body) = succeeded(&asked.to_string(), self.send(&asked).await?, LARGEST_MANIFEST).await?;
        if reference.starts_with("sha256:") { verified(&asked.to_string(), reference, body) } else { Ok(body) }
    }

    /// A blob of at most so many bytes: from the registry, or from the bucket that it names.
    ///
    /// # Errors
    /// When it is not there, is longer, or is not what its digest says.
    pub async fn blob(&self, repository: &str, digest: &str, largest: usize) -> Result<Vec<u8>> {
        let asked = Asked { method: Method::GET, url: self.url(&format!("{repository}/blobs/{digest}")), headers: &[], body: None };
        let what = asked.to_string();
        let mut answer = self.send(&asked).await?;
        if answer.status().is_redirection() {
            answer = self.elsewhere(&what, &answer.headers().clone()).await?;
        }
        verified(&what, digest, succeeded(&what, answer, largest).await?.1)
    }
}

fn verified(what: &str, wanted: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    let found = digest_of(&body);
    if found == wanted { Ok(body) } else { Err(Error::Digest { what: what.to_owned(), found, wanted: wanted.to_owned() }) }
}
