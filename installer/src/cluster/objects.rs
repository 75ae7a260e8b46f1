//! What would change, and the change: each object is applied server-side, dry first.
//!
//! ```text
//!   wanted ── dry run ──┬─► as it is: nothing is written
//!                       ├─► other fields: a change, told field by field
//!                       ├─► 404: to be created, or a kind that this cluster does not have
//!                       └─► 409: another manager owns a field: refused, never forced
//! ```
//!
//! The dry run lets the API server fill in its defaults and say what it would not accept, so the plan tells what `apply` will do and nothing else.
//! What a person has changed by hand with kubectl counts as drift and is changed back; what another manager applies is a conflict.

use std::fmt;

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, try_join_all};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use serde::Serialize;
use serde_json::Value;

use super::{Cluster, MANAGER, diff, problem};

/// Of those that are not in a namespace, the kinds that manifests may hold.
const CLUSTER_WIDE: [&str; 4] = ["Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"];
/// Kinds that may be taken away once they are no longer wanted: none of them holds data.
const PRUNED: [(&str, &str); 8] = [
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "DaemonSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
];

/// What is to become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is not there.
    Create,
    /// It is there, and not as it should be.
    Change,
    /// It is there, and no longer wanted.
    Remove,
}

impl Action {
    /// What is done to it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }

    /// A mark for tables.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Change => "~",
            Self::Remove => "-",
        }
    }
}

/// One object that is not as it should be.
#[derive(Clone, Serialize)]
pub struct Change {
    /// What is to become of it.
    pub action: Action,
    /// `DaemonSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Field by field; of Secrets only the keys.
    pub lines: Vec<String>,
    /// As it should be, or where it is.
    #[serde(skip)]
    object: Value,
    /// Takes back what a person has changed by hand.
    #[serde(skip)]
    by_force: bool,
}

/// Without the object: it may be a Secret.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.action.mark(), self.kind, self.name)
    }
}

/// What was seen of all that is wanted.
#[derive(Debug, Default)]
pub struct Seen {
    /// What is not as it should be, in the order in which it is applied.
    pub changes: Vec<Change>,
    /// Fields that belong to others, with the cure.
    pub conflicts: Vec<String>,
    /// Kinds that this cluster does not have.
    pub unknown_kinds: Vec<String>,
}

enum Sight {
    Same,
    Differs(Change),
    Conflict(String),
    UnknownKind(String),
}

/// Looks at all of them, dry. Writes nothing.
///
/// # Errors
/// When the cluster does not answer, or says that an object is not valid.
pub async fn look(cluster: &Cluster, wanted: &[Value]) -> Result<Seen> {
    let mut seen = Seen::default();
    for sight in join_all(wanted.iter().map(|wanted| look_at(cluster, wanted))).await {
        match sight? {
            Sight::Same => {}
            Sight::Differs(change) => seen.changes.push(change),
            Sight::Conflict(why) => seen.conflicts.push(why),
            Sight::UnknownKind(kind) if seen.unknown_kinds.contains(&kind) => {}
            Sight::UnknownKind(kind) => seen.unknown_kinds.push(kind),
        }
    }
    Ok(seen)
}

