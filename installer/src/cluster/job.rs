//! What runs once, inside: a Job that is made anew until it has ended well, and then stays as the record of it.
//!
//! ```text
//!   Job, suspended ─► its Secret, owned by the Job ─► Job goes on ─► last words read ─► Secret deleted
//! ```
//!
//! Its name says what it did: one of that name that has ended well is never run again. Its secret lives as long as the run; what a killed run
//! leaves is deleted by the next, and by the cluster together with the Job.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::follow::Followed;
use super::rollout::reason::{self, Reason};
use super::{Cluster, MANAGER, objects, problem, rollout};
use crate::render::secrets::encoded;

/// What waiting will hardly cure is given so long.
const OBSTACLE: Duration = Duration::from_secs(60);
/// How often it is said that nothing moves.
const LOOK: Duration = Duration::from_secs(5);

/// A Job, and the Secret that lives while it runs.
pub struct OneShot {
    /// Says what it does.
    pub name: String,
    /// `batch/v1`, without `suspend`.
    pub manifest: Value,
    /// The Secret's name.
    pub secret: &'static str,
    /// What is in it, by key.
    pub passwords: BTreeMap<&'static str, SecretString>,
}

/// How it is with a Job of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Absent,
    /// It has ended well.
    Succeeded,
    /// It has ended, and why.
    Failed(String),
    /// It runs, or was left by a run that was killed.
    Unfinished,
}

/// It has not ended and may yet.
#[derive(Debug, thiserror::Error)]
#[error("the Job {0} has not ended after {1:?}; run again to start it anew")]
pub struct Late(String, Duration);

/// How it is.
///
/// # Errors
/// When it may not be read.
pub async fn state(cluster: &Cluster, name: &str) -> Result<State> {
    let Some(job) = cluster.api::<Job>().get_opt(name).await.map_err(cluster.told(&format!("read the Job {name}")))? else {
        return Ok(State::Absent);
    };
    Ok(match ended(&job) {
        None => State::Unfinished,
        Some(Ok(())) => State::Succeeded,
        Some(Err(why)) => State::Failed(match last_end(cluster, name).await? {
            Some(end) => reason::of_end(&end),
            None => why,
        }),
    })
}

/// Runs it to its end and returns its last words (the termination message), if it left any. Whatever a former run has left is removed first.
/// `patience` is for the whole; what waiting will hardly cure is given `obstacle` at most.
///
/// # Errors
/// Why it failed, in its own last words or those of whoever kept it from starting; [`Late`].
///
/// # Cancel safety
/// Job and Secret are left, and removed by the next run.
pub async fn run(cluster: &Cluster, job: &OneShot, patience: Duration, obstacle: Duration, say: impl Fn(&str)) -> Result<Option<String>> {
    let name = &job.name;
    timeout(patience, remove(cluster, name, &say)).await.map_err(|_| Late(name.clone(), patience))??;
    objects::remove(cluster, &cluster.api::<Secret>(), "Secret of the Job", job.secret, None).await?;
    let made = make(cluster, job).await?;
    let ended = async {
        secret(cluster, job, &made).await?;
        // Not before its Secret is there.
        let go = json!({"spec": {"suspend": false}});
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        cluster.api::<Job>().patch(name, &how, &Patch::Merge(&go)).await.map_err(cluster.told(&format!("start the Job {name}")))?;
        until_ended(cluster, name, patience, obstacle.min(OBSTACLE), &say).await
    }
    .await;
    // Whatever it came to: the password is of no use any more.
    let removed = objects::remove(cluster, &cluster.api::<Secret>(), "Secret of the Job", job.secret, None).await;
    ended?;
    removed?;
    Ok(last_end(cluster, name).await?.and_then(|end| end.message).filter(|words| !words.trim().is_empty()))
}

/// Whether a run that was killed has left the Secret, while the Job came to its end without it.
///
/// # Errors
/// When it may not be read.
pub async fn is_secret_left(cluster: &Cluster, name: &str) -> Result<bool> {
    let found = cluster.api::<Secret>().get_metadata_opt(name).await.map_err(cluster.told(&format!("read the Secret {name}")))?;
    Ok(found.is_some())
}

async fn make(cluster: &Cluster, job: &OneShot) -> Result<Job> {
    let mut manifest = job.manifest.clone();
    let spec = manifest.pointer_mut("/spec").and_then(Value::as_object_mut).context("the Job has no spec: this build is broken")?;
    spec.insert("suspend".to_owned(), true.into());
    let manifest: Job = serde_json::from_value(manifest).context("the Job is none: this build is broken")?;
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    cluster.api::<Job>().create(&how, &manifest).await.map_err(cluster.told(&format!("make the Job {}", job.name)))
}

