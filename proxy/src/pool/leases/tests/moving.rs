//! A backend whose connections can change threads and are counted where they would count: at the server. And, on a paused clock, who gets one.

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::sync::CancellationToken;

use super::bench::{local, metrics, settle};
use super::*;
use crate::pool::Backend;

/// The server of all workers.
#[derive(Default)]
pub(super) struct Server {
    pub(super) open: AtomicUsize,
    pub(super) most: AtomicUsize,
    pub(super) opened: AtomicUsize,
    pub(super) packed: AtomicUsize,
    pub(super) unpacked: AtomicUsize,
}

/// Open from the first to the last moment of its life.
pub(super) struct Conn {
    pub(super) id: usize,
    server: Arc<Server>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One worker's way to it.
pub(super) struct Mover(pub(super) Arc<Server>);

impl Backend for Mover {
    type Connection = Conn;
    type Key = char;

    async fn open(&self, _: &char) -> Result<Conn> {
        let server = Arc::clone(&self.0);
        server.most.fetch_max(server.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let connection = Conn { id: server.opened.fetch_add(1, Ordering::SeqCst) + 1, server };
        yield_now().await;
        Ok(connection)
    }

    fn poll_unfit(&self, _: &mut Conn, _: &mut Context<'_>) -> Poll<EvictReason> {
        Poll::Pending
    }

    fn has_unread(&self, _: &Conn) -> bool {
        false
    }

    fn discard(&self, connection: Conn) {
        drop(connection);
    }
}

impl Reuse for Mover {
    type Parcel = Conn;

    const MOVES: bool = true;

    fn pack(&self, connection: Conn) -> std::result::Result<Conn, Conn> {
        self.0.packed.fetch_add(1, Ordering::SeqCst);
        Ok(connection)
    }

    fn unpack(&self, parcel: Conn) -> Option<Conn> {
        self.0.unpacked.fetch_add(1, Ordering::SeqCst);
        Some(parcel)
    }

    async fn clean(&self, _: &mut Conn, _: &char) -> Result<()> {
        yield_now().await;
        Ok(())
    }

    fn outdated(&self, _: &Conn) -> Option<EvictReason> {
        None
    }
}

/// One worker, with its tender.
pub(super) struct Worker {
    pub(super) leases: Rc<Leases<Mover>>,
    pub(super) closing: CancellationToken,
    _moved: watch::Sender<u64>,
}

impl Worker {
    pub(super) fn new(server: &Arc<Server>, budget: &Arc<Budget>, metrics: &ListenerMetrics, home: Option<(char, usize)>) -> Self {
        let limits = LeaseLimits {
            max_idle_age: Duration::from_secs(240),
            max_lifetime: Duration::from_secs(3600),
            wait_timeout: Duration::from_secs(30),
        };
        let leases = Leases::new(Arc::new(Mover(Arc::clone(server))), Arc::clone(budget), limits, home, metrics.clone());
        let (closing, moved) = (CancellationToken::new(), watch::channel(0).0);
        let (tender, looks, ends) = (Rc::clone(&leases), moved.subscribe(), closing.clone());
        spawn_local(async move { tender.tend(looks, ends).await });
        Self { leases, closing, _moved: moved }
    }

    pub(super) async fn take(&self, key: char) -> Lease<Mover> {
        self.leases.take(&key).await.unwrap()
    }

