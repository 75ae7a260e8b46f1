//! The database `redis_tls_proxy`: clients, connections and figures of one listener, asked for with `psql` over the listener itself.
//!
//! Only Query messages are understood. It needs no upstream connection, so that it answers when there is none to be had.

pub mod command;
mod tables;

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use self::command::Command;
use super::{Badge, Broker};
use crate::error::{Error, Kind, Result, Side};
use crate::metrics::CloseReason;
use crate::postgres::message::{self, HEADER_BYTES, message_bytes};
use crate::postgres::{Startup, refuse, reply};
use crate::relay::Report;
use crate::stream::Stream;

/// The name that clients give as their database.
pub const DATABASE: &str = "redis_tls_proxy";

/// The longest message of a client. Commands are short.
const LIMIT_BYTES: usize = 16 * 1024;

/// A client of the console.
pub struct Visitor {
    /// Its presence, for others to see.
    pub badge: Badge,
    /// It may do more than look.
    pub may_change: bool,
}

/// True when this client wants the console.
#[must_use]
pub fn is_wanted(startup: &Startup) -> bool {
    startup.parameter("database") == Some(DATABASE.as_bytes())
}

/// Whether a client may do more than look: one on the same host, or one that has `proved` that it knows the listener's password.
#[must_use]
pub fn may_change(peer: Option<SocketAddr>, proved: bool) -> bool {
    proved || peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
}

/// The program and its version.
#[must_use]
pub fn version() -> String {
    format!("{DATABASE} {}", env!("CARGO_PKG_VERSION"))
}

/// Everything from AuthenticationOk to ReadyForQuery.
#[must_use]
pub fn welcome(badge: &Badge) -> BytesMut {
    let mut out = BytesMut::from(message::authentication_ok().as_slice());
    let version = format!("{}/{DATABASE}", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("server_version", version.as_str()),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ] {
        reply::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
    }
    reply::backend_key_data(&mut out, badge.card().process(), badge.card().secret());
    reply::ready_for_query(&mut out, reply::Status::Idle);
    out
}

/// Serves a client of the console to its end.
pub async fn serve(stream: Stream, visitor: Visitor, broker: &Rc<Broker>) -> Report {
    let mut console =
        Console { stream, input: BytesMut::new(), skipping: false, visitor, broker: Rc::clone(broker), bytes_up: 0, bytes_down: 0 };
    let welcome = welcome(&console.visitor.badge);
    let served = async {
        console.say(&welcome).await?;
        console.converse().await
    };
    let served = tokio::select! {
        served = served => served,
        () = broker.cut.cancelled() => Ok(CloseReason::Cut),
    };
    let (reason, error) = match served {
        Ok(reason) => (reason, None),
        Err(error) if error.kind == Kind::Protocol => {
            refuse::say(&mut console.stream, &refuse::for_error(&error)).await;
            (CloseReason::Protocol, Some(error))
        }
        Err(error) => (CloseReason::ClientError, Some(error)),
    };
    Report { reason, error, bytes_up: console.bytes_up, bytes_down: console.bytes_down }
}

struct Console {
    stream: Stream,
    input: BytesMut,
    /// Up to the next Sync messages are thrown away.
    skipping: bool,
    visitor: Visitor,
    broker: Rc<Broker>,
    bytes_up: u64,
    bytes_down: u64,
}

impl Console {
    async fn converse(&mut self) -> Result<CloseReason> {
        loop {
            let closing = self.broker.closing.clone();
            let idle = self.broker.listener.idle_timeout;
            let next = tokio::select! {
                biased;
                // Cancel-safe: what has been read is kept.
                next = self.next() => next?,
                () = closing.cancelled() => {
                    let error = Error::ours(Kind::Draining, "the process drains");
                    refuse::say(&mut self.stream, &refuse::for_error(&error)).await;
                    return Ok(CloseReason::Drain);
                }
                () = sleep(idle), if !idle.is_zero() => return Ok(CloseReason::Idle),
            };
            let Some((kind, body)) = next else { return Ok(CloseReason::Client) };
            let mut out = BytesMut::new();
            match kind {
                b'X' => return Ok(CloseReason::Client),
                b'S' => {
                    self.skipping = false;
                    reply::ready_for_query(&mut out, reply::Status::Idle);
                }
                _ if self.skipping => {}
                b'Q' => {
                    self.query(&mut out, &body).await?;
                    reply::ready_for_query(&mut out, reply::Status::Idle);
                }
                b'P' | b'B' | b'D' | b'E' | b'C' => {
                    self.skipping = true;
                    let text = "this console understands simple queries only: switch your driver to the simple query protocol, or use psql";
                    reply::error(&mut out, "0A000", text);
                }
                b'F' => {
                    reply::error(&mut out, "0A000", "this console has no functions");
                    reply::ready_for_query(&mut out, reply::Status::Idle);
                }
                // Flush: nothing is ever kept back. Copy data without a COPY: as the server, no word about it.
                b'H' | b'd' | b'c' | b'f' => {}
                _ => return Err(Error::client(Kind::Protocol, "a message of an unknown type to the console")),
            }
            self.say(&out).await?;
        }
    }

