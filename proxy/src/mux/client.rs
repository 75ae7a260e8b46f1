//! One client's task: reads its requests, sends whole runs of them over a lane, and everything else where it belongs.
//!
//! ```text
//!   read ──► scan ──► a run of shared requests ──► lane          (poll: no await, no copy beyond the lane's)
//!                └──► any other request, when nothing is owed ──► answered here, or over a connection of the client's own
//! ```
//!
//! Order is kept by one rule: whatever is not a shared request waits until all replies before it have been delivered, and nothing behind it is
//! looked at until it is done.

mod leaving;

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

pub(super) use leaving::End;

use super::lane::Lane;
use super::outlet::Outlet;
use super::scan::{Scan, scan};
use super::{Key, Mux};
use crate::metrics::RequestClass;
use crate::redis::class::Class;
use crate::redis::frame::{RequestError, RequestScanner};
use crate::relay::Report;
use crate::stream::{Stream, with_buffer};

/// A request that is not whole by then goes over a connection of the client's own, as it comes.
pub(super) const MAX_REQUEST: usize = 64 * 1024;
/// Read from one client in one turn at most.
const TURN_BYTES: usize = 256 * 1024;
/// With more requests on their way, nothing more is read from the client.
const MAX_OWED: usize = 64 * 1024;
/// First byte of a TLS ClientHello's record. No request of Redis' begins so, and a server would wait for the end of its line.
const TLS_HANDSHAKE: u8 = 0x16;
/// One client.
pub(super) struct Client {
    pub(super) mux: Rc<Mux>,
    pub(super) outlet: Rc<Outlet>,
    pub(super) scanner: RequestScanner,
    /// What has been read and not yet sent on, from the beginning of a request.
    pub(super) input: BytesMut,
    /// So much of it the scanner has seen.
    pub(super) scanned: usize,
    /// So many of its first bytes are whole shared requests, so many of them.
    run: (usize, usize, RequestClass),
    /// Behind the run: a whole request of so many bytes that cannot be shared.
    pub(super) front: Option<(usize, Class)>,
    /// Behind the run: no protocol.
    pub(super) broken: Option<RequestError>,
    /// The client has ended its half.
    pub(super) at_end: bool,
    lane: Option<Rc<Lane>>,
    /// The connections that suit it.
    pub(super) key: Key,
    /// CLIENT SETNAME.
    pub(super) name: Vec<u8>,
    /// It has to log in (again).
    pub(super) locked: bool,
    /// Wrong passwords so far.
    pub(super) wrong: u32,
    /// It was told that a login is needed.
    pub(super) asked: bool,
    pub(super) bytes_up: u64,
    pub(super) draining: bool,
    accepted: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What the task has to do that takes more than a poll.
enum Next {
    /// Find a lane for the run.
    Lane,
    /// See to the request at the front.
    Front,
    /// Send a request on as it comes.
    Big,
}

/// Serves one client to its end; `early` was read before.
pub async fn serve(stream: Stream, early: BytesMut, mux: &Rc<Mux>, accepted: Instant) -> Report {
    let locked = Client::starts_locked(mux);
    let client = Client {
        outlet: Rc::new(Outlet::new(stream, mux.metrics.bytes_down.clone())),
        scanner: if locked { RequestScanner::unauthenticated() } else { RequestScanner::new() },
        bytes_up: early.len() as u64,
        input: early,
        scanned: 0,
        run: (0, 0, RequestClass::Shared),
        front: None,
        broken: None,
        at_end: false,
        lane: None,
        key: mux.home.clone(),
        name: Vec::new(),
        locked,
        wrong: 0,
        asked: false,
        draining: false,
        accepted,
        deadline: None,
        mux: Rc::clone(mux),
    };
    client.run().await
}

impl Client {
    async fn run(mut self) -> Report {
        let (closing, cut) = (self.mux.closing.clone(), self.mux.cut.clone());
        let mut closing = std::pin::pin!(closing.cancelled());
        let end = loop {
            let next = if self.draining {
                tokio::select! {
                    biased;
                    next = poll_fn(|cx| self.poll(cx)) => next,
                    () = cut.cancelled() => Err(End::Cut),
                }
            } else {
                tokio::select! {
                    biased;
                    // Cancel-safe: all state is in `self`.
                    next = poll_fn(|cx| self.poll(cx)) => next,
                    () = &mut closing => { self.draining = true; continue }
                }
            };
            // Boxed: these take more memory than waiting for requests, and for a moment only.
            let done = match next {
                Ok(next) => tokio::select! {
                    done = Box::pin(self.act(next)) => done,
                    () = cut.cancelled() => Err(End::Cut),
                },
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                break end;
            }
        };
        let end = self.leaves(end);
        // Boxed for the same reason.
        Box::pin(self.finish(end)).await
    }

