//! `[pure]` A text of SQL in tokens, as PostgreSQL's own lexer cuts it.
//!
//! Where its reading depends on what a text does not tell (`standard_conforming_strings`, the client's encoding) the place is kept as
//! doubtful, and the reading goes on as with PostgreSQL's defaults.

use super::words::may_matter;

/// One token, a slice of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or an unquoted name.
    Word(&'a [u8]),
    /// A quoted name, between its quotes; doubled ones are still double.
    Name(&'a [u8]),
    /// `U&"..."`, which may stand for any name.
    Coded,
    /// A string, between its quotes.
    Text(Quote, &'a [u8]),
    /// Digits, perhaps with a point among them or behind.
    Number(&'a [u8]),
    /// `$1`.
    Parameter,
    /// Any other byte.
    Symbol(u8),
}

/// How a string is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quote {
    /// `'...'`.
    Plain,
    /// `E'...'`: backslashes escape.
    Escape,
    /// `$tag$...$tag$`: as it stands.
    Dollar,
    /// `B'...'`, `X'...'`, `N'...'`.
    Typed,
    /// `U&'...'`.
    Coded,
}

/// What a byte may be: bits, so that one look tells of several.
const SPACE: u8 = 1;
/// Begins a word.
const WORD: u8 = 1 << 1;
const DIGIT: u8 = 1 << 2;
/// `$`, which goes on in a word.
const DOLLAR: u8 = 1 << 3;
/// Begins what is longer than a byte, or ends a statement.
const STOP: u8 = 1 << 4;

#[expect(clippy::indexing_slicing, reason = "while compiling, and within bounds by the loop")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte {
            0x09..=0x0d | 0x20 => SPACE,
            0x30..=0x39 => DIGIT,
            0x41..=0x5a | 0x61..=0x7a | 0x5f | 0x80..=0xff => WORD,
            0x24 => DOLLAR | STOP,
            // " ' - / ;
            0x22 | 0x27 | 0x2d | 0x2f | 0x3b => STOP,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

fn is(byte: u8, classes: u8) -> bool {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default() & classes != 0
}

pub(super) fn is_space(byte: u8) -> bool {
    is(byte, SPACE)
}

/// Whether a word may begin with it.
pub(super) fn begins_word(byte: u8) -> bool {
    is(byte, WORD)
}

/// Whether it goes on in a word, the `$` aside.
pub(super) fn is_of_word(byte: u8) -> bool {
    is(byte, WORD | DIGIT)
}

/// Reads a text once, from its beginning to its end.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    /// From here on the server may read something else, or does not read to the end.
    pub doubtful: Option<usize>,
    /// The end is within a string, name or comment, or behind a comment that only a new line ends.
    pub open: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, rest: text, doubtful: None, open: false }
    }

    /// Where the next token, or white space before it, begins.
    pub(super) fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// Skips what is nothing to the scanner but a token: words by their length and first letter, numbers, single bytes. Tells whether there
    /// was any. Most of most texts ends here, so this is the loop that has to be fast.
    pub(super) fn skip_dull(&mut self) -> bool {
        let mut dull = false;
        let mut rest = self.rest;
        while let Some((&byte, behind)) = rest.split_first() {
            if is(byte, WORD) {
                let more = behind.iter().position(|&byte| !is(byte, WORD | DIGIT | DOLLAR)).unwrap_or(behind.len());
                let behind = behind.get(more..).unwrap_or_default();
                // One letter may be the beginning of a string or name.
                if may_matter(more + 1, byte) || more == 0 && matches!(behind, [b'\'' | b'&', ..]) {
                    break;
                }
                (rest, dull) = (behind, true);
            } else if is(byte, STOP) {
                break;
            } else {
                dull |= !is(byte, SPACE);
                rest = behind;
            }
        }
        self.rest = rest;
        dull
    }

    /// Everything from `at` on is doubtful.
    pub(super) fn doubt(&mut self, at: usize) {
        self.doubtful = Some(self.doubtful.map_or(at, |other| other.min(at)));
    }

    /// Splits off `length` bytes.
    fn cut(&mut self, length: usize) -> &'a [u8] {
        let (cut, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        cut
    }

    /// Splits off what goes on as `is` says.
    fn cut_while(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        self.cut(self.rest.iter().position(|&byte| !is(byte)).unwrap_or(self.rest.len()))
    }

    /// What follows lacks its end: the server will refuse the text, unless it reads it differently.
    fn unterminated(&mut self, begin: usize) -> &'a [u8] {
        self.doubt(begin);
        self.open = true;
        self.cut(usize::MAX)
    }

    fn word(&mut self) -> Token<'a> {
        let begin = self.offset();
        let word = self.cut_while(|byte| is(byte, WORD | DIGIT | DOLLAR));
        let (letter, next) = match (word, self.rest) {
            ([letter], [next, ..]) => (letter | 0x20, *next),
            _ => return Token::Word(word),
        };
        match (letter, next, self.rest.get(1)) {
            (b'e', b'\'', _) => self.escaped(begin),
            (b'b' | b'x' | b'n', b'\'', _) => self.quoted(begin, Quote::Typed),
            (b'u', b'&', Some(b'\'')) => {
                self.cut(1);
                self.quoted(begin, Quote::Coded)
            }
            (b'u', b'&', Some(b'"')) => {
                self.cut(1);
                self.name(begin);
                Token::Coded
            }
            _ => Token::Word(word),
        }
    }

    /// Up to an end that is not doubled; the rest begins with the opening quote.
    fn until(&mut self, begin: usize, quote: u8) -> &'a [u8] {
        self.cut(1);
        let inside = self.rest;
        loop {
            let before = self.cut_while(|byte| byte != quote);
            match (self.rest, before.last()) {
                ([], _) => {
                    self.unterminated(begin);
                    return inside;
                }
                // Without standard_conforming_strings the backslash would take the quote in.
                (_, Some(b'\\')) if quote == b'\'' => self.doubt(begin),
                _ => {}
            }
            let end = inside.len() - self.rest.len();
            self.cut(1);
            if self.rest.first() != Some(&quote) {
                return inside.get(..end).unwrap_or_default();
            }
            self.cut(1);
        }
    }

    fn quoted(&mut self, begin: usize, quote: Quote) -> Token<'a> {
        Token::Text(quote, self.until(begin, b'\''))
    }

    fn name(&mut self, begin: usize) -> Token<'a> {
        Token::Name(self.until(begin, b'"'))
    }

    fn escaped(&mut self, begin: usize) -> Token<'a> {
        self.cut(1);
        let inside = self.rest;
        loop {
            let before = self.cut_while(|byte| byte != b'\'' && byte != b'\\');
            let end = inside.len() - self.rest.len();
            match self.rest {
                [b'\\', _, ..] => {
                    // The second byte of a character, in an encoding such as Shift JIS?
                    if before.last().is_some_and(|byte| !byte.is_ascii()) {
                        self.doubt(begin);
                    }
                    self.cut(2);
                }
                [b'\'', b'\'', ..] => drop(self.cut(2)),
                [b'\'', ..] => {
                    self.cut(1);
                    return Token::Text(Quote::Escape, inside.get(..end).unwrap_or_default());
                }
                _ => {
                    self.unterminated(begin);
                    return Token::Text(Quote::Escape, inside);
                }
            }
        }
    }

    /// The rest begins with `$`.
    fn dollar(&mut self) -> Token<'a> {
        let (begin, behind) = (self.offset(), self.rest.get(1..).unwrap_or_default());
        if behind.first().is_some_and(u8::is_ascii_digit) {
            self.cut(1);
            self.cut_while(|byte| byte.is_ascii_digit());
            return Token::Parameter;
        }
        let tag = behind.iter().position(|&byte| !is_of_word(byte));
        let Some(tag) = tag.filter(|&length| behind.get(length) == Some(&b'$')) else {
            self.cut(1);
            return Token::Symbol(b'$');
        };
        let delimiter = self.cut(tag + 2);
        let inside = self.rest;
        loop {
            self.cut_while(|byte| byte != b'$');
            if self.rest.is_empty() {
                self.unterminated(begin);
                return Token::Text(Quote::Dollar, inside);
            }
            if self.rest.starts_with(delimiter) {
                let end = inside.len() - self.rest.len();
                self.cut(delimiter.len());
                return Token::Text(Quote::Dollar, inside.get(..end).unwrap_or_default());
            }
            self.cut(1);
        }
    }

    /// The rest begins with `/*`. They nest.
    fn comment(&mut self) {
        let begin = self.offset();
        let mut depth = 0_usize;
        loop {
            match self.rest {
                [b'/', b'*', ..] => {
                    depth = depth.saturating_add(1);
                    self.cut(2);
                }
                [b'*', b'/', ..] => {
                    depth = depth.saturating_sub(1);
                    self.cut(2);
                    if depth == 0 {
                        return;
                    }
                }
                [] => {
                    self.unterminated(begin);
                    return;
                }
                _ => {
                    self.cut(1);
                    self.cut_while(|byte| byte != b'/' && byte != b'*');
                }
            }
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    /// A token that lacks its end is none.
    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.token()?;
        (!self.open).then_some(token)
    }
}

impl<'a> Lexer<'a> {
    fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let (&byte, behind) = self.rest.split_first()?;
            match byte {
                _ if is(byte, SPACE) => self.rest = behind,
                _ if is(byte, WORD) => return Some(self.word()),
                _ if is(byte, DIGIT) => return Some(Token::Number(self.cut_while(|byte| byte.is_ascii_digit() || byte == b'.'))),
                _ => match (byte, behind.first()) {
                    (b'\'', _) => return Some(self.quoted(self.offset(), Quote::Plain)),
                    (b'"', _) => return Some(self.name(self.offset())),
                    (b'$', _) => return Some(self.dollar()),
                    (b'-', Some(b'-')) => {
                        self.cut_while(|byte| byte != b'\n' && byte != b'\r');
                        self.open |= self.rest.is_empty();
                    }
                    (b'/', Some(b'*')) => self.comment(),
                    _ => {
                        self.rest = behind;
                        return Some(Token::Symbol(byte));
                    }
                },
            }
        }
    }
}
