//! Leases against a backend that does as it is told, on a paused clock.

mod bench;
mod life;
mod moving;
mod rule;
mod threads;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use self::bench::{Bench, Given, local, settle};
use super::*;
use crate::metrics::UpstreamState;
use crate::pool::MAX_OPENING;

#[test]
fn what_comes_back_is_used_again_newest_first() {
    local(async {
        let bench = Bench::new(Given::default());
        let (one, two) = (bench.take('a').await, bench.take('a').await);
        assert_eq!((*one.connection(), *two.connection(), bench.leased()), (1, 2, 2));
        one.give_back();
        two.give_back();
        assert_eq!((bench.leased(), bench.idle()), (0, 2));
        let again = bench.leases.try_take(&'a').unwrap();
        assert_eq!((*again.connection(), *again.key()), (2, 'a'));
        assert!(bench.leases.try_take(&'b').is_none(), "another key's is nothing for it");
        assert_eq!((bench.outcome(LeaseOutcome::Cold), bench.outcome(LeaseOutcome::Warm)), (2, 1));
    });
}

#[test]
fn dropping_closes_and_frees_the_place() {
    local(async {
        let bench = Bench::new(Given { size: 1, ..Given::default() });
        let mut lease = bench.take('a').await;
        *lease.connection_mut() += 100;
        lease.count_as(UpstreamState::Lane);
        assert_eq!((bench.leased(), bench.gauge(UpstreamState::Lane)), (0, 1));
        drop(lease);
        assert_eq!((bench.gauge(UpstreamState::Lane), bench.fake.discarded.take()), (0, vec![101]));
        assert_eq!(*bench.take('a').await.connection(), 2);
    });
}

#[test]
fn the_longest_waiter_of_the_key_gets_what_is_given_back() {
    local(async {
        let bench = Bench::new(Given { size: 2, ..Given::default() });
        let (a, b) = (bench.take('a').await, bench.take('b').await);
        let waiters = [bench.later('b'), bench.later('a'), bench.later('a')];
        settle().await;
        a.give_back();
        settle().await;
        let [first_b, first_a, second_a] = waiters;
        assert!(first_a.is_finished() && !second_a.is_finished() && !first_b.is_finished());
        let a = first_a.await.unwrap().unwrap();
        assert_eq!((*a.connection(), bench.outcome(LeaseOutcome::Waited)), (1, 1));
        drop(b);
        settle().await;
        assert!(first_b.is_finished(), "its place goes to who waits longest for one");
        first_b.await.unwrap().unwrap().give_back();
        settle().await;
        assert!(second_a.is_finished(), "one of another key is closed for who waits");
        assert_eq!(bench.evictions(EvictReason::Pressure), 1);
    });
}

#[test]
fn the_oldest_idle_one_makes_room_for_another_key() {
    local(async {
        let bench = Bench::new(Given { size: 2, ..Given::default() });
        let (a, b) = (bench.take('a').await, bench.take('b').await);
        b.give_back();
        a.give_back();
        assert_eq!(*bench.take('c').await.connection(), 3);
        assert_eq!((bench.fake.discarded.take(), bench.evictions(EvictReason::Pressure)), (vec![2, 3], 1));
        assert_eq!(*bench.leases.try_take(&'a').unwrap().connection(), 1);
    });
}

#[test]
fn another_worker_gives_up_what_it_does_not_use_and_no_more() {
    local(async {
        let bench = Bench::new(Given { size: 3, ..Given::default() });
        let (other, third) = (bench.another_worker(), bench.another_worker());
        for one in [&bench, &other, &third] {
            one.tend();
            one.take('a').await.give_back();
        }
        settle().await;
        assert_eq!((bench.idle(), bench.fake.opened.get()), (3, 3));
        // All places are idle, one on each worker.
        let mine = bench.take('a').await;
        let more = bench.take('a').await;
        settle().await;
        assert_eq!((bench.idle(), bench.leased()), (1, 2), "one was given up, not two");
        assert_eq!(bench.evictions(EvictReason::Pressure), 1);
        drop((mine, more));
    });
}

#[test]
fn what_comes_back_while_another_worker_waits_is_closed_at_once() {
    local(async {
        let bench = Bench::new(Given { size: 1, ..Given::default() });
        let other = bench.another_worker();
        let lease = bench.take('a').await;
        let waiting = other.later('a');
        settle().await;
        assert!(bench.leases.is_wanted());
        lease.clean_and_give_back();
        assert_eq!(bench.fake.cleaned.get(), 0, "not cleaned for nobody");
        assert_eq!(*waiting.await.unwrap().unwrap().connection(), 2);
        assert_eq!((bench.evictions(EvictReason::Pressure), bench.leases.is_wanted()), (1, false));
    });
}

