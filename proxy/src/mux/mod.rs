//! Many Redis clients, few upstream connections: the modes `session` and `multiplex`.

pub mod backend;
pub mod hello;
pub mod key;
mod login;

pub use backend::{Link, RedisServer};
pub use hello::Hello;
pub use key::{Identity, Key, Login};
