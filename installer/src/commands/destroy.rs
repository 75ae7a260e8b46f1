//! `destroy`: what dies and what stays; nothing that holds data without its name typed.

use anyhow::{Result, bail};

use super::{DONE, INTERRUPTED, Tools, ask, complain, say, unless_interrupted};
use crate::apply::{Patience, Run, Temporary, destroy};
use crate::cli::{Destroy, Shared};
use crate::digitalocean::DatabaseCluster;
use crate::keyring::Keyring;
use crate::observe::{Observed, bucket_name, observe};
use crate::progress::Progress;
use crate::spec::Spec;

pub(super) async fn run(shared: &Shared, args: &Destroy) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    let keyring = Keyring::open(&shared.keyring)?;
    let observed = observe(client, s3, spec, Some(&keyring)).await?;
    let (progress, temporary) = (Progress::new(shared.quiet), Temporary::default());
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience, temporary: &temporary };
    say(&overview(spec, &observed, args));
    if !args.databases && !args.bucket {
        return Ok(DONE);
    }
    let Some(outcome) = unless_interrupted(carry_out(&run, &observed, args)).await else {
        complain("interrupted; run the same command again to go on");
        temporary.remove(client).await?;
        return Ok(INTERRUPTED);
    };
    outcome?;
    say("Done.");
    Ok(DONE)
}

/// Ours, and there.
fn databases(spec: &Spec, observed: &Observed) -> Vec<DatabaseCluster> {
    let pg = observed.postgres.cluster.iter().filter(|_| spec.postgres.adopt.is_none());
    let valkey = observed.valkey.cluster.iter().filter(|_| spec.valkey.adopt.is_none());
    pg.chain(valkey).cloned().collect()
}

/// What dies and what stays.
fn overview(spec: &Spec, observed: &Observed, args: &Destroy) -> String {
    let mut lines = Vec::new();
    let mut line = |dies: bool, what: String| lines.push(format!("  {} {what}", if dies { "- dies " } else { "  stays" }));
    for there in databases(spec, observed) {
        let what = format!("{} {}, with every table and key in it, and its backups", there.engine.word(), there.name);
        line(args.databases, what);
    }
    for (adopted, kind) in [(&spec.postgres.adopt, "pg"), (&spec.valkey.adopt, "valkey")] {
        if let Some(name) = adopted {
            line(false, format!("{kind} {name}: it is yours; its firewall rule and Harbor's user stay, too"));
        }
    }
    let bucket = bucket_name(spec, &observed.names);
    if spec.spaces.adopt.is_some() {
        line(false, format!("bucket {bucket}: it is yours"));
    } else {
        line(args.bucket, format!("bucket {bucket}, with every image in it"));
    }
    line(args.bucket && spec.spaces.adopt.is_none(), format!("{} Spaces keys of this keyring", observed.spaces.scoped.len()));
    if !args.databases && !args.bucket {
        lines.push("Nothing was deleted. What holds data is deleted by --databases and --bucket, and its name typed.".to_owned());
    }
    lines.join("\n")
}

/// All names first: who gives one and not the other has deleted nothing.
async fn carry_out(run: &Run<'_>, observed: &Observed, args: &Destroy) -> Result<()> {
    let doomed = if args.databases { databases(run.spec, observed) } else { Vec::new() };
    for there in &doomed {
        confirm(args, &there.name, &format!("{} {}", there.engine.word(), there.name))?;
    }
    if args.bucket {
        if run.spec.spaces.adopt.is_some() {
            bail!("the bucket is your own (spaces.adopt): it is not deleted here");
        }
        let name = bucket_name(run.spec, &observed.names);
        if let Some(contents) = destroy::contents(run, observed).await? {
            let more = if contents.more { "more than " } else { "" };
            confirm(args, &name, &format!("bucket {name}: {more}{} objects, {more}{} MiB", contents.objects, contents.bytes >> 20))?;
        }
        destroy::bucket(run, observed).await?;
    }
    // Side by side: each takes minutes.
    let ended = futures_util::future::join_all(doomed.iter().map(|there| destroy::database(run, observed, there))).await;
    ended.into_iter().collect()
}

fn confirm(args: &Destroy, name: &str, what: &str) -> Result<()> {
    if args.confirm.iter().any(|given| given == name) {
        return Ok(());
    }
    match ask(&format!("{what} is deleted for ever. Type its name to go on:")) {
        Some(typed) if typed == name => Ok(()),
        Some(_) => bail!("that is not its name; nothing was deleted"),
        None => bail!("nothing was deleted: there is nobody to ask; say --confirm {name}"),
    }
}
