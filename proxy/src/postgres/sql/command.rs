//! `[pure]` SET, RESET, DEALLOCATE and DISCARD, read to their end.

use super::Command;
use super::lexer::{Lexer, Quote, Token};

/// Names and words are cut by the server at this length (`NAMEDATALEN`, less one).
const LONGEST_NAME: usize = 63;

/// What a statement changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that outlives the transaction.
    Nothing,
    /// Prepared statements, or everything.
    Names(Command),
    /// One setting or all, in a way that can be followed.
    Settings(Command),
    /// A setting, in a way that cannot.
    Unfollowed,
    /// The role or the user.
    Role,
}

fn follow(name: impl Into<Box<[u8]>>, value: Option<Vec<u8>>) -> Change {
    Change::Settings(Command::Set { name: name.into(), value: value.map(Into::into) })
}

fn is(token: Option<Token<'_>>, keyword: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword.as_bytes()))
}

/// What follows SET.
pub(super) fn set(mut tokens: Lexer<'_>) -> Change {
    loop {
        let first = tokens.next();
        let mut ahead = tokens.clone();
        let second = ahead.next();
        // All the words below may also be names of settings, or begin them.
        let named = matches!(second, Some(Token::Symbol(b'.' | b'=')));
        if !named && (is(first, "local") || is(first, "transaction") || is(first, "constraints")) {
            return Change::Nothing;
        }
        if named || is(second, "to") || is(second, "from") {
            return assignment(first, tokens);
        }
        let Some(Token::Word(word)) = first else { return Change::Unfollowed };
        match word.to_ascii_lowercase().as_slice() {
            b"session" if is(second, "authorization") => return Change::Role,
            b"session" if is(second, "characteristics") => return Change::Unfollowed,
            b"session" => {}
            b"role" => return Change::Role,
            b"time" if is(second, "zone") => {
                let mut zone = ahead.clone();
                return if is(zone.next(), "local") && zone.next().is_none() {
                    follow(*b"timezone", None)
                } else {
                    values(b"timezone", ahead)
                };
            }
            b"names" if second.is_none() => return follow(*b"client_encoding", None),
            b"names" => return values(b"client_encoding", tokens),
            b"schema" => return values(b"search_path", tokens),
            _ => return Change::Unfollowed,
        }
    }
}

fn assignment<'a>(first: Option<Token<'a>>, mut tokens: Lexer<'a>) -> Change {
    match name(first, &mut tokens) {
        Some((name, Some(Token::Symbol(b'=')))) => values(&name, tokens),
        Some((name, to)) if is(to, "to") => values(&name, tokens),
        _ => Change::Unfollowed,
    }
}

/// The name of a setting in lower case, and the token behind it.
fn name<'a>(first: Option<Token<'a>>, tokens: &mut Lexer<'a>) -> Option<(Vec<u8>, Option<Token<'a>>)> {
    let mut name = Vec::new();
    let mut part = first;
    loop {
        match part {
            Some(Token::Word(word) | Token::Name(word)) if is_plain(word) && !word.contains(&b'"') => {
                name.extend(word.to_ascii_lowercase());
            }
            _ => return None,
        }
        match tokens.next() {
            Some(Token::Symbol(b'.')) => {
                name.push(b'.');
                part = tokens.next();
            }
            behind => return Some((name, behind)),
        }
    }
}

/// Nothing that the server would cut, or read by an encoding.
fn is_plain(word: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&word.len()) && word.is_ascii()
}

/// What the name alone decides.
fn special(name: &[u8]) -> Option<Change> {
    match name {
        b"role" | b"session_authorization" => Some(Change::Role),
        // Of the current transaction.
        b"transaction_isolation" | b"transaction_read_only" | b"transaction_deferrable" => Some(Change::Nothing),
        // Each SET of it does something.
        b"seed" => Some(Change::Unfollowed),
        _ => None,
    }
}

/// Values to the end of the statement, joined as the server does it (`flatten_set_variable_args`).
fn values(name: &[u8], mut tokens: Lexer<'_>) -> Change {
    if let Some(change) = special(name) {
        return change;
    }
    let mut ahead = tokens.clone();
    if is(ahead.next(), "default") && ahead.next().is_none() {
        return follow(name, None);
    }
    let quotes = matches!(
        name,
        b"search_path" | b"temp_tablespaces" | b"local_preload_libraries" | b"session_preload_libraries" | b"shared_preload_libraries"
    );
    let mut joined = Vec::new();
    loop {
        let Some((value, is_number)) = value(&mut tokens) else { return Change::Unfollowed };
        if quotes && !is_number {
            quote(&value, &mut joined);
        } else {
            joined.extend(value);
        }
        match tokens.next() {
            None => return follow(name, Some(joined)),
            Some(Token::Symbol(b',')) => joined.extend(b", "),
            Some(_) => return Change::Unfollowed,
        }
    }
}

