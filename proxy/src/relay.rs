//! Two open connections, and bytes between them, until both are done.
//!
//! The relay is exact: what one side sends the other receives, an end of stream in one direction leaves the other direction open (half-close),
//! a reset on one side becomes a reset on the other, and a side that does not read stops the side that writes. Per direction at most one
//! buffer's worth waits here, and only while the receiver does not take it: an idle client owns no buffer.
//!
//! ```text
//!   a direction:   Open ──read 0──► Closing ──all sent, FIN sent──► Done
//!                    └──────────── error ────────────────────────► Dead(whose)
//! ```

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::boundary::Boundary;
use crate::drain::Drain;
use crate::error::{Error, Side};
use crate::metrics::{CloseReason, ListenerMetrics};
use crate::stream::{LINGER, Stream, linger, with_buffer};
use crate::tls;

/// Moved one way in one turn at most: another client of the worker has its turn before a long transfer goes on.
const TURN_BYTES: u64 = 256 * 1024;
/// A pair with one direction closed ends after this long without a byte, so that it cannot live for ever.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(3600);
/// While draining: how long a client whose protocol cannot tell must be quiet to count as idle.
const QUIET: Duration = Duration::from_secs(1);
/// The two connections, and what has been read from them already.
pub struct Pair {
    /// The client.
    pub client: Stream,
    /// The upstream.
    pub upstream: Stream,
    /// Bytes for the upstream that were read before the relay began.
    pub early_up: Vec<u8>,
    /// Bytes for the client that were read before the relay began.
    pub early_down: Vec<u8>,
    /// Tells whether anything is owed to the client.
    pub boundary: Boundary,
}

/// How a relay ended.
pub struct Report {
    /// Who or what ended it.
    pub reason: CloseReason,
    /// What broke, if something did.
    pub error: Option<Error>,
    /// Bytes from the client to the upstream.
    pub bytes_up: u64,
    /// Bytes from the upstream to the client.
    pub bytes_down: u64,
}

/// Relays until both directions have ended, one has broken, `idle_timeout` (zero: never) has passed, or the process drains.
///
/// Dropping the future closes both connections.
pub async fn relay(pair: Pair, idle_timeout: Duration, drain: &Drain, metrics: &ListenerMetrics) -> Report {
    let mut relay = Relay {
        up: Direction::new(Side::Client, Side::Upstream, pair.early_up, metrics.bytes_up.clone()),
        down: Direction::new(Side::Upstream, Side::Client, pair.early_down, metrics.bytes_down.clone()),
        first_end: None,
        client: pair.client,
        upstream: pair.upstream,
        boundary: pair.boundary,
        deadline: None,
        idle_timeout,
        draining: false,
    };
    let mut drain_step = std::pin::pin!(drain.closing.cancelled());
    let end = loop {
        if relay.draining {
            break tokio::select! {
                biased;
                end = poll_fn(|cx| relay.poll(cx)) => end,
                () = drain.cut.cancelled() => End::Cut,
            };
        }
        tokio::select! {
            biased;
            // Cancel-safe: all state is in `relay`.
            end = poll_fn(|cx| relay.poll(cx)) => break end,
            () = &mut drain_step => relay.draining = true,
        }
    };
    relay.finish(end).await
}

struct Relay {
    client: Stream,
    upstream: Stream,
    up: Direction,
    down: Direction,
    boundary: Boundary,
    /// Whoever ended its direction first has ended the session.
    first_end: Option<CloseReason>,
    /// The next time at which silence means something; `None` while it never does, which is the usual case and costs nothing.
    deadline: Option<Pin<Box<Sleep>>>,
    idle_timeout: Duration,
    draining: bool,
}

