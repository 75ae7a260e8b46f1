//! `[pure]` What a text of SQL may leave behind on the connection that runs it.
//!
//! A scanner, not a parser: it splits a text into statements (comments, strings of all kinds, quoted names and dollar quotes skipped), looks at
//! how each begins and at a few names of functions. It errs on one side: what it cannot rule out it reports.
//!
//! Not to be seen in a text, and so not reported: what functions, procedures, triggers and prepared statements do that it calls, what the
//! server itself runs from a string (`query_to_xml`, `EXECUTE` of a string put together in a function), and bound parameters. The body of a DO
//! block is looked at, word for word; bodies of CREATE FUNCTION are not, since they are not run.
//!
//! | read | for |
//! |---|---|
//! | `lexer` | a text in tokens |
//! | `words` | the words that matter |
//! | `command` | SET, RESET, DEALLOCATE and DISCARD, read in full |
//! | `loose` | words wherever they stand, for what cannot be read for certain |

mod command;
pub mod fuzz;
mod lexer;
mod loose;
#[cfg(test)]
mod tests;
mod words;

use super::traces::Traces;
use command::Change;
use lexer::{Lexer, Quote, Token};
use words::Word;

/// What is known of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the text may leave behind when it succeeds.
    pub leaves: Traces,
    /// It may take something away that a [`Traces`] stands for (UNLISTEN, `pg_advisory_unlock`, DROP, CLOSE, DEALLOCATE, DISCARD, RESET, another
    /// role, ON COMMIT DROP; the end of a transaction is not among these): worth asking the server what is left.
    pub ends: bool,
    /// RESET ALL stands among other statements, and no setting is changed behind it: as poolers of clients send it.
    pub resets: bool,
    /// Set when the whole text is exactly this one statement.
    pub command: Option<Command>,
}

/// A statement that a pooler has to understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `DEALLOCATE [PREPARE] name`; the name as the server would read it, unquoted ones in lower case, quoted ones as they are, but not cut to 63
    /// bytes: what a client prepared under a long name it also drops under that.
    Deallocate(Box<[u8]>),
    /// `DEALLOCATE [PREPARE] ALL`.
    DeallocateAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `SET [SESSION] name {TO | =} value, …`, `SET TIME ZONE value`, `SET NAMES value`, `SET SCHEMA value`, or `RESET name` and
    /// `SET name TO DEFAULT` (`None`). All of it is ASCII.
    Set {
        /// The setting, in lower case; `timezone` for TIME ZONE.
        name: Box<[u8]>,
        /// Its value in the form that `set_config` takes: what the literal, number or word stands for; a list joined as the server joins it;
        /// schemas and the like quoted where they have to be. `None`: its default.
        value: Option<Box<[u8]>>,
    },
    /// `RESET ALL`.
    ResetAll,
}

/// Looks at one text, as it stands in a Query or Parse message, without the NUL. Linear in its length; recurses nowhere.
#[must_use]
pub fn scan(text: &[u8]) -> Verdict {
    read(text).0
}

/// Whether the first word of the text is one of these.
#[must_use]
pub fn begins_with(text: &[u8], words: &[&[u8]]) -> bool {
    matches!(Lexer::new(text).next(), Some(Token::Word(first)) if words.iter().any(|word| first.eq_ignore_ascii_case(word)))
}

/// Also tells whether there is but one reading, and text behind this one would be statements of its own.
fn read(text: &[u8]) -> (Verdict, bool) {
    let mut lexer = Lexer::new(text);
    let mut verdict = Verdict::default();
    let (mut statements, mut set, mut statement) = (0_u32, false, Statement::at(0));
    loop {
        if statement.may_skip() && lexer.skip_dull() {
            statement.skipped();
        }
        let begin = lexer.offset();
        let Some(token) = lexer.next() else { break };
        if matches!(token, Token::Symbol(b';')) && !statement.goes_on() {
            statement.end(text, begin, &mut verdict, &mut set);
            statements = statements.saturating_add(u32::from(statement.tokens != Tokens::None));
            statement = Statement::at(lexer.offset());
        } else {
            statement.take(&token, lexer.offset());
        }
    }
    statement.end(text, text.len(), &mut verdict, &mut set);
    let closed = !lexer.open && lexer.doubtful.is_none() && statement.body == Body::None;
    if statement.body != Body::None {
        lexer.doubt(statement.begin);
    }
    if let Some(from) = lexer.doubtful {
        let (leaves, ends) = loose::read(text.get(from..).unwrap_or_default());
        verdict.leaves |= leaves;
        verdict.ends |= ends;
    }
    // Each statement replaces the command of the one before.
    if statements.saturating_add(u32::from(statement.tokens != Tokens::None)) != 1 || lexer.doubtful.is_some() {
        verdict.command = None;
    }
    if verdict.command.is_some() {
        verdict.resets = false;
    } else if set || verdict.resets && takes_back(text) {
        verdict.leaves |= Traces::SETTING;
        verdict.resets = false;
    }
    (verdict, closed)
}

