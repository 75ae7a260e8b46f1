//! One upstream connection that many clients share.
//!
//! Clients append whole requests to `out` and themselves to `queue`; the lane's task writes all of `out` at once when its turn comes, behind
//! the clients that were woken with it, and so needs no timer to make batches. Replies come in the order of the requests: the head of the
//! queue says whose they are. They are scanned for their ends only, and handed on as they arrive, however big they are.
//!
//! ```text
//!   push() by clients ──► out ───────── poll_write ──► upstream
//!                    └──► queue: (client, requests) …     │
//!   clients' sockets ◄── deliver ── ends found ◄── poll_read
//! ```
//!
//! Only whole requests get here, so no client can leave the others' requests behind half of its own. What is known about a lane that breaks:
//! a request whose first byte was not handed to TLS was never sent, and may go over another lane. All others may have been carried out: their
//! clients are closed, nothing is sent twice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use super::backend::{Hello, RedisServer};
use super::outlet::{Fate, MAX_WAITING, Outlet};
use crate::error::{Error, Kind, Side};
use crate::metrics::{EvictReason, ListenerMetrics, RequestClass};
use crate::pool::Lease;
use crate::redis::frame::{ReplyKind, ReplyScanner};
use crate::stream::{Stream, with_buffer};
use crate::tls;

/// Clients wait while so much has not been written yet: the server takes nothing.
const MAX_OUT: usize = 1024 * 1024;
/// Read in one turn at most, so that the worker's other tasks have theirs.
const TURN_BYTES: usize = 512 * 1024;
/// A lane that owes replies and has received nothing for so long is busy with something slow.
const STUCK_AFTER: Duration = Duration::from_millis(10);
/// How long a lane lives at least before an answer of the server retires it.
const RETIRE_AFTER: Duration = Duration::from_secs(1);
/// How long a client that takes nothing may hold up the others behind it, and how long one that takes little.
const NO_PROGRESS: Duration = Duration::from_millis(50);
const LITTLE_PROGRESS: Duration = Duration::from_millis(500);

