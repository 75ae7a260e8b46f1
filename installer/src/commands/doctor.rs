//! `doctor`.

use anyhow::{Result, bail};

use crate::cli::{Doctor, Shared};

pub(super) async fn run(shared: &Shared, _: &Doctor) -> Result<u8> {
    let spec = super::read_spec(&shared.spec)?;
    let _ = super::cluster(shared, &spec).await?;
    bail!("not yet")
}
