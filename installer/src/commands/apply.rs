//! `apply`: preflight, plan, a question, and the way there.
//!
//! ```text
//!   preflight ─► keyring brought up to date ─► plan ─► question ─► Lease ─► cloud ─► cluster ─► Harbor
//!                                                                    └─ keyring put into the cluster before and after
//! ```

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::render::{self, write};
use super::{DONE, FAILED, Interrupted, PREFLIGHT, Tools, agreed, complain, plan, say, show, unless_interrupted, unless_stopped};
use crate::apply::cluster::{Deploy, Deployed, converge, ensure_namespace};
use crate::apply::{Patience, Run, Temporary, apply};
use crate::cli::{Apply, Output, Shared, Until};
use crate::cluster::lease::{self, Held};
use crate::cluster::{Cluster, vault};
use crate::facts::Facts;
use crate::keyring::{Entry, Keyring};
use crate::observe::{Observed, Sight};
use crate::plan::{Plan, Whole};
use crate::progress::Progress;
use crate::spec::Spec;

/// What is said when it is stopped.
const NEXT: &str = "nothing is lost: run `doks-harbor apply` again, it goes on from here";
/// For the Lease.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// All that comes before anything is made.
struct Begun {
    cluster: Option<Cluster>,
    observed: Observed,
    whole: Whole,
    held: Option<Held>,
}

pub(super) async fn run(shared: &Shared, args: &Apply) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let mut keyring = Keyring::open(&shared.keyring)?;
    // Stopped here, too, it takes its temporary files with it: they hold credentials.
    let begun = unless_interrupted(begin(shared, args, &tools, &mut keyring)).await;
    let Begun { cluster, observed, whole, held } = match begun.ok_or(Interrupted(NEXT))?? {
        Ok(begun) => begun,
        Err(code) => return Ok(code),
    };
    let progress = Progress::new(shared.quiet);
    let temporary = Temporary::default();
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run {
        client: &tools.client,
        s3: &tools.s3,
        spec: &tools.spec,
        keyring: &keyring,
        progress: &progress,
        patience,
        temporary: &temporary,
    };
    let deploy = cluster.as_ref().map(|cluster| Deploy {
        cluster,
        spec: &tools.spec,
        keyring: &keyring,
        progress: &progress,
        patience: args.rollout,
    });
    let work = carry_out(&run, args, deploy.as_ref(), &observed, &whole.cloud, held.is_some());
    let outcome = unless_stopped(&tools.client, &temporary, NEXT, unless_lost(held.as_ref(), work)).await;
    release(held).await;
    let done = outcome?;
    match shared.output {
        Output::Json => say(&done.facts.to_json()),
        Output::Text => say(&done.told(args, &tools.spec, &keyring)),
    }
    Ok(DONE)
}

/// Or the exit code of a run that ends here, which has said why.
async fn begin(shared: &Shared, args: &Apply, tools: &Tools, keyring: &mut Keyring) -> Result<Result<Begun, u8>> {
    let sight = Sight::look(&tools.client).await;
    let (report, cluster) = plan::checked(shared, tools, &sight, args.until).await;
    if !report.passed() {
        match shared.output {
            Output::Text => complain(report.to_string().trim_end()),
            Output::Json => show(Output::Json, &report)?,
        }
        return Ok(Err(PREFLIGHT));
    }
    if let Some(cluster) = &cluster {
        let taken = vault::pull(cluster, keyring).await?;
        if !taken.is_empty() {
            complain(&format!("Taken from the cluster into {}: {}.", keyring.folder().display(), vault::files(&taken)));
        }
    }
    let mut observed = sight.complete(&tools.client, &tools.s3, &tools.spec, Some(keyring)).await?;
    let whole = plan::whole(tools, cluster.as_ref(), Some(keyring), &observed, args.until).await?;
    // A program is shown the end, or why there is none.
    if shared.output == Output::Text || whole.is_refused() {
        show(shared.output, &whole)?;
    }
    if whole.is_refused() {
        return Ok(Err(FAILED));
    }
    if !whole.is_empty() && !args.yes {
        if shared.output == Output::Json {
            complain(whole.to_string().trim_end());
        }
        agreed("Do this?").await?;
        // Whoever was asked may have thought about it for an hour.
        observed = plan::again(tools, keyring).await?;
        let now = plan::whole(tools, cluster.as_ref(), Some(keyring), &observed, args.until).await?;
        if serde_json::to_value(now)? != serde_json::to_value(&whole)? {
            bail!("nothing was done: things have changed since this plan was made; run again to see the new one");
        }
    }
    let held = match &cluster {
        Some(cluster) if !whole.is_empty() || lease::is_left(cluster, keyring).await? => {
            ensure_namespace(cluster).await?;
            Some(lease::take(cluster, keyring).await?)
        }
        _ => None,
    };
    Ok(Ok(Begun { cluster, observed, whole, held }))
}

