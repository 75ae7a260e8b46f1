//! The same with real threads: each worker a runtime of its own, as in the proxy.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::task::LocalSet;

use super::bench::{metrics, settle};
use super::moving::{Server, Worker};
use super::*;

/// Runs `work` on a worker of its own in each of so many threads; each lingers until all are done, for its idle connections may be wanted.
fn workers<F: Future<Output = ()>>(count: usize, server: &Arc<Server>, budget: &Arc<Budget>, work: impl Fn(usize, Rc<Worker>) -> F + Sync) {
    let (metrics, left) = (metrics(), AtomicUsize::new(count));
    thread::scope(|scope| {
        for number in 0..count {
            let (metrics, left, work) = (&metrics, &left, &work);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(LocalSet::new().run_until(async {
                    let worker = Rc::new(Worker::new(server, budget, metrics, None));
                    work(number, Rc::clone(&worker)).await;
                    left.fetch_sub(1, Ordering::SeqCst);
                    while left.load(Ordering::SeqCst) > 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    worker.closing.cancel();
                    settle().await;
                }));
            });
        }
    });
    assert_eq!((budget.used(), server.open.load(Ordering::SeqCst), budget.is_wanted()), (0, 0, false), "all is closed and given back");
    assert_eq!(server.packed.load(Ordering::SeqCst), server.unpacked.load(Ordering::SeqCst), "no parcel was lost");
    assert_eq!(metrics.leases.of(LeaseOutcome::Failed).get() + metrics.leases.of(LeaseOutcome::Timeout).get(), 0);
}

/// Far more clients than places, and nobody closes: the first connections serve all of them.
#[test]
fn connections_wander_and_are_never_remade() {
    let (server, budget) = (Arc::new(Server::default()), Budget::new(3));
    workers(3, &server, &budget, |_, worker| async move {
        let client = async |_| {
            for _ in 0..200 {
                let lease = worker.take('x').await;
                yield_now().await;
                lease.give_back();
                yield_now().await;
            }
        };
        join_all((0..6).map(client)).await;
    });
    assert_eq!((server.opened.load(Ordering::SeqCst), server.most.load(Ordering::SeqCst)), (3, 3));
    assert!(server.packed.load(Ordering::SeqCst) > 0);
}

/// A worker that always has clients waiting, and a client on another: it is served each time, and not after all of theirs.
#[test]
fn a_crowd_on_one_worker_does_not_starve_another() {
    let (server, budget, served, done) = (Arc::new(Server::default()), Budget::new(1), AtomicUsize::new(0), AtomicBool::new(false));
    workers(2, &server, &budget, |number, worker| {
        let (served, done) = (&served, &done);
        async move {
            if number == 1 {
                for _ in 0..50 {
                    let lease = worker.take('x').await;
                    sleep(Duration::from_millis(1)).await;
                    lease.give_back();
                }
                done.store(true, Ordering::SeqCst);
                return;
            }
            let client = async |_| {
                while !done.load(Ordering::SeqCst) {
                    let lease = worker.take('x').await;
                    served.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(1)).await;
                    lease.give_back();
                }
            };
            join_all((0..8).map(client)).await;
        }
    });
    // In turn it is eight to one; the grace lets a few more pass.
    let served = served.load(Ordering::SeqCst);
    assert!(served <= 50 * 8 * 2, "{served} for 50");
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
}

/// Everything at once: two keys, leases dropped, clients that leave at any stage, and a limit that changes.
#[test]
fn the_limit_holds_whatever_happens() {
    let (server, budget, done) = (Arc::new(Server::default()), Budget::new(4), AtomicUsize::new(0));
    workers(4, &server, &budget, |number, worker| {
        let (server, budget, done) = (&server, &budget, &done);
        async move {
            if number == 0 {
                // The ruler: after each cut, from the moment it has taken effect, nothing exceeds it.
                while done.load(Ordering::SeqCst) < 3 {
                    for limit in [1, 4, 2, 5] {
                        budget.set_limit(limit);
                        while budget.over() > 0 {
                            yield_now().await;
                        }
                        for _ in 0..20 {
                            let open = server.open.load(Ordering::SeqCst);
                            assert!(open <= limit, "{open} of {limit}");
                            yield_now().await;
                        }
                    }
                }
                return;
            }
            let client = async |client: usize| {
                for round in 0..150 {
                    let key = if (round + client).is_multiple_of(3) { 'y' } else { 'x' };
                    let mut take = Box::pin(worker.leases.take(&key));
                    let lease = match (round * 7 + client) % 5 {
                        0 => {
                            // Leaves after a few looks.
                            for _ in 0..(round % 4) {
                                if (&mut take).now_or_never().is_some() {
                                    break;
                                }
                                yield_now().await;
                            }
                            continue;
                        }
                        _ => take.await.unwrap(),
                    };
                    yield_now().await;
                    match (round + client) % 11 {
                        0 => drop(lease),
                        1 | 2 => lease.clean_and_give_back(),
                        _ => lease.give_back(),
                    }
                }
            };
            join_all((0..6).map(client)).await;
            done.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(server.most.load(Ordering::SeqCst) <= 5);
    assert_eq!(budget.crowd(), crate::pool::Crowd::default());
}
