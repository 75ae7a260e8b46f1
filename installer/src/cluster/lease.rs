//! One run at a time: a Lease in our namespace, held while there is something to write, renewed meanwhile, deleted at the end.
//!
//! A holder that died is recognised by its silence: its Lease has run out, and does not change while it is watched for longer than the time
//! between two renewals. So clocks of two machines that differ take nobody's Lease away.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, timeout};

use super::{Cluster, MANAGER, objects, problem};
use crate::keyring::Keyring;

/// Its name.
pub const NAME: &str = "doks-harbor";
/// After so long without a renewal the holder may be dead.
const DURATION: Duration = Duration::from_secs(30);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(8);
/// Longer than that, and than a slow renewal.
const SILENCE: Duration = Duration::from_secs(12);

/// A Lease that is held. Whoever drops it without [`Held::release`] leaves it to run out.
pub struct Held {
    cluster: Cluster,
    holder: String,
    since: Timestamp,
    /// As it was written last.
    version: std::sync::Mutex<String>,
}

/// Takes it.
///
/// # Errors
/// Who holds it and since when; when it cannot be written.
pub async fn take(cluster: &Cluster, keyring: &Keyring) -> Result<Held> {
    let holder = holder(keyring);
    let api = cluster.api::<Lease>();
    let since = Timestamp::now();
    let held = |lease: Lease| {
        let version = lease.metadata.resource_version.unwrap_or_default();
        Held { cluster: cluster.clone(), holder: holder.clone(), since, version: version.into() }
    };
    let mut silent = None;
    loop {
        let read = || cluster.told("read the Lease doks-harbor");
        let written = match api.get_opt(NAME).await.map_err(read())? {
            None => api.create(&params(), &lease(&holder, since, None)).await,
            Some(there) => {
                let version = there.metadata.resource_version.clone();
                let spec = there.spec.unwrap_or_default();
                // Nobody else can be using this keyring: the one of that name has died.
                let is_ours = spec.holder_identity.as_ref() == Some(&holder);
                if !is_ours && spec.holder_identity.is_some() {
                    if !has_run_out(&spec) || silent.as_ref().is_some_and(|silent| *silent != version) {
                        bail!("{}", busy(&spec));
                    }
                    if silent.is_none() {
                        silent = Some(version);
                        tokio::time::sleep(SILENCE).await;
                        continue;
                    }
                }
                api.replace(NAME, &params(), &lease(&holder, since, version)).await
            }
        };
        match written {
            Ok(lease) => return Ok(held(lease)),
            // Two took it in one moment: look who was first.
            Err(error) if problem::is_conflict(&error) => {}
            Err(error) => return Err(cluster.told("take the Lease doks-harbor, which keeps two runs apart")(error)),
        }
    }
}

/// Whether a run with this keyring has died and left it.
///
/// # Errors
/// When it cannot be read.
pub async fn is_left(cluster: &Cluster, keyring: &Keyring) -> Result<bool> {
    let there = cluster.api::<Lease>().get_opt(NAME).await.map_err(cluster.told("read the Lease doks-harbor"))?;
    Ok(there.and_then(|lease| lease.spec?.holder_identity) == Some(holder(keyring)))
}

impl Held {
    /// Renews it until it is lost, and says how. Runs beside the work. Cancel-safe.
    pub async fn keep(&self) -> anyhow::Error {
        let api = self.cluster.api::<Lease>();
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            let renewal = lease(&self.holder, self.since, Some(self.version()));
            match timeout(RENEW, api.replace(NAME, &params(), &renewal)).await {
                Ok(Ok(lease)) => {
                    renewed = Instant::now();
                    self.note(lease.metadata.resource_version.unwrap_or_default());
                }
                Ok(Err(error)) if problem::is_conflict(&error) || problem::is_missing(&error) => {
                    if !self.is_still_ours().await {
                        return anyhow!("another doks-harbor has taken the Lease {NAME} over: this run has ended; run again");
                    }
                }
                // Others may take it from now on, whether or not this one is heard.
                _ if renewed.elapsed() <= DURATION => {}
                Ok(Err(error)) => return self.cluster.told("renew the Lease doks-harbor")(error),
                Err(_) => return anyhow!("the cluster did not answer for {DURATION:?}, and the Lease {NAME} has run out: run again"),
            }
        }
    }

    /// After a conflict: an own renewal whose answer was lost is none. While nobody answers, the next renewal tells.
    async fn is_still_ours(&self) -> bool {
        let there = timeout(RENEW, self.cluster.api::<Lease>().get_opt(NAME)).await;
        let Ok(Ok(there)) = there else { return true };
        let Some(Lease { metadata, spec: Some(spec) }) = there else { return false };
        let since = spec.acquire_time.map(|since| since.0.as_microsecond());
        let is_ours = spec.holder_identity.as_ref() == Some(&self.holder) && since == Some(self.since.as_microsecond());
        if is_ours {
            self.note(metadata.resource_version.unwrap_or_default());
        }
        is_ours
    }

    /// Gives it back. That it is somebody else's by now is no error.
    ///
    /// # Errors
    /// When the cluster does not answer: then it runs out by itself.
    pub async fn release(self) -> Result<()> {
        let version = self.version();
        match objects::remove(&self.cluster, &self.cluster.api::<Lease>(), "Lease doks-harbor", NAME, Some(version)).await {
            // A renewal may have been under way: look once, and delete it if it is still ours.
            Err(error) => match self.cluster.api::<Lease>().get_opt(NAME).await {
                Ok(Some(there)) if there.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.holder) => {
                    let version = there.metadata.resource_version;
                    objects::remove(&self.cluster, &self.cluster.api::<Lease>(), "Lease doks-harbor", NAME, version).await
                }
                Ok(_) => Ok(()),
                Err(_) => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn version(&self) -> String {
        self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, version: String) {
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = version;
    }
}

fn lease(holder: &str, since: Timestamp, version: Option<String>) -> Lease {
    let seconds = i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX);
    let labels = [("app.kubernetes.io/managed-by", MANAGER), ("app.kubernetes.io/part-of", "harbor")];
    Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: version,
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(MicroTime(since)),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn has_run_out(spec: &LeaseSpec) -> bool {
    let Some(renewed) = &spec.renew_time else { return true };
    let age = Timestamp::now().duration_since(renewed.0);
    age.as_secs() > i64::from(spec.lease_duration_seconds.unwrap_or(0))
}

fn busy(spec: &LeaseSpec) -> String {
    let holder = spec.holder_identity.as_deref().unwrap_or("somebody");
    let since = spec.acquire_time.as_ref().map_or_else(String::new, |since| format!(", since {:.0}", since.0));
    format!(
        "another doks-harbor is at work on this cluster: {holder}{since}; wait for it to end. If it has died, its Lease runs out in {DURATION:?}"
    )
}

/// Who has it: this machine, with this copy of a keyring.
fn holder(keyring: &Keyring) -> String {
    format!("{} ({})", host(), keyring.copy())
}

/// Of this machine.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "a machine without a name".to_owned() } else { name.trim().to_owned() }
}
