//! One database cluster, from its plan to its end.

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use super::{Run, TimedOut, look_again};
use crate::digitalocean::{DatabaseStatus, NewDatabase};
use crate::keyring::Entry;
use crate::observe::{Observed, serves};
use crate::plan::{Action, Item, Role, Step, firewall};
use crate::progress::Task;

/// A look that fails so often in a row is no hiccup. The client has tried each of them several times already.
const MOST_FAILED_LOOKS: u32 = 5;
/// The firewall is written again so often, when somebody else writes it at the same time.
const WRITES: u32 = 3;

/// Does the steps; where the cluster had to be made or waited for first, looks again and does what can be seen now.
pub(super) async fn converge(run: &Run<'_>, item: &Item) -> Result<()> {
    let task = run.progress.task(&format!("{} {}", item.kind, item.name));
    let whose = || format!("{} {}", item.kind, item.name);
    if item.steps.is_empty() {
        task.done("as it should be");
        return Ok(());
    }
    let mut id = None;
    for step in &item.steps {
        match step {
            Step::CreateDatabase { new } => id = Some(create(run, new, &task).await.with_context(whose)?),
            Step::AwaitOnline => await_online(run, item, id.as_deref(), &task).await?,
            _ => {}
        }
    }
    // The plan was made when the cluster could not be asked; and somebody may have read it for an hour since.
    let (observed, left) = look_again(run, Some(item.role)).await.with_context(whose)?;
    let fresh = left.item(item.role).context("the plan lacks a resource")?;
    if fresh.action == Action::Foreign {
        bail!("{}", left.refusals.join("\n"));
    }
    let seen = if item.role == Role::Postgres { &observed.postgres } else { &observed.valkey };
    let Some(there) = seen.online() else {
        let what = format!("{} {} does not serve", item.kind, item.name);
        return Err(TimedOut { what, after: run.patience.grace }.into());
    };
    for step in &fresh.steps {
        task.say(&step.to_string());
        carry_out(run, &observed, &there.id, item.role, step).await.with_context(|| format!("{} {}: {step}", item.kind, item.name))?;
    }
    task.done("ready");
    Ok(())
}

async fn create(run: &Run<'_>, new: &NewDatabase, task: &Task) -> Result<String> {
    task.say("creating");
    let begun = Instant::now();
    let made = loop {
        match run.client.create_database(new).await {
            Ok(made) => break made,
            // The client has looked for it. A name outlives its cluster by minutes.
            Err(error) if error.is_name_taken() => {
                let what =
                    format!("the name {} is taken by a cluster that is not to be seen, most likely one that is being destroyed", new.name);
                if begun.elapsed() > run.patience.online {
                    return Err(anyhow::Error::new(error).context(TimedOut { what, after: run.patience.online }));
                }
                task.say(&format!("waiting: {what}"));
                tokio::time::sleep(run.patience.poll).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let tag = new.tags.first();
    // Another run may have been faster, which is well; somebody else's of that name is not.
    if let Some(tag) = tag.filter(|tag| !made.tags.iter().flatten().any(|found| found == *tag)) {
        bail!("a cluster of that name exists and is not marked with the tag {tag}; say `adopt: {}` to use it as it is", new.name);
    }
    Ok(made.id)
}

async fn await_online(run: &Run<'_>, item: &Item, id: Option<&str>, task: &Task) -> Result<()> {
    let begun = Instant::now();
    let id = match id {
        Some(id) => id.to_owned(),
        None => {
            let all = run.client.databases().await?;
            all.into_iter().find(|there| there.name == item.name).with_context(|| format!("{} {} is gone", item.kind, item.name))?.id
        }
    };
    let (mut seen, mut failed) = (false, 0);
    loop {
        match run.client.database(&id).await {
            Ok(Some(there)) if serves(there.status) => return Ok(()),
            Ok(Some(there)) => {
                (seen, failed) = (true, 0);
                task.say(if there.status == DatabaseStatus::Creating { "creating" } else { "not serving yet" });
            }
            Ok(None) if seen || begun.elapsed() > run.patience.grace => {
                bail!("{} {} ({id}) is gone: somebody deleted it while it was waited for", item.kind, item.name)
            }
            Ok(None) => task.say("not to be seen yet"),
            Err(error) if failed < MOST_FAILED_LOOKS && error.status().is_none_or(|status| status >= 500 || status == 429) => {
                failed += 1;
                task.say(&format!("no answer ({failed} of {MOST_FAILED_LOOKS}): {error}"));
            }
            Err(error) => return Err(error).with_context(|| format!("{} {}", item.kind, item.name)),
        }
        if begun.elapsed() > run.patience.online {
            let what = format!("{} {} does not serve", item.kind, item.name);
            return Err(TimedOut { what, after: run.patience.online }.into());
        }
        // Several runs and clusters do not ask in step.
        tokio::time::sleep(run.patience.poll.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// One step of a cluster that serves. Each may be carried out twice.
async fn carry_out(run: &Run<'_>, observed: &Observed, id: &str, role: Role, step: &Step) -> Result<()> {
    let client = run.client;
    match step {
        Step::CreateUser { user } => client.create_database_user(id, user).await.map(|_| ())?,
        Step::CreateDb { db } => client.create_db(id, db).await?,
        Step::SetFirewall { .. } => return let_in(run, id, &observed.cluster.id).await,
        Step::SetNoEviction => client.set_eviction_policy(id, "noeviction").await?,
        Step::SetMaintenance { window } => client.set_maintenance(id, window).await?,
        Step::KeepPassword => return keep_password(run, role, id).await,
        Step::CreateDatabase { .. } | Step::AwaitOnline => bail!("it went away while it was worked on"),
        Step::MakeBucket { .. } | Step::RemoveKey { .. } => {}
    }
    Ok(())
}

/// The API knows only whole sets of rules: they are read again right before, so that what somebody has written since the plan stays, and again
/// afterwards, until ours is among them.
async fn let_in(run: &Run<'_>, id: &str, cluster: &str) -> Result<()> {
    for _ in 0..WRITES {
        let Some(rules) = firewall(&run.client.firewall(id).await?, cluster) else { return Ok(()) };
        run.client.set_firewall(id, &rules).await?;
    }
    if firewall(&run.client.firewall(id).await?, cluster).is_some() {
        bail!("the rule for this cluster does not stay: somebody else (Terraform?) writes this firewall, too");
    }
    Ok(())
}

async fn keep_password(run: &Run<'_>, role: Role, id: &str) -> Result<()> {
    let cure = "the token may not see passwords: give it the scope database:view_credentials";
    let (entry, password) = if role == Role::Postgres {
        let user = run.client.database_user(id, &run.spec.postgres.user).await?.context("the user is gone")?;
        (Entry::PostgresPassword, user.password)
    } else {
        let there = run.client.database(id).await?.context("it is gone")?;
        (Entry::ValkeyPassword, there.private_connection.and_then(|to| to.password))
    };
    let password = password.filter(|password| !secrecy::ExposeSecret::expose_secret(password).is_empty()).context(cure)?;
    run.keyring.put(entry, &password)
}
