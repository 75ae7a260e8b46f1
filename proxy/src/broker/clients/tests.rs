//! Keys that mean one client, and cancels that meet the lease they were meant for.

use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};

use super::*;
use crate::broker::CancelKey;

const KEY: CancelKey = CancelKey { process: 7, secret: 9 };

fn facts(database: &str, secret_bytes: usize) -> Facts {
    Facts { database: database.as_bytes().into(), user: "harbor".to_owned(), application: String::new(), peer: None, secret_bytes }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_key_means_one_client_as_long_as_it_is_here() {
    let clients = Arc::new(Clients::default());
    let (one, other) = (clients.enter(facts("registry", 4)).unwrap(), clients.enter(facts("registry", 32)).unwrap());
    assert_eq!((one.card().secret().len(), other.card().secret().len()), (4, 32));
    for badge in [&one, &other] {
        let card = badge.card();
        assert!((1..=i32::MAX.unsigned_abs()).contains(&card.process()));
        assert!(Arc::ptr_eq(&clients.find(card.process(), card.secret()).unwrap(), card));
        let mut wrong = card.secret().to_vec();
        wrong[0] ^= 1;
        assert!(clients.find(card.process(), &wrong).is_none());
        assert!(clients.find(card.process(), &card.secret()[1..]).is_none());
        assert!(clients.find(card.process(), &[]).is_none());
    }
    assert!(clients.find(one.card().process(), other.card().secret()).is_none());
    assert_eq!(clients.list().len(), 2);
    let (process, secret) = (one.card().process(), one.card().secret().to_vec());
    drop(one);
    assert!(clients.find(process, &secret).is_none());
    assert_eq!(clients.list().len(), 1);
}

#[test]
fn what_was_done_stays_counted() {
    let clients = Arc::new(Clients::default());
    let (one, other) = (clients.enter(facts("b", 4)).unwrap(), clients.enter(facts("a", 4)).unwrap());
    one.card().tally.queries.add(3);
    one.card().tally.queries.add(2);
    other.card().tally.wait_us.add(7);
    let before = clients.totals();
    assert_eq!(before.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(before[1].1, Totals { queries: 5, ..Totals::default() });
    drop((one, other));
    assert_eq!(clients.totals(), before);
}

#[test]
fn states_are_seen_from_outside() {
    let clients = Arc::new(Clients::default());
    let badge = clients.enter(facts("a", 4)).unwrap();
    let card = badge.card();
    assert_eq!(card.state(), State::Idle);
    for state in [State::Active, State::Waiting, State::IdleInTransaction, State::Idle] {
        card.enter(state);
        assert_eq!(clients.list()[0].state(), state);
    }
    assert_eq!(card.waiting(), Duration::ZERO);
}

#[test]
fn a_cancel_without_a_lease_goes_nowhere() {
    let badge = Arc::new(Clients::default()).enter(facts("a", 4)).unwrap();
    let card = badge.card();
    assert!(card.depart().is_none());
    card.lend(KEY);
    assert!(card.take_back(Waker::noop()), "nothing is on its way");
    assert!(card.depart().is_none(), "the lease has ended");
}

#[test]
fn a_lease_does_not_end_while_a_cancel_for_it_is_on_its_way() {
    let badge = Arc::new(Clients::default()).enter(facts("a", 4)).unwrap();
    let (card, bell) = (badge.card(), Arc::new(Bell::default()));
    let waker = Waker::from(Arc::clone(&bell));
    card.lend(KEY);
    let (key, mut first) = card.depart().unwrap();
    assert_eq!((key.process, key.secret), (7, 9));
    let (_, mut second) = card.depart().unwrap();
    (first.arrived, second.arrived) = (true, true);
    assert!(!card.take_back(&waker));
    assert!(card.depart().is_none(), "one that comes now has come too late");
    drop(first);
    assert_eq!(bell.rung(), 0, "another is still on its way");
    assert!(!card.take_back(&waker));
    drop(second);
    assert_eq!(bell.rung(), 1);
    assert!(card.take_back(&waker));
    assert!(!card.doubts(KEY));
}

#[test]
fn a_lease_that_goes_on_can_be_cancelled_again() {
    let badge = Arc::new(Clients::default()).enter(facts("a", 4)).unwrap();
    let (card, bell) = (badge.card(), Arc::new(Bell::default()));
    card.lend(KEY);
    let (_, flight) = card.depart().unwrap();
    assert!(!card.take_back(&Waker::from(Arc::clone(&bell))));
    card.lend(KEY);
    let (_, again) = card.depart().unwrap();
    drop(flight);
    drop(again);
    assert_eq!(bell.rung(), 1);
    assert!(card.take_back(Waker::noop()));
}

#[test]
fn a_cancel_that_nobody_waits_for_wakes_nobody() {
    let badge = Arc::new(Clients::default()).enter(facts("a", 4)).unwrap();
    let (card, bell) = (badge.card(), Arc::new(Bell::default()));
    card.lend(KEY);
    let (_, flight) = card.depart().unwrap();
    drop(flight);
    assert!(card.take_back(&Waker::from(Arc::clone(&bell))));
    assert_eq!(bell.rung(), 0);
}

#[test]
fn a_cancel_that_fails_on_its_way_leaves_doubts_about_that_connection_alone() {
    let badge = Arc::new(Clients::default()).enter(facts("a", 4)).unwrap();
    let (card, other) = (badge.card(), CancelKey { process: 8, secret: 9 });
    card.lend(KEY);
    let (_, flight) = card.depart().unwrap();
    assert!(!card.take_back(Waker::noop()));
    // Dropped, or ended by an error.
    drop(flight);
    assert!(card.take_back(Waker::noop()));
    assert!(card.doubts(KEY) && !card.doubts(other));
    card.lend(KEY);
    assert!(card.doubts(KEY), "the lease goes on");
    card.lend(other);
    assert!(!card.doubts(KEY) && !card.doubts(other));
}
