//! The lane's task: reads replies and hands them on, writes what clients have appended, and does not let one slow client hold up the others.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Buf as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use super::super::backend::RedisServer;
use super::super::outlet::{Fate, MAX_WAITING, Outlet};
use super::{End, Lane, MAX_OUT, State};
use crate::error::{Error, Kind, Side};
use crate::pool::Lease;
use crate::redis::frame::{ReplyKind, ReplyScanner};
use crate::stream::{Stream, with_buffer};
use crate::tls;

/// Read in one turn at most, so that the worker's other tasks have theirs.
const TURN_BYTES: usize = 512 * 1024;
/// A lane that owes replies and has received nothing for so long is busy with something slow.
const STUCK_AFTER: Duration = Duration::from_millis(10);
/// How long a client that does not take its replies may hold up the others behind it. New requests go elsewhere at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// So much is kept for it after that, then it is closed.
const MAX_SLOW: usize = 16 * 1024 * 1024;

/// Moves bytes until the lane has retired or is lost. Not cancel-safe: to be run in a task of its own.
pub async fn drive(lane: Rc<Lane>, mut lease: Lease<RedisServer>) -> End {
    let mut driver = Driver {
        lane: Rc::clone(&lane),
        gathered: false,
        replies: ReplyScanner::new(),
        hold_up: None,
        let_pass: None,
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

/// Enough of a reply to know the whole of what a server says when it is READONLY or wants AUTH: a script may say the word alone.
const FIRST: usize = 21;

/// What a poll of the driver asks for.
enum Turn {
    /// To be polled again when all who are ready now have had their turn.
    Gather,
    /// The lane has retired.
    Over,
}

struct Driver {
    lane: Rc<Lane>,
    /// All who were ready when there was something to write have had their turn.
    gathered: bool,
    replies: ReplyScanner,
    hold_up: Option<HoldUp>,
    /// The client that others no longer wait for.
    let_pass: Option<Rc<Outlet>>,
    /// How the reply in hand begins.
    first: [u8; FIRST],
    known: usize,
}

/// A client that does not take its replies.
struct HoldUp {
    by: Rc<Outlet>,
    /// Running while others wait behind it.
    limit: Option<Pin<Box<Sleep>>>,
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
        // Once around through all who are ready, and what they have to send goes out with this: fewer records, fewer system calls on both
        // sides. It waits for nobody who is not ready.
        if !self.gathered && self.lane.shared.borrow().unwritten > 0 {
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
        if std::mem::take(&mut shared.stuck) {
            self.lane.freed.notify_waiters();
        }
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
            self.hold_up = Some(HoldUp { by: Rc::clone(to), limit: None });
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
            if self.first.starts_with(b"-READONLY You can't w") {
                self.lane.retire_for("READONLY");
            } else if self.first.starts_with(b"-NOAUTH Authenticatio") && self.lane.logged_in {
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
            hold_up.limit = None;
            hold_up.by.when_taken(cx.waker());
            return Poll::Pending;
        }
        if !over {
            let passed = self.let_pass.as_ref().is_some_and(|one| Rc::ptr_eq(one, &hold_up.by));
            if passed && waiting > MAX_SLOW {
                hold_up.by.doom(Fate::SlowReader);
            } else if !passed && hold_up.limit.get_or_insert_with(|| Box::pin(sleep(PATIENCE))).as_mut().poll(cx).is_pending() {
                hold_up.by.when_taken(cx.waker());
                return Poll::Pending;
            }
            // The others have waited long enough: from now on its replies are kept, up to MAX_SLOW.
            self.let_pass = Some(Rc::clone(&hold_up.by));
        }
        self.hold_up = None;
        self.lane.shared.borrow_mut().held_up = false;
        self.lane.freed.notify_waiters();
        Poll::Ready(())
    }
}

fn unasked() -> Error {
    Error::upstream(Kind::Protocol, "the server sent a reply that nobody had asked for")
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn count(requests: usize) -> f64 {
    requests as f64
}
