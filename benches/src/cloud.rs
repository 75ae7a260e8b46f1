//! All that the installer talks to, on loopback: the fake API, and an S3 stand-in that learns of its keys.

use std::sync::Arc;

use anyhow::Result;

use crate::{digitalocean, s3};

/// Both, wired together; gone when dropped.
pub struct Cloud {
    /// The API.
    pub api: digitalocean::Fake,
    /// Spaces.
    pub s3: Arc<s3::Fake>,
}

impl Cloud {
    /// An account with one DOKS cluster whose databases are online at once.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        Self::with(digitalocean::Fake::builder()).await
    }

    /// An account of this kind.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn with(builder: digitalocean::Builder) -> Result<Self> {
        let s3 = Arc::new(s3::Fake::start().await?);
        let (made, gone) = (Arc::clone(&s3), Arc::clone(&s3));
        let api = builder
            .on_key(move |access, secret, grants| made.add_key(access, secret, grant(grants)))
            .on_key_deleted(move |access| {
                gone.remove_key(access);
            })
            .start()?;
        Ok(Self { api, s3 })
    }

    /// Arguments that make the installer use it.
    #[must_use]
    pub fn arguments(&self) -> [String; 4] {
        ["--api-url".to_owned(), self.api.url(), "--spaces-endpoint".to_owned(), self.s3.endpoint()]
    }
}

/// The first grant counts: no key of ours has two.
fn grant(grants: &[(String, String)]) -> s3::Grant {
    match grants.first() {
        Some((bucket, permission)) if permission == "readwrite" => s3::Grant::ReadWrite(bucket.clone()),
        Some((bucket, permission)) if permission == "read" => s3::Grant::Read(bucket.clone()),
        _ => s3::Grant::Full,
    }
}
