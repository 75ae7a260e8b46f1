//! `[pure]` Words that may matter, wherever they stand: in the body of a DO block, and in what the server may read differently.

use super::lexer::{begins_word, is_of_word, is_space};
use super::words::Word;
use crate::postgres::traces::Traces;

/// What a name written with escapes, which is not read, may stand for.
pub(super) fn coded() -> Traces {
    Traces::LOCK | Traces::SETTING | Traces::SEQUENCE | Traces::TEMP
}

/// Whether the temporary schema is named somewhere, by its alias or its number.
pub(super) fn names_temp_schema(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'_') {
        if at >= 2 && rest.get(at - 2..at + 5).is_some_and(|name| name.eq_ignore_ascii_case(b"pg_temp")) {
            return true;
        }
        // The next one may begin right here.
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    false
}

/// What `text` may leave behind, and whether it may end something, however it is quoted.
///
/// Only SET and RESET have to stand where a statement may begin: else every UPDATE would be one, and of settings the server cannot be asked.
pub(super) fn read(text: &[u8]) -> (Traces, bool) {
    let mut words = Words { rest: text, begins: true, commented: false, before: 0 };
    let (mut leaves, mut ends, mut updates, mut settings) = (Traces::NONE, false, false, false);
    while let Some((word, begins)) = words.next() {
        let meaning = Word::of(word);
        match meaning {
            Word::Lock => leaves |= Traces::LOCK,
            Word::Unlock | Word::Ends | Word::Drop | Word::Deallocate | Word::Discard => ends = true,
            Word::Sequence => leaves |= Traces::SEQUENCE,
            Word::Config | Word::Seed => leaves |= Traces::SETTING,
            Word::State => leaves |= Traces::LOAD,
            Word::Listen => leaves |= Traces::LISTEN,
            Word::Temp => leaves |= Traces::TEMP,
            Word::Prepare => leaves |= Traces::PREPARE,
            Word::Hold => leaves |= Traces::HOLD,
            Word::Load if is_quote(words.rest) => leaves |= Traces::LOAD,
            Word::Set if begins && !keeps_within_transaction(words.rest) => leaves |= Traces::SETTING,
            Word::Reset => {
                ends = true;
                if begins {
                    leaves |= Traces::SETTING;
                }
            }
            Word::Update => updates = true,
            Word::Settings => settings = true,
            _ if is_role(word) => (leaves, ends) = (leaves | Traces::ROLE, true),
            _ if word.eq_ignore_ascii_case(b"u") && matches!(words.rest, [b'&', b'"', ..]) => (leaves, ends) = (leaves | coded(), true),
            _ => {}
        }
        words.begins = matches!(meaning, Word::Begin | Word::Do) || begins_statement(word);
    }
    if updates && settings {
        leaves |= Traces::SETTING;
    }
    if names_temp_schema(text) {
        leaves |= Traces::TEMP;
    }
    (leaves, ends)
}

fn is_role(word: &[u8]) -> bool {
    [&b"role"[..], b"authorization", b"session_authorization"].iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// A statement of PL/pgSQL follows it.
fn begins_statement(word: &[u8]) -> bool {
    [&b"then"[..], b"else", b"loop"].iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// What follows SET begins with LOCAL, TRANSACTION or CONSTRAINTS.
fn keeps_within_transaction(rest: &[u8]) -> bool {
    let rest = behind_space(rest);
    [&b"local"[..], b"transaction", b"constraints"].iter().any(|word| {
        rest.split_at_checked(word.len()).is_some_and(|(head, behind)| {
            // Not a setting of that name, with an equals sign or a point behind.
            let next = behind_space(behind).first();
            head.eq_ignore_ascii_case(word)
                && behind.first().is_some_and(|&byte| is_space(byte))
                && next.is_some_and(|&byte| begins_word(byte))
        })
    })
}

/// What follows LOAD may be a string. Elsewhere it is a likely name.
fn is_quote(rest: &[u8]) -> bool {
    let rest = behind_space(rest);
    matches!(rest, [b'\'' | b'$', ..] | [b'/', b'*', ..] | [b'-', b'-', ..] | [_, b'\'', ..] | [_, b'&', b'\'', ..])
}

fn behind_space(rest: &[u8]) -> &[u8] {
    rest.get(rest.iter().take_while(|&&byte| is_space(byte)).count()..).unwrap_or_default()
}

struct Words<'a> {
    rest: &'a [u8],
    /// A statement may begin here.
    begins: bool,
    /// In a line with `--`.
    commented: bool,
    /// The byte before, 0 for a word.
    before: u8,
}

impl<'a> Words<'a> {
    /// The next word, and whether a statement may begin with it. Of a `$` only the server knows whether it belongs to one.
    fn next(&mut self) -> Option<(&'a [u8], bool)> {
        loop {
            let (&byte, behind) = self.rest.split_first()?;
            if begins_word(byte) {
                let length = self.rest.iter().position(|&byte| !is_of_word(byte)).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at_checked(length)?;
                (self.rest, self.before) = (rest, 0);
                return Some((word, self.begins));
            }
            self.begins = match byte {
                b'\n' | b'\r' if std::mem::take(&mut self.commented) => true,
                // A quote is directly before what it quotes, a quoted name is not before what follows.
                _ if is_space(byte) => self.begins && self.before != b'"',
                b';' | b'\'' | b'"' | b'$' | b'>' | b'/' | b'(' => true,
                b'-' if self.before == b'-' => {
                    self.commented = true;
                    false
                }
                _ => false,
            };
            (self.rest, self.before) = (behind, byte);
        }
    }
}
