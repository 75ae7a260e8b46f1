//! The bucket, with nothing but the API's token: there is no API for buckets, only for keys.
//!
//! ```text
//!   temporary key (everything) ─► bucket ─► claim ─► life cycle ─► key for this bucket ─► keyring ─► proof ─► temporary key deleted
//! ```
//!
//! The temporary key is deleted whatever happens: at the end, on an error, on Ctrl-C ([`Temporary`]); if the process is killed, by the next run.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Run;
use crate::digitalocean::{Client, Grant, NewSpacesKey, SpacesKey};
use crate::keyring::Entry;
use crate::names::Names;
use crate::observe::{Observed, own_keys};
use crate::plan::{Item, Step};
use crate::progress::Task;
use crate::spaces::{Found, Keys, Made, OWNER, Spaces};

/// Harbor finishes its uploads within hours.
const ABORT_UPLOADS_AFTER_DAYS: u32 = 7;

/// The name of the temporary key, from before it is made until it is gone: for whoever ends the run early.
#[derive(Debug, Default)]
pub struct Temporary(Mutex<Option<String>>);

impl Temporary {
    fn set(&self, name: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Deletes every key of that name, if there may be one: also one whose creation was never answered.
    ///
    /// # Errors
    /// With its public half, so that it can be deleted by hand.
    pub async fn remove(&self, client: &Client) -> Result<()> {
        let name = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(name) = name else { return Ok(()) };
        let cure = "run `doks-harbor apply` again, or delete it in the control panel";
        let left = client.spaces_keys(&name).await;
        for key in
            left.with_context(|| format!("whether the temporary Spaces key {name}, which may do everything, is gone is not known: {cure}"))?
        {
            let access_key = &key.access_key;
            let what = || format!("the temporary Spaces key {access_key}, which may do everything, is still there: {cure}");
            client.delete_spaces_key(access_key).await.with_context(what)?;
        }
        self.set(None);
        Ok(())
    }
}

/// Who owns a bucket: written once, below Harbor's own names.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Id of the DOKS cluster.
    pub(super) cluster: String,
    /// Whose keyring holds the key.
    keyring: String,
}

