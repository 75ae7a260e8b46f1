//! The nodes that KWOK plays, and what the containers on them do.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::Kubernetes;

const STAGES: &str = include_str!("stages.yaml");

/// Nodes of one pool, as DOKS labels them.
#[derive(Clone, Copy, Debug)]
pub struct Nodes<'a> {
    /// `doks.digitalocean.com/node-pool`.
    pub pool: &'a str,
    /// `doks.digitalocean.com/node-pool-id`.
    pub pool_id: &'a str,
    /// How many.
    pub count: usize,
}

impl Nodes<'_> {
    fn objects(&self) -> Value {
        let node = |number: usize| {
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": format!("{}-{number}", self.pool),
                    "labels": {
                        "kubernetes.io/os": "linux",
                        "kubernetes.io/hostname": format!("{}-{number}", self.pool),
                        "doks.digitalocean.com/node-pool": self.pool,
                        "doks.digitalocean.com/node-pool-id": self.pool_id,
                    },
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                },
            })
        };
        json!({"apiVersion": "v1", "kind": "List", "items": (0..self.count).map(node).collect::<Vec<_>>()})
    }
}

impl Kubernetes {
    /// Adds nodes and waits until they are ready.
    ///
    /// # Errors
    /// When they do not become so within four minutes.
    pub async fn add(&self, nodes: Nodes<'_>) -> Result<()> {
        self.kubectl(&["apply", "--server-side", "--field-manager=lab", "--filename=-"], &nodes.objects().to_string())?;
        let selector = format!("--selector=doks.digitalocean.com/node-pool={}", nodes.pool);
        let ready = "--output=jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
        let all = |out: &str| out.split_whitespace().filter(|word| *word == "True").count() == nodes.count;
        self.until("the nodes are ready", &["get", "nodes", &selector, ready], all).await?;
        // Else the first pods would wait for it.
        let taints = "--output=jsonpath={.items[*].spec.taints}";
        self.until("nothing keeps pods away", &["get", "nodes", &selector, taints], |out| out.trim().is_empty()).await?;
        Ok(())
    }

    /// From now on a port-forward to this port of any pod reaches this port of loopback.
    ///
    /// # Errors
    /// When the object cannot be made.
    pub fn forward(&self, port: u16, to: u16) -> Result<()> {
        let name = format!("port-{port}");
        let object = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterPortForward",
            "metadata": {"name": name},
            "spec": {"forwards": [{"ports": [port], "target": {"address": "127.0.0.1", "port": to}}]},
        });
        self.kubectl(&["apply", "--server-side", "--field-manager=lab", "--force-conflicts", "--filename=-"], &object.to_string())?;
        Ok(())
    }
}

/// What KWOK reads.
pub(super) fn prepare(dir: &Path, kubelet: u16) -> Result<()> {
    let mut text = STAGES.to_owned();
    write!(
        text,
        "---\napiVersion: config.kwok.x-k8s.io/v1alpha1\nkind: KwokConfiguration\noptions: {{nodePort: {kubelet}, enableCRDs: [ClusterPortForward, ClusterLogs]}}\n"
    )?;
    std::fs::write(dir.join("kwok.yaml"), text)?;
    Ok(())
}
