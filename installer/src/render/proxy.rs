//! The proxy's configuration: Valkey for all clients over a few connections, PostgreSQL lent out by the transaction.
//!
//! One function writes it for every place that it can run in. What differs is a [`Place`]: where the files are and where it listens.

use std::path::Path;

use redis_tls_proxy::config::{self, Purpose, Sources};
use serde_json::{Value, json};

use super::Budget;
use super::yaml::Document;
use crate::facts::{Database, Facts};
use crate::keyring::Entry;

/// Of the authority that signed PostgreSQL's certificate; beside `proxy.yaml`.
pub const POSTGRES_CA: &str = "postgres-ca.crt";
/// Of an authority to trust for Valkey besides the public ones.
pub const VALKEY_CA: &str = "valkey-ca.crt";
/// What it reads from the folder of secrets.
pub const PASSWORDS: [Entry; 3] = [Entry::ClientPassword, Entry::PostgresPassword, Entry::ValkeyPassword];
/// Connections to Valkey for each proxy: lanes, and one for each client that blocks or subscribes. The smallest plan has thousands.
const VALKEY_POOL: u32 = 64;

/// Of a proxy outside the fleet.
const LEFT_TO_OTHERS: &str = "Those that the proxies in the cluster leave to others: proxy.reserve_connections of doks-harbor.yaml.";

/// Where a proxy runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Folder of `proxy.yaml` and the CA files.
    pub config: String,
    /// Folder of the secrets, each in the file that the keyring calls it.
    pub secret: String,
    /// `IP:PORT` for Redis clients.
    pub redis: String,
    /// `IP:PORT` for PostgreSQL clients.
    pub postgres: String,
    /// `IP:PORT` for probes and metrics.
    pub admin: String,
    /// DNS name with an address for each proxy of the fleet; none: it is alone.
    pub peers: Option<String>,
    /// Somebody sits before it: its log is text, and Ctrl-C ends it without waiting for a Service to notice.
    pub attended: bool,
}

impl Place {
    /// A pod of the DaemonSet, as `manifests/base/daemonset.yaml` mounts its folders.
    #[must_use]
    pub fn pod(namespace: &str) -> Self {
        Self {
            config: "/etc/redis-tls-proxy/config".to_owned(),
            secret: "/etc/redis-tls-proxy/secret".to_owned(),
            redis: "0.0.0.0:6379".to_owned(),
            postgres: "0.0.0.0:5432".to_owned(),
            admin: "0.0.0.0:9090".to_owned(),
            peers: Some(format!("{}.{namespace}.svc.cluster.local.", super::manifests::PEERS)),
            attended: false,
        }
    }

    /// A process on this machine, with the keyring's own files: for a look with psql or redis-cli, and for checks.
    #[must_use]
    pub fn here(config: &Path, keyring: &Path) -> Self {
        Self {
            config: config.display().to_string(),
            secret: keyring.display().to_string(),
            redis: "127.0.0.1:6379".to_owned(),
            postgres: "127.0.0.1:5432".to_owned(),
            admin: "127.0.0.1:9090".to_owned(),
            peers: None,
            attended: true,
        }
    }

    fn secret(&self, entry: Entry) -> String {
        format!("{}/{}", self.secret, entry.file())
    }
}

/// `proxy.yaml`.
#[must_use]
pub fn configuration(facts: &Facts, budget: &Budget, place: &Place) -> String {
    let mut document = Document::new();
    document.head("Configuration of redis-tls-proxy for Harbor. Every setting: proxy/proxy.example.yaml; check it with");
    document.head("  redis-tls-proxy validate --config proxy.yaml --explain");
    document.set("admin", place.admin.as_str());
    if !place.attended {
        document.set("log_format", "json");
        document.explain("drain_delay", "Together below the pod's terminationGracePeriodSeconds.", "5s");
        document.set("drain_timeout", "20s");
    }
    document.explain("client_auth", "Harbor knows this password; those of the databases are known to the proxy alone.", "password");
    document.set("client_password_file", place.secret(Entry::ClientPassword));
    document.set("listeners", json!([valkey(facts, place), postgres(facts, budget, place)]));
    document.note("listeners.0.pool", "All clients share a few connections; who subscribes or blocks gets one of its own.");
    if facts.valkey.ca.is_some() {
        document.note("listeners.0.ca_file", "Trusted besides the public authorities: managed Valkey may show a certificate of either.");
    }
    document.note("listeners.1.pool", "A connection is lent for a transaction.");
    let counted = if budget.total.is_some() { "listeners.1.pool_budget_total" } else { "listeners.1.pool_size" };
    let division = || if place.attended { LEFT_TO_OTHERS.to_owned() } else { budget.explain() };
    document.note(counted, &division());
    if facts.postgres.ca.is_some() {
        document.note("listeners.1.ca_only", "PostgreSQL's certificate is signed by an authority of the project's own, and by no other.");
    }
    document.text()
}

