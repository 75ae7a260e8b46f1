//! The client's side: what becomes of each of its requests while it has a connection of its own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::super::client::{Client, End, MAX_REQUEST};
use super::super::local;
use super::super::track::{After, Expect, MAX_EXPECTED};
use crate::error::Error;
use crate::metrics::{Counted, PinReason};
use crate::redis::class::{Class, Local};
use crate::redis::frame::{RequestError, RequestKind};
use crate::redis::table::classify;

use super::{BROKEN, CHUNK_BYTES, Free, MAX_UNSENT, Own, TURN_BYTES};

impl Client {
    /// Gets a connection of its own and stays on it until it can share again. What it wanted it for is at the front of the input.
    pub(in super::super) async fn pin(&mut self, reason: PinReason) -> Result<(), End> {
        let leases = Rc::clone(&self.mux.leases);
        let lease = match leases.try_take(&self.key) {
            Some(lease) => lease,
            None => match self.watching(leases.take(&self.key.clone())).await {
                Ok(lease) => lease,
                Err(error) if self.heed_refusal(&error, 1)? => return Ok(()),
                Err(error) => return self.no_connection(&error),
            },
        };
        self.mux.metrics.pins.of(reason).inc();
        if self.at_end && matches!(self.front, Some((_, Class::Blocking))) {
            // It has left while it waited: nothing may be taken from a list for it.
            lease.give_back();
            return Err(End::Left);
        }
        let pinned = Counted::new(&self.mux.metrics.pinned);
        let mut pin = Own::new(lease, reason == PinReason::Session, self.mux.metrics.clone());
        pin.name.clone_from(&self.name);
        let ended = self.drive(&mut pin).await;
        drop(pinned);
        let as_opened = self.key == *pin.lease.key();
        self.forget_lane();
        match ended {
            Ok(true) => {
                self.reset_state();
                // RESET has logged the connection out, and there is what it leaves alone.
                if !pin.track.is_indelible() {
                    pin.lease.clean_and_give_back();
                }
                return Ok(());
            }
            Ok(false) => {}
            Err(End::UpstreamClosed | End::UpstreamBroke(_)) => return ended.map(drop),
            Err(_) if pin.streaming || !pin.up.is_empty() || !pin.replies.at_boundary() => return ended.map(drop),
            Err(_) => {}
        }
        match pin.track.after(as_opened) {
            After::Reuse if !pin.session => pin.lease.give_back(),
            After::Reuse | After::Clean => pin.lease.clean_and_give_back(),
            After::Close => drop(pin.lease),
        }
        ended.map(drop)
    }

    /// Waits for a connection, and notices meanwhile that the client leaves.
    async fn watching<T>(&mut self, taking: impl Future<Output = T>) -> T {
        let mut taking = pin!(taking);
        poll_fn(|cx| {
            while !self.at_end && self.input.len() <= MAX_REQUEST {
                match self.poll_read_more(cx) {
                    Poll::Ready(Ok(())) => {}
                    // Broken is left, too.
                    Poll::Ready(Err(_)) => self.at_end = true,
                    Poll::Pending => break,
                }
            }
            taking.as_mut().poll(cx)
        })
        .await
    }

    /// The request at the front cannot be served: the client hears why. It goes on with the next only if that cannot depend on this one: after
    /// MULTI, WATCH or SELECT it would be carried out in the wrong state. Of one that has not come whole, the rest cannot be told from
    /// the next.
    pub(in super::super) fn no_connection(&mut self, error: &Error) -> Result<(), End> {
        let stands_alone = matches!(self.front, Some((_, Class::Read | Class::Write | Class::Blocking | Class::Once | Class::Wait)));
        self.take_front();
        self.refuse_for(error, 1);
        if stands_alone { Ok(()) } else { Err(End::UpstreamBroke(error.clone())) }
    }

    /// True: the client said RESET. False: it can share again.
    async fn drive(&mut self, pin: &mut Own) -> Result<bool, End> {
        let closing = self.mux.closing.clone();
        loop {
            let free = if self.draining {
                poll_fn(|cx| self.poll_pinned(cx, pin)).await
            } else {
                tokio::select! {
                    biased;
                    free = poll_fn(|cx| self.poll_pinned(cx, pin)) => free,
                    () = closing.cancelled() => { self.draining = true; continue }
                }
            };
            match free? {
                Free::Done => return Ok(false),
                Free::Reset => return Ok(true),
                Free::Front => self.answer_pinned(pin).await?,
                Free::Wrong => self.wrong_on_its_own().await?,
            }
        }
    }