    async fn act(&mut self, next: Next) -> Result<(), End> {
        match next {
            Next::Lane => self.find_lane().await,
            Next::Front => self.see_to_front().await,
            Next::Big => self.pin_big().await,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, End>> {
        self.outlet.register(cx);
        if let Some(fate) = self.outlet.fate() {
            return Poll::Ready(Err(End::Fate(fate)));
        }
        let flushed = self.outlet.poll_flush(cx).map_err(End::ClientBroke)?.is_ready();
        let before = self.bytes_up;
        let polled = self.poll_requests(cx, flushed);
        if polled.is_pending() && (self.draining || !self.mux.listener.idle_timeout.is_zero()) {
            return self.poll_idle(cx, self.bytes_up > before || !flushed);
        }
        polled
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>, flushed: bool) -> Poll<Result<Next, End>> {
        let turn_ends = self.bytes_up + TURN_BYTES as u64;
        loop {
            if self.run.1 > 0 {
                let Some(lane) = self.usable_lane() else {
                    return if self.outlet.owes_nothing() { Poll::Ready(Ok(Next::Lane)) } else { Poll::Pending };
                };
                ready!(lane.poll_room(cx));
                self.send_run(&lane);
            }
            if self.front.is_some() || self.broken.is_some() {
                return if self.outlet.owes_nothing() { Poll::Ready(Ok(Next::Front)) } else { Poll::Pending };
            }
            if self.scanned < self.input.len() {
                let found = scan(&mut self.scanner, &self.input, self.scanned, self.mux.shares && !self.locked);
                self.note(&found);
                continue;
            }
            if self.input.len() > MAX_REQUEST {
                return if self.outlet.owes_nothing() { Poll::Ready(Ok(Next::Big)) } else { Poll::Pending };
            }
            if self.at_end {
                return if self.outlet.owes_nothing() && flushed { Poll::Ready(Err(End::Left)) } else { Poll::Pending };
            }
            if !flushed || self.outlet.owed() >= MAX_OWED && !self.outlet.owes_nothing() {
                return Poll::Pending;
            }
            if self.bytes_up >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_read(cx))?;
        }
    }

    /// Reads once. Shared requests that are whole go from the worker's buffer straight to the lane.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if !self.input.is_empty() {
            return self.poll_read_more(cx);
        }
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(self.outlet.poll_read(cx, &mut read)).map_err(End::ClientBroke)?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.at_end = true;
                return Poll::Ready(Ok(()));
            }
            if self.bytes_up == 0 && bytes.first() == Some(&TLS_HANDSHAKE) {
                return Poll::Ready(Err(End::Protocol(super::speaks_tls())));
            }
            self.count(bytes.len());
            let mut found = scan(&mut self.scanner, bytes, 0, self.mux.shares && !self.locked);
            let mut rest = bytes;
            if found.requests > 0
                && let Some(lane) = self.usable_lane()
                && lane.poll_room(cx).is_ready()
            {
                let (run, behind) = bytes.split_at_checked(found.run).unwrap_or((bytes, &[]));
                self.push(&lane, run, found.requests, found.class);
                rest = behind;
                found.scanned -= found.run;
                (found.run, found.requests) = (0, 0);
            }
            self.input.extend_from_slice(rest);
            self.note(&found);
            Poll::Ready(Ok(()))
        })
    }

    /// Reads behind a request that is not whole.
    pub(super) fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(self.outlet.poll_read(cx, &mut read)).map_err(End::ClientBroke)?;
            let bytes = read.filled();
            self.at_end = bytes.is_empty();
            self.count(bytes.len());
            self.input.extend_from_slice(bytes);
            Poll::Ready(Ok(()))
        })
    }

    fn count(&mut self, bytes: usize) {
        self.bytes_up += bytes as u64;
        self.mux.metrics.bytes_up.inc_by(bytes as u64);
    }

    fn note(&mut self, found: &Scan) {
        let mut found = *found;
        if found.requests == 0 && found.run > 0 {
            // Blank lines: nothing to send.
            self.input.advance(found.run);
            found.scanned -= found.run;
            found.run = 0;
        }
        self.run = (found.run, found.requests, found.class);
        self.front = found.front;
        self.broken = found.broken;
        self.scanned = found.scanned;
        if self.input.is_empty() {
            // An idle client owns no buffer.
            self.input = BytesMut::new();
        }
    }

    fn send_run(&mut self, lane: &Rc<Lane>) {
        let (bytes, requests, class) = mem::replace(&mut self.run, (0, 0, RequestClass::Shared));
        let frames = self.input.split_to(bytes);
        self.scanned -= bytes;
        self.push(lane, &frames, requests, class);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    fn push(&self, lane: &Lane, frames: &[u8], requests: usize, class: RequestClass) {
        lane.push(&self.outlet, frames, requests, class);
        self.mux.metrics.requests.of(class).inc_by(requests as u64);
    }

    /// The lane that may take this client's requests now. While replies are owed it is the one that owes them.
    fn usable_lane(&mut self) -> Option<Rc<Lane>> {
        let owed = self.outlet.owed() > 0;
        match &self.lane {
            Some(lane) if lane.is_open() && (owed || !lane.is_stuck()) => {}
            _ if owed => return None,
            _ => self.lane = self.mux.lanes.pick(&self.key),
        }
        self.lane.clone()
    }

    async fn find_lane(&mut self) -> Result<(), End> {
        match self.mux.lanes.lane(&self.key).await {
            Ok(lane) => {
                self.lane = Some(lane);
                Ok(())
            }
            Err(error) => {
                if self.heed_refusal(&error, self.run.1)? {
                    return Ok(());
                }
                let (bytes, requests, _) = mem::replace(&mut self.run, (0, 0, RequestClass::Shared));
                self.input.advance(bytes);
                self.scanned -= bytes;
                self.refuse_for(&error, requests);
                Ok(())
            }
        }
    }

    /// Takes another lane next time: database, protocol version or login have changed.
    pub(super) fn forget_lane(&mut self) {
        self.lane = None;
    }

    /// It has to log in first: what it has sent is looked at again, as from a client that has not.
    pub(super) fn lock(&mut self) {
        self.locked = true;
        self.look_again(RequestScanner::unauthenticated());
    }

    /// It need not log in (any more).
    pub(super) fn unlock(&mut self) {
        if mem::take(&mut self.locked) {
            self.look_again(RequestScanner::new());
        }
    }

    fn look_again(&mut self, scanner: RequestScanner) {
        self.forget_lane();
        self.scanner = scanner;
        (self.run, self.front, self.broken, self.scanned) = ((0, 0, RequestClass::Shared), None, None, 0);
    }

    /// Takes the whole request at the front out of the input.
    pub(super) fn take_front(&mut self) -> BytesMut {
        let length = self.front.take().map_or(0, |(length, _)| length);
        self.scanned -= length;
        let frame = self.input.split_to(length);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        frame
    }
}
