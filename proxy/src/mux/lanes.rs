//! All lanes of one worker and listener: which one a client's requests go over, and when there is one more or one less.
//!
//! One lane for each key is the rule: the more clients share it, the more requests share a TLS record and a system call. Another is opened
//! when the first is stuck, up to four (`MAX_LANES`). Clients wait here while there is none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::backend::RedisServer;
use super::key::{Identity, Key};
use super::lane::{self, End, Lane, Unsent};
use crate::error::Error;
use crate::error_log::ErrorLog;
use crate::metrics::{EvictReason, ListenerMetrics, UpstreamState};
use crate::pool::{Lease, Leases};
use crate::redis;

/// Lanes of one worker for one key.
const MAX_LANES: usize = 4;
/// How often one who waits because of stuck lanes looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often lanes are looked at for age.
const LOOK: Duration = Duration::from_secs(1);

/// The lanes of one worker and listener.
pub struct Lanes {
    leases: Rc<Leases<RedisServer>>,
    groups: RefCell<HashMap<Key, Rc<Group>>>,
    /// A lane unused for so long is closed.
    max_idle_age: Duration,
    /// The proxy logs in itself.
    logs_in: bool,
    metrics: ListenerMetrics,
    errors: std::sync::Arc<ErrorLog>,
}

/// The lanes for one key.
struct Group {
    key: Key,
    lanes: RefCell<Vec<Rc<Lane>>>,
    opening: Cell<bool>,
    waiters: RefCell<Vec<oneshot::Sender<Result<(), Error>>>>,
    /// What a lost lane had not sent yet, for the next.
    unsent: RefCell<Vec<Unsent>>,
}

impl Lanes {
    /// None yet.
    pub fn new(
        leases: Rc<Leases<RedisServer>>,
        max_idle_age: Duration,
        logs_in: bool,
        metrics: ListenerMetrics,
        errors: std::sync::Arc<ErrorLog>,
    ) -> Rc<Self> {
        Rc::new(Self { leases, groups: RefCell::default(), max_idle_age, logs_in, metrics, errors })
    }

    /// The lane for a client's next requests, if one can take them now. The first that is not stuck: few lanes with much to do are better
    /// than many with little.
    pub fn pick(self: &Rc<Self>, key: &Key) -> Option<Rc<Lane>> {
        let groups = self.groups.borrow();
        let lanes = groups.get(key)?.lanes.borrow();
        let fit = lanes.iter().find(|lane| lane.is_open() && !lane.is_stuck());
        if fit.is_some() || lanes.iter().filter(|lane| lane.is_open()).count() < MAX_LANES {
            return fit.cloned();
        }
        lanes.iter().filter(|lane| lane.is_open()).min_by_key(|lane| lane.in_flight()).cloned()
    }

    /// As [`Lanes::pick`], opening a lane and waiting for it where need be. Cancel-safe.
    ///
    /// # Errors
    /// The pool's: no connection within its limits, or the server's refusal.
    pub async fn lane(self: &Rc<Self>, key: &Key) -> Result<Rc<Lane>, Error> {
        loop {
            if let Some(lane) = self.pick(key) {
                return Ok(lane);
            }
            let (tell, told) = oneshot::channel();
            let group = self.group(key);
            {
                let mut waiters = group.waiters.borrow_mut();
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(tell);
            }
            self.open(&group);
            tokio::select! {
                told = told => if let Ok(Err(error)) = told { return Err(error) },
                // The stuck one may be through before there is another.
                () = sleep(LOOK_AGAIN), if !group.lanes.borrow().is_empty() => {}
            }
        }
    }

    fn group(&self, key: &Key) -> Rc<Group> {
        let make = || {
            Rc::new(Group {
                key: key.clone(),
                lanes: RefCell::default(),
                opening: Cell::new(false),
                waiters: RefCell::default(),
                unsent: RefCell::default(),
            })
        };
        Rc::clone(self.groups.borrow_mut().entry(key.clone()).or_insert_with(make))
    }

    /// One at a time for each key: behind a server that answers nobody, more would help nobody.
    fn open(self: &Rc<Self>, group: &Rc<Group>) {
        if group.opening.replace(true) {
            return;
        }
        self.heed_disowned(group);
        let (lanes, group) = (Rc::clone(self), Rc::clone(group));
        tokio::task::spawn_local(async move {
            let outcome = lanes.leases.take(&group.key).await;
            group.opening.set(false);
            match outcome {
                Ok(lease) => lanes.opened(&group, lease),
                Err(error) => lanes.failed(&group, &error),
            }
        });
    }

