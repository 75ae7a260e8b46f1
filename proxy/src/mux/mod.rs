//! Many Redis clients, few upstream connections: the modes `session` and `multiplex`.

pub mod key;

pub use key::{Identity, Key, Login};
