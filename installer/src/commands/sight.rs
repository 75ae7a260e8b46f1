//! Everything that can be seen of an installation at one moment: what `status` shows and `doctor` judges. What cannot be seen is told beside
//! what can.

use std::time::Duration;

use anyhow::Result;

use super::plan::whole;
use super::{Tools, cluster, harbor, keyring};
use crate::cli::{Shared, Until};
use crate::cluster::Cluster;
use crate::cluster::exposure::Exposure;
use crate::cluster::proxies::Proxies;
use crate::doctor::{Inside, Told};
use crate::harbor::system::Health;
use crate::helm::{Helm, Release};
use crate::keyring::Keyring;
use crate::observe::{Observed, observe};
use crate::plan::{Whole, plan};
use crate::spec::Spec;

/// Harbor looks at its components every ten seconds.
const HEALTH: Duration = Duration::from_secs(15);

/// What DigitalOcean tells, and what the cluster tells.
pub(super) struct Sight {
    pub(super) cloud: Observed,
    /// What `apply` would do, everywhere that could be looked at.
    pub(super) whole: Whole,
    /// `None`: nobody asked for it.
    pub(super) inside: Option<Told<Inside>>,
}

/// Looks at everything once.
///
/// # Errors
/// When DigitalOcean cannot be asked.
pub(super) async fn look(shared: &Shared, tools: &Tools, cloud_alone: bool) -> Result<Sight> {
    let keyring = keyring(shared)?;
    let cloud = observe(&tools.client, &tools.s3, &tools.spec, keyring.as_ref()).await?;
    let alone = || Whole { cloud: plan(&tools.spec, &cloud), cluster: None, harbor: None };
    if cloud_alone {
        return Ok(Sight { whole: alone(), cloud, inside: None });
    }
    match within(shared, tools, &cloud, keyring.as_ref()).await {
        Ok((whole, inside)) => Ok(Sight { cloud, whole, inside: Some(Ok(inside)) }),
        Err(why) => Ok(Sight { whole: alone(), cloud, inside: Some(Err(format!("{why:#}"))) }),
    }
}

async fn within(shared: &Shared, tools: &Tools, cloud: &Observed, keyring: Option<&Keyring>) -> Result<(Whole, Inside)> {
    let spec = &tools.spec;
    let cluster = cluster(shared, spec).await?;
    // Where nothing answers, one reason is enough.
    let whole = whole(tools, Some(&cluster), keyring, cloud, Until::Harbor).await?;
    let exposure = Exposure::look(&cluster, spec.harbor.tls_secret.as_deref());
    let (proxies, exposure, release, health) =
        tokio::join!(Proxies::look(&cluster), exposure, release(&cluster, spec), health(&cluster, spec));
    Ok((whole, Inside { proxies: proxies?, exposure: told(exposure), release: told(release), health: told(health) }))
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
