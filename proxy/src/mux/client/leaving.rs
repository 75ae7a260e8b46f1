//! How a client's visit ends: who or what ends it, when silence does, and the way its socket is closed.

use std::future::Future as _;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, sleep_until};

use super::super::outlet::Fate;
use crate::error::{Error, Kind, Side};
use crate::metrics::CloseReason;
use crate::relay::Report;
use crate::stream::part;

use super::{Client, Next};

/// How long after it was accepted a client may take to say its first word, though the process drains.
const FRESH: std::time::Duration = std::time::Duration::from_secs(1);

/// How a client's visit ends.
pub(in super::super) enum End {
    /// It left, or said QUIT.
    Left,
    /// It has to be closed.
    Fate(Fate),
    /// Its connection broke.
    ClientBroke(std::io::Error),
    /// It was told that it broke the protocol.
    Protocol(Error),
    /// The server closed the client's own connection.
    UpstreamClosed,
    /// The client's own connection broke.
    UpstreamBroke(Error),
    /// It was silent for `idle_timeout`.
    Idle,
    /// The process drains and nothing is owed to it.
    Drained,
    /// The process ends.
    Cut,
}

impl Client {
    /// True when closing the client now loses nothing.
    fn is_idle(&self, flushed: bool) -> bool {
        self.outlet.owed() == 0 && flushed && self.input.is_empty() && self.scanner.at_boundary()
    }

    /// While it drains, and with an `idle_timeout`: silence means something.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<Result<Next, End>> {
        // Asked for: the lane delivers replies without waking this task, and who always has a request under way would be idle unseen, until the
        // drain's timeout cuts it.
        let settled = !self.draining || self.outlet.owes_nothing();
        let idle = settled && self.is_idle(self.outlet.waiting() == 0);
        if self.draining && idle && !self.outlet.has_unread() && (self.bytes_up > 0 || self.accepted.elapsed() >= FRESH) {
            return Poll::Ready(Err(End::Drained));
        }
        let limit = self.mux.listener.idle_timeout;
        let at = if self.draining {
            self.accepted + FRESH
        } else if limit.is_zero() {
            return Poll::Pending;
        } else {
            Instant::now() + limit
        };
        match &mut self.deadline {
            Some(deadline) if moved || deadline.deadline() > at => deadline.as_mut().reset(at),
            Some(_) => {}
            None => self.deadline = Some(Box::pin(sleep_until(at))),
        }
        let waits = self.outlet.owed() > 0 || self.has_run();
        let Some(deadline) = self.deadline.as_mut().filter(|_| !self.draining || self.accepted.elapsed() < FRESH) else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        if self.draining {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Silent, but waiting for a reply: the server is slow, not the client gone.
        if waits {
            deadline.as_mut().reset(Instant::now() + limit);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(End::Idle))
    }

    /// Ready when a client with a connection of its own has been silent for `idle_timeout`.
    pub(in super::super) fn poll_silence(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<End> {
        let at = Instant::now() + self.mux.listener.idle_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if moved || deadline.deadline() > at {
            deadline.as_mut().reset(at);
        }
        deadline.as_mut().poll(cx).map(|()| End::Idle)
    }

    pub(super) async fn finish(self, end: End) -> Report {
        let (reason, error) = match &end {
            End::Left => (CloseReason::Client, None),
            End::Fate(Fate::UpstreamLost) => {
                (CloseReason::UpstreamError, Some(Error::upstream(Kind::Io, "the connection that owed it replies was lost")))
            }
            End::Fate(Fate::SlowReader) => {
                let why = "the client did not take its replies, and others waited behind them";
                (CloseReason::SlowReader, Some(Error::client(Kind::Limit, why)))
            }
            End::Fate(Fate::Broken(kind)) => (CloseReason::ClientError, Some(Error::io(Side::Client, &(*kind).into()))),
            End::ClientBroke(error) => (CloseReason::ClientError, Some(Error::io(Side::Client, error))),
            End::Protocol(error) => (CloseReason::Protocol, Some(error.clone())),
            End::UpstreamClosed => (CloseReason::Upstream, None),
            End::UpstreamBroke(error) => (CloseReason::UpstreamError, Some(error.clone())),
            End::Idle => (CloseReason::Idle, None),
            End::Drained => (CloseReason::Drain, None),
            End::Cut => (CloseReason::Cut, None),
        };
        let bytes_down = self.outlet.bytes();
        if let Some((mut stream, unsent)) = self.outlet.take() {
            match end {
                End::Cut | End::Fate(Fate::SlowReader) => stream.reset(),
                End::Fate(Fate::Broken(_)) | End::ClientBroke(_) => {}
                // With FIN even where the upstream broke: what it answered before must not be lost to a reset.
                _ => part(&mut stream, &unsent).await,
            }
        }
        Report { reason, error, bytes_up: self.bytes_up, bytes_down }
    }
}
