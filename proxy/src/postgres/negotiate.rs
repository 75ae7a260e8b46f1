//! A client's first packets: encryption is agreed on or declined, then comes what the client really wants.
//!
//! ```text
//!             ┌── GSSENCRequest: N ──┐
//!   connect ──┼── SSLRequest: N ─────┴─► StartupMessage | CancelRequest          (plaintext listener)
//!             ├── SSLRequest: S ──► TLS ──► StartupMessage | CancelRequest       (listener with a certificate)
//!             └── ClientHello ────► TLS ──► StartupMessage | CancelRequest       (the same, direct TLS)
//! ```
//!
//! Whoever is refused here has been told before the error is returned; the caller logs, counts and closes.

use std::future::{Future, Ready};
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::frames::send;
use super::message::fatal;
use super::refuse;
use super::startup::{self, First, LENGTH_BYTES, Refusal, Startup};
use crate::error::{Error, Kind, Result, Side};
use crate::stream::{Socket, Stream};

/// First byte of a TLS ClientHello's record; as PostgreSQL's first byte it would announce 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// How a client began TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    /// After SSLRequest.
    Requested,
    /// With its first byte (PostgreSQL 17). The handshake must agree on ALPN `postgresql`, or it is refused (ALPACA attacks).
    Direct,
}

/// What a client has come for.
pub enum Opening {
    /// A session; nothing has been answered yet.
    Startup(Stream, Startup),
    /// To cancel another connection's query. The packet goes upstream as it is; the stream is closed when that is done.
    Cancel(Stream, Bytes),
    /// Nothing: it connected and closed, as load balancers and Harbor's start-up check do.
    Probe,
}

/// The type of `terminate` on a listener without a certificate: `None::<NoTls>`.
pub type NoTls = fn(Socket, TlsStart) -> Ready<Result<Stream>>;

/// Talks with a new client until it says what it wants. `terminate` performs a TLS handshake; with it plaintext sessions are refused.
///
/// CancelRequests are accepted in plaintext everywhere, as PostgreSQL does: libpq before 17 sends them so even for TLS sessions.
///
/// The caller bounds the time; dropping the future closes the connection. Reads nothing beyond what it returns.
///
/// # Errors
/// The client broke the protocol, left in the middle, or did not speak TLS where it must; or `terminate`'s own.
pub async fn negotiate<F, H>(mut socket: Socket, mut terminate: Option<F>) -> Result<Opening>
where
    F: FnOnce(Socket, TlsStart) -> H,
    H: Future<Output = Result<Stream>>,
{
    if terminate.is_some() {
        match socket.peek().await {
            Ok(Some(TLS_HANDSHAKE)) => {
                if let Some(terminate) = terminate {
                    return within_tls(terminate(socket, TlsStart::Direct).await?).await;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Ok(Opening::Probe),
        }
    }
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        let first = match read_first(&mut socket).await {
            Ok(Some(first)) => first,
            Ok(None) if ssl_asked && terminate.is_none() => {
                let why = "closed when TLS was declined: this listener speaks plaintext, connect with sslmode=disable";
                return Err(Error::client(Kind::Io, why));
            }
            Ok(None) => return Ok(Opening::Probe),
            Err(error) if error.kind == Kind::Io && !ssl_asked && !gss_asked => return Ok(Opening::Probe),
            Err(error) => return Err(error),
        };
        match first {
            Ok(First::Gss) if !gss_asked => {
                gss_asked = true;
                nothing_waiting(&mut socket).await?;
                send(&mut socket, Side::Client, b"N").await?;
            }
            Ok(First::Ssl) if !ssl_asked => {
                ssl_asked = true;
                nothing_waiting(&mut socket).await?;
                let Some(terminate) = terminate.take() else {
                    send(&mut socket, Side::Client, b"N").await?;
                    continue;
                };
                send(&mut socket, Side::Client, b"S").await?;
                return within_tls(terminate(socket, TlsStart::Requested).await?).await;
            }
            Ok(First::Ssl | First::Gss) => return Err(refused(&mut socket, &asked_twice()).await),
            Ok(First::Cancel(packet)) => return Ok(Opening::Cancel(Stream::Plain(socket), packet)),
            Ok(First::Startup(_)) if terminate.is_some() => {
                let text = "this server accepts TLS connections only: connect with sslmode=require or stronger";
                refuse::say(&mut socket, &fatal("28000", text)).await;
                return Err(Error::client(Kind::TlsPlaintext, "did not ask for TLS; set sslmode=require or stronger in the client"));
            }
            Ok(First::Startup(startup)) => return Ok(Opening::Startup(Stream::Plain(socket), startup)),
            Err(refusal) => return Err(refused(&mut socket, &refusal).await),
        }
    }
}

/// The client's first packet inside TLS.
async fn within_tls(mut stream: Stream) -> Result<Opening> {
    match read_first(&mut stream).await? {
        None => Ok(Opening::Probe),
        Some(Ok(First::Startup(startup))) => Ok(Opening::Startup(stream, startup)),
        Some(Ok(First::Cancel(packet))) => Ok(Opening::Cancel(stream, packet)),
        Some(Ok(First::Ssl | First::Gss)) => Err(refused(&mut stream, &asked_twice()).await),
        Some(Err(refusal)) => Err(refused(&mut stream, &refusal).await),
    }
}

fn asked_twice() -> Refusal {
    Refusal::protocol("encryption requested more than once")
}

/// Bytes behind an encryption request were sent in the clear, perhaps by somebody else, and would be taken for the client's own
/// (CVE-2021-23214).
async fn nothing_waiting(socket: &mut Socket) -> Result<()> {
    match socket.try_peek() {
        Ok(Some(_)) => Err(refused(socket, &Refusal::protocol("received unencrypted data after an encryption request")).await),
        // A client that has closed is noticed by the next read.
        Ok(None) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(Error::io(Side::Client, &error)),
    }
}

async fn refused<S: AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut S, refusal: &Refusal) -> Error {
    refuse::say(client, &fatal(refusal.code, &refusal.text)).await;
    Error::client(Kind::Protocol, refusal.to_string())
}

/// Reads one first packet, exactly. `None`: the client closed instead.
async fn read_first<S: AsyncRead + Unpin>(client: &mut S) -> Result<Option<std::result::Result<First, Refusal>>> {
    let mut packet = Vec::new();
    read_up_to(client, &mut packet, LENGTH_BYTES).await?;
    let Some(length) = packet.first_chunk::<LENGTH_BYTES>() else {
        return if packet.is_empty() { Ok(None) } else { Err(cut_off()) };
    };
    if packet.starts_with(&[TLS_HANDSHAKE, 3]) {
        let why = "began with TLS on a plaintext listener; connect with sslmode=disable, or give the listener a certificate";
        return Err(Error::client(Kind::Protocol, why));
    }
    let total = match startup::packet_bytes(*length) {
        Ok(total) => total,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    read_up_to(client, &mut packet, total - LENGTH_BYTES).await?;
    if packet.len() < total {
        return Err(cut_off());
    }
    Ok(Some(startup::parse(packet.into())))
}

/// Appends `bytes` bytes of the client's, fewer only if it closes before.
async fn read_up_to<S: AsyncRead + Unpin>(client: &mut S, packet: &mut Vec<u8>, bytes: usize) -> Result<()> {
    let limit = u64::try_from(bytes).unwrap_or(u64::MAX);
    client.take(limit).read_to_end(packet).await.map_err(|error| Error::io(Side::Client, &error))?;
    Ok(())
}

fn cut_off() -> Error {
    Error::client(Kind::Protocol, "closed in the middle of its first packet")
}
