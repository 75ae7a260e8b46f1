//! Managed databases: PostgreSQL, Valkey, and Redis of before.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Client, Error, Result};

/// What kind of server. `redis` cannot be created any more (since 2025-04-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL.
    Pg,
    /// What became of Redis.
    Valkey,
    /// Of before.
    Redis,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

impl Engine {
    /// As the API writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pg => "pg",
            Self::Valkey => "valkey",
            Self::Redis => "redis",
            Self::Other => "other",
        }
    }
}

/// What a database cluster is doing. There is no word for failure: one that stays in `creating` is only late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseStatus {
    /// Being made.
    Creating,
    /// Ready.
    Online,
    /// It serves, and will be larger.
    Resizing,
    /// It serves, and moves.
    Migrating,
    /// Being copied from another.
    Forking,
    /// A word of after this program: something in between.
    #[default]
    #[serde(other)]
    Other,
}

/// A managed database cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DatabaseCluster {
    /// UUID.
    pub id: String,
    /// Unique in the account, also while it is being destroyed.
    pub name: String,
    /// What kind.
    pub engine: Engine,
    /// Major version.
    pub version: Option<String>,
    /// 1 to 3.
    pub num_nodes: u8,
    /// Slug.
    pub size: String,
    /// Slug.
    pub region: String,
    /// What it is doing.
    pub status: DatabaseStatus,
    /// Its network.
    pub private_network_uuid: Option<String>,
    /// What it is marked with.
    pub tags: Option<Vec<String>>,
    /// For clients outside; its password only with the scope `database:view_credentials`.
    pub connection: Option<Connection>,
    /// For clients in its network.
    pub private_connection: Option<Connection>,
    /// When it may be updated.
    pub maintenance_window: Option<MaintenanceWindow>,
    /// RFC 3339: when its version gets no fixes any more.
    pub version_end_of_life: Option<String>,
    /// Its users.
    pub users: Option<Vec<DatabaseUser>>,
    /// Names of its databases.
    pub db_names: Option<Vec<String>>,
}

/// How a client reaches a database.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// A name.
    pub host: String,
    /// Never the protocol's own.
    pub port: u16,
    /// The administrator.
    pub user: Option<String>,
    /// Theirs; without the scope `database:view_credentials` missing or empty.
    pub password: Option<SecretString>,
    /// Always, unless somebody turned it off.
    pub ssl: bool,
}

/// When it may be updated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// `tuesday`.
    pub day: String,
    /// `14:00`; the API answers with `14:00:00`.
    pub hour: String,
}

impl MaintenanceWindow {
    /// Whether both mean the same hour.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let minutes = |hour: &str| hour.get(..5).unwrap_or(hour).to_owned();
        self.day == other.day && minutes(&self.hour) == minutes(&other.hour)
    }
}

/// A login.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DatabaseUser {
    /// Who.
    pub name: String,
    /// `primary` or `normal`.
    pub role: Option<String>,
    /// Can be read again at any time, with the scope `database:view_credentials`.
    pub password: Option<SecretString>,
}

/// A database of PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Database {
    /// Its name.
    pub name: String,
}

/// Who may connect. An empty list means: everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// Its identity; a rule sent without is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// `droplet`, `k8s`, `ip_addr`, `tag`, `app`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id, address or name.
    pub value: String,
    /// Somebody's words; lost if not sent back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl FirewallRule {
    /// A DOKS cluster's nodes.
    #[must_use]
    pub fn cluster(id: &str) -> Self {
        Self { uuid: None, kind: "k8s".to_owned(), value: id.to_owned(), description: Some("Harbor, by doks-harbor".to_owned()) }
    }
}

/// A cluster to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewDatabase {
    /// Its identity.
    pub name: String,
    /// What kind.
    pub engine: Engine,
    /// Major version.
    pub version: String,
    /// 1 to 3.
    pub num_nodes: u8,
    /// Slug.
    pub size: String,
    /// Slug.
    pub region: String,
    /// The cluster's network; without, the default one of the region.
    pub private_network_uuid: String,
    /// Where the control panel shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Whose it is.
    pub tags: Vec<String>,
    /// So that it is never open.
    pub rules: Vec<FirewallRule>,
}

/// What can be made, for each engine, by the API's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Options {
    /// By engine: `pg`, `valkey`.
    pub options: BTreeMap<String, EngineOptions>,
    /// By engine: how long each version lives.
    pub version_availability: BTreeMap<String, Vec<Availability>>,
}

/// What can be made of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EngineOptions {
    /// Slugs.
    pub regions: Vec<String>,
    /// Major versions.
    pub versions: Vec<String>,
    /// What a create without a version makes.
    pub default_version: Option<String>,
    /// Sizes, by number of nodes.
    pub layouts: Vec<Layout>,
}

/// Sizes that there are with so many nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Layout {
    /// 1 to 3.
    pub num_nodes: u8,
    /// Slugs.
    pub sizes: Vec<String>,
}

/// How long a version lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Availability {
    /// Major version.
    pub version: String,
    /// RFC 3339: no fixes after it.
    pub end_of_life: Option<String>,
    /// RFC 3339: cannot be created after it.
    pub end_of_availability: Option<String>,
}

