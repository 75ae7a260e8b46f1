//! One client's task: moves bytes between its socket and the connection that is lent to it, and sees that the connection goes back.
//!
//! ```text
//!        without a lease                              with a lease
//!   read ──► idle_requests ──► answered here     read ──► requests ──► server.up ──► upstream
//!                 └─ wants one ──► take ───────►          answers ◄── upstream
//!                                                            └─► at rest, nothing left: give back
//! ```
//!
//! Both directions always move: a client that writes without reading and a server that does the same must not lock each other.

mod leaving;
mod lending;

use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::leaving::End;
use self::lending::Lent;
use super::clients::State;
use super::exchange::{self, Exchange, Took, Wants};
use super::{Broker, Guest};
use crate::error::{Error, Kind, Side};
use crate::relay::Report;
use crate::stream::{Stream, with_buffer};
use crate::tls;

/// With so much waiting for one side, nothing more is read from the other.
const MAX_WAITING: usize = 64 * 1024;
/// Moved one way in one turn at most: another client of the worker has its turn before a long transfer goes on.
const TURN_BYTES: u64 = 256 * 1024;

/// A client's visit.
struct Visit {
    broker: Rc<Broker>,
    guest: Guest,
    stream: Stream,
    half: exchange::Client,
    /// Read from the client and not yet taken: the beginning of a message, or what waits for a connection.
    input: BytesMut,
    /// For the client, and not yet taken by its socket.
    down: BytesMut,
    lease: Option<Box<Lent>>,
    /// What is in `input` needs a connection.
    wants: bool,
    /// What is in `input` waits until the server has taken what it was sent before.
    held: bool,
    /// The client has said Terminate or ended its half: what it has asked for before is still done.
    at_end: bool,
    bytes_up: u64,
    bytes_down: u64,
    draining: bool,
    accepted: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What the task has to do that takes more than a poll.
enum Next {
    /// Find a connection.
    Lease,
    /// The process drains from now on.
    Drain,
}

/// Serves one client that has logged in to its end.
pub async fn serve(stream: Stream, guest: Guest, broker: &Rc<Broker>, accepted: Instant) -> Report {
    let half = exchange::Client::new(guest.badge.card().process(), Rc::clone(&guest.defaults), broker.shares);
    let visit = Visit {
        half,
        stream,
        guest,
        input: BytesMut::new(),
        down: BytesMut::new(),
        lease: None,
        wants: false,
        held: false,
        at_end: false,
        bytes_up: 0,
        bytes_down: 0,
        draining: false,
        accepted,
        deadline: None,
        broker: Rc::clone(broker),
    };
    visit.run().await
}

impl Visit {
    async fn run(mut self) -> Report {
        let (closing, cut, leases) = (self.broker.closing.clone(), self.broker.cut.clone(), Rc::clone(&self.broker.leases));
        let mut closing = std::pin::pin!(closing.cancelled());
        let mut listens = false;
        let is_shared_out = self.broker.listener.pool.budget.is_some();
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
                    next = poll_fn(|cx| {
                        let moved = self.bytes_up + self.bytes_down;
                        let polled = self.poll(cx);
                        // Once, to be woken; then when nothing else has woken it, and when nothing may ever wake it again, for it is woken once,
                        // perhaps together with something else. Each look takes a lock.
                        let has_moved = moved != self.bytes_up + self.bytes_down;
                        if polled.is_pending() && (!mem::replace(&mut listens, true) || !has_moved || self.is_idle()) {
                            return closing.as_mut().poll(cx).map(|()| Ok(Next::Drain));
                        }
                        polled
                    }) => next,
                    () = leases.recall(), if is_shared_out => {
                        if self.lease.as_ref().is_some_and(|lent| lent.lease.is_recalled()) { Err(End::Recalled) } else { continue }
                    }
                }
            };
            // Boxed: waiting for a connection takes more memory than waiting for requests, and seldom happens.
            let done = match next {
                Ok(Next::Lease) => tokio::select! {
                    done = Box::pin(self.find_connection()) => done,
                    () = cut.cancelled() => Err(End::Cut),
                },
                Ok(Next::Drain) => {
                    self.draining = true;
                    Ok(())
                }
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                break end;
            }
        };
        // Boxed for the same reason.
        Box::pin(self.leave(end)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, End>> {
        let moved = self.bytes_up + self.bytes_down;
        let polled = self.poll_both(cx);
        if self.lease.is_none() && self.down.is_empty() && self.down.capacity() > 0 {
            // A client that waits owns no buffer.
            self.down = BytesMut::new();
        }
        if polled.is_pending() && (self.draining || self.at_end || !self.broker.listener.idle_timeout.is_zero()) {
            return self.poll_idle(cx, self.bytes_up + self.bytes_down > moved);
        }
        polled
    }

    /// Moves what moves, until nothing does.
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, End>> {
        let turn_ends = self.bytes_up + self.bytes_down + TURN_BYTES;
        loop {
            let flushed = self.poll_down(cx)?.is_ready();
            let mut moves = self.poll_upstream(cx)?.is_ready();
            if self.wants {
                return Poll::Ready(Ok(Next::Lease));
            }
            if self.at_end && self.is_done() {
                return if flushed { Poll::Ready(Err(End::Left)) } else { Poll::Pending };
            }
            moves |= self.poll_client(cx)?.is_ready();
            if self.bytes_up + self.bytes_down >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !moves {
                return Poll::Pending;
            }
        }
    }

    /// Nothing is owed to the client, and nothing it has sent is still to be done.
    fn is_done(&self) -> bool {
        !self.wants && self.lease.as_ref().is_none_or(|lent| lent.server().owes_nothing())
    }

    /// Ready when nothing waits for the client any more.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.down.is_empty() && !self.stream.holds_unsent() {
            return Poll::Ready(Ok(()));
        }
        while !self.down.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.down)).map_err(End::ClientBroke)?;
            if written == 0 {
                return Poll::Ready(Err(End::ClientBroke(std::io::ErrorKind::WriteZero.into())));
            }
            self.down.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx).map_err(End::ClientBroke)
    }

    /// Ready when something has come from the server, or the connection has gone back.
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Some(lent) = self.lease.as_mut() else { return Poll::Pending };
        let (stream, server) = lent.lease.connection_mut().split();
        // A server that takes nothing more may still have said why: reading tells.
        let broken = poll_up(stream, &mut server.up, cx).is_err();
        let mut moved = false;
        if self.down.len() < MAX_WAITING {
            let read = with_buffer(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))
                    .map_err(|error| End::UpstreamBroke(tls::explain(Side::Upstream, &error)))?;
                let bytes = read.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Err(End::UpstreamClosed));
                }
                let mut exchange = Exchange { client: &mut self.half, server, statements: &mut self.broker.statements.borrow_mut() };
                let before = self.down.len();
                match exchange.answers(bytes, &mut self.down) {
                    Ok(Took::AsItIs) if before == 0 => deliver(&mut self.stream, &mut self.down, bytes)?,
                    Ok(Took::AsItIs) => self.down.extend_from_slice(bytes),
                    Ok(Took::Changed) => {}
                    Err(lost) => return Poll::Ready(Err(End::UpstreamBroke(Error::upstream(Kind::Protocol, format!("sent {}", lost.0))))),
                }
                let count = bytes.len() as u64;
                self.bytes_down += count;
                self.guest.badge.card().tally.sent_bytes.add(count);
                self.broker.metrics.bytes_down.inc_by(count);
                Poll::Ready(Ok(()))
            });
            moved = read?.is_ready();
        }
        if !moved && broken {
            return Poll::Ready(Err(End::UpstreamClosed));
        }
        if moved {
            self.flush_down()?;
            if self.broker.shares && self.lease.as_ref().is_some_and(|lent| lent.server().has_ended_at_rest()) {
                self.part_with_ended();
                return Poll::Ready(Ok(()));
            }
            self.note_rounds();
            self.hand_out_key();
            self.rest(cx);
            return Poll::Ready(Ok(()));
        }
        if self.lease.as_ref().is_some_and(|lent| lent.server().is_at_rest()) {
            // A cancel was on its way when it came to rest.
            self.rest(cx);
            if self.lease.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// At once, where the socket takes it: the usual reply is one write.
    fn flush_down(&mut self) -> Result<(), End> {
        if self.down.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_now(&self.down).map_err(End::ClientBroke)?;
        if written == self.down.len() {
            self.down.clear();
        } else {
            self.down.advance(written);
        }
        Ok(())
    }

    /// Ready when the client has sent something, or its end.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let is_full = self.lease.as_ref().is_some_and(|lent| lent.server().owes_much());
        if self.at_end || self.wants || is_full || self.down.len() >= MAX_WAITING {
            return Poll::Pending;
        }
        if mem::take(&mut self.held) {
            self.take_input()?;
            return Poll::Ready(Ok(()));
        }
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).map_err(End::ClientBroke)?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.at_end = true;
                return Poll::Ready(Ok(()));
            }
            let count = bytes.len() as u64;
            self.bytes_up += count;
            self.guest.badge.card().tally.received_bytes.add(count);
            self.broker.metrics.bytes_up.inc_by(count);
            if self.input.is_empty() {
                let taken = self.take(bytes)?;
                self.input.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            } else {
                self.input.extend_from_slice(bytes);
                self.take_input()?;
            }
            Poll::Ready(Ok(()))
        })
    }

    fn take_input(&mut self) -> Result<(), End> {
        let input = mem::take(&mut self.input);
        let taken = self.take(&input)?;
        if taken < input.len() {
            self.input = input;
            self.input.advance(taken);
        }
        Ok(())
    }

    /// Takes what it can of the client's bytes; returns how many are done with.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let mut taken = 0;
        if self.lease.is_none() {
            let idle = self.half.idle_requests(bytes, &mut self.down).map_err(broken)?;
            taken = idle.taken;
            self.flush_down()?;
            match idle.wants {
                Wants::Nothing => return Ok(taken),
                Wants::End => {
                    self.at_end = true;
                    return Ok(taken);
                }
                Wants::Connection => match self.broker.leases.try_take(&self.guest.key) {
                    Some(lease) => self.lent(lease),
                    None => {
                        self.wants = true;
                        return Ok(taken);
                    }
                },
            }
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        Ok(taken + self.send(rest)?)
    }

    /// Over the connection that the client has.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let Some(lent) = self.lease.as_mut() else { return Ok(0) };
        lent.has_key &= !mem::take(&mut lent.ending);
        if lent.server().owes_nothing() && !mem::take(&mut lent.is_new) {
            lent.asked = Instant::now();
        }
        let (stream, server) = lent.lease.connection_mut().split();
        let taken = {
            let mut exchange = Exchange { client: &mut self.half, server, statements: &mut self.broker.statements.borrow_mut() };
            exchange.requests(bytes, &mut self.down).map_err(broken)?
        };
        self.held = taken < bytes.len() && server.is_full();
        if !self.held && bytes.get(taken) == Some(&b'X') {
            self.at_end = true;
        }
        // What is not taken at once goes when the socket has room: see `poll_upstream`, which also hears of a connection that is lost.
        if let Ok(written) = stream.write_now(&server.up) {
            if written == server.up.len() {
                server.up.clear();
            } else {
                server.up.advance(written);
            }
        }
        self.guest.badge.card().enter(State::Active);
        self.hand_out_key();
        self.flush_down()?;
        Ok(taken)
    }
}

/// Hands `up` to the socket, as far as it takes it.
fn poll_up(stream: &mut Stream, up: &mut BytesMut, cx: &mut Context<'_>) -> std::io::Result<()> {
    while !up.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, up)? {
            Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => up.advance(written),
            Poll::Pending => return Ok(()),
        }
    }
    if stream.holds_unsent()
        && let Poll::Ready(flushed) = Pin::new(stream).poll_flush(cx)
    {
        flushed?;
    }
    Ok(())
}

/// Straight from the server's bytes to the client's socket; what that does not take is kept.
fn deliver(stream: &mut Stream, down: &mut BytesMut, bytes: &[u8]) -> Result<(), End> {
    let written = stream.write_now(bytes).map_err(End::ClientBroke)?;
    down.extend_from_slice(bytes.get(written..).unwrap_or_default());
    Ok(())
}

fn broken(broken: exchange::Broken) -> End {
    End::Protocol(broken.0)
}
