//! `database`.

use anyhow::{Result, bail};

use crate::cli::{Database, Shared};

pub(super) async fn run(shared: &Shared, _: &Database) -> Result<u8> {
    let spec = super::read_spec(&shared.spec)?;
    let _ = super::cluster(shared, &spec).await?;
    bail!("not yet")
}
