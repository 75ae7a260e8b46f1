//! The stock against a backend that does as it is told, on a paused clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Backend, Limits, MAX_OPENING, Stock};
use crate::error::{Error, Kind, Result};
use crate::metrics::{EvictReason, LeaseOutcome, ListenerMetrics, Metrics, UpstreamState};

/// Opens when the test says so.
#[derive(Default)]
struct Fake {
    /// Opens that wait for the test; empty and `automatic`: every open succeeds at once.
    gates: RefCell<VecDeque<oneshot::Sender<Result<()>>>>,
    manual: Cell<bool>,
    opened: Cell<u32>,
    refusing: Cell<bool>,
    discarded: Cell<u32>,
    dead: Rc<RefCell<Vec<u32>>>,
    waker: RefCell<Option<Waker>>,
}

impl Backend for Fake {
    type Connection = u32;
    type Key = ();

    async fn open(&self, (): &()) -> Result<u32> {
        if self.manual.get() {
            let (send, receive) = oneshot::channel();
            self.gates.borrow_mut().push_back(send);
            receive.await.unwrap()?;
        }
        self.opened.set(self.opened.get() + 1);
        if self.refusing.get() { Err(Error::upstream(Kind::Tcp, "refused")) } else { Ok(self.opened.get()) }
    }

    fn poll_unfit(&self, connection: &mut u32, cx: &mut Context<'_>) -> Poll<EvictReason> {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        if self.dead.borrow().contains(connection) { Poll::Ready(EvictReason::ServerClosed) } else { Poll::Pending }
    }

    fn has_unread(&self, connection: &u32) -> bool {
        self.dead.borrow().contains(connection)
    }

    fn discard(&self, _: u32) {
        self.discarded.set(self.discarded.get() + 1);
    }
}

impl Fake {
    fn kill(&self, connection: u32) {
        self.dead.borrow_mut().push(connection);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

struct Bench {
    fake: Arc<Fake>,
    stock: Rc<Stock<Fake>>,
    metrics: ListenerMetrics,
    closing: CancellationToken,
    _moved: watch::Sender<u64>,
}

impl Bench {
    fn new(min_idle: usize) -> Self {
        #[expect(clippy::arc_with_non_send_sync, reason = "the pool takes an Arc because real backends are shared between threads")]
        let fake = Arc::new(Fake::default());
        let metrics = Metrics::new().unwrap().listener("test");
        let limits = Limits {
            min_idle,
            max_idle_age: Duration::from_secs(240),
            wait_timeout: Duration::from_secs(30),
            suspect: Duration::from_secs(2),
        };
        let stock = Rc::new(Stock::new(Arc::clone(&fake), limits, metrics.clone()));
        Self { fake, stock, metrics, closing: CancellationToken::new(), _moved: watch::channel(0).0 }
    }

    fn tend(&self) {
        let (stock, moved, closing) = (Rc::clone(&self.stock), self._moved.subscribe(), self.closing.clone());
        spawn_local(async move { stock.tend(moved, closing).await });
    }

    fn idle(&self) -> i64 {
        self.metrics.upstream.of(UpstreamState::Idle).get()
    }

    fn opening(&self) -> i64 {
        self.metrics.upstream.of(UpstreamState::Connecting).get()
    }

    fn leases(&self, outcome: LeaseOutcome) -> u64 {
        self.metrics.leases.of(outcome).get()
    }

    fn evictions(&self, reason: EvictReason) -> u64 {
        self.metrics.evictions.of(reason).get()
    }
}

/// Lets every task run until it has nothing more to do.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(test));
}

#[test]
fn keeps_the_stock_filled_and_hands_out_warm() {
    local(async {
        let bench = Bench::new(3);
        bench.tend();
        settle().await;
        assert_eq!(bench.idle(), 3);
        assert_eq!(bench.stock.take().await.unwrap(), 1, "the oldest first");
        settle().await;
        assert_eq!((bench.idle(), bench.leases(LeaseOutcome::Warm)), (3, 1), "what was taken is replaced");
    });
}

#[test]
fn dead_connections_are_replaced_before_anyone_asks_but_not_at_once() {
    local(async {
        let bench = Bench::new(3);
        bench.tend();
        sleep(Duration::from_secs(5)).await;
        bench.fake.kill(1);
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::ServerClosed)), (0, 3), "a server that closes one may be going down");
        assert_eq!((bench.opening(), bench.fake.discarded.get()), (0, 3), "and must not be held up by connections that say nothing");
        sleep(Duration::from_millis(1900)).await;
        assert_eq!(bench.idle(), 0);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(bench.idle(), 3);
    });
}

#[test]
fn a_client_is_served_while_the_stock_pauses() {
    local(async {
        let bench = Bench::new(1);
        bench.tend();
        sleep(Duration::from_secs(5)).await;
        bench.fake.kill(1);
        settle().await;
        assert_eq!(bench.stock.take().await.unwrap(), 2);
        assert_eq!(bench.leases(LeaseOutcome::Cold), 1);
    });
}

