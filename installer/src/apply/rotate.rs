//! A secret changed, in the order that leaves nobody outside: where two can be valid at one time, the new one first, the old one last.

use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;

use super::{Run, bucket};
use crate::digitalocean::DatabaseUser;
use crate::keyring::Entry;
use crate::observe::{BucketSight, Observed, bucket_name};

/// A new password for Harbor's user in PostgreSQL. The old one opens no new connection from this moment; those that are open stay open, and the
/// proxy keeps them.
///
/// # Errors
/// When the cluster is not there. After a lost answer the next `apply` finds the new password and keeps it.
pub async fn postgres(run: &Run<'_>, observed: &Observed) -> Result<()> {
    let there = observed.postgres.online().context("PostgreSQL is not there yet: run `doks-harbor apply`")?;
    let seen = |user: &DatabaseUser| user.password.as_ref().is_some_and(|password| !password.expose_secret().is_empty());
    let user = observed.postgres.user.as_ref().context("Harbor's user is not there yet: run `doks-harbor apply`")?;
    if !seen(user) {
        bail!("the token may not see passwords, so nothing was changed: give it the scope database:view_credentials");
    }
    let task = run.progress.task(&format!("PostgreSQL {}", there.name));
    task.say("changing the password");
    let user = run.client.reset_database_user(&there.id, &run.spec.postgres.user).await?;
    let password = user.password.filter(|password| !password.expose_secret().is_empty());
    let password = password.context(
        "the password was changed, but the token may not see it: give it the scope database:view_credentials and run `doks-harbor apply`",
    )?;
    run.keyring.put(Entry::PostgresPassword, &password)?;
    task.done("changed");
    Ok(())
}

/// Takes over the password that somebody has changed in the control panel: the API cannot change Valkey's.
///
/// # Errors
/// When it is still the one that the keyring holds.
pub fn valkey(run: &Run<'_>, observed: &Observed) -> Result<()> {
    let there = observed.valkey.online().context("Valkey is not there yet: run `doks-harbor apply`")?;
    if observed.valkey.password_kept {
        bail!(
            "the API cannot change the password of Valkey, and it is still the same: reset it in the control panel ({}, Users & Databases), then run this again",
            there.name
        );
    }
    let password =
        there.private_connection.as_ref().and_then(|to| to.password.as_ref()).filter(|password| !password.expose_secret().is_empty());
    run.keyring
        .put(Entry::ValkeyPassword, password.context("the token may not see passwords: give it the scope database:view_credentials")?)
}

/// First half: a second key for the bucket, proved to work and put into the keyring; the first one stays valid.
///
/// # Errors
/// When a rotation has begun and is not finished, and when the bucket is not there.
pub async fn spaces(run: &Run<'_>, observed: &Observed) -> Result<()> {
    if run.spec.spaces.keys.is_some() {
        bail!(
            "the key of the bucket is your own (spaces.keys): make another in the control panel, change the files, and run `doks-harbor apply`"
        );
    }
    // One that is retiring and held at the same time is of a run that was killed before it came to a second key.
    if observed.spaces.retiring.is_some() && observed.spaces.retiring != observed.spaces.held {
        bail!("a rotation has begun and its old key is still valid: end it with `doks-harbor rotate spaces --finish`");
    }
    let (Some(held), Some(region), BucketSight::Ready) = (&observed.spaces.held, &observed.spaces.region, observed.spaces.bucket) else {
        bail!("there is no bucket whose key could be changed: run `doks-harbor apply`");
    };
    let bucket = bucket_name(run.spec, &observed.names);
    let task = run.progress.task(&format!("Spaces bucket {bucket}"));
    let keys = bucket::another_key(run, &task, &observed.names, &bucket, region).await?;
    // Before the new one: a key that is neither held nor retiring would be taken for a leftover.
    run.keyring.put(Entry::SpacesRetiringKey, &held.as_str().into())?;
    run.keyring.put_spaces_keys(&keys)?;
    task.done("the new key works, the old one, too");
    Ok(())
}

/// Second half: the old key is deleted, when there is another that works.
///
/// # Errors
/// When there is none, or no other.
pub async fn finish_spaces(run: &Run<'_>, observed: &Observed) -> Result<()> {
    let old = observed.spaces.retiring.as_ref().context("no rotation of the bucket's key has begun")?;
    if observed.spaces.held.is_none() || observed.spaces.bucket != BucketSight::Ready {
        bail!("the keyring holds no key that works but the old one, which stays: run `doks-harbor apply` first");
    }
    if observed.spaces.held.as_ref() == Some(old) {
        bail!(
            "the rotation was ended before it came to a second key, so the first one stays: begin again with `doks-harbor rotate spaces`"
        );
    }
    run.client.delete_spaces_key(old).await?;
    run.keyring.forget(Entry::SpacesRetiringKey)
}
