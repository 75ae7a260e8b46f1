//! Tags: how we know what is ours.

use serde::Serialize;

use super::client::encoded;
use super::{Client, Result};

impl Client {
    /// `POST /v2/tags`: makes the tag; that it exists is no error. Scope `tag:create`.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_tag(&self, name: &str) -> Result<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
        }
        match self.post_again::<_, serde::de::IgnoredAny>("/v2/tags", &Body { name }).await {
            Err(error) if !error.is_name_taken() => Err(error),
            _ => Ok(()),
        }
    }

    /// `POST /v2/tags/{tag}/resources`: tags a database; the tag must exist.
    ///
    /// # Errors
    /// As every call.
    pub async fn tag_database(&self, tag: &str, id: &str) -> Result<()> {
        #[derive(Serialize)]
        struct Resource<'a> {
            resource_id: &'a str,
            resource_type: &'static str,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            resources: [Resource<'a>; 1],
        }
        let body = Body { resources: [Resource { resource_id: id, resource_type: "database" }] };
        self.post_empty(&format!("/v2/tags/{}/resources", encoded(tag)), &body).await
    }
}
