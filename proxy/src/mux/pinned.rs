//! A client on an upstream connection of its own: because its mode is `session`, or until what it began is over.
//!
//! Both directions are moved by the client's task, nothing is held back: a request goes on as soon as its first bytes say what it is, however
//! big it is. Requests and replies are still counted and a few of them understood ([`Track`]), to know when the client can share again, and
//! whether the connection is fit for others then.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::backend::RedisServer;
use super::client::{Client, End, MAX_REQUEST};
use super::local;
use super::outlet::Outlet;
use super::track::{After, Change, Expect, MAX_EXPECTED, REPLY_HEAD, Track};
use crate::error::{Error, Kind, Side};
use crate::metrics::{ListenerMetrics, PinReason, RequestClass};
use crate::pool::Lease;
use crate::redis::class::{Class, Local, Pinning, Transaction};
use crate::redis::command::encode;
use crate::redis::frame::{ReplyKind, ReplyScanner, RequestError, RequestKind};
use crate::redis::table::classify;
use crate::stream::{Stream, with_buffer};
use crate::tls;

/// With so much waiting for the client, its connection is not read: the server stops sending.
const MAX_UNSENT: usize = 64 * 1024;
/// So much is gathered for one write.
const CHUNK_BYTES: usize = 64 * 1024;
/// Moved one way in one turn at most.
const TURN_BYTES: usize = 256 * 1024;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Ends a connection with one last error.
const BROKEN: &[u8] = b"*1\r\n+\r\n";

/// The connection, and what is on its way.
struct Own {
    lease: Lease<RedisServer>,
    track: Track,
    replies: ReplyScanner,
    head: [u8; REPLY_HEAD],
    head_length: usize,
    /// Requests that the server has not taken yet: one chunk.
    up: BytesMut,
    /// In the middle of a request that goes on as it comes.
    streaming: bool,
    /// That request turned out to be broken.
    aborted: bool,
    /// What the client hears in place of the server's answer to [`BROKEN`], the last.
    last_words: Option<Vec<u8>>,
    /// The server has just refused a login that the client put to it.
    refused: bool,
    /// The server takes nothing more; what it said last is still read.
    deaf: bool,
    session: bool,
    /// The client's name, and whether the connection bears it.
    name: Vec<u8>,
    named: bool,
    sent_any: bool,
    reset_sent: bool,
    /// When the oldest request without a reply was sent.
    since: Instant,
    metrics: ListenerMetrics,
}

/// Why a client no longer needs its connection.
enum Free {
    /// It can share again.
    Done,
    /// It said RESET: everything is as on a new connection.
    Reset,
    /// A command at the front that the proxy answers while the client keeps its connection.
    Front,
    /// The server has refused a login of the client's.
    Wrong,
}

