//! Cleaning, ageing, dying, the home key, the end.

use super::*;

#[test]
fn cleaned_ones_are_used_again_and_others_closed() {
    local(async {
        let bench = Bench::new(Given::default());
        let (one, two, three) = (bench.take('a').await, bench.take('a').await, bench.take('a').await);
        bench.fake.dirty.replace(vec![2]);
        one.clean_and_give_back();
        two.clean_and_give_back();
        assert_eq!(bench.leased(), 3, "until it is clean it is nobody's");
        settle().await;
        assert_eq!((bench.leased(), bench.idle(), bench.evictions(EvictReason::Unclean)), (1, 1, 1));
        assert_eq!(bench.fake.discarded.take(), [2]);
        bench.fake.cleaning.set(Duration::from_secs(60));
        three.clean_and_give_back();
        sleep(Duration::from_millis(5100)).await;
        assert_eq!((bench.leased(), bench.evictions(EvictReason::Unclean)), (0, 2), "a server that does not answer is not waited for");
        assert_eq!(*bench.leases.try_take(&'a').unwrap().connection(), 1);
    });
}

#[test]
fn a_clean_one_goes_to_who_waits_for_its_key() {
    local(async {
        let bench = Bench::new(Given { size: 1, ..Given::default() });
        let lease = bench.take('a').await;
        bench.fake.cleaning.set(Duration::from_millis(1));
        let waiting = bench.later('a');
        settle().await;
        lease.clean_and_give_back();
        let lease = waiting.await.unwrap().unwrap();
        assert_eq!((*lease.connection(), bench.fake.cleaned.get(), bench.fake.opened.get()), (1, 1, 1));
    });
}

#[test]
fn idle_ones_go_after_their_age() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.tend();
        settle().await;
        let leases = [bench.take('a').await, bench.take('a').await, bench.take('b').await];
        leases.into_iter().for_each(Lease::give_back);
        sleep(Duration::from_secs(190)).await;
        assert_eq!(bench.idle(), 3);
        sleep(Duration::from_secs(51)).await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::IdleAge)), (0, 3));
    });
}

#[test]
fn old_ones_go_when_they_are_free() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.tend();
        let (kept, mut used) = (bench.take('a').await, bench.take('b').await);
        for _ in 0..28 {
            sleep(Duration::from_secs(100)).await;
            assert_eq!(used.unfit(), None);
            used.give_back();
            used = bench.take('b').await;
            assert_eq!(*used.connection(), 2);
        }
        sleep(Duration::from_secs(801)).await;
        assert_eq!((kept.unfit(), used.unfit()), (Some(EvictReason::Lifetime), Some(EvictReason::Lifetime)));
        kept.give_back();
        used.clean_and_give_back();
        settle().await;
        assert_eq!((bench.idle(), bench.fake.cleaned.get(), bench.evictions(EvictReason::Lifetime)), (0, 0, 2));
        // One whose time comes while it is idle.
        let lease = bench.take('a').await;
        sleep(Duration::from_secs(2870)).await;
        lease.give_back();
        sleep(Duration::from_secs(191)).await;
        assert_eq!(bench.idle() + i64::try_from(bench.evictions(EvictReason::Lifetime)).unwrap(), 3);
    });
}

#[test]
fn dead_ones_vanish_before_anyone_asks() {
    local(async {
        let bench = Bench::new(Given::default());
        bench.tend();
        settle().await;
        let (one, two) = (bench.take('a').await, bench.take('a').await);
        one.give_back();
        two.give_back();
        bench.fake.kill(2);
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::ServerClosed)), (1, 1));
        // One that the tender has not seen yet, and one of which only the kernel knows.
        let lease = bench.take('a').await;
        assert_eq!(*lease.connection(), 1);
        bench.fake.unread.borrow_mut().push(1);
        lease.give_back();
        // One that came back just now is not looked at.
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!((bench.leases.try_take(&'a').is_none(), bench.idle()), (true, 1), "left to the tender");
        assert_eq!(*bench.take('a').await.connection(), 3);
        bench.fake.unread.borrow_mut().clear();
        assert_eq!(*bench.take('a').await.connection(), 1);
    });
}

#[test]
fn outdated_ones_are_not_kept() {
    local(async {
        let bench = Bench::new(Given::default());
        let lease = bench.take('a').await;
        bench.fake.outdated.set(true);
        assert_eq!(lease.unfit(), Some(EvictReason::Dns));
        lease.give_back();
        assert_eq!((bench.idle(), bench.evictions(EvictReason::Dns)), (0, 1));
        bench.fake.outdated.set(false);
        bench.take('a').await.close(EvictReason::ReadOnly);
        assert_eq!((bench.leased(), bench.evictions(EvictReason::ReadOnly), bench.fake.discarded.take()), (0, 1, vec![1, 2]));
    });
}

#[test]
fn the_home_key_is_kept_ready_but_not_against_who_waits() {
    local(async {
        let bench = Bench::new(Given { size: 3, home: Some(('a', 2)), ..Given::default() });
        bench.tend();
        settle().await;
        assert_eq!(bench.idle(), 2);
        let one = bench.take('a').await;
        settle().await;
        assert_eq!((bench.idle(), bench.outcome(LeaseOutcome::Warm)), (2, 1), "what was taken is replaced");
        let other = bench.another_worker();
        let (two, three) = (other.take('b').await, other.take('b').await);
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::Pressure)), (0, 2));
        drop(two);
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(bench.idle(), 1, "a place that became free is used before long");
        drop((one, three));
    });
}

#[test]
fn refilling_backs_off() {
    local(async {
        let bench = Bench::new(Given { home: Some(('a', 4)), ..Given::default() });
        bench.fake.refuse(Some(Error::upstream(Kind::Tcp, "refused")));
        bench.tend();
        sleep(Duration::from_secs(60)).await;
        let tries = bench.fake.opened.get();
        assert!((9..=18).contains(&tries), "four at once, then 100 ms doubling to 10 s makes about ten tries a minute, not {tries}");
        bench.fake.refuse(None);
        sleep(Duration::from_secs(16)).await;
        assert_eq!(bench.idle(), 4);
        // A server that drops fresh connections.
        let before = bench.fake.opened.get();
        for _ in 0..600 {
            let newest = bench.fake.opened.get();
            (newest.saturating_sub(3)..=newest).for_each(|connection| bench.fake.kill(connection));
            sleep(Duration::from_millis(100)).await;
        }
        let opened = bench.fake.opened.get() - before;
        assert!(opened < 80, "a minute of rejections caused {opened} handshakes");
    });
}

#[test]
fn closing_keeps_nothing_but_still_serves_who_comes() {
    local(async {
        let bench = Bench::new(Given { home: Some(('a', 2)), ..Given::default() });
        bench.tend();
        settle().await;
        let lease = bench.take('a').await;
        settle().await;
        bench.closing.cancel();
        settle().await;
        assert_eq!((bench.idle(), bench.evictions(EvictReason::Drain)), (0, 2));
        lease.clean_and_give_back();
        bench.take('b').await.give_back();
        settle().await;
        assert_eq!((bench.idle(), bench.leased(), bench.evictions(EvictReason::Drain)), (0, 0, 4));
        assert_eq!(bench.fake.cleaned.get(), 0);
    });
}
