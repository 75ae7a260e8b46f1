//! `rotate`: a secret changed without anybody noticing.

use anyhow::{Context, Result, bail};

use super::apply::{release, unless_lost};
use super::{DONE, Tools, agreed, complain, say, unless_stopped, usage};
use crate::apply::cluster::{has_namespace, refresh_secrets};
use crate::apply::{Patience, Run, Temporary, rotate};
use crate::cli::{Output, Rotate, Secret, Shared};
use crate::cluster::{Cluster, lease, vault};
use crate::harbor::admin as harbor_admin;
use crate::http;
use crate::keyring::Keyring;
use crate::observe::observe;
use crate::progress::Progress;

pub(super) async fn run(shared: &Shared, args: &Rotate) -> Result<u8> {
    if args.finish && args.secret != Secret::Spaces {
        return Err(usage("--finish is the second half of `rotate spaces`"));
    }
    if args.secret == Secret::Admin {
        return admin(shared, args).await;
    }
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    let mut keyring = Keyring::open(&shared.keyring)?;
    let why_not = "nothing was changed: what the cluster has would stay the old one; --cloud-only leaves that to you";
    let cluster = in_reach(shared, args, &tools).await.context(why_not)?;
    if let Some(cluster) = &cluster {
        vault::pull(cluster, &mut keyring).await?;
    }
    let observed = observe(client, s3, spec, Some(&keyring)).await?;
    let (progress, temporary) = (Progress::new(shared.quiet), Temporary::default());
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience: Patience::default(), temporary: &temporary };
    let (question, next) = words(args);
    if !args.yes && args.secret != Secret::Valkey {
        agreed(&format!("{question} Go on?")).await?;
    }
    let held = match &cluster {
        Some(cluster) => Some(lease::take(cluster, &keyring).await?),
        None => None,
    };
    let change = async {
        match (args.secret, args.finish) {
            (Secret::Pg, _) => rotate::postgres(&run, &observed).await,
            (Secret::Valkey, _) => rotate::valkey(&run, &observed),
            (Secret::Spaces, false) => rotate::spaces(&run, &observed).await,
            (Secret::Spaces | Secret::Admin, _) => rotate::finish_spaces(&run, &observed).await,
        }
    };
    let work = async {
        if let Some(cluster) = &cluster {
            // Before an old secret goes: the new one must not be in this folder alone.
            vault::push(cluster, &keyring).await?;
            if args.finish {
                is_known_there(&refresh_secrets(cluster, spec, &keyring).await?)?;
            }
        }
        change.await?;
        match &cluster {
            Some(cluster) => refresh_secrets(cluster, spec, &keyring).await.map(Some),
            None => Ok(None),
        }
    };
    let outcome = unless_stopped(client, &temporary, "`doks-harbor plan` shows what is left to do", unless_lost(held.as_ref(), work)).await;
    release(held).await;
    let mut told = vec![match outcome? {
        Some(changed) => format!("{} {}", in_cluster(args), changed_there(&changed)),
        None => next.to_owned(),
    }];
    told.extend(super::render::refresh_secret_files(spec, &keyring)?);
    self::told(shared, args, &told.join(" "))
}

/// Before the old key of the bucket goes: who has not been told of the new one yet would lose the bucket.
fn is_known_there(changed: &[String]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "the old key stays: the cluster did not have the new one yet. {} Restart Harbor's registry (its pods read the Secret when they start), then \
         run this again",
        changed_there(changed)
    )
}

/// The cluster, if it is to be used and there is something of ours in it.
async fn in_reach(shared: &Shared, args: &Rotate, tools: &Tools) -> Result<Option<Cluster>> {
    if args.cloud_only {
        return Ok(None);
    }
    let cluster = super::reached(shared, tools).await?;
    // Without the namespace there is nothing in it to be changed.
    Ok(has_namespace(&cluster).await?.then_some(cluster))
}