impl Client {
    /// Gets a connection of its own and stays on it until it can share again. What it wanted it for is at the front of the input.
    pub(super) async fn pin(&mut self, reason: PinReason) -> Result<(), End> {
        let leases = Rc::clone(&self.mux.leases);
        let lease = match leases.try_take(&self.key) {
            Some(lease) => lease,
            None => match leases.take(&self.key).await {
                Ok(lease) => lease,
                Err(error) if self.heed_refusal(&error, 1)? => return Ok(()),
                Err(error) => return self.no_connection(&error),
            },
        };
        self.mux.metrics.pins.of(reason).inc();
        self.mux.metrics.pinned.inc();
        let mut pin = Own::new(lease, reason == PinReason::Session, self.mux.metrics.clone());
        pin.name.clone_from(&self.name);
        let ended = self.drive(&mut pin).await;
        self.mux.metrics.pinned.dec();
        let as_opened = self.key == *pin.lease.key();
        self.forget_lane();
        match ended {
            Ok(true) => {
                self.reset_state();
                // RESET has logged the connection out.
                pin.lease.clean_and_give_back();
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

    /// The request at the front cannot be served: the client hears why, and goes on with the next. Of one that has not come whole, the rest
    /// cannot be told from the next.
    pub(super) fn no_connection(&mut self, error: &Error) -> Result<(), End> {
        let whole = self.front.is_some();
        self.take_front();
        self.refuse_for(error, 1);
        if whole { Ok(()) } else { Err(End::Protocol(error.clone())) }
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
        if let Poll::Ready(free) = self.poll_up(cx, pin)? {
            return Poll::Ready(Ok(free));
        }
        self.ended(pin, flushed)
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
            Class::Local(Local::Reset) => {
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
                (local::version(&frame).map(|version| Expect::Hello(version == 3)), frame)
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

impl Own {
    fn new(lease: Lease<RedisServer>, session: bool, metrics: ListenerMetrics) -> Self {
        Self {
            lease,
            track: Track::default(),
            replies: ReplyScanner::new(),
            head: [0; REPLY_HEAD],
            head_length: 0,
            up: BytesMut::new(),
            streaming: false,
            aborted: false,
            last_words: None,
            refused: false,
            deaf: false,
            session,
            name: Vec::new(),
            named: false,
            sent_any: false,
            reset_sent: false,
            since: Instant::now(),
            metrics,
        }
    }

    /// Whether requests of this class go to the server as they are. In a transaction the server queues even those that the proxy answers
    /// elsewhere.
    fn passes(&self, class: Class, shares: bool) -> bool {
        match class {
            Class::Forbidden | Class::Hostile => false,
            Class::Local(Local::Auth | Local::Hello | Local::Reset | Local::Select) => false,
            Class::Local(Local::Quit) => !self.track.is_counted(),
            Class::Local(_) => !shares || self.track.in_multi() || !self.track.is_counted(),
            _ => true,
        }
    }

    /// Nothing that is owed stands before an answer of the proxy's own.
    fn settled(&self) -> bool {
        self.up.is_empty() && self.track.owed() == usize::from(self.aborted && self.track.is_counted())
    }

    /// What it was for is over, and nothing of it is left.
    fn is_done(&self) -> bool {
        self.sent_any && self.up.is_empty() && self.track.is_free() && !self.session
    }

    fn send(&mut self, class: Class, frame: &[u8]) {
        self.send_meaning(class, None, frame);
    }

    fn send_meaning(&mut self, class: Class, meaning: Option<Expect>, frame: &[u8]) {
        self.announce(class, meaning);
        self.up.extend_from_slice(frame);
    }

    /// The first part of a request that goes on as it comes.
    fn begin(&mut self, class: Class, part: BytesMut) {
        self.announce(class, None);
        self.take_up(part);
        self.streaming = true;
    }

    fn take_up(&mut self, part: BytesMut) {
        if self.up.is_empty() {
            self.up = part;
        } else {
            self.up.extend_from_slice(&part);
        }
    }

    fn announce(&mut self, class: Class, meaning: Option<Expect>) {
        if self.track.owed() == 0 {
            self.since = Instant::now();
        }
        if !self.named && !self.name.is_empty() && !self.track.in_multi() && self.track.is_counted() && is_seen(class) {
            self.named = true;
            self.track.name();
            self.up.extend_from_slice(&encode(&[b"CLIENT", b"SETNAME", &self.name]));
        }
        if class == Class::Wait && !self.session && !self.track.in_multi() && self.track.is_counted() {
            // WAIT is about what its connection has seen last: any command takes it past all writes that the client has had replies to,
            // whichever connections carried them.
            self.track.own_request();
            self.up.extend_from_slice(PING);
        }
        self.track.request(class, meaning);
        self.sent_any = true;
        self.metrics.requests.of(RequestClass::Pinned).inc();
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.lease.connection_mut().stream_mut())
    }

    /// Ready when nothing waits for the server any more. A server that takes nothing more may still have said why: that is read first.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.up.is_empty() && !self.deaf {
            let stream = Pin::new(self.lease.connection_mut().stream_mut());
            match ready!(stream.poll_write(cx, &self.up)) {
                Ok(written) => self.up.advance(written),
                Err(_) => self.deaf = true,
            }
        }
        if self.deaf {
            return Poll::Pending;
        }
        self.up = BytesMut::new();
        if ready!(self.stream().poll_flush(cx)).is_err() {
            self.deaf = true;
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Reads once and hands on. How much, and whether the client's RESET was carried out.
    fn poll_down(&mut self, cx: &mut Context<'_>, outlet: &Outlet, key: &mut super::Key) -> Poll<Result<(usize, bool), End>> {
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(self.stream().poll_read(cx, &mut read)).map_err(|error| End::UpstreamBroke(tls::explain(Side::Upstream, &error)))?;
            let bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(End::UpstreamClosed));
            }
            let reset = self.hand_on(bytes, outlet, key)?;
            Poll::Ready(Ok((bytes.len(), reset)))
        })
    }

    fn hand_on(&mut self, bytes: &[u8], outlet: &Outlet, key: &mut super::Key) -> Result<bool, End> {
        let (mut begin, mut at, mut reset) = (0, 0, false);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.replies.at_boundary() {
                self.head_length = 0;
            }
            let reply = self
                .replies
                .next(rest)
                .map_err(|error| End::UpstreamBroke(Error::upstream(Kind::Protocol, format!("the server's replies: {error}"))))?;
            let length = reply.map_or(rest.len(), |reply| reply.end);
            for (slot, byte) in self.head.iter_mut().skip(self.head_length).zip(rest.iter().take(length)) {
                *slot = *byte;
                self.head_length += 1;
            }
            let swallow = self.track.next() == Some(Expect::Swallow);
            at += length;
            if swallow {
                outlet.deliver(bytes.get(begin..at - length).unwrap_or_default());
                begin = at;
            }
            let Some(reply) = reply else { break };
            let head = self.head.get(..self.head_length).unwrap_or_default();
            self.refused |= head.starts_with(b"-WRONGPASS") || head.starts_with(b"-ERR invalid pas");
            if !self.track.is_counted() && self.track.owed() == 0 {
                if head.starts_with(b"-ERR Protocol")
                    && let Some(words) = &self.last_words
                {
                    outlet.deliver(bytes.get(begin..at - length).unwrap_or_default());
                    outlet.deliver(words);
                    return Err(End::Protocol(Error::client(Kind::Protocol, "no request of Redis'; it was told so")));
                }
                reset |= self.reset_sent && head.starts_with(b"+RESET");
                continue;
            }
            if reply.kind != ReplyKind::Reply {
                continue;
            }
            if self.track.owed() == 0 {
                // Said unasked; it may be why it closes. The client decides.
                self.track.distrust();
                continue;
            }
            let resets = self.track.next() == Some(Expect::Reset);
            match self.track.reply(head) {
                // A server that does not know RESET.
                Change::None if resets => self.reset_sent = false,
                Change::None => {}
                Change::Database(database) => key.database = database,
                Change::Resp3(resp3) => key.resp3 = resp3,
                Change::Reset => reset = true,
            }
            if self.track.owed() == 0 {
                self.metrics.request_seconds.of(RequestClass::Pinned).observe(self.since.elapsed().as_secs_f64());
            }
        }
        outlet.deliver(bytes.get(begin..).unwrap_or_default());
        Ok(reset)
    }
}

/// Whether the connection's name shows from now on: to others for as long as the client keeps it, or to itself where the server answers GETNAME.
fn is_seen(class: Class) -> bool {
    matches!(class, Class::Pinning(_) | Class::Unknown | Class::Transaction(Transaction::Multi | Transaction::Watch))
}

/// Why a request of this class needs a connection of its own where others are shared.
pub(super) fn reason(class: Class) -> PinReason {
    match class {
        Class::Transaction(Transaction::Watch) => PinReason::Watch,
        Class::Transaction(_) => PinReason::Multi,
        Class::Blocking => PinReason::Blocking,
        Class::Pinning(Pinning::Subscribe) => PinReason::Subscribe,
        Class::Pinning(Pinning::Monitor) => PinReason::Monitor,
        Class::Pinning(Pinning::Connection | Pinning::Forever | Pinning::Silent) => PinReason::Connection,
        Class::Unknown => PinReason::Unknown,
        Class::Once | Class::Wait | Class::Read | Class::Write | Class::Local(_) | Class::Forbidden | Class::Hostile => PinReason::Once,
    }
}
