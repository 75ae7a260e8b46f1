//! Harbor's part of `plan` and `apply`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::render::{given_values, values_with_secrets};
use crate::apply::cluster::Deploy;
use crate::apply::harbor::Harbor;
use crate::cli::Apply;
use crate::cluster::Cluster;
use crate::facts::Facts;
use crate::harbor::reach::{self, Authority};
use crate::helm::{Chart, Helm, Unusable, values_files};
use crate::keyring::Keyring;
use crate::plan::HarborPlan;
use crate::render::{self, CHART_REPOSITORY, helm_command, layered};
use crate::spec::Spec;

/// Harbor looks at its components every ten seconds, and has just been started.
const HEALTH: std::time::Duration = std::time::Duration::from_secs(60);

/// What helm would do. Writes nothing. Without `facts` the values cannot be told yet.
///
/// # Errors
/// When helm or the cluster does not answer.
pub(super) async fn look(spec: &Spec, cluster: &Cluster, facts: Option<&Facts>, keyring: Option<&Keyring>) -> Result<HarborPlan> {
    let mut plan = HarborPlan::of(spec);
    let Some(helm) = usable(Helm::find(cluster).await, &mut plan)? else { return Ok(plan) };
    let Some(facts) = facts else {
        plan.later = Some("once the proxy serves".to_owned());
        return Ok(plan);
    };
    let values = wanted(spec, facts, keyring)?;
    match crate::apply::harbor::look(&helm, spec, &values).await {
        Ok(change) => plan.change = change,
        Err(why) => plan.refusals.push(format!("{why:#}")),
    }
    Ok(plan)
}

/// No helm is no failure of the plan.
fn usable(found: Result<Helm>, plan: &mut HarborPlan) -> Result<Option<Helm>> {
    match found {
        Ok(helm) => Ok(Some(helm)),
        Err(error) if error.is::<Unusable>() => {
            plan.by_hand = Some(format!("{error:#}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Has helm do it, and asks Harbor how it is. Returns what it says.
///
/// # Errors
/// When there is no helm, with the command to run by hand; what helm says; when Harbor is not well.
pub(super) async fn converge(deploy: &Deploy<'_>, facts: &Facts, args: &Apply, may_write: bool) -> Result<String> {
    let Deploy { cluster, spec, keyring, progress, .. } = *deploy;
    let helm = Helm::find(cluster).await.with_context(|| {
        let by_hand = helm_command(spec, &args.out.display().to_string(), &keyring.folder().display().to_string());
        format!("everything but Harbor is done. By hand, it is installed with\n\n{by_hand}\n\n")
    })?;
    let values = wanted(spec, facts, Some(keyring))?;
    if let Some(change) = crate::apply::harbor::look(&helm, spec, &values).await? {
        if !may_write {
            bail!("Harbor's release has changed since it was looked at ({change}); run again to see what is to be done now");
        }
        let chart = args.chart.clone().map_or_else(|| Chart::Repository(CHART_REPOSITORY.to_owned()), Chart::File);
        let values = values_files(&args.out, secret_values(spec, keyring));
        let harbor = Harbor { cluster, helm: &helm, spec, chart, values, progress, patience: args.harbor_timeout };
        harbor.converge().await?;
    }
    health(spec, cluster).await
}

/// Harbor by its own words, through the cluster: a name may not lead to it yet.
async fn health(spec: &Spec, cluster: &Cluster) -> Result<String> {
    let asked = async {
        let authority = Authority::of_cluster(cluster, spec).await?;
        let at = reach::through(cluster, spec, authority, 0).await?;
        Ok::<_, anyhow::Error>(at.harbor.health_within(HEALTH).await?)
    };
    match asked.await {
        Ok(health) if health.is_healthy() => Ok(health.to_string()),
        Ok(health) => bail!("Harbor is installed, and not well: {health}; `doks-harbor doctor` tells more"),
        Err(why) => Err(why.context("Harbor is installed, and cannot be asked how it is; `doks-harbor smoke` tells more")),
    }
}

/// The values as helm will merge them, with those that are secret.
fn wanted(spec: &Spec, facts: &Facts, keyring: Option<&Keyring>) -> Result<Value> {
    let rendered =
        render::helm(spec, facts, given_values(spec)?.as_ref()).map_err(|problems| anyhow::anyhow!("{}", problems.join("\n")))?;
    let text = rendered.files.get("harbor/values.yaml").context("no values were rendered: this build is broken")?;
    let values: Value = serde_saphyr::from_str(text).context("the rendered values cannot be read: this build is broken")?;
    match keyring.map(|keyring| values_with_secrets(spec, keyring)).transpose()?.flatten() {
        Some(secret) => Ok(layered(values, &secret)),
        None => Ok(values),
    }
}

/// Beside the keyring's secrets, where an old chart needs it. One that a newer chart has left behind would put them into the release.
fn secret_values(spec: &Spec, keyring: &Keyring) -> Option<PathBuf> {
    render::secrets::as_values(spec.harbor.chart).next()?;
    Some(Path::new(keyring.folder()).join(render::secrets::VALUES_FILE))
}
