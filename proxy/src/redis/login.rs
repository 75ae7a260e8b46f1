//! Both logins: the client's to us ([`authenticate`]) and ours to the server ([`login`]).
//!
//! Neither has a deadline of its own; the caller wraps it in one. Neither is cancel-safe: the connection of a future that was dropped must be
//! closed.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::command::{encode, parse};
use super::frame::{RequestError, RequestKind, RequestScanner};
use super::gate::{self, Answer};
use crate::error::{Error, Kind, Result, Side};
use crate::tls;

/// How long a wrong password is left without an answer. A guesser on one connection gets five tries a second, a person notices nothing, and a
/// component that tries again in a loop costs next to nothing.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(200);
/// The connection is closed after so many wrong passwords.
const MAX_WRONG_PASSWORDS: u32 = 10;
/// How much is read at once, and how much of replies is collected before it is written: a login fits.
const CHUNK_BYTES: usize = 4096;
/// A status or error line of the server is at most so long; its longest texts at login have some 200 bytes.
const MAX_LINE_BYTES: usize = 1024;

/// How the client's login ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The client is in, and all replies so far are written.
    Welcome {
        /// To be written to the server first: the client's HELLO without its password, if it sent one, then what it sent behind the login.
        forward: Vec<u8>,
    },
    /// It closed, or said QUIT, and was refused nothing. Not an error.
    Left,
}

/// Lets a client log in with the local password: AUTH or HELLO AUTH, any user name. Until then every command is answered as Redis would.
///
/// `input` was read before. `check` compares a password in constant time. Buffers at most one command within Redis' limits for unauthenticated clients, and one chunk.
///
/// # Errors
/// [`Kind::Login`]: it gave up or was cut off after a wrong password, or without sending one though it was asked. [`Kind::Protocol`]: what it
/// sent is no Redis protocol; it has been told so. [`Kind::Io`]: its connection broke.
pub async fn authenticate<S>(client: &mut S, mut input: BytesMut, check: impl Fn(&[u8]) -> bool) -> Result<Greeting>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut visit = Visit { client, replies: Vec::new(), wrong: 0, asked: false };
    let mut scanner = RequestScanner::unauthenticated();
    // Bytes at the front of `input` that the scanner has seen: they begin a frame that is not complete.
    let mut scanned = 0;
    loop {
        match scanner.next(input.get(scanned..).unwrap_or_default()) {
            Ok(Some(request)) => {
                let frame = input.split_to(scanned + request.end);
                scanned = 0;
                if request.kind == RequestKind::Nothing {
                    continue;
                }
                let answer = match parse(&frame) {
                    Ok(arguments) => gate::answer(&arguments, &check),
                    Err(error) => return Err(visit.protocol(error).await),
                };
                match visit.act(answer).await? {
                    Act::Stay => {}
                    Act::Leave => return visit.left(),
                    Act::Enter(mut forward) => {
                        forward.extend_from_slice(&input);
                        return Ok(Greeting::Welcome { forward });
                    }
                }
            }
            Ok(None) => {
                scanned = input.len();
                visit.flush().await?;
                input.reserve(CHUNK_BYTES);
                match visit.client.read_buf(&mut input).await {
                    Ok(0) => return visit.left(),
                    Ok(_) => {}
                    // A prober may reset instead of closing, and a TLS client may leave without saying so.
                    Err(error) if is_gone(&error) => return visit.left(),
                    Err(error) => return Err(Error::io(Side::Client, &error)),
                }
            }
            Err(error) => return Err(visit.protocol(error).await),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
}

/// A client that has not logged in yet.
struct Visit<'a, S> {
    client: &'a mut S,
    /// Not yet written.
    replies: Vec<u8>,
    /// Wrong passwords so far.
    wrong: u32,
    /// It was told that a login is needed.
    asked: bool,
}

