//! The limit over threads, the order, and who leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_util::FutureExt as _;

use super::*;

impl Budget {
    /// The next permit, for a client that begins to wait now.
    async fn acquire(self: &Arc<Self>) -> Permit {
        match self.stand_in_line(Wish { since: Instant::now(), kind: 0 }) {
            Ok(permit) => permit,
            Err(mut place) => place.turn().await.permit,
        }
    }
}

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    future.poll_unpin(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_limit_is_exact_over_threads() {
    let budget = Budget::new(3);
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (budget, now, most) = (&budget, &now, &most);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let clients = (0..4).map(|client| async move {
                        for round in 0..500 {
                            let mut acquire = Box::pin(budget.acquire());
                            // Some leave after one look.
                            if (round + client + thread) % 5 == 0 && poll(&mut acquire).is_pending() {
                                continue;
                            } else if (round + client + thread) % 5 == 0 {
                                tokio::task::yield_now().await;
                                continue;
                            }
                            let permit = acquire.await;
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            tokio::task::yield_now().await;
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    });
                    futures_util::future::join_all(clients).await;
                });
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 3, "the limit is reached and not exceeded");
    let all = [budget.try_acquire(), budget.try_acquire(), budget.try_acquire()];
    assert!(all.iter().all(Option::is_some) && budget.try_acquire().is_none(), "none was lost, none was doubled");
    assert!(!budget.is_wanted());
}

#[test]
fn first_come_first_served_and_nobody_overtakes() {
    let budget = Budget::new(1);
    let held = budget.try_acquire().unwrap();
    let (mut a, mut b, mut c) = (Box::pin(budget.acquire()), Box::pin(budget.acquire()), Box::pin(budget.acquire()));
    assert!(poll(&mut b).is_pending() && poll(&mut a).is_pending() && poll(&mut c).is_pending());
    drop(held);
    assert!(budget.try_acquire().is_none(), "it has been given on already");
    assert!(poll(&mut c).is_pending() && poll(&mut a).is_pending());
    let Poll::Ready(held) = poll(&mut b) else { panic!("the first in line was passed over") };
    drop(a);
    drop(held);
    assert!(poll(&mut c).is_ready(), "who left is passed over");
}

#[test]
fn a_permit_on_its_way_to_one_who_left_goes_to_the_next() {
    let budget = Budget::new(1);
    let held = budget.try_acquire().unwrap();
    let (mut a, mut b) = (Box::pin(budget.acquire()), Box::pin(budget.acquire()));
    assert!(poll(&mut a).is_pending() && poll(&mut b).is_pending());
    drop(held);
    drop(a);
    let Poll::Ready(held) = poll(&mut b) else { panic!("lost") };
    drop(b);
    drop(held);
    assert!(budget.try_acquire().is_some());
}

#[test]
fn wanted_for_as_long_as_somebody_waits() {
    let budget = Budget::new(2);
    let desk = budget.open_desk();
    desk.idle.store(1, Ordering::SeqCst);
    let woken = || poll(&mut Box::pin(desk.changed.notified())).is_ready();
    let (one, two) = (budget.try_acquire().unwrap(), budget.try_acquire().unwrap());
    assert!(!budget.is_wanted() && !woken());
    let (mut a, mut b) = (Box::pin(budget.acquire()), Box::pin(budget.acquire()));
    assert!(poll(&mut a).is_pending() && poll(&mut b).is_pending());
    assert!(budget.is_wanted() && woken());
    drop(one);
    // Before the waiter has even run: nobody gives up a second connection for it.
    assert!(budget.is_wanted());
    drop(two);
    assert!(!budget.is_wanted());
    let (one, _two) = (poll(&mut a), poll(&mut b));
    let mut c = Box::pin(budget.acquire());
    assert!(poll(&mut c).is_pending() && budget.is_wanted() && woken());
    drop(c);
    assert!(!budget.is_wanted(), "who left wants nothing");
    drop(one);
}

#[test]
fn no_limit() {
    let budget = Budget::new(0);
    let permits: Vec<_> = (0..1000).map(|_| budget.try_acquire().unwrap()).collect();
    assert!(poll(&mut Box::pin(budget.acquire())).is_ready());
    assert!(!budget.is_wanted());
    drop(permits);
}
