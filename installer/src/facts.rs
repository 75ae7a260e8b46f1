//! What rendering has to know of the servers: written by `apply`, shown by `status -o json`, read back by `render --facts FILE`. No secret.

use serde::{Deserialize, Serialize};

/// Everything that is known after provisioning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Where Harbor runs.
    pub cluster: Cluster,
    /// Where its tables are.
    pub postgres: Database,
    /// Where its sessions and jobs are. Valkey, or a Redis of before.
    pub valkey: Database,
    /// Where its images are.
    pub spaces: Bucket,
}

/// A DOKS cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// UUID.
    pub id: String,
    /// As the user called it.
    pub name: String,
    /// Slug: `nyc1`.
    pub region: String,
    /// Nodes that a proxy runs on: all of the cluster, or those of the spec's node pools; with autoscaling the most there can be.
    pub nodes: u32,
}

/// A managed database, as seen from inside its VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// UUID.
    pub id: String,
    /// As it is called in the control panel.
    pub name: String,
    /// `pg`, `valkey` or `redis`.
    pub engine: String,
    /// Major version: `17`.
    pub version: String,
    /// Slug: `db-s-1vcpu-2gb`.
    pub size: String,
    /// The private name; verified in TLS.
    pub host: String,
    /// DigitalOcean's own: 25060 or 25061.
    pub port: u16,
    /// Whom the proxy logs in as.
    pub user: String,
    /// Of PostgreSQL: Harbor's database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The authority that signed the server's certificate, PEM. Without: a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Of PostgreSQL: how many connections the plan allows (25 for each GiB, 3 of them reserved); unknown for an unknown size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

/// A bucket in Spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// `https://nyc3.digitaloceanspaces.com`.
    pub endpoint: String,
    /// Slug: `nyc3`.
    pub region: String,
    /// Its name.
    pub bucket: String,
}

impl Facts {
    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// With the line and column of what is wrong.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// For a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers: nothing in it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
