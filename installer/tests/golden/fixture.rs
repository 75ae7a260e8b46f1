//! A spec and facts in which each word is its own name: a setting that is dropped on the way, or mistaken for another, shows.

use std::path::PathBuf;

use doks_harbor::facts::{Bucket, Cluster, Database, Facts};
use doks_harbor::spec::{ChartVersion, Expose, Spec};

/// The charts whose values are at hand: the oldest, the newest, and those where much has changed.
pub(crate) const CHARTS: [(u16, u16); 6] = [(8, 1), (12, 6), (16, 3), (17, 3), (18, 3), (19, 1)];

pub(crate) const EXPOSURES: [Expose; 6] =
    [Expose::ClusterIp, Expose::Ingress, Expose::Traefik, Expose::LoadBalancer, Expose::NodePort, Expose::Route];

pub(crate) fn chart((minor, patch): (u16, u16)) -> ChartVersion {
    ChartVersion { major: 1, minor, patch }
}

pub(crate) fn spec() -> Spec {
    let mut spec = Spec::read("cluster: spec-cluster\nnamespace: spec-namespace\n").unwrap();
    spec.proxy.image = "spec-proxy-image:1".to_owned();
    spec.proxy.node_pools = vec!["spec-node-pool-1".to_owned(), "spec-node-pool-2".to_owned()];
    spec.proxy.reserve_connections = 6;
    spec.harbor.release = "spec-release".to_owned();
    spec.harbor.host = Some("spec-host.example".to_owned());
    spec.harbor.expose = Expose::Ingress;
    spec.harbor.tls_secret = Some("spec-tls-secret".to_owned());
    spec.harbor.ingress_class = Some("spec-ingress-class".to_owned());
    spec.harbor.gateway = Some("spec-gateway-namespace/spec-gateway-name".to_owned());
    spec.harbor.replicas = 7;
    spec.harbor.metrics = true;
    spec
}

pub(crate) fn facts() -> Facts {
    let database = |of: &str, port: u16| Database {
        id: format!("{of}-id"),
        name: format!("{of}-name"),
        engine: format!("{of}-engine"),
        version: "17".to_owned(),
        size: format!("{of}-size"),
        host: format!("{of}-host.example"),
        port,
        user: format!("{of}-user"),
        database: None,
        ca: None,
        connections: None,
    };
    Facts {
        cluster: Cluster {
            id: "facts-cluster-id".to_owned(),
            name: "facts-cluster-name".to_owned(),
            region: "facts-cluster-region".to_owned(),
            nodes: 4,
        },
        postgres: Database {
            database: Some("facts-postgres-database".to_owned()),
            ca: Some("facts-postgres-ca\n".to_owned()),
            connections: Some(97),
            ..database("facts-postgres", 25_060)
        },
        valkey: Database { ca: Some("facts-valkey-ca\n".to_owned()), ..database("facts-valkey", 25_061) },
        spaces: Bucket {
            endpoint: "https://facts-spaces-region.example".to_owned(),
            region: "facts-spaces-region".to_owned(),
            bucket: "facts-spaces-bucket".to_owned(),
        },
    }
}

/// Beside the checkout, or beside a folder that it is in; `None`, said aloud, where it is not.
#[allow(dead_code, clippy::print_stderr, reason = "not every test file looks there; who skips says so")]
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let by_name = std::env::var_os("SHARED_DIR").map(PathBuf::from);
    let folders = by_name.into_iter().chain(here.ancestors().skip(1).map(|folder| folder.join("shared")));
    let found = folders.map(|folder| folder.join(what)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {what} is neither in ../shared nor in SHARED_DIR");
    }
    found
}