/// A RESET ALL may be taken back by what stands beside it.
fn takes_back(text: &[u8]) -> bool {
    [&b"rollback"[..], b"abort", b"prepare"].iter().any(|word| text.windows(word.len()).any(|some| some.eq_ignore_ascii_case(word)))
}

/// What of a statement has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    None,
    /// Its first.
    One,
    Two,
    More,
}

/// Where in CREATE FUNCTION ... BEGIN ATOMIC ... END: between these `;` does not end the statement, and only an END that begins one does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Begins,
    Inside,
}

/// The arguments of a `set_config(`, counted: only a literal `true` as the third keeps the setting within its transaction.
struct Config {
    depth: u32,
    commas: u32,
    third: Third,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Third {
    Absent,
    True,
    Other,
}

/// One statement, as far as it has been read.
struct Statement {
    /// Where it begins in the text, and where its first word ends.
    begin: usize,
    behind_lead: usize,
    lead: Word,
    tokens: Tokens,
    /// The last token and the one before; [`Word::Other`] for everything that is not a word of ours.
    last: Word,
    before: Word,
    after_text: bool,
    /// CREATE FUNCTION or PROCEDURE: what it contains is not run.
    defines: bool,
    updates: bool,
    body: Body,
    config: Option<Config>,
    leaves: Traces,
    ends: bool,
}

impl Statement {
    fn at(begin: usize) -> Self {
        Self {
            begin,
            behind_lead: begin,
            lead: Word::Other,
            tokens: Tokens::None,
            last: Word::Other,
            before: Word::Other,
            after_text: false,
            defines: false,
            updates: false,
            body: Body::None,
            config: None,
            leaves: Traces::NONE,
            ends: false,
        }
    }

    /// Whether only words of ours matter at this place.
    fn may_skip(&self) -> bool {
        let calls = matches!(self.last, Word::Lock | Word::Unlock | Word::Sequence | Word::Config | Word::Seed | Word::State);
        self.tokens != Tokens::None && !calls && self.config.is_none() && self.body != Body::Begins
    }

    fn skipped(&mut self) {
        (self.before, self.last, self.after_text, self.tokens) = (Word::Other, Word::Other, false, Tokens::More);
    }

    /// At a `;`: whether it belongs to the statement.
    fn goes_on(&mut self) -> bool {
        if self.body == Body::Inside {
            self.body = Body::Begins;
        }
        self.body != Body::None
    }

    fn take(&mut self, token: &Token<'_>, behind: usize) {
        let word = match token {
            Token::Word(word) => Word::of(word),
            Token::Name(name) => Word::of_name(name),
            _ => Word::Other,
        };
        if self.tokens == Tokens::None {
            self.behind_lead = behind;
            self.lead = word;
        }
        if self.config.is_some() {
            self.argument(token);
        }
        match token {
            Token::Word(_) | Token::Name(_) => self.word(word),
            Token::Symbol(b'(') => self.call(),
            // Its name may stand far behind: `U&"..." UESCAPE '!' (...)`.
            Token::Coded => (self.leaves, self.ends) = (self.leaves | loose::coded(), true),
            Token::Text(quote, inside) => self.text(*quote, inside),
            _ => {}
        }
        (self.before, self.last) = (self.last, word);
        self.after_text = matches!(token, Token::Text(..));
        self.tokens = match self.tokens {
            Tokens::None => Tokens::One,
            Tokens::One => Tokens::Two,
            Tokens::Two | Tokens::More => Tokens::More,
        };
    }

    fn word(&mut self, word: Word) {
        if self.body == Body::Begins {
            self.body = if word == Word::End { Body::None } else { Body::Inside };
        }
        match word {
            Word::TempSchema => self.leaves |= Traces::TEMP,
            Word::Temp => match self.last {
                Word::Into if matches!(self.before, Word::Insert | Word::Merge) => {}
                Word::Create | Word::Replace | Word::Scope | Word::Into => self.leaves |= Traces::TEMP,
                _ => {}
            },
            Word::Function if self.lead == Word::Create && matches!(self.last, Word::Create | Word::Replace) => self.defines = true,
            Word::Atomic if self.defines && self.last == Word::Begin => self.body = Body::Begins,
            Word::Hold if self.lead == Word::Declare && self.last == Word::With => self.leaves |= Traces::HOLD,
            Word::Drop if self.last == Word::Commit => self.ends = true,
            Word::Update => self.updates = true,
            // The view has a rule that makes set_config of an UPDATE.
            Word::Settings if self.updates => self.leaves |= Traces::SETTING,
            _ => {}
        }
    }

