//! Where Redis frames end, found without looking inside them.
//!
//! Two scanners, [`RequestScanner`] for what clients send and [`ReplyScanner`] for what servers send. They are fed bytes as they arrive, cut
//! anywhere, and say where each frame ends. One pass: a byte that was seen is never looked at again, a payload is skipped by its length. They
//! keep no bytes and allocate nothing, so a foreign length can cost no memory, and a deeply nested reply costs no more than a flat one.
//!
//! Framing is stricter than the server's where the server takes anything: Redis skips the two bytes after a length or a payload whatever
//! they are, here they must be CR LF. Two programs that disagree about where a request ends are how one client's bytes become another's.
//! `[pure]`

pub mod fuzz;
mod quotes;
mod reply;
mod request;

pub use reply::{MAX_REPLY_BULK, MAX_REPLY_COUNT, MAX_REPLY_LINE, Reply, ReplyError, ReplyKind, ReplyScanner};
pub use request::{
    MAX_BULK, MAX_COUNT, MAX_INLINE, MAX_UNAUTHENTICATED_BULK, MAX_UNAUTHENTICATED_COUNT, Request, RequestError, RequestKind,
    RequestScanner,
};

/// A decimal integer read byte by byte, as strictly as Redis' `string2ll`: no plus sign, no leading zero, no `-0`, no blank.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    magnitude: u64,
    form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Empty,
    Minus,
    Zero,
    Positive,
    Negative,
    Bad,
}

impl Number {
    #[inline]
    fn push(&mut self, byte: u8) {
        let digit = byte.wrapping_sub(b'0');
        self.form = match self.form {
            Form::Positive | Form::Negative if digit <= 9 => {
                let next = self.magnitude.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit)));
                self.magnitude = next.unwrap_or_default();
                if next.is_some() { self.form } else { Form::Bad }
            }
            Form::Empty | Form::Minus if (1..=9).contains(&digit) => {
                self.magnitude = u64::from(digit);
                if self.form == Form::Empty { Form::Positive } else { Form::Negative }
            }
            Form::Empty if digit == 0 => Form::Zero,
            Form::Empty if byte == b'-' => Form::Minus,
            _ => Form::Bad,
        };
    }

    /// The number, `None` when what was pushed is none, or one beyond 64 bits.
    #[inline]
    fn value(self) -> Option<i64> {
        match self.form {
            Form::Zero => Some(0),
            Form::Positive => i64::try_from(self.magnitude).ok(),
            Form::Negative => 0i64.checked_sub_unsigned(self.magnitude),
            Form::Empty | Form::Minus | Form::Bad => None,
        }
    }

    /// Reads a whole number at once.
    fn parse(text: &[u8]) -> Option<i64> {
        let mut number = Self::default();
        for &byte in text {
            number.push(byte);
        }
        number.value()
    }
}

/// A count or length of one to three digits with its line end, when all of it is there: nearly all are short and whole. The number, and how
/// many bytes it takes with its line end. `None` means only that the byte-by-byte way has to look.
#[inline]
pub(super) fn short_number(bytes: &[u8]) -> Option<(u16, usize)> {
    fn digit(byte: u8) -> Option<u16> {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then_some(u16::from(digit))
    }
    match *bytes {
        [a, b'\r', b'\n', ..] => Some((digit(a)?, 3)),
        [a @ b'1'..=b'9', b, b'\r', b'\n', ..] => Some((digit(a)? * 10 + digit(b)?, 4)),
        [a @ b'1'..=b'9', b, c, b'\r', b'\n', ..] => Some((digit(a)? * 100 + digit(b)? * 10 + digit(c)?, 5)),
        _ => None,
    }
}

/// Reads a decimal integer as strictly as Redis does: no plus sign, no leading zero, no blank.
#[must_use]
pub fn integer(text: &[u8]) -> Option<i64> {
    Number::parse(text)
}

#[cfg(test)]
mod tests;