/// Owned by the Job, so that the cluster takes it away with that.
async fn secret(cluster: &Cluster, job: &OneShot, owner: &Job) -> Result<()> {
    let uid = owner.metadata.uid.as_deref().context("the Job has no uid")?;
    let data: serde_json::Map<_, _> = job.passwords.iter().map(|(key, secret)| ((*key).to_owned(), encoded(secret))).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": job.secret,
            "labels": {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": "harbor"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": uid}],
        },
        "data": data,
    });
    let written = cluster.api::<Secret>().patch(job.secret, &PatchParams::apply(MANAGER), &Patch::Apply(&object)).await;
    written.map(|_| ()).map_err(cluster.told(&format!("write the Secret {}", job.secret)))
}

/// Removes it with its pods and waits until its name is free.
async fn remove(cluster: &Cluster, name: &str, say: &impl Fn(&str)) -> Result<()> {
    let mut jobs = Followed::<Job>::named(cluster, name, "the Job");
    jobs.changed().await?;
    if jobs.objects.is_empty() {
        return Ok(());
    }
    say("removing what a former run has left");
    objects::remove(cluster, &cluster.api::<Job>(), &format!("Job {name}"), name, None).await?;
    while jobs.objects.contains_key(name) {
        jobs.changed().await?;
    }
    Ok(())
}

async fn until_ended(cluster: &Cluster, name: &str, patience: Duration, obstacle: Duration, say: &impl Fn(&str)) -> Result<()> {
    let mut jobs = Followed::<Job>::named(cluster, name, "the Job");
    let mut pods = Followed::<Pod>::labelled(cluster, &of(name), "the pods of the Job");
    jobs.changed().await?;
    pods.changed().await?;
    let begun = Instant::now();
    loop {
        let job = jobs.objects.get(name).ok_or_else(|| anyhow!("the Job {name} is gone: somebody deleted it while it was waited for"))?;
        match ended(job) {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => {
                let why = last_end(cluster, name).await?.map_or(why, |end| reason::of_end(&end));
                bail!("the Job {name} failed: {why}; run again when that is mended, it is then made anew");
            }
            None => {}
        }
        let waiting = pods.objects.values().find(|pod| !reason::is_ready(pod));
        let allowed = match waiting.map(|pod| (pod, reason::reason(pod))) {
            // One that has ended badly is followed by another, until the Job gives up.
            Some((pod, Reason::Obstacle(why))) if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending") => {
                say(&format!("on {}: {why}", reason::node(pod)));
                if begun.elapsed() >= obstacle {
                    bail!("the Job {name} cannot start: the pod on {}: {why}", reason::node(pod));
                }
                obstacle
            }
            Some((pod, Reason::Starting)) => {
                say(&reason::chosen(pod).map_or_else(|| "waiting for a node".to_owned(), |node| format!("starting on {node}")));
                patience
            }
            _ => {
                say("running");
                patience
            }
        };
        if begun.elapsed() >= allowed {
            if let Some(why) = rollout::warning(cluster, "Job", name).await {
                bail!("the Job {name} has not ended after {allowed:?}: {why}");
            }
            return Err(Late(name.to_owned(), allowed).into());
        }
        tokio::select! {
            changed = jobs.changed() => changed?,
            changed = pods.changed() => changed?,
            () = tokio::time::sleep(LOOK.min(allowed.saturating_sub(begun.elapsed()))) => {}
        }
    }
}

fn of(name: &str) -> String {
    format!("batch.kubernetes.io/job-name={name}")
}

/// Well, badly, or not yet.
fn ended(job: &Job) -> Option<Result<(), String>> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    if holds("Complete").is_some() {
        return Some(Ok(()));
    }
    let failed = holds("Failed")?;
    let parts: Vec<_> = [&failed.reason, &failed.message].into_iter().flatten().map(String::as_str).collect();
    Some(Err(parts.join(": ")))
}

/// How the last of its containers ended: one that ended well before one that did not.
async fn last_end(cluster: &Cluster, name: &str) -> Result<Option<ContainerStateTerminated>> {
    let pods = cluster.api::<Pod>().list(&ListParams::default().labels(&of(name))).await;
    let pods = match pods {
        Err(error) if problem::is_missing(&error) => return Ok(None),
        pods => pods.map_err(cluster.told("list the pods of the Job"))?,
    };
    let ends = pods.items.into_iter().filter_map(|pod| {
        let status = pod.status?.container_statuses?.into_iter().next()?;
        status.state?.terminated
    });
    Ok(ends.max_by_key(|end| (end.exit_code == 0, end.finished_at.as_ref().map(|time| time.0))))
}
