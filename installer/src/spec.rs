//! `doks-harbor.yaml`: what the user wants. Every key but `cluster` and, for most exposures, `harbor.host` has a default.
//!
//! [`Spec::read`] returns every mistake that the words alone can hold; whether the cluster exists and the region has such a size is for
//! the preflight to find out.

use std::fmt;

use serde::{Deserialize, Serialize};

mod check;
mod template;

pub use check::Mistakes;
pub use template::template;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name or id of the DOKS cluster.
    pub cluster: String,
    /// Where Harbor and the proxy run.
    #[serde(default = "default::namespace")]
    pub namespace: String,
    /// Name of the DigitalOcean project for what is created; without, the account's default one.
    #[serde(default)]
    pub project: Option<String>,
    /// Harbor's tables.
    #[serde(default, deserialize_with = "default::section")]
    pub postgres: Postgres,
    /// Harbor's sessions and jobs.
    #[serde(default, deserialize_with = "default::section")]
    pub valkey: Valkey,
    /// Harbor's images.
    #[serde(default, deserialize_with = "default::section")]
    pub spaces: Spaces,
    /// The proxy.
    #[serde(default, deserialize_with = "default::section")]
    pub proxy: Proxy,
    /// Harbor itself.
    #[serde(default, deserialize_with = "default::section")]
    pub harbor: Harbor,
}

/// Managed PostgreSQL: created, or the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// Use this cluster of the user's; nothing of it is resized or deleted.
    pub adopt: Option<String>,
    /// Major version; without, the newest that is offered.
    pub version: Option<String>,
    /// Slug.
    pub size: String,
    /// 1 to 3; 2 and more fail over by themselves.
    pub nodes: u8,
    /// Harbor's database; created in adopted clusters, too.
    pub database: String,
    /// Whom Harbor's database belongs to.
    pub user: String,
    /// When DigitalOcean may update it.
    pub maintenance: Maintenance,
}

/// Managed Valkey: created, or the user's own; an adopted one may be a Redis of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Valkey {
    /// Use this cluster of the user's; nothing of it is resized or deleted.
    pub adopt: Option<String>,
    /// Major version; without, the newest that is offered.
    pub version: Option<String>,
    /// Slug.
    pub size: String,
    /// 1 to 3; 2 and more fail over by themselves.
    pub nodes: u8,
    /// When DigitalOcean may update it.
    pub maintenance: Maintenance,
}

/// A weekly hour, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// `monday` to `sunday`.
    pub day: String,
    /// `HH:MM`.
    pub hour: String,
}

/// The bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spaces {
    /// Use this bucket of the user's; it is never deleted.
    pub adopt: Option<String>,
    /// Slug; needed where the cluster's region has no Spaces, else that one.
    pub region: Option<String>,
    /// Files with a key of the user's own, where the token may not make keys.
    pub keys: Option<KeyFiles>,
}

/// A key that the user already has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// File that holds the access key.
    pub access_key_file: std::path::PathBuf,
    /// File that holds the secret key.
    pub secret_key_file: std::path::PathBuf,
}

/// redis-tls-proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Image of the proxy, with a tag or digest.
    pub image: String,
    /// Node pools that Harbor's pods run on; empty: all nodes.
    pub node_pools: Vec<String>,
    /// Of PostgreSQL's connections, so many are left to others (migrations, psql, monitoring).
    pub reserve_connections: u32,
}

/// Harbor, by its Helm chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Harbor {
    /// Version of the chart, 1.8.0 to 1.19.x.
    pub chart: ChartVersion,
    /// Name of the Helm release.
    pub release: String,
    /// The name that docker uses: `harbor.example.com`. Needed unless `expose` is `clusterIP`.
    pub host: Option<String>,
    /// How it is reached.
    pub expose: Expose,
    /// Secret (kubernetes.io/tls) with the certificate for `host`; without, the chart makes one that nobody trusts.
    pub tls_secret: Option<String>,
    /// `ingressClassName` of `ingress` (default: the cluster's) and `traefik` (`traefik`).
    pub ingress_class: Option<String>,
    /// The Gateway of `route`: `namespace/name`.
    pub gateway: Option<String>,
    /// Pods of everything that keeps no state.
    pub replicas: u8,
    /// Scan images.
    pub trivy: bool,
    /// Serve Prometheus metrics.
    pub metrics: bool,
    /// Send pulls to Spaces directly; off where clients cannot reach it.
    pub redirect: bool,
    /// Values of the user's own, merged on top.
    pub values: Option<std::path::PathBuf>,
}

/// How Harbor is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Expose {
    /// From inside the cluster only, and by `doks-harbor open`.
    #[default]
    #[serde(rename = "clusterIP")]
    ClusterIp,
    /// An ingress controller such as nginx's.
    Ingress,
    /// Traefik's, with the annotations that it needs.
    Traefik,
    /// A DigitalOcean load balancer of its own.
    LoadBalancer,
    /// A port of each node.
    NodePort,
    /// Gateway API; chart 1.18 and newer.
    Route,
}

impl Expose {
    /// As the file writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClusterIp => "clusterIP",
            Self::Ingress => "ingress",
            Self::Traefik => "traefik",
            Self::LoadBalancer => "loadBalancer",
            Self::NodePort => "nodePort",
            Self::Route => "route",
        }
    }
}

/// A version of Harbor's chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChartVersion {
    /// Always 1 so far.
    pub major: u16,
    /// What the keys depend on.
    pub minor: u16,
    /// Fixes.
    pub patch: u16,
}

impl ChartVersion {
    /// The newest that the values are known for.
    pub const NEWEST: Self = Self { major: 1, minor: 19, patch: 1 };
    /// The oldest.
    pub const OLDEST: Self = Self { major: 1, minor: 8, patch: 0 };

    /// That of this minor version or a newer one.
    #[must_use]
    pub const fn at_least(self, minor: u16) -> bool {
        self.minor >= minor
    }
}

impl fmt::Display for ChartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<ChartVersion> for String {
    fn from(version: ChartVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for ChartVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut parts = text.split('.').map(str::parse::<u16>);
        let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(format!("{text:?} is no chart version; write all three numbers, as in \"{}\"", Self::NEWEST));
        };
        Ok(Self { major, minor, patch })
    }
}

mod default {
    use serde::{Deserialize, Deserializer};

    /// A section whose keys are all commented out is null to YAML.
    pub(super) fn section<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
        Option::deserialize(from).map(Option::unwrap_or_default)
    }

    pub(super) fn namespace() -> String {
        "harbor".to_owned()
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { day: "sunday".to_owned(), hour: "03:00".to_owned() }
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            adopt: None,
            version: None,
            size: "db-s-1vcpu-2gb".to_owned(),
            nodes: 1,
            database: "registry".to_owned(),
            user: "harbor".to_owned(),
            maintenance: Maintenance::default(),
        }
    }
}

impl Default for Valkey {
    fn default() -> Self {
        Self { adopt: None, version: None, size: "db-s-1vcpu-1gb".to_owned(), nodes: 1, maintenance: Maintenance::default() }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self { image: concat!("redis-tls-proxy:", env!("CARGO_PKG_VERSION")).to_owned(), node_pools: Vec::new(), reserve_connections: 5 }
    }
}

impl Default for Harbor {
    fn default() -> Self {
        Self {
            chart: ChartVersion::NEWEST,
            release: "harbor".to_owned(),
            host: None,
            expose: Expose::default(),
            tls_secret: None,
            ingress_class: None,
            gateway: None,
            replicas: 2,
            trivy: true,
            metrics: false,
            redirect: true,
            values: None,
        }
    }
}
