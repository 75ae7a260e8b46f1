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
//! - `client` moves the bytes.

pub mod backend;
pub mod clients;
pub mod exchange;
pub mod key;
pub mod params;

pub use backend::{CancelKey, Link, LinkFacts, LinkState, PostgresServer};
pub use clients::{Badge, Card, Clients};
pub use key::Key;
pub use params::Params;
