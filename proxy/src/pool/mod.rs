//! Upstream connections that are ready before a client asks.
//!
//! A pool knows no protocol and no TLS: it opens connections through a [`Backend`] and hands them out. [`Stock`] is the pool of the `relay`
//! mode: connections that were opened ahead of need, are given to one client each, and never come back.

mod stock;

use std::future::Future;
use std::task::{Context, Poll};

pub use stock::{Limits, Stock};

use crate::error::Result;
use crate::metrics::EvictReason;

/// Opens and judges the connections of a pool.
pub trait Backend {
    /// What is pooled.
    type Connection;

    /// Opens a connection, ready for use. Must end by itself: the pool sets no deadline. Must be cancel-safe.
    fn open(&self) -> impl Future<Output = Result<Self::Connection>>;

    /// Ready with a reason as soon as an unused connection must not be handed out any more. Registers the waker of `cx`.
    fn poll_unfit(&self, connection: &mut Self::Connection, cx: &mut Context<'_>) -> Poll<EvictReason>;

    /// Asks the kernel, without the runtime: something has arrived (or ended) that [`Backend::poll_unfit`] may not have seen yet.
    fn has_unread(&self, connection: &Self::Connection) -> bool;

    /// Closes an unused connection in the way that the server expects.
    fn discard(&self, connection: Self::Connection);
}

#[cfg(test)]
mod tests;
