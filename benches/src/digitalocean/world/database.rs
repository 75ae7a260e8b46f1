//! A managed database and what is in it.

use serde_json::{Map, Value, json};

use super::super::answer::{secret, uuid};
use super::super::{REGION, VPC};
use super::Endpoint;

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
            region: REGION.to_owned(),
            vpc: VPC.to_owned(),
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

    pub(in super::super) fn is_pg(&self) -> bool {
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
