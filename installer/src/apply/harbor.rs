//! Harbor itself: by helm, once the proxy serves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::Value;

use super::TimedOut;
use crate::cluster::Cluster;
use crate::cluster::rollout::reason::{Reason, is_ready, reason};
use crate::helm::{Change, Chart, Failed, Helm, change};
use crate::progress::Progress;
use crate::spec::Spec;

/// Between two looks at Harbor's pods, while helm is silent.
const LOOK: Duration = Duration::from_secs(3);
/// Pods without the label that the chart gives are shown by their names.
const COMPONENT: &str = "component";

/// What an installation of Harbor works with.
pub struct Harbor<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// By what.
    pub helm: &'a Helm,
    /// What is wanted.
    pub spec: &'a Spec,
    /// From where.
    pub chart: Chart,
    /// Rendered; the one with secrets last, where the chart needs one.
    pub values: Vec<PathBuf>,
    /// What people see meanwhile.
    pub progress: &'a Progress,
    /// Until everything serves.
    pub patience: Duration,
}

/// What helm would do to come to these values; nothing when it is done.
///
/// # Errors
/// When helm cannot tell, or data would suffer.
pub async fn look(helm: &Helm, spec: &Spec, values: &Value) -> Result<Option<Change>> {
    let name = &spec.harbor.release;
    let there = match helm.release(name).await? {
        Some(release) => Some((release, helm.values(name).await?)),
        None => None,
    };
    change(spec.harbor.chart, values, there.as_ref().map(|(release, values)| (release, values)))
}

impl Harbor<'_> {
    /// Has helm do it, and waits until every pod of Harbor serves.
    ///
    /// # Errors
    /// [`TimedOut`] when waiting was all that was left, with what was waited for; what helm says otherwise. A chart that is not Harbor's, or of
    /// another version than the values were rendered for, is refused.
    ///
    /// # Cancel safety
    /// Dropped, helm is told to stop, and marks the release as failed: the next run goes on.
    pub async fn converge(&self) -> Result<()> {
        let (release, version) = (&self.spec.harbor.release, self.spec.harbor.chart.to_string());
        let task = self.progress.task(&format!("Harbor {release}"));
        task.say("the chart");
        let (name, found) = self.helm.chart(&self.chart, &version).await?;
        if name != "harbor" || found != version {
            bail!(
                "{} is {name} {found}, and the values are for harbor {version}: write harbor.chart: {found}, or give the right one",
                self.chart
            );
        }
        let mut upgrade = self.helm.upgrade(release, &self.chart, &version, &self.values, self.patience)?;
        let watching = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Ok(pods) = self.pods().await {
                    task.say(&summary(&pods));
                }
            }
        };
        let ended = tokio::select! {
            ended = upgrade.finish() => ended,
            never = watching => never,
        };
        match ended {
            Ok(()) => {
                task.done(&summary(&self.pods().await?));
                Ok(())
            }
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// Of this release, the chart marks them so in every version.
    async fn pods(&self) -> Result<Vec<Pod>> {
        let selector = format!("release={}", self.spec.harbor.release);
        let pods = self.cluster.api::<Pod>().list(&ListParams::default().labels(&selector)).await;
        Ok(pods.context("Harbor's pods cannot be listed")?.items)
    }

    /// With what its pods wait for: helm itself says only that it waited.
    async fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let pods = self.pods().await.map(|pods| summary(&pods)).unwrap_or_default();
        match error.downcast_ref() {
            Some(Failed::Late(_)) => TimedOut { what: format!("Harbor does not serve yet ({pods})"), after: self.patience }.into(),
            _ => error.context(format!("Harbor ({pods})")),
        }
    }
}

/// `core 1/2: ImagePullBackOff; portal 2/2`: those that are not ready first.
fn summary(pods: &[Pod]) -> String {
    let mut components: BTreeMap<&str, (usize, usize, Option<String>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| phase(pod) != "Succeeded" && pod.metadata.deletion_timestamp.is_none()) {
        let labels = pod.metadata.labels.as_ref();
        let name = labels.and_then(|labels| labels.get(COMPONENT)).or(pod.metadata.name.as_ref()).map_or("?", String::as_str);
        let (ready, all, why) = components.entry(name).or_default();
        *all += 1;
        if is_ready(pod) {
            *ready += 1;
        } else {
            *why = why.take().or_else(|| obstacle(pod));
        }
    }
    if components.is_empty() {
        return "no pods yet".to_owned();
    }
    let mut parts: Vec<_> = components.into_iter().collect();
    parts.sort_by_key(|(_, (ready, all, _))| ready == all);
    let part = |(name, (ready, all, why)): (&str, (usize, usize, Option<String>))| match why {
        Some(why) => format!("{name} {ready}/{all}: {why}"),
        None => format!("{name} {ready}/{all}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join("; ")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn obstacle(pod: &Pod) -> Option<String> {
    match reason(pod) {
        Reason::Obstacle(why) => Some(why),
        Reason::Starting | Reason::NotReady => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(component: &str, phase: &str, ready: &str, waiting: Option<&str>) -> Pod {
        let state = json!({"waiting": waiting.map(|reason| json!({"reason": reason}))});
        serde_json::from_value(json!({
            "metadata": {"name": format!("harbor-{component}-x"), "labels": {"component": component}},
            "status": {
                "phase": phase,
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "it", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_ready_is_told_first_and_why() {
        let pods = [
            pod("core", "Running", "True", None),
            pod("core", "Pending", "False", Some("ImagePullBackOff")),
            pod("portal", "Running", "True", None),
            pod("registry", "Running", "False", None),
            pod("migration", "Succeeded", "False", None),
        ];
        let told = summary(&pods);
        assert!(
            told.starts_with("core 1/2: ") && told.contains("ImagePullBackOff; registry 0/1") && told.ends_with("; portal 1/1"),
            "{told}"
        );
        assert_eq!(summary(&[]), "no pods yet");
    }
}