/// What clients and the lane's task share.
pub struct Lane {
    shared: RefCell<Shared>,
    /// What the server said about itself when this connection was opened.
    pub hello: Rc<Hello>,
    /// It is logged in, so NOAUTH means that the login has become invalid.
    logged_in: bool,
    born: Instant,
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
    pub fn new(hello: Rc<Hello>, logged_in: bool, metrics: ListenerMetrics) -> Self {
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

/// Moves bytes until the lane has retired or is lost. Not cancel-safe: to be run in a task of its own.
pub async fn drive(lane: Rc<Lane>, mut lease: Lease<RedisServer>) -> End {
    let mut driver = Driver {
        lane: Rc::clone(&lane),
        defer: std::env::var_os("LAB_DEFER").is_some(),
        gathered: false,
        replies: ReplyScanner::new(),
        hold_up: None,
        first: [0; FIRST],
        known: 0,
    };
    // Past the runtime's cooperative budget: a turn has a bound of its own, and writes to many clients' sockets.
    let moving = async {
        loop {
            let turn = poll_fn(|cx| {
                if lane.review.take() && lease.unfit().is_some() {
                    lane.retire();
                }
                driver.poll(cx, lease.connection_mut().stream_mut())
            });
            match turn.await {
                Ok(Turn::Gather) => yield_now().await,
                Ok(Turn::Over) => break Ok(()),
                Err(error) => break Err(error),
            }
        }
    };
    match unconstrained(moving).await {
        Ok(()) => {
            lane.state.set(State::Closed);
            End::Retired
        }
        Err(error) => End::Lost(error, lane.break_off()),
    }
}

/// Enough of a reply to know `-READONLY` and `-NOAUTH`.
const FIRST: usize = 8;

/// What a poll of the driver asks for.
enum Turn {
    /// To be polled again when all who are ready now have had their turn.
    Gather,
    /// The lane has retired.
    Over,
}

struct Driver {
    lane: Rc<Lane>,
    defer: bool,
    gathered: bool,
    replies: ReplyScanner,
    hold_up: Option<HoldUp>,
    /// How the reply in hand begins.
    first: [u8; FIRST],
    known: usize,
}

/// A client that does not take its replies.
struct HoldUp {
    by: Rc<Outlet>,
    waiting: usize,
    /// Running while others wait behind it: to its next progress, and to its end.
    limits: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<Turn, Error>> {
        {
            let mut shared = self.lane.shared.borrow_mut();
            shared.awake = false;
            if !shared.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                shared.task = Some(cx.waker().clone());
            }
        }
        let mut turn = 0;
        // Reading first: a connection that has ended is found out before more is handed to it.
        while self.poll_held_up(cx).is_ready() {
            let Poll::Ready(read) = self.poll_read(cx, stream)? else { break };
            turn += read;
            if turn >= TURN_BYTES {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if turn == 0 {
            // Judged here, right after a look at the socket: elsewhere a worker with much to do would look like a slow server.
            let mut shared = self.lane.shared.borrow_mut();
            shared.stuck = shared.in_flight > 0 && shared.progress.elapsed() > STUCK_AFTER;
        }
        if self.defer && !self.gathered && self.lane.shared.borrow().unwritten > 0 {
            self.gathered = true;
            return Poll::Ready(Ok(Turn::Gather));
        }
        self.gathered = false;
        if self.poll_write(cx, stream)?.is_ready() && self.lane.state.get() == State::Retiring && self.lane.in_flight() == 0 {
            return Poll::Ready(Ok(Turn::Over));
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<usize, Error>> {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(stream).poll_read(cx, &mut read)).map_err(|error| tls::explain(Side::Upstream, &error))?;
            let bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(Error::upstream(Kind::Io, "the server closed a connection that clients shared")));
            }
            self.route(bytes)?;
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Gives each client what is its own.
    fn route(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let lane = Rc::clone(&self.lane);
        let mut shared = lane.shared.borrow_mut();
        let now = Instant::now();
        shared.progress = now;
        shared.stuck = false;
        // `bytes[begin..at]` belongs to the head of the queue, of which `settled` requests have been answered in it.
        let (mut begin, mut at, mut settled) = (0, 0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.replies.at_boundary() {
                self.known = 0;
            }
            let reply =
                self.replies.next(rest).map_err(|error| Error::upstream(Kind::Protocol, format!("the server's replies: {error}")))?;
            let length = reply.map_or(rest.len(), |reply| reply.end);
            self.look(rest.get(..length).unwrap_or_default())?;
            at += length;
            let Some(reply) = reply else { break };
            if reply.kind != ReplyKind::Reply {
                return Err(Error::upstream(Kind::Protocol, "the server pushed a message on a shared connection"));
            }
            settled += 1;
            let Some(head) = shared.queue.front_mut() else { return Err(unasked()) };
            if head.requests > settled {
                continue;
            }
            let Some(done) = shared.queue.pop_front() else { return Err(unasked()) };
            let seconds = now.duration_since(done.arrived).as_secs_f64();
            self.lane.metrics.request_seconds.of(done.class).observe(seconds);
            self.hand_on(&done.to, bytes.get(begin..at).unwrap_or_default(), settled);
            shared.in_flight = shared.in_flight.saturating_sub(settled);
            self.lane.metrics.in_flight.sub(i64::try_from(settled).unwrap_or(i64::MAX));
            (begin, settled) = (at, 0);
        }
        if begin < bytes.len() {
            let Some(head) = shared.queue.front_mut() else { return Err(unasked()) };
            head.requests -= settled;
            let to = Rc::clone(&head.to);
            self.hand_on(&to, bytes.get(begin..).unwrap_or_default(), settled);
            shared.in_flight = shared.in_flight.saturating_sub(settled);
            self.lane.metrics.in_flight.sub(i64::try_from(settled).unwrap_or(i64::MAX));
        }
        shared.held_up = self.hold_up.is_some();
        Ok(())
    }

    fn hand_on(&mut self, to: &Rc<Outlet>, bytes: &[u8], settled: usize) {
        to.deliver(bytes);
        to.settle(settled);
        let waiting = to.waiting();
        if waiting > MAX_WAITING && to.fate().is_none() {
            self.hold_up = Some(HoldUp { by: Rc::clone(to), waiting, limits: None });
        }
    }

    /// Notices errors that mean the end of this connection's use. They go to the client as they are.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.known == 0 && bytes.first() != Some(&b'-') || self.known >= FIRST {
            // The usual case: not an error.
            self.known = FIRST;
            return Ok(());
        }
        for (slot, byte) in self.first.iter_mut().skip(self.known).zip(bytes) {
            *slot = *byte;
            self.known += 1;
        }
        if self.known == FIRST {
            if self.first.starts_with(b"-READONL") {
                self.lane.retire_for("READONLY");
            } else if self.first.starts_with(b"-NOAUTH") && self.lane.logged_in {
                self.lane.retire_for("NOAUTH");
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Error>> {
        let mut shared = self.lane.shared.borrow_mut();
        if shared.unwritten > 0 {
            self.lane.metrics.batch.observe(count(shared.unwritten));
            shared.unwritten = 0;
        }
        while !shared.out.is_empty() {
            let written =
                ready!(Pin::new(&mut *stream).poll_write(cx, &shared.out)).map_err(|error| tls::explain(Side::Upstream, &error))?;
            shared.out.advance(written);
            shared.written += written as u64;
            if shared.out.len() < MAX_OUT {
                shared.outside.drain(..).for_each(Waker::wake);
            }
        }
        drop(shared);
        ready!(Pin::new(stream).poll_flush(cx)).map_err(|error| tls::explain(Side::Upstream, &error))?;
        Poll::Ready(Ok(()))
    }

    /// Pending while a client that has to take its replies first holds the lane up.
    fn poll_held_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(hold_up) = &mut self.hold_up else { return Poll::Ready(()) };
        let waiting = hold_up.by.waiting();
        let others_wait = self.lane.shared.borrow().queue.iter().any(|entry| !Rc::ptr_eq(&entry.to, &hold_up.by));
        let over = waiting < MAX_WAITING / 2 || hold_up.by.fate().is_some();
        if !over && !others_wait {
            hold_up.limits = None;
            hold_up.by.when_taken(cx.waker());
            return Poll::Pending;
        }
        if !over {
            let now = Instant::now();
            let (next, end) = hold_up.limits.get_or_insert_with(|| (Box::pin(sleep(NO_PROGRESS)), now + LITTLE_PROGRESS));
            if waiting < hold_up.waiting {
                next.as_mut().reset((now + NO_PROGRESS).min(*end));
                hold_up.waiting = waiting;
            }
            if next.as_mut().poll(cx).is_pending() {
                hold_up.by.when_taken(cx.waker());
                return Poll::Pending;
            }
            hold_up.by.doom(Fate::SlowReader);
        }
        self.hold_up = None;
        self.lane.shared.borrow_mut().held_up = false;
        Poll::Ready(())
    }
}

impl Lane {
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
}

fn unasked() -> Error {
    Error::upstream(Kind::Protocol, "the server sent a reply that nobody had asked for")
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn count(requests: usize) -> f64 {
    requests as f64
}