fn valkey(facts: &Facts, place: &Place) -> Value {
    let valkey = &facts.valkey;
    let mut listener = json!({
        "url": format!("rediss://{}@{}:{}", valkey.user, absolute(&valkey.host), valkey.port),
        "name": "valkey",
        "listen": place.redis,
        "password_file": place.secret(Entry::ValkeyPassword),
        "pool": "multiplex",
        "pool_size": VALKEY_POOL,
    });
    if let (Some(_), Value::Object(keys)) = (&valkey.ca, &mut listener) {
        keys.insert("ca_file".to_owned(), format!("{}/{VALKEY_CA}", place.config).into());
    }
    listener
}

fn postgres(facts: &Facts, budget: &Budget, place: &Place) -> Value {
    let postgres = &facts.postgres;
    let mut listener = json!({
        "url": format!("postgresql://{}@{}:{}/{}", postgres.user, absolute(&postgres.host), postgres.port, database(postgres)),
        "name": "postgresql",
        "listen": place.postgres,
        "password_file": place.secret(Entry::PostgresPassword),
        "pool": "transaction",
    });
    let Value::Object(keys) = &mut listener else { return listener };
    if postgres.ca.is_some() {
        keys.insert("ca_file".to_owned(), format!("{}/{POSTGRES_CA}", place.config).into());
        keys.insert("ca_only".to_owned(), true.into());
    }
    match budget.total {
        None => {
            keys.insert("pool_size".to_owned(), budget.share.into());
        }
        Some(total) => {
            keys.insert("pool_budget_total".to_owned(), total.into());
            keys.insert("pool_budget_reserve".to_owned(), budget.reserve.into());
            if let Some(peers) = &place.peers {
                keys.insert("pool_budget_peers".to_owned(), peers.as_str().into());
            }
        }
    }
    listener
}

/// Harbor's database.
#[must_use]
pub fn database(postgres: &Database) -> &str {
    postgres.database.as_deref().unwrap_or("registry")
}

/// With a dot at the end: a pod's resolver would first try it with each of its search domains (`ndots:5`).
fn absolute(host: &str) -> String {
    let is_name = host.contains('.') && !host.ends_with('.') && host.parse::<std::net::IpAddr>().is_err();
    format!("{host}{}", if is_name { "." } else { "" })
}

/// The files that lie beside `proxy.yaml`, with their content.
#[must_use]
pub fn authorities(facts: &Facts) -> Vec<(&'static str, &str)> {
    let of = [(POSTGRES_CA, &facts.postgres.ca), (VALKEY_CA, &facts.valkey.ca)];
    of.into_iter().filter_map(|(file, ca)| Some((file, ca.as_deref()?))).collect()
}

/// Lets the proxy's own code judge the configuration of a place, with the keyring's files for those that the place will have; without a keyring
/// with stand-ins, and then only the secrets themselves are not judged. This one reads and writes files: `scratch` is an empty folder.
///
/// # Errors
/// Every mistake in the proxy's words. What it only warns about is returned.
pub fn check(facts: &Facts, budget: &Budget, place: &Place, keyring: Option<&Path>, scratch: &Path) -> Result<Vec<String>, Vec<String>> {
    let Place { config, secret, .. } = Place::here(scratch, keyring.unwrap_or(scratch));
    let place = Place { config, secret, ..place.clone() };
    let file = scratch.join("proxy.yaml");
    let write = || -> std::io::Result<()> {
        for (name, pem) in authorities(facts) {
            std::fs::write(scratch.join(name), pem)?;
        }
        for entry in PASSWORDS.iter().filter(|_| keyring.is_none()) {
            std::fs::write(scratch.join(entry.file()), "stand-in")?;
        }
        std::fs::write(&file, configuration(facts, budget, &place))
    };
    write().map_err(|error| vec![format!("{} cannot be written: {error}", scratch.display())])?;
    let sources = Sources {
        urls: Vec::new(),
        file: Some(file),
        flags: std::collections::BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Serve,
        // It will run elsewhere: whether a port is free here says nothing.
        probe: &|_| Ok(()),
    };
    match config::load(&sources) {
        Ok(loaded) => Ok(loaded.warnings),
        Err(mistakes) => Err(mistakes.to_string().lines().map(|line| format!("proxy.yaml: {line}")).collect()),
    }
}