#[test]
fn a_herd_queues_and_opening_is_bounded() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.fake.manual.set(true);
        let herd: Vec<_> = (0..100).map(|_| bench.later('a')).collect();
        let mut served = 0;
        let mut leases = Vec::new();
        while served < 100 {
            settle().await;
            assert_eq!(usize::try_from(bench.gauge(UpstreamState::Connecting)).unwrap(), MAX_OPENING.min(100 - served));
            served += bench.fake.open_all();
        }
        for client in herd {
            leases.push(client.await.unwrap().unwrap());
        }
        assert_eq!((bench.fake.opened.get(), bench.leased()), (100, 100));
    });
}

#[test]
fn leaving_at_every_point_loses_nothing() {
    local(async {
        let bench = Bench::new(Given { size: 1, ..Given::default() });
        // While it opens: that goes on, and what it opens serves the next.
        bench.fake.manual.set(true);
        let leaver = bench.later('a');
        settle().await;
        leaver.abort();
        settle().await;
        assert_eq!(bench.gauge(UpstreamState::Connecting), 1);
        let next = bench.later('a');
        settle().await;
        bench.fake.open_all();
        let lease = next.await.unwrap().unwrap();
        assert_eq!(bench.fake.opened.get(), 1);
        // While it waits for a permit, the one behind it in the turnstile, and one in the turnstile's line that goes first.
        let (first, second, third) = (bench.later('b'), bench.later('b'), bench.later('b'));
        settle().await;
        second.abort();
        first.abort();
        settle().await;
        bench.fake.manual.set(false);
        drop(lease);
        let lease = third.await.unwrap().unwrap();
        // At the very moment when one is handed to it.
        let leaver = bench.later('b');
        settle().await;
        lease.give_back();
        leaver.abort();
        settle().await;
        assert_eq!((bench.leased(), bench.idle(), bench.budget.is_wanted()), (0, 1, false));
        assert!(bench.leases.waiters.borrow().by_key.is_empty(), "nothing of those who left remains");
        assert_eq!(*bench.take('b').await.connection(), 2);
        settle().await;
        assert!(bench.budget.try_acquire().is_some());
    });
}

#[test]
fn what_may_pass_is_tried_again_with_pauses_one_at_a_time() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.fake.refuse(Some(Error::upstream(Kind::Tcp, "refused")));
        let started = Instant::now();
        let herd: Vec<_> = (0..50).map(|_| bench.later('a')).collect();
        sleep(Duration::from_secs(9)).await;
        let tries = bench.fake.opened.get();
        assert!((18..=26).contains(&tries), "16 at once, then 100 ms doubling makes about six in nine seconds, not {tries}");
        assert!(herd.iter().all(|client| !client.is_finished()));
        bench.fake.refuse(None);
        for client in herd {
            drop(client.await.unwrap().unwrap());
        }
        assert!(started.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn who_waits_in_vain_hears_why() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.fake.refuse(Some(Error::upstream(Kind::Dns, "no such name")));
        let started = Instant::now();
        let herd: Vec<_> = (0..50).map(|_| bench.later('a')).collect();
        for client in herd {
            let error = client.await.unwrap().err().unwrap();
            assert_eq!((error.kind, error.why.as_str()), (Kind::Dns, "no such name"));
        }
        assert_eq!((started.elapsed().as_secs(), bench.outcome(LeaseOutcome::Failed)), (30, 50));
        assert!(bench.leases.waiters.borrow().by_key.is_empty());
    });
}

#[test]
fn what_will_not_pass_is_said_at_once_and_stops_nobody_else() {
    local(async {
        let bench = Bench::new(Given::default());
        for (key, error) in [
            ('a', Error::upstream(Kind::Login, "wrong password")),
            ('c', Error::upstream(Kind::TlsName, "wrong name")),
            ('d', Error::upstream(Kind::Unavailable, "of the client").replying(b"-ERR x\r\n")),
        ] {
            bench.fake.refuse(Some(error.clone()));
            let started = Instant::now();
            let heard = bench.leases.take(&key).await.err().unwrap();
            assert_eq!((heard.kind, heard.reply, started.elapsed()), (error.kind, error.reply, Duration::ZERO));
            bench.fake.refuse(None);
            drop(bench.take('b').await);
            assert_eq!(started.elapsed(), Duration::ZERO);
        }
    });
}

