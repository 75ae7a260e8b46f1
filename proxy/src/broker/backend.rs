//! PostgreSQL connections for the pool: opened and logged in for one database, brought back to the state of a new one after use.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::exchange::Server;
use super::key::Key;
use super::params::Params;
use crate::error::{Error, Kind, Result};
use crate::metrics::EvictReason;
use crate::pool::{Backend, Reuse};
use crate::stream::Stream;
use crate::upstream::{Connection, Upstream};

/// A PostgreSQL server whose connections are shared.
pub struct PostgresServer {
    upstream: Arc<Upstream>,
}

/// What cancels a query on an upstream connection.
#[derive(Clone, Copy)]
pub struct CancelKey {
    /// The server's process.
    pub process: u32,
    /// Its secret.
    pub secret: u32,
}

/// A connection that is logged in, for one worker.
pub struct Link {
    connection: Connection,
    cancel_key: CancelKey,
    /// What is known of the session on it.
    pub server: Server,
}

impl Link {
    /// Logged in; `base` is what the server has reported of itself.
    #[must_use]
    pub fn new(connection: Connection, cancel_key: CancelKey, base: Rc<Params>) -> Self {
        Self { connection, cancel_key, server: Server::new(base) }
    }

    /// The way to the server.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.connection.stream
    }

    /// The way to the server, and what is known of the session.
    pub fn split(&mut self) -> (&mut Stream, &mut Server) {
        (&mut self.connection.stream, &mut self.server)
    }

    /// What cancels its query.
    #[must_use]
    pub fn cancel_key(&self) -> CancelKey {
        self.cancel_key
    }
}

impl PostgresServer {
    /// The server behind `upstream`.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream }
    }
}

impl Backend for PostgresServer {
    type Connection = Link;
    type Key = Key;

    async fn open(&self, _key: &Key) -> Result<Link> {
        Err(Error::ours(Kind::Limit, "not yet"))
    }

    fn poll_unfit(&self, link: &mut Link, cx: &mut Context<'_>) -> Poll<EvictReason> {
        self.upstream.poll_unfit(&mut link.connection, cx)
    }

    fn has_unread(&self, link: &Link) -> bool {
        self.upstream.has_unread(&link.connection)
    }

    fn discard(&self, link: Link) {
        self.upstream.discard(link.connection);
    }
}

impl Reuse for PostgresServer {
    // Not yet: none is ever packed, and a connection that another worker's client needs is closed for a new one.
    type Parcel = std::convert::Infallible;

    const MOVES: bool = false;

    fn pack(&self, link: Link) -> std::result::Result<Self::Parcel, Link> {
        Err(link)
    }

    fn unpack(&self, parcel: Self::Parcel) -> Option<Link> {
        match parcel {}
    }

    async fn clean(&self, _link: &mut Link, _key: &Key) -> Result<()> {
        Err(Error::ours(Kind::Limit, "not yet"))
    }

    fn outdated(&self, link: &Link) -> Option<EvictReason> {
        self.upstream.outdated(&link.connection)
    }
}
