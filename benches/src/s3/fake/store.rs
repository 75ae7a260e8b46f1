//! What the stand-in holds.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Bucket as BucketSnapshot, Faults, Grant, Snapshot};

#[derive(Default)]
pub(super) struct Store {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) faults: Faults,
    pub(super) requests: Vec<String>,
    /// The request after which nothing is said, and whom to tell.
    pub(super) hold: Option<(usize, tokio::sync::watch::Sender<bool>)>,
    /// Of versions and uploads.
    pub(super) ids: u64,
}

pub(super) struct Key {
    pub(super) owner: String,
    pub(super) secret: String,
    pub(super) grant: Grant,
    pub(super) unknown_for: u32,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) owner: String,
    pub(super) unseen_for: u32,
    pub(super) versioned: bool,
    /// By name, the newest last.
    pub(super) objects: BTreeMap<String, Vec<Version>>,
    /// By id: the object's name.
    pub(super) uploads: BTreeMap<String, String>,
    pub(super) lifecycle: Option<String>,
}

/// Without a body it marks a deletion.
pub(super) struct Version {
    pub(super) id: String,
    pub(super) body: Option<Bytes>,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, body: body.into() }
    }

    /// As the gateway's: the message is empty.
    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::new(
            status,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message></Message><RequestId>tx00000fake</RequestId><HostId>fake</HostId></Error>"
            ),
        )
    }

    pub(super) fn xml(root: &str, content: &str) -> Self {
        Self::new(
            200,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</{root}>"
            ),
        )
    }
}

impl Bucket {
    pub(super) fn current(&self, name: &str) -> Option<&Bytes> {
        self.objects.get(name)?.last()?.body.as_ref()
    }

    /// A new current version; without versioning it is the only one.
    pub(super) fn push(&mut self, name: &str, id: String, body: Option<Bytes>) {
        let versions = self.objects.entry(name.to_owned()).or_default();
        if !self.versioned {
            versions.retain(|version| version.id != "null");
        }
        if self.versioned || body.is_some() {
            versions.push(Version { id, body });
        }
        self.forget_if_empty(name);
    }

    /// Of one version, or of the object when none is named.
    pub(super) fn delete(&mut self, name: &str, version: Option<&str>, id: String) {
        match version {
            None if self.objects.contains_key(name) => self.push(name, id, None),
            None => {}
            Some(version) => {
                self.objects.entry(name.to_owned()).or_default().retain(|one| one.id != version);
                self.forget_if_empty(name);
            }
        }
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self.objects.get(name).is_some_and(Vec::is_empty) {
            self.objects.remove(name);
        }
    }
}

impl Store {
    /// An id for a version in this bucket.
    pub(super) fn id(&mut self, bucket: &str) -> String {
        self.ids += 1;
        let versioned = self.buckets.get(bucket).is_some_and(|bucket| bucket.versioned);
        if versioned { format!("v{}", self.ids) } else { "null".to_owned() }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let keys = self.keys.iter().map(|(access, key)| (access.clone(), (key.owner.clone(), key.grant.clone()))).collect();
        let current = |bucket: &Bucket| {
            let objects = bucket.objects.keys().filter_map(|name| Some((name.clone(), bucket.current(name)?.to_vec())));
            objects.collect()
        };
        let buckets = self.buckets.iter().map(|(name, bucket)| {
            let snapshot = BucketSnapshot {
                owner: bucket.owner.clone(),
                objects: current(bucket),
                versions: bucket.objects.values().map(Vec::len).sum(),
                uploads: bucket.uploads.len(),
                lifecycle: bucket.lifecycle.clone(),
            };
            (name.clone(), snapshot)
        });
        Snapshot { keys, buckets: buckets.collect() }
    }
}
