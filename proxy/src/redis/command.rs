//! One small command taken apart: the AUTH, HELLO, … of a login. Traffic after the login is framed, never parsed here.
//!
//! The limits are those for clients that have not logged in, so the work and the memory are bounded by the frame's own size. `[pure]`

use std::borrow::Cow;

use super::frame::{MAX_UNAUTHENTICATED_BULK, MAX_UNAUTHENTICATED_COUNT, RequestError, integer};

/// The arguments of one command, its name first. Borrowed from a multibulk frame, unquoted from an inline one.
pub type Arguments<'a> = Vec<Cow<'a, [u8]>>;

/// Takes one complete frame apart, as [`super::frame::RequestScanner::unauthenticated`] cut it. A frame that is nothing has no arguments.
///
/// # Errors
/// The same as the scanner's, and for an inline command of more than [`MAX_UNAUTHENTICATED_COUNT`] words the same as for an array of them
/// (Redis takes these).
pub fn parse(frame: &[u8]) -> Result<Arguments<'_>, RequestError> {
    let Some(body) = frame.strip_prefix(b"*") else { return inline(frame) };
    let (count, mut rest) = line(body)?;
    let count = integer(count).filter(|&count| count <= i64::from(i32::MAX)).ok_or(RequestError::Count)?;
    if count > MAX_UNAUTHENTICATED_COUNT {
        return Err(RequestError::UnauthenticatedCount);
    }
    let mut arguments = Arguments::new();
    for _ in 0..count {
        let (header, after) = line(rest)?;
        let (argument, after) = bulk(header, after)?;
        arguments.push(Cow::Borrowed(argument));
        rest = after;
    }
    if rest.is_empty() { Ok(arguments) } else { Err(RequestError::LineEnd) }
}

/// Writes a command as an array of bulk strings.
#[must_use]
pub fn encode(arguments: &[&[u8]]) -> Vec<u8> {
    // The exact size, so that no copy of a password is left behind by growing; 26 = `$`, 20 digits at most, CR LF twice, and one to spare.
    let mut out = Vec::with_capacity(arguments.iter().map(|argument| argument.len() + 26).sum::<usize>() + 26);
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What is before the first CR LF, and what is behind it.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), RequestError> {
    let end = bytes.iter().position(|&byte| byte == b'\r').ok_or(RequestError::LineEnd)?;
    let (line, rest) = bytes.split_at_checked(end).ok_or(RequestError::LineEnd)?;
    Ok((line, rest.strip_prefix(b"\r\n").ok_or(RequestError::LineEnd)?))
}

/// The argument that `header` announces, and what is behind it.
fn bulk<'a>(header: &[u8], rest: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), RequestError> {
    let Some(length) = header.strip_prefix(b"$") else {
        return Err(RequestError::Expected(header.first().copied().unwrap_or(b'\r')));
    };
    let length = integer(length).and_then(|length| usize::try_from(length).ok()).ok_or(RequestError::Length)?;
    if i64::try_from(length).is_ok_and(|length| length > MAX_UNAUTHENTICATED_BULK) {
        return Err(RequestError::UnauthenticatedLength);
    }
    let (argument, rest) = rest.split_at_checked(length).ok_or(RequestError::LineEnd)?;
    Ok((argument, rest.strip_prefix(b"\r\n").ok_or(RequestError::LineEnd)?))
}

/// The words of an inline command, after the rules of Redis' `sdssplitargs`.
fn inline(frame: &[u8]) -> Result<Arguments<'_>, RequestError> {
    let mut rest = inline_line(frame)?;
    let mut arguments = Arguments::new();
    while let Some((word, after)) = inline_word(rest)? {
        if i64::try_from(arguments.len()).is_ok_and(|count| count >= MAX_UNAUTHENTICATED_COUNT) {
            return Err(RequestError::UnauthenticatedCount);
        }
        arguments.push(Cow::Owned(word));
        rest = after;
    }
    Ok(arguments)
}

/// An inline frame without its line end.
pub(super) fn inline_line(frame: &[u8]) -> Result<&[u8], RequestError> {
    let line = frame.strip_suffix(b"\n").ok_or(RequestError::LineEnd)?;
    if line.contains(&b'\n') {
        return Err(RequestError::LineEnd);
    }
    if line.contains(&0) {
        return Err(RequestError::Zero);
    }
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

/// A word, unquoted, and what is behind it.
type Word<'a> = (Vec<u8>, &'a [u8]);

/// The first word of what is left of such a line; `None`: nothing but blanks.
pub(super) fn inline_word(line: &[u8]) -> Result<Option<Word<'_>>, RequestError> {
    let blanks = line.iter().take_while(|&&byte| is_space(byte)).count();
    let rest = line.get(blanks..).unwrap_or_default();
    if rest.is_empty() { Ok(None) } else { word(rest).map(Some) }
}

/// The C library's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// One word of an inline command from its first byte, unquoted, and what is behind it.
fn word(mut rest: &[u8]) -> Result<Word<'_>, RequestError> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\r' => break,
            b'"' | b'\'' => {
                let after = quoted(byte, after, &mut word)?;
                // A closing quote ends the word, and a blank must follow.
                return if after.first().is_none_or(|&next| is_space(next)) { Ok((word, after)) } else { Err(RequestError::Quotes) };
            }
            _ => word.push(byte),
        }
        rest = after;
    }
    Ok((word, rest))
}

/// Appends what is inside the quotes to `word`, and returns what is behind the closing one.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], RequestError> {
    loop {
        rest = match (quote, rest) {
            (_, [byte, after @ ..]) if *byte == quote => return Ok(after),
            (b'"', [b'\\', b'x', high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            (b'"', [b'\\', escaped, after @ ..]) => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            (b'\'', [b'\\', b'\'', after @ ..]) => {
                word.push(b'\'');
                after
            }
            (_, [byte, after @ ..]) => {
                word.push(*byte);
                after
            }
            (_, []) => return Err(RequestError::Quotes),
        };
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
