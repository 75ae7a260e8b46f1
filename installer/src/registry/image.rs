//! A small image that is like no other: a configuration and one layer with a file of random bytes. Any client can pull it; there is nothing in it
//! to run.

use anyhow::{Result, anyhow};
use serde_json::json;

pub use super::transfer::digest_of;

/// The type of its manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Of random bytes: more than one TCP segment, so that an upload is one.
const CONTENT: usize = 64 << 10;
/// A tar is made of blocks.
const BLOCK: usize = 512;

/// What is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// JSON.
    pub config: Vec<u8>,
    /// An uncompressed tar.
    pub layer: Vec<u8>,
    /// JSON.
    pub manifest: Vec<u8>,
}

impl Image {
    /// One that nobody has made before.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut content = vec![0; CONTENT];
        aws_lc_rs::rand::fill(&mut content).map_err(|_| anyhow!("the system gives no random bytes"))?;
        Ok(Self::of(&content))
    }

    fn of(content: &[u8]) -> Self {
        let layer = tar("smoke", content);
        // A layer that is not compressed is known by one digest inside and outside.
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer)] },
            "history": [{ "created_by": "doks-harbor smoke" }],
        });
        let config = config.to_string().into_bytes();
        let describe = |kind: &str, blob: &[u8]| json!({ "mediaType": kind, "digest": digest_of(blob), "size": blob.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(CONFIG, &config),
            "layers": [describe(LAYER, &layer)],
        });
        Self { config, layer, manifest: manifest.to_string().into_bytes() }
    }

    /// What the manifest names.
    pub fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        [self.config.as_slice(), &self.layer].into_iter()
    }

    /// How it is called without a tag.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(&self.manifest)
    }
}

/// A tar (ustar) with one file in it.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; BLOCK];
    let mut field = |at: usize, text: &str| {
        if let Some(place) = header.get_mut(at..at + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    };
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    // The sum of all bytes, as if its own place held spaces.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = header.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    // Two empty blocks are the end.
    [header.as_slice(), content, &vec![0; padding], &[0; 2 * BLOCK]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_a_tar() {
        let content: Vec<u8> = (0..1000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("layer.tar"), Image::of(&content).layer).unwrap();
        let done = std::process::Command::new("tar").args(["-xvf", "layer.tar"]).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        assert_eq!(std::fs::read(folder.path().join("smoke")).unwrap(), content);
    }

    #[test]
    fn no_two_are_alike() {
        let (one, other) = (Image::random().unwrap(), Image::random().unwrap());
        assert_ne!(one.digest(), other.digest());
        assert_eq!(one.blobs().count(), 2);
        assert!(one.layer.len().is_multiple_of(BLOCK) && one.layer.len() > CONTENT);
    }
}
