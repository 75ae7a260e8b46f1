//! What is said about databases. No secret shows in `Debug`.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

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

/// The settings of a Valkey or Redis that matter to us. Those that are `None` are not told, or not to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheConfig {
    /// Whether clients must speak TLS.
    pub ssl: Option<bool>,
    /// Seconds after which a silent client is disconnected; 0 for never.
    pub timeout: Option<u32>,
    /// How many numbered databases there are; changing it restarts the server.
    pub databases: Option<u32>,
}
