//! PostgreSQL, from a client's first byte to the moment when bytes are copied blindly.
//!
//! A client connects and may first ask for encryption: [`negotiate`] declines, or has TLS terminated where the listener has a certificate,
//! until the client says what it wants. That is a session ([`Startup`]), or the cancelling of another connection's query, or nothing at all.
//!
//! Upstream, a connection is always TLS: [`request_tls`] asks for it in PostgreSQL's own way and reads one byte, so that the handshake finds
//! everything else. Such connections wait, handshake done and StartupMessage not yet sent, in the pool's stock.
//!
//! Then somebody logs in. Without credentials of ours the client does, and [`pass_through`] carries its messages, taking out the one offer
//! that cannot work through a proxy (SCRAM-SHA-256-PLUS). With credentials, [`authenticate`] checks the client's local password if there is
//! one, before an upstream connection is taken, and [`log_in`] opens the session with the proxy's own name. Both end at AuthenticationOk,
//! with both streams behind a whole message; from there on the relay copies, and [`Boundary`] watches the headers only to know, when the
//! process drains, which clients are idle.
//!
//! In the modes that share connections nobody waits on the other side: [`open_session`] goes on to ReadyForQuery and returns what the server
//! has told of itself, and [`discard_all`] makes a used session a new one.
//!
//! A CancelRequest goes upstream unchanged ([`carry_cancel`]): in `relay` the client holds the server's own key.
//!
//! Whoever is not served hears why in PostgreSQL's form ([`refuse`]). The functions here that return errors have told the client already.
//! None of them bounds its time; all may be dropped, and the connections with them.
//!
//! | read | for |
//! |---|---|
//! | `startup`, `options`, `message`, `reply`, `scram`, `md5`, `boundary`, `sql`, `traces` | bytes to facts and back, without I/O |
//! | `negotiate`, `upstream_tls`, `pass_through`, `client_auth`, `account`, `login`, `session`, `settings`, `cancel` | the conversations |
//! | `frames`, `refuse` | whole messages off a stream; last words |

mod account;
pub mod boundary;
mod cancel;
mod client_auth;
mod frames;
mod login;
pub mod md5;
pub mod message;
mod negotiate;
pub mod options;
mod pass_through;
pub mod refuse;
pub mod reply;
pub mod scram;
mod session;
pub mod settings;
pub mod sql;
pub mod startup;
pub mod traces;
mod upstream_tls;

pub use account::Account;
pub use boundary::Boundary;
pub use cancel::carry as carry_cancel;
pub use client_auth::authenticate;
pub use login::log_in;
pub use message::SqlState;
pub use negotiate::{NoTls, Opening, TlsStart, negotiate};
pub use pass_through::pass_through;
pub use session::{Session, Setting, discard_all, open_session};
pub use startup::Startup;
pub use upstream_tls::request_tls;

/// How a login ended, where that is nobody's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Well.
    Ready,
    /// The server refused it; the client has the server's own words, we keep the code for the log.
    Refused(Option<SqlState>),
    /// The client closed instead of answering, as those do that first want to know whether a password is needed.
    ClientGone,
}
