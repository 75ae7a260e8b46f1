//! A client on an upstream connection of its own: because its mode is `session`, or until what it began is over.
//!
//! Both directions are moved by the client's task, nothing is held back: a request goes on as soon as its first bytes say what it is, however
//! big it is. Requests and replies are still counted and a few of them understood ([`Track`]), to know when the client can share again, and
//! whether the connection is fit for others then.

mod requests;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::backend::RedisServer;
use super::client::End;
use super::outlet::Outlet;
use super::track::{Change, Expect, REPLY_HEAD, Track};
use crate::error::{Error, Kind, Side};
use crate::metrics::{ListenerMetrics, PinReason, RequestClass};
use crate::pool::Lease;
use crate::redis::class::{Class, Local, Pinning, Transaction};
use crate::redis::command::encode;
use crate::redis::frame::{ReplyKind, ReplyScanner};
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
