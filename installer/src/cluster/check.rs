//! Which cluster it is and what we may do there: a few questions, none of which changes anything.

use std::collections::BTreeSet;

use anyhow::Result;
use futures_util::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::{Cluster, problem};

/// DOKS puts it on each node.
const POOL_ID: &str = "doks.digitalocean.com/node-pool-id";
/// What the namespace admits.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// What we write, and what is asked for when it fails.
const NEEDED: [(&str, &str, &str); 12] = [
    ("", "secrets", "patch"),
    ("", "configmaps", "patch"),
    ("", "services", "patch"),
    ("apps", "daemonsets", "patch"),
    ("batch", "jobs", "create"),
    ("networking.k8s.io", "networkpolicies", "patch"),
    ("coordination.k8s.io", "leases", "create"),
    ("batch", "jobs", "delete"),
    ("", "secrets", "delete"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("scheduling.k8s.io", "priorityclasses", "patch"),
];
/// Of the cluster, not of a namespace.
const CLUSTER_WIDE: [&str; 2] = ["namespaces", "priorityclasses"];

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Where it is.
    pub server: String,
    /// `v1.33.1`.
    pub version: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// The node pools that they say they are of.
    pub pools: BTreeSet<String>,
    /// Whether our namespace is there.
    pub has_namespace: bool,
    /// What it says of the pods that it admits.
    pub pod_security: Option<String>,
    /// What we may not do there: `patch secrets`.
    pub forbidden: Vec<String>,
    /// Whether Prometheus' operator is installed.
    pub has_monitoring: bool,
}

impl Sight {
    /// Asks.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not know us.
    pub async fn look(cluster: &Cluster) -> Result<Self> {
        let client = &cluster.client;
        let version = client.apiserver_version().await.map_err(cluster.told("ask for its version"))?;
        let nodes = Api::<Node>::all(client.clone()).list_metadata(&ListParams::default()).await.map_err(cluster.told("list the nodes"))?;
        let pools = nodes.items.iter().filter_map(|node| node.metadata.labels.as_ref()?.get(POOL_ID).cloned()).collect();
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = match namespaces.get_opt(&cluster.namespace).await {
            Ok(namespace) => namespace,
            // Whoever may use a namespace need not be able to look at it.
            Err(error) if problem::status(&error).is_some_and(|status| status.code == 403) => Some(Namespace::default()),
            Err(error) => return Err(cluster.told("read the namespace")(error)),
        };
        let mut wanted: Vec<_> = NEEDED.to_vec();
        if namespace.is_none() {
            wanted.push(("", "namespaces", "create"));
        }
        let asked = try_join_all(wanted.into_iter().map(async |(group, resource, verb)| {
            let may = may(cluster, group, resource, verb).await?;
            anyhow::Ok((!may).then(|| format!("{verb} {resource}")))
        }))
        .await?;
        let groups = client.list_api_groups().await.map_err(cluster.told("list its APIs"))?;
        Ok(Self {
            server: cluster.access.server(),
            version: version.git_version,
            nodes: nodes.items.len(),
            pools,
            has_namespace: namespace.is_some(),
            pod_security: namespace.and_then(|namespace| namespace.metadata.labels?.remove(POD_SECURITY)),
            forbidden: asked.into_iter().flatten().collect(),
            has_monitoring: groups.groups.iter().any(|group| group.name == "monitoring.coreos.com"),
        })
    }

    /// Whether the nodes are of these pools; one is enough, because pools come and go.
    #[must_use]
    pub fn is_of(&self, pools: &[&str]) -> bool {
        pools.iter().any(|pool| self.pools.contains(*pool))
    }
}

async fn may(cluster: &Cluster, group: &str, resource: &str, verb: &str) -> Result<bool> {
    let attributes = ResourceAttributes {
        namespace: Some(cluster.namespace.clone()).filter(|_| !CLUSTER_WIDE.contains(&resource)),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(cluster.told("ask what it may do"))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
