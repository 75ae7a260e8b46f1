//! Waiting for a condition instead of sleeping for a guess.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;
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

/// What tells when a request is held.
#[derive(Clone, Debug)]
pub struct Frozen(watch::Receiver<bool>);

impl Frozen {
    pub(crate) const fn new(reached: watch::Receiver<bool>) -> Self {
        Self(reached)
    }

    /// Waits until the request is held; for ever if it never comes.
    pub async fn reached(&self) {
        if self.0.clone().wait_for(|reached| *reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it is held, or was.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        *self.0.borrow()
    }
}
