//! `doctor`: what is wrong, with its cure.

use anyhow::Result;

use super::sight::{self, Way};
use super::{DONE, FAILED, Tools, now, show};
use crate::cli::{Doctor, Shared};
use crate::doctor::judge;

pub(super) async fn run(shared: &Shared, args: &Doctor) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let seen = sight::look(shared, &tools, args.cloud, &mut Way::default()).await?;
    let report = judge(&tools.spec, &seen.cloud, &seen.whole, seen.inside.as_ref(), now());
    show(shared.output, &report)?;
    Ok(if report.passed() { DONE } else { FAILED })
}
