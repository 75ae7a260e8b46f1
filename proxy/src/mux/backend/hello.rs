//! What a server says about itself in answer to HELLO, kept so that clients can be answered without asking again. `[pure]`

use crate::redis::frame::{ReplyScanner, integer};

/// A server's answer to HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// It told what it is.
    Known(Facts),
    /// It is older than Redis 6 and knows no HELLO: its error reply, whole.
    Unknown(Vec<u8>),
}

/// What it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Names, and values as they came.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// In which form nested maps are.
    resp3: bool,
}

impl Hello {
    /// Takes a whole reply apart; `None` when it is neither a map (or the array that RESP2 has for one) nor an error about an unknown command.
    #[must_use]
    pub fn parse(reply: &[u8]) -> Option<Self> {
        if reply.starts_with(b"-ERR unknown command") {
            return Some(Self::Unknown(reply.to_vec()));
        }
        let (resp3, mut count, mut rest) = match header(reply)? {
            (b'%', count, rest) => (true, count, rest),
            (b'*', count, rest) if count % 2 == 0 => (false, count / 2, rest),
            _ => return None,
        };
        let mut pairs = Vec::new();
        while count > 0 {
            let (name, after) = element(rest)?;
            let (value, after) = element(after)?;
            pairs.push((text(name)?.to_vec(), value.to_vec()));
            (rest, count) = (after, count - 1);
        }
        rest.is_empty().then_some(Self::Known(Facts { pairs, resp3 }))
    }

    /// The reply to a client's HELLO, in Redis' own form, with the client's protocol version and id in it. A server that knows no HELLO says so.
    #[must_use]
    pub fn reply(&self, resp3: bool, id: u64) -> Vec<u8> {
        let facts = match self {
            Self::Unknown(error) => return error.clone(),
            Self::Known(facts) => facts,
        };
        let count = facts.pairs.len();
        let mut out = if resp3 { format!("%{count}\r\n") } else { format!("*{}\r\n", count * 2) }.into_bytes();
        for (name, value) in &facts.pairs {
            out.extend_from_slice(format!("${}\r\n", name.len()).as_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(b"\r\n");
            match name.as_slice() {
                b"proto" => out.extend_from_slice(if resp3 { b":3\r\n" } else { b":2\r\n" }),
                b"id" => out.extend_from_slice(format!(":{id}\r\n").as_bytes()),
                b"modules" if facts.resp3 != resp3 => match modules(value, resp3) {
                    Some(modules) => out.extend_from_slice(&modules),
                    None => out.extend_from_slice(b"*0\r\n"),
                },
                _ => out.extend_from_slice(value),
            }
        }
        out
    }

    /// One of the facts that are text: `server`, `version`, `mode`, `role`.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        let Self::Known(facts) = self else { return None };
        let (_, value) = facts.pairs.iter().find(|(known, _)| known == name.as_bytes())?;
        std::str::from_utf8(text(value)?).ok()
    }

    /// The protocol version that the connection has now.
    #[must_use]
    pub fn proto(&self) -> Option<i64> {
        let Self::Known(facts) = self else { return Some(2) };
        let (_, value) = facts.pairs.iter().find(|(name, _)| name == b"proto")?;
        integer(value.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
    }

    /// True unless the server says that it is older than this version of Redis.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let Self::Known(_) = self else { return false };
        let mut numbers = self.fact("version").unwrap_or_default().split('.').map_while(|part| part.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(a), Some(b)) => (a, b) >= (major, minor),
            // Other makers count otherwise.
            _ => true,
        }
    }
}

/// The list of modules with the maps in it in the other form.
fn modules(value: &[u8], resp3: bool) -> Option<Vec<u8>> {
    let (b'*', count, mut rest) = header(value)? else { return None };
    let mut out = format!("*{count}\r\n").into_bytes();
    for _ in 0..count {
        let (module, after) = element(rest)?;
        let (form, count, fields) = header(module)?;
        let new = match (form, resp3) {
            (b'*', true) => format!("%{}\r\n", count / 2),
            (b'%', false) => format!("*{}\r\n", count.checked_mul(2)?),
            _ => return None,
        };
        out.extend_from_slice(new.as_bytes());
        out.extend_from_slice(fields);
        rest = after;
    }
    Some(out)
}

/// Type, count or length, and what is behind that line.
fn header(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&form, rest) = bytes.split_first()?;
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    let (number, rest) = rest.split_at_checked(end)?;
    let count = usize::try_from(integer(number)?).ok()?;
    Some((form, count, rest.strip_prefix(b"\r\n")?))
}

/// The first whole element, and what is behind it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = ReplyScanner::new().next(bytes).ok()??.end;
    bytes.split_at_checked(end)
}

/// What is in a bulk string.
fn text(element: &[u8]) -> Option<&[u8]> {
    let (b'$', _, rest) = header(element)? else { return None };
    rest.strip_suffix(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"*16\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:4\r\n\
        $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n*6\r\n$4\r\nname\r\n$1\r\nx\r\n\
        $3\r\nver\r\n:1\r\n$4\r\nargs\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n$17\r\navailability_zone\r\n$0\r\n\r\n";
    const THREE: &[u8] = b"%8\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n\
        $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n%3\r\n$4\r\nname\r\n$1\r\nx\r\n\
        $3\r\nver\r\n:1\r\n$4\r\nargs\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n$17\r\navailability_zone\r\n$0\r\n\r\n";

    #[test]
    fn either_form_gives_both() {
        for hello in [Hello::parse(TWO).unwrap(), Hello::parse(THREE).unwrap()] {
            assert_eq!(hello.reply(false, 4), TWO);
            assert_eq!(hello.reply(true, 4), THREE);
            assert_eq!((hello.fact("server"), hello.fact("role"), hello.fact("id")), (Some("redis"), Some("master"), None));
            assert!(hello.is_at_least(6, 2) && hello.is_at_least(7, 0) && !hello.is_at_least(7, 1));
        }
        assert_eq!((Hello::parse(TWO).unwrap().proto(), Hello::parse(THREE).unwrap().proto()), (Some(2), Some(3)));
    }

    #[test]
    fn a_server_without_hello_is_quoted() {
        let error = b"-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n";
        let hello = Hello::parse(error).unwrap();
        assert_eq!(hello.reply(true, 1), error);
        assert_eq!((hello.fact("version"), hello.proto(), hello.is_at_least(2, 0)), (None, Some(2), false));
    }

    /// Every prefix and every changed byte: an answer or none, never a panic.
    #[test]
    fn nonsense_is_no_answer() {
        for whole in [TWO, THREE] {
            for at in 0..whole.len() {
                assert_eq!(Hello::parse(&whole[..at]), None);
                for byte in [0, b'\r', b'*', b'%', b'$', b'-', b'9', 0xff] {
                    let mut changed = whole.to_vec();
                    changed[at] = byte;
                    if let Some(hello) = Hello::parse(&changed) {
                        let _ = (hello.reply(true, 1), hello.reply(false, 1), hello.is_at_least(6, 2), hello.proto());
                    }
                }
            }
        }
        for other in [&b"+OK\r\n"[..], b"*0\r\nx", b"*1\r\n:1\r\n", b"-ERR no\r\n", b"%1\r\n:1\r\n:1\r\n", b"*-1\r\n", b""] {
            assert_eq!(Hello::parse(other), None);
        }
    }
}
