//! Keys for Spaces. There is no API for buckets: they are made by the S3 protocol, with such a key.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::client::encoded;
use super::{Client, Error, Result, make};

/// Creates whose answer is lost, before that is an error.
const TRIES: u32 = 3;
const CREATE: &str = "POST /v2/spaces/keys";

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
        let found: Vec<SpacesKey> = self.pages("/v2/spaces/keys", &format!("name={}", encoded(name)), "keys").await?;
        Ok(found.into_iter().filter(|key| key.name == name).collect())
    }

    /// `GET /v2/spaces/keys`: all of the account (200 at most), all pages. Scope `spaces_key:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn all_spaces_keys(&self) -> Result<Vec<SpacesKey>> {
        self.pages("/v2/spaces/keys", "", "keys").await
    }

    /// `POST /v2/spaces/keys`. Names are not unique, so a lost answer leaves a key whose secret nobody knows: it is found by what was not there
    /// before, and deleted. Scope `spaces_key:create_credentials`.
    ///
    /// # Errors
    /// As every call; [`Error::is_lost`] only when not even that look was possible, so that such a key may be left.
    pub async fn create_spaces_key(&self, new: &NewSpacesKey) -> Result<SpacesKey> {
        let before: BTreeSet<String> = self.spaces_keys(&new.name).await?.into_iter().map(|key| key.access_key).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.post_spaces_key(new).await {
                Err(error) if make::is_unsure(&error) => error,
                sure => return sure,
            };
            self.pause(tries).await;
            if let Err(why) = self.delete_new_keys(new, &before).await {
                let (call, why) = (CREATE.to_owned(), format!("{error}; what it may have made was not found again: {why}"));
                return Err(Error::Lost { call, why });
            }
            if tries >= TRIES {
                let why = format!("no answer that can be used, {TRIES} times, the last: {error}; what that made was deleted again");
                return Err(Error::Unreachable { call: CREATE.to_owned(), why });
            }
        }
    }

    async fn post_spaces_key(&self, new: &NewSpacesKey) -> Result<SpacesKey> {
        #[derive(Deserialize)]
        struct Answer {
            key: SpacesKey,
        }
        let key = self.post::<_, Answer>("/v2/spaces/keys", new).await?.key;
        match key.secret_key {
            Some(_) => Ok(key),
            None => Err(Error::malformed(CREATE.to_owned(), "it has no secret_key".to_owned())),
        }
    }

    /// Those of this name and these grants that were not there before.
    async fn delete_new_keys(&self, new: &NewSpacesKey, before: &BTreeSet<String>) -> Result<()> {
        for key in self.spaces_keys(&new.name).await? {
            if !before.contains(&key.access_key) && key.grants == new.grants {
                self.delete_spaces_key(&key.access_key).await?;
            }
        }
        Ok(())
    }

    /// `DELETE /v2/spaces/keys/{access_key}`; that it is gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_spaces_key(&self, access_key: &str) -> Result<()> {
        self.delete(&format!("/v2/spaces/keys/{}", encoded(access_key))).await
    }
}
