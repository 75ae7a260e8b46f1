//! The beginning of a request: its name, and as many of the following arguments as somebody asks for.
//!
//! Where a request ends is [`super::frame`]'s business. Here it is looked at again, before or after its end has arrived, only as far as is
//! needed to know what it is. Nothing is allocated for an array of bulk strings; the words of an inline request have to be unquoted. `[pure]`

use std::borrow::Cow;

use super::command::{inline_line, inline_word};
use super::frame::{integer, short_number};

/// The arguments of one request in turn, its name first. Cheap to make; nothing is read before it is asked for.
///
/// After an [`Err`] there is nothing more: to go on, begin again with more bytes.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    rest: &'a [u8],
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing read yet.
    Start,
    /// So many bulk strings are still to come.
    Bulks(i64),
    /// What is left of the line of an inline request.
    Line,
    /// The last argument was read, or cannot be.
    End,
}

/// Why there is no argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Its length has not arrived, or for an inline request its line end.
    Header,
    /// It is so long, and not all of it has arrived.
    Payload(usize),
    /// This is no request, and no byte that may follow makes it one. [`super::frame::RequestScanner`] says what is wrong.
    Broken,
}

impl<'a> Head<'a> {
    /// Over one request or its first part, as far as it has arrived. The bytes of the next request may follow an array, but not a line.
    #[must_use]
    #[inline]
    pub fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame, state: State::Start }
    }

    /// Reads the count, or takes the line whole.
    #[inline]
    fn start(&mut self) -> Result<(), Missing> {
        let Some(body) = self.rest.strip_prefix(b"*") else {
            // One look at the last byte and not a search: a long line that trickles in is not read again for each of its bytes.
            if self.rest.last() != Some(&b'\n') {
                return Err(Missing::Header);
            }
            self.rest = inline_line(self.rest).map_err(|_| Missing::Broken)?;
            self.state = State::Line;
            return Ok(());
        };
        let (count, rest) = number(body)?;
        (self.rest, self.state) = (rest, State::Bulks(count));
        Ok(())
    }

    #[inline]
    fn bulk(&mut self) -> Result<&'a [u8], Missing> {
        let Some((b'$', header)) = self.rest.split_first() else {
            return Err(if self.rest.is_empty() { Missing::Header } else { Missing::Broken });
        };
        let (length, payload) = number(header)?;
        let length = usize::try_from(length).map_err(|_| Missing::Broken)?;
        let (argument, rest) = payload.split_at_checked(length).ok_or(Missing::Payload(length))?;
        self.rest = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            // The argument is whole, the next one begins no earlier than its line end.
            [] | [b'\r'] => &[],
            _ => return Err(Missing::Broken),
        };
        Ok(argument)
    }

    #[inline]
    fn argument(&mut self) -> Result<Option<Cow<'a, [u8]>>, Missing> {
        if matches!(self.state, State::Start) {
            self.start()?;
        }
        match self.state {
            State::Bulks(left) if left > 0 => {
                self.state = State::Bulks(left - 1);
                self.bulk().map(|argument| Some(Cow::Borrowed(argument)))
            }
            State::Line => {
                let Some((word, rest)) = inline_word(self.rest).map_err(|_| Missing::Broken)? else { return Ok(None) };
                self.rest = rest;
                Ok(Some(Cow::Owned(word)))
            }
            State::Start | State::Bulks(_) | State::End => Ok(None),
        }
    }
}

impl<'a> Iterator for Head<'a> {
    type Item = Result<Cow<'a, [u8]>, Missing>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let argument = self.argument();
        if !matches!(argument, Ok(Some(_))) {
            self.state = State::End;
        }
        argument.transpose()
    }
}

/// The length of the name of an array that begins as nearly all do, and the bytes from its first one on: the short way to what [`Head`]
/// gives first. `None` means only that the long way has to look.
#[inline]
pub(super) fn short_name(frame: &[u8]) -> Option<(usize, &[u8])> {
    let (count, length) = frame.strip_prefix(b"*").and_then(short_number)?;
    let header = frame.get(1 + length..)?.strip_prefix(b"$")?;
    let (name, length) = short_number(header)?;
    let bytes = header.get(length..)?;
    (count > 0 && usize::from(name) <= bytes.len()).then_some((usize::from(name), bytes))
}

/// The number in front of the first line end, and what is behind it.
#[inline]
fn number(bytes: &[u8]) -> Result<(i64, &[u8]), Missing> {
    if let Some((number, length)) = short_number(bytes) {
        return Ok((i64::from(number), bytes.get(length..).unwrap_or_default()));
    }
    long_number(bytes)
}

/// The longest number, `-9223372036854775808`.
const LONGEST: usize = 20;

#[cold]
fn long_number(bytes: &[u8]) -> Result<(i64, &[u8]), Missing> {
    let Some(end) = bytes.iter().take(LONGEST + 1).position(|&byte| byte == b'\r') else {
        return Err(if bytes.len() > LONGEST { Missing::Broken } else { Missing::Header });
    };
    let (text, rest) = bytes.split_at_checked(end).ok_or(Missing::Broken)?;
    let number = integer(text).ok_or(Missing::Broken)?;
    match rest {
        [b'\r', b'\n', rest @ ..] => Ok((number, rest)),
        [b'\r'] => Err(Missing::Header),
        _ => Err(Missing::Broken),
    }
}

#[cfg(test)]
mod tests;
