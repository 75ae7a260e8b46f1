//! The cluster's part: Secrets, what the proxy reads, the one-shot Job, the proxy itself, and its way to every node.
//!
//! Looked at as a whole before anything is written: a field of another manager's stops it there. What is as it should be is not written, so a run
//! that has nothing to do leaves not even a Lease behind.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use secrecy::SecretString;
use serde_json::Value;

use crate::cluster::objects::{self, Change};
use crate::cluster::{Cluster, MANAGER, job, rollout, vault};
use crate::database;
use crate::facts::Facts;
use crate::keyring::{Entry, Keyring};
use crate::observe::Observed;
use crate::plan::ClusterPlan;
use crate::progress::Progress;
use crate::render::{self, secrets};
use crate::spec::Spec;

/// What marks the proxy's objects as ours: those that are no longer wanted are found by it.
pub(super) const OURS: &str = "app.kubernetes.io/managed-by=doks-harbor,app.kubernetes.io/name=redis-tls-proxy";
/// Until the one-shot Job has ended.
const JOB: Duration = Duration::from_secs(11 * 60);

/// What to do it with.
pub struct Deploy<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// What is wanted.
    pub spec: &'a Spec,
    /// Where the Secrets come from.
    pub keyring: &'a Keyring,
    /// What people see meanwhile.
    pub progress: &'a Progress,
    /// How long the proxy may make no progress.
    pub patience: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Deployed {
    /// The proxy is ready on so many.
    pub nodes: i32,
    /// What the Job found, if it ran.
    pub database: Option<String>,
}

/// What would change. Writes nothing. Without `facts` the databases are still to be made, and little can be told.
///
/// # Errors
/// When the cluster does not answer, or an object is not valid.
pub async fn look(cluster: &Cluster, spec: &Spec, facts: Option<&Facts>, keyring: Option<&Keyring>) -> Result<ClusterPlan> {
    let mut plan = ClusterPlan { namespace: cluster.namespace.clone(), ..ClusterPlan::default() };
    plan.creates_namespace = !has_namespace(cluster).await?;
    if let Some(keyring) = keyring {
        match vault::differs(vault::Vault::read(cluster).await?.as_ref(), keyring) {
            Ok(sync) => plan.keyring = sync.push.iter().map(|entry| entry.file()).collect(),
            Err(why) => plan.refusals.push(format!("{why:#}")),
        }
    }
    let Some(facts) = facts else {
        plan.later.push("the proxy on every node, once the databases are there".to_owned());
        return Ok(plan);
    };
    let wanted = Wanted::of(spec, facts, keyring)?;
    if !wanted.incomplete.is_empty() {
        plan.later.push(format!("the Secrets {}, once the keyring has what they hold", wanted.incomplete.join(", ")));
    }
    let seen = objects::look(cluster, &wanted.objects).await?;
    plan.changes = seen.changes;
    plan.changes.extend(objects::unwanted(cluster, &wanted.objects, OURS).await?);
    plan.refusals.extend(encrypted_otherwise(spec, &plan.changes));
    plan.refusals.extend(seen.conflicts);
    plan.notes.extend(seen.unknown_kinds.iter().map(|kind| format!("{kind}: this cluster does not know the kind, so it is left out")));
    plan.job = match job::state(cluster, &render::job::name(facts)).await? {
        job::State::Succeeded => {
            if job::is_secret_left(cluster, render::job::SECRET).await? {
                plan.changes.push(objects::removal("v1", "Secret", render::job::SECRET, "left by a run that was killed"));
            }
            None
        }
        job::State::Failed(why) => Some(format!("{}; the last one failed: {why}", what(facts))),
        job::State::Absent | job::State::Unfinished => Some(what(facts)),
    };
    Ok(plan)
}

