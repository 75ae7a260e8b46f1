//! Accepting: one listening socket per worker and address, one task per client, and a loop that never ends and never spins.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::config::ListenAddr;
use crate::drain::Drain;
use crate::logging::Throttle;
use crate::metrics::ListenerMetrics;
use crate::stream::Socket;

/// What the kernel keeps for us between two accepts; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row an accept queue that is being emptied is tried without a descriptor to be had: 4 s with the pauses between.
const MAX_TRIES: usize = 10;
/// Between two lines in the log about the same trouble.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// A listening socket, bound but not yet accepting.
pub enum Bound {
    /// One of several that share a port (SO_REUSEPORT).
    Tcp(std::net::TcpListener),
    /// Shared by all workers.
    Unix(std::os::unix::net::UnixListener, Arc<SocketFile>),
}

/// Binds `address` once for each worker.
///
/// TCP: every worker has a socket of its own on the same port, and so may a second process of the same user: that is how a new version takes
/// over without a gap. Port 0 is resolved by the first socket. A unix socket replaces a file that nobody answers on.
///
/// # Errors
/// The system's, with the address and what to do.
pub fn bind(address: &ListenAddr, workers: usize) -> Result<Vec<Bound>, String> {
    let explain = |error: io::Error| {
        let cure = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there: stop it or choose another address",
            io::ErrorKind::PermissionDenied => "; not allowed: choose a port above 1023, or another directory",
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            io::ErrorKind::NotFound => "; the directory does not exist",
            _ => "",
        };
        format!("cannot listen on {address}: {error}{cure}")
    };
    match address {
        ListenAddr::Tcp(wanted) => {
            let taken = is_taken(*wanted);
            let first = bind_tcp(*wanted).map_err(explain)?;
            if taken {
                warn_of_another(*wanted);
            }
            let actual = first.local_addr().map_err(explain)?;
            let rest = (1..workers).map(|_| bind_tcp(actual));
            std::iter::once(Ok(first)).chain(rest).map(|socket| socket.map(Bound::Tcp).map_err(explain)).collect()
        }
        ListenAddr::Unix(path) => {
            let socket = bind_unix(path).map_err(explain)?;
            let file = Arc::new(SocketFile::new(path).map_err(explain)?);
            (0..workers).map(|_| Ok(Bound::Unix(socket.try_clone().map_err(explain)?, Arc::clone(&file)))).collect()
        }
    }
}

impl Bound {
    /// Where clients connect, with the port that was chosen for port 0.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The client that has waited longest; `WouldBlock` when there is none.
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(tcp) => {
                let (client, peer) = tcp.accept()?;
                client.set_nonblocking(true)?;
                Ok((Socket::Tcp(TcpStream::from_std(client)?), Some(peer)))
            }
            Self::Unix(unix, _) => {
                let (client, _) = unix.accept()?;
                client.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(client)?), None))
            }
        }
    }
}

