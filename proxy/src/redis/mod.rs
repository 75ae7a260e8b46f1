//! Redis: what its bytes mean, as far as a proxy has to know.
//!
//! A client connects. With `client_auth: password` it has to log in first ([`login::authenticate`]): until it has, each command is answered
//! here, in the words that Redis has for it ([`gate`]), and nothing of it reaches a server.
//!
//! # `relay`
//!
//! Then it gets an upstream connection. If the proxy has credentials it logged in there ([`login::login`]) when the connection was opened,
//! long before; if it has none, the client's own AUTH goes through untouched. A HELLO that carried the local password is passed on without it,
//! so that the server itself says what it is and which protocol it speaks. If no connection can be had the client hears why in one error reply
//! ([`refusals`]) and is closed.
//!
//! That is its login for good: what it sends from then on is relayed unread. A second AUTH, or the AUTH that has to follow a RESET, asks the
//! *server*, which does not know the local password and refuses it (WRONGPASS); such a client has to connect anew. Its bytes are only framed
//! in passing ([`frame`], [`boundary`]): when the process drains, a client with nothing owed and both sides between two frames is closed at
//! once, all others may finish.
//!
//! # `session` and `multiplex`
//!
//! Connections are shared, and each request is looked at, at its beginning alone ([`head`]): the command table ([`table`]) says what it would
//! leave on the connection that carries it ([`class`]), and so where it may go. What the table does not know is never guessed. AUTH, HELLO and
//! RESET stay the proxy's business for as long as the client is there. Moving the bytes is [`crate::mux`]'s part; here are no sockets but those
//! of a login.
//!
//! [`command`] takes apart the few commands of a login. Whatever a peer sends, memory is bounded by what it really sent, never by a length
//! that it announced.

pub mod boundary;
pub mod class;
pub mod command;
pub mod frame;
pub mod gate;
pub mod head;
pub mod login;
pub mod refusals;
pub mod table;

pub use boundary::Boundary;
pub use class::Class;
pub use login::{Greeting, authenticate, login, ping};
pub use refusals::{MAX_CLIENTS, refusal};
pub use table::classify;

#[cfg(test)]
mod server_tests;
