//! Which upstream connections are alike: those that a client could use without noticing which of them it got.

use std::sync::Arc;

/// What connections to one server differ in. The login is always the proxy's own, and settings are put right when a connection is lent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The database's name, as it goes into the StartupMessage.
    pub database: Arc<[u8]>,
}
