//! The backend that does as it is told, and a worker around it.

use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::{Metrics, UpstreamState};
use crate::pool::Backend;

/// Opens when the test says so.
#[derive(Default)]
pub(super) struct Fake {
    gates: RefCell<VecDeque<oneshot::Sender<()>>>,
    pub(super) manual: Cell<bool>,
    pub(super) opened: Cell<u32>,
    refusal: RefCell<Option<Error>>,
    pub(super) discarded: RefCell<Vec<u32>>,
    dead: RefCell<Vec<u32>>,
    pub(super) unread: RefCell<Vec<u32>>,
    pub(super) outdated: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(super) cleaned: Cell<u32>,
    /// Connections that cannot be cleaned, and how long cleaning takes.
    pub(super) dirty: RefCell<Vec<u32>>,
    pub(super) cleaning: Cell<Duration>,
}

impl Backend for Fake {
    type Connection = u32;
    type Key = char;

    async fn open(&self, _: &char) -> Result<u32> {
        if self.manual.get() {
            let (send, receive) = oneshot::channel();
            self.gates.borrow_mut().push_back(send);
            receive.await.unwrap();
        }
        self.opened.set(self.opened.get() + 1);
        self.refusal.borrow().clone().map_or_else(|| Ok(self.opened.get()), Err)
    }

    fn poll_unfit(&self, connection: &mut u32, cx: &mut Context<'_>) -> Poll<EvictReason> {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        if self.dead.borrow().contains(connection) { Poll::Ready(EvictReason::ServerClosed) } else { Poll::Pending }
    }

    fn has_unread(&self, connection: &u32) -> bool {
        self.unread.borrow().contains(connection)
    }

    fn discard(&self, connection: u32) {
        self.discarded.borrow_mut().push(connection);
    }
}

impl Reuse for Fake {
    type Parcel = u32;
    const MOVES: bool = false;
    fn pack(&self, connection: u32) -> std::result::Result<u32, u32> {
        Err(connection)
    }
    fn unpack(&self, parcel: u32) -> Option<u32> {
        Some(parcel)
    }

    async fn clean(&self, connection: &mut u32, _: &char) -> Result<()> {
        self.cleaned.set(self.cleaned.get() + 1);
        sleep(self.cleaning.get()).await;
        if self.dirty.borrow().contains(connection) { Err(Error::upstream(Kind::Protocol, "dirty")) } else { Ok(()) }
    }

    fn outdated(&self, _: &u32) -> Option<EvictReason> {
        self.outdated.get().then_some(EvictReason::Dns)
    }
}

impl Fake {
    pub(super) fn refuse(&self, error: Option<Error>) {
        self.refusal.replace(error);
    }

    /// Lets all openings under way succeed; how many they were.
    pub(super) fn open_all(&self) -> usize {
        self.gates.take().into_iter().map(|gate| gate.send(()).unwrap()).count()
    }

    pub(super) fn kill(&self, connection: u32) {
        self.dead.borrow_mut().push(connection);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// What a test wants to differ.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) size: usize,
    pub(super) wait_timeout: Duration,
    pub(super) home: Option<(char, usize)>,
}

impl Default for Given {
    fn default() -> Self {
        Self { size: 0, wait_timeout: Duration::from_secs(30), home: None }
    }
}

pub(super) struct Bench {
    pub(super) fake: Arc<Fake>,
    pub(super) leases: Rc<Leases<Fake>>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: ListenerMetrics,
    pub(super) closing: CancellationToken,
    pub(super) moved: watch::Sender<u64>,
}

impl Bench {
    pub(super) fn new(given: Given) -> Self {
        let fake = fake();
        let metrics = metrics();
        let Given { size, wait_timeout, home } = given;
        Self::with(fake, Budget::new(size), metrics, wait_timeout, home)
    }

    pub(super) fn with(
        fake: Arc<Fake>,
        budget: Arc<Budget>,
        metrics: ListenerMetrics,
        wait_timeout: Duration,
        home: Option<(char, usize)>,
    ) -> Self {
        let limits = LeaseLimits { max_idle_age: Duration::from_secs(240), max_lifetime: Duration::from_secs(3600), wait_timeout };
        let leases = Leases::new(Arc::clone(&fake), Arc::clone(&budget), limits, home, metrics.clone());
        Self { fake, leases, budget, metrics, closing: CancellationToken::new(), moved: watch::channel(0).0 }
    }

    /// The same server and budget, other leases.
    pub(super) fn another_worker(&self) -> Self {
        let wait_timeout = self.leases.limits.wait_timeout;
        Self::with(Arc::clone(&self.fake), Arc::clone(&self.budget), self.metrics.clone(), wait_timeout, None)
    }

    pub(super) fn tend(&self) {
        let (leases, moved, closing) = (Rc::clone(&self.leases), self.moved.subscribe(), self.closing.clone());
        spawn_local(async move { leases.tend(moved, closing).await });
    }

    pub(super) async fn take(&self, key: char) -> Lease<Fake> {
        self.leases.take(&key).await.unwrap()
    }

    /// A client in a task of its own.
    pub(super) fn later(&self, key: char) -> JoinHandle<Result<Lease<Fake>>> {
        let leases = Rc::clone(&self.leases);
        spawn_local(async move { leases.take(&key).await })
    }

    pub(super) fn gauge(&self, state: UpstreamState) -> i64 {
        self.metrics.upstream.of(state).get()
    }

    pub(super) fn idle(&self) -> i64 {
        self.gauge(UpstreamState::Idle)
    }

    pub(super) fn leased(&self) -> i64 {
        self.gauge(UpstreamState::Leased)
    }

    pub(super) fn outcome(&self, outcome: LeaseOutcome) -> u64 {
        self.metrics.leases.of(outcome).get()
    }

    pub(super) fn evictions(&self, reason: EvictReason) -> u64 {
        self.metrics.evictions.of(reason).get()
    }
}

/// Lets every task run until it has nothing more to do.
pub(super) async fn settle() {
    for _ in 0..300 {
        yield_now().await;
    }
}

pub(super) fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(test));
}

pub(super) fn metrics() -> ListenerMetrics {
    Metrics::new().unwrap().listener("test")
}

pub(super) fn fake() -> Arc<Fake> {
    Arc::default()
}
