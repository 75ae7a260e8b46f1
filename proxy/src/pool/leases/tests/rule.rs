//! The limit at run time, and what an admin may do: pause, resume, reconnect.

use tokio::task::{JoinHandle, spawn_local};

use super::bench::{local, settle};
use super::moving::{Server, Worker, two};
use super::*;

fn open(server: &Server) -> usize {
    server.open.load(Ordering::SeqCst)
}

#[test]
fn a_lower_limit_closes_what_is_idle_at_once_and_the_rest_when_it_comes_back() {
    local(async {
        let (server, budget, metrics, [a, b]) = two(4);
        let (one, two, three, four) = (a.take('x').await, a.take('x').await, b.take('x').await, b.take('x').await);
        four.give_back();
        budget.set_limit(1);
        assert!(b.leases.try_take(&'x').is_none(), "what has to go is not lent again");
        settle().await;
        assert_eq!((open(&server), budget.used(), budget.over()), (3, 3, 2));
        let waiting = a.later('x');
        settle().await;
        three.give_back();
        one.clean_and_give_back();
        settle().await;
        assert_eq!((open(&server), budget.over(), waiting.is_finished()), (1, 0, false));
        assert_eq!(metrics.evictions.of(EvictReason::Pressure).get(), 3);
        two.give_back();
        let lease = waiting.await.unwrap().unwrap();
        assert_eq!(lease.connection().id, 2);
        // None at all, and then enough for all who wait.
        budget.set_limit(0);
        lease.give_back();
        let herd: Vec<_> = (0..6).map(|number| if number % 2 == 0 { a.later('x') } else { b.later('y') }).collect();
        settle().await;
        assert!(open(&server) == 0 && herd.iter().all(|client| !client.is_finished()));
        budget.set_limit(6);
        settle().await;
        assert!(open(&server) == 6 && herd.iter().all(JoinHandle::is_finished));
        assert_eq!(server.most.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn as_many_leases_are_recalled_as_there_are_too_many() {
    local(async {
        let (_, budget, _, [a, b]) = two(4);
        let leases = [a.take('x').await, a.take('x').await, b.take('x').await, b.take('x').await];
        budget.set_limit(2);
        assert!(!leases.iter().any(Lease::is_recalled), "it is not time yet");
        let (mut told, waits) = (
            0,
            leases.into_iter().map(|lease| {
                spawn_local(async move {
                    lease.recalled().await;
                    lease
                })
            }),
        );
        let waits: Vec<_> = waits.collect();
        settle().await;
        budget.recall();
        settle().await;
        let mut rest = Vec::new();
        for wait in waits {
            if wait.is_finished() {
                told += 1;
                let lease = wait.await.unwrap();
                assert!(lease.is_recalled());
                lease.give_back();
            } else {
                rest.push(wait);
            }
        }
        settle().await;
        assert_eq!((told, budget.used(), budget.over()), (2, 2, 0));
        budget.recall();
        settle().await;
        assert!(rest.iter().all(|wait| !wait.is_finished()), "nothing is beyond the limit");
        // Raised before it was time: nobody is asked.
        budget.set_limit(1);
        budget.set_limit(2);
        settle().await;
        assert!(rest.iter().all(|wait| !wait.is_finished()));
        rest.iter().for_each(JoinHandle::abort);
        settle().await;
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn nobody_gets_a_connection_during_a_pause_and_who_waited_does_after_it() {
    local(async {
        let (server, budget, metrics, [a, b]) = two(3);
        let (busy, idle) = (a.take('x').await, b.take('x').await);
        idle.give_back();
        budget.pause();
        assert!(budget.is_paused() && a.leases.try_take(&'x').is_none() && b.leases.try_take(&'x').is_none());
        let drained = spawn_local({
            let budget = Arc::clone(&budget);
            async move { budget.drained().await }
        });
        let (near, far) = (a.later('x'), b.later('x'));
        settle().await;
        assert_eq!((open(&server), drained.is_finished(), budget.crowd().waiting), (1, false, 2));
        busy.give_back();
        assert!(drained.await.unwrap());
        assert_eq!((open(&server), near.is_finished(), far.is_finished()), (0, false, false));
        assert_eq!(metrics.evictions.of(EvictReason::Admin).get(), 2);
        budget.resume();
        let (near, far) = (near.await.unwrap().unwrap(), far.await.unwrap().unwrap());
        assert_eq!((near.connection().id, far.connection().id, budget.used()), (3, 4, 2));
        // Ended before it took effect, and one that waits in vain.
        budget.pause();
        let drained = budget.drained();
        let impatient = a.later('x');
        let (outcome, ()) = tokio::join!(drained, async {
            let error = impatient.await.unwrap().err().unwrap();
            assert_eq!(error.kind, Kind::Timeout);
            budget.resume();
        });
        assert!(!outcome && !budget.drained().await);
        drop((near, far));
    });
}

#[test]
fn one_that_was_being_opened_when_the_pause_began_is_closed() {
    local(async {
        let (server, budget, _, [a, _b]) = two(1);
        let client = a.later('x');
        while open(&server) == 0 {
            yield_now().await;
        }
        budget.pause();
        assert!(budget.drained().await);
        assert_eq!((open(&server), client.is_finished()), (0, false));
        budget.resume();
        assert_eq!(client.await.unwrap().unwrap().connection().id, 2);
    });
}

#[test]
fn reconnecting_closes_what_there_is_and_nothing_that_comes_after() {
    local(async {
        let (server, budget, metrics, [a, b]) = two(0);
        let (busy, idle) = (a.take('x').await, b.take('x').await);
        idle.give_back();
        budget.retire();
        assert!(b.leases.try_take(&'x').is_none());
        assert_eq!(busy.unfit(), Some(EvictReason::Admin));
        busy.give_back();
        settle().await;
        assert_eq!((open(&server), metrics.evictions.of(EvictReason::Admin).get()), (0, 2));
        a.take('x').await.give_back();
        assert_eq!(a.leases.try_take(&'x').unwrap().connection().id, 3);
    });
}

#[test]
fn what_is_kept_ready_comes_back_after_a_pause() {
    local(async {
        let (server, budget) = (Arc::default(), Budget::new(4));
        let worker = Worker::new(&server, &budget, &bench::metrics(), Some(('x', 2)));
        settle().await;
        assert_eq!(budget.crowd().idle, 2);
        budget.pause();
        assert!(budget.drained().await);
        budget.resume();
        settle().await;
        assert_eq!((budget.crowd().idle, open(&server)), (2, 2));
        worker.closing.cancel();
        settle().await;
        assert_eq!(budget.used(), 0);
    });
}
