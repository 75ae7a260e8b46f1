//! What there is when the fake starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::answer::{secret, uuid};
use super::server::{self, Hook, Shared, State};
use super::world::{Access, Cluster, Database, Endpoint, Event, Project, Region, Vpc, World};
use super::{CLUSTER, CLUSTER_NAME, Fake, REGION, VPC};
use crate::Authority;

/// See [`Fake::builder`]. A setting that is given by engine takes `pg`, `valkey` or `redis`.
#[derive(Debug)]
pub struct Builder {
    token: String,
    world: World,
    hooks: Vec<Hook>,
}

impl Default for Builder {
    fn default() -> Self {
        let region = |slug: &str| Region { slug: slug.to_owned(), available: true };
        let project = |name: &str, is_default| Project { id: uuid(), name: name.to_owned(), is_default, resources: BTreeSet::new() };
        let world = World {
            account_status: "active".to_owned(),
            regions: ["ams3", "fra1", "nyc1", "nyc3", "sfo3"].map(region).into(),
            vpcs: vec![Vpc { id: VPC.to_owned(), name: "default-nyc3".to_owned(), region: REGION.to_owned() }],
            clusters: vec![Cluster::new(CLUSTER, CLUSTER_NAME, REGION, VPC)],
            projects: vec![project("first-project", true), project("registry", false)],
            options: options(),
            database_limit: 10,
            ..World::default()
        };
        Self { token: secret("dop_v1_", 64), world, hooks: Vec::new() }
    }
}

impl Builder {
    /// The token that it takes, instead of a random one.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// The token lacks this scope (`database:create`, `database:view_credentials`): 403.
    #[must_use]
    pub fn lacks(mut self, scope: &str) -> Self {
        self.world.lacks.insert(scope.to_owned());
        self
    }

    /// Another DOKS cluster; the first one stays. Its network is made if there is none of that id.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        if !self.world.vpcs.iter().any(|vpc| vpc.id == cluster.vpc) {
            let name = format!("vpc-{}", cluster.name);
            self.world.vpcs.push(Vpc { id: cluster.vpc.clone(), name, region: cluster.region.clone() });
        }
        self.world.clusters.push(cluster);
        self
    }

    /// Where the API of the first DOKS cluster is, and the token that `credentials` tells. Its nodes are of [`Cluster::pool_id`]'s.
    #[must_use]
    pub fn kubernetes(mut self, server: &str, ca_pem: &str, token: &str) -> Self {
        let access = Access { server: server.to_owned(), ca_pem: ca_pem.to_owned(), token: Some(token.to_owned()) };
        if let Some(cluster) = self.world.clusters.first_mut() {
            cluster.access = Some(access);
        }
        self
    }

    /// A database that is there already.
    #[must_use]
    pub fn database(mut self, database: Database) -> Self {
        self.world.tags.extend(database.tags.iter().cloned());
        self.world.databases.push(database);
        self
    }

    /// So many looks find a new database `creating`.
    #[must_use]
    pub fn creating_polls(mut self, looks: u32) -> Self {
        self.world.births.creating_polls = looks;
        self
    }

    /// So many looks by id find no trace of a new database (404); the list shows it.
    #[must_use]
    pub fn hidden_polls(mut self, looks: u32) -> Self {
        self.world.births.hidden_polls = looks;
        self
    }

    /// So many looks at the list do not show a new database.
    #[must_use]
    pub fn unlisted_polls(mut self, looks: u32) -> Self {
        self.world.births.unlisted_polls = looks;
        self
    }

    /// So many looks still find a database after its deletion; until then its name is taken.
    #[must_use]
    pub fn deleting_polls(mut self, looks: u32) -> Self {
        self.world.births.deleting_polls = looks;
        self
    }

    /// PEM that `/ca` tells; else that of an authority made for this fake.
    #[must_use]
    pub fn ca(mut self, engine: &str, pem: &str) -> Self {
        self.world.births.ca.insert(engine.to_owned(), pem.to_owned());
        self
    }

    /// Where new databases serve clients outside; for a real server behind them.
    #[must_use]
    pub fn public(mut self, engine: &str, host: &str, port: u16) -> Self {
        self.world.births.public.insert(engine.to_owned(), Endpoint::new(host, port));
        self
    }

    /// Where new databases serve clients in their network.
    #[must_use]
    pub fn private(mut self, engine: &str, host: &str, port: u16) -> Self {
        self.world.births.private.insert(engine.to_owned(), Endpoint::new(host, port));
        self
    }

    /// What new databases have for the administrator's password, instead of a random one.
    #[must_use]
    pub fn admin_password(mut self, engine: &str, password: &str) -> Self {
        self.world.births.admin_password.insert(engine.to_owned(), password.to_owned());
        self
    }

    /// Anything else.
    #[must_use]
    pub fn world(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.world);
        self
    }

    /// Told of every [`Event`] after it happened and before it is answered. It may block.
    #[must_use]
    pub fn hook(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.push(Hook(Arc::new(hook)));
        self
    }

    /// Told of every new Spaces key: access key, secret key, grants (bucket, permission). For an S3 server beside it.
    #[must_use]
    pub fn on_key(self, told: impl Fn(&str, &str, &[(String, String)]) + Send + Sync + 'static) -> Self {
        self.hook(move |event| {
            if let Event::Key { access_key, secret_key, grants } = event {
                told(access_key, secret_key, grants);
            }
        })
    }

    /// Told of the access key of every Spaces key that is deleted.
    #[must_use]
    pub fn on_key_deleted(self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.hook(move |event| {
            if let Event::KeyDeleted { access_key } = event {
                told(access_key);
            }
        })
    }

    /// Starts it.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(mut self) -> Result<Fake> {
        let authority = Authority::new()?;
        for engine in ["pg", "valkey", "redis"] {
            self.world.births.ca.entry(engine.to_owned()).or_insert_with(|| authority.ca_pem());
        }
        let shared = Arc::new(Shared::new(State::new(self.world), self.token.clone(), self.hooks));
        let running = server::start(Arc::clone(&shared))?;
        Ok(Fake { port: running.port, token: self.token, shared, stop: Some(running.stop), thread: Some(running.thread) })
    }
}

