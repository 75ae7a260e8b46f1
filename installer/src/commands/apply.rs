//! `apply`: preflight, plan, a question, and the way there.

use std::time::Duration;

use anyhow::{Result, bail};

use super::render::{self, write};
use super::{DONE, FAILED, INTERRUPTED, PREFLIGHT, Tools, ask, complain, say, show, unless_interrupted};
use crate::apply::{Patience, Run, Temporary, apply};
use crate::cli::{Apply, Output, Shared};
use crate::keyring::Keyring;
use crate::observe::Sight;
use crate::plan::plan;
use crate::progress::Progress;

/// For the deletion of the temporary key, after Ctrl-C.
const LAST_WORDS: Duration = Duration::from_secs(60);

pub(super) async fn run(shared: &Shared, args: &Apply) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let (client, s3, spec) = (&tools.client, &tools.s3, &tools.spec);
    let keyring = Keyring::open(&shared.keyring)?;
    let sight = Sight::look(client).await;
    let report = super::plan::check(spec, &sight).await;
    if !report.passed() {
        complain(report.to_string().trim_end());
        return Ok(PREFLIGHT);
    }
    let observed = sight.complete(client, s3, spec, Some(&keyring)).await?;
    let planned = plan(spec, &observed);
    if shared.output == Output::Text {
        show(Output::Text, &planned)?;
    }
    if !planned.refusals.is_empty() {
        return Ok(FAILED);
    }
    if !planned.is_empty() && !args.yes {
        match ask("Do this? [y/N]").as_deref() {
            Some("y" | "Y" | "yes") => {}
            Some(_) => bail!("nothing was done"),
            None => bail!("nothing was done: there is nobody to ask; say --yes"),
        }
    }
    let progress = Progress::new(shared.quiet);
    let temporary = Temporary::default();
    let patience = Patience { online: args.timeout, poll: args.poll, ..Patience::default() };
    let run = Run { client, s3, spec, keyring: &keyring, progress: &progress, patience, temporary: &temporary };
    let Some(outcome) = unless_interrupted(apply(&run, &observed, &planned)).await else {
        complain("interrupted; nothing is lost: run `doks-harbor apply` again, it goes on from here");
        // Once more Ctrl-C, and this is left to the next run, too.
        if let Some(Ok(removed)) = unless_interrupted(tokio::time::timeout(LAST_WORDS, temporary.remove(client))).await {
            removed?;
        }
        return Ok(INTERRUPTED);
    };
    let facts = outcome?;
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
