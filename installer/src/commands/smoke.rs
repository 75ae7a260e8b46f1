//! `smoke`.

use anyhow::{Result, bail};

use crate::cli::{Shared, Smoke};

pub(super) async fn run(shared: &Shared, _: &Smoke) -> Result<u8> {
    let spec = super::read_spec(&shared.spec)?;
    let _ = super::cluster(shared, &spec).await?;
    bail!("not yet")
}