async fn look_at(cluster: &Cluster, wanted: &Value) -> Result<Sight> {
    let (api, kind, name) = place(cluster, wanted)?;
    let what = format!("{kind} {name}");
    let (live, dry) = tokio::join!(api.get_opt(&name), try_out(&api, &name, wanted, false));
    let change = |action, lines, by_force| {
        Sight::Differs(Change { action, kind: kind.clone(), name: name.clone(), lines, object: wanted.clone(), by_force })
    };
    let (would, hands) = match dry {
        Ok(would) => (would, Vec::new()),
        Err(error) if problem::is_unknown_kind(&error) => return Ok(Sight::UnknownKind(kind)),
        // Its namespace is still to be made.
        Err(error) if problem::is_missing(&error) => return Ok(change(Action::Create, Vec::new(), false)),
        Err(error) => match problem::status(&error).and_then(conflicts) {
            Some(of) if of.iter().all(Conflict::is_by_hand) => {
                let would = try_out(&api, &name, wanted, true).await.map_err(cluster.told(&format!("try out the {what}")))?;
                (would, of.iter().map(|one| format!("{} was changed by {}", one.field, one.manager)).collect())
            }
            Some(of) => return Ok(Sight::Conflict(told(&what, &of))),
            None => return Err(cluster.told(&format!("apply the {what}"))(error)),
        },
    };
    let live = live.map_err(cluster.told(&format!("read the {what}")))?;
    let Some(live) = live else { return Ok(change(Action::Create, Vec::new(), false)) };
    let (live, would) = (serde_json::to_value(live)?, serde_json::to_value(would)?);
    let lines = diff::lines(&live, &would);
    if lines.is_empty() && owned(&live) == owned(&would) {
        return Ok(Sight::Same);
    }
    let by_force = !hands.is_empty();
    Ok(change(Action::Change, lines.into_iter().chain(hands).collect(), by_force))
}

async fn try_out(api: &Api<DynamicObject>, name: &str, wanted: &Value, by_force: bool) -> kube::Result<DynamicObject> {
    let how = PatchParams::apply(MANAGER).dry_run();
    api.patch(name, &if by_force { how.force() } else { how }, &Patch::Apply(wanted)).await
}

/// Makes it so.
///
/// # Errors
/// As the API server says; also when somebody has taken a field over since it was looked at.
pub async fn carry_out(cluster: &Cluster, change: &Change) -> Result<()> {
    let (api, kind, name) = place(cluster, &change.object)?;
    let what = format!("{kind} {name}");
    if change.action == Action::Remove {
        return remove(cluster, &api, &what, &name, None).await;
    }
    let how = PatchParams::apply(MANAGER);
    let how = if change.by_force { how.force() } else { how };
    match api.patch(&name, &how, &Patch::Apply(&change.object)).await {
        Ok(_) => Ok(()),
        Err(error) => match problem::status(&error).and_then(conflicts) {
            Some(of) => bail!("{}", told(&what, &of)),
            None => Err(cluster.told(&format!("apply the {what}"))(error)),
        },
    }
}

/// What carries these labels, is of a kind that holds no data, and is not among `wanted`.
///
/// # Errors
/// When they cannot be listed.
pub async fn unwanted(cluster: &Cluster, wanted: &[Value], labels: &str) -> Result<Vec<Change>> {
    let kinds = try_join_all(PRUNED.iter().map(async |(version, kind)| {
        let resource = resource(version, kind)?;
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        match api.list_metadata(&ListParams::default().labels(labels)).await {
            Ok(list) => Ok(list.items.into_iter().filter_map(|item| item.metadata.name).map(|name| (*version, *kind, name)).collect()),
            Err(error) if problem::is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(cluster.told(&format!("list every {kind}"))(error)),
        }
    }))
    .await?;
    let is_wanted = |kind: &str, name: &str| {
        wanted.iter().any(|object| text(object, "/kind") == Some(kind) && text(object, "/metadata/name") == Some(name))
    };
    let left = kinds.into_iter().flatten().filter(|(_, kind, name)| !is_wanted(kind, name));
    Ok(left.map(|(version, kind, name)| removal(version, kind, &name, "no longer wanted")).collect())
}

/// To be taken away.
#[must_use]
pub fn removal(version: &str, kind: &str, name: &str, why: &str) -> Change {
    let object = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    let lines = if why.is_empty() { Vec::new() } else { vec![why.to_owned()] };
    Change { action: Action::Remove, kind: kind.to_owned(), name: name.to_owned(), lines, object, by_force: false }
}