    async fn query(&mut self, out: &mut BytesMut, body: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
        let commands = match command::parse(&text) {
            Ok(commands) => commands,
            Err(mistake) => {
                reply::error(out, mistake.code, mistake.text);
                return Ok(());
            }
        };
        if commands.is_empty() {
            reply::empty_query_response(out);
        }
        for command in commands {
            let changes = matches!(command, Command::Pause | Command::Resume | Command::Reconnect);
            if changes && !self.visitor.may_change {
                let text = "only clients on the same host, or with the listener's password, may do that";
                reply::error(out, "42501", text);
                return Ok(());
            }
            if changes {
                tracing::info!(listener = self.broker.listener.name, ?command, "asked for at the console");
            }
            match command {
                Command::Show(topic) => tables::show(out, topic, &self.broker),
                Command::Courtesy(tag) => reply::command_complete(out, tag),
                Command::Pause => {
                    if !self.pause().await? {
                        reply::error(out, "57014", "the pause was ended before all connections were closed");
                        return Ok(());
                    }
                    reply::command_complete(out, "PAUSE");
                }
                Command::Resume => {
                    self.broker.budget.resume();
                    reply::command_complete(out, "RESUME");
                }
                Command::Reconnect => {
                    self.broker.budget.retire();
                    reply::command_complete(out, "RECONNECT");
                }
            }
        }
        Ok(())
    }

    /// False: somebody has resumed before it was done.
    ///
    /// # Errors
    /// The client has gone; the pause holds.
    async fn pause(&self) -> Result<bool> {
        self.broker.budget.pause();
        tokio::select! {
            drained = self.broker.budget.drained() => Ok(drained),
            () = self.stream.gone(true) => Err(Error::client(Kind::Io, "the client left during its PAUSE, which holds")),
        }
    }

    /// The next message, whole; `None`: the client has closed. Cancel-safe.
    async fn next(&mut self) -> Result<Option<(u8, BytesMut)>> {
        loop {
            if let Some(header) = self.input.first_chunk::<HEADER_BYTES>() {
                let kind = header[0];
                let total = message_bytes(*header, LIMIT_BYTES)
                    .map_err(|_| Error::client(Kind::Protocol, "a message to the console without a length that makes sense"))?;
                if self.input.len() >= total {
                    let mut body = self.input.split_to(total);
                    body.advance(HEADER_BYTES);
                    return Ok(Some((kind, body)));
                }
            }
            // At most a message and what a read brings beyond it.
            let read = self.stream.read_buf(&mut self.input).await.map_err(|error| Error::io(Side::Client, &error))?;
            self.bytes_up += u64::try_from(read).unwrap_or(0);
            if read == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(Error::client(Kind::Io, "closed in the middle of a message")) };
            }
        }
    }

    async fn say(&mut self, words: &[u8]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let said = async {
            self.stream.write_all(words).await?;
            self.stream.flush().await
        };
        match timeout(self.broker.listener.upstream.connect_timeout, said).await {
            Ok(said) => said.map_err(|error| Error::io(Side::Client, &error))?,
            Err(_) => return Err(Error::client(Kind::Timeout, "the client of the console does not read its answers")),
        }
        self.bytes_down += u64::try_from(words.len()).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_only_look() {
        for (peer, near) in
            [("127.0.0.1:9", true), ("[::1]:9", true), ("[::ffff:127.0.0.1]:9", true), ("10.0.0.7:9", false), ("[fe80::1]:9", false)]
        {
            let peer = Some(peer.parse().unwrap());
            assert_eq!((may_change(peer, false), may_change(peer, true)), (near, true), "{peer:?}");
        }
        assert!(may_change(None, false), "a unix socket");
    }
}
