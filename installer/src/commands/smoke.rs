//! `smoke`.

use anyhow::Result;

use super::{DONE, FAILED, Interrupted, LAST_WORDS, complain, show, unless_interrupted};
use crate::cli;
use crate::cli::Shared;
use crate::progress::Progress;
use crate::smoke::{Report, Smoke, State};

pub(super) async fn run(shared: &Shared, args: &cli::Smoke) -> Result<u8> {
    let login = super::harbor::login(shared, &args.login).await?;
    let at = super::harbor::reachable(shared, &args.reach).await?;
    let progress = Progress::new(shared.quiet);
    let smoke = Smoke::new(&at, login, &progress, args.timeout);
    let Some(mut checks) = unless_interrupted(smoke.run()).await else {
        complain("interrupted; one moment");
        let cleaned = unless_interrupted(tokio::time::timeout(LAST_WORDS, smoke.clean())).await;
        let is_clean = cleaned.and_then(Result::ok).is_some_and(|check| check.state == State::Passed);
        return Err(Interrupted(if is_clean {
            "nothing is left in Harbor"
        } else {
            "a project may be left in Harbor: run it again in an hour"
        })
        .into());
    };
    let is_made = checks.iter().any(|check| check.name == "project" && check.state != State::Skipped);
    let kept = (args.keep && is_made).then(|| smoke.kept());
    if is_made && kept.is_none() {
        checks.push(smoke.clean().await);
    }
    let report = Report::new(&at.registry, checks, kept);
    show(shared.output, &report)?;
    Ok(if report.ok { DONE } else { FAILED })
}
