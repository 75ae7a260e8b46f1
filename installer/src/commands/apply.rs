//! `apply`: preflight, plan, a question, and the way there.

use anyhow::{Result, bail};

use super::render::{self, write};
use super::{DONE, FAILED, PREFLIGHT, Tools, agreed, complain, say, show, unless_stopped};
use crate::apply::{Patience, Run, Temporary, apply};
use crate::cli::{Apply, Output, Shared};
use crate::keyring::Keyring;
use crate::observe::{Sight, observe};
use crate::plan::plan;
use crate::progress::Progress;

pub(super) async fn run(shared: &Shared, args: &Apply) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    let keyring = Keyring::open(&shared.keyring)?;
    let sight = Sight::look(client).await;
    let report = super::plan::check(spec, &sight).await;
    if !report.passed() {
        match shared.output {
            Output::Text => complain(report.to_string().trim_end()),
            Output::Json => show(Output::Json, &report)?,
        }
        return Ok(PREFLIGHT);
    }
    let mut observed = sight.complete(client, s3, spec, Some(&keyring)).await?;
    let planned = plan(spec, &observed);
    // A program is shown the end, or why there is none.
    if shared.output == Output::Text || !planned.refusals.is_empty() {
        show(shared.output, &planned)?;
    }
    if !planned.refusals.is_empty() {
        return Ok(FAILED);
    }
    if !planned.is_empty() && !args.yes {
        if shared.output == Output::Json {
            complain(planned.to_string().trim_end());
        }
        agreed("Do this?").await?;
        // Whoever was asked may have thought about it for an hour.
        observed = observe(client, s3, spec, Some(&keyring)).await?;
        if serde_json::to_value(plan(spec, &observed))? != serde_json::to_value(&planned)? {
            bail!("nothing was done: things have changed since this plan was made; run again to see the new one");
        }
    }
    let progress = Progress::new(shared.quiet);
    let temporary = Temporary::default();
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience, temporary: &temporary };
    let next = "nothing is lost: run `doks-harbor apply` again, it goes on from here";
    let facts = unless_stopped(client, &temporary, next, apply(&run, &observed, &planned)).await?;
    let rendered = render::for_helm(spec, &facts, Some(&keyring))?;
    write(&args.out, &rendered)?;
    match shared.output {
        Output::Json => say(&facts.to_json()),
        Output::Text => say(&format!(
            "Everything is there. What Harbor and the proxy need is in {}: begin with NEXT.md. The secrets are in {}.",
            args.out.display(),
            keyring.folder().display()
        )),
    }
    Ok(DONE)
}
