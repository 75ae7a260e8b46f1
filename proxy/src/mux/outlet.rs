//! Where the replies to one client go.
//!
//! A client's socket is used from two places on its worker: the client's own task reads from it, and the lane that carries its requests writes
//! replies to it, straight from the lane's buffer, without waking that task. Only what the socket does not take stays here, and then the
//! task sees to the rest. All of it happens on one thread and within single polls, so a `RefCell` is enough.
//!
//! ```text
//!   lane ── deliver() ──► socket          nothing waits: no copy, no wake-up
//!                    └──► unsent ── poll_flush() by the client's task ──► socket
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use prometheus::IntCounter;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::stream::Stream;

/// With more than this waiting for one client, the lane waits for it; with less than half, the lane goes on.
pub const MAX_WAITING: usize = 1024 * 1024;

/// Why a client has to be closed though it did nothing wrong in its own task's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The connection that owed it replies was lost.
    UpstreamLost,
    /// It did not take its replies while others waited behind them.
    SlowReader,
    /// Its socket broke while a reply was written.
    Broken(io::ErrorKind),
}

/// One client's socket, what waits for it, and what it is owed.
pub struct Outlet {
    stream: RefCell<Option<Stream>>,
    unsent: RefCell<BytesMut>,
    /// Requests of this client on its lane that have no whole reply yet.
    owed: Cell<usize>,
    fate: Cell<Option<Fate>>,
    task: RefCell<Option<Waker>>,
    /// The task wants to know when nothing is owed any more.
    awaits_zero: Cell<bool>,
    /// The lane that waits until this client has taken its replies.
    waiting_lane: RefCell<Option<Waker>>,
    bytes: Cell<u64>,
    counter: IntCounter,
}

impl Outlet {
    /// For a client that is connected.
    #[must_use]
    pub fn new(stream: Stream, counter: IntCounter) -> Self {
        Self {
            stream: RefCell::new(Some(stream)),
            unsent: RefCell::default(),
            owed: Cell::new(0),
            fate: Cell::new(None),
            task: RefCell::default(),
            awaits_zero: Cell::new(false),
            waiting_lane: RefCell::default(),
            bytes: Cell::new(0),
            counter,
        }
    }

    /// Sends `bytes`, keeps what the socket does not take. For a client that is to be closed it does nothing.
    pub fn deliver(&self, bytes: &[u8]) {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut().filter(|_| self.fate.get().is_none()) else { return };
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
        self.counter.inc_by(bytes.len() as u64);
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() {
            // The task waits for room already.
            unsent.extend_from_slice(bytes);
            return;
        }
        match stream.write_now(bytes) {
            Ok(written) => {
                let rest = bytes.get(written..).unwrap_or_default();
                unsent.extend_from_slice(rest);
                if !rest.is_empty() || stream.holds_unsent() {
                    self.wake();
                }
            }
            Err(error) => self.doom(Fate::Broken(error.kind())),
        }
    }

    /// Bytes that wait for the client.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.unsent.borrow().len()
    }

    /// Requests have gone to the lane.
    pub fn owe(&self, requests: usize) {
        self.owed.set(self.owed.get() + requests);
    }

    /// Whole replies to so many of them have been delivered.
    pub fn settle(&self, requests: usize) {
        let owed = self.owed.get().saturating_sub(requests);
        self.owed.set(owed);
        if owed == 0 && self.awaits_zero.take() {
            self.wake();
        }
    }

    /// Requests without a whole reply.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.get()
    }

    /// Whether nothing is owed any more; if something is, the task is woken when it no longer is.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        let owed = self.owed.get();
        if owed > 0 {
            self.awaits_zero.set(true);
        }
        owed == 0
    }

    /// The client must be closed; its task learns it. The first reason counts.
    pub fn doom(&self, fate: Fate) {
        if self.fate.get().is_none() {
            self.fate.set(Some(fate));
            self.wake();
            self.let_lane_go_on();
        }
    }

    /// Whether and why it must be closed.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        self.fate.get()
    }

    /// Wakes `lane` as soon as less than half of [`MAX_WAITING`] waits for this client, or the client has gone.
    pub fn when_taken(&self, lane: &Waker) {
        *self.waiting_lane.borrow_mut() = Some(lane.clone());
    }

    /// Payload bytes for this client so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    // The client's own task.

    /// The task that is woken from now on.
    pub fn register(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
    }

    /// Ready when nothing waits any more.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut stream, mut unsent) = (self.stream.borrow_mut(), self.unsent.borrow_mut());
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Ok(())) };
        if unsent.is_empty() && !stream.holds_unsent() {
            return Poll::Ready(Ok(()));
        }
        while !unsent.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => unsent.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            if unsent.len() < MAX_WAITING / 2 {
                self.let_lane_go_on();
            }
        }
        if !unsent.is_empty() {
            return Poll::Pending;
        }
        // An idle client owns no buffer.
        *unsent = BytesMut::new();
        ready!(Pin::new(stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Reads what the client sends.
    ///
    /// # Errors
    /// The socket's own.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.stream.borrow_mut().as_mut() {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }

    /// True when the client has sent something that was not read yet, or has gone.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.stream.borrow().as_ref().is_some_and(Stream::has_unread)
    }

    /// Takes the socket away, with what waits for it. What is delivered from now on is dropped.
    pub fn take(&self) -> Option<(Stream, BytesMut)> {
        self.let_lane_go_on();
        let unsent = self.unsent.take();
        self.stream.take().map(|stream| (stream, unsent))
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    fn let_lane_go_on(&self) {
        if let Some(lane) = self.waiting_lane.take() {
            lane.wake();
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.let_lane_go_on();
    }
}