enum End {
    Done(CloseReason),
    Broke(CloseReason, Error),
    Idle,
    Drained,
    Cut,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.up.bytes + self.down.bytes;
        let boundary = &mut self.boundary;
        with_buffer(|buffer| {
            // Down first: a reset by the upstream is then met by a read, which can tell it from an end.
            self.down.pump(cx, &mut self.upstream, &mut self.client, buffer, |bytes| boundary.on_upstream(bytes));
            self.up.pump(cx, &mut self.client, &mut self.upstream, buffer, |bytes| boundary.on_client(bytes));
        });
        // A write can meet the reset before a read does; then the end that the read finds is no end.
        self.down.hold_fin = self.up.was_reset();
        if let Some(end) = self.ended() {
            return Poll::Ready(end);
        }
        if self.draining && self.nothing_owed() {
            return Poll::Ready(End::Drained);
        }
        self.poll_silence(cx, self.up.bytes + self.down.bytes > before)
    }

    fn ended(&mut self) -> Option<End> {
        use State::{Closing, Dead, Done};
        if self.first_end.is_none() {
            self.first_end = match (&self.up.state, &self.down.state) {
                (Done, _) => Some(CloseReason::Client),
                (_, Done) => Some(CloseReason::Upstream),
                _ => None,
            };
        }
        match (&mut self.up.state, &mut self.down.state) {
            (Done, Done) => Some(End::Done(self.first_end.unwrap_or(CloseReason::Client))),
            // Whatever killed the way down has ended the relay: there is nobody to tell anything any more.
            (_, Dead(side, error)) => Some(broke(*side, error)),
            (Dead(Side::Client, error), _) => Some(broke(Side::Client, error)),
            // The upstream no longer takes anything, but what it said last (a refusal, a FATAL) must still reach the client: the way down
            // ends by itself.
            (Dead(side, error), Done) => Some(broke(*side, error)),
            (Dead(side, error), Closing) if self.down.hold_fin && self.down.pending.is_empty() => Some(broke(*side, error)),
            _ => None,
        }
    }

    /// True at a protocol boundary, for a client that has had at least one turn: one that was accepted a moment ago gets its first.
    fn nothing_owed(&self) -> bool {
        self.boundary.is_idle() && self.up.bytes > 0 && self.up.pending.is_empty() && self.down.pending.is_empty()
    }

    /// Ready when nothing has moved for as long as matters now.
    fn poll_silence(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<End> {
        let half_closed = matches!(self.up.state, State::Done | State::Dead(..)) || matches!(self.down.state, State::Done);
        let guess = self.draining && self.boundary.can_only_guess(self.up.bytes) && self.down.pending.is_empty();
        let limit = match (guess, self.idle_timeout) {
            (true, _) => QUIET,
            (false, Duration::ZERO) if half_closed => HALF_CLOSED_LIMIT,
            (false, Duration::ZERO) => {
                self.deadline = None;
                return Poll::Pending;
            }
            (false, idle_timeout) => idle_timeout,
        };
        let at = Instant::now() + limit;
        match &mut self.deadline {
            Some(deadline) if moved || deadline.deadline() > at => deadline.as_mut().reset(at),
            Some(_) => {}
            None => self.deadline = Some(Box::pin(sleep_until(at))),
        }
        if let Some(deadline) = &mut self.deadline {
            ready!(deadline.as_mut().poll(cx));
        }
        Poll::Ready(if guess { End::Drained } else { End::Idle })
    }

    async fn finish(mut self, end: End) -> Report {
        let (bytes_up, bytes_down) = (self.up.bytes, self.down.bytes);
        let (reason, error) = match end {
            End::Done(reason) => (reason, None),
            End::Broke(CloseReason::ClientError, error) => {
                self.upstream.reset();
                (CloseReason::ClientError, Some(error))
            }
            End::Broke(reason, error) => {
                if matches!(self.down.state, State::Done) {
                    linger(&mut self.client).await;
                } else {
                    self.client.reset();
                }
                (reason, Some(error))
            }
            End::Idle => {
                let farewell = self.boundary.idle_farewell();
                self.part(farewell).await;
                (CloseReason::Idle, None)
            }
            End::Drained => {
                let farewell = self.boundary.farewell();
                self.part(farewell).await;
                (CloseReason::Drain, None)
            }
            End::Cut => {
                self.client.reset();
                self.upstream.reset();
                (CloseReason::Cut, None)
            }
        };
        Report { reason, error, bytes_up, bytes_down }
    }

    /// Ends both connections in good order. The farewell must not fall into the middle of a message.
    async fn part(mut self, farewell: Vec<u8>) {
        let between_messages = self.boundary.is_idle() && self.down.pending.is_empty();
        let client = async {
            if between_messages {
                // One that has gone already needs no farewell.
                let _ = self.client.write_all(&farewell).await;
            }
            linger(&mut self.client).await;
        };
        // Both at once: an upstream that does not take its close_notify must not keep the client waiting.
        let _ = timeout(LINGER, async { tokio::join!(self.upstream.shutdown(), client) }).await;
    }
}

