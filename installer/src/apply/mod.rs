//! Carries a plan out: databases side by side, the bucket beside them, and at the end a look whether all is as planned.
//!
//! Each resource is brought to its end by itself: look, plan, do the steps, look again. Nothing is remembered between runs but the keyring,
//! and nothing is undone: a database that was created is never deleted because something else failed. What a killed run can leave behind is
//! a Spaces key, which the next run knows by its name.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::cluster::{job, rollout};
use crate::digitalocean::{Client, DatabaseCluster};
use crate::facts::{Bucket, Cluster, Database, Facts};
use crate::harbor_secrets;
use crate::keyring::{Entry, Keyring};
use crate::observe::{Observed, S3, observe};
use crate::plan::{Item, Plan, Role, Step, cost, plan};
use crate::progress::Progress;
use crate::spaces;
use crate::spec::Spec;

mod bucket;
pub mod cluster;
mod database;
pub mod destroy;
pub mod harbor;
pub mod rotate;
pub mod undeploy;

pub use bucket::Temporary;

/// All that a run works with.
pub struct Run<'a> {
    /// The API.
    pub client: &'a Client,
    /// Spaces.
    pub s3: &'a S3,
    /// What is wanted.
    pub spec: &'a Spec,
    /// Where the secrets go.
    pub keyring: &'a Keyring,
    /// What people see meanwhile.
    pub progress: &'a Progress,
    /// How long things may take.
    pub patience: Patience,
    /// The key that must not outlive the run.
    pub temporary: &'a Temporary,
}

/// How long things may take, and how often they are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a database serves. DigitalOcean usually takes five minutes.
    pub online: Duration,
    /// A database that was just made may not be found for so long.
    pub grace: Duration,
    /// Between two looks.
    pub poll: Duration,
    /// Until Spaces knows a new key or bucket.
    pub spaces: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            online: Duration::from_secs(45 * 60),
            grace: Duration::from_secs(180),
            poll: Duration::from_secs(10),
            spaces: Duration::from_secs(600),
        }
    }
}

/// It takes longer than it may, and goes on by itself: exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("{what} after {after:?}; nothing is lost: run the same command again, it goes on from here")]
pub struct TimedOut {
    /// What is not there yet.
    pub what: String,
    /// How long it was waited for.
    pub after: Duration,
}

/// Whether waiting was all that was left.
#[must_use]
pub fn is_late(error: &anyhow::Error) -> bool {
    let waited =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<TimedOut>() || cause.is::<rollout::Late>() || cause.is::<job::Late>();
    error.is::<TimedOut>()
        || error.chain().any(|cause| waited(cause) || matches!(cause.downcast_ref(), Some(spaces::Error::TooLate { .. })))
}

/// Carries out a plan of what was observed.
///
/// # Errors
/// The first step that failed, with what it was for; a plan that is refused. What was begun is found again by the next run.
/// [`TimedOut`] is among the causes when waiting was all that was left.
///
/// # Cancel safety
/// A dropped run leaves what it has made, and [`Temporary`] says which key must be deleted yet.
pub async fn apply(run: &Run<'_>, observed: &Observed, planned: &Plan) -> Result<Facts> {
    if !planned.refusals.is_empty() {
        bail!("{}", planned.refusals.join("\n"));
    }
    let item = |role| planned.item(role).context("the plan lacks a resource");
    let (postgres, valkey, spaces) = (item(Role::Postgres)?, item(Role::Valkey)?, item(Role::Spaces)?);
    // All are awaited, also when one fails: what the others have begun is finished, and every failure is told.
    let (postgres, valkey, spaces) =
        tokio::join!(database::converge(run, postgres), database::converge(run, valkey), converge_spaces(run, observed, spaces));
    let failures: Vec<_> = [postgres, valkey, spaces].into_iter().filter_map(Result::err).collect();
    if let Some(worst) = worst(failures) {
        return Err(worst);
    }
    // Not before: whoever has lost a keyring must not get another encryption key of Harbor's with the message that says so.
    harbor_secrets(run.keyring)?;
    let (observed, left) = look_again(run, None).await?;
    if left.items.iter().any(awaits) {
        return Err(TimedOut { what: "a database does not serve".to_owned(), after: run.patience.grace }.into());
    }
    if !left.is_empty() || !left.refusals.is_empty() {
        bail!("something changes these resources at the same time: after all steps there is still something to do\n{left}");
    }
    facts(run.spec, &observed, run.s3)
}

