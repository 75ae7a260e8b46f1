//! What there is to see of each connection: for people, kept by who uses it, read by others at any time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::stream::{Socket, Stream};

/// All connections to one server, over all workers.
#[derive(Default)]
pub(super) struct Links {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<LinkFacts>>>,
}

/// One of them, for as long as it lives.
pub(super) struct Entry {
    pub(super) facts: Arc<LinkFacts>,
    links: Arc<Links>,
}

/// What is known of a connection. Reading and changing it costs no lock and orders nothing: the parts may be of different moments.
#[derive(Debug)]
pub struct LinkFacts {
    /// Its number, never used twice in one process.
    pub id: u64,
    /// Its database.
    pub database: Arc<[u8]>,
    /// The server's process that serves it.
    pub process: u32,
    /// Where it goes from and to; `None` when the socket was dead already.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Version and cipher suite.
    pub tls: String,
    /// When it was opened.
    pub opened: SystemTime,
    state: AtomicU8,
    client: AtomicU32,
    requests: AtomicU64,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nobody has it.
    Idle,
    /// A client has it.
    Active,
    /// It is being cleaned after one.
    Used,
}

impl Links {
    /// A new one, idle.
    pub(super) fn enter(self: &Arc<Self>, database: Arc<[u8]>, process: u32, stream: &Stream) -> Entry {
        let facts = Arc::new(LinkFacts {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            database,
            process,
            addresses: addresses(stream),
            tls: tls(stream),
            opened: SystemTime::now(),
            state: AtomicU8::new(IDLE),
            client: AtomicU32::new(0),
            requests: AtomicU64::new(0),
        });
        self.lock().insert(facts.id, Arc::clone(&facts));
        Entry { facts, links: Arc::clone(self) }
    }

    /// All there are, in the order in which they were opened.
    pub(super) fn all(&self) -> Vec<Arc<LinkFacts>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<LinkFacts>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.links.lock().remove(&self.facts.id);
    }
}

const IDLE: u8 = 0;
const ACTIVE: u8 = 1;
const USED: u8 = 2;

impl LinkFacts {
    /// A client has it from now on; `client`: the process number that the client was told.
    pub fn lent(&self, client: u32) {
        self.client.store(client, Ordering::Relaxed);
        self.state.store(ACTIVE, Ordering::Relaxed);
    }

    /// The client has given it back as it is.
    pub fn returned(&self) {
        self.client.store(0, Ordering::Relaxed);
        self.state.store(IDLE, Ordering::Relaxed);
    }

    pub(super) fn being_cleaned(&self) {
        self.client.store(0, Ordering::Relaxed);
        self.state.store(USED, Ordering::Relaxed);
    }

    /// A request of the client's has been sent on it. Called by one thread at a time.
    pub fn count_requests(&self, more: u32) {
        self.requests.store(self.requests().wrapping_add(more.into()), Ordering::Relaxed);
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> LinkState {
        match self.state.load(Ordering::Relaxed) {
            ACTIVE => LinkState::Active,
            USED => LinkState::Used,
            _ => LinkState::Idle,
        }
    }

    /// The process number of the client that has it; 0: nobody has.
    #[must_use]
    pub fn client(&self) -> u32 {
        self.client.load(Ordering::Relaxed)
    }

    /// How many requests have been answered on it.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn addresses(stream: &Stream) -> Option<(SocketAddr, SocketAddr)> {
    match stream.socket() {
        Socket::Tcp(tcp) => Some((tcp.local_addr().ok()?, tcp.peer_addr().ok()?)),
        Socket::Unix(_) => None,
    }
}

fn tls(stream: &Stream) -> String {
    let Stream::Tls(stream) = stream else { return String::new() };
    let (version, suite) = (stream.connection().protocol_version(), stream.connection().negotiated_cipher_suite());
    let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
    let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    format!("{}/{}", version.replace('_', "."), suite.replace("TLS13_", "TLS_"))
}
