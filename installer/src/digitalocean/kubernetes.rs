//! DOKS clusters.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::client::encoded;
use super::{Client, Result};

/// A DOKS cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KubernetesCluster {
    /// UUID.
    pub id: String,
    /// Unique among an account's running clusters only by habit.
    pub name: String,
    /// Slug.
    pub region: String,
    /// Slug: `1.33.1-do.0`.
    pub version: String,
    /// Its network; databases must be in the same.
    pub vpc_uuid: Option<String>,
    /// What it is doing.
    pub status: ClusterStatus,
    /// Its nodes.
    pub node_pools: Vec<NodePool>,
    /// Who may reach its API server.
    pub control_plane_firewall: Option<ControlPlaneFirewall>,
}

/// What a cluster is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// The word.
    pub state: ClusterState,
    /// For people.
    pub message: Option<String>,
}

/// A DOKS cluster's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// Ready.
    Running,
    /// Being made.
    Provisioning,
    /// Something is wrong.
    Degraded,
    /// It failed.
    Error,
    /// Gone.
    Deleted,
    /// Between two versions; it serves.
    Upgrading,
    /// Going.
    Deleting,
    /// A word of after this program.
    #[default]
    #[serde(other)]
    Other,
}

/// Nodes of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodePool {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Nodes now.
    pub count: u32,
    /// Whether the number follows the load.
    pub auto_scale: bool,
    /// With `auto_scale`: the most.
    pub max_nodes: u32,
}

impl NodePool {
    /// The most nodes that it can have.
    #[must_use]
    pub fn most(&self) -> u32 {
        if self.auto_scale { self.max_nodes.max(self.count) } else { self.count }
    }
}

/// Who may reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ControlPlaneFirewall {
    /// Whether anybody is kept out.
    pub enabled: bool,
    /// Addresses and networks.
    pub allowed_addresses: Vec<String>,
}

/// A way into a cluster, for a while.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClusterCredentials {
    /// Of the API server.
    pub server: String,
    /// PEM in base64.
    pub certificate_authority_data: String,
    /// Absent where the team signs on elsewhere.
    pub token: Option<SecretString>,
}

impl Client {
    /// `GET /v2/kubernetes/clusters`, all pages. There is no filter by name. Scope `kubernetes:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn clusters(&self) -> Result<Vec<KubernetesCluster>> {
        self.pages("/v2/kubernetes/clusters", "", "kubernetes_clusters").await
    }

    /// `GET /v2/kubernetes/clusters/{id}/credentials`: each call makes a token, good for `life`. Scope `kubernetes:access_cluster`.
    ///
    /// # Errors
    /// As every call.
    pub async fn cluster_credentials(&self, id: &str, life: Duration) -> Result<ClusterCredentials> {
        self.get(&format!("/v2/kubernetes/clusters/{}/credentials?expiry_seconds={}", encoded(id), life.as_secs())).await
    }
}