async fn converge_spaces(run: &Run<'_>, observed: &Observed, item: &Item) -> Result<()> {
    bucket::converge(run, observed, item).await.with_context(|| format!("{} {}", item.kind, item.name))
}

/// What is there now and what is left to do, everywhere or for one; what cannot quite be seen to serve yet is given its time.
async fn look_again(run: &Run<'_>, role: Option<Role>) -> Result<(Observed, Plan)> {
    let begun = Instant::now();
    loop {
        let observed = observe(run.client, run.s3, run.spec, Some(run.keyring)).await?;
        let left = plan(run.spec, &observed);
        let early = left.items.iter().any(|item| role.is_none_or(|role| role == item.role) && awaits(item));
        if !early || begun.elapsed() > run.patience.grace {
            return Ok((observed, left));
        }
        tokio::time::sleep(run.patience.poll).await;
    }
}

fn awaits(item: &Item) -> bool {
    item.steps.contains(&Step::AwaitOnline)
}

/// One error for all: a failure before one that only takes long, since running again would meet it again.
fn worst(failures: Vec<anyhow::Error>) -> Option<anyhow::Error> {
    let (late, mut failed): (Vec<_>, Vec<_>) = failures.into_iter().partition(is_late);
    match (failed.len(), late.into_iter().next()) {
        (0, late) => late,
        (1, _) => failed.pop(),
        _ => Some(anyhow::anyhow!("{}", failed.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"))),
    }
}

/// Harbor's own, those that the keyring lacks: made once, and never again.
fn harbor_secrets(keyring: &Keyring) -> Result<()> {
    let mut have = Vec::new();
    for entry in Entry::ALL {
        if keyring.get(*entry)?.is_some() {
            have.push(*entry);
        }
    }
    harbor_secrets::missing(|entry| have.contains(&entry))?
        .iter()
        .try_for_each(|(entry, secret): &(Entry, SecretString)| keyring.put(*entry, secret))
}

/// What rendering has to know.
///
/// # Errors
/// When a server is not there yet, or its answers lack what only a broader token may see.
pub fn facts(spec: &Spec, observed: &Observed, s3: &S3) -> Result<Facts> {
    let pools = observed.cluster.node_pools.iter();
    let pools = pools.filter(|pool| spec.proxy.node_pools.is_empty() || spec.proxy.node_pools.contains(&pool.name));
    let cluster = Cluster {
        id: observed.cluster.id.clone(),
        name: observed.cluster.name.clone(),
        region: observed.cluster.region.clone(),
        nodes: pools.map(crate::digitalocean::NodePool::most).sum(),
    };
    let pg = observed.postgres.online().context("PostgreSQL is not there yet: run `doks-harbor apply`")?;
    let mut postgres = database(pg, Some(&spec.postgres.user))?;
    (postgres.ca, postgres.database) = (observed.postgres.ca.clone(), Some(spec.postgres.database.clone()));
    postgres.connections = cost::connections(&pg.size);
    let valkey = observed.valkey.online().context("Valkey is not there yet: run `doks-harbor apply`")?;
    let mut valkey = database(valkey, None)?;
    valkey.ca.clone_from(&observed.valkey.ca);
    let region = observed.spaces.region.clone().context("the cluster's region has no Spaces: write spaces.region")?;
    let bucket = crate::observe::bucket_name(spec, &observed.names);
    Ok(Facts { cluster, postgres, valkey, spaces: Bucket { endpoint: s3.endpoint(&region), region, bucket } })
}

fn database(cluster: &DatabaseCluster, user: Option<&str>) -> Result<Database> {
    let to = cluster.private_connection.as_ref().with_context(|| format!("{} has no private address: it is in no VPC", cluster.name))?;
    Ok(Database {
        id: cluster.id.clone(),
        name: cluster.name.clone(),
        engine: cluster.engine.word().to_owned(),
        version: cluster.version.clone().unwrap_or_default(),
        size: cluster.size.clone(),
        host: to.host.clone(),
        port: to.port,
        user: user.or(to.user.as_deref()).unwrap_or("default").to_owned(),
        database: None,
        ca: None,
        connections: None,
    })
}
