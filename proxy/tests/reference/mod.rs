//! Requests read in the plainest way: all of the stream at once, a line by searching for its end, a number by the standard library.
//!
//! The rules are Redis' own for a client that has not logged in, with CR LF demanded after lengths and payloads.

use redis_tls_proxy::redis::frame::RequestError;

/// A request, or a frame without words that is none.
pub(crate) struct Request {
    /// Where it ends in the stream.
    pub(crate) end: usize,
    pub(crate) words: Vec<Vec<u8>>,
}

/// Why there is no request: its end is not there, or it is broken.
enum Stop {
    Open,
    Broken(RequestError),
}

use Stop::{Broken, Open};

/// The requests, and whether the stream ends between two of them.
pub(crate) fn read(stream: &[u8]) -> (Vec<Request>, Result<bool, RequestError>) {
    let (mut requests, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let request = if stream[at] == b'*' { array(stream, at) } else { line(stream, at) };
        match request {
            Ok(request) => {
                at = request.end;
                requests.push(request);
            }
            Err(Open) => return (requests, Ok(false)),
            Err(Broken(error)) => return (requests, Err(error)),
        }
    }
    (requests, Ok(true))
}

fn array(stream: &[u8], begin: usize) -> Result<Request, Stop> {
    let (text, mut at) = header(stream, begin)?;
    let count = number(&text[1..]).filter(|&count| count <= i64::from(i32::MAX)).ok_or(Broken(RequestError::Count))?;
    if count > 10 {
        return Err(Broken(RequestError::UnauthenticatedCount));
    }
    let mut words = Vec::new();
    for _ in 0..count {
        let (text, payload) = header(stream, at)?;
        if !text.starts_with(b"$") {
            return Err(Broken(RequestError::Expected(stream[at])));
        }
        let length = number(&text[1..]).filter(|length| (0..=512 * 1024 * 1024).contains(length)).ok_or(Broken(RequestError::Length))?;
        if length > 16 * 1024 {
            return Err(Broken(RequestError::UnauthenticatedLength));
        }
        let end = payload + usize::try_from(length).unwrap();
        words.push(stream.get(payload..end).ok_or(Open)?.to_vec());
        at = line_end(stream, end)?;
    }
    Ok(Request { end: at, words })
}

/// What is before the line end, and the place behind it.
fn header(stream: &[u8], begin: usize) -> Result<(&[u8], usize), Stop> {
    let end = begin + stream[begin..].iter().position(|&byte| byte == b'\r').ok_or(Open)?;
    Ok((&stream[begin..end], line_end(stream, end)?))
}

fn line_end(stream: &[u8], at: usize) -> Result<usize, Stop> {
    match stream[at..] {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] | [b'\r'] => Err(Open),
        _ => Err(Broken(RequestError::LineEnd)),
    }
}

/// A number that is written as a computer would.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

fn line(stream: &[u8], begin: usize) -> Result<Request, Stop> {
    let end = stream[begin..].iter().position(|&byte| byte == b'\n').map(|length| begin + length);
    let line = &stream[begin..end.unwrap_or(stream.len())];
    let zero = line.iter().position(|&byte| byte == 0);
    // Nothing behind a zero byte is looked at.
    let words = split(&line[..zero.unwrap_or(line.len())], zero.is_none() && end.is_some());
    match (words, zero, end) {
        (Err(()), _, _) => Err(Broken(RequestError::Quotes)),
        (Ok(_), Some(_), _) => Err(Broken(RequestError::Zero)),
        (Ok(_), None, None) => Err(Open),
        (Ok(words), None, Some(end)) => Ok(Request { end: end + 1, words }),
    }
}

fn blank(byte: u8) -> bool {
    b" \t\n\x0b\x0c\r".contains(&byte)
}

/// Words with quotes taken off. An open quote is an error only in a line that is `complete`.
fn split(line: &[u8], complete: bool) -> Result<Vec<Vec<u8>>, ()> {
    let line = if complete { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        while at < line.len() && blank(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            let byte = line.get(at).copied();
            match (quote, byte) {
                (Some(_), None) => return if complete { Err(()) } else { Ok(words) },
                (None, None | Some(b' ' | b'\t' | b'\r')) => break,
                (None, Some(byte @ (b'"' | b'\''))) => quote = Some(byte),
                (None, Some(byte)) => word.push(byte),
                (Some(quote), Some(byte)) if byte == quote => {
                    at += 1;
                    if line.get(at).is_some_and(|&next| !blank(next)) {
                        return Err(());
                    }
                    break;
                }
                (Some(b'"'), Some(b'\\')) if hexadecimal(&line[at..]).is_some() => {
                    word.extend(hexadecimal(&line[at..]));
                    at += 3;
                }
                (Some(b'"'), Some(b'\\')) if at + 1 < line.len() => {
                    at += 1;
                    let plain = b"nrtba".iter().position(|&letter| letter == line[at]);
                    word.push(plain.map_or(line[at], |index| b"\n\r\t\x08\x07"[index]));
                }
                (Some(b'\''), Some(b'\\')) if line.get(at + 1) == Some(&b'\'') => {
                    at += 1;
                    word.push(b'\'');
                }
                (Some(_), Some(byte)) => word.push(byte),
            }
            at += 1;
        }
        words.push(word);
    }
}

/// `\x41`
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"\\x")?.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
