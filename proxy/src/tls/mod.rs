//! TLS: who is trusted (`config`), what a failure means (`failure`), and bytes through a connection ([`TlsStream`]).

mod certificate;
mod config;
mod failure;
mod sessions;
mod stream;

pub use certificate::{Certificate, end_point, expiry};
pub use config::{client_config, server_config, server_name};
pub use failure::explain;
pub use stream::TlsStream;
