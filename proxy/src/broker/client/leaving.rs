//! How a visit ends: who or what ends it, when silence does, what becomes of the connection, and the way the client's socket is closed.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Lent, Next, Visit, poll_up};
use crate::broker::exchange::{self, Exchange};
use crate::broker::{Broker, Guest};
use crate::error::{Error, Kind, Side};
use crate::metrics::{CloseReason, EvictReason};
use crate::postgres::reply;
use crate::relay::Report;
use crate::stream::{part, with_buffer};
use crate::tls;

/// How long after it was accepted a client may take to say its first word, though the process drains.
const FRESH: Duration = Duration::from_secs(1);
/// How long what a client has asked for may still take when the client has gone. PostgreSQL itself would see it through; but here others wait.
const GRACE: Duration = Duration::from_secs(3);

/// How a visit ends.
pub(super) enum End {
    /// The client left.
    Left,
    /// Its connection broke.
    ClientBroke(std::io::Error),
    /// It broke the protocol.
    Protocol(&'static str),
    /// The server closed the connection that was lent to it.
    UpstreamClosed,
    /// That connection broke.
    UpstreamBroke(Error),
    /// The server refused what the client had asked for when it came; it has been told.
    Refused(Error),
    /// It was silent for `idle_timeout`.
    Idle,
    /// The process drains and nothing is owed to it.
    Drained,
    /// Its connection's place is another proxy's now.
    Recalled,
    /// The process ends.
    Cut,
}

impl Visit {
    /// True when closing the client now loses nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.down.is_empty()
            && self.input.is_empty()
            && !self.half.is_within_message()
            && self.lease.as_ref().is_none_or(|lent| lent.server().is_at_rest())
    }

