//! Keys for Spaces. There is no API for buckets: they are made by the S3 protocol, with such a key.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Client, Result};

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Empty for all buckets.
    #[serde(default)]
    pub bucket: String,
    /// `read`, `readwrite` or `fullaccess`.
    #[serde(default)]
    pub permission: String,
}

impl Grant {
    /// Everything, on every bucket: what making a bucket needs.
    #[must_use]
    pub fn full() -> Self {
        Self { bucket: String::new(), permission: "fullaccess".to_owned() }
    }

    /// Objects of one bucket.
    #[must_use]
    pub fn on(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), permission: "readwrite".to_owned() }
    }
}

/// A key to make.
#[derive(Clone, Debug, Serialize)]
pub struct NewSpacesKey {
    /// For people; not unique.
    pub name: String,
    /// What it may do; cannot be changed later.
    pub grants: Vec<Grant>,
}

/// A key.
#[derive(Clone, Debug, Deserialize)]
pub struct SpacesKey {
    /// For people; not unique.
    #[serde(default)]
    pub name: String,
    /// Its public half.
    pub access_key: String,
    /// Told in the answer to its creation and never again.
    #[serde(default)]
    pub secret_key: Option<SecretString>,
    /// What it may do.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
}

impl Client {
    /// `GET /v2/spaces/keys?name=`: the keys of this name, all pages. Scope `spaces_key:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn spaces_keys(&self, name: &str) -> Result<Vec<SpacesKey>> {
        let found: Vec<SpacesKey> = self.list(&format!("/v2/spaces/keys?name={name}"), "keys").await?;
        Ok(found.into_iter().filter(|key| key.name == name).collect())
    }

    /// `GET /v2/spaces/keys`: all of the account (200 at most), all pages. Scope `spaces_key:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn all_spaces_keys(&self) -> Result<Vec<SpacesKey>> {
        self.list("/v2/spaces/keys", "keys").await
    }

    /// `POST /v2/spaces/keys`. Names are not unique, so a lost answer leaves a key whose secret nobody knows: it is found by what was not there
    /// before, and deleted. Scope `spaces_key:create_credentials`.
    ///
    /// # Errors
    /// As every call; [`super::Error::is_lost`] never.
    pub async fn create_spaces_key(&self, new: &NewSpacesKey) -> Result<SpacesKey> {
        #[derive(Deserialize)]
        struct Answer {
            key: SpacesKey,
        }
        Ok(self.post::<_, Answer>("/v2/spaces/keys", new).await?.key)
    }

    /// `DELETE /v2/spaces/keys/{access_key}`; that it is gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_spaces_key(&self, access_key: &str) -> Result<()> {
        self.delete(&format!("/v2/spaces/keys/{access_key}")).await
    }
}
