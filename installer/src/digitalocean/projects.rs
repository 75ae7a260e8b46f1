//! Projects: folders of the control panel.

use serde::{Deserialize, Serialize};

use super::{Client, Result};

/// A project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Project {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where things go that nobody assigned.
    pub is_default: bool,
}

/// What became of one resource that was to be assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Assigned {
    /// `do:space:NAME`.
    pub urn: String,
    /// `ok`, `assigned`, `already_assigned`, `not_found`, `service_down`.
    pub status: String,
}

impl Client {
    /// `GET /v2/projects`, all pages. Scope `project:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        self.pages("/v2/projects", "", "projects").await
    }

    /// `POST /v2/projects/{id}/resources`: may be sent twice. Every status must be looked at: the call succeeds even if nothing was assigned.
    ///
    /// # Errors
    /// As every call.
    pub async fn assign(&self, project: &str, urns: &[String]) -> Result<Vec<Assigned>> {
        #[derive(Serialize)]
        struct Body<'a> {
            resources: &'a [String],
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            resources: Vec<Assigned>,
        }
        let answer: Answer = self.post_again(&format!("/v2/projects/{project}/resources"), &Body { resources: urns }).await?;
        Ok(answer.resources)
    }
}
