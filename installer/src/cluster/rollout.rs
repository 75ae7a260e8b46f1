//! A DaemonSet on its way to every node: watched until each has a ready pod of the newest kind, or until nothing moves any more and there is a
//! reason.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use tokio::time::{Instant, timeout};

use super::Cluster;
use super::follow::Followed;

pub mod reason;

use reason::Reason;

/// What waiting will hardly cure is given so long, or the caller's patience where that is shorter.
const OBSTACLE: Duration = Duration::from_secs(60);
/// How often it is said that nothing moves, and events are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Of a log, as many lines.
const LOG_LINES: i64 = 5;
/// So many nodes are named.
const MOST_NAMED: usize = 3;
/// The label by which a DaemonSet tells its pods' kinds apart.
const REVISION: &str = "controller-revision-hash";

/// It has not come to its end and may yet: there is no reason why it should not.
#[derive(Debug, thiserror::Error)]
#[error("the DaemonSet {name} is ready on {ready} of {nodes} nodes, and for {after:?} no other has become ready; {says}")]
pub struct Late {
    name: String,
    ready: usize,
    nodes: i32,
    after: Duration,
    says: String,
}

/// Waits until every node has a ready pod of the newest kind; `say` is told how far it is. Returns the number of nodes.
///
/// `patience` is for the time without any progress, not for the whole: a DaemonSet that goes from node to node takes longer on more nodes.
///
/// # Errors
/// The reason of the first pod that cannot start, or why there are no pods; [`Late`] when there is no reason but time.
///
/// # Cancel safety
/// It only looks.
pub async fn wait(cluster: &Cluster, name: &str, patience: Duration, say: impl Fn(&str)) -> Result<i32> {
    let mut sets = Followed::<DaemonSet>::named(cluster, name, "the DaemonSet of the proxy");
    sets.changed().await?;
    let selector = sets.objects.get(name).map(selector).unwrap_or_default();
    let mut pods = Followed::<Pod>::labelled(cluster, &selector, "the pods of the proxy");
    pods.changed().await?;
    let (mut best, mut since, mut revision) = (0, Instant::now(), (0, None));
    loop {
        let Some(set) = sets.objects.get(name) else { bail!("the DaemonSet {name} is gone: somebody deleted it while it was waited for") };
        let state = State::of(set);
        if state.generation != revision.0 && state.is_observed {
            revision = (state.generation, newest(cluster, &selector).await);
            // Those of the kind before do not count for this one.
            (best, since) = (0, Instant::now());
        }
        let look = Look::at(state, &pods.objects, revision.1.as_deref());
        if look.state.is_observed && look.state.nodes == 0 {
            bail!(
                "no node of the cluster takes the DaemonSet {name}: proxy.node_pools (or the DaemonSet's affinity) matches none of them, or \
                 the cluster has none; `kubectl get nodes --show-labels` shows their labels"
            );
        }
        if look.is_done() {
            return Ok(look.state.nodes);
        }
        if look.ready > best {
            (best, since) = (look.ready, Instant::now());
        }
        say(&look.progress());
        let allowed = if look.obstacle.is_some() { patience.min(OBSTACLE) } else { patience };
        if since.elapsed() >= allowed {
            return Err(stuck(cluster, name, &look, since.elapsed()).await);
        }
        tokio::select! {
            changed = sets.changed() => changed?,
            changed = pods.changed() => changed?,
            () = tokio::time::sleep(LOOK.min(allowed.saturating_sub(since.elapsed()))) => {}
        }
    }
}

/// Of a DaemonSet's own words.
struct State {
    generation: i64,
    is_observed: bool,
    nodes: i32,
    updated: i32,
    available: i32,
}

impl State {
    fn of(set: &DaemonSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        let generation = set.metadata.generation.unwrap_or(0);
        Self {
            generation,
            is_observed: status.observed_generation.unwrap_or(-1) >= generation,
            nodes: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or(0),
            available: status.number_available.unwrap_or(0),
        }
    }
}

/// How it is at one moment.
struct Look<'a> {
    state: State,
    /// Pods of the newest kind that are ready.
    ready: usize,
    /// Those that are not.
    waiting: Vec<&'a Pod>,
    /// The first of them that has a reason.
    obstacle: Option<(&'a Pod, String)>,
}

impl<'a> Look<'a> {
    /// Without a revision all pods count.
    fn at(state: State, pods: &'a BTreeMap<String, Pod>, revision: Option<&str>) -> Self {
        let hash = |pod: &'a Pod| pod.metadata.labels.as_ref()?.get(REVISION).map(String::as_str);
        let newest = pods.values().filter(|pod| revision.is_none() || hash(pod) == revision);
        let (ready, waiting): (Vec<_>, Vec<_>) = newest.partition(|pod| reason::is_ready(pod));
        let obstacle = waiting.iter().find_map(|pod| match reason::reason(pod) {
            Reason::Obstacle(why) => Some((*pod, why)),
            Reason::Starting | Reason::NotReady => None,
        });
        Self { state, ready: ready.len(), waiting, obstacle }
    }

