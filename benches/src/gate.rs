//! A fault gate: a TCP link between two programs that the test makes slow, freezes, cuts, resets or poisons while it carries traffic.
//!
//! ```text
//! program under test --client side--> Gate --server side--> server
//! ```
//! Faults apply to every connection, open and future ([`Gate`]), or to one ([`Connection`]). Dropping the gate closes everything.

mod link;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::ports::free_port;
use crate::wait::until;

/// One side of the gate; also names the direction whose bytes come *from* it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program that connects to the gate.
    Client,
    /// The server behind the gate.
    Server,
}

/// What is wrong with a connection. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every piece waits so long before it goes on, both ways.
    pub delay: Option<Duration>,
    /// At most so many bytes go on per tick, both ways.
    pub pace: Option<(usize, Duration)>,
    /// Nothing is read or written; connections stay open and the kernel's buffers fill up.
    pub frozen: bool,
    /// The client gets these bytes in place of whatever the server sends, once per piece.
    pub garbage: Option<Vec<u8>>,
    /// Closed with FIN on both sides after exactly so many bytes from the client, counted from the connection's beginning.
    pub cut_after_client: Option<u64>,
    /// The same for bytes from the server.
    pub cut_after_server: Option<u64>,
}

/// A running gate.
pub struct Gate {
    shared: Arc<Shared>,
    acceptor: AbortHandle,
}

/// One open connection through a gate. Outlives neither: once it is closed its methods do nothing.
#[derive(Clone)]
pub struct Connection {
    link: Arc<Link>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Carry,
    /// Accepted, never dialled, never read.
    Hold,
    /// No listener.
    Refuse,
}

/// How a connection ends by order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// FIN on both sides.
    Cut,
    /// RST on one side, FIN on the other.
    Reset(Side),
    ResetBoth,
}

struct Shared {
    address: SocketAddr,
    target: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// The mode that the acceptor works in by now.
    applied: watch::Sender<Mode>,
    /// The faults of future connections. Changed only under the lock of `links`, so that none falls between "future" and "open".
    faults: Mutex<Faults>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    accepted: AtomicU64,
    bytes: [AtomicU64; 2],
}

struct Link {
    id: u64,
    client: SocketAddr,
    faults: watch::Sender<Faults>,
    end: watch::Sender<Option<End>>,
    bytes: [AtomicU64; 2],
}