enum Act {
    Stay,
    Leave,
    Enter(Vec<u8>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Visit<'_, S> {
    async fn act(&mut self, answer: Answer) -> Result<Act> {
        match answer {
            Answer::Say(text) => {
                self.asked |= text.starts_with(b"-NOAUTH");
                self.replies.extend_from_slice(&text);
                if self.replies.len() >= CHUNK_BYTES {
                    self.flush().await?;
                }
                Ok(Act::Stay)
            }
            Answer::Wrong => {
                self.wrong += 1;
                self.flush().await?;
                tokio::time::sleep(WRONG_PASSWORD_DELAY).await;
                self.replies.extend_from_slice(gate::WRONG_PASSWORD);
                self.flush().await?;
                if self.wrong >= MAX_WRONG_PASSWORDS { Err(self.refused()) } else { Ok(Act::Stay) }
            }
            Answer::Quit(text) => {
                self.replies.extend_from_slice(text);
                self.flush().await?;
                Ok(Act::Leave)
            }
            Answer::Http => Err(Error::client(Kind::Protocol, "HTTP request on a Redis port; closed without an answer")),
            Answer::Welcome { reply, forward } => {
                self.replies.extend_from_slice(&reply);
                self.flush().await?;
                Ok(Act::Enter(forward))
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let written = async {
            self.client.write_all(&self.replies).await?;
            self.client.flush().await
        }
        .await;
        self.replies.clear();
        written.map_err(|error| Error::io(Side::Client, &error))
    }

    /// Tells the client how it broke the protocol.
    async fn protocol(&mut self, error: RequestError) -> Error {
        self.replies.extend_from_slice(&error.reply());
        // It may be gone; the protocol error is what matters.
        let _ = self.flush().await;
        Error::client(Kind::Protocol, format!("{error}, before the login; is it a Redis client?"))
    }

    /// The client went without logging in. That is an error when it would have liked to stay: somebody has to set a password right.
    fn left(&self) -> Result<Greeting> {
        if self.wrong > 0 || self.asked { Err(self.refused()) } else { Ok(Greeting::Left) }
    }

    fn refused(&self) -> Error {
        let why = match self.wrong {
            0 => "the client sent no password; give it this listener's client password".to_owned(),
            1 => "wrong password; the client must use this listener's client password, not the server's".to_owned(),
            n => format!("{n} wrong passwords; the client must use this listener's client password, not the server's"),
        };
        Error::client(Kind::Login, why)
    }
}

/// Logs in to a server: AUTH when there is a password, SELECT when the database is not 0, both in one write. Reads the replies and not one byte
/// more.
///
/// # Errors
/// [`Kind::Login`]: the server refused. [`Kind::Unavailable`]: it does not serve now. [`Kind::Protocol`]: it does not answer like Redis. [`Kind::Io`]: the connection broke. None of them
/// repeats what the server said beyond its error code.
pub async fn login<S>(upstream: &mut S, user: Option<&str>, password: Option<&SecretString>, database: Option<u32>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let auth = Zeroizing::new(match (user, password.map(|password| password.expose_secret().as_bytes())) {
        (Some(user), Some(password)) => encode(&[b"AUTH", user.as_bytes(), password]),
        (None, Some(password)) => encode(&[b"AUTH", password]),
        (_, None) => Vec::new(),
    });
    let database = database.filter(|&database| database != 0);
    let select = database.map(|database| encode(&[b"SELECT", database.to_string().as_bytes()]));
    let request = Zeroizing::new([auth.as_slice(), select.as_deref().unwrap_or_default()].concat());
    send(upstream, &request).await?;
    if password.is_some() {
        expect(upstream, "AUTH", b"OK").await?;
    }
    if database.is_some() {
        expect(upstream, "SELECT", b"OK").await?;
    }
    Ok(())
}

/// One round trip: PING, answered PONG.
///
/// # Errors
/// The same as [`login`]; NOAUTH is a [`Kind::Login`] error: the server wants credentials that the proxy was not given.
pub async fn ping<S>(upstream: &mut S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(upstream, &encode(&[b"PING"])).await?;
    expect(upstream, "PING", b"PONG").await
}

/// Writes all of `request`.
pub(crate) async fn send<S: AsyncWrite + Unpin>(upstream: &mut S, request: &[u8]) -> Result<()> {
    if request.is_empty() {
        return Ok(());
    }
    let written = async {
        upstream.write_all(request).await?;
        upstream.flush().await
    };
    written.await.map_err(|error| tls::explain(Side::Upstream, &error))
}

/// Reads one status reply and compares it.
async fn expect<S: AsyncRead + Unpin>(upstream: &mut S, command: &str, status: &[u8]) -> Result<()> {
    let line = read_line(upstream, command).await?;
    match line.split_first() {
        Some((b'+', text)) if text == status => Ok(()),
        Some((b'-', text)) => Err(refused(command, text)),
        _ => Err(unexpected(command)),
    }
}

/// Reads one line byte by byte: what is behind it belongs to the client. A login has some ten bytes, and TLS hands them out of its buffer.
async fn read_line<S: AsyncRead + Unpin>(upstream: &mut S, command: &str) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0; 1];
    while !line.ends_with(b"\r\n") {
        let read = upstream.read(&mut byte).await;
        if read.map_err(|error| tls::explain(Side::Upstream, &error))? == 0 {
            return Err(unanswered(command));
        }
        line.extend_from_slice(&byte);
        if !line.starts_with(b"+") && !line.starts_with(b"-") || line.len() > MAX_LINE_BYTES {
            return Err(unexpected(command));
        }
    }
    line.truncate(line.len() - 2);
    Ok(line)
}

/// It closed instead of answering.
pub(crate) fn unanswered(command: &str) -> Error {
    Error::upstream(Kind::Io, format!("closed while {command} was unanswered; the server may be out of connections or shutting down"))
}

/// What it answered is none of the answers to that command.
pub(crate) fn unexpected(command: &str) -> Error {
    Error::upstream(Kind::Protocol, format!("unexpected answer to {command}; is it a Redis server?"))
}

/// The server's error (without its `-`) as ours: its code, and what to do. [`Kind::Unavailable`] when it may serve later, else
/// [`Kind::Login`].
pub(crate) fn refused(command: &str, text: &[u8]) -> Error {
    /// Not now: whoever begins so.
    const PASSING: &[&str] = &["LOADING", "MASTERDOWN", "BUSY", "ERR max number of clients reached"];
    /// How an error text begins, and the cure; of several that fit the first counts.
    const CURES: &[(&str, &str)] = &[
        ("WRONGPASS", "wrong user or password; check the credentials for this upstream"),
        ("NOAUTH", "the server wants a password; give this upstream credentials"),
        ("NOPERM", "the user may not do that; extend its ACL on the server"),
        ("LOADING", "the server is loading its data; it will be tried again"),
        ("MASTERDOWN", "the server is a replica without its primary; it will be tried again"),
        ("BUSY", "the server is busy with a script; it will be tried again"),
        ("ERR max number of clients reached", "the server is out of connections; lower the pool sizes or choose a bigger plan"),
        ("ERR DB index is out of range", "the server has fewer databases; correct the number in the URL"),
        ("ERR invalid DB index", "the server has no such database; correct the number in the URL"),
        ("ERR SELECT is not allowed in cluster mode", "a cluster has database 0 only; take the number out of the URL"),
        ("ERR invalid password", "wrong password; check the credentials for this upstream"),
        ("ERR AUTH <password> called without any password", "the server has no password; take it out of the URL, or name a user"),
        ("ERR Client sent AUTH, but no password is set", "the server has no password; take it out of the URL"),
        ("ERR wrong number of arguments", "a server older than Redis 6 knows no users; take the user out of the URL"),
    ];
    let cure =
        CURES.iter().find(|(begin, _)| text.starts_with(begin.as_bytes())).map_or("unknown reason; see the server's log", |(_, cure)| cure);
    let length = text.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let code = text.get(..length).filter(|code| (1..=16).contains(&code.len())).and_then(|code| std::str::from_utf8(code).ok());
    let kind = if PASSING.iter().any(|begin| text.starts_with(begin.as_bytes())) { Kind::Unavailable } else { Kind::Login };
    Error::upstream(kind, format!("{command} answered with {}: {cure}", code.unwrap_or("an error")))
}

#[cfg(test)]
mod tests;
