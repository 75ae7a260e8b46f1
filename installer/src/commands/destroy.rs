//! `destroy`: what dies and what stays; nothing that holds data without its name typed.

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{DONE, Tools, ask, say, show, unless_stopped};
use crate::apply::{Patience, Run, Temporary, destroy};
use crate::cli::{Destroy, Output, Shared};
use crate::digitalocean::DatabaseCluster;
use crate::keyring::Keyring;
use crate::observe::{Observed, bucket_name, observe};
use crate::progress::Progress;
use crate::spec::Spec;

/// What dies, what stays, and whether it is done.
#[derive(Debug, Default, Serialize)]
struct Overview {
    dies: Vec<String>,
    stays: Vec<String>,
    done: bool,
}

pub(super) async fn run(shared: &Shared, args: &Destroy) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    if !args.databases && !args.bucket {
        let observed = observe(client, s3, spec, super::keyring(shared)?.as_ref()).await?;
        show(shared.output, &overview(spec, &observed, args))?;
        return Ok(DONE);
    }
    let keyring = Keyring::open(&shared.keyring)?;
    let observed = observe(client, s3, spec, Some(&keyring)).await?;
    let (progress, temporary) = (Progress::new(shared.quiet), Temporary::default());
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience, temporary: &temporary };
    let mut overview = overview(spec, &observed, args);
    if shared.output == Output::Text {
        show(Output::Text, &overview)?;
    }
    unless_stopped(client, &temporary, "run the same command again to go on", carry_out(&run, &observed, args)).await?;
    overview.done = true;
    match shared.output {
        Output::Text => say("Done."),
        Output::Json => show(Output::Json, &overview)?,
    }
    Ok(DONE)
}

/// Ours, and there.
fn databases(spec: &Spec, observed: &Observed) -> Vec<DatabaseCluster> {
    let pg = observed.postgres.cluster.iter().filter(|_| spec.postgres.adopt.is_none());
    let valkey = observed.valkey.cluster.iter().filter(|_| spec.valkey.adopt.is_none());
    pg.chain(valkey).cloned().collect()
}

fn overview(spec: &Spec, observed: &Observed, args: &Destroy) -> Overview {
    let mut seen = Overview::default();
    let mut line = |dies: bool, what: String| if dies { seen.dies.push(what) } else { seen.stays.push(what) };
    for there in databases(spec, observed) {
        let what = format!("{} {}, with every table and key in it, and its backups", there.engine.word(), there.name);
        line(args.databases, what);
    }
    for (adopted, kind) in [(&spec.postgres.adopt, "pg"), (&spec.valkey.adopt, "valkey")] {
        if let Some(name) = adopted {
            line(false, format!("{kind} {name}: it is yours; its firewall rule and Harbor's user stay, too"));
        }
    }
    let (bucket, adopted) = (bucket_name(spec, &observed.names), spec.spaces.adopt.is_some());
    line(args.bucket && !adopted, format!("bucket {bucket}, {}", if adopted { "which is yours" } else { "with every image in it" }));
    for key in observed.spaces.scoped.iter().chain(&observed.spaces.others) {
        line(args.bucket && !adopted, format!("Spaces key {} ({})", key.access_key, key.name));
    }
    seen
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dies.iter().try_for_each(|what| writeln!(f, "  - dies  {what}"))?;
        self.stays.iter().try_for_each(|what| writeln!(f, "    stays {what}"))?;
        if self.dies.is_empty() {
            writeln!(f, "Nothing was deleted. What holds data is deleted by --databases and --bucket, and its name typed.")?;
        }
        Ok(())
    }
}

/// All names first: who gives one and not the other has deleted nothing.
async fn carry_out(run: &Run<'_>, observed: &Observed, args: &Destroy) -> Result<()> {
    let doomed = if args.databases { databases(run.spec, observed) } else { Vec::new() };
    for there in &doomed {
        confirm(args, &there.name, &format!("{} {}", there.engine.word(), there.name)).await?;
    }
    if args.bucket {
        if run.spec.spaces.adopt.is_some() {
            bail!("the bucket is your own (spaces.adopt): it is not deleted here");
        }
        let name = bucket_name(run.spec, &observed.names);
        if let Some(contents) = destroy::contents(run, observed).await? {
            let more = if contents.more { "more than " } else { "" };
            confirm(args, &name, &format!("bucket {name}: {more}{} objects, {more}{} MiB", contents.objects, contents.bytes >> 20)).await?;
        }
        destroy::bucket(run, observed).await?;
    }
    // Side by side: each takes minutes.
    let ended = futures_util::future::join_all(doomed.iter().map(|there| destroy::database(run, observed, there))).await;
    ended.into_iter().collect()
}

async fn confirm(args: &Destroy, name: &str, what: &str) -> Result<()> {
    if args.confirm.iter().any(|given| given == name) {
        return Ok(());
    }
    match ask(&format!("{what} is deleted for ever. Type its name to go on:")).await {
        Some(typed) if typed == name => Ok(()),
        Some(_) => bail!("that is not its name; nothing was deleted"),
        None => bail!("nothing was deleted: there is nobody to ask; say --confirm {name}"),
    }
}
