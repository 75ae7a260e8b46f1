//! The connection that a client has just now, as far as a CancelRequest is concerned: the two races of the module above.

use std::task::Waker;

use super::{Card, lock};
use crate::broker::backend::{self, CancelKey};
use crate::error::Result;
use crate::upstream::Upstream;

#[derive(Default)]
pub(super) struct Lending {
    /// What cancels the query on the connection that the client has now.
    key: Option<CancelKey>,
    /// Cancels on their way to a connection that the client has or is about to give back.
    in_flight: usize,
    /// The process whose cancel has failed on its way.
    doubtful: Option<u32>,
    /// Who waits for them to arrive.
    waker: Option<Waker>,
}

impl Card {
    /// A lease begins: a CancelRequest for the client goes to this connection from now on.
    pub fn lend(&self, key: CancelKey) {
        let mut lending = lock(&self.lending);
        lending.key = Some(key);
        lending.doubtful = lending.doubtful.filter(|process| *process == key.process);
    }

    /// The lease is about to end: cancels that come from now on have come too late. False: one is on its way, and the connection must not be
    /// given to anybody else yet; `waker` is woken when that is over, then ask again. The lease may also go on, with [`Card::lend`].
    pub fn take_back(&self, waker: &Waker) -> bool {
        let mut lending = lock(&self.lending);
        lending.key = None;
        if lending.in_flight == 0 {
            lending.waker = None;
            return true;
        }
        match &mut lending.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }

    /// A cancel for the connection with this key, the one that is lent or was last, has failed on its way and may still arrive: nobody else may
    /// have the connection, it must be closed.
    #[must_use]
    pub fn doubts(&self, key: CancelKey) -> bool {
        lock(&self.lending).doubtful == Some(key.process)
    }

    /// How many cancels for it are on their way, and whether a lease waits for them to arrive before it ends.
    #[must_use]
    pub fn cancels(&self) -> (usize, bool) {
        let lending = lock(&self.lending);
        (lending.in_flight, lending.waker.is_some())
    }

    /// Cancels what the client is doing: the key of its connection goes to the server ([`Upstream::cancel`]). Without a lease there is nothing
    /// to do. Returns when the server has seen to it.
    ///
    /// # Errors
    /// As [`Upstream::cancel`]. Whether the query was cancelled is then unknown, as it always is.
    pub async fn cancel(&self, upstream: &Upstream) -> Result<()> {
        let Some((key, mut flight)) = self.depart() else { return Ok(()) };
        backend::cancel(upstream, key).await?;
        flight.arrived = true;
        Ok(())
    }

    /// The key of the lease, and a cancel counted for it.
    pub(super) fn depart(&self) -> Option<(CancelKey, Flight<'_>)> {
        let mut lending = lock(&self.lending);
        let key = lending.key?;
        lending.in_flight += 1;
        Some((key, Flight { card: self, process: key.process, arrived: false }))
    }
}

/// A cancel on its way.
pub(super) struct Flight<'a> {
    card: &'a Card,
    /// The server's, whose query it cancels.
    process: u32,
    pub(super) arrived: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut lending = lock(&self.card.lending);
        lending.in_flight -= 1;
        if !self.arrived {
            lending.doubtful = Some(self.process);
        }
        let waker = if lending.in_flight == 0 { lending.waker.take() } else { None };
        // Who wakes up asks for the lock.
        drop(lending);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