    /// While it drains, with an `idle_timeout`, and when it has gone: silence means something.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<Result<Next, End>> {
        if self.draining && self.is_idle() && !self.stream.has_unread() && (self.bytes_up > 0 || self.accepted.elapsed() >= FRESH) {
            return Poll::Ready(Err(End::Drained));
        }
        let limit = self.broker.listener.idle_timeout;
        let at = if self.at_end {
            // What it has asked for before may take so long.
            Instant::now() + GRACE
        } else if self.draining {
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
        let Some(deadline) = self.deadline.as_mut().filter(|_| !self.draining || self.at_end || self.accepted.elapsed() < FRESH) else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        if self.at_end {
            return Poll::Ready(Err(End::Left));
        }
        if self.draining {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Silent, but waiting for a reply: the server is slow, not the client gone.
        if !self.is_idle() {
            self.deadline = Some(Box::pin(sleep_until(Instant::now() + limit)));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(End::Idle))
    }

    /// The client's socket is closed first: it need not wait for what becomes of the connection.
    pub(super) async fn leave(self, end: End) -> Report {
        let Self { broker, guest, mut stream, half, mut down, lease, bytes_up, bytes_down, .. } = self;
        let (reason, error) = match &end {
            End::Left => (CloseReason::Client, None),
            End::ClientBroke(error) => (CloseReason::ClientError, Some(Error::io(Side::Client, error))),
            End::Protocol(why) => {
                reply::fatal(&mut down, "08P01", why);
                (CloseReason::Protocol, Some(Error::client(Kind::Protocol, *why)))
            }
            End::UpstreamClosed => (CloseReason::Upstream, None),
            End::UpstreamBroke(error) => {
                reply::fatal(&mut down, "08006", error.for_client());
                (CloseReason::UpstreamError, Some(error.clone()))
            }
            End::Refused(error) => (CloseReason::Upstream, Some(error.clone())),
            End::Idle => {
                reply::fatal(&mut down, "57P05", "terminating connection due to idle-session timeout");
                (CloseReason::Idle, None)
            }
            End::Drained => {
                reply::fatal(&mut down, "57P01", "terminating connection due to administrator command");
                (CloseReason::Drain, None)
            }
            End::Recalled => {
                reply::fatal(
                    &mut down,
                    "57P01",
                    "terminating connection: another proxy has taken over its share of the server's connections",
                );
                (CloseReason::Recalled, None)
            }
            End::Cut => (CloseReason::Cut, None),
        };
        if let Some(lent) = lease {
            if lent.pinned {
                broker.metrics.pinned.dec();
            }
            match end {
                End::Recalled => lent.lease.close(EvictReason::Pressure),
                End::Cut | End::UpstreamClosed | End::UpstreamBroke(_) | End::Refused(_) => drop(lent),
                _ => {
                    // One that left in good order has waited for what it had asked for, as long as may be.
                    let grace = if matches!(end, End::Left) { Duration::ZERO } else { GRACE };
                    drop(tokio::task::spawn_local(settle(lent, half, guest, std::rc::Rc::clone(&broker), grace)));
                }
            }
        }
        match end {
            End::Cut => stream.reset(),
            End::ClientBroke(_) => {}
            _ => part(&mut stream, &down).await,
        }
        Report { reason, error, bytes_up, bytes_down }
    }
}

/// What a client that has gone leaves behind is brought to an end: what it has asked for is seen through, or cancelled when that takes too long;
/// a transaction is rolled back; and the connection goes back. It is closed only when half a message has been sent on it, or the server does not
/// come to an end.
async fn settle(mut lent: Box<Lent>, mut half: exchange::Client, guest: Guest, broker: std::rc::Rc<Broker>, grace: Duration) {
    if half.is_within_message() {
        return lent.lease.close(EvictReason::Unclean);
    }
    let grace = if lent.server().owes_nothing() { GRACE } else { grace };
    let card = guest.badge.card();
    let mut settled = timeout(grace, come_to_rest(&mut lent, &mut half, &broker)).await;
    if settled.is_err() {
        // Boxed: a dial is big, and this is seldom.
        if let Err(error) = Box::pin(card.cancel(&broker.upstream)).await {
            tracing::debug!(%error, "the query of a client that has gone could not be cancelled");
        }
        settled = timeout(GRACE, come_to_rest(&mut lent, &mut half, &broker)).await;
    }
    if !matches!(settled, Ok(true)) {
        return lent.lease.close(EvictReason::Unclean);
    }
    poll_fn(|cx| if card.take_back(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    if card.doubts(lent.lease.connection().cancel_key()) {
        return lent.lease.close(EvictReason::Unclean);
    }
    let server = &lent.lease.connection_mut().server;
    if server.traces.is_empty() && broker.shares {
        lent.lease.connection().facts().returned();
        lent.lease.give_back();
    } else {
        lent.lease.clean_and_give_back();
    }
}

/// Reads, and throws away, until nothing is owed and no transaction is open. False: the connection is lost.
async fn come_to_rest(lent: &mut Lent, half: &mut exchange::Client, broker: &Broker) -> bool {
    poll_fn(|cx| {
        loop {
            let (stream, server) = lent.lease.connection_mut().split();
            if server.is_at_rest() {
                return Poll::Ready(true);
            }
            // Again and again: a COPY may begin only now, and its end leaves a batch without a Sync.
            server.conclude();
            if server.owes_nothing() {
                server.roll_back();
            }
            if poll_up(stream, &mut server.up, cx).is_err() {
                return Poll::Ready(false);
            }
            let read = with_buffer(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).map_err(|error| tls::explain(Side::Upstream, &error))?;
                if read.filled().is_empty() {
                    return Poll::Ready(Err(Error::upstream(Kind::Io, "closed")));
                }
                let mut exchange = Exchange { client: half, server, statements: &mut broker.statements.borrow_mut() };
                let answered = exchange.answers(read.filled(), &mut BytesMut::new());
                Poll::Ready(answered.map(drop).map_err(|lost| Error::upstream(Kind::Protocol, lost.0)))
            });
            if ready!(read).is_err() {
                return Poll::Ready(false);
            }
        }
    })
    .await
}