/// Whether a socket listens on `address` already, one that would share it or not. False for port 0.
#[must_use]
pub fn is_taken(address: SocketAddr) -> bool {
    // Without SO_REUSEPORT the kernel refuses the address next to one who listens; those that are only closing do not count.
    let alone = new_tcp(address).and_then(|socket| socket.bind(&SockAddr::from(address)));
    alone.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Both get a part of the clients, and nothing else would tell.
pub fn warn_of_another(address: SocketAddr) {
    tracing::warn!("another process listens on {address} too (SO_REUSEPORT): a takeover, or a mistake?");
}

fn new_tcp(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means IPv6 and IPv4, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = new_tcp(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if path.metadata().is_ok_and(|file| file.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // Left behind by a process that was killed. Any other error may come from one that lives, and is somebody else's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    // Mode 0660 from the first moment: a chmod afterwards would leave a gap for others to connect in. The mask is the process's, but
    // addresses are bound before there are other threads.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o117));
    let socket = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(mask);
    let socket = socket?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes the unix socket's file when the last worker has closed it; not if a successor has put its own in place.
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: Self::inode(path)? })
    }

    fn inode(path: &Path) -> io::Result<(u64, u64)> {
        path.metadata().map(|file| (file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How many clients one listener may have, over all workers.
pub struct Places {
    taken: AtomicUsize,
    limit: usize,
}

impl Places {
    /// None taken.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    /// A place for one client, given back on drop; `None` when all are taken.
    pub fn take(self: &Arc<Self>, open: &IntGauge) -> Option<Place> {
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < self.limit).then_some(taken + 1)).ok()?;
        open.inc();
        Some(Place { places: Arc::clone(self), open: open.clone() })
    }

    /// Clients now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One client's place.
pub struct Place {
    places: Arc<Places>,
    open: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        self.open.dec();
    }
}

/// Accepts until the drain closes listeners, and runs `serve` for every client, in a task of its own on this worker.
///
/// The accept queue is emptied before the socket is closed: its clients believe that they are connected. A client whose handshake completes
/// between the last look and the close is reset, unless the kernel hands it to another listener on the port (`net.ipv4.tcp_migrate_req`).
pub async fn accept<F>(
    bound: Bound,
    name: &str,
    drain: &Drain,
    metrics: &ListenerMetrics,
    tasks: &TaskTracker,
    serve: impl Fn(Socket, Option<SocketAddr>) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let socket = Listening::new(bound)?;
    let mut pause = MIN_PAUSE;
    let said = Throttle::new(SAY_AGAIN, 1);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.closing.cancelled() => break,
            // Cancel-safe: a connection that is not returned stays in the kernel's queue.
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((client, peer)) => {
                pause = MIN_PAUSE;
                tasks.spawn_local(serve(client, peer));
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                metrics.accept_errors.inc();
                // Not once per streak: clients that leave free descriptors one by one, and each would begin a new one.
                if let Some(suppressed) = said.check(&()) {
                    let suppressed = (suppressed > 0).then_some(suppressed);
                    tracing::error!(listener = name, %error, suppressed, "cannot accept clients; they wait in the kernel's queue (raise the limit of open files?)");
                }
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
    let queue = socket.into_bound()?;
    tokio::select! {
        () = drain.cut.cancelled() => {}
        () = empty(&queue, name, metrics, |client, peer| drop(tasks.spawn_local(serve(client, peer)))) => {}
    }
    Ok(())
}

/// The client has gone again while it waited in the queue.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

/// Hands over all who wait in the kernel's queue. By the plain system call: tokio's accept() would leave some behind, as it does not even
/// look while it remembers an empty queue, or when the task has used up its turn.
async fn empty(queue: &Bound, name: &str, metrics: &ListenerMetrics, hand_over: impl Fn(Socket, Option<SocketAddr>)) {
    let (mut tries, mut pause) = (0, MIN_PAUSE);
    loop {
        match queue.accept() {
            Ok((client, peer)) => {
                (tries, pause) = (0, MIN_PAUSE);
                hand_over(client, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                metrics.accept_errors.inc();
                tries += 1;
                if tries == MAX_TRIES {
                    tracing::error!(listener = name, %error, "cannot accept the last clients: those who wait in the kernel's queue are reset");
                    return;
                }
                // Clients that leave in the drain free descriptors.
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, Arc<SocketFile>),
}

impl Listening {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(tcp) => Self::Tcp(TcpListener::from_std(tcp)?),
            Bound::Unix(unix, file) => Self::Unix(UnixListener::from_std(unix)?, file),
        })
    }

    /// Out of the runtime's hands, still open.
    fn into_bound(self) -> io::Result<Bound> {
        Ok(match self {
            Self::Tcp(tcp) => Bound::Tcp(tcp.into_std()?),
            Self::Unix(unix, file) => Bound::Unix(unix.into_std()?, file),
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(tcp) => tcp.accept().await.map(|(client, peer)| (Socket::Tcp(client), Some(peer))),
            Self::Unix(unix, _) => unix.accept().await.map(|(client, _)| (Socket::Unix(client), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_file_that_nobody_answers_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (stale, live) = (dir.path().join("stale"), dir.path().join("live"));
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert_eq!(bind(&ListenAddr::Unix(stale.clone()), 2).unwrap().len(), 2);
        assert!(!stale.exists(), "removed with the last worker");
        // Connecting fails, but not because nobody is there: it is of another kind.
        let other = std::os::unix::net::UnixDatagram::bind(&live).unwrap();
        let why = bind(&ListenAddr::Unix(live.clone()), 1).err().unwrap();
        assert!(why.contains("cannot listen on") && live.exists(), "{why}");
        drop(other);
    }
}
