//! PostgreSQL connections for the pool: opened and logged in for one database, brought back to the state of a new one after use.

mod facts;
mod unasked;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

pub use facts::{LinkFacts, LinkState};

use self::facts::{Entry, Links};
use self::unasked::{default_changed, take_in};
use super::exchange::{Plain, Server};
use super::key::Key;
use super::params::Params;
use crate::config::Credentials;
use crate::error::{Error, Kind, Result};
use crate::metrics::EvictReason;
use crate::pool::{Backend, Reuse};
use crate::postgres::startup::cancel_request;
use crate::postgres::traces::Traces;
use crate::postgres::{self, Account};
use crate::stream::Stream;
use crate::upstream::{Connection, DetachedConnection, Upstream};

/// Reported settings that say what the server is, not what the session does: nobody's cleaning changes them.
const SERVERS_OWN: &[&[u8]] = &[b"in_hot_standby", b"server_version", b"server_encoding", b"integer_datetimes"];

/// A PostgreSQL server whose connections are shared. One for all workers of a listener.
pub struct PostgresServer {
    upstream: Arc<Upstream>,
    links: Arc<Links>,
    /// Statements prepared on one connection at one time.
    prepared_statements: usize,
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
    entry: Entry,
    /// What is known of the session on it.
    pub server: Server,
}

/// A [`Link`] on its way to another worker.
pub struct LinkParts {
    connection: DetachedConnection,
    cancel_key: CancelKey,
    entry: Entry,
    server: Plain,
}

impl Link {
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

    /// What others see of it.
    #[must_use]
    pub fn facts(&self) -> &LinkFacts {
        &self.entry.facts
    }

    /// True when it can go to another worker: nothing is owed on it, no client has left anything, and nothing has arrived.
    pub fn can_move(&mut self) -> bool {
        self.server.can_move() && self.connection.can_detach()
    }

    /// For another worker; only if it [can move](Link::can_move).
    #[must_use]
    pub fn into_parts(self) -> LinkParts {
        let Self { connection, cancel_key, entry, server } = self;
        LinkParts { connection: connection.detach(), cancel_key, entry, server: server.into_plain() }
    }

    /// In the worker that has it from now on.
    ///
    /// # Errors
    /// As [`DetachedConnection::attach`].
    pub fn from_parts(parts: LinkParts) -> Result<Self> {
        let LinkParts { connection, cancel_key, entry, server } = parts;
        let connection = connection.attach().map_err(|error| Error::ours(Kind::Io, format!("a connection could not be moved: {error}")))?;
        Ok(Self { connection, cancel_key, entry, server: server.into() })
    }
}

impl PostgresServer {
    /// The server behind `upstream`; at most so many statements are kept prepared on one connection.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>, prepared_statements: usize) -> Self {
        Self { upstream, links: Arc::default(), prepared_statements }
    }

    /// All its connections, over all workers, in the order in which they were opened.
    #[must_use]
    pub fn links(&self) -> Vec<Arc<LinkFacts>> {
        self.links.all()
    }
}

/// Cancels what runs on the connection with this key; see [`Upstream::cancel`].
///
/// # Errors
/// As [`Upstream::cancel`].
pub async fn cancel(upstream: &Upstream, key: CancelKey) -> Result<()> {
    upstream.cancel(&cancel_request(key.process, &key.secret.to_be_bytes())).await
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
        let entry = self.links.enter(Arc::clone(&key.database), session.process, &connection.stream);
        Ok(Link { connection, cancel_key, entry, server: Server::new(Rc::new(base), self.prepared_statements) })
    }

    /// Reports of settings and notices are taken in; everything else that is said to an unused connection is its end.
    fn poll_unfit(&self, link: &mut Link, cx: &mut Context<'_>) -> Poll<EvictReason> {
        if let Some(reason) = self.upstream.outdated(&link.connection) {
            return Poll::Ready(reason);
        }
        let mut bytes = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            if ready!(self.upstream.poll_read_unused(&mut link.connection.stream, cx, &mut buf)).is_none() {
                return Poll::Ready(EvictReason::ServerClosed);
            }
            link.connection.early.extend_from_slice(buf.filled());
            if let Err(reason) = take_in(&mut link.connection.early, &mut link.server) {
                return Poll::Ready(reason);
            }
        }
    }

    /// Half a message counts: its rest is on the way.
    fn has_unread(&self, link: &Link) -> bool {
        !link.connection.early.is_empty() || self.upstream.has_unread(&link.connection)
    }

    fn discard(&self, link: Link) {
        self.upstream.discard(link.connection);
    }
}

impl Reuse for PostgresServer {
    type Parcel = LinkParts;

    const MOVES: bool = true;

    fn pack(&self, mut link: Link) -> std::result::Result<LinkParts, Link> {
        if link.can_move() { Ok(link.into_parts()) } else { Err(link) }
    }

    fn unpack(&self, parts: LinkParts) -> Option<Link> {
        Link::from_parts(parts).inspect_err(|error| tracing::debug!(%error, "a connection was lost on its way")).ok()
    }

    /// DISCARD ALL, one round trip. What the server reports meanwhile must end in the settings of a new connection.
    async fn clean(&self, link: &mut Link, _key: &Key) -> Result<()> {
        let unclean = |why: &str| Err(Error::ours(Kind::Protocol, why));
        if link.server.traces.has(Traces::LOAD) {
            return unclean("a client has left what DISCARD ALL does not take away (LOAD, dblink_connect, a backup, a replication slot)");
        }
        if !link.connection.early.is_empty() {
            return unclean("half a message has come before it");
        }
        link.facts().being_cleaned();
        let mut changed = Vec::new();
        postgres::discard_all(&mut link.connection.stream, |name, value| changed.push((name.to_vec(), value.to_vec()))).await?;
        for (name, value) in changed {
            if SERVERS_OWN.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
                default_changed(&mut link.server, &name, &value);
            } else {
                Rc::make_mut(&mut link.server.params).report(&name, &value);
            }
        }
        let Server { base, params, .. } = &link.server;
        let is_as_new = |(name, value): (&[u8], &[u8])| SERVERS_OWN.contains(&name) || params.value(name) == Some(value);
        if !base.all_reported().all(is_as_new) {
            return unclean("its settings are not those of a new connection: the server's defaults have changed");
        }
        link.server.discarded();
        link.facts().returned();
        Ok(())
    }

    fn outdated(&self, link: &Link) -> Option<EvictReason> {
        self.upstream.outdated(&link.connection)
    }
}

#[cfg(test)]
mod tests;