    /// Where the server has disowned a lane of this key, the idle connections are no better: what is opened next asks for the name's address
    /// and logs in again.
    fn heed_disowned(&self, group: &Group) {
        if group.lanes.borrow().iter().any(|lane| lane.take_disowned()) {
            self.leases.evict_idle_of(|_| true, EvictReason::ReadOnly);
        }
    }

    fn opened(self: &Rc<Self>, group: &Rc<Group>, mut lease: Lease<RedisServer>) {
        let logged_in = self.logs_in || matches!(group.key.identity, Identity::Client(_));
        let lane = Rc::new(Lane::new(Rc::clone(lease.connection().hello()), logged_in, self.metrics.clone()));
        for Unsent { entry, bytes } in group.unsent.take() {
            // Owed once more by `push`.
            entry.to.settle(entry.requests);
            lane.push(&entry.to, &bytes, entry.requests, entry.class());
        }
        group.lanes.borrow_mut().push(Rc::clone(&lane));
        group.tell(&Ok(()));
        lease.count_as(UpstreamState::Lane);
        let (lanes, group) = (Rc::downgrade(self), Rc::clone(group));
        tokio::task::spawn_local(async move {
            let end = lane::drive(Rc::clone(&lane), lease).await;
            if let Some(lanes) = Weak::upgrade(&lanes) {
                lanes.lane_ended(&group, &lane, end);
            }
        });
    }

    fn lane_ended(self: &Rc<Self>, group: &Rc<Group>, lane: &Rc<Lane>, end: End) {
        self.heed_disowned(group);
        group.lanes.borrow_mut().retain(|one| !Rc::ptr_eq(one, lane));
        if let End::Lost(error, unsent) = end {
            self.metrics.evictions.of(EvictReason::ServerClosed).inc();
            self.errors.report("a shared connection was lost", &error);
            if !unsent.is_empty() {
                group.unsent.borrow_mut().extend(unsent);
                self.open(group);
            }
        }
        self.tidy();
    }

    fn failed(&self, group: &Group, error: &Error) {
        let reply = redis::refusal(error);
        for Unsent { entry, .. } in group.unsent.take() {
            for _ in 0..entry.requests {
                entry.to.deliver(&reply);
            }
            entry.to.settle(entry.requests);
        }
        group.tell(&Err(error.clone()));
        self.tidy();
    }

    /// Has all lanes of an identity retired; false if there are none.
    pub fn retire_of(&self, identity: &Identity) -> bool {
        let groups = self.groups.borrow();
        let lanes = groups.iter().filter(|(key, _)| key.identity == *identity).flat_map(|(_, group)| group.lanes.borrow().clone());
        let open: Vec<_> = lanes.filter(|lane| lane.is_open()).collect();
        for lane in &open {
            self.metrics.evictions.of(EvictReason::Reload).inc();
            lane.retire();
        }
        !open.is_empty()
    }

    /// Forgets keys that nobody uses: clients choose databases and logins.
    fn tidy(&self) {
        self.groups
            .borrow_mut()
            .retain(|_, group| group.opening.get() || !group.lanes.borrow().is_empty() || !group.waiters.borrow().is_empty());
    }

    /// Has lanes retired that are old, unused, or connected to where the name no longer points; until `closing`.
    pub async fn tend(&self, mut moved: watch::Receiver<u64>, closing: CancellationToken) {
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                Ok(()) = moved.changed() => {}
                () = closing.cancelled() => return,
            }
            let now = Instant::now();
            for lane in self.groups.borrow().values().flat_map(|group| group.lanes.borrow().clone()) {
                let idle = lane.idle_since().map(|since| now.duration_since(since)).unwrap_or_default();
                let reason = if idle >= self.max_idle_age {
                    Some(EvictReason::IdleAge)
                } else {
                    // Clients choose logins and databases, and each has a lane.
                    (idle >= LOOK && self.leases.is_wanted()).then_some(EvictReason::Pressure)
                };
                if let Some(reason) = reason.filter(|_| lane.is_open()) {
                    self.metrics.evictions.of(reason).inc();
                    lane.retire();
                } else {
                    lane.review();
                }
            }
        }
    }
}

impl Group {
    fn tell(&self, outcome: &Result<(), Error>) {
        for waiter in self.waiters.take() {
            // One that has gone no longer waits.
            let _ = waiter.send(outcome.clone());
        }
    }
}
