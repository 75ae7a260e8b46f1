//! Frames that clients send: multibulk (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) and inline (`GET k\r\n`).
//!
//! ```text
//!            '*'           CR        LF, n <= 0: a frame that is nothing
//!   Start ---------> Count ---> CountLf -----------------------------------> Start
//!     |                            | n > 0
//!     |                            v       CR          LF           n bytes
//!     |                          Header ------> HeaderLf ---> Payload -----> Cr -> Lf --> Start, after the last argument
//!     |                            ^____________________________________________|   else
//!     |  any other byte
//!     +--------------------> Inline(quotes) --- LF ---> Start
//! ```
//! `[pure]`

use std::fmt;

use super::quotes::Quotes;
use super::{Number, short_number};

/// An inline request, or the line that holds a count or a length, is at most so long without its line end (Redis: `PROTO_INLINE_MAX_SIZE`).
pub const MAX_INLINE: u32 = 64 * 1024;
/// A request has at most so many arguments. Redis >= 7 takes this many, older ones 1024 * 1024, which they refuse in the same words themselves.
pub const MAX_COUNT: i64 = i32::MAX as i64;
/// One argument is at most so long (Redis: `proto-max-bulk-len`, its default).
pub const MAX_BULK: i64 = 512 * 1024 * 1024;
/// What a client that has not logged in may send: arguments. Redis >= 6.2 has the same limit.
pub const MAX_UNAUTHENTICATED_COUNT: i64 = 10;
/// What a client that has not logged in may send: bytes in one argument.
pub const MAX_UNAUTHENTICATED_BULK: i64 = 16 * 1024;

/// A frame that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where it ends in the bytes that were passed in; never 0.
    pub end: usize,
    /// What it is.
    pub kind: RequestKind,
}

/// What a complete frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A command as an array of bulk strings. It will be answered.
    Multibulk,
    /// A command as a line of words. It will be answered.
    Inline,
    /// A blank line, `*0` or `*-1`: Redis passes over it without an answer.
    Nothing,
}

/// How a client broke the protocol. Redis answers, then closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The number after `*` is none, or beyond [`MAX_COUNT`].
    Count,
    /// The number after `$` is none, negative, or beyond [`MAX_BULK`].
    Length,
    /// An argument does not begin with `$` but with this byte.
    Expected(u8),
    /// More than [`MAX_INLINE`] bytes without a line end.
    LongInline,
    /// The same after `*`.
    LongCount,
    /// The same where `$` and a length should be.
    LongLength,
    /// An inline request with a quote that never ends, or that a word follows without a blank.
    Quotes,
    /// More than [`MAX_UNAUTHENTICATED_COUNT`] arguments before the login.
    UnauthenticatedCount,
    /// More than [`MAX_UNAUTHENTICATED_BULK`] bytes in one argument before the login.
    UnauthenticatedLength,
    /// CR LF is missing after a length or a payload. Redis does not look; see the parent module for why this does.
    LineEnd,
    /// A zero byte in an inline request. Redis stops looking for the line end there, and so never answers.
    Zero,
}

impl RequestError {
    /// Redis' own words, without the byte of [`Self::Expected`].
    fn words(self) -> &'static str {
        match self {
            Self::Count => "invalid multibulk length",
            Self::Length => "invalid bulk length",
            Self::Expected(_) => "expected '$'",
            Self::LongInline => "too big inline request",
            Self::LongCount => "too big mbulk count string",
            Self::LongLength => "too big bulk count string",
            Self::Quotes => "unbalanced quotes in request",
            Self::UnauthenticatedCount => "unauthenticated multibulk length",
            Self::UnauthenticatedLength => "unauthenticated bulk length",
            Self::LineEnd => "expected CRLF",
            Self::Zero => "zero byte in inline request",
        }
    }

    /// The error reply for the client, byte for byte what Redis says where Redis has words for it.
    #[must_use]
    pub fn reply(self) -> Vec<u8> {
        let mut reply = b"-ERR Protocol error: ".to_vec();
        reply.extend_from_slice(self.words().as_bytes());
        if let Self::Expected(byte) = self {
            // A line end inside an error reply would end it: Redis writes a blank instead.
            let shown = if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
            reply.extend_from_slice(&[b',', b' ', b'g', b'o', b't', b' ', b'\'', shown, b'\'']);
        }
        reply.extend_from_slice(b"\r\n");
        reply
    }
}

