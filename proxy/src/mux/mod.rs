//! Many Redis clients, few upstream connections: the modes `session` and `multiplex`.

pub mod backend;
pub mod key;

pub use backend::RedisServer;
pub use key::{Identity, Key, Login};
