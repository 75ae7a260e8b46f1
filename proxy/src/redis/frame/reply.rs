//! Frames that servers send: every type of RESP2 and RESP3.
//!
//! A reply is skipped with one counter instead of a stack: the elements still to come, over all levels together. An aggregate of n takes one
//! off and adds n (a map 2n), an attribute adds 2n and takes nothing off, since it belongs to the element behind it. The frame ends when the
//! counter is 0. So nesting, however deep, costs nothing.
//!
//! ```text
//!          + - : _ # , (                  LF
//!   Type ----------------> Line ---------------------------> element done
//!     |    $ ! =                CR            LF       n bytes
//!     +----------------> Number ---> NumberLf ---> Payload ------> Cr -> Lf -> element done
//!     |    * ~ % > |                    | aggregates: n elements more
//!     +----------------> (the same)     +------------------> Type
//! ```
//! `[pure]`

use std::fmt;
use std::io::BufRead;

use super::{Number, short_number};

/// A status, error or number line is at most so long. Scripts may return long ones, and the scanner keeps none of it: this bound only ends
/// nonsense.
pub const MAX_REPLY_LINE: u32 = 64 * 1024 * 1024;
/// One bulk string is at most so long; a DUMP may be longer than the value's own limit.
pub const MAX_REPLY_BULK: i64 = u32::MAX as i64;
/// One aggregate has at most so many elements (pairs for a map).
pub const MAX_REPLY_COUNT: i64 = u32::MAX as i64;

/// A frame that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Where it ends in the bytes that were passed in; never 0.
    pub end: usize,
    /// What it is.
    pub kind: ReplyKind,
}

/// What a complete frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// Answers the oldest request that has no answer yet (in RESP2 possibly a message to a subscriber).
    Reply,
    /// A RESP3 push: nobody asked for it.
    Push,
    /// A RESP3 push that says that a subscription began or ended. It stands in for the reply to (P|S)(UN)SUBSCRIBE, one for each channel.
    Subscription,
}

/// How a server broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// No RESP type begins with this byte: not a Redis server, or its place in the stream is lost.
    Type(u8),
    /// A count or length that is no number, negative, or beyond the limit.
    Length,
    /// A string or aggregate of unknown length (`$?`, `*?`). No Redis server sends these.
    Streamed,
    /// A line longer than [`MAX_REPLY_LINE`].
    Line,
    /// CR LF is missing.
    LineEnd,
    /// A push inside another reply.
    NestedPush,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(byte) => write!(f, "no reply begins with byte 0x{byte:02x}"),
            Self::Length => f.write_str("invalid count or length"),
            Self::Streamed => f.write_str("streamed replies are not supported"),
            Self::Line => f.write_str("line too long"),
            Self::LineEnd => f.write_str("CRLF missing"),
            Self::NestedPush => f.write_str("push inside a reply"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// Finds where replies end. Resumable, bounded, 56 bytes.
///
/// After an error the place in the stream is lost: the scanner must not be used again.
#[derive(Clone, Debug)]
pub struct ReplyScanner {
    step: Step,
    /// The type byte of the current element.
    element: u8,
    frame: Frame,
    /// The byte before the ones to come was a CR.
    cr: bool,
    /// Bytes of the current line so far.
    line: u32,
    /// Elements still to come in this frame, the current one included; 0 between frames.
    pending: u64,
    number: Number,
    /// Payload bytes still to come.
    payload: usize,
    /// The last eight bytes of a push's first element.
    tail: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Type,
    Line,
    Number,
    NumberLf,
    Payload,
    Cr,
    Lf,
}

/// What is known of the frame so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Nothing, or its attributes only.
    Unknown,
    Reply,
    /// A push whose first element, its kind, has not begun.
    PushBegins,
    /// A push whose first element is being read.
    PushKind,
    Push,
    Subscription,
}