/// Like the real ones in shape; `redis` is still offered in words.
fn options() -> Value {
    let regions = ["ams3", "fra1", "nyc1", "nyc3", "sfo3"];
    let small = ["db-s-1vcpu-1gb", "db-s-1vcpu-2gb", "db-s-2vcpu-4gb", "db-s-4vcpu-8gb"];
    let large = ["db-s-1vcpu-2gb", "db-s-2vcpu-4gb", "db-s-4vcpu-8gb"];
    let layouts = json!([
        { "num_nodes": 1, "sizes": small },
        { "num_nodes": 2, "sizes": large },
        { "num_nodes": 3, "sizes": large },
    ]);
    let version = |version: &str, life: Option<&str>, availability: Option<&str>, default: bool| json!({ "version": version, "end_of_life": life, "end_of_availability": availability, "default": default });
    json!({
        "options": {
            "pg": { "regions": regions, "versions": ["14", "15", "16", "17"], "default_version": "17", "layouts": layouts },
            "valkey": { "regions": regions, "versions": ["8"], "default_version": "8", "layouts": layouts },
            "redis": { "regions": regions, "versions": ["7"], "layouts": layouts },
        },
        "version_availability": {
            "pg": [
                version("14", Some("2036-11-12T00:00:00Z"), Some("2036-05-12T00:00:00Z"), false),
                version("15", Some("2037-11-11T00:00:00Z"), Some("2037-05-12T00:00:00Z"), false),
                version("16", Some("2038-11-09T00:00:00Z"), Some("2038-05-09T00:00:00Z"), false),
                version("17", Some("2039-11-08T00:00:00Z"), Some("2039-05-08T00:00:00Z"), true),
            ],
            "valkey": [version("8", None, None, true)],
            "redis": [version("7", Some("2025-06-30T00:00:00Z"), Some("2025-04-30T00:00:00Z"), false)],
        },
    })
}