/// Makes it so, and waits until the proxy is ready on every node.
///
/// # Errors
/// The first object that cannot be applied; a field of another manager's, before anything is written; the reason why the Job or a pod cannot start;
/// [`rollout::Late`] and [`job::Late`] when waiting was all that was left.
///
/// # Cancel safety
/// What was applied stays; the next run goes on.
pub async fn converge(deploy: &Deploy<'_>, facts: &Facts, observed: &Observed, may_write: bool) -> Result<Deployed> {
    let Deploy { cluster, spec, keyring, .. } = deploy;
    let plan = look(cluster, spec, Some(facts), Some(keyring)).await?;
    if !plan.refusals.is_empty() {
        bail!("{}", plan.refusals.join("\n"));
    }
    if !plan.later.is_empty() {
        bail!("the keyring lacks what is needed: {}; run `doks-harbor apply` again", plan.later.join(", "));
    }
    if !plan.is_empty() && !may_write {
        bail!("the cluster has changed since it was looked at; run again to see what is to be done now");
    }
    let task = deploy.progress.task(&format!("namespace {}", cluster.namespace));
    // The proxy itself last: all that it reads is there when it starts.
    let (last, first): (Vec<&Change>, Vec<_>) = plan.changes.iter().partition(|change| change.kind == "DaemonSet");
    for change in &first {
        task.say(&format!("{} {} {}", change.action.mark(), change.kind, change.name));
        objects::carry_out(cluster, change).await?;
    }
    task.done(if first.is_empty() { "as it should be" } else { "applied" });
    let database = match plan.job {
        Some(_) => Some(prepare(deploy, facts, observed).await?),
        None => None,
    };
    for change in last {
        objects::carry_out(cluster, change).await?;
    }
    let task = deploy.progress.task("the proxy on every node");
    let nodes = rollout::wait(cluster, secrets::PROXY, deploy.patience, |says| task.say(says)).await?;
    task.done(&format!("ready on {nodes} nodes"));
    Ok(Deployed { nodes, database })
}

/// Puts the keyring and the Secrets that are made from it into the cluster, and nothing else: for `rotate`. Returns the names of the Secrets that
/// changed.
///
/// # Errors
/// As [`converge`].
pub async fn refresh_secrets(cluster: &Cluster, spec: &Spec, keyring: &Keyring) -> Result<Vec<String>> {
    vault::push(cluster, keyring).await?;
    let entries = keyring.entries()?;
    let (wanted, _) = secrets::objects(spec, |entry| entries.get(&entry).cloned());
    let seen = objects::look(cluster, &wanted).await?;
    if !seen.conflicts.is_empty() {
        bail!("{}", seen.conflicts.join("\n"));
    }
    if let Some(why) = encrypted_otherwise(spec, &seen.changes) {
        bail!("{why}");
    }
    let mut changed = Vec::new();
    // One that is not there is made by `apply`, which knows whether it is wanted.
    for change in seen.changes.iter().filter(|change| change.action == objects::Action::Change) {
        objects::carry_out(cluster, change).await?;
        changed.push(change.name.clone());
    }
    Ok(changed)
}

/// The key that Harbor encrypts with never changes: where the cluster has another one than the keyring, one of them reads nothing, and a person
/// has to say which.
fn encrypted_otherwise(spec: &Spec, changes: &[Change]) -> Option<String> {
    let name = secrets::Use::Encryption.name(&spec.harbor.release);
    let is_it = |change: &Change| {
        let is_other = |line: &String| line == "data.secretKey: another value";
        change.action == objects::Action::Change && change.kind == "Secret" && change.name == name && change.lines.iter().any(is_other)
    };
    let file = Entry::HarborSecretKey.file();
    changes.iter().any(is_it).then(|| {
        format!(
            "the cluster's Secret {name} holds another secretKey than the keyring's {file}, and what Harbor has encrypted in its database can be \
             read with one of them alone: if Harbor has been running with the cluster's, write that into {file} of the keyring; if that of the \
             keyring is the right one, delete the Secret {name}; then run again"
        )
    })
}