#[test]
fn a_refused_login_is_not_tried_by_everybody() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.fake.refuse(Some(Error::upstream(Kind::Login, "wrong password")));
        let started = Instant::now();
        let herd: Vec<_> = (0..1000).map(|_| bench.later('a')).collect();
        for client in herd {
            assert_eq!(client.await.unwrap().err().unwrap().kind, Kind::Login);
        }
        let tries = bench.fake.opened.get();
        assert!((1..=16).contains(&tries), "{tries}");
        assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits for what will not come");
        // Who comes again and again, for nine seconds.
        while started.elapsed() < Duration::from_secs(9) {
            let clients = [bench.later('a'), bench.later('a')];
            for client in clients {
                assert_eq!(client.await.unwrap().err().unwrap().why, "wrong password");
            }
            sleep(Duration::from_millis(10)).await;
        }
        let more = bench.fake.opened.get() - tries;
        assert!((3..=8).contains(&more), "100 ms doubling makes about six in nine seconds, not {more}");
        bench.fake.refuse(None);
        sleep(Duration::from_secs(16)).await;
        drop(bench.take('a').await);
        let opened = bench.fake.opened.get();
        drop(bench.take('a').await);
        assert_eq!(bench.fake.opened.get(), opened + 1, "and then as ever");
    });
}

#[test]
fn without_patience_there_is_one_try_and_none_during_a_pause() {
    local(async {
        let bench = Bench::new(Given { wait_timeout: Duration::ZERO, size: 1, ..Given::default() });
        bench.fake.refuse(Some(Error::upstream(Kind::Tcp, "refused")));
        let started = Instant::now();
        for _ in 0..100 {
            assert_eq!(bench.leases.take(&'a').await.err().unwrap().kind, Kind::Tcp);
        }
        assert_eq!((bench.fake.opened.get(), started.elapsed()), (1, Duration::ZERO));
        sleep(Duration::from_millis(160)).await;
        bench.fake.refuse(None);
        bench.fake.manual.set(true);
        let (one, two) = (bench.later('a'), bench.later('a'));
        settle().await;
        assert!(!one.is_finished() && two.is_finished(), "one probe, the other hears what was last");
        assert_eq!(two.await.unwrap().err().unwrap().kind, Kind::Tcp);
        // Opening may take its time: that is connect_timeout's business.
        sleep(Duration::from_secs(5)).await;
        bench.fake.open_all();
        let lease = one.await.unwrap().unwrap();
        assert_eq!(bench.leases.take(&'a').await.err().unwrap().kind, Kind::Timeout, "all are in use");
        lease.give_back();
        drop(bench.take('a').await);
    });
}

#[test]
fn who_waits_too_long_for_others_gets_an_error() {
    local(async {
        let bench = Bench::new(Given { size: 1, ..Given::default() });
        let lease = bench.take('a').await;
        let started = Instant::now();
        let error = bench.leases.take(&'a').await.err().unwrap();
        assert_eq!((error.kind, started.elapsed().as_secs()), (Kind::Timeout, 30));
        assert_eq!(bench.outcome(LeaseOutcome::Timeout), 1);
        drop(lease);
        // A patience shorter than the handshake: it serves the next.
        bench.fake.manual.set(true);
        assert!(timeout(Duration::from_secs(1), bench.leases.take(&'a')).await.is_err());
        bench.fake.open_all();
        settle().await;
        assert_eq!(bench.idle(), 1);
    });
}

#[test]
fn the_futures_are_small() {
    local(async {
        let bench = Bench::new(Given::default());
        assert!(size_of_val(&bench.leases.take(&'a')) <= 1024, "{}", size_of_val(&bench.leases.take(&'a')));
    });
}

/// Two threads and one place: each gets it again and again, though the other keeps it idle whenever it is done.
#[test]
fn a_place_wanders_between_threads() {
    let (budget, metrics) = (Budget::new(1), bench::metrics());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(tokio::task::LocalSet::new().run_until(async {
                    let fake = bench::fake();
                    let bench = Bench::with(fake, Arc::clone(&budget), metrics.clone(), Duration::from_secs(30), None);
                    bench.tend();
                    for _ in 0..500 {
                        bench.take('a').await.give_back();
                        yield_now().await;
                    }
                    // The other may still want it.
                    bench.closing.cancel();
                    settle().await;
                }));
            });
        }
    });
    assert_eq!(metrics.leases.of(LeaseOutcome::Failed).get() + metrics.leases.of(LeaseOutcome::Timeout).get(), 0);
    assert!(budget.try_acquire().is_some());
}
