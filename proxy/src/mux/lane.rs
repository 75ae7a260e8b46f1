//! One upstream connection that many clients share.
//!
//! Clients append whole requests to `out` and themselves to `queue`; the lane's task lets all who are ready now have their turn and then writes
//! all of `out` at once: batches without a timer, and without waiting for anybody. Replies come in the order of the requests: the head of the
//! queue says whose they are. They are scanned for their ends only, and handed on as they arrive, however big they are.
//!
//! ```text
//!   push() by clients ──► out ───────── poll_write ──► upstream
//!                    └──► queue: (client, requests) …     │
//!   clients' sockets ◄── deliver ── ends found ◄── poll_read
//! ```
//!
//! Only whole requests get here, each with one reply, that leave nothing on the connection, even if the server refuses them: so no client can
//! leave the others' requests behind half of its own, or in its own state. What is known about a lane that breaks:
//! a request whose first byte was not handed to TLS was never sent, and may go over another lane. All others may have been carried out: their
//! clients are closed, nothing is sent twice.

mod driver;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use driver::drive;

use super::backend::Hello;
use super::outlet::{Fate, Outlet};
use crate::error::Error;
use crate::metrics::{EvictReason, ListenerMetrics, RequestClass};

/// Clients wait while so much has not been written yet: the server takes nothing.
const MAX_OUT: usize = 1024 * 1024;
/// How long a lane lives at least before an answer of the server retires it.
const RETIRE_AFTER: Duration = Duration::from_secs(1);
/// What clients and the lane's task share.
pub struct Lane {
    shared: RefCell<Shared>,
    /// What the server said about itself when this connection was opened.
    pub hello: Rc<Hello>,
    /// It is logged in, so NOAUTH means that the login has become invalid.
    logged_in: bool,
    born: Instant,
    /// Told when it is no longer stuck.
    freed: Rc<Notify>,
    metrics: ListenerMetrics,
    state: Cell<State>,
    /// The server's answer has retired it.
    disowned: Cell<bool>,
    /// The task has to ask whether its connection is still fit.
    review: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// No new requests; it ends when nothing is owed.
    Retiring,
    Closed,
}

struct Shared {
    /// Whole requests that are not handed to TLS yet.
    out: BytesMut,
    /// Position in the stream of the first byte of `out`.
    written: u64,
    queue: VecDeque<Entry>,
    /// Requests without a reply.
    in_flight: usize,
    /// Requests in `out`.
    unwritten: usize,
    /// When the first request in `out` arrived.
    batch: Instant,
    /// When the last reply byte came, or the queue was last empty.
    progress: Instant,
    /// A client that does not take its replies holds it up.
    held_up: bool,
    /// Nothing has come for longer than [`STUCK_AFTER`], though replies are owed.
    stuck: bool,
    /// Set when the task has been woken already, so that a batch costs one wake-up.
    awake: bool,
    task: Option<Waker>,
    /// Clients that wait until `out` has been written.
    outside: Vec<Waker>,
}

/// Requests of one client, one behind the other.
pub struct Entry {
    /// Whose they are.
    pub to: Rc<Outlet>,
    /// How many have no whole reply yet.
    pub requests: usize,
    class: RequestClass,
    arrived: Instant,
    /// Position in the stream of their first byte.
    begin: u64,
    end: u64,
}

/// Requests of a lost lane that were never sent.
pub struct Unsent {
    /// Whose they are, and how many.
    pub entry: Entry,
    /// The requests themselves.
    pub bytes: Bytes,
}

/// How a lane ended.
pub enum End {
    /// Nothing was owed any more.
    Retired,
    /// The connection broke.
    Lost(Error, Vec<Unsent>),
}

impl Lane {
    /// Over a connection that was just opened; [`drive`] moves the bytes.
    #[must_use]
    pub fn new(hello: Rc<Hello>, logged_in: bool, freed: Rc<Notify>, metrics: ListenerMetrics) -> Self {
        let shared = Shared {
            out: BytesMut::new(),
            written: 0,
            queue: VecDeque::new(),
            in_flight: 0,
            unwritten: 0,
            batch: Instant::now(),
            progress: Instant::now(),
            held_up: false,
            stuck: false,
            awake: false,
            task: None,
            outside: Vec::new(),
        };
        Self {
            shared: RefCell::new(shared),
            hello,
            logged_in,
            born: Instant::now(),
            freed,
            metrics,
            state: Cell::new(State::Open),
            disowned: Cell::new(false),
            review: Cell::new(false),
        }
    }

