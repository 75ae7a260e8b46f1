//! `destroy`: what dies and what stays; nothing that holds data without its name typed.
//!
//! ```text
//!   names typed ─► Harbor, or refused while it runs ─► proxy ─► bucket, databases ─► the keyring's home, when nothing is left to be read with it
//! ```

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::apply::{release, unless_lost};
use super::{DONE, Tools, ask, complain, say, show, unless_stopped};
use crate::apply::{Patience, Run, Temporary, destroy, undeploy};
use crate::cli::{Destroy, Output, Shared};
use crate::cluster::objects::Change;
use crate::cluster::{Cluster, lease, vault};
use crate::digitalocean::DatabaseCluster;
use crate::helm::Helm;
use crate::keyring::{Entry, Keyring};
use crate::observe::{Observed, bucket_name, observe};
use crate::progress::Progress;
use crate::pull_secret::kept::{self, Kept};
use crate::render::secrets::Use;
use crate::spec::Spec;

/// What dies, what stays, and whether it is done.
#[derive(Debug, Default, Serialize)]
struct Overview {
    dies: Vec<String>,
    stays: Vec<String>,
    done: bool,
}

/// The cluster's part.
struct Inside {
    cluster: Cluster,
    /// Of Harbor's release.
    pods: usize,
    /// All that is only for the proxy.
    proxy: Vec<Change>,
    has_vault: bool,
    /// Logins in other namespaces, by `namespace/name`; or why they could not be looked for.
    pull_secrets: Result<Vec<String>, String>,
}

pub(super) async fn run(shared: &Shared, args: &Destroy) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    let nothing_named = !(args.databases || args.bucket || args.proxy || args.harbor);
    let inside = look_inside(shared, args, &tools, nothing_named).await?;
    if nothing_named {
        let observed = observe(client, s3, spec, super::keyring(shared)?.as_ref()).await?;
        show(shared.output, &overview(spec, &observed, inside.as_ref(), args))?;
        return Ok(DONE);
    }
    let mut keyring = Keyring::open(&shared.keyring)?;
    if let Some(inside) = &inside {
        vault::pull(&inside.cluster, &mut keyring).await?;
    }
    let observed = observe(client, s3, spec, Some(&keyring)).await?;
    let (progress, temporary) = (Progress::new(shared.quiet), Temporary::default());
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience, temporary: &temporary };
    let mut overview = overview(spec, &observed, inside.as_ref(), args);
    if shared.output == Output::Text {
        show(Output::Text, &overview)?;
    }
    if let Some(inside) = inside.as_ref().filter(|inside| inside.pods > 0 && !args.harbor) {
        bail!(
            "nothing was deleted: Harbor runs in the namespace {} ({} pods of the release {}); say --harbor to take it away first, or --cloud-only if \
             it is to lose what it stands on",
            inside.cluster.namespace,
            inside.pods,
            spec.harbor.release
        );
    }
    if let Some(inside) = inside.as_ref().filter(|inside| proxy_dies(args) && !all_data_dies(spec, args) && !inside.has_vault) {
        is_elsewhere(inside, spec, &keyring)?;
    }
    let held = match &inside {
        Some(inside) if inside.has_vault || !inside.proxy.is_empty() => Some(lease::take(&inside.cluster, &keyring).await?),
        _ => None,
    };
    let work = unless_lost(held.as_ref(), carry_out(&run, &observed, inside.as_ref(), args));
    let outcome = unless_stopped(client, &temporary, "run the same command again to go on", work).await;
    release(held).await;
    outcome?;
    overview.done = true;
    match shared.output {
        Output::Text => say("Done."),
        Output::Json => show(Output::Json, &overview)?,
    }
    Ok(DONE)
}

/// What there is in the cluster. Whoever only looks is told why it cannot be seen; whoever deletes must see it, or say that it is to be left alone.
async fn look_inside(shared: &Shared, args: &Destroy, tools: &Tools, only_looks: bool) -> Result<Option<Inside>> {
    if args.cloud_only {
        return Ok(None);
    }
    let look = async {
        let cluster = super::reached(shared, tools).await?;
        let pods = undeploy::harbor_pods(&cluster, &tools.spec.harbor.release).await?;
        let proxy = undeploy::look(&cluster, &tools.spec).await?;
        let has_vault = vault::Vault::read(&cluster).await?.is_some();
        let kept = kept::all(&cluster).await;
        let pull_secrets = kept.map(|all| all.iter().map(Kept::path).collect()).map_err(|why| format!("{why:#}"));
        anyhow::Ok(Inside { cluster, pods, proxy, has_vault, pull_secrets })
    };
    match look.await {
        Ok(inside) => Ok(Some(inside)),
        Err(why) if only_looks => {
            complain(&format!("warning: the cluster could not be looked at: {why:#}"));
            Ok(None)
        }
        Err(why) => {
            Err(why.context("nothing was deleted: whether Harbor still runs is not known; --cloud-only leaves the cluster as it is"))
        }
    }
}