/// Deletes one object with all that it owns; that it is not there is no error. With `version` only as it was then.
pub(super) async fn remove<K>(cluster: &Cluster, api: &Api<K>, what: &str, name: &str, version: Option<String>) -> Result<()>
where
    K: Clone + serde::de::DeserializeOwned + fmt::Debug,
{
    let how = DeleteParams::background();
    let how = match version {
        Some(resource_version) => how.preconditions(Preconditions { resource_version: Some(resource_version), uid: None }),
        None => how,
    };
    match api.delete(name, &how).await {
        Ok(_) => Ok(()),
        Err(error) if problem::is_missing(&error) => Ok(()),
        Err(error) => Err(cluster.told(&format!("delete the {what}"))(error)),
    }
}

/// Where it is: its API, its kind and its name.
fn place(cluster: &Cluster, object: &Value) -> Result<(Api<DynamicObject>, String, String)> {
    let field = |pointer| text(object, pointer).with_context(|| format!("an object has no {pointer}: this build is broken"));
    let (version, kind, name) = (field("/apiVersion")?, field("/kind")?, field("/metadata/name")?);
    let resource = resource(version, kind)?;
    let api = if CLUSTER_WIDE.contains(&kind) {
        Api::all_with(cluster.client.clone(), &resource)
    } else {
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
    };
    Ok((api, kind.to_owned(), name.to_owned()))
}

fn resource(version: &str, kind: &str) -> Result<ApiResource> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Ok(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// The fields that we have applied: a field whose value is right and that is not ours yet is still to be applied.
fn owned(object: &Value) -> Option<&Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array)?;
    let is_ours = |entry: &&Value| {
        text(entry, "/manager") == Some(MANAGER) && text(entry, "/operation") == Some("Apply") && entry.get("subresource").is_none()
    };
    entries.iter().find(is_ours).and_then(|entry| entry.get("fieldsV1"))
}

/// A field that another manager owns.
#[derive(Debug, PartialEq, Eq)]
struct Conflict {
    field: String,
    manager: String,
    /// It was written, not applied.
    is_update: bool,
}

impl Conflict {
    /// `kubectl edit`, `patch`, `set`, `scale`: a person's hand, which declares nothing that would last. `kubectl apply` does, by a pipeline say, and
    /// would be back with the next run; without `--server-side` it writes, too.
    fn is_by_hand(&self) -> bool {
        self.is_update && self.manager.starts_with("kubectl") && self.manager != "kubectl-client-side-apply"
    }
}

/// Whose the fields are; `None` where the refusal is about something else.
fn conflicts(status: &Status) -> Option<Vec<Conflict>> {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let found: Vec<_> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            // `conflict with "kubectl-edit" using v1 at 2026-…`; who applies is named without the rest.
            let mut parts = cause.message.splitn(3, '"');
            let manager = parts.nth(1).unwrap_or("somebody").to_owned();
            let is_update = parts.next().is_some_and(|rest| rest.contains(" using "));
            Conflict { field: cause.field.trim_start_matches('.').to_owned(), manager, is_update }
        })
        .collect();
    (status.code == 409 && !found.is_empty()).then_some(found)
}

fn told(what: &str, conflicts: &[Conflict]) -> String {
    let fields: Vec<_> = conflicts.iter().map(|one| format!("{} belongs to {:?}", one.field, one.manager)).collect();
    format!(
        "{what}: {}; nothing of others is overridden: take it out of what they apply, or take it over once by hand with `kubectl apply \
         --server-side --force-conflicts --field-manager={MANAGER}` and the rendered file",
        fields.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_the_field_and_its_owner() {
        let status: Status = serde_json::from_value(serde_json::json!({"code": 409, "reason": "Conflict", "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1 at 2026-01-01T00:00:00Z", "field": ".spec.x"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"argocd\"", "field": ".spec.y"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-client-side-apply\" using apps/v1", "field": ".spec.z"},
        ]}}))
        .unwrap();
        let found = conflicts(&status).unwrap();
        assert!(found[0].is_by_hand() && !found[1].is_by_hand() && !found[2].is_by_hand(), "{found:?}");
        assert!(told("DaemonSet x", &found[1..]).contains("spec.y belongs to \"argocd\""));
        assert_eq!(conflicts(&Status { details: None, ..status }), None);
    }
}
