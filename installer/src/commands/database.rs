//! `database`: what the Job in the cluster runs. It knows no spec and no cloud.

use anyhow::{Context, Result};

use super::{DONE, FAILED, complain, say};
use crate::cli::Database;
use crate::database::{Work, last_words, run as work};

pub(super) async fn run(args: &Database) -> Result<u8> {
    let outcome = work(&Work {
        config: args.config.clone(),
        admin: args.admin.clone(),
        admin_password: args.admin_password_file.clone(),
        patience: args.patience,
    })
    .await;
    let words = last_words(&outcome);
    if let Some(report) = &args.report {
        std::fs::write(report, &words).with_context(|| format!("{} cannot be written", report.display()))?;
    }
    if outcome.is_ok() {
        say(&words);
        return Ok(DONE);
    }
    complain(&words);
    Ok(FAILED)
}
