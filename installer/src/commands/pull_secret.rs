//! `pull-secret`.

use anyhow::{Result, bail};

use crate::cli::{PullSecret, Shared};

pub(super) async fn run(shared: &Shared, _: &PullSecret) -> Result<u8> {
    let spec = super::read_spec(&shared.spec)?;
    let _ = super::cluster(shared, &spec).await?;
    bail!("not yet")
}
