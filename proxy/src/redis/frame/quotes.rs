//! Quotes in inline requests, byte by byte: no more than is needed to tell a blank line, and a quote that never ends. `[pure]`

use super::{RequestError, RequestKind};

/// Where in Redis' inline syntax a line is: only what is needed to tell a blank line and a quote that never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Nothing but blanks so far.
    Blank,
    /// Between words.
    Between,
    /// In a word, outside quotes.
    Word,
    /// Right behind a closing quote: a blank or the line's end must follow.
    Closed,
    Double,
    DoubleBackslash,
    Single,
    SingleBackslash,
}

impl Quotes {
    /// One byte on. The rules of Redis' `sdssplitargs`; [`crate::redis::command`] has them once more, with the words kept.
    pub(super) fn after(self, byte: u8) -> Result<Self, RequestError> {
        Ok(match (self, byte) {
            // Vertical tab and form feed are blanks before a word and part of one inside it.
            (Self::Blank | Self::Between, b' ' | b'\t' | b'\r' | 0x0b | 0x0c) => self,
            (Self::Word, b' ' | b'\t' | b'\r') | (Self::Closed, b' ' | b'\t' | b'\r' | 0x0b | 0x0c) => Self::Between,
            (Self::Closed, _) => return Err(RequestError::Quotes),
            (Self::Blank | Self::Between | Self::Word, b'"') => Self::Double,
            (Self::Blank | Self::Between | Self::Word, b'\'') => Self::Single,
            (Self::Blank | Self::Between | Self::Word, _) => Self::Word,
            (Self::Double, b'"') | (Self::Single, b'\'') => Self::Closed,
            (Self::Double, b'\\') => Self::DoubleBackslash,
            (Self::Double | Self::DoubleBackslash, _) => Self::Double,
            // In single quotes a backslash escapes a single quote alone, not even itself.
            (Self::Single | Self::SingleBackslash, b'\\') => Self::SingleBackslash,
            (Self::Single | Self::SingleBackslash, _) => Self::Single,
        })
    }

    /// The line ends here: what kind of request it was.
    pub(super) fn end(self) -> Result<RequestKind, RequestError> {
        match self {
            Self::Blank => Ok(RequestKind::Nothing),
            Self::Between | Self::Word | Self::Closed => Ok(RequestKind::Inline),
            Self::Double | Self::DoubleBackslash | Self::Single | Self::SingleBackslash => Err(RequestError::Quotes),
        }
    }
}