/// What all of subscribe, psubscribe, ssubscribe, unsubscribe, punsubscribe and sunsubscribe end in, and no other push does.
const SUBSCRIPTION: u64 = u64::from_be_bytes(*b"ubscribe");

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyScanner {
    /// A scanner at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            step: Step::Type,
            element: 0,
            frame: Frame::Unknown,
            cr: false,
            line: 0,
            pending: 0,
            number: Number::default(),
            payload: 0,
            tail: 0,
        }
    }

    /// True between two frames, false inside one (an attribute and its reply are one).
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.pending == 0
    }

    /// Scans `bytes`, which follow those of the call before, up to the end of the first frame that completes in them; call again with what is
    /// behind it. `None`: all of `bytes` was scanned and no frame ends in them.
    ///
    /// # Errors
    /// The server broke the protocol, or a limit.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let done = match self.step {
                Step::Line => {
                    let (length, done) = self.line(rest)?;
                    at += length;
                    done
                }
                Step::Payload => {
                    let (length, done) = self.payload(rest);
                    at += length;
                    done
                }
                Step::Type => {
                    let Some((&byte, rest)) = rest.split_first() else { return Ok(None) };
                    at += 1;
                    self.begin(byte)?;
                    match short_number(rest) {
                        Some((number, length)) if self.step == Step::Number => {
                            at += length;
                            self.number_read(i64::from(number))?
                        }
                        _ => false,
                    }
                }
                Step::Number | Step::NumberLf | Step::Cr | Step::Lf => {
                    let Some(&byte) = rest.first() else { return Ok(None) };
                    at += 1;
                    self.step(byte)?
                }
            };
            if done && self.element_done() {
                return Ok(Some(Reply { end: at, kind: self.finish() }));
            }
            if at >= bytes.len() {
                return Ok(None);
            }
        }
    }

    /// Takes one byte that is neither in a line of text nor payload; true when an element ends with it.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<bool, ReplyError> {
        match self.step {
            Step::Number if byte == b'\r' => self.step = Step::NumberLf,
            Step::Number if byte == b'?' => return Err(ReplyError::Streamed),
            Step::Number => {
                self.number.push(byte);
                if self.number.form == super::Form::Bad {
                    return Err(ReplyError::Length);
                }
            }
            Step::NumberLf if byte == b'\n' => return self.number_read(self.number.value().ok_or(ReplyError::Length)?),
            Step::Cr if byte == b'\r' => self.step = Step::Lf,
            Step::Lf if byte == b'\n' => {
                if self.frame == Frame::PushKind {
                    self.frame = if self.tail == SUBSCRIPTION { Frame::Subscription } else { Frame::Push };
                }
                return Ok(true);
            }
            Step::NumberLf | Step::Cr | Step::Lf => return Err(ReplyError::LineEnd),
            // `next` takes these itself.
            Step::Type | Step::Line | Step::Payload => {}
        }
        Ok(false)
    }

    /// An element begins.
    #[inline]
    fn begin(&mut self, element: u8) -> Result<(), ReplyError> {
        self.step = match element {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Step::Line,
            b'$' | b'!' | b'=' | b'*' | b'~' | b'%' | b'>' | b'|' => Step::Number,
            other => return Err(ReplyError::Type(other)),
        };
        self.element = element;
        self.line = 0;
        self.cr = false;
        self.number = Number::default();
        self.pending = self.pending.max(1);
        // With one element to come and nothing but attributes so far, this is what the frame is.
        if self.frame == Frame::Unknown && self.pending == 1 && element != b'|' {
            self.frame = if element == b'>' { Frame::PushBegins } else { Frame::Reply };
        } else if element == b'>' {
            return Err(ReplyError::NestedPush);
        } else if self.frame == Frame::PushBegins {
            self.tail = 0;
            self.frame = if element == b'$' { Frame::PushKind } else { Frame::Push };
        } else if self.frame == Frame::PushKind {
            // Its first element was null.
            self.frame = Frame::Push;
        }
        Ok(())
    }

    /// A count or length is complete; true when the element ends with it.
    #[inline]
    fn number_read(&mut self, number: i64) -> Result<bool, ReplyError> {
        if number == -1 && matches!(self.element, b'$' | b'*') {
            return Ok(true);
        }
        if matches!(self.element, b'$' | b'!' | b'=') {
            if !(0..=MAX_REPLY_BULK).contains(&number) {
                return Err(ReplyError::Length);
            }
            self.payload = usize::try_from(number).map_err(|_| ReplyError::Length)?;
            self.step = Step::Payload;
            return Ok(false);
        }
        if !(0..=MAX_REPLY_COUNT).contains(&number) {
            return Err(ReplyError::Length);
        }
        let pairs = matches!(self.element, b'%' | b'|');
        let elements = u64::try_from(number).map_err(|_| ReplyError::Length)? * if pairs { 2 } else { 1 };
        self.pending = self.pending.checked_add(elements).ok_or(ReplyError::Length)?;
        self.step = Step::Type;
        Ok(self.element != b'|')
    }

    /// Takes what `rest` has of a line of text: how much, and whether the line ends there.
    #[inline]
    fn line(&mut self, rest: &[u8]) -> Result<(usize, bool), ReplyError> {
        let (length, found) = through_line_feed(rest);
        self.line = u32::try_from(length).ok().and_then(|length| self.line.checked_add(length)).unwrap_or(u32::MAX);
        if self.line > MAX_REPLY_LINE + 2 {
            return Err(ReplyError::Line);
        }
        // The byte before the line feed: in `rest`, or the last of the call before.
        let before = if found { length.checked_sub(2) } else { length.checked_sub(1) };
        if let Some(&byte) = before.and_then(|at| rest.get(at)) {
            self.cr = byte == b'\r';
        }
        if found && !self.cr {
            return Err(ReplyError::LineEnd);
        }
        Ok((length, found))
    }

    /// Takes what `rest` has of a payload: how much, and whether the element ends there (with its line end, when that is there too).
    #[inline]
    fn payload(&mut self, rest: &[u8]) -> (usize, bool) {
        if self.frame != Frame::PushKind && rest.get(self.payload..self.payload + 2) == Some(b"\r\n") {
            return (self.payload + 2, true);
        }
        let length = rest.len().min(self.payload);
        if self.frame == Frame::PushKind {
            for &byte in rest.iter().take(length) {
                self.tail = self.tail << 8 | u64::from(byte);
            }
        }
        self.payload -= length;
        if self.payload == 0 {
            self.step = Step::Cr;
        }
        (length, false)
    }

    /// One element less to come; true when it was the frame's last.
    #[inline]
    fn element_done(&mut self) -> bool {
        self.step = Step::Type;
        self.pending = self.pending.saturating_sub(1);
        self.pending == 0
    }

    #[inline]
    fn finish(&mut self) -> ReplyKind {
        match std::mem::replace(&mut self.frame, Frame::Unknown) {
            Frame::Unknown | Frame::Reply => ReplyKind::Reply,
            Frame::PushBegins | Frame::PushKind | Frame::Push => ReplyKind::Push,
            Frame::Subscription => ReplyKind::Subscription,
        }
    }
}

/// How many bytes there are up to and with the first line feed, and whether there is one.
#[inline]
fn through_line_feed(bytes: &[u8]) -> (usize, bool) {
    // Most lines are `+OK` and small numbers: a call costs more than looking.
    const NEAR: usize = 16;
    if let Some(at) = bytes.iter().take(NEAR).position(|&byte| byte == b'\n') {
        return (at + 1, true);
    }
    let Some(mut rest) = bytes.get(NEAR..) else { return (bytes.len(), false) };
    // The standard library's way to the system's memchr.
    let length = NEAR + rest.skip_until(b'\n').unwrap_or_default();
    (length, length > NEAR && bytes.get(length - 1) == Some(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Too many elements are refused instead of wrapping; to get there over the wire would take gigabytes.
    #[test]
    fn the_counter_does_not_wrap() {
        let nearly = ReplyScanner { pending: u64::MAX - 3, frame: Frame::Reply, ..ReplyScanner::new() };
        assert_eq!(nearly.clone().next(b"*4\r\n"), Err(ReplyError::Length));
        assert_eq!(nearly.clone().next(b"*3\r\n"), Ok(None));
    }
}
