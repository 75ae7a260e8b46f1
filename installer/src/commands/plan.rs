//! `preflight` and `plan`: they change nothing.

use anyhow::Result;

use super::{CHANGES, DONE, FAILED, PREFLIGHT, Tools, complain, keyring, now, show, today};
use crate::apply;
use crate::checks::Report;
use crate::cli::{Output, Plan, Preflight, Shared, Until};
use crate::cluster::Cluster;
use crate::cluster::check;
use crate::cluster::exposure::Exposure;
use crate::helm;
use crate::keyring::Keyring;
use crate::observe::{Observed, Sight, find_cluster, observe};
use crate::plan::{self, Whole};
use crate::preflight::{self, judge};

pub(super) async fn preflight(shared: &Shared, args: &Preflight) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (report, _) = checked(shared, &tools, &Sight::look(&tools.client).await, args.until).await;
    show(shared.output, &report)?;
    if !report.passed() {
        return Ok(PREFLIGHT);
    }
    if shared.output == Output::Text {
        complain("Nothing stands in the way. Next: `doks-harbor plan`.");
    }
    Ok(DONE)
}

/// All that can be said before anything is made, and the way into the cluster where it is to be used.
pub(super) async fn checked(shared: &Shared, tools: &Tools, sight: &Sight, until: Until) -> (Report, Option<Cluster>) {
    let mut report = judge(&tools.spec, sight, &today(), helm::installed().await.as_deref());
    let Ok(clusters) = &sight.clusters else { return (report, None) };
    let wanted = find_cluster(clusters, &tools.spec.cluster).ok();
    // Without a cluster of that name the rest has been said.
    if until == Until::Cloud || wanted.is_none() {
        return (report, None);
    }
    let (seen, cluster) = match super::cluster(shared, &tools.spec).await {
        Ok(cluster) => (check::Sight::look(&cluster).await, Some(cluster)),
        Err(error) => (Err(error), None),
    };
    preflight::cluster::judge(&mut report, &tools.spec, wanted, &seen);
    if let (Ok(_), Some(cluster), Until::Harbor) = (&seen, &cluster, until) {
        match Exposure::look(cluster, tools.spec.harbor.tls_secret.as_deref()).await {
            Ok(seen) => preflight::exposure::judge(&mut report, &tools.spec, &seen, now()),
            Err(why) => report.warn("exposure", format!("cannot be looked at: {why:#}"), "Harbor is installed all the same"),
        }
    }
    (report, cluster)
}

pub(super) async fn plan(shared: &Shared, args: &Plan) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let sight = Sight::look(&tools.client).await;
    let cluster = if args.until == Until::Cloud { None } else { Some(super::reached(shared, &tools).await) };
    let (cluster, unreachable) = match cluster {
        Some(Err(why)) => (None, Some(why)),
        cluster => (cluster.and_then(Result::ok), None),
    };
    let here = keyring(shared)?;
    // What `apply` would begin with: the keyring as the cluster has it. The folder itself stays as it is.
    let copy = match &cluster {
        Some(cluster) => super::apply::keyring_as_in(cluster, here.as_ref()).await?,
        None => None,
    };
    let keyring = copy.as_ref().map(|(_, keyring)| keyring).or(here.as_ref());
    let observed = sight.complete(&tools.client, &tools.s3, &tools.spec, keyring).await?;
    let whole = whole(&tools, cluster.as_ref(), keyring, &observed, args.until).await?;
    show(shared.output, &whole)?;
    if let Some(why) = unreachable {
        complain(&format!("doks-harbor: the cluster could not be looked at: {why:#}; say --until cloud to leave it alone"));
        return Ok(FAILED);
    }
    if whole.is_refused() {
        return Ok(FAILED);
    }
    Ok(if whole.is_empty() { DONE } else { CHANGES })
}

/// All parts, as far as they can be told before the databases are there: what is done is what was shown.
pub(super) async fn whole(
    tools: &Tools,
    cluster: Option<&Cluster>,
    keyring: Option<&Keyring>,
    observed: &Observed,
    until: Until,
) -> Result<Whole> {
    let mut whole = Whole { cloud: plan::plan(&tools.spec, observed), cluster: None, harbor: None };
    let Some(cluster) = cluster else { return Ok(whole) };
    let facts = apply::facts(&tools.spec, observed, &tools.s3).ok();
    whole.cluster = Some(apply::cluster::look(cluster, &tools.spec, facts.as_ref(), keyring).await?);
    if until == Until::Harbor {
        whole.harbor = Some(super::release::look(&tools.spec, cluster, facts.as_ref(), keyring).await?);
    }
    Ok(whole)
}

/// Asks everything again.
pub(super) async fn again(tools: &Tools, keyring: &Keyring) -> Result<Observed> {
    observe(&tools.client, &tools.s3, &tools.spec, Some(keyring)).await
}
