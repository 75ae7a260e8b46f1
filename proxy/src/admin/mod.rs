//! The admin server: metrics, probes, the status page and the few controls, over plain HTTP/1.1.
//!
//! It lives on a thread and a runtime of its own, so that probes and metrics answer while the workers have more to do than they can. Nothing
//! it serves ever opens a connection or waits for the data path: an answer is read off counters and flags. Everything is bounded: clients,
//! header and body sizes, and the time a client may take to send them.

mod guard;
mod page;
mod routes;
mod snapshot;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use snapshot::{
    Bytes, Certificate, Clients, LastError, ListenerFacts, ListenerSnapshot, Pooled, Reloads, Snapshot, State, UpstreamConnections,
};
pub use window::{Latency, Recent, Window};

/// What the admin server asks of the process, and what it may tell it.
///
/// Called on the admin thread, so an implementation must return at once: no dialling, no lock that is held for long.
pub trait Control: Send + Sync {
    /// Whether everything is bound and loaded; stays true once it is.
    ///
    /// # Errors
    /// What is still missing, one line.
    fn started(&self) -> Result<(), String>;

    /// Whether new clients should be sent here.
    ///
    /// # Errors
    /// Why not, one line: still starting, draining.
    fn ready(&self) -> Result<(), String>;

    /// Whether the process still works. An error makes Kubernetes restart it, so an upstream that is down is no reason.
    ///
    /// # Errors
    /// What is stuck or dead, one line.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// All metrics in the Prometheus text format.
    fn metrics(&self) -> String;

    /// What the status page shows.
    fn snapshot(&self) -> Snapshot;

    /// Called every five seconds, whether or not somebody looks.
    fn tick(&self) {}

    /// Starts the drain that SIGTERM starts; harmless when one is under way.
    fn drain(&self);

    /// Puts another log filter in force.
    ///
    /// # Errors
    /// What is wrong with the directive; the old filter stays.
    fn set_log_level(&self, directive: &str) -> Result<(), String>;

    /// The log filter in force.
    fn log_level(&self) -> String;
}

/// What one client may take; the admin server has one set of these, tests have shorter ones.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at one time. One more closes the oldest: a probe must get through even if somebody holds all of them open.
    connections: usize,
    /// From the first wait for a request to the end of its headers, so also how long a kept-alive connection may be idle.
    header_timeout: Duration,
    /// For the whole of a request's body.
    body_timeout: Duration,
}

const LIMITS: Limits = Limits { connections: 64, header_timeout: Duration::from_secs(10), body_timeout: Duration::from_secs(5) };

/// Requests have no business being larger; hyper's minimum is 8 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Binds the admin address, with SO_REUSEADDR and SO_REUSEPORT: during a restart the new process binds while the old one still answers.
/// `[::]` takes IPv4 as well. Port 0 takes a free one.
///
/// # Errors
/// The operating system's: the address is not ours, or in use by a program that does not share it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The running admin server; dropping it closes its connections and ends its thread.
#[must_use = "dropping it stops the server"]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// The address that was bound, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes its connections and waits for its thread to end, which takes no longer than the answer it is working on.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread had panicked");
        }
    }
}

/// Starts the admin server on a thread of its own. The thread inherits the Landlock domain of the caller.
///
/// # Errors
/// If the runtime or the thread cannot be made.
pub fn spawn(listener: TcpListener, control: Arc<dyn Control>) -> io::Result<Admin> {
    spawn_with(listener, control, LIMITS)
}

fn spawn_with(listener: TcpListener, control: Arc<dyn Control>, limits: Limits) -> io::Result<Admin> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let stop = CancellationToken::new();
    let routes = Arc::new(routes::Routes::new(control, limits.body_timeout));
    let serve = serve(listener, routes, limits, stop.clone());
    let thread = std::thread::Builder::new().name("admin".into()).spawn(move || runtime.block_on(serve))?;
    Ok(Admin { address, stop, thread: Some(thread) })
}

/// Accepts until told to stop, which also cuts what is still open.
async fn serve(listener: tokio::net::TcpListener, routes: Arc<routes::Routes>, limits: Limits, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    let mut pause = Duration::ZERO;
    let mut ticks = tokio::time::interval(window::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // All four are cancel-safe: a connection that was accepted is always returned by accept(), a task that ended by join_next().
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = tasks.join_next() => continue,
            _ = ticks.tick() => {
                routes.tick();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::ZERO;
                make_room(&mut oldest_first, limits.connections);
                oldest_first.push_back(tasks.spawn(connection(stream, peer, Arc::clone(&routes), limits)));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if pause.is_zero() {
                    tracing::warn!(%error, "the admin server cannot accept connections; it keeps trying");
                }
                pause = (pause * 2).clamp(ACCEPT_PAUSE_MIN, ACCEPT_PAUSE_MAX);
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
            }
        }
    }
}

/// Forgets connections that have ended and, if that is not enough, closes the oldest.
fn make_room(oldest_first: &mut VecDeque<AbortHandle>, limit: usize) {
    if oldest_first.len() < limit {
        return;
    }
    oldest_first.retain(|connection| !connection.is_finished());
    while oldest_first.len() >= limit.max(1) {
        if let Some(oldest) = oldest_first.pop_front() {
            oldest.abort();
        }
    }
}

/// Whether accept(2) failed because of the connection it was about to return, and not for want of descriptors or memory.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | HostUnreachable | NetworkUnreachable | Interrupted | TimedOut | WouldBlock)
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, routes: Arc<routes::Routes>, limits: Limits) {
    // Answers are single writes; a failure only makes them slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, std::convert::Infallible>(routes.answer(peer, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "admin connection ended early");
    }
}