/// One value, and whether it is a number.
fn value(tokens: &mut Lexer<'_>) -> Option<(Vec<u8>, bool)> {
    let value = match tokens.next()? {
        Token::Word(word) if is_plain(word) && !word.eq_ignore_ascii_case(b"default") => word.to_ascii_lowercase(),
        Token::Name(name) if is_plain(name) => undouble(name, b'"'),
        Token::Text(Quote::Plain, text) if text.is_ascii() && !text.contains(&b'\\') => undouble(text, b'\''),
        Token::Text(Quote::Dollar, text) if text.is_ascii() => text.to_vec(),
        Token::Number(digits) => return number(b"", digits),
        Token::Symbol(b'+') => return next_number(b"", tokens),
        Token::Symbol(b'-') => return next_number(b"-", tokens),
        _ => return None,
    };
    Some((value, false))
}

fn next_number(sign: &[u8], tokens: &mut Lexer<'_>) -> Option<(Vec<u8>, bool)> {
    match tokens.next()? {
        Token::Number(digits) => number(sign, digits),
        _ => None,
    }
}

/// Only what SET and `set_config` read alike: not `010`, which is ten to one and eight to the other.
fn number(sign: &[u8], digits: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut parts = digits.split(|&byte| byte == b'.');
    let whole = parts.next()?;
    let alike = match (whole, parts.next(), parts.next()) {
        ([b'0', _, ..], ..) => false,
        (_, None, _) => digits != b"0" || sign.is_empty(),
        (_, Some(fraction), None) => !fraction.is_empty(),
        _ => false,
    };
    alike.then(|| ([sign, digits].concat(), true))
}

fn undouble(text: &[u8], quote: u8) -> Vec<u8> {
    let mut second = false;
    text.iter()
        .copied()
        .filter(|&byte| {
            second = byte == quote && !second;
            byte != quote || second
        })
        .collect()
}

/// As an element of a list of names.
fn quote(name: &[u8], into: &mut Vec<u8>) {
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(plain) {
        into.extend(name);
        return;
    }
    into.push(b'"');
    for &byte in name {
        into.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    into.push(b'"');
}

/// What follows RESET.
pub(super) fn reset(mut tokens: Lexer<'_>) -> Change {
    let first = tokens.next();
    let second = tokens.clone().next();
    match second {
        None if is(first, "all") => return Change::Settings(Command::ResetAll),
        Some(Token::Word(_)) if is(first, "time") => return follow(*b"timezone", None),
        // Role and user are asked for; an isolation level is the transaction's.
        Some(Token::Word(_)) if is(first, "session") || is(first, "transaction") => return Change::Nothing,
        _ => {}
    }
    match name(first, &mut tokens) {
        Some((name, None)) => match special(&name) {
            None => follow(name, None),
            Some(Change::Unfollowed) => Change::Unfollowed,
            Some(_) => Change::Nothing,
        },
        _ => Change::Unfollowed,
    }
}

/// What follows DEALLOCATE.
pub(super) fn deallocate(mut tokens: Lexer<'_>) -> Change {
    let first = tokens.next();
    let mut named = tokens.next();
    // PREPARE is a possible name.
    if named.is_none() || !is(first, "prepare") {
        if named.is_some() {
            return Change::Nothing;
        }
        named = first;
    } else if tokens.next().is_some() {
        return Change::Nothing;
    }
    match named {
        _ if is(named, "all") => Change::Names(Command::DeallocateAll),
        Some(Token::Word(word)) => Change::Names(Command::Deallocate(word.to_ascii_lowercase().into())),
        Some(Token::Name(name)) if !name.is_empty() => Change::Names(Command::Deallocate(undouble(name, b'"').into())),
        _ => Change::Nothing,
    }
}

/// What follows DISCARD.
pub(super) fn discard(mut tokens: Lexer<'_>) -> Change {
    if is(tokens.next(), "all") && tokens.next().is_none() { Change::Names(Command::DiscardAll) } else { Change::Nothing }
}