/// The keyring's home has been deleted: then the Secret made from it may be the last place of what Harbor's data cannot be read without.
fn is_elsewhere(inside: &Inside, spec: &Spec, keyring: &Keyring) -> Result<()> {
    let name = Use::Encryption.name(&spec.harbor.release);
    let is_there = inside.proxy.iter().any(|change| change.kind == "Secret" && change.name == name);
    if is_there && keyring.get(Entry::HarborSecretKey)?.is_none() {
        bail!(
            "nothing was deleted: the Secret {name} holds the key that Harbor's data was encrypted with, and neither the Secret {} nor the folder {} \
             has it; write its secretKey into {} there first",
            vault::NAME,
            keyring.folder().display(),
            Entry::HarborSecretKey.file()
        );
    }
    Ok(())
}

/// Ours, and there.
fn databases(spec: &Spec, observed: &Observed) -> Vec<DatabaseCluster> {
    let pg = observed.postgres.cluster.iter().filter(|_| spec.postgres.adopt.is_none());
    let valkey = observed.valkey.cluster.iter().filter(|_| spec.valkey.adopt.is_none());
    pg.chain(valkey).cloned().collect()
}

/// Nothing that Harbor has written is left: what it was encrypted with is of no use any more.
fn all_data_dies(spec: &Spec, args: &Destroy) -> bool {
    args.databases && args.bucket && spec.postgres.adopt.is_none() && spec.spaces.adopt.is_none()
}

/// Without its databases the proxy has nothing to do.
const fn proxy_dies(args: &Destroy) -> bool {
    args.proxy || (args.databases && !args.cloud_only)
}

fn overview(spec: &Spec, observed: &Observed, inside: Option<&Inside>, args: &Destroy) -> Overview {
    let mut seen = Overview::default();
    let mut line = |dies: bool, what: String| if dies { seen.dies.push(what) } else { seen.stays.push(what) };
    if let Some(inside) = inside {
        let namespace = &inside.cluster.namespace;
        if inside.pods > 0 {
            line(args.harbor, format!("Harbor in the namespace {namespace}: {} pods of the release {}", inside.pods, spec.harbor.release));
        }
        if !inside.proxy.is_empty() {
            let names: Vec<_> = inside.proxy.iter().map(|change| format!("{} {}", change.kind, change.name)).collect();
            line(proxy_dies(args), format!("the proxy in the namespace {namespace}: {}", names.join(", ")));
        }
        if inside.has_vault {
            let why = if all_data_dies(spec, args) { "" } else { ": Harbor's data cannot be read without it" };
            line(all_data_dies(spec, args), format!("the keyring's home, Secret {}{why}", vault::NAME));
        }
        match &inside.pull_secrets {
            Ok(paths) if paths.is_empty() => {}
            Ok(paths) => line(false, format!("the pull secrets {}: their robot accounts are in Harbor's database", paths.join(", "))),
            Err(why) => line(false, format!("pull secrets, if there are any: {why}")),
        }
        line(false, format!("the namespace {namespace}; when nothing is left in it: kubectl delete namespace {namespace}"));
    }
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
            writeln!(
                f,
                "Nothing was deleted. --harbor and --proxy take away what can be made again; what holds data is deleted by --databases and --bucket, \
                 and its name typed."
            )?;
        }
        Ok(())
    }
}

/// All names first: who gives one and not the other has deleted nothing.
async fn carry_out(run: &Run<'_>, observed: &Observed, inside: Option<&Inside>, args: &Destroy) -> Result<()> {
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
    }
    if let Some(inside) = inside {
        take_away(run, inside, args).await?;
    }
    if args.bucket {
        destroy::bucket(run, observed).await?;
    }
    // Side by side: each takes minutes.
    let ended = futures_util::future::join_all(doomed.iter().map(|there| destroy::database(run, observed, there))).await;
    ended.into_iter().collect::<Result<()>>()?;
    match inside.filter(|inside| inside.has_vault) {
        Some(inside) if all_data_dies(run.spec, args) => undeploy::forget_keyring(&inside.cluster).await,
        // It has lost the key of the bucket.
        Some(inside) => vault::push(&inside.cluster, run.keyring).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Harbor, then the proxy.
async fn take_away(run: &Run<'_>, inside: &Inside, args: &Destroy) -> Result<()> {
    let release = &run.spec.harbor.release;
    if args.harbor {
        let task = run.progress.task("Harbor");
        let helm = Helm::find(&inside.cluster).await?;
        if let Some(there) = helm.release(release).await? {
            if there.chart_version().is_none() {
                bail!("the release {release} is of the chart {}, not of Harbor's: it is not taken away here", there.chart);
            }
            task.say("helm uninstall");
            helm.uninstall(release, run.patience.online).await.with_context(|| format!("the release {release} is not gone"))?;
        }
        task.done("gone");
    }
    if proxy_dies(args) {
        undeploy::remove(&inside.cluster, run.progress, &inside.proxy).await?;
    }
    Ok(())
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
