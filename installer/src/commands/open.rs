//! `open`.

use anyhow::{Result, bail};

use crate::cli::{Open, Shared};

pub(super) async fn run(shared: &Shared, _: &Open) -> Result<u8> {
    let spec = super::read_spec(&shared.spec)?;
    let _ = super::cluster(shared, &spec).await?;
    bail!("not yet")
}
