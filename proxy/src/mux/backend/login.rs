//! Logging in to a Redis server for others, and bringing a used connection back: each one write, its replies read and judged in turn.

use aws_lc_rs::rand;
use bytes::{Bytes, BytesMut};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::hello::Hello;
use crate::error::{Error, Kind, Result, Side};
use crate::redis::command::encode;
use crate::redis::frame::{ReplyKind, ReplyScanner};
use crate::redis::login::{refused, send, unanswered, unexpected};
use crate::tls;

/// How much is read at once: a login's replies fit.
const CHUNK_BYTES: usize = 4096;
/// All replies to one write together, and what is skipped between them: publications that a subscriber had not taken.
const MAX_BYTES: usize = 256 * 1024;
/// How the messages to a subscriber of RESP2 begin, where RESP3 has pushes.
const PUBLICATIONS: &[&str] =
    &["message", "pmessage", "smessage", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"];

/// Who and what a connection should be.
pub(super) struct Wish<'a> {
    /// User, if any, and password; `None`: no AUTH.
    pub(super) account: Option<(Option<&'a [u8]>, &'a [u8])>,
    /// The account is the client's own: it must hear how the server judges it.
    pub(super) is_clients: bool,
    pub(super) resp3: bool,
    pub(super) database: u32,
    /// The database is what a client asked for, not the configuration.
    pub(super) is_database_clients: bool,
}

/// Logs in: AUTH, HELLO, SELECT in one write, each reply verified.
///
/// # Errors
/// As [`login()`](crate::redis::login()). With the server's reply in it when the server refused what a client asked for.
pub(super) async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, wish: &Wish<'_>) -> Result<Hello> {
    send(stream, &wish.request(&[])).await?;
    let mut replies = Replies::new(stream);
    let hello = wish.judge(&mut replies).await?;
    replies.end()?;
    Ok(hello)
}

/// Brings a connection on which nothing is owed back to what [`log_in`] makes: RESET and the login again. `knows_reset` becomes false when the
/// server has no RESET; then, and at once when it is false, what RESET does is asked for step by step.
///
/// Both ways end in a PING with a random token. Only its echo proves that every reply before it was to what was asked here.
///
/// # Errors
/// Any: the connection is in no known state and must be closed.
pub(super) async fn clean<S>(stream: &mut S, wish: &Wish<'_>, knows_reset: &mut bool) -> Result<Hello>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if *knows_reset {
        let token = token()?;
        send(stream, &together(&[&encode(&[b"RESET"]), &wish.request(&[b"PING", &token])])).await?;
        let mut replies = Replies::new(stream);
        let reset = replies.next("RESET").await?;
        if reset == b"+RESET\r\n"[..] {
            return wish.judge_with_token(&mut replies, &token).await;
        }
        if !reset.starts_with(b"-ERR unknown command") {
            return Err(unexpected("RESET"));
        }
        *knows_reset = false;
        // The rest has been carried out or queued in a MULTI: it is all done again below. One reply each, whatever it says.
        for _ in 0..wish.commands() + 1 {
            replies.next("a login").await?;
        }
        replies.end()?;
    }
    step_by_step(stream, wish).await
}

/// What RESET does, for servers that have none (before 6.2, or hidden by `rename-command`).
async fn step_by_step<S>(stream: &mut S, wish: &Wish<'_>) -> Result<Hello>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let token = token()?;
    // DISCARD first: in a MULTI the others would be queued. UNWATCH behind the unsubscribing: in RESP2 a subscriber may not say it.
    let steps = [
        encode(&[b"DISCARD"]),
        encode(&[b"UNSUBSCRIBE"]),
        encode(&[b"PUNSUBSCRIBE"]),
        encode(&[b"SUNSUBSCRIBE"]),
        encode(&[b"UNWATCH"]),
        encode(&[b"CLIENT", b"SETNAME", b""]),
        encode(&[b"CLIENT", b"TRACKING", b"OFF"]),
    ];
    let steps = steps.concat();
    send(stream, &together(&[&steps, &wish.request(&[b"PING", &token])])).await?;
    let mut replies = Replies::new(stream);
    // Refused when there is no MULTI, and to a subscriber of RESP2, who can have none.
    replies.expect("DISCARD", &["+OK\r\n", "-ERR "]).await?;
    // What the unsubscribing answers, one for each channel, are publications, and skipped.
    let mut reply = replies.next("UNWATCH").await?;
    if reply.starts_with(b"-ERR unknown command") {
        // SUNSUBSCRIBE, before Redis 7.
        reply = replies.next("UNWATCH").await?;
    }
    if reply != b"+OK\r\n"[..] {
        return Err(unexpected("UNWATCH"));
    }
    // Who may not do these two has not done them; servers before 6 know no tracking.
    replies.expect("CLIENT SETNAME", &["+OK\r\n", "-NOPERM "]).await?;
    replies.expect("CLIENT TRACKING", &["+OK\r\n", "-NOPERM ", "-ERR "]).await?;
    wish.judge_with_token(&mut replies, &token).await
}

