//! Projects, and the repositories and artifacts in them.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::error::Result;
use super::{Harbor, id_in, part};

/// On one page: Harbor's own limit.
const PAGE: usize = 100;
/// More than a smoke test ever makes; a listing ends here.
const PAGES: usize = 10;

/// A project.
#[derive(Clone, Debug, Deserialize)]
pub struct Project {
    /// Its number.
    #[serde(rename = "project_id")]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// RFC 3339, by Harbor's clock.
    #[serde(default)]
    pub creation_time: Option<String>,
}

/// A manifest in a repository.
#[derive(Clone, Debug, Deserialize)]
pub struct Artifact {
    /// `sha256:…`.
    pub digest: String,
    /// Where it has any.
    #[serde(default)]
    pub tags: Option<Vec<Tag>>,
}

/// A tag.
#[derive(Clone, Debug, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
struct Repository {
    /// `project/repository`.
    name: String,
}

impl Harbor {
    /// A private project without a quota of its own.
    ///
    /// # Errors
    /// 409 when the name is taken, 403 when creating projects is reserved to administrators.
    pub async fn create_project(&self, name: &str) -> Result<i64> {
        let body = json!({ "project_name": name, "metadata": { "public": "false" }, "storage_limit": -1 });
        let answer = self.change(Method::POST, "/projects", Some(body)).await?;
        id_in(&answer, &Method::POST, "/projects")
    }

    /// Projects whose name has this in it; a thousand at most.
    ///
    /// # Errors
    /// As any call.
    pub async fn projects_like(&self, name: &str) -> Result<Vec<Project>> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let query = [("name", name), ("page", &page.to_string()), ("page_size", &PAGE.to_string())];
            // `null` where there is none.
            let found: Vec<Project> = self.get::<Option<Vec<Project>>>("/projects", &query).await?.unwrap_or_default();
            let last = found.len() < PAGE;
            all.extend(found);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// The project of this name, if it is there.
    ///
    /// # Errors
    /// As any call.
    pub async fn project(&self, name: &str) -> Result<Option<Project>> {
        Ok(self.projects_like(name).await?.into_iter().find(|project| project.name == name))
    }

    /// Deletes it. That it is gone already is no error.
    ///
    /// # Errors
    /// 412 when something is in it.
    pub async fn delete_project(&self, id: i64) -> Result<()> {
        self.delete(&format!("/projects/{id}")).await
    }

    /// Names of repositories, without the project's; a hundred at most.
    ///
    /// # Errors
    /// As any call.
    pub async fn repositories(&self, project: &str) -> Result<Vec<String>> {
        let path = format!("/projects/{}/repositories", part(project));
        let found = self.get::<Option<Vec<Repository>>>(&path, &[("page_size", "100")]).await?.unwrap_or_default();
        let prefix = format!("{project}/");
        Ok(found.into_iter().filter_map(|repository| repository.name.strip_prefix(&prefix).map(str::to_owned)).collect())
    }

    /// Deletes it with all its artifacts. That it is gone already is no error.
    ///
    /// # Errors
    /// 412 where a rule keeps it (immutable tags).
    pub async fn delete_repository(&self, project: &str, repository: &str) -> Result<()> {
        // Twice: a slash in the name is no part of the path, and Harbor decodes twice.
        self.delete(&format!("/projects/{}/repositories/{}", part(project), part(&part(repository)))).await
    }

    /// What is in a repository; a hundred at most.
    ///
    /// # Errors
    /// 404 when there is no such repository.
    pub async fn artifacts(&self, project: &str, repository: &str) -> Result<Vec<Artifact>> {
        let path = format!("/projects/{}/repositories/{}/artifacts", part(project), part(&part(repository)));
        let query = [("page_size", "100"), ("with_tag", "true")];
        Ok(self.get::<Option<Vec<Artifact>>>(&path, &query).await?.unwrap_or_default())
    }

    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        match self.change(Method::DELETE, path, None).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}