    fn covers_all(&self) -> bool {
        usize::try_from(self.state.nodes).is_ok_and(|nodes| self.ready >= nodes)
    }

    fn is_done(&self) -> bool {
        let State { is_observed, nodes, updated, available, .. } = self.state;
        is_observed && nodes > 0 && updated >= nodes && available >= nodes && self.covers_all()
    }

    fn progress(&self) -> String {
        if !self.state.is_observed {
            return "waiting for the cluster to take note of it".to_owned();
        }
        let mut named: Vec<_> = self.waiting.iter().take(MOST_NAMED).map(|pod| describe(pod)).collect();
        if self.waiting.len() > MOST_NAMED {
            named.push(format!("{} more", self.waiting.len() - MOST_NAMED));
        }
        let named = if named.is_empty() { String::new() } else { format!("; {}", named.join(", ")) };
        format!("{} of {} nodes ready{named}", self.ready, self.state.nodes)
    }
}

fn selector(set: &DaemonSet) -> String {
    let labels = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The newest kind of pods; `None` where that may not be asked: then all count.
async fn newest(cluster: &Cluster, selector: &str) -> Option<String> {
    let all = cluster.api::<ControllerRevision>().list(&ListParams::default().labels(selector)).await.ok()?;
    let newest = all.items.into_iter().max_by_key(|one| one.revision)?;
    newest.metadata.labels?.remove(REVISION)
}

fn describe(pod: &Pod) -> String {
    let node = reason::node(pod);
    match reason::reason(pod) {
        Reason::Starting => format!("starting on {node}"),
        Reason::NotReady => format!("running on {node}, not ready"),
        Reason::Obstacle(why) => format!("on {node}: {why}"),
    }
}

/// Nothing moves: the best reason that can be had.
async fn stuck(cluster: &Cluster, name: &str, look: &Look<'_>, after: Duration) -> anyhow::Error {
    let (ready, nodes, after) = (look.ready, look.state.nodes, Duration::from_secs(after.as_secs()));
    let of = format!("the DaemonSet {name} is ready on {ready} of {nodes} nodes, and no further");
    let late = |says: &str| anyhow::Error::from(Late { name: name.to_owned(), ready, nodes, after, says: says.to_owned() });
    if let Some((pod, why)) = &look.obstacle {
        let log = last_words(cluster, pod).await;
        return anyhow!("{of}: the pod on {}: {why}{log}", reason::node(pod));
    }
    let Some(pod) = look.waiting.first() else {
        if look.covers_all() {
            return late(
                "its pods are ready, and not yet for as long as they have to be to count (minReadySeconds); run again to go on waiting",
            );
        }
        // No pod is there for a node: whoever makes them is refused.
        return match warning(cluster, "DaemonSet", name).await {
            Some(why) => anyhow!("{of}: its pods are not made: {why}"),
            None => late("the cluster makes no more pods, and does not say why; run again, or see `kubectl describe daemonset`"),
        };
    };
    if let Some(why) = warning(cluster, "Pod", pod.metadata.name.as_deref().unwrap_or_default()).await {
        return anyhow!("{of}: the pod on {}: {why}{}", reason::node(pod), last_words(cluster, pod).await);
    }
    if reason::reason(pod) == Reason::NotReady {
        let log = last_words(cluster, pod).await;
        return anyhow!("{of}: the pod on {} runs and does not become ready{log}", reason::node(pod));
    }
    late(&format!("{}; run again to go on waiting", describe(pod)))
}

/// What the cluster has complained of last, about an object.
pub(super) async fn warning(cluster: &Cluster, kind: &str, name: &str) -> Option<String> {
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    let events = cluster.api::<Event>().list(&ListParams::default().fields(&fields)).await.ok()?;
    let last = events
        .items
        .into_iter()
        .max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0).or_else(|| event.event_time.as_ref().map(|time| time.0)))?;
    let reason = last.reason.unwrap_or_default();
    Some(last.message.map_or_else(|| reason.clone(), |message| format!("{reason}: {message}")))
}

/// The end of its log, where it can be had: of the container that ended, else of the one that runs.
pub(super) async fn last_words(cluster: &Cluster, pod: &Pod) -> String {
    let Some(name) = &pod.metadata.name else { return String::new() };
    for previous in [true, false] {
        let params = LogParams { tail_lines: Some(LOG_LINES), previous, ..LogParams::default() };
        // A kubelet that is gone answers late or never, and the reason does without.
        if let Ok(Ok(log)) = timeout(Duration::from_secs(5), cluster.api::<Pod>().logs(name, &params)).await
            && !log.trim().is_empty()
        {
            return format!(
                "; its last words:\n{}",
                log.trim_end().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
            );
        }
    }
    String::new()
}
