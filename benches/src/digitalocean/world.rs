//! What there is in the account. Every field is open to tests: [`super::Fake::world`] is the control panel.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::answer::{secret, uuid};

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
        }
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

/// A managed database.
#[derive(Clone, Debug)]
pub struct Database {
    /// UUID.
    pub id: String,
    /// Unique.
    pub name: String,
    /// `pg`, `valkey`, `redis`.
    pub engine: String,
    /// Major version.
    pub version: String,
    /// 1 to 3.
    pub num_nodes: u64,
    /// Slug.
    pub size: String,
    /// Slug.
    pub region: String,
    /// UUID.
    pub vpc: String,
    /// What it is marked with.
    pub tags: Vec<String>,
    /// Who may connect.
    pub rules: Vec<Rule>,
    /// Logins.
    pub users: Vec<User>,
    /// Databases in it.
    pub dbs: Vec<String>,
    /// Valkey and Redis only.
    pub eviction_policy: String,
    /// Day and `HH:MM:SS`.
    pub maintenance: (String, String),
    /// Settings.
    pub config: Map<String, Value>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Looks by id that find no trace yet.
    pub hidden: u32,
    /// Looks at the list that do not show it yet.
    pub unlisted: u32,
    /// For clients outside.
    pub public: Endpoint,
    /// For clients in its network.
    pub private: Endpoint,
    /// RFC 3339.
    pub end_of_life: Option<String>,
}

/// Where a database is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// So many looks more.
    Creating(u32),
    /// It serves.
    Online,
    /// So many looks more; its name is taken.
    Deleting(u32),
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// UUID.
    pub uuid: String,
    /// `droplet`, `k8s`, `ip_addr`, `tag`, `app`.
    pub kind: String,
    /// Id, address or name.
    pub value: String,
    /// Somebody's words.
    pub description: Option<String>,
}

impl Rule {
    /// A new one.
    #[must_use]
    pub fn new(kind: &str, value: &str, description: Option<&str>) -> Self {
        Self { uuid: uuid(), kind: kind.to_owned(), value: value.to_owned(), description: description.map(str::to_owned) }
    }
}

/// A login.
#[derive(Clone, Debug)]
pub struct User {
    /// Who.
    pub name: String,
    /// `primary` or `normal`.
    pub role: &'static str,
    /// Theirs.
    pub password: String,
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

impl Database {
    /// A running one that nobody tagged: somebody else's. It starts as every new one does: open to all, evicting, with its first user.
    #[must_use]
    pub fn new(name: &str, engine: &str, version: &str) -> Self {
        let is_pg = engine == "pg";
        let host = format!("{name}-do-user-1234567-0.b.db.ondigitalocean.com");
        let port = if is_pg { 25060 } else { 25061 };
        let admin = if is_pg { "doadmin" } else { "default" };
        Self {
            id: uuid(),
            name: name.to_owned(),
            engine: engine.to_owned(),
            version: version.to_owned(),
            num_nodes: 1,
            size: "db-s-1vcpu-1gb".to_owned(),
            region: super::REGION.to_owned(),
            vpc: super::VPC.to_owned(),
            tags: Vec::new(),
            rules: Vec::new(),
            users: vec![User { name: admin.to_owned(), role: "primary", password: secret("AVNS_", 19) }],
            dbs: if is_pg { vec!["defaultdb".to_owned()] } else { Vec::new() },
            eviction_policy: "allkeys_lru".to_owned(),
            maintenance: ("monday".to_owned(), "21:34:00".to_owned()),
            config: first_config(engine),
            phase: Phase::Online,
            hidden: 0,
            unlisted: 0,
            public: Endpoint::new(&host, port),
            private: Endpoint::new(&format!("private-{host}"), port),
            end_of_life: None,
        }
    }

    pub(super) fn is_pg(&self) -> bool {
        self.engine == "pg"
    }
}

fn first_config(engine: &str) -> Map<String, Value> {
    let config = match engine {
        "pg" => json!({ "autovacuum_max_workers": 5 }),
        "redis" => json!({ "redis_ssl": true, "redis_timeout": 300, "redis_persistence": "rdb" }),
        _ => json!({ "valkey_ssl": true, "valkey_timeout": 300, "valkey_persistence": "rdb", "valkey_number_of_databases": 16 }),
    };
    config.as_object().cloned().unwrap_or_default()
}
