//! TLS: who is trusted, and bytes through a rustls connection.

mod stream;

pub use stream::TlsStream;
