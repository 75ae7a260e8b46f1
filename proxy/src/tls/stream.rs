//! `AsyncRead` and `AsyncWrite` over a rustls connection, for many mostly idle connections and few large transfers.
//!
//! Two things differ from the usual adaptor. The socket is read into one large buffer that all connections of a worker thread share, so a big
//! reply costs a few system calls instead of one per 4 KiB, and an idle connection owns no buffer but rustls' own 4 KiB. And what is written is handed to the
//! socket at once; only what the socket refuses stays behind, and then nothing more is taken until it is gone: one write's worth is the
//! bound.
//!
//! ```text
//!  poll_read:   socket ──► SCRATCH (shared, 64 KiB) ──► rustls ──► caller's buffer
//!                              └─ what rustls cannot take yet ──► unfed (≤ 64 KiB, this connection's, freed when empty)
//!  poll_write:  caller's bytes ──► rustls ──► socket        (what the socket refuses stays in rustls and blocks the next write)
//! ```

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Socket;

/// Ciphertext taken from the socket at once: four full records.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    // One per worker thread; borrowed within a single poll and never across one.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// A TLS connection whose handshake is complete.
pub struct TlsStream {
    socket: Socket,
    tls: Connection,
    /// Ciphertext that has left the socket but not yet entered rustls. Empty but for callers with small buffers.
    unfed: Vec<u8>,
    /// No more plaintext will come: close_notify or the socket's end was seen. Without close_notify it is an end all the same, as on a
    /// plaintext connection: both protocols frame their own messages, and PostgreSQL ends so in ordinary life (pgbouncer#1507).
    at_end: bool,
    /// TLS has failed; reported when all that was received before is taken.
    failed: Option<io::Error>,
}

impl TlsStream {
    /// Takes over after the handshake.
    #[must_use]
    pub fn new(socket: Socket, tls: Connection) -> Self {
        Self { socket, tls, unfed: Vec::new(), at_end: false, failed: None }
    }

    /// The socket beneath.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The rustls connection, for its facts (version, certificates).
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// True when it has neither ended nor failed, and holds no bytes on their way in either direction.
    pub fn is_quiet(&mut self) -> bool {
        let has_plaintext = self.tls.process_new_packets().map_or(true, |state| state.plaintext_bytes_to_read() > 0);
        !has_plaintext && !self.at_end && self.failed.is_none() && self.unfed.is_empty() && !self.tls.wants_write()
    }

    /// Takes it apart for [`TlsStream::new`] to put it together again. Loses what a stream that is not [quiet](TlsStream::is_quiet) holds.
    #[must_use]
    pub fn into_parts(self) -> (Socket, Connection) {
        (self.socket, self.tls)
    }

    /// Feeds `ciphertext` to rustls and moves plaintext to `out`; returns how many bytes of it were consumed: all, unless `out` is full.
    fn feed(&mut self, ciphertext: &[u8], out: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut rest = ciphertext;
        while !rest.is_empty() && out.remaining() > 0 {
            if self.tls.read_tls(&mut rest)? == 0 {
                // After close_notify rustls reads nothing more: what follows it is not data.
                self.at_end = true;
                return Ok(ciphertext.len());
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.at_end |= state.peer_has_closed();
                    if state.plaintext_bytes_to_read() > 0 {
                        self.take_plaintext(out)?;
                    }
                }
                Err(error) => {
                    // What was whole before the failure has been received and is delivered first.
                    self.take_plaintext(out)?;
                    self.failed = Some(io::Error::new(io::ErrorKind::InvalidData, error));
                    return Ok(ciphertext.len());
                }
            }
        }
        Ok(ciphertext.len() - rest.len())
    }

    /// Moves what is decrypted to `out`, as far as it has room.
    fn take_plaintext(&mut self, out: &mut ReadBuf<'_>) -> io::Result<()> {
        while out.remaining() > 0 {
            match self.tls.reader().read(out.initialize_unfilled()) {
                Ok(0) => break,
                Ok(n) => out.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands pending ciphertext to the socket until none is left or the socket is full.
    fn poll_write_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut socket = SyncSocket { socket: &mut self.socket, cx };
            match self.tls.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_tls(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        self.take_plaintext(out)?;
        if !self.unfed.is_empty() {
            let unfed = std::mem::take(&mut self.unfed);
            let fed = self.feed(&unfed, out)?;
            self.unfed = unfed.get(fed..).unwrap_or_default().to_vec();
        }
        while out.filled().len() == before && out.remaining() > 0 && !self.at_end {
            if let Some(error) = self.failed.take() {
                self.at_end = true;
                return Poll::Ready(Err(error));
            }
            let mut ciphertext = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut ciphertext))?;
            let ciphertext = ciphertext.filled();
            if ciphertext.is_empty() {
                self.at_end = true;
                break;
            }
            let fed = self.feed(ciphertext, out)?;
            self.unfed = ciphertext.get(fed..).unwrap_or_default().to_vec();
            if self.failed.is_some() {
                continue;
            }
            if self.tls.wants_write() {
                // A key update to answer. If the socket is full it goes out with the next write, which also reports a socket that is broken:
                // a server that no longer takes anything may still have said why.
                let _ = self.poll_write_tls(cx);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = SCRATCH.with_borrow_mut(|scratch| this.poll_read_tls(cx, out, scratch));
        if let Poll::Ready(Err(_)) = polled {
            // rustls has queued the alert that tells the peer why; the error matters more than whether it gets out.
            let _ = this.poll_write_tls(cx);
        }
        polled
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_tls(cx))?;
        let taken = this.tls.writer().write(buf)?;
        match this.poll_write_tls(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_tls(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    /// Sends close_notify, then FIN. The read half stays open.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.tls.send_close_notify();
        ready!(this.poll_write_tls(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// A socket as rustls wants it: synchronous, `WouldBlock` for "not now", with the waker left in place.
struct SyncSocket<'a, 'cx> {
    socket: &'a mut Socket,
    cx: &'a mut Context<'cx>,
}

impl Write for SyncSocket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // One record is the usual case, and a plain send is cheaper than a gathering one.
        if let [only] = bufs {
            return self.write(only);
        }
        or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
