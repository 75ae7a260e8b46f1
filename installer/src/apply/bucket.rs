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

use crate::names::Names;
use crate::observe::observe;
use crate::plan::{Item, Step};
use crate::progress::Task;
use crate::spaces::{Found, Keys, Made, OWNER, Spaces};

/// Harbor finishes its uploads within hours.
const ABORT_UPLOADS_AFTER_DAYS: u32 = 7;

/// The temporary key, while there is one: for whoever ends the run early.
#[derive(Debug, Default)]
pub struct Temporary(Mutex<Option<String>>);

impl Temporary {
    fn set(&self, access_key: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = access_key;
    }

    /// Deletes it, if there is one.
    ///
    /// # Errors
    /// With its public half, so that it can be deleted by hand.
    pub async fn remove(&self, client: &Client) -> Result<()> {
        let access_key = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(access_key) = access_key else { return Ok(()) };
        client.delete_spaces_key(&access_key).await.with_context(|| {
            format!("the temporary Spaces key {access_key}, which may do everything, is still there: run `doks-harbor apply` again, or delete it in the control panel")
        })?;
        self.set(None);
        Ok(())
    }
}

/// Who owns a bucket: written once, below Harbor's own names.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// Id of the DOKS cluster.
    cluster: String,
    /// Whose keyring holds the key.
    keyring: String,
}

pub(super) async fn converge(run: &Run<'_>, item: &Item) -> Result<()> {
    if item.steps.is_empty() {
        return Ok(());
    }
    let task = run.progress.task(&format!("{} {}", item.kind, item.name));
    for step in &item.steps {
        task.say(&step.to_string());
        match step {
            Step::MakeBucket { bucket, region, adopted } => make(run, &task, bucket, region, *adopted).await?,
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

async fn make(run: &Run<'_>, task: &Task, bucket: &str, region: &str, adopted: bool) -> Result<()> {
    let observed = observe(run.client, run.s3, run.spec, Some(run.keyring)).await?;
    let names = &observed.names;
    if let Some(files) = &run.spec.spaces.keys {
        let keys = own_keys(files)?;
        let spaces = run.s3.open(region, keys.clone())?;
        claim_bucket(run, task, &spaces, bucket, adopted, &observed.cluster.id).await?;
        spaces.prove(bucket).await?;
        return run.keyring.put_spaces_keys(&keys);
    }
    for key in &observed.spaces.temporary {
        run.client.delete_spaces_key(&key.access_key).await?;
    }
    task.say("making a temporary key");
    let made = with_temporary_key(run, task, names, region, async |spaces| {
        claim_bucket(run, task, spaces, bucket, adopted, &observed.cluster.id).await?;
        let keys = scoped_key(run, task, names, bucket, region).await?;
        assign(run, observed.project.as_ref().map(|project| project.id.as_str()), bucket, adopted).await?;
        // Last: whoever finds a key in the keyring need prove nothing any more.
        run.keyring.put_spaces_keys(&keys)
    });
    let made = made.await;
    let removed = run.temporary.remove(run.client).await;
    made.and(removed)
}

/// Runs `work` with a key that may do everything. The caller removes it.
pub(super) async fn with_temporary_key(
    run: &Run<'_>,
    task: &Task,
    names: &Names,
    region: &str,
    work: impl AsyncFnOnce(&Spaces) -> Result<()>,
) -> Result<()> {
    let new = NewSpacesKey { name: names.temporary_key(run.keyring.id()), grants: vec![Grant::full()] };
    let key = run
        .client
        .create_spaces_key(&new)
        .await
        .context("a temporary Spaces key cannot be made; a key of your own can be given as spaces.keys")?;
    run.temporary.set(Some(key.access_key.clone()));
    let spaces = run.s3.open(region, keys_of(key)?)?;
    task.say("waiting until Spaces knows the temporary key");
    spaces.accepted(&names.bucket(), Instant::now() + run.patience.spaces).await?;
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
        let there = spaces.read(bucket, OWNER).await?.and_then(|bytes| serde_json::from_slice::<Claim>(&bytes).ok());
        match there {
            Some(there) if there == claim => {}
            Some(there) if there.cluster == cluster => bail!(
                "the bucket {bucket} was made from another keyring (its id is {}), perhaps on another machine or by a run at this moment: use that \
                 folder with --keyring; if it is lost, delete the object {OWNER} from the bucket and run again",
                there.keyring
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
async fn scoped_key(run: &Run<'_>, task: &Task, names: &Names, bucket: &str, region: &str) -> Result<Keys> {
    task.say("making a key for this bucket alone");
    let name = names.spaces_key(run.keyring.id());
    // Their secrets were lost with the runs that made them, or the bucket that they were for is gone.
    for lost in run.client.spaces_keys(&name).await? {
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

/// The key that the user already has.
fn own_keys(files: &crate::spec::KeyFiles) -> Result<Keys> {
    let read = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} (of spaces.keys) cannot be read", path.display()))?;
        Ok::<_, anyhow::Error>(text.trim().to_owned())
    };
    Ok(Keys { access_key: read(&files.access_key_file)?, secret_key: read(&files.secret_key_file)?.into() })
}
