//! Everything that can be seen of an installation at one moment: what `status` shows and `doctor` judges. What cannot be seen is told beside
//! what can.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::apply::keyring_as_in;
use super::plan::whole;
use super::{Tools, cluster, harbor, keyring};
use crate::cli::{Shared, Until};
use crate::cluster::Cluster;
use crate::cluster::exposure::Exposure;
use crate::cluster::proxies::Proxies;
use crate::doctor::{Inside, Told};
use crate::harbor::reach;
use crate::harbor::system::Health;
use crate::helm::{Helm, Release};
use crate::keyring::Keyring;
use crate::observe::{Observed, observe};
use crate::plan::{Whole, plan};
use crate::pull_secret::kept;
use crate::spec::Spec;

/// Harbor looks at its components every ten seconds.
const HEALTH: Duration = Duration::from_secs(15);
/// Below the hour for which DigitalOcean lets us in.
const FRESH: Duration = Duration::from_secs(45 * 60);

/// What DigitalOcean tells, and what the cluster tells.
pub(super) struct Sight {
    pub(super) cloud: Observed,
    /// What `apply` would do, everywhere that could be looked at.
    pub(super) whole: Whole,
    /// `None`: nobody asked for it.
    pub(super) inside: Option<Told<Inside>>,
}

/// The way into the cluster, kept between two looks: each new one is a token more in the account's list.
#[derive(Default)]
pub(super) struct Way(Option<(Cluster, Instant)>);

impl Way {
    async fn find(&mut self, shared: &Shared, spec: &Spec) -> Result<Cluster> {
        if let Some((cluster, _)) = self.0.as_ref().filter(|(_, since)| since.elapsed() < FRESH) {
            return Ok(cluster.clone());
        }
        let found = cluster(shared, spec).await?;
        self.0 = Some((found.clone(), Instant::now()));
        Ok(found)
    }
}

/// Looks at everything once, with the keyring as `apply` would have it: the folder may be older than the cluster's, or on another machine.
///
/// # Errors
/// When DigitalOcean cannot be asked.
pub(super) async fn look(shared: &Shared, tools: &Tools, cloud_alone: bool, way: &mut Way) -> Result<Sight> {
    let here = keyring(shared)?;
    let reached = async {
        let cluster = way.find(shared, &tools.spec).await?;
        let copy = keyring_as_in(&cluster, here.as_ref()).await?;
        anyhow::Ok((cluster, copy))
    };
    let reached = if cloud_alone { None } else { Some(reached.await) };
    let copy = reached.as_ref().and_then(|reached| reached.as_ref().ok()).and_then(|(_, copy)| copy.as_ref());
    let keyring = copy.map(|(_, keyring)| keyring).or(here.as_ref());
    let cloud = observe(&tools.client, &tools.s3, &tools.spec, keyring).await?;
    let alone = || Whole { cloud: plan(&tools.spec, &cloud), cluster: None, harbor: None };
    let seen = match &reached {
        None => return Ok(Sight { whole: alone(), cloud, inside: None }),
        Some(Ok((cluster, _))) => within(cluster, tools, &cloud, keyring).await.map_err(|why| format!("{why:#}")),
        Some(Err(why)) => Err(format!("{why:#}")),
    };
    Ok(match seen {
        Ok((whole, inside)) => Sight { cloud, whole, inside: Some(Ok(inside)) },
        Err(why) => Sight { whole: alone(), cloud, inside: Some(Err(why)) },
    })
}

async fn within(cluster: &Cluster, tools: &Tools, cloud: &Observed, keyring: Option<&Keyring>) -> Result<(Whole, Inside)> {
    let spec = &tools.spec;
    // Where nothing answers, one reason is enough.
    let whole = whole(tools, Some(cluster), keyring, cloud, Until::Harbor).await?;
    let exposure = Exposure::look(cluster, spec.harbor.tls_secret.as_deref());
    let (proxies, exposure, release, health, days, kept) = tokio::join!(
        Proxies::look(cluster),
        exposure,
        release(cluster, spec),
        health(cluster, spec),
        reach::certificate_days(cluster, spec),
        kept::all(cluster)
    );
    let (exposure, release, health, certificate_days) = (told(exposure), told(release), told(health), told(days));
    Ok((whole, Inside { proxies: proxies?, exposure, release, health, certificate_days, pull_secrets: told(kept) }))
}

async fn release(cluster: &Cluster, spec: &Spec) -> Result<Option<Release>> {
    Helm::find(cluster).await?.release(&spec.harbor.release).await
}

async fn health(cluster: &Cluster, spec: &Spec) -> Result<Health> {
    let at = harbor::reachable_in(cluster, spec).await?;
    Ok(at.harbor.health_within(HEALTH).await?)
}

fn told<T>(what: Result<T>) -> Told<T> {
    what.map_err(|error| format!("{error:#}"))
}
