//! Redis connections for the pool: opened and logged in for one key, brought back to the state of a new one after use.

mod hello;
mod login;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use secrecy::{ExposeSecret, SecretString};

pub use hello::{Facts, Hello};

use self::login::{Wish, clean, log_in};
use super::key::{Identity, Key};
use crate::error::Result;
use crate::metrics::EvictReason;
use crate::pool::{Backend, Reuse};
use crate::stream::Stream;
use crate::upstream::{Connection, Upstream};

/// A Redis server whose connections are shared.
pub struct RedisServer {
    upstream: Arc<Upstream>,
    /// The database of the configuration: no client asked for it.
    database: u32,
    /// Clients log in at the server themselves: what it says to their logins, and to who has none, is for them.
    clients_log_in: bool,
}

/// A connection that is logged in, for one worker.
pub struct Link {
    connection: Connection,
    hello: Rc<Hello>,
    /// RESET may work.
    knows_reset: bool,
}

impl Link {
    /// The way to the server; when the link is new or clean nothing on it is unread.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.connection.stream
    }

    /// What the server said of itself when it was opened or last cleaned.
    #[must_use]
    pub fn hello(&self) -> &Rc<Hello> {
        &self.hello
    }
}

impl RedisServer {
    /// The server behind `upstream`. `clients_log_in`: the proxy has no login of its own, and asks none of clients.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>, clients_log_in: bool) -> Self {
        let database = upstream.config().database.as_deref().and_then(|number| number.parse().ok()).unwrap_or(0);
        Self { upstream, database, clients_log_in }
    }

    /// The database that clients start in.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    fn wish<'a>(&'a self, key: &'a Key, own: Option<&'a SecretString>) -> Wish<'a> {
        let account = match &key.identity {
            Identity::Client(login) => Some((login.user.as_ref().map(ExposeSecret::expose_secret), login.password.expose_secret())),
            Identity::Proxy => own.map(|password| {
                let user = self.upstream.config().credentials.as_ref().and_then(|login| login.user.as_deref());
                (user.map(str::as_bytes), password.expose_secret().as_bytes())
            }),
        };
        Wish {
            account,
            is_clients: self.clients_log_in || matches!(key.identity, Identity::Client(_)),
            resp3: key.resp3,
            database: key.database,
            is_database_clients: key.database != self.database,
        }
    }
}

impl Backend for RedisServer {
    type Connection = Link;
    type Key = Key;

    /// Name, TCP, TLS and login within `connect_timeout`.
    ///
    /// # Errors
    /// As [`Upstream::connect_and`] and [`login()`](crate::redis::login()). An error with a reply is the server's answer to the client's own AUTH or
    /// SELECT (or HELLO 3 to a server older than Redis 6), for that client to hear word by word.
    async fn open(&self, key: &Key) -> Result<Link> {
        let own = self.upstream.password();
        let wish = self.wish(key, own.as_deref());
        let (connection, hello) = self.upstream.connect_and(async |stream: &mut Stream| log_in(stream, &wish).await).await?;
        let knows_reset = hello.is_at_least(6, 2);
        Ok(Link { connection, hello: Rc::new(hello), knows_reset })
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

impl Reuse for RedisServer {
    /// None can be made: handshakes are resumed and cheap, and lanes serve most clients.
    type Parcel = std::convert::Infallible;

    const MOVES: bool = false;

    fn pack(&self, link: Link) -> std::result::Result<Self::Parcel, Link> {
        Err(link)
    }

    fn unpack(&self, parcel: Self::Parcel) -> Option<Link> {
        match parcel {}
    }

    /// RESET and the login again, or the same step by step on servers without RESET. What RESET leaves alone stays: the library name of CLIENT
    /// SETINFO, and before 7.2 CLIENT NO-EVICT.
    async fn clean(&self, link: &mut Link, key: &Key) -> Result<()> {
        let own = self.upstream.password();
        let wish = self.wish(key, own.as_deref());
        link.hello = Rc::new(Box::pin(clean(&mut link.connection.stream, &wish, &mut link.knows_reset)).await?);
        Ok(())
    }

    fn outdated(&self, link: &Link) -> Option<EvictReason> {
        self.upstream.outdated(&link.connection)
    }
}

#[cfg(test)]
mod tests;
