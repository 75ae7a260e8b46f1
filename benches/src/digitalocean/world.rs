//! What there is in the account. Every field is open to tests: [`super::Fake::world`] is the control panel.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

mod database;

pub use database::{Database, Phase, Rule, User};

/// The account and all that is in it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// `active`, `warning` or `locked`.
    pub account_status: String,
    /// Where there are data centres.
    pub regions: Vec<Region>,
    /// Networks.
    pub vpcs: Vec<Vpc>,
    /// DOKS clusters.
    pub clusters: Vec<Cluster>,
    /// Folders of the control panel.
    pub projects: Vec<Project>,
    /// The body of `GET /v2/databases/options`.
    pub options: Value,
    /// Managed databases, also those that are being destroyed.
    pub databases: Vec<Database>,
    /// How many there may be.
    pub database_limit: usize,
    /// Tags.
    pub tags: BTreeSet<String>,
    /// Spaces keys.
    pub keys: Vec<Key>,
    /// Buckets that can be assigned to a project; `None` for all that are asked for.
    pub buckets: Option<BTreeSet<String>>,
    /// Scopes that the token lacks.
    pub lacks: BTreeSet<String>,
    /// How new databases behave.
    pub births: Births,
    /// What hooks have to be told.
    pub(super) events: Vec<Event>,
}

/// How new databases behave.
#[derive(Clone, Debug, Default)]
pub struct Births {
    /// Looks that find no trace by id, right after a create.
    pub hidden_polls: u32,
    /// Looks at the list that do not show it, right after a create.
    pub unlisted_polls: u32,
    /// Looks that find it `creating`.
    pub creating_polls: u32,
    /// Looks that still find it, after a delete.
    pub deleting_polls: u32,
    /// PEM of the authority, by engine.
    pub ca: BTreeMap<String, String>,
    /// Where it serves clients outside, by engine.
    pub public: BTreeMap<String, Endpoint>,
    /// Where it serves clients in its network, by engine.
    pub private: BTreeMap<String, Endpoint>,
    /// Password of the administrator, by engine; else a random one.
    pub admin_password: BTreeMap<String, String>,
}

/// Where a database serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }
}

/// A data centre.
#[derive(Clone, Debug)]
pub struct Region {
    /// `nyc3`.
    pub slug: String,
    /// Whether something new can be made there.
    pub available: bool,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Vpc {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Slug.
    pub region: String,
}

/// A DOKS cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Slug.
    pub region: String,
    /// Slug.
    pub version: String,
    /// Its network.
    pub vpc: String,
    /// `running`, `provisioning`, `degraded` …
    pub state: String,
    /// Its nodes.
    pub pools: Vec<Pool>,
    /// Who may reach the API server, if not everybody.
    pub allowed_addresses: Option<Vec<String>>,
    /// The way to its API; without one there is none.
    pub access: Option<Access>,
}

/// The way to the API of a DOKS cluster.
#[derive(Clone, Debug)]
pub struct Access {
    /// `https://…`
    pub server: String,
    /// The authority of its certificate, PEM.
    pub ca_pem: String,
    /// Of an administrator; none where the team signs on elsewhere.
    pub token: Option<String>,
}

impl Cluster {
    /// A running one with three nodes.
    #[must_use]
    pub fn new(id: &str, name: &str, region: &str, vpc: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            region: region.to_owned(),
            version: "1.33.1-do.0".to_owned(),
            vpc: vpc.to_owned(),
            state: "running".to_owned(),
            pools: vec![Pool { name: "workers".to_owned(), count: 3, auto_scale: None }],
            allowed_addresses: None,
            access: None,
        }
    }

    /// The id of one of its pools: its nodes carry it as `doks.digitalocean.com/node-pool-id`.
    #[must_use]
    pub fn pool_id(&self, pool: &str) -> String {
        // Of letters that a UUID may hold, and always the same.
        let hex: String = format!("{}{}", self.id, pool).bytes().rev().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-4444-4444-8444-{hex}", self.id.get(..8).unwrap_or("00000000"))
    }
}

/// Nodes of one size.
#[derive(Clone, Debug)]
pub struct Pool {
    /// For people.
    pub name: String,
    /// Nodes now.
    pub count: u32,
    /// The fewest and the most, where the number follows the load.
    pub auto_scale: Option<(u32, u32)>,
}

/// A folder of the control panel.
#[derive(Clone, Debug)]
pub struct Project {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where things go that nobody assigned.
    pub is_default: bool,
    /// URNs.
    pub resources: BTreeSet<String>,
}

/// A Spaces key.
#[derive(Clone, Debug)]
pub struct Key {
    /// For people; not unique.
    pub name: String,
    /// Its public half.
    pub access_key: String,
    /// The other.
    pub secret_key: String,
    /// Bucket and permission.
    pub grants: Vec<(String, String)>,
}

/// What a hook is told, after it happened and before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field says its name")]
pub enum Event {
    /// A Spaces key was made.
    Key { access_key: String, secret_key: String, grants: Vec<(String, String)> },
    /// A Spaces key was deleted.
    KeyDeleted { access_key: String },
    /// A database's user was made, or has a new password.
    User { database: String, name: String, password: String },
    /// A database in a database cluster was made.
    Db { database: String, name: String },
}
