//! Why a pod is not what it should be, in the words of whoever stopped it. `[pure]`

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};

/// Waiting reasons that are steps, not obstacles.
const STEPS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What keeps a pod from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is on its way.
    Starting,
    /// It runs, and its own probe says no.
    NotReady,
    /// Waiting alone will hardly cure it.
    Obstacle(String),
}

/// Whether it is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Where it runs, or is to run.
#[must_use]
pub fn node(pod: &Pod) -> String {
    chosen(pod).unwrap_or_else(|| "no node".to_owned())
}

/// [`node`], once that is known.
#[must_use]
pub fn chosen(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref();
    let bound = spec.and_then(|spec| spec.node_name.clone());
    // Before it is bound, the DaemonSet's pod says in its affinity which node it is for.
    let meant = || {
        let terms = spec?.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields = terms.node_selector_terms.first()?.match_fields.as_ref()?;
        fields.first()?.values.as_ref()?.first().cloned()
    };
    bound.or_else(meant)
}

/// What keeps it from being ready.
#[must_use]
pub fn reason(pod: &Pod) -> Reason {
    let Some(status) = &pod.status else { return Reason::Starting };
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable") {
            return Reason::Obstacle(format!("no node takes it: {}", condition.message.as_deref().unwrap_or("no reason is given")));
        }
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    if let Some(why) = containers.filter_map(of_container).next() {
        return Reason::Obstacle(why);
    }
    match status.phase.as_deref() {
        Some("Failed") => {
            let parts: Vec<_> = [&status.reason, &status.message].into_iter().flatten().map(String::as_str).collect();
            Reason::Obstacle(if parts.is_empty() { "it failed".to_owned() } else { parts.join(": ") })
        }
        Some("Running") => Reason::NotReady,
        _ => Reason::Starting,
    }
}

fn of_container(container: &ContainerStatus) -> Option<String> {
    let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ContainerState { waiting, terminated, .. } = container.state.as_ref()?;
    if let Some(ended) = terminated.as_ref().filter(|ended| ended.exit_code != 0) {
        return Some(of_end(ended));
    }
    let waiting = waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| !STEPS.contains(reason))?;
    Some(match (reason, before) {
        ("CrashLoopBackOff", Some(ended)) => format!("it starts and ends again and again: {}", of_end(ended)),
        _ => match waiting.message.as_deref() {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        },
    })
}

/// Exit code, reason and last words.
#[must_use]
pub fn of_end(ended: &ContainerStateTerminated) -> String {
    let reason = ended.reason.as_deref().filter(|reason| *reason != "Error").map_or_else(String::new, |reason| format!(" ({reason})"));
    let words = ended.message.as_deref().map(str::trim).filter(|words| !words.is_empty());
    format!("exit code {}{reason}{}", ended.exit_code, words.map_or_else(String::new, |words| format!(": {words}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a literal of each test")]
    fn of(status: Value) -> Reason {
        reason(&serde_json::from_value(json!({"metadata": {"name": "x"}, "status": status})).unwrap())
    }

    #[test]
    fn the_words_are_those_of_whoever_stopped_it() {
        assert_eq!(of(json!({"phase": "Pending"})), Reason::Starting);
        assert_eq!(of(json!({"phase": "Running"})), Reason::NotReady);
        let container = |state: Value, last: Value| {
            json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": state, "lastState": last}]})
        };
        assert_eq!(of(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}))), Reason::Starting);
        let pull = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x:1\""}});
        assert_eq!(of(container(pull, json!({}))), Reason::Obstacle("ImagePullBackOff: Back-off pulling image \"x:1\"".into()));
        let crash = (
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"terminated": {"exitCode": 64, "reason": "Error", "message": "bad\n"}}),
        );
        assert_eq!(of(container(crash.0, crash.1)), Reason::Obstacle("it starts and ends again and again: exit code 64: bad".into()));
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_eq!(of(container(killed, json!({}))), Reason::Obstacle("exit code 137 (OOMKilled)".into()));
        let nowhere =
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]});
        assert_eq!(of(nowhere), Reason::Obstacle("no node takes it: 0/3 nodes".into()));
        assert_eq!(of(json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})), Reason::Obstacle("Evicted: disk".into()));
    }
}