impl Wish<'_> {
    /// The login, and one more command.
    fn request(&self, more: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let auth = Zeroizing::new(match self.account {
            Some((Some(user), password)) => encode(&[b"AUTH", user, password]),
            Some((None, password)) => encode(&[b"AUTH", password]),
            None => Vec::new(),
        });
        let hello = encode(&[b"HELLO", if self.resp3 { b"3" } else { b"2" }]);
        let select = if self.database == 0 { Vec::new() } else { encode(&[b"SELECT", self.database.to_string().as_bytes()]) };
        let probe = if self.account.is_none() { encode(&[b"PING"]) } else { Vec::new() };
        let more = if more.is_empty() { Vec::new() } else { encode(more) };
        together(&[&auth, &hello, &select, &probe, &more])
    }

    /// How many commands the login has.
    fn commands(&self) -> usize {
        // With AUTH or PING.
        2 + usize::from(self.database != 0)
    }

    async fn judge<S: AsyncRead + Unpin>(&self, replies: &mut Replies<'_, S>) -> Result<Hello> {
        if self.account.is_some() {
            let reply = replies.next("AUTH").await?;
            if reply != b"+OK\r\n"[..] {
                return Err(refusal("AUTH", &reply, self.is_clients));
            }
        }
        let reply = replies.next("HELLO").await?;
        let Some(hello) = Hello::parse(&reply) else { return Err(refusal("HELLO", &reply, self.is_clients)) };
        if hello.proto() != Some(if self.resp3 { 3 } else { 2 }) {
            // Knows no HELLO, and a client wants RESP3; else it is no server that we know.
            return Err(refusal("HELLO", &reply, true));
        }
        if self.database != 0 {
            let reply = replies.next("SELECT").await?;
            if reply != b"+OK\r\n"[..] {
                // Not NOPERM: its text names the proxy's user.
                return Err(refusal("SELECT", &reply, self.is_clients || self.is_database_clients && reply.starts_with(b"-ERR ")));
            }
        }
        if self.account.is_none() {
            // Servers without HELLO say that they do not know it before they say that they want a login.
            let reply = replies.next("PING").await?;
            if reply.starts_with(b"-NOAUTH") {
                return Err(refusal("PING", &reply, self.is_clients));
            }
        }
        Ok(hello)
    }

    async fn judge_with_token<S: AsyncRead + Unpin>(&self, replies: &mut Replies<'_, S>, token: &[u8]) -> Result<Hello> {
        let hello = self.judge(replies).await?;
        let echo = replies.next("PING").await?;
        let echoed = echo.strip_prefix(format!("${}\r\n", token.len()).as_bytes()).and_then(|rest| rest.strip_suffix(b"\r\n"));
        if echoed != Some(token) {
            return Err(unexpected("PING"));
        }
        replies.end()?;
        Ok(hello)
    }
}

/// An answer that is not the one wanted; `verbatim`: a client may hear it, if it is final.
fn refusal(command: &str, reply: &[u8], verbatim: bool) -> Error {
    let Some(text) = reply.strip_prefix(b"-").and_then(|line| line.strip_suffix(b"\r\n")) else { return unexpected(command) };
    let error = refused(command, text);
    if verbatim && error.kind == Kind::Login { error.replying(reply) } else { error }
}

/// 128 bits in hexadecimal: nobody can have prepared a reply with it.
fn token() -> Result<[u8; 32]> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::ours(Kind::Io, "no random numbers from the system"))?;
    let mut out = [0; 32];
    out.copy_from_slice(format!("{:032x}", u128::from_ne_bytes(bytes)).as_bytes());
    Ok(out)
}

/// Pieces of which one may hold a password, in one allocation of the right size.
fn together(pieces: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(pieces.concat())
}

/// The replies to one write.
struct Replies<'s, S> {
    stream: &'s mut S,
    input: BytesMut,
    scanner: ReplyScanner,
    /// Bytes at the front of `input` that the scanner has seen.
    scanned: usize,
    /// Bytes that may still be read.
    left: usize,
}

impl<'s, S: AsyncRead + Unpin> Replies<'s, S> {
    fn new(stream: &'s mut S) -> Self {
        Self { stream, input: BytesMut::new(), scanner: ReplyScanner::new(), scanned: 0, left: MAX_BYTES }
    }

    /// The next whole reply, pushes and publications skipped.
    async fn next(&mut self, command: &str) -> Result<Bytes> {
        loop {
            match self.scanner.next(self.input.get(self.scanned..).unwrap_or_default()) {
                Ok(Some(reply)) => {
                    let frame = self.input.split_to(self.scanned + reply.end).freeze();
                    self.scanned = 0;
                    if reply.kind == ReplyKind::Reply && !is_publication(&frame) {
                        return Ok(frame);
                    }
                }
                Ok(None) if self.left > 0 => {
                    self.scanned = self.input.len();
                    self.input.reserve(CHUNK_BYTES);
                    let read = self.stream.read_buf(&mut self.input).await.map_err(|error| tls::explain(Side::Upstream, &error))?;
                    if read == 0 {
                        return Err(unanswered(command));
                    }
                    self.left = self.left.saturating_sub(read);
                }
                Ok(None) | Err(_) => return Err(unexpected(command)),
            }
        }
    }

    /// The next reply must begin with one of these.
    async fn expect(&mut self, command: &str, begins: &[&str]) -> Result<()> {
        let reply = self.next(command).await?;
        if begins.iter().any(|begin| reply.starts_with(begin.as_bytes())) { Ok(()) } else { Err(unexpected(command)) }
    }

    /// Nothing may have come behind the last reply.
    fn end(&self) -> Result<()> {
        if self.input.is_empty() { Ok(()) } else { Err(Error::upstream(Kind::Protocol, "the server says more than it was asked")) }
    }
}

/// A message to a subscriber of RESP2.
fn is_publication(frame: &[u8]) -> bool {
    let kind = frame.strip_prefix(b"*").and_then(|rest| rest.split(|&byte| byte == b'\n').nth(2)).and_then(|line| line.strip_suffix(b"\r"));
    kind.is_some_and(|kind| PUBLICATIONS.iter().any(|name| name.as_bytes() == kind))
}
