//! Many PostgreSQL clients, few upstream connections: the modes `session` and `transaction`.
//!
//! ```text
//!   admit: startup, login ──► greet: parameters, key ──► client: one task each ─────────┐
//!                                                          │  requests  ▲ replies       │
//!                                                          ▼            │               │
//!                                                     exchange (pure): rewrites names,  │
//!                                                     expects replies, follows state    │
//!                                                          │            ▲               │
//!                                                          ▼            │               │
//!                                                     lease: one upstream connection, for a transaction, or longer while pinned
//! ```
//!
//! - [`key`] says which connections are alike, [`backend`] opens them and brings used ones back to the state of new ones;
//! - [`params`] are the settings that follow a client from connection to connection;
//! - [`exchange`] knows, from messages alone, what is owed, what is prepared where, and when a connection may be given back;
//! - [`clients`] are those who are served: whom a CancelRequest means, and who there is;
//! - [`greet`] tells a client what its session begins with;
//! - [`console`] shows all this to whoever asks for it as if it were a database;
//! - [`client`] moves the bytes.

pub mod backend;
pub mod client;
pub mod clients;
pub mod console;
pub mod exchange;
pub mod greet;
pub mod key;
pub mod params;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use backend::{CancelKey, Link, LinkFacts, LinkState, PostgresServer};
pub use clients::{Badge, Card, Clients};
pub use exchange::Statements;
pub use greet::{Greetings, Guest};
pub use key::Key;
pub use params::Params;

use crate::config::Listener;
use crate::error_log::ErrorLog;
use crate::metrics::ListenerMetrics;
use crate::pool::{Budget, Leases};
use crate::postgres::Startup;
use crate::upstream::Upstream;

/// What all clients of one listener share on one worker.
pub struct Broker {
    /// The listener's settings.
    pub listener: Arc<Listener>,
    /// `transaction`; in `session` every client has a connection of its own.
    pub shares: bool,
    /// What a client uses that names no database.
    pub home: Key,
    /// Connections for one client at a time.
    pub leases: Rc<Leases<PostgresServer>>,
    /// How many there may be, over all workers.
    pub budget: Arc<Budget>,
    /// How they are opened.
    pub server: Arc<PostgresServer>,
    /// The server itself.
    pub upstream: Arc<Upstream>,
    /// All clients, over all workers.
    pub clients: Arc<Clients>,
    /// What clients were told when they came.
    pub greetings: Greetings,
    /// What they have prepared.
    pub statements: RefCell<Statements>,
    /// Clients are closed when nothing is owed to them.
    pub closing: CancellationToken,
    /// Whoever is left is cut.
    pub cut: CancellationToken,
    /// Where everything is counted.
    pub metrics: ListenerMetrics,
    /// Where errors go.
    pub errors: Arc<ErrorLog>,
}

impl Broker {
    /// Which connections will do for a client: those to the database that it has chosen.
    #[must_use]
    pub fn key_for(&self, startup: &Startup) -> Key {
        startup.chosen_database().map_or_else(|| self.home.clone(), |database| Key { database: database.into() })
    }
}