    /// After a `(`: what is called.
    fn call(&mut self) {
        if self.defines {
            return;
        }
        match self.last {
            Word::Lock => self.leaves |= Traces::LOCK,
            Word::Unlock => self.ends = true,
            Word::Sequence => self.leaves |= Traces::SEQUENCE,
            Word::Seed => self.leaves |= Traces::SETTING,
            Word::State => self.leaves |= Traces::LOAD,
            // One within another's arguments is not worth a stack.
            Word::Config if self.config.is_some() => self.leaves |= Traces::SETTING,
            Word::Config => self.config = Some(Config { depth: 1, commas: 0, third: Third::Absent }),
            _ => {}
        }
    }

    fn argument(&mut self, token: &Token<'_>) {
        let Some(config) = &mut self.config else { return };
        match token {
            Token::Symbol(b'(' | b'[') => config.depth = config.depth.saturating_add(1),
            Token::Symbol(b')' | b']') => config.depth = config.depth.saturating_sub(1),
            _ => {}
        }
        if config.depth == 0 {
            if config.commas != 2 || config.third != Third::True {
                self.leaves |= Traces::SETTING;
            }
            self.config = None;
        } else if config.depth == 1 && *token == Token::Symbol(b',') {
            config.commas = config.commas.saturating_add(1);
        } else if config.commas == 2 {
            let is_true = matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"true"));
            config.third = if is_true && config.third == Third::Absent { Third::True } else { Third::Other };
        }
    }

    fn text(&mut self, quote: Quote, inside: &[u8]) {
        match self.lead {
            Word::Do => {
                let readable = quote == Quote::Dollar || (quote != Quote::Coded && !inside.contains(&b'\\'));
                // A literal may go on in the next line, in the middle of a word.
                if !readable || self.after_text {
                    self.leaves |= Traces::UNSEEN;
                }
                let (leaves, ends) = loose::read(inside);
                self.leaves |= leaves;
                self.ends |= ends;
            }
            Word::Load if self.tokens == Tokens::One => self.leaves |= Traces::LOAD,
            // PREPARE TRANSACTION 'x' ends a transaction; PREPARE transaction AS is one like others.
            Word::Prepare if self.tokens == Tokens::Two && self.last == Word::Transaction => self.lead = Word::Other,
            // What is created from here on may be temporary without saying so.
            _ if (self.lead == Word::Set || self.config.is_some()) && loose::names_temp_schema(inside) => self.leaves |= Traces::TEMP,
            _ => {}
        }
    }

    /// The statement is complete. What it adds to the verdict on the text.
    fn end(&mut self, text: &[u8], at: usize, verdict: &mut Verdict, set: &mut bool) {
        let rest = Lexer::new(text.get(self.behind_lead..at).unwrap_or_default());
        if self.config.is_some() {
            self.leaves |= Traces::SETTING;
        }
        let mut change = Change::Nothing;
        match self.lead {
            Word::Listen => self.leaves |= Traces::LISTEN,
            Word::Prepare => self.leaves |= Traces::PREPARE,
            Word::Ends | Word::Drop => self.ends = true,
            Word::Set => change = command::set(rest),
            Word::Reset => (self.ends, change) = (true, command::reset(rest)),
            Word::Deallocate => (self.ends, change) = (true, command::deallocate(rest)),
            Word::Discard => (self.ends, change) = (true, command::discard(rest)),
            _ => {}
        }
        match change {
            Change::Nothing => {}
            Change::Role => {
                self.leaves |= Traces::ROLE;
                self.ends = true;
            }
            Change::Unfollowed => self.leaves |= Traces::SETTING,
            Change::Names(command) => verdict.command = Some(command),
            Change::Settings(_) if self.leaves.has(Traces::TEMP) => self.leaves |= Traces::SETTING,
            Change::Settings(command) => {
                verdict.resets = command == Command::ResetAll;
                if verdict.resets {
                    verdict.leaves = verdict.leaves.without(Traces::SETTING);
                }
                *set = !verdict.resets;
                verdict.command = Some(command);
            }
        }
        verdict.resets &= !self.leaves.has(Traces::SETTING);
        verdict.leaves |= self.leaves;
        verdict.ends |= self.ends;
    }
}
