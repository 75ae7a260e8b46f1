//! The end of what was made for a cluster: only what is ours, only what was named, and waited for until its name is free again.

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use super::bucket::{Claim, with_full_key};
use super::{Run, TimedOut};
use crate::digitalocean::DatabaseCluster;
use crate::keyring::Entry;
use crate::observe::{Observed, bucket_name};
use crate::spaces::{Contents, Found, OWNER, Spaces};

/// Deletes a database cluster of ours, with everything in it, and waits until its name is free.
///
/// # Errors
/// When it is not marked as ours, whoever asks; [`TimedOut`] when the name is still taken after so long.
pub async fn database(run: &Run<'_>, observed: &Observed, there: &DatabaseCluster) -> Result<()> {
    let (name, tag) = (&there.name, observed.names.tag());
    if !there.tags.iter().flatten().any(|found| *found == tag) {
        bail!("{name} is not marked as this cluster's (tag {tag}): it is not deleted here");
    }
    let task = run.progress.task(name);
    task.say("deleting");
    run.client.delete_database(&there.id).await.with_context(|| name.clone())?;
    let begun = Instant::now();
    // Gone from its own address first, from the list (and its name free) later.
    while run.client.database(&there.id).await?.is_some() || run.client.databases().await?.iter().any(|left| left.id == there.id) {
        if begun.elapsed() > run.patience.online {
            return Err(TimedOut { what: format!("{name} is deleted, and its name not free yet,"), after: run.patience.online }.into());
        }
        task.say("deleted; its name is not free yet");
        tokio::time::sleep(run.patience.poll).await;
    }
    task.done("gone");
    Ok(())
}

/// What deleting the bucket would delete; `None` where there is none.
///
/// # Errors
/// When it cannot be looked at.
pub async fn contents(run: &Run<'_>, observed: &Observed) -> Result<Option<Contents>> {
    let bucket = bucket_name(run.spec, &observed.names);
    let mut contents = None;
    in_bucket(run, observed, async |spaces| {
        if spaces.find(&bucket).await? != Found::Mine {
            return Ok(());
        }
        let there = spaces.contents(&bucket).await?;
        match Claim::read(spaces, &bucket).await? {
            Some(claim) if claim.cluster == observed.cluster.id => {}
            // Of a run that was killed before it could write its claim.
            None if there.objects == 0 => {}
            Some(claim) => {
                bail!("the bucket {bucket} belongs to the Harbor of another cluster ({}): it is not deleted here", claim.cluster)
            }
            None => bail!("the bucket {bucket} holds objects and no mark of ours ({OWNER}): it is not deleted here"),
        }
        contents = Some(there);
        Ok(())
    })
    .await?;
    Ok(contents)
}

/// Empties and deletes the bucket, then the keys for it.
///
/// # Errors
/// When an object cannot be deleted: then the bucket and its key stay.
pub async fn bucket(run: &Run<'_>, observed: &Observed) -> Result<()> {
    if run.spec.spaces.adopt.is_some() {
        bail!("the bucket is your own (spaces.adopt): it is not deleted here");
    }
    let bucket = bucket_name(run.spec, &observed.names);
    let task = run.progress.task(&format!("Spaces bucket {bucket}"));
    in_bucket(run, observed, async |spaces| {
        if spaces.find(&bucket).await? == Found::Mine {
            spaces.empty(&bucket, |so_far| task.say(&format!("{} objects deleted", so_far.objects))).await?;
            spaces.delete_bucket(&bucket).await?;
        }
        Ok(())
    })
    .await?;
    // Keys for a bucket that is gone are of no use to anybody, whoever's keyring holds them.
    for key in observed.spaces.scoped.iter().chain(&observed.spaces.others) {
        run.client.delete_spaces_key(&key.access_key).await?;
    }
    for entry in [Entry::SpacesAccessKey, Entry::SpacesSecretKey, Entry::SpacesRetiringKey] {
        run.keyring.forget(entry)?;
    }
    task.done("gone");
    Ok(())
}

/// Works with a key that may do everything, and removes it.
async fn in_bucket(run: &Run<'_>, observed: &Observed, work: impl AsyncFnOnce(&Spaces) -> Result<()>) -> Result<()> {
    let region = observed.spaces.region.as_deref().context("the cluster's region has no Spaces: write spaces.region")?;
    let task = run.progress.task("Spaces");
    with_full_key(run, &task, &observed.names, region, work).await?;
    task.done("looked at");
    Ok(())
}
