//! Carries CancelRequests to a PostgreSQL server, a few at a time.

use tokio::time::timeout;

use super::Upstream;
use crate::error::{Error, Kind, Result};
use crate::postgres::carry_cancel;

/// CancelRequests carried at one time over all workers; the others wait. They need no password, and each costs a connection to the server.
pub(super) const MAX_CANCELS: usize = 8;

impl Upstream {
    /// Carries a whole CancelRequest on a connection of its own, as the protocol wants, with TLS as always. Returns when the server has closed
    /// that connection, which it does when it has sent the signal. All within `connect_timeout`, waiting for others included.
    ///
    /// If it fails, or is dropped, the cancel may still arrive later: the session that it is about must not be given to anybody else.
    ///
    /// # Errors
    /// The server could not be reached, or did not close. They have been reported.
    pub async fn cancel(&self, request: &[u8]) -> Result<()> {
        let carried = async {
            // Never closed.
            let _turn = self.cancels.acquire().await;
            let mut connection = self.connect().await?;
            self.metrics.cancels.inc();
            let carried = carry_cancel(&mut connection.stream, request).await;
            carried.inspect_err(|error| self.errors.report("cancel request lost", error))
        };
        timeout(self.config.connect_timeout, carried).await.unwrap_or_else(|_| {
            let why = "the server did not finish a CancelRequest in time (connect_timeout); is it overloaded?";
            let error = Error::upstream(Kind::Timeout, why);
            self.errors.report("cancel request lost", &error);
            Err(error)
        })
    }
}