    pub(super) fn later(&self, key: char) -> JoinHandle<Result<Lease<Mover>>> {
        let leases = Rc::clone(&self.leases);
        spawn_local(async move { leases.take(&key).await })
    }
}

/// Two workers, one server with so many places.
pub(super) fn two(size: usize) -> (Arc<Server>, Arc<Budget>, ListenerMetrics, [Worker; 2]) {
    let (server, budget, metrics) = (Arc::default(), Budget::new(size), metrics());
    let workers = [0, 1].map(|_| Worker::new(&server, &budget, &metrics, None));
    (server, budget, metrics, workers)
}

#[test]
fn what_one_worker_keeps_idle_serves_the_client_of_another() {
    local(async {
        let (server, budget, metrics, [a, b]) = two(1);
        a.take('x').await.give_back();
        assert_eq!(budget.crowd(), crate::pool::Crowd { idle: 1, ..Default::default() });
        let lease = b.take('x').await;
        assert_eq!((lease.connection().id, server.opened.load(Ordering::SeqCst)), (1, 1), "the same one, without a handshake");
        lease.give_back();
        // Who needs another kind gets its place only.
        assert_eq!((budget.used(), metrics.evictions.of(EvictReason::Pressure).get()), (1, 0));
        assert_eq!(a.take('y').await.connection().id, 2);
        let counts = (metrics.evictions.of(EvictReason::Pressure).get(), server.packed.load(Ordering::SeqCst));
        assert_eq!((counts, server.most.load(Ordering::SeqCst), budget.used()), ((1, 1), 1, 0));
    });
}

#[test]
fn who_has_waited_longest_comes_first_whatever_its_worker() {
    local(async {
        let (server, budget, _, [a, b]) = two(1);
        let lease = a.take('x').await;
        let far = b.later('x');
        settle().await;
        sleep(Duration::from_millis(1)).await;
        // A millisecond later: as good as at the same time, and it is here.
        let near = a.later('x');
        settle().await;
        assert_eq!((budget.crowd().waiting, budget.crowd().longest), (2, Duration::from_millis(1)));
        sleep(Duration::from_millis(10)).await;
        lease.give_back();
        settle().await;
        assert!(near.is_finished() && !far.is_finished());
        let lease = near.await.unwrap().unwrap();
        let near = a.later('x');
        settle().await;
        lease.give_back();
        settle().await;
        assert!(far.is_finished() && !near.is_finished(), "ten milliseconds are not as good as nothing");
        let lease = far.await.unwrap().unwrap();
        assert_eq!((lease.connection().id, server.packed.load(Ordering::SeqCst)), (1, 1));
        // And in the order of coming again, in the mode that cleans.
        lease.clean_and_give_back();
        assert_eq!(near.await.unwrap().unwrap().connection().id, 1);
    });
}

#[test]
fn one_sent_to_who_leaves_at_that_moment_serves_the_next() {
    local(async {
        let (server, budget, _, [a, b]) = two(2);
        let (one, two) = (a.take('x').await, b.take('x').await);
        let (first, second) = (b.later('x'), b.later('x'));
        settle().await;
        // Both come back at once: one from here, one in a parcel to the same client, which leaves with the first.
        two.give_back();
        one.give_back();
        settle().await;
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        assert_eq!(server.opened.load(Ordering::SeqCst), 2, "neither was closed");
        // Nobody is next: it is kept.
        let leaver = b.later('x');
        settle().await;
        let far = a.later('x');
        settle().await;
        far.abort();
        leaver.abort();
        first.give_back();
        second.give_back();
        settle().await;
        assert_eq!((budget.crowd().idle, budget.crowd().waiting, budget.used(), budget.is_wanted()), (2, 0, 2, false));
        let counts = (server.packed.load(Ordering::SeqCst), server.unpacked.load(Ordering::SeqCst));
        assert_eq!(counts.0, counts.1, "no parcel was lost");
    });
}

#[test]
fn the_very_connection_that_was_used_last_can_be_had_again() {
    local(async {
        let (_, _, _, [a, _b]) = two(0);
        let leases = [a.take('x').await, a.take('x').await, a.take('x').await];
        leases.into_iter().for_each(Lease::give_back);
        assert!(a.leases.try_take_where(&'x', |connection| connection.id == 9).is_none());
        assert!(a.leases.try_take_where(&'y', |connection| connection.id == 1).is_none());
        assert_eq!(a.leases.try_take_where(&'x', |connection| connection.id == 1).unwrap().connection().id, 1);
    });
}
