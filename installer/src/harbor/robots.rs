//! Robot accounts: logins of programs, whose secret is told once.

use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Result, strange};
use super::{Harbor, Login};

/// On one page: Harbor's own limit.
const PAGE: usize = 100;
/// Ten thousand robots are enough to look through.
const PAGES: usize = 100;

/// What a robot may do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In one project, by the project's own account: `robot$project+name`.
    Project(String),
    /// In several, by an account of the system: `robot$name`.
    Projects(Vec<String>),
    /// In all there are and will be.
    Everywhere,
}

/// A robot account to be made.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Without prefix: lower-case letters, digits, `.`, `_`, `-`.
    pub name: &'a str,
    /// Shown in Harbor's pages.
    pub description: &'a str,
    /// Where.
    pub reach: &'a Reach,
    /// On repositories: `pull`, `push`.
    pub actions: &'a [&'a str],
    /// For ever, or so many days.
    pub days: Option<u32>,
}

/// One that is there.
#[derive(Clone, Debug, Deserialize)]
pub struct Robot {
    /// Its number.
    pub id: i64,
    /// The whole name, with prefix: what it logs in as.
    pub name: String,
    /// Switched off.
    #[serde(default)]
    pub disable: bool,
    /// Seconds since 1970; -1 for never.
    #[serde(default = "never")]
    pub expires_at: i64,
}

const fn never() -> i64 {
    -1
}

/// What is told once.
#[derive(Clone, Debug)]
pub struct NewRobot {
    /// Its number.
    pub id: i64,
    /// It logs in with this.
    pub login: Login,
}

#[derive(Deserialize)]
struct Created {
    id: i64,
    name: String,
    secret: SecretString,
}

impl Reach {
    /// The body's `permissions`, and its level.
    fn permissions(&self, actions: &[&str]) -> (&'static str, Value) {
        let access: Vec<_> = actions.iter().map(|action| json!({ "resource": "repository", "action": action })).collect();
        let of = |project: &str| json!({ "kind": "project", "namespace": project, "access": access });
        match self {
            Self::Project(project) => ("project", json!([of(project)])),
            Self::Projects(projects) => ("system", projects.iter().map(|project| of(project)).collect()),
            Self::Everywhere => ("system", json!([of("*")])),
        }
    }
}

impl Harbor {
    /// Makes an account. The secret is in the answer and nowhere else: keep it before anything else is done.
    ///
    /// # Errors
    /// 409 when the name is taken, 403 for logins that are not administrators (of the project).
    pub async fn create_robot(&self, wanted: &Wanted<'_>) -> Result<NewRobot> {
        let (level, permissions) = wanted.reach.permissions(wanted.actions);
        let body = json!({
            "name": wanted.name,
            "description": wanted.description,
            "level": level,
            "duration": wanted.days.map_or(-1, i64::from),
            "disable": false,
            "permissions": permissions,
        });
        let answer = self.change(Method::POST, "/robots", Some(body)).await?;
        // Without what serde says: it could cite the secret.
        let created: Created =
            serde_json::from_slice(&answer.body).map_err(|_| strange(&Method::POST, "/robots", "it has no id, name and secret"))?;
        Ok(NewRobot { id: created.id, login: Login { user: created.name, password: created.secret } })
    }

    /// The accounts of a project, or those of the system.
    ///
    /// # Errors
    /// As any call.
    pub async fn robots(&self, project: Option<i64>) -> Result<Vec<Robot>> {
        // Without a filter Harbor lists those of the system; with `Level=system` it lists the projects' among them.
        let filter = project.map(|id| format!("Level=project,ProjectID={id}"));
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let (page, size) = (page.to_string(), PAGE.to_string());
            let paging = [("page", page.as_str()), ("page_size", size.as_str())];
            let query: Vec<_> = filter.iter().map(|filter| ("q", filter.as_str())).chain(paging).collect();
            let found = self.get::<Option<Vec<Robot>>>("/robots", &query).await?.unwrap_or_default();
            let last = found.len() < PAGE;
            all.extend(found);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Deletes an account: its secret opens nothing from now on. That it is gone already is no error.
    ///
    /// # Errors
    /// As any call.
    pub async fn delete_robot(&self, id: i64) -> Result<()> {
        self.delete(&format!("/robots/{id}")).await
    }
}