/// Makes the namespace where it is missing. It is marked as ours, and stays whatever else is deleted.
///
/// # Errors
/// When it may not be made.
pub async fn ensure_namespace(cluster: &Cluster) -> Result<()> {
    if has_namespace(cluster).await? {
        return Ok(());
    }
    let labels = [("app.kubernetes.io/managed-by", MANAGER), ("app.kubernetes.io/part-of", "harbor")];
    let metadata = ObjectMeta {
        name: Some(cluster.namespace.clone()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match Api::<Namespace>::all(cluster.client.clone()).create(&how, &namespace).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(|_| ()).map_err(cluster.told(&format!("make the namespace {}", cluster.namespace))),
    }
}

/// Whether it is there; who may not look at it has one.
///
/// # Errors
/// When the cluster does not answer.
pub async fn has_namespace(cluster: &Cluster) -> Result<bool> {
    match Api::<Namespace>::all(cluster.client.clone()).get_metadata_opt(&cluster.namespace).await {
        Ok(found) => Ok(found.is_some()),
        // Whoever may use a namespace need not be able to look at it.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(true),
        Err(error) => Err(cluster.told("read the namespace")(error)),
    }
}

/// All objects that are wanted, in the order in which they are applied.
struct Wanted {
    objects: Vec<Value>,
    /// Secrets for which the keyring lacks something.
    incomplete: Vec<String>,
}

impl Wanted {
    fn of(spec: &Spec, facts: &Facts, keyring: Option<&Keyring>) -> Result<Self> {
        let entries = keyring.map(Keyring::entries).transpose()?.unwrap_or_default();
        let (mut objects, incomplete) = secrets::objects(spec, |entry| entries.get(&entry).cloned());
        objects.extend(render::objects(spec, facts).map_err(|problems| anyhow!("{}", problems.join("\n")))?);
        Ok(Self { objects, incomplete })
    }
}

fn what(facts: &Facts) -> String {
    format!("{} gets what PostgreSQL 15 and newer ask for; both servers are proved to work from inside", facts.postgres.user)
}

/// The one-shot Job.
async fn prepare(deploy: &Deploy<'_>, facts: &Facts, observed: &Observed) -> Result<String> {
    let task = deploy.progress.task("database, from inside");
    let (admin, password) = administrator(observed)?;
    let objects = render::objects(deploy.spec, facts).map_err(|problems| anyhow!("{}", problems.join("\n")))?;
    let proxy = objects.iter().find(|object| object.get("kind").and_then(Value::as_str) == Some("DaemonSet"));
    let manifest =
        render::job::job(deploy.spec, facts, proxy.context("the manifests have no DaemonSet")?, &admin).map_err(|why| anyhow!(why))?;
    let once = job::OneShot {
        name: render::job::name(facts),
        manifest,
        secret: render::job::SECRET,
        passwords: BTreeMap::from([(render::job::PASSWORD, password)]),
    };
    let words = job::run(deploy.cluster, &once, JOB, deploy.patience, |says| task.say(says)).await?;
    let told = words.map_or_else(
        || "ended well, and left no report".to_owned(),
        |words| serde_json::from_str::<database::Report>(&words).map_or(words, |report| report.line()),
    );
    task.done(&told);
    Ok(told)
}

/// DigitalOcean's own user, who owns the databases.
fn administrator(observed: &Observed) -> Result<(String, SecretString)> {
    let there = observed.postgres.online().context("PostgreSQL is not there yet: run `doks-harbor apply`")?;
    let to = there.private_connection.as_ref().or(there.connection.as_ref()).context("DigitalOcean does not say where PostgreSQL is")?;
    let password = to.password.clone().filter(|password| !secrecy::ExposeSecret::expose_secret(password).is_empty());
    let cure = "the token may not see the password of PostgreSQL's administrator: give it the scope database:view_credentials";
    Ok((to.user.clone().unwrap_or_else(|| "doadmin".to_owned()), password.context(cure)?))
}
