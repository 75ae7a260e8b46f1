//! `preflight` and `plan`: they change nothing.

use anyhow::Result;

use super::{CHANGES, DONE, FAILED, PREFLIGHT, Tools, complain, keyring, show, today};
use crate::checks::Report;
use crate::cli::{Output, Shared};
use crate::observe::{Sight, observe};
use crate::preflight::judge;
use crate::spec::Spec;

pub(super) async fn preflight(shared: &Shared) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let report = check(&tools.spec, &Sight::look(&tools.client).await).await;
    show(shared.output, &report)?;
    if !report.passed() {
        return Ok(PREFLIGHT);
    }
    if shared.output == Output::Text {
        complain("Nothing stands in the way. Next: `doks-harbor plan`.");
    }
    Ok(DONE)
}

/// All that can be said before anything is made.
pub(super) async fn check(spec: &Spec, sight: &Sight) -> Report {
    judge(spec, sight, &today(), helm_version().await.as_deref())
}

async fn helm_version() -> Option<String> {
    let output = tokio::process::Command::new("helm").args(["version", "--short"]).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), output).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(super) async fn plan(shared: &Shared) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let keyring = keyring(shared)?;
    let observed = observe(&tools.client, &tools.s3, &tools.spec, keyring.as_ref()).await?;
    let plan = crate::plan::plan(&tools.spec, &observed);
    show(shared.output, &plan)?;
    if !plan.refusals.is_empty() {
        return Ok(FAILED);
    }
    Ok(if plan.is_empty() { DONE } else { CHANGES })
}
