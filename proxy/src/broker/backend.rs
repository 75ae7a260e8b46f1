//! PostgreSQL connections for the pool: opened and logged in for one database, brought back to the state of a new one after use.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::exchange::Server;
use super::key::Key;
use super::params::Params;
use crate::config::Credentials;
use crate::error::{Error, Kind, Result};
use crate::metrics::EvictReason;
use crate::pool::{Backend, Reuse};
use crate::postgres::{self, Account};
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

    /// Name, TCP, TLS and login within `connect_timeout`.
    ///
    /// # Errors
    /// As [`Upstream::connect_and`] and [`postgres::open_session`]. An error with a reply is the server's answer to the database that a client
    /// asked for, for that client to hear word by word.
    async fn open(&self, key: &Key) -> Result<Link> {
        let config = self.upstream.config();
        let (Some(Credentials { user: Some(user), .. }), Some(password)) = (&config.credentials, self.upstream.password()) else {
            return Err(Error::ours(Kind::Login, "no user and password for the server: the pooled modes need them in the URL"));
        };
        let log_in = async |stream: &mut Stream| {
            let end_point = stream.end_point();
            let account = Account {
                user,
                password: &password,
                database: None,
                allow_trust: config.tls.client_cert.is_some(),
                end_point: end_point.as_deref(),
                keys: &self.upstream.scram_keys,
            };
            postgres::open_session(stream, &key.database, &account).await
        };
        let (connection, session) = self.upstream.connect_and(log_in).await?;
        let mut base = Params::default();
        for (name, value) in &session.parameters {
            base.report(name, value);
        }
        let cancel_key = CancelKey { process: session.process, secret: session.secret };
        Ok(Link::new(connection, cancel_key, Rc::new(base)))
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
    async fn clean(&self, _link: &mut Link, _key: &Key) -> Result<()> {
        Err(Error::ours(Kind::Limit, "not yet"))
    }

    fn outdated(&self, link: &Link) -> Option<EvictReason> {
        self.upstream.outdated(&link.connection)
    }
}

#[cfg(test)]
mod tests;