impl Claim {
    pub(super) async fn read(spaces: &Spaces, bucket: &str) -> Result<Option<Self>> {
        Ok(spaces.read(bucket, OWNER).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

pub(super) async fn converge(run: &Run<'_>, observed: &Observed, item: &Item) -> Result<()> {
    if item.steps.is_empty() {
        return Ok(());
    }
    let task = run.progress.task(&format!("{} {}", item.kind, item.name));
    for step in &item.steps {
        task.say(&step.to_string());
        match step {
            Step::MakeBucket { bucket, region, adopted } => make(run, observed, &task, bucket, region, *adopted).await?,
            Step::RemoveKey { access_key, .. } => run.client.delete_spaces_key(access_key).await?,
            _ => {}
        }
    }
    task.done("ready");
    Ok(())
}

/// A second key for the bucket, proved to work: for `rotate`.
pub(super) async fn another_key(run: &Run<'_>, task: &Task, names: &Names, bucket: &str, region: &str) -> Result<Keys> {
    let name = names.spaces_key(run.keyring.id());
    new_key(run, task, name, bucket, region).await
}

async fn make(run: &Run<'_>, observed: &Observed, task: &Task, bucket: &str, region: &str, adopted: bool) -> Result<()> {
    with_full_key(run, task, &observed.names, region, async |spaces| {
        claim_bucket(run, task, spaces, bucket, adopted, &observed.cluster.id).await?;
        let keys = if let Some(files) = &run.spec.spaces.keys {
            spaces.prove(bucket).await?;
            // Harbor uses it until it is told of the user's own.
            if let Some(ours) = &observed.spaces.retiring {
                run.keyring.put(Entry::SpacesRetiringKey, &ours.as_str().into())?;
            }
            own_keys(files)?
        } else {
            let keys = scoped_key(run, observed, task, bucket, region).await?;
            assign(run, observed.project.as_ref().map(|project| project.id.as_str()), bucket, adopted).await?;
            keys
        };
        // Last: whoever finds a key in the keyring need prove nothing any more.
        run.keyring.put_spaces_keys(&keys)
    })
    .await
}

/// Works with the user's own key, or with one that may do everything and is gone afterwards, whatever `work` comes to.
pub(super) async fn with_full_key(
    run: &Run<'_>,
    task: &Task,
    names: &Names,
    region: &str,
    work: impl AsyncFnOnce(&Spaces) -> Result<()>,
) -> Result<()> {
    if let Some(files) = &run.spec.spaces.keys {
        return work(&run.s3.open(region, own_keys(files)?)?).await;
    }
    let worked = with_temporary_key(run, task, names, region, work).await;
    let removed = run.temporary.remove(run.client).await;
    match (worked, removed) {
        // That such a key is left is no detail.
        (Err(error), Err(left)) => Err(error.context(format!("{left:#}"))),
        (worked, removed) => worked.and(removed),
    }
}

async fn with_temporary_key(
    run: &Run<'_>,
    task: &Task,
    names: &Names,
    region: &str,
    work: impl AsyncFnOnce(&Spaces) -> Result<()>,
) -> Result<()> {
    task.say("making a temporary key");
    let name = names.temporary_key(run.keyring.id());
    run.temporary.set(Some(name.clone()));
    // Those of runs that were killed.
    run.temporary.remove(run.client).await?;
    run.temporary.set(Some(name.clone()));
    let new = NewSpacesKey { name, grants: vec![Grant::full()] };
    let cure = "a temporary Spaces key cannot be made; a key of your own can be given as spaces.keys";
    let key = run.client.create_spaces_key(&new).await.context(cure)?;
    let spaces = run.s3.open(region, keys_of(key)?)?;
    task.say("waiting until Spaces knows the temporary key");
    // Asked for a bucket that nobody has: at one of another customer a key that is known and one that is not yet are refused alike.
    let nobodys = format!("{}-{:016x}", names.bucket(), fastrand::u64(..));
    spaces.accepted(&nobodys, Instant::now() + run.patience.spaces).await?;
    work(&spaces).await
}

/// The bucket is there, and it is this cluster's and this keyring's.
async fn claim_bucket(run: &Run<'_>, task: &Task, spaces: &Spaces, bucket: &str, adopted: bool, cluster: &str) -> Result<()> {
    if adopted {
        match spaces.find(bucket).await? {
            Found::Mine => {}
            Found::Missing => bail!("there is no bucket {bucket} to adopt in this region"),
            Found::Foreign => bail!("the bucket {bucket} belongs to another account"),
            Found::Elsewhere => bail!("the bucket {bucket} is in another region: write that as spaces.region"),
        }
    } else {
        task.say("making the bucket");
        if spaces.create(bucket, Instant::now() + run.patience.spaces).await? == Made::Taken {
            bail!(
                "the name {bucket} is taken in this region, or was deleted less than a week ago: make a bucket of another name in the control panel \
                 and write it as spaces.adopt"
            );
        }
    }
    let claim = Claim { cluster: cluster.to_owned(), keyring: run.keyring.id().to_owned() };
    if !spaces.write_new(bucket, OWNER, &serde_json::to_vec(&claim)?).await? {
        match Claim::read(spaces, bucket).await? {
            Some(there) if there == claim => {}
            Some(there) if there.cluster == cluster => bail!(
                "the bucket {bucket} was made from another keyring (its id is {id}), perhaps on another machine or by a run at this moment: use \
                 that folder with --keyring. If it is lost, first bring back from the cluster's Secrets what only it had (without \
                 harbor-secret-key Harbor cannot read what it has encrypted), then write {id} into {} and run again: this keyring then takes \
                 its place, and the bucket gets a new key",
                run.keyring.folder().join(crate::keyring::ID).display(),
                id = there.keyring,
            ),
            Some(there) => bail!(
                "the bucket {bucket} belongs to the Harbor of another cluster ({}); two would delete each other's images",
                there.cluster
            ),
            None => bail!(
                "the bucket {bucket} holds an object {OWNER} that cannot be read: look at it, and delete it if it is no longer needed"
            ),
        }
    }
    spaces.abort_uploads_after(bucket, ABORT_UPLOADS_AFTER_DAYS).await?;
    Ok(())
}

/// A key for this bucket alone, proved to work.
async fn scoped_key(run: &Run<'_>, observed: &Observed, task: &Task, bucket: &str, region: &str) -> Result<Keys> {
    task.say("making a key for this bucket alone");
    let name = observed.names.spaces_key(run.keyring.id());
    // Their secrets were lost with the runs that made them, or the bucket that they were for is gone. Harbor may still use the retiring one.
    let retiring = observed.spaces.retiring.as_ref();
    for lost in run.client.spaces_keys(&name).await?.iter().filter(|key| retiring != Some(&key.access_key)) {
        run.client.delete_spaces_key(&lost.access_key).await?;
    }
    new_key(run, task, name, bucket, region).await
}

async fn new_key(run: &Run<'_>, task: &Task, name: String, bucket: &str, region: &str) -> Result<Keys> {
    let key = run.client.create_spaces_key(&NewSpacesKey { name, grants: vec![Grant::on(bucket)] }).await?;
    let keys = keys_of(key)?;
    task.say("waiting until Spaces knows the key");
    let spaces = run.s3.open(region, keys.clone())?;
    spaces.accepted(bucket, Instant::now() + run.patience.spaces).await?;
    task.say("proving that the key can write, read, list and delete");
    spaces.prove(bucket).await?;
    Ok(keys)
}

/// Into the project of the spec. An adopted bucket stays where its owner put it.
async fn assign(run: &Run<'_>, project: Option<&str>, bucket: &str, adopted: bool) -> Result<()> {
    let Some(project) = project.filter(|_| !adopted) else { return Ok(()) };
    let urn = format!("do:space:{bucket}");
    let assigned = run.client.assign(project, std::slice::from_ref(&urn)).await?;
    match assigned.iter().find(|assigned| assigned.urn == urn).map(|assigned| assigned.status.as_str()) {
        Some("ok" | "assigned" | "already_assigned") => Ok(()),
        status => bail!("the bucket was not put into the project: DigitalOcean says {}", status.unwrap_or("nothing about it")),
    }
}

fn keys_of(key: SpacesKey) -> Result<Keys> {
    let secret_key = key.secret_key.context("DigitalOcean made a Spaces key and did not tell its secret; run again")?;
    Ok(Keys { access_key: key.access_key, secret_key })
}
