//! The cluster's part of `destroy`: what is only for the proxy goes; what Harbor's data cannot be read without stays as long as the data does.

use anyhow::Result;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{ListParams, ObjectMeta};

use super::cluster::OURS;
use crate::cluster::objects::{self, Change, removal};
use crate::cluster::{Cluster, MANAGER, vault};
use crate::progress::Progress;
use crate::render::{job, secrets};
use crate::spec::Spec;

/// How many pods of Harbor's release there are.
///
/// # Errors
/// When they cannot be listed.
pub async fn harbor_pods(cluster: &Cluster, release: &str) -> Result<usize> {
    let mut names = std::collections::BTreeSet::new();
    // Charts of different ages mark them differently.
    for label in ["release", "app.kubernetes.io/instance"] {
        let list = ListParams::default().labels(&format!("{label}={release}"));
        let pods = cluster.api::<Pod>().list_metadata(&list).await.map_err(cluster.told("list Harbor's pods"))?;
        names.extend(pods.items.into_iter().filter_map(|pod| pod.metadata.name));
    }
    Ok(names.len())
}

/// All that is only for the proxy and for Harbor's connection to it: with Secrets that can be made from the keyring again.
///
/// # Errors
/// When it cannot be listed.
pub async fn look(cluster: &Cluster, spec: &Spec) -> Result<Vec<Change>> {
    let mut found = objects::unwanted(cluster, &[], OURS).await?;
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name={}", job::SECRET));
    let jobs = cluster.api::<Job>().list_metadata(&labelled).await.map_err(cluster.told("list the Jobs"))?;
    found.extend(jobs.items.into_iter().filter_map(|job| job.metadata.name).map(|name| removal("batch/v1", "Job", &name, "")));
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=doks-harbor");
    let there = cluster.api::<Secret>().list_metadata(&ours).await.map_err(cluster.told("list the Secrets"))?;
    let there: Vec<_> = there.items.into_iter().filter_map(|secret| secret.metadata.name).collect();
    let made = secrets::table(spec).into_iter().map(|secret| secret.name).chain([job::SECRET.to_owned()]);
    found.extend(made.filter(|name| there.contains(name)).map(|name| removal("v1", "Secret", &name, "")));
    if is_class_ours_alone(cluster).await {
        found.push(removal("scheduling.k8s.io/v1", "PriorityClass", secrets::PROXY, ""));
    }
    Ok(found)
}

/// Whether the proxy's PriorityClass, which is the whole cluster's, is of no use to proxies in other namespaces. Who may not look leaves it.
async fn is_class_ours_alone(cluster: &Cluster) -> bool {
    let class = Api::<PriorityClass>::all(cluster.client.clone()).get_metadata_opt(secrets::PROXY).await;
    let class = class.ok().flatten().and_then(|class| class.metadata.labels);
    if class.is_none_or(|labels| labels.get("app.kubernetes.io/managed-by").map(String::as_str) != Some(MANAGER)) {
        return false;
    }
    let named = ListParams::default().labels("app.kubernetes.io/name=redis-tls-proxy");
    let is_here = |metadata: &ObjectMeta| metadata.namespace.as_ref() == Some(&cluster.namespace);
    let sets = Api::<DaemonSet>::all(cluster.client.clone()).list_metadata(&named).await;
    let deployments = Api::<Deployment>::all(cluster.client.clone()).list_metadata(&named).await;
    sets.is_ok_and(|sets| sets.items.iter().all(|set| is_here(&set.metadata)))
        && deployments.is_ok_and(|all| all.items.iter().all(|one| is_here(&one.metadata)))
}

/// Takes them away.
///
/// # Errors
/// The first that cannot be deleted.
pub async fn remove(cluster: &Cluster, progress: &Progress, what: &[Change]) -> Result<()> {
    let task = progress.task(&format!("namespace {}", cluster.namespace));
    for change in what {
        task.say(&format!("- {} {}", change.kind, change.name));
        objects::carry_out(cluster, change).await?;
    }
    task.done("the proxy is gone");
    Ok(())
}

/// Deletes the keyring's home: only when nothing is left that could be read with it.
///
/// # Errors
/// When it cannot be deleted.
pub async fn forget_keyring(cluster: &Cluster) -> Result<()> {
    objects::carry_out(cluster, &removal("v1", "Secret", vault::NAME, "")).await
}
