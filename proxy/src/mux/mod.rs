//! Many Redis clients, few upstream connections: the modes `session` and `multiplex`.
//!
//! ```text
//!                   ┌──────────────── client: one task each ────────────────┐
//!   client's socket ┤ scan ─► run of shared requests ───────────────────────┼──► lane ═══ TLS ═══► upstream
//!     ▲             │      └► about itself: answered (local)                │     │  shared by all clients of a key
//!     │             │      └► anything else: a connection of its own ───────┼──► lease ══ TLS ═══► upstream
//!     │             └───────────────────────────────────────────────────────┘     │  one client's, for a while (pinned)
//!     └──────────────────────────── replies (outlet) ◄────────────────────────────┘
//! ```
//!
//! - [`key`] says which connections are alike, [`backend`] opens them and brings used ones back to the state of new ones;
//! - `scan` finds the requests that may go together, `track` follows what a client leaves on a connection of its own;
//! - [`lanes`] chooses a [`lane`], `pinned` is the way over a lease, `local` and `answer` speak for the server;
//! - `login` is about who a client is, [`verdicts`] about what the server thinks of that;
//! - [`outlet`] is where all replies meet again.
//!
//! A client's requests keep their order: whatever is not plainly shared waits until nothing is owed to it. In `session` nothing is shared: a client
//! takes a lease with its first command and keeps it to the end.
//!
//! What one client does must not be felt by another. When a slow command holds up a lane, clients to whom it owes nothing go over another; what
//! a client does not take is kept for it, up to a limit, and then it is closed; one that leaves in the middle of a request, or of a blocking
//! command, takes no connection with it but its own.
//!
//! Nothing is ever sent twice. A reply belongs to the client at the head of a lane's queue, and to nobody else.

mod answer;
pub mod backend;
mod client;
pub mod key;
pub mod lane;
pub mod lanes;
mod local;
mod login;
pub mod outlet;
mod pinned;
mod scan;
pub mod track;
pub mod verdicts;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use backend::{Hello, Link, RedisServer};
pub use client::serve;
pub use key::{Identity, Key, Login};
pub use lanes::Lanes;
pub use verdicts::Verdicts;

use crate::config::Listener;
use crate::error::{Error, Kind};
use crate::metrics::ListenerMetrics;
use crate::pool::Leases;

/// What all clients of one listener share on one worker.
pub struct Mux {
    /// The listener's settings.
    pub listener: Arc<Listener>,
    /// `multiplex`; in `session` every client has a connection of its own.
    pub shares: bool,
    /// How clients prove who they are.
    pub auth: Auth,
    /// What a new client uses.
    pub home: Key,
    /// Connections for one client at a time.
    pub leases: Rc<Leases<RedisServer>>,
    /// Connections for all.
    pub lanes: Rc<Lanes>,
    /// What the server has said about logins.
    pub verdicts: Rc<Verdicts>,
    /// Clients are closed when nothing is owed to them.
    pub closing: CancellationToken,
    /// Whoever is left is cut.
    pub cut: CancellationToken,
    /// Where everything is counted.
    pub metrics: ListenerMetrics,
    /// The last number given to a client, and how far it is to the next.
    pub ids: (Cell<u64>, u64),
}

/// Whether a password is the right one, in constant time.
pub type Check = Rc<dyn Fn(&[u8]) -> bool>;

/// How clients prove who they are.
pub enum Auth {
    /// Not at all: the proxy's login is theirs.
    Open,
    /// By a local password: whether it is right, in constant time.
    Local(Check),
    /// The server judges.
    Server,
}

impl Auth {
    /// A client's AUTH is the server's business.
    #[must_use]
    pub fn asks_server(&self) -> bool {
        matches!(self, Self::Server)
    }
}

impl Mux {
    /// A number that no other client of the process has had.
    fn next_id(&self) -> u64 {
        let (last, step) = &self.ids;
        last.set(last.get() + step);
        last.get()
    }
}

/// A client that speaks TLS where plaintext is spoken.
#[must_use]
pub fn speaks_tls() -> Error {
    let why = "the client speaks TLS, but this listener is plaintext: use redis:// or give the listener a certificate";
    Error::client(Kind::Protocol, why)
}
