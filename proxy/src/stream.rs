//! A connection to a client or an upstream, whatever it is made of.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::tls::{self, TlsStream};

/// How long [`linger`] waits for the peer's half.
pub const LINGER: Duration = Duration::from_secs(1);
/// How often [`Stream::gone`] looks.
const LOOK: Duration = Duration::from_millis(100);
/// Read from a socket at once.
const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    // One per worker thread, borrowed within a single poll: plaintext on its way through. An idle connection owns no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// Lends this thread's buffer of 64 KiB for the length of one poll.
///
/// # Panics
/// When it is lent already: `within` must not poll another task.
pub fn with_buffer<T>(within: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| within(buffer))
}

/// A plaintext socket.
pub enum Socket {
    /// TCP; Nagle's algorithm is off.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A connection to a client or an upstream.
pub enum Stream {
    /// Bytes as they are.
    Plain(Socket),
    /// TLS over a socket; boxed, because a rustls connection is 1 KiB and most clients speak plaintext.
    Tls(Box<TlsStream>),
}

/// A TCP connection, with or without TLS, that no runtime looks after.
pub struct Detached {
    /// The runtime may fail to let go of it.
    tcp: io::Result<std::net::TcpStream>,
    tls: Option<Box<rustls::Connection>>,
}

impl Detached {
    /// Gives it to the runtime of this thread, which has yet to find out that it can be written: what is written before it has waits in TLS
    /// for a flush.
    ///
    /// # Errors
    /// One of the two runtimes' own; the connection is then closed. Unix sockets are not moved.
    pub fn attach(self) -> io::Result<Stream> {
        let socket = Socket::Tcp(TcpStream::from_std(self.tcp?)?);
        Ok(match self.tls {
            None => Stream::Plain(socket),
            Some(tls) => Stream::Tls(Box::new(TlsStream::new(socket, *tls))),
        })
    }
}

/// Sends FIN, then reads until the peer has closed too: closing while its bytes are unread would make the kernel send RST, which can overtake
/// our last words. At most [`LINGER`]; failures are of no interest any more.
pub async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let over = async {
        stream.shutdown().await?;
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, over).await;
}

/// Writes `unsent`, which may take [`LINGER`] at most, and closes as [`linger`] does. One that has gone needs no last words.
pub async fn part(stream: &mut Stream, unsent: &[u8]) {
    let _ = timeout(LINGER, async {
        stream.write_all(unsent).await?;
        stream.flush().await
    })
    .await;
    linger(stream).await;
}

impl Stream {
    /// The socket beneath.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// True when TLS, if any, holds no bytes on their way, and nothing has gone wrong so far.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream.is_quiet(),
        }
    }

    /// Takes it from this runtime, so that another thread's can have it. Loses what a stream that is not [quiet](Stream::is_quiet) holds.
    #[must_use]
    pub fn detach(self) -> Detached {
        let (socket, tls) = match self {
            Self::Plain(socket) => (socket, None),
            Self::Tls(stream) => {
                let (socket, tls) = stream.into_parts();
                (socket, Some(Box::new(tls)))
            }
        };
        let tcp = match socket {
            Socket::Tcp(tcp) => tcp.into_std(),
            Socket::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        Detached { tcp, tls }
    }

    /// The hash of the server's certificate that a login can be bound to ([`crate::tls::end_point`]); `None` where there is none.
    #[must_use]
    pub fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.connection().peer_certificates().and_then(<[_]>::first).and_then(|leaf| tls::end_point(leaf)),
        }
    }

    /// Writes what the socket takes at once, possibly nothing, and wakes nobody when it takes more: whoever has a rest left must poll.
    ///
    /// # Errors
    /// The socket's own. A connection that takes nothing now is none.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            // Past the runtime's cooperative budget, which is meant for a task's own sockets.
            Self::Plain(Socket::Tcp(tcp)) => tcp.try_write(bytes),
            Self::Plain(Socket::Unix(unix)) => unix.try_write(bytes),
            Self::Tls(tls) => match Pin::new(tls.as_mut()).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Ok(0),
            },
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// True when TLS has taken bytes that the socket has not: they go out with the next flush.
    #[must_use]
    pub fn holds_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.connection().wants_write(),
        }
    }

    /// Closes with RST instead of FIN, so that the peer learns that the other side broke: closing must not look like an orderly end.
    pub fn reset(self) {
        if let Socket::Tcp(tcp) = self.socket() {
            // Fails only on a socket that is already dead.
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }

    /// Waits until the peer has broken the connection, or with `at_fin` has merely ended its half. Notices it within a tenth of a second, reads
    /// nothing, and is cancel-safe.
    pub async fn gone(&self, at_fin: bool) {
        loop {
            match self.socket().readiness().await {
                Ok(ready) if ready.is_error() || ready.is_write_closed() || at_fin && ready.is_read_closed() => return,
                // Looked at by the clock: a socket with unread bytes or room to write is ready all the time.
                Ok(_) => sleep(LOOK).await,
                Err(_) => return,
            }
        }
    }

    /// True when something is waiting that nobody has read yet: bytes, the peer's end, or an error. Never blocks.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        // An error counts: the kernel tells of it once, and whoever looks next would take the silence behind it for life.
        !matches!(self.socket().try_peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Socket {
    /// Waits for the first unread byte and leaves it where it is; `None` when the peer has closed. Cancel-safe.
    ///
    /// # Errors
    /// The socket's own.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        match self {
            Self::Tcp(tcp) => tcp.async_io(Interest::READABLE, || self.try_peek()).await,
            Self::Unix(unix) => unix.async_io(Interest::READABLE, || self.try_peek()).await,
        }
    }

    /// What is known of the socket, without a system call.
    async fn readiness(&self) -> io::Result<Ready> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        match self {
            Self::Tcp(tcp) => tcp.ready(interest).await,
            Self::Unix(unix) => unix.ready(interest).await,
        }
    }

    /// Writes what can be written at once, throws away what has arrived, and closes. For a peer that nobody has the time to wait for: mostly
    /// it hears the words, but its next bytes meet a closed socket, and the reset they cause can come first.
    pub fn part(self, words: &[u8]) {
        // Failures are of no interest any more.
        let _ = rustix::net::send(&self, words, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let _ = rustix::net::recv(&self, &mut [0; 512], RecvFlags::DONTWAIT);
    }

    /// As [`Socket::peek`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing has arrived; else the socket's own.
    pub fn try_peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0; 1];
        let (_, length) = rustix::net::recv(self, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Ok((length > 0).then_some(byte[0]))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

/// Calls the same method on whichever stream is inside.
macro_rules! forward {
    ($self:ident, $variant_a:path, $variant_b:path, $method:ident ( $($arg:expr),* )) => {
        match $self.get_mut() {
            $variant_a(inner) => Pin::new(inner).$method($($arg),*),
            $variant_b(inner) => Pin::new(inner).$method($($arg),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp, Self::Unix, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, Self::Tcp, Self::Unix, poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        forward!(self, Self::Tcp, Self::Unix, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp, Self::Unix, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Tcp, Self::Unix, poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain, Self::Tls, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, Self::Plain, Self::Tls, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain, Self::Tls, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, Self::Plain, Self::Tls, poll_shutdown(cx))
    }
}