impl Gate {
    /// A gate on a free port of 127.0.0.1 in front of `target`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, free_port()?).into(), target).await
    }

    /// A gate on a given address, e.g. on 127.0.0.2 with the port of a gate on 127.0.0.1, for names that move.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_at(address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("the gate cannot listen on {address}"))?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            target: Mutex::new(target),
            mode: watch::Sender::new(Mode::Carry),
            applied: watch::Sender::new(Mode::Carry),
            faults: Mutex::default(),
            links: Mutex::default(),
            accepted: AtomicU64::new(0),
            bytes: Default::default(),
        });
        let acceptor = tokio::spawn(accept(Arc::clone(&shared), listener)).abort_handle();
        Ok(Self { shared, acceptor })
    }

    /// Where the gate listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// Changes what is wrong with all connections, open and future: `gate.set(|faults| faults.frozen = true)`.
    pub fn set(&self, change: impl Fn(&mut Faults)) {
        let links = lock(&self.shared.links);
        change(&mut lock(&self.shared.faults));
        links.values().for_each(|link| link.faults.send_modify(&change));
    }

    /// Nothing is wrong any more, and new connections are carried again. Connections that were held stay so.
    ///
    /// # Errors
    /// When the port cannot be bound again after [`Gate::refuse`].
    pub async fn clear(&self) -> Result<()> {
        self.set(|faults| *faults = Faults::default());
        self.enter(Mode::Carry).await
    }

    /// Every piece waits so long, both ways.
    pub fn delay(&self, delay: Duration) {
        self.set(|faults| faults.delay = Some(delay));
    }

    /// At most `bytes` per `tick`, both ways.
    pub fn slow(&self, bytes: usize, tick: Duration) {
        self.set(|faults| faults.pace = Some((bytes, tick)));
    }

    /// Stops reading and writing; connections stay open.
    pub fn freeze(&self) {
        self.set(|faults| faults.frozen = true);
    }

    /// Ends [`Gate::freeze`]; nothing is lost.
    pub fn thaw(&self) {
        self.set(|faults| faults.frozen = false);
    }

    /// Clients get this in place of the server's bytes.
    pub fn garbage(&self, bytes: &[u8]) {
        self.set(|faults| faults.garbage = Some(bytes.to_vec()));
    }

    /// Closes each connection after exactly `bytes` bytes from `side`, counted from its beginning.
    pub fn cut_after(&self, side: Side, bytes: u64) {
        self.set(|faults| match side {
            Side::Client => faults.cut_after_client = Some(bytes),
            Side::Server => faults.cut_after_server = Some(bytes),
        });
    }

    /// Closes all open connections with FIN on both sides.
    pub fn cut(&self) {
        self.connections().iter().for_each(Connection::cut);
    }

    /// Resets `side` of all open connections; the other side is closed with FIN.
    pub fn reset(&self, side: Side) {
        self.connections().iter().for_each(|connection| connection.reset(side));
    }

    /// Resets both sides of all open connections.
    pub fn reset_both(&self) {
        self.connections().iter().for_each(Connection::reset_both);
    }

    /// New connections are refused from when this returns; open ones live on. [`Gate::clear`] ends it.
    ///
    /// # Errors
    /// When the gate is gone.
    pub async fn refuse(&self) -> Result<()> {
        self.enter(Mode::Refuse).await
    }

    /// New connections are accepted and never answered; open ones live on. [`Gate::clear`] ends it for later ones.
    ///
    /// # Errors
    /// When the gate is gone.
    pub async fn hold(&self) -> Result<()> {
        self.enter(Mode::Hold).await
    }

    /// New connections go to another server; open ones live on.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// The open connections, oldest first; those held count, those the server refused do not.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.links).values().map(|link| Connection { link: Arc::clone(link) }).collect()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        lock(&self.shared.links).len()
    }

    /// How many connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes delivered that came from `side`, over all connections.
    #[must_use]
    pub fn bytes(&self, side: Side) -> u64 {
        side.of(&self.shared.bytes).load(Ordering::Relaxed)
    }

    /// Waits until exactly `count` connections are open.
    ///
    /// # Errors
    /// When they are not within `limit`.
    pub async fn wait_open(&self, count: usize, limit: Duration) -> Result<()> {
        let waited = until(&format!("{count} connections through the gate"), limit, || self.open() == count).await;
        waited.with_context(|| format!("{} are open", self.open()))
    }

    async fn enter(&self, mode: Mode) -> Result<()> {
        let mut applied = self.shared.applied.subscribe();
        self.shared.mode.send_replace(mode);
        let entered = tokio::time::timeout(Duration::from_secs(5), applied.wait_for(|now| *now == mode)).await;
        entered.context("the gate does not get its port back")?.map(drop).context("the gate is gone")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The acceptor owns the connections' tasks.
        self.acceptor.abort();
    }
}

impl Connection {
    /// Counts up from 0 in the order of acceptance.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.link.id
    }

    /// The client's address, to tell connections of several programs apart.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.link.client
    }

    /// Changes what is wrong with this connection.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.link.faults.send_modify(change);
    }

    /// Closes it with FIN on both sides.
    pub fn cut(&self) {
        self.link.end.send_replace(Some(End::Cut));
    }

    /// Resets one side; the other is closed with FIN.
    pub fn reset(&self, side: Side) {
        self.link.end.send_replace(Some(End::Reset(side)));
    }

    /// Resets both sides.
    pub fn reset_both(&self) {
        self.link.end.send_replace(Some(End::ResetBoth));
    }

    /// Bytes delivered that came from `side`.
    #[must_use]
    pub fn bytes(&self, side: Side) -> u64 {
        side.of(&self.link.bytes).load(Ordering::Relaxed)
    }
}

impl Side {
    /// The one opposite.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn of(self, both: &[AtomicU64; 2]) -> &AtomicU64 {
        let [client, server] = both;
        match self {
            Self::Client => client,
            Self::Server => server,
        }
    }
}

/// Accepts until aborted; owns every connection's task.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut mode = shared.mode.subscribe();
    let mut links = JoinSet::new();
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(shared.address).await.ok();
        }
        if listener.is_some() || now == Mode::Refuse {
            shared.applied.send_replace(now);
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            (stream, client) = next(listener.as_ref()) => {
                let link = shared.admit(client);
                let shared = Arc::clone(&shared);
                links.spawn(async move {
                    link::carry(stream, &link, &shared, now).await;
                    lock(&shared.links).remove(&link.id);
                });
            }
            Some(_) = links.join_next() => {}
        }
    }
}

/// The next connection; never without a listener. Cancel-safe.
async fn next(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client left while it was queued, or descriptors ran out.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl Shared {
    fn admit(&self, client: SocketAddr) -> Arc<Link> {
        let mut links = lock(&self.links);
        let id = self.accepted.fetch_add(1, Ordering::Relaxed);
        let faults = watch::Sender::new(lock(&self.faults).clone());
        let link = Arc::new(Link { id, client, faults, end: watch::Sender::new(None), bytes: Default::default() });
        links.insert(id, Arc::clone(&link));
        link
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
