//! Waiting for a condition instead of sleeping for a guess.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at that cannot announce itself.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; looks every 5 ms.
///
/// # Errors
/// When it does not within `limit`; the text names `what`.
pub async fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, limit, || std::future::ready(condition().then_some(()))).await
}

/// Waits until `probe` yields a value, and returns it.
///
/// # Errors
/// When it does not within `limit`; the text names `what`. A probe that never returns is cut at the limit.
pub async fn until_some<T, F: Future<Output = Option<T>>>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() < deadline => sleep(POLL).await,
            _ => bail!("waited {limit:?} in vain: {what}"),
        }
    }
}