#[test]
fn a_server_that_drops_fresh_connections_is_not_stormed() {
    local(async {
        let bench = Bench::new(2);
        bench.tend();
        for _ in 0..600 {
            let newest = bench.fake.opened.get();
            bench.fake.kill(newest);
            bench.fake.kill(newest.saturating_sub(1));
            sleep(Duration::from_millis(100)).await;
        }
        let opened = bench.fake.opened.get();
        assert!(opened < 40, "a minute of rejections caused {opened} handshakes");
    });
}

#[test]
fn one_that_died_a_moment_ago_is_not_handed_out() {
    local(async {
        let bench = Bench::new(2);
        bench.tend();
        settle().await;
        // The tender has had no turn yet: the check at hand-out must see it.
        bench.fake.dead.borrow_mut().push(1);
        let taken = bench.stock.take().await.unwrap();
        assert!(taken > 2, "nor is its suspect neighbour");
        assert!(bench.evictions(EvictReason::ServerClosed) >= 2);
    });
}

#[test]
fn old_ones_are_replaced_between_four_fifths_of_the_age_and_the_age() {
    local(async {
        let bench = Bench::new(4);
        bench.tend();
        sleep(Duration::from_secs(190)).await;
        assert_eq!(bench.evictions(EvictReason::IdleAge), 0);
        sleep(Duration::from_secs(51)).await;
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::IdleAge)), (4, 4));
    });
}

#[test]
fn a_herd_queues_and_opening_is_bounded() {
    local(async {
        let bench = Bench::new(0);
        bench.fake.manual.set(true);
        bench.tend();
        let herd: Vec<_> = (0..100)
            .map(|_| {
                let stock = Rc::clone(&bench.stock);
                spawn_local(async move { stock.take().await })
            })
            .collect();
        let mut served = 0;
        while served < 100 {
            settle().await;
            assert_eq!(usize::try_from(bench.opening()).unwrap(), MAX_OPENING.min(100 - served));
            for gate in bench.fake.gates.take() {
                gate.send(Ok(())).unwrap();
                served += 1;
            }
        }
        for client in herd {
            client.await.unwrap().unwrap();
        }
        assert_eq!(bench.leases(LeaseOutcome::Cold) + bench.leases(LeaseOutcome::Waited), 100);
    });
}

#[test]
fn a_client_that_leaves_passes_its_connection_on() {
    local(async {
        let bench = Bench::new(0);
        bench.fake.manual.set(true);
        bench.tend();
        let impatient = timeout(Duration::from_secs(1), bench.stock.take());
        assert!(impatient.await.is_err());
        let stock = Rc::clone(&bench.stock);
        let patient = spawn_local(async move { stock.take().await });
        settle().await;
        assert_eq!(bench.opening(), 1, "the one that was begun for the first will do");
        bench.fake.gates.borrow_mut().pop_front().unwrap().send(Ok(())).unwrap();
        assert_eq!(patient.await.unwrap().unwrap(), 1);
        assert_eq!((bench.opening(), bench.idle()), (0, 0));
    });
}

#[test]
fn a_connection_that_nobody_waits_for_any_more_goes_to_the_stock() {
    local(async {
        let bench = Bench::new(0);
        bench.fake.manual.set(true);
        bench.tend();
        let impatient = timeout(Duration::from_secs(1), bench.stock.take());
        assert!(impatient.await.is_err());
        bench.fake.gates.borrow_mut().pop_front().unwrap().send(Ok(())).unwrap();
        settle().await;
        assert_eq!(bench.idle(), 1, "nothing is lost");
        assert_eq!(bench.stock.take().await.unwrap(), 1);
    });
}

#[test]
fn a_failed_open_fails_the_longest_waiter_and_the_next_is_tried() {
    local(async {
        let bench = Bench::new(0);
        bench.fake.refusing.set(true);
        bench.tend();
        assert_eq!(bench.stock.take().await.unwrap_err().kind, Kind::Tcp);
        bench.fake.refusing.set(false);
        bench.stock.take().await.unwrap();
        assert_eq!((bench.leases(LeaseOutcome::Failed), bench.leases(LeaseOutcome::Cold)), (1, 1));
    });
}

#[test]
fn refilling_backs_off_and_recovers() {
    local(async {
        let bench = Bench::new(1);
        bench.fake.refusing.set(true);
        bench.tend();
        sleep(Duration::from_secs(60)).await;
        let tries = bench.fake.opened.get();
        assert!((7..=14).contains(&tries), "100 ms doubling to 10 s makes about ten tries a minute, not {tries}");
        bench.fake.refusing.set(false);
        let started = Instant::now();
        while bench.idle() == 0 {
            sleep(Duration::from_millis(100)).await;
        }
        assert!(started.elapsed() <= Duration::from_secs(16));
    });
}

#[test]
fn who_waits_too_long_gets_an_error() {
    local(async {
        let bench = Bench::new(0);
        bench.fake.manual.set(true);
        bench.tend();
        let started = Instant::now();
        let error = bench.stock.take().await.unwrap_err();
        assert_eq!((error.kind, started.elapsed().as_secs()), (Kind::Timeout, 30));
    });
}

#[test]
fn closing_empties_the_stock_but_still_serves_who_comes() {
    local(async {
        let bench = Bench::new(3);
        bench.tend();
        settle().await;
        bench.closing.cancel();
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::Drain)), (0, 3));
        bench.stock.take().await.unwrap();
    });
}