    fn poll_pinned(&mut self, cx: &mut Context<'_>, pin: &mut Own) -> Poll<Result<Free, End>> {
        self.outlet.register(cx);
        if let Some(fate) = self.outlet.fate() {
            return Poll::Ready(Err(End::Fate(fate)));
        }
        let flushed = self.outlet.poll_flush(cx).map_err(End::ClientBroke)?.is_ready();
        let mut turn = 0;
        while self.outlet.waiting() < MAX_UNSENT {
            let Poll::Ready(read) = pin.poll_down(cx, &self.outlet, &mut self.key)? else { break };
            if read.1 {
                return Poll::Ready(Ok(Free::Reset));
            }
            if std::mem::take(&mut pin.refused) {
                return Poll::Ready(Ok(Free::Wrong));
            }
            turn += read.0;
            if turn >= TURN_BYTES {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let before = self.bytes_up;
        if let Poll::Ready(free) = self.poll_up(cx, pin)? {
            return Poll::Ready(Ok(free));
        }
        let ended = self.ended(pin, flushed);
        if ended.is_pending() && !self.draining && !self.mux.listener.idle_timeout.is_zero() {
            // A subscriber that hears something is not idle.
            let moved = self.bytes_up > before || turn > 0 || !flushed || pin.track.owed() > 0;
            return self.poll_silence(cx, moved).map(Err);
        }
        ended
    }

    /// Whether the client leaves, or is closed because the process drains.
    fn ended(&self, pin: &Own, flushed: bool) -> Poll<Result<Free, End>> {
        let nothing_owed = pin.track.owed() == 0 && flushed;
        if self.at_end && (pin.track.is_blocking() || !pin.track.is_counted() || nothing_owed && self.input.is_empty()) {
            return Poll::Ready(Err(End::Left));
        }
        let between = pin.replies.at_boundary() && !pin.streaming && pin.up.is_empty() && self.input.is_empty() && flushed;
        if self.draining && between && !self.outlet.has_unread() && (nothing_owed || !pin.track.is_counted()) {
            return Poll::Ready(Err(End::Drained));
        }
        Poll::Pending
    }

    /// Sends requests on, reads more. Ready when the client is free or something has to be answered here.
    fn poll_up(&mut self, cx: &mut Context<'_>, pin: &mut Own) -> Poll<Result<Free, End>> {
        let turn_ends = self.bytes_up + TURN_BYTES as u64;
        loop {
            // All that is here goes out in one write.
            let mut any = false;
            while pin.up.len() < CHUNK_BYTES {
                match self.send_on(pin)? {
                    Moved::Any => any = true,
                    Moved::Nothing => break,
                    Moved::Free(free) => return Poll::Ready(Ok(free)),
                }
            }
            ready!(pin.poll_write(cx));
            if any {
                continue;
            }
            if self.at_end || self.input.len() > MAX_REQUEST && !pin.streaming || pin.track.owed() >= MAX_EXPECTED {
                return Poll::Pending;
            }
            if self.bytes_up >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_read_more(cx))?;
        }
    }

    /// Moves one request, or what there is of it, from the input to the connection.
    fn send_on(&mut self, pin: &mut Own) -> Result<Moved, End> {
        if pin.streaming {
            return self.stream_on(pin);
        }
        if pin.is_done() {
            return Ok(Moved::Free(Free::Done));
        }
        if pin.reset_sent || pin.last_words.is_some() {
            // What is behind it is for whatever the client uses then.
            return Ok(Moved::Nothing);
        }
        if self.front.is_none() && self.broken.is_none() && !self.find_front(pin) {
            return Ok(if pin.streaming { Moved::Any } else { Moved::Nothing });
        }
        let Some((_, class)) = self.front.filter(|_| self.broken.is_none()) else {
            // The words come when nothing is owed before them.
            return Ok(if pin.settled() { Moved::Free(Free::Front) } else { Moved::Nothing });
        };
        if !pin.passes(class, self.mux.shares) {
            return Ok(if pin.settled() { Moved::Free(Free::Front) } else { Moved::Nothing });
        }
        let frame = self.take_front();
        pin.send(class, &frame);
        Ok(Moved::Any)
    }

    /// Looks for the next request: whole, broken, or begun and of a kind that goes on as it comes, which it does. False: there is none to see to.
    fn find_front(&mut self, pin: &mut Own) -> bool {
        while let Some(rest) = self.input.get(self.scanned..).filter(|rest| !rest.is_empty()) {
            match self.scanner.next(rest) {
                Err(error) => {
                    self.broken = Some(error);
                    return true;
                }
                Ok(Some(request)) => {
                    self.scanned += request.end;
                    let class = self.input.get(..self.scanned).and_then(classify).unwrap_or(Class::Unknown);
                    self.front = Some((self.scanned, class));
                    if request.kind != RequestKind::Nothing {
                        return true;
                    }
                    self.take_front();
                }
                Ok(None) => self.scanned = self.input.len(),
            }
        }
        // What looks broken (unknown, before its end) is kept until the scanner has the words for it.
        if let Some(class) = classify(&self.input).filter(|class| *class != Class::Unknown || self.input.len() > MAX_REQUEST)
            && pin.passes(class, self.mux.shares)
        {
            pin.begin(class, self.input.split());
            self.scanned = 0;
        } else if self.input.len() > MAX_REQUEST {
            // One that the proxy answers itself, and too big to be kept until it is whole.
            self.broken = Some(RequestError::LongCount);
            return true;
        }
        false
    }

    /// More of a request that goes on as it comes.
    fn stream_on(&mut self, pin: &mut Own) -> Result<Moved, End> {
        if pin.aborted {
            return Ok(if pin.settled() { Moved::Free(Free::Front) } else { Moved::Nothing });
        }
        if self.input.is_empty() {
            return Ok(Moved::Nothing);
        }
        match self.scanner.next(&self.input) {
            Ok(Some(request)) => {
                pin.take_up(self.input.split_to(request.end));
                pin.streaming = false;
            }
            Ok(None) => pin.take_up(self.input.split()),
            Err(error) => {
                // The server has a part of it, and is owed the rest for ever.
                self.broken = Some(error);
                pin.aborted = true;
                return Ok(Moved::Nothing);
            }
        }
        self.scanned = 0;
        Ok(Moved::Any)
    }

    /// Sees to the request at the front, nothing being owed before it, while the client keeps its connection.
    async fn answer_pinned(&mut self, pin: &mut Own) -> Result<(), End> {
        if let Some(error) = self.broken.filter(|_| !pin.track.is_counted()) {
            // Replies before it cannot be counted: the server puts the words in their place.
            pin.last_words = Some(error.reply());
            pin.up.extend_from_slice(BROKEN);
            return Ok(());
        }
        if self.answer_here().await? {
            if pin.name != self.name {
                pin.name.clone_from(&self.name);
                pin.named = false;
            }
            return Ok(());
        }
        let Some((_, class)) = self.front else { return Ok(()) };
        let (meaning, frame) = match class {
            Class::Local(Local::Reset) if self.front_is_alone() => {
                // An older server's refusal could not be told from other replies here; where they are counted, it is.
                pin.reset_sent = pin.track.is_counted() || pin.lease.connection().hello().is_at_least(6, 2);
                (Some(Expect::Reset), self.take_front())
            }
            Class::Local(Local::Select) => {
                let frame = self.take_front();
                (local::database(&frame).map(Expect::Select), frame)
            }
            Class::Local(Local::Hello) => {
                let frame = self.take_front();
                if !local::is_plain_hello(&frame) {
                    // With a login in it, or nobody knows: the connection may be another user's from now on.
                    pin.track.stay();
                }
                let (version, name) = local::hello_wish(&frame);
                if let Some(name) = name {
                    self.name.clone_from(&name);
                    (pin.name, pin.named) = (name, true);
                    pin.track.note_name();
                }
                (version.map(|version| Expect::Hello(version == 3)), frame)
            }
            _ => (None, self.take_front()),
        };
        pin.send_meaning(class, meaning, &frame);
        Ok(())
    }
}

/// What [`Client::send_on`] did.
enum Moved {
    Nothing,
    Any,
    Free(Free),
}