impl fmt::Display for RequestError {
    /// For the log: without the client's byte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for RequestError {}

/// Finds where requests end. Resumable, bounded, 40 bytes.
///
/// After an error the place in the stream is lost: the scanner must not be used again.
#[derive(Clone, Debug)]
pub struct RequestScanner {
    step: Step,
    /// False: the limits for clients that have not logged in hold.
    trusted: bool,
    /// First byte of the line with a length; only `$` is right, but Redis says so at the line's end.
    first: u8,
    /// Bytes of the current line so far.
    line: u32,
    /// Arguments still to come, the current one included.
    arguments: u32,
    number: Number,
    /// Payload bytes still to come.
    payload: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Inline(Quotes),
    Count,
    CountLf,
    Header,
    HeaderLf,
    Payload,
    Cr,
    Lf,
}

impl Default for RequestScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestScanner {
    /// A scanner at the start of a connection whose client may send what Redis takes from authenticated clients.
    #[must_use]
    pub fn new() -> Self {
        Self { step: Step::Start, trusted: true, first: 0, line: 0, arguments: 0, number: Number::default(), payload: 0 }
    }

    /// The same with the limits for clients that have not logged in.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self { trusted: false, ..Self::new() }
    }

    /// True between two frames, false inside one.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.step == Step::Start
    }

    /// Scans `bytes`, which follow those of the call before, up to the end of the first frame that completes in them; call again with what is
    /// behind it. `None`: all of `bytes` was scanned and no frame ends in them.
    ///
    /// # Errors
    /// The client broke the protocol, or a limit.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Request>, RequestError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.step {
                Step::Start => {
                    if let Some(length) = self.short_count(rest) {
                        at += length;
                        continue;
                    }
                }
                Step::Header if self.line == 0 => {
                    let (length, last) = self.short_arguments(rest);
                    at += length;
                    if last {
                        self.step = Step::Start;
                        return Ok(Some(Request { end: at, kind: RequestKind::Multibulk }));
                    }
                }
                Step::Payload => {
                    if rest.len() < self.payload {
                        self.payload -= rest.len();
                        return Ok(None);
                    }
                    at += self.payload;
                    self.step = Step::Cr;
                }
                Step::Inline(_) | Step::Count | Step::CountLf | Step::Header | Step::HeaderLf | Step::Cr | Step::Lf => {}
            }
            // What the short ways left in `Payload` or, cut off, in any other state.
            if self.step == Step::Payload {
                continue;
            }
            let Some(&byte) = bytes.get(at) else { return Ok(None) };
            at += 1;
            if let Some(kind) = self.step(byte)? {
                self.step = Step::Start;
                return Ok(Some(Request { end: at, kind }));
            }
        }
    }

    /// `*` and a short count, taken at once; how many bytes.
    #[inline]
    fn short_count(&mut self, rest: &[u8]) -> Option<usize> {
        let (count, length) = rest.strip_prefix(b"*").and_then(short_number)?;
        if count == 0 || i64::from(count) > MAX_UNAUTHENTICATED_COUNT && !self.trusted {
            return None;
        }
        self.arguments = u32::from(count);
        self.header();
        Some(1 + length)
    }

    /// Short arguments that are there as a whole, taken at once; how many bytes, and whether the last of the request was among them.
    #[inline]
    fn short_arguments(&mut self, rest: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some((payload, length)) = rest.get(at..).and_then(|rest| rest.strip_prefix(b"$")).and_then(short_number) {
            let begin = at + 1 + length;
            let end = begin + usize::from(payload);
            if rest.get(end..end + 2) != Some(b"\r\n") {
                // Not whole, or broken: the way byte by byte knows which.
                self.payload = usize::from(payload);
                self.step = Step::Payload;
                return (begin, false);
            }
            at = end + 2;
            self.arguments = self.arguments.saturating_sub(1);
            if self.arguments == 0 {
                return (at, true);
            }
        }
        (at, false)
    }

    /// Takes one byte that is not payload.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<Option<RequestKind>, RequestError> {
        match self.step {
            Step::Start if byte == b'*' => {
                self.line = 1;
                self.number = Number::default();
                self.step = Step::Count;
            }
            Step::Start => {
                self.line = 0;
                return self.inline(Quotes::Blank, byte);
            }
            Step::Inline(quotes) => return self.inline(quotes, byte),
            Step::Count if byte == b'\r' => self.step = Step::CountLf,
            Step::Count => self.digit(byte, RequestError::LongCount)?,
            Step::CountLf => {
                line_feed(byte)?;
                if self.count()? == 0 {
                    return Ok(Some(RequestKind::Nothing));
                }
                self.header();
            }
            Step::Header if byte == b'\r' => {
                if self.line == 0 {
                    self.first = byte;
                }
                self.step = Step::HeaderLf;
            }
            Step::Header if self.line == 0 => {
                self.first = byte;
                self.line = 1;
            }
            Step::Header => self.digit(byte, RequestError::LongLength)?,
            Step::HeaderLf => {
                line_feed(byte)?;
                self.payload = self.length()?;
                self.step = Step::Payload;
            }
            // `next` leaves this state before it takes a byte.
            Step::Payload => {}
            Step::Cr if byte == b'\r' => self.step = Step::Lf,
            Step::Cr => return Err(RequestError::LineEnd),
            Step::Lf => {
                line_feed(byte)?;
                self.arguments = self.arguments.saturating_sub(1);
                if self.arguments == 0 {
                    return Ok(Some(RequestKind::Multibulk));
                }
                self.header();
            }
        }
        Ok(None)
    }

    #[inline]
    fn header(&mut self) {
        self.line = 0;
        self.number = Number::default();
        self.step = Step::Header;
    }

    #[inline]
    fn digit(&mut self, byte: u8, long: RequestError) -> Result<(), RequestError> {
        self.grow(long)?;
        self.number.push(byte);
        Ok(())
    }

    #[inline]
    fn grow(&mut self, long: RequestError) -> Result<(), RequestError> {
        if self.line >= MAX_INLINE {
            return Err(long);
        }
        self.line += 1;
        Ok(())
    }

    /// The number of arguments, 0 for a request that is nothing.
    fn count(&mut self) -> Result<u32, RequestError> {
        let count = self.number.value().filter(|&count| count <= MAX_COUNT).ok_or(RequestError::Count)?;
        if count > MAX_UNAUTHENTICATED_COUNT && !self.trusted {
            return Err(RequestError::UnauthenticatedCount);
        }
        self.arguments = u32::try_from(count.max(0)).map_err(|_| RequestError::Count)?;
        Ok(self.arguments)
    }

    fn length(&self) -> Result<usize, RequestError> {
        if self.first != b'$' {
            return Err(RequestError::Expected(self.first));
        }
        let length = self.number.value().filter(|length| (0..=MAX_BULK).contains(length)).ok_or(RequestError::Length)?;
        if length > MAX_UNAUTHENTICATED_BULK && !self.trusted {
            return Err(RequestError::UnauthenticatedLength);
        }
        usize::try_from(length).map_err(|_| RequestError::Length)
    }

    fn inline(&mut self, quotes: Quotes, byte: u8) -> Result<Option<RequestKind>, RequestError> {
        if byte == b'\n' {
            return quotes.end().map(Some);
        }
        self.grow(RequestError::LongInline)?;
        if byte == 0 {
            return Err(RequestError::Zero);
        }
        self.step = Step::Inline(quotes.after(byte)?);
        Ok(None)
    }
}

#[inline]
fn line_feed(byte: u8) -> Result<(), RequestError> {
    if byte == b'\n' { Ok(()) } else { Err(RequestError::LineEnd) }
}