/// What is left to do when the cluster's Secrets have been changed.
const fn in_cluster(args: &Rotate) -> &'static str {
    match (args.secret, args.finish) {
        (Secret::Spaces, false) => {
            "The new key is in the keyring and in the cluster. Next: restart Harbor's registry (its pods read the Secret when they start), then \
             `doks-harbor rotate spaces --finish`."
        }
        (Secret::Spaces, true) => "The old key is gone.",
        _ => "The password is in the keyring and in the cluster; the proxy reads it within a minute, connections that are open stay open.",
    }
}

fn changed_there(changed: &[String]) -> String {
    if changed.is_empty() { String::new() } else { format!("Changed in the cluster: Secret {}.", changed.join(", ")) }
}

/// What is asked before, and what is to be done after.
const fn words(args: &Rotate) -> (&'static str, &'static str) {
    match (args.secret, args.finish) {
        (Secret::Spaces, false) => (
            "A second key for the bucket is made; the first stays valid until --finish.",
            "The new key is in the keyring. Next: run secrets.sh, restart Harbor's registry, then `doks-harbor rotate spaces --finish`.",
        ),
        (Secret::Spaces, true) => ("The old key of the bucket is deleted: whoever still uses it loses the bucket.", "The old key is gone."),
        (Secret::Valkey, _) => (
            "",
            "The password is in the keyring. Next: run secrets.sh at once; the proxy reads it within a minute, connections that are open stay open.",
        ),
        _ => (
            "The password of Harbor's user in PostgreSQL changes at once: connections that are open stay open, new ones fail until the Secret is swapped.",
            "The new password is in the keyring. Next: run secrets.sh at once; the proxy reads it within a minute.",
        ),
    }
}

/// Harbor's own user: needs no DigitalOcean, but for the copy of the keyring in the cluster.
async fn admin(shared: &Shared, args: &Rotate) -> Result<u8> {
    let harbor = args.harbor.as_deref().ok_or_else(|| usage("where is Harbor? say --harbor https://harbor.example.com"))?;
    let mut keyring = Keyring::open(&shared.keyring)?;
    let found = async {
        let tools = Tools::new(shared)?;
        anyhow::Ok(in_reach(shared, args, &tools).await?.map(|cluster| (cluster, tools)))
    };
    let found = if args.cloud_only { Ok(None) } else { found.await };
    // Both passwords are kept until the new one works, so this one can do without.
    let found = found.unwrap_or_else(|why| {
        complain(&format!("warning: the cluster is left as it is: {why:#}"));
        None
    });
    let Some((cluster, tools)) = found else {
        harbor_admin::rotate(&http::client()?, harbor, &keyring).await?;
        let next = "Harbor's admin has a new password; it is in the keyring as harbor-admin-password, and in this folder alone: `doks-harbor apply` \
                    puts it into the cluster.";
        return told(shared, args, next);
    };
    // Another machine may have changed it last.
    vault::pull(&cluster, &mut keyring).await?;
    let held = Some(lease::take(&cluster, &keyring).await?);
    let work = async {
        vault::push(&cluster, &keyring).await?;
        harbor_admin::rotate(&http::client()?, harbor, &keyring).await?;
        refresh_secrets(&cluster, &tools.spec, &keyring).await
    };
    let outcome = unless_lost(held.as_ref(), work).await;
    release(held).await;
    let told = format!(
        "Harbor's admin has a new password; it is in the keyring as harbor-admin-password, and in the cluster. {}",
        changed_there(&outcome?)
    );
    self::told(shared, args, told.trim_end())
}

/// What came of it, and what comes next.
fn told(shared: &Shared, args: &Rotate, next: &str) -> Result<u8> {
    match shared.output {
        Output::Text => say(next),
        Output::Json => say(&serde_json::json!({ "rotated": format!("{:?}", args.secret).to_lowercase(), "next": next }).to_string()),
    }
    Ok(DONE)
}