fn broke(side: Side, error: &mut Option<io::Error>) -> End {
    let reason = if side == Side::Client { CloseReason::ClientError } else { CloseReason::UpstreamError };
    let error = error.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    End::Broke(reason, tls::explain(side, &error))
}

/// Bytes one way.
struct Direction {
    /// Read but not yet taken by the receiver.
    pending: Vec<u8>,
    sent: usize,
    state: State,
    from: Side,
    to: Side,
    bytes: u64,
    counter: IntCounter,
    /// The end of stream is not passed on: it is none.
    hold_fin: bool,
}

enum State {
    Open,
    Closing,
    Done,
    /// Broken, by whom, and how (taken by the report).
    Dead(Side, Option<io::Error>),
}

impl Direction {
    fn new(from: Side, to: Side, early: Vec<u8>, counter: IntCounter) -> Self {
        let bytes = early.len() as u64;
        counter.inc_by(bytes);
        Self { pending: early, sent: 0, state: State::Open, from, to, bytes, counter, hold_fin: false }
    }

    /// The upstream has broken off. Not when it had ended first: the kernel then says EPIPE, and its last words were an orderly end.
    fn was_reset(&self) -> bool {
        matches!(&self.state, State::Dead(Side::Upstream, Some(error)) if error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Moves what can be moved now.
    fn pump(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream, buffer: &mut [u8], saw: impl FnMut(&[u8])) {
        if let Poll::Ready(Err((side, error))) = self.poll_pump(cx, from, to, buffer, saw) {
            self.state = State::Dead(side, Some(error));
            self.pending = Vec::new();
        }
    }

    fn poll_pump(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        buffer: &mut [u8],
        mut saw: impl FnMut(&[u8]),
    ) -> Poll<Result<(), (Side, io::Error)>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        let turn_ends = self.bytes + TURN_BYTES;
        while matches!(self.state, State::Open | State::Closing) {
            while let Some(rest) = self.pending.get(self.sent..).filter(|rest| !rest.is_empty()) {
                self.sent += ready!(to.as_mut().poll_write(cx, rest)).map_err(|error| (self.to, error))?;
            }
            (self.pending, self.sent) = (Vec::new(), 0);
            if matches!(self.state, State::Closing) && self.hold_fin {
                break;
            }
            if matches!(self.state, State::Closing) {
                // Fails when the receiver is gone already; its own direction says so.
                let _ = ready!(to.as_mut().poll_shutdown(cx));
                self.state = State::Done;
                break;
            }
            if self.bytes >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // TLS takes what it is given even when the socket is full: nothing more is read until that is out.
            ready!(to.as_mut().poll_flush(cx)).map_err(|error| (self.to, error))?;
            let mut read = ReadBuf::new(buffer);
            ready!(from.as_mut().poll_read(cx, &mut read)).map_err(|error| (self.from, error))?;
            let mut rest = read.filled();
            if rest.is_empty() {
                self.state = State::Closing;
                continue;
            }
            saw(rest);
            self.bytes += rest.len() as u64;
            self.counter.inc_by(rest.len() as u64);
            while !rest.is_empty() {
                match to.as_mut().poll_write(cx, rest) {
                    Poll::Ready(Ok(taken)) => rest = rest.get(taken..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err((self.to, error))),
                    Poll::Pending => {
                        self.pending = rest.to_vec();
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