/// What a run came to.
struct Done {
    facts: Facts,
    /// Nothing where the cluster is left alone.
    deployed: Option<Deployed>,
    /// What Harbor says of itself; nothing where it is left alone.
    health: Option<String>,
}

/// Cloud, then cluster, then Harbor. The keyring is put into the cluster before what only it knows could be lost, and after, whatever the cloud's part came to.
async fn carry_out(
    run: &Run<'_>,
    args: &Apply,
    deploy: Option<&Deploy<'_>>,
    observed: &Observed,
    planned: &Plan,
    may_write: bool,
) -> Result<Done> {
    let secure = async || match deploy {
        Some(deploy) if may_write => vault::push(deploy.cluster, run.keyring).await.map(|_| ()),
        _ => Ok(()),
    };
    secure().await?;
    let provided = apply(run, observed, planned).await;
    let secured = secure().await.context("what the keyring has got is not in the cluster yet, only in its folder");
    let facts = match (provided, secured) {
        (Err(error), Err(too)) => return Err(error.context(format!("{too:#}"))),
        (provided, secured) => {
            let facts = provided?;
            secured?;
            facts
        }
    };
    // Whatever the cluster's part comes to: with them it can be gone on with by hand.
    write(&args.out, &render::for_helm(run.spec, &facts, Some(run.keyring))?)?;
    let Some(deploy) = deploy else { return Ok(Done { facts, deployed: None, health: None }) };
    // The databases may have been made just now.
    let observed = crate::observe::observe(run.client, run.s3, run.spec, Some(run.keyring)).await?;
    let deployed = converge(deploy, &facts, &observed, may_write).await?;
    let health = match args.until {
        Until::Harbor => Some(super::release::converge(deploy, &facts, args, may_write).await?),
        Until::Cloud | Until::Proxy => None,
    };
    Ok(Done { facts, deployed: Some(deployed), health })
}

/// The outcome of the work, or how the Lease was lost meanwhile.
pub(super) async fn unless_lost<T>(held: Option<&Held>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(held) = held else { return work.await };
    tokio::select! {
        outcome = work => outcome,
        lost = held.keep() => Err(lost),
    }
}

/// Gives it back; that it cannot be is no reason to fail, nor to wait for long: Ctrl-C is not heard here.
pub(super) async fn release(held: Option<Held>) {
    let Some(held) = held else { return };
    let released = tokio::time::timeout(GIVE_BACK, held.release()).await;
    if let Err(error) = released.unwrap_or_else(|_| Err(anyhow!("the cluster does not answer"))) {
        complain(&format!("warning: the Lease {} is left, and runs out by itself: {error:#}", lease::NAME));
    }
}

impl Done {
    fn told(&self, args: &Apply, spec: &Spec, keyring: &Keyring) -> String {
        let (out, folder) = (args.out.display(), keyring.folder().display());
        let Some(deployed) = &self.deployed else {
            return format!(
                "Everything is there. What Harbor and the proxy need is in {out}: begin with NEXT.md. The secrets are in {folder}."
            );
        };
        let proxy = format!("The proxy is ready on {} nodes.", deployed.nodes);
        let Some(health) = &self.health else {
            return format!(
                "{proxy} What Harbor needs is in {out}: NEXT.md says how to go on. The secrets are in {folder} and in the cluster."
            );
        };
        let password = keyring.folder().join(Entry::HarborAdminPassword.file());
        format!(
            "{proxy} Harbor {}: {health}.\nIt is at {}: sign in as admin, with the password in {}.\nNext: `doks-harbor smoke` proves that it works, \
             `doks-harbor trust` and `pull-secret` let docker and the cluster use it.",
            spec.harbor.chart,
            crate::render::reached(spec).url,
            password.display()
        )
    }
}

/// The cluster's part of a keyring, as it is there, beside what is here: in a folder that is gone with it.
pub(super) async fn keyring_as_in(cluster: &Cluster, here: Option<&Keyring>) -> Result<Option<(tempfile::TempDir, Keyring)>> {
    let Some(vault) = vault::Vault::read(cluster).await? else { return Ok(None) };
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut copy = Keyring::open(&folder.path().join("keyring"))?;
    if let Some(here) = here {
        copy.take_id(here.id())?;
        for (entry, secret) in here.entries()? {
            copy.put(entry, &secret)?;
        }
        copy.note_synced(&here.synced()?)?;
    }
    // What stands against it is told by the plan.
    if vault::differs(Some(&vault), &copy).is_ok() {
        vault::pull(cluster, &mut copy).await?;
    }
    Ok(Some((folder, copy)))
}