impl Client {
    /// `GET /v2/databases/options`. Scope `database:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn database_options(&self) -> Result<Options> {
        self.get("/v2/databases/options").await
    }

    /// `GET /v2/databases`: all of the account. Scope `database:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn databases(&self) -> Result<Vec<DatabaseCluster>> {
        self.list("/v2/databases", "databases").await
    }

    /// `GET /v2/databases/{id}`; `None` where there is none, which can be so for minutes after it was made.
    ///
    /// # Errors
    /// As every call.
    pub async fn database(&self, id: &str) -> Result<Option<DatabaseCluster>> {
        #[derive(Deserialize)]
        struct Answer {
            database: DatabaseCluster,
        }
        found(self.get::<Answer>(&format!("/v2/databases/{id}")).await).map(|answer| answer.map(|answer| answer.database))
    }

    /// `POST /v2/databases`. A name exists once in an account: after a lost answer, and after "name is not available", the cluster of that
    /// name and engine is looked for and given back. Scope `database:create`.
    ///
    /// # Errors
    /// As every call; [`Error::is_name_taken`] when the name belongs to something that cannot be seen (it is being destroyed).
    pub async fn create_database(&self, new: &NewDatabase) -> Result<DatabaseCluster> {
        #[derive(Deserialize)]
        struct Answer {
            database: DatabaseCluster,
        }
        Ok(self.post::<_, Answer>("/v2/databases", new).await?.database)
    }

    /// `DELETE /v2/databases/{id}`: at once in words; its name is free when [`Self::database`] finds it no more. Gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_database(&self, id: &str) -> Result<()> {
        self.delete(&format!("/v2/databases/{id}")).await
    }

    /// `GET /v2/databases/{id}/ca`: the authority of its certificate, PEM (the API wraps that in another base64).
    ///
    /// # Errors
    /// As every call; also when it is no text.
    pub async fn ca(&self, id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Ca {
            certificate: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            ca: Ca,
        }
        let call = format!("/v2/databases/{id}/ca");
        let answer: Answer = self.get(&call).await?;
        let pem = BASE64_STANDARD.decode(answer.ca.certificate.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        pem.ok_or_else(|| Error::malformed(format!("GET {call}"), "the certificate is no base64 of PEM".to_owned()))
    }

    /// `GET /v2/databases/{id}/users/{name}`.
    ///
    /// # Errors
    /// As every call.
    pub async fn database_user(&self, id: &str, name: &str) -> Result<Option<DatabaseUser>> {
        found(self.get::<UserAnswer>(&format!("/v2/databases/{id}/users/{name}")).await).map(|answer| answer.map(|answer| answer.user))
    }

    /// `POST /v2/databases/{id}/users`; a lost answer and "exists already" end in a look at it. One at a time for each cluster.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_database_user(&self, id: &str, name: &str) -> Result<DatabaseUser> {
        Ok(self.post::<_, UserAnswer>(&format!("/v2/databases/{id}/users"), &Named { name }).await?.user)
    }

    /// `POST /v2/databases/{id}/users/{name}/reset_auth`: a new password; the old one is worth nothing at once. Not on Valkey.
    ///
    /// # Errors
    /// As every call.
    pub async fn reset_database_user(&self, id: &str, name: &str) -> Result<DatabaseUser> {
        let answer: UserAnswer = self.post(&format!("/v2/databases/{id}/users/{name}/reset_auth"), &serde_json::json!({})).await?;
        Ok(answer.user)
    }

    /// `DELETE /v2/databases/{id}/users/{name}`; gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_database_user(&self, id: &str, name: &str) -> Result<()> {
        self.delete(&format!("/v2/databases/{id}/users/{name}")).await
    }

    /// `GET /v2/databases/{id}/dbs`.
    ///
    /// # Errors
    /// As every call.
    pub async fn dbs(&self, id: &str) -> Result<Vec<Database>> {
        self.list(&format!("/v2/databases/{id}/dbs"), "dbs").await
    }

    /// `POST /v2/databases/{id}/dbs`; a lost answer and "exists already" end in a look at it.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_db(&self, id: &str, name: &str) -> Result<()> {
        self.post::<_, serde::de::IgnoredAny>(&format!("/v2/databases/{id}/dbs"), &Named { name }).await?;
        Ok(())
    }

    /// `GET /v2/databases/{id}/firewall`. None means: open to everybody.
    ///
    /// # Errors
    /// As every call.
    pub async fn firewall(&self, id: &str) -> Result<Vec<FirewallRule>> {
        self.list(&format!("/v2/databases/{id}/firewall"), "rules").await
    }

    /// `PUT /v2/databases/{id}/firewall`: these rules and no others.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_firewall(&self, id: &str, rules: &[FirewallRule]) -> Result<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            rules: &'a [FirewallRule],
        }
        self.put(&format!("/v2/databases/{id}/firewall"), &Body { rules }).await
    }

    /// `GET /v2/databases/{id}/eviction_policy`: `noeviction`, `allkeys_lru` … Valkey and Redis only.
    ///
    /// # Errors
    /// As every call.
    pub async fn eviction_policy(&self, id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            eviction_policy: String,
        }
        Ok(self.get::<Answer>(&format!("/v2/databases/{id}/eviction_policy")).await?.eviction_policy)
    }

    /// `PUT /v2/databases/{id}/eviction_policy`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_eviction_policy(&self, id: &str, policy: &str) -> Result<()> {
        self.put(&format!("/v2/databases/{id}/eviction_policy"), &serde_json::json!({ "eviction_policy": policy })).await
    }

    /// `PUT /v2/databases/{id}/maintenance`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_maintenance(&self, id: &str, window: &MaintenanceWindow) -> Result<()> {
        self.put(&format!("/v2/databases/{id}/maintenance"), window).await
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct UserAnswer {
    user: DatabaseUser,
}

/// That it is not there is an answer, too.
fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