    /// True when it takes requests.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    /// Takes no more requests; ends when all are answered.
    pub fn retire(&self) {
        if self.is_open() {
            self.state.set(State::Retiring);
            self.shared.borrow_mut().wake();
        }
    }

    /// True once, after an answer of the server has retired it.
    pub fn take_disowned(&self) -> bool {
        self.disowned.take()
    }

    /// Has the task ask whether its connection is still fit: neither too old nor of another time.
    pub fn review(&self) {
        self.review.set(true);
        self.shared.borrow_mut().wake();
    }

    /// Sends `frames`, which are `requests` whole requests, for `to`. The lane must be open.
    pub fn push(&self, to: &Rc<Outlet>, frames: &[u8], requests: usize, class: RequestClass) {
        let mut shared = self.shared.borrow_mut();
        if shared.unwritten == 0 {
            // One look at the clock for all that go out together.
            shared.batch = Instant::now();
        }
        let arrived = shared.batch;
        let begin = shared.written + shared.out.len() as u64;
        shared.out.extend_from_slice(frames);
        let end = begin + frames.len() as u64;
        if shared.queue.is_empty() {
            shared.progress = arrived;
        }
        match shared.queue.back_mut() {
            // One behind the other, and both of them unsent or both of them sent: still one answer to what was sent.
            Some(last) if Rc::ptr_eq(&last.to, to) && last.class == class && last.arrived == arrived => {
                last.requests += requests;
                last.end = end;
            }
            _ => shared.queue.push_back(Entry { to: Rc::clone(to), requests, class, arrived, begin, end }),
        }
        shared.in_flight += requests;
        shared.unwritten += requests;
        to.owe(requests);
        self.metrics.in_flight.add(i64::try_from(requests).unwrap_or(i64::MAX));
        shared.wake();
    }

    /// Requests without a reply.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.borrow().in_flight
    }

    /// True when new requests had better go elsewhere: it waits for a slow command, or for a client that does not take its replies.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let shared = self.shared.borrow();
        shared.held_up || shared.stuck
    }

    /// Since when nothing has been asked of it; `None` while something is.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let shared = self.shared.borrow();
        (shared.in_flight == 0).then_some(shared.progress)
    }

    /// Pending while too much waits to be written.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        if shared.out.len() < MAX_OUT || !self.is_open() {
            return Poll::Ready(());
        }
        shared.outside.push(cx.waker().clone());
        Poll::Pending
    }

    /// The server has become a replica, or no longer knows the login: the next requests go over a new connection, which asks for the name's
    /// address and logs in again. Not more often than once a second: it may stay so.
    fn retire_for(&self, error: &'static str) {
        if self.is_open() && self.born.elapsed() >= RETIRE_AFTER {
            tracing::warn!(error, "the server's answer retires a shared connection");
            self.metrics.evictions.of(EvictReason::ReadOnly).inc();
            self.disowned.set(true);
            self.state.set(State::Retiring);
        }
    }

    /// The end: says what was never sent, and closes the clients of all else.
    fn break_off(&self) -> Vec<Unsent> {
        self.state.set(State::Closed);
        let mut shared = self.shared.borrow_mut();
        let (queue, mut out, written) = (std::mem::take(&mut shared.queue), std::mem::take(&mut shared.out), shared.written);
        self.metrics.in_flight.sub(i64::try_from(shared.in_flight).unwrap_or(i64::MAX));
        shared.in_flight = 0;
        let outside = std::mem::take(&mut shared.outside);
        // Waking and dooming reach tasks only, never back into this lane, but nothing is borrowed longer than it must be.
        drop(shared);
        let mut unsent = Vec::new();
        // The rest of a request that was sent in part belongs to nobody any more.
        let mut at = written;
        for entry in queue {
            if entry.begin < written {
                entry.to.doom(Fate::UpstreamLost);
                continue;
            }
            let skipped = usize::try_from(entry.begin - at).unwrap_or(usize::MAX).min(out.len());
            out.advance(skipped);
            let length = usize::try_from(entry.end - entry.begin).unwrap_or(usize::MAX).min(out.len());
            at = entry.end;
            unsent.push(Unsent { bytes: out.split_to(length).freeze(), entry });
        }
        outside.into_iter().for_each(Waker::wake);
        // A client that is closed for what it sent is not sent anything more.
        unsent.retain(|one| one.entry.to.fate().is_none());
        unsent
    }
}

impl Shared {
    fn wake(&mut self) {
        if !self.awake
            && let Some(task) = &self.task
        {
            self.awake = true;
            task.wake_by_ref();
        }
    }
}

impl Entry {
    /// For going over another lane.
    #[must_use]
    pub fn class(&self) -> RequestClass {
        self.class
    }
}
