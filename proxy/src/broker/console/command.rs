//! `[pure]` What the console understands: a few words, whatever their case.

use std::fmt;

/// A command of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Shows a table.
    Show(Topic),
    /// No client gets a connection from now on; done when the last is closed.
    Pause,
    /// Ends a pause.
    Resume,
    /// Replaces every connection as soon as it is free.
    Reconnect,
    /// Something that drivers say to every server when they connect; nothing happens. The tag of the answer.
    Courtesy(&'static str),
}

/// What is there to see, with what it is about.
macro_rules! topics {
    ($($variant:ident = $word:literal, $help:literal;)+) => {
        /// A table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each says itself what it is, below")]
        pub enum Topic { $($variant),+ }

        /// Their words, and what is in them.
        pub const TOPICS: &[(&str, Topic, &str)] = &[$(($word, Topic::$variant, $help)),+];
    };
}

topics! {
    Help = "HELP", "the commands";
    Pools = "POOLS", "clients and connections of each database, and who waits";
    Clients = "CLIENTS", "every client";
    Servers = "SERVERS", "every upstream connection";
    Stats = "STATS", "what was done in each database, since the start";
    Databases = "DATABASES", "where each database is, and its limits";
    Lists = "LISTS", "how many there are of everything";
    Config = "CONFIG", "the listener's settings; no secrets";
    State = "STATE", "whether it is paused";
    Version = "VERSION", "the program and its version";
}

/// Commands that change something, and what they do.
pub const CHANGES: &[(&str, Command, &str)] = &[
    ("PAUSE", Command::Pause, "lend no connection from now on, close them as they become free, answer when the last is closed"),
    ("RESUME", Command::Resume, "end a PAUSE"),
    ("RECONNECT", Command::Reconnect, "replace every connection as soon as it is free"),
];

/// Why something is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// SQLSTATE.
    pub code: &'static str,
    /// What to do about it.
    pub text: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.text, self.code)
    }
}

const UNKNOWN: Mistake = Mistake { code: "42601", text: "not a command of this console; SHOW HELP lists them" };
const WHOLE: Mistake = Mistake { code: "0A000", text: "this holds for all databases of the listener; leave out the name" };

/// The commands in the text of a query, in their order; none in an empty one.
///
/// # Errors
/// The first that is none; nothing is to be done then.
pub fn parse(text: &str) -> Result<Vec<Command>, Mistake> {
    text.split(';').map(words).filter(|words| !words.is_empty()).map(|words| command(&words)).collect()
}

/// In upper case, without comments to the end of a line.
fn words(statement: &str) -> Vec<String> {
    let lines = statement.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).map(str::to_ascii_uppercase).collect()
}

fn command(words: &[String]) -> Result<Command, Mistake> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["SHOW"] => Ok(Command::Show(Topic::Help)),
        // Its names for the same.
        ["SHOW", "STATS_TOTALS"] => Ok(Command::Show(Topic::Stats)),
        ["SHOW", topic] => TOPICS.iter().find(|(word, ..)| word == topic).map(|(_, topic, _)| Command::Show(*topic)).ok_or(UNKNOWN),
        [change] if CHANGES.iter().any(|(word, ..)| word == change) => {
            CHANGES.iter().find(|(word, ..)| word == change).map(|(_, command, _)| *command).ok_or(UNKNOWN)
        }
        [change, _name] if CHANGES.iter().any(|(word, ..)| word == change) => Err(WHOLE),
        ["SET", _, ..] => Ok(Command::Courtesy("SET")),
        ["RESET", _, ..] => Ok(Command::Courtesy("RESET")),
        ["DISCARD", "ALL"] => Ok(Command::Courtesy("DISCARD ALL")),
        _ => Err(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_in_any_case() {
        for (text, expected) in [
            ("SHOW POOLS", vec![Command::Show(Topic::Pools)]),
            ("show pools;", vec![Command::Show(Topic::Pools)]),
            ("  Show\n\tServers ; ", vec![Command::Show(Topic::Servers)]),
            ("show", vec![Command::Show(Topic::Help)]),
            ("show stats; show version", vec![Command::Show(Topic::Stats), Command::Show(Topic::Version)]),
            ("-- ping", vec![]),
            ("", vec![]),
            (";;", vec![]),
            ("show -- what\nlists", vec![Command::Show(Topic::Lists)]),
            ("Pause", vec![Command::Pause]),
            ("RESUME;", vec![Command::Resume]),
            ("reconnect", vec![Command::Reconnect]),
            ("SET extra_float_digits = 3", vec![Command::Courtesy("SET")]),
            ("set application_name to 'x'", vec![Command::Courtesy("SET")]),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
        for (word, topic, _) in TOPICS {
            assert_eq!(parse(&format!("show {}", word.to_lowercase())), Ok(vec![Command::Show(*topic)]));
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in
            ["SELECT 1", "SHOW", "SHOW NOTHING", "SHOW POOLS CLIENTS", "KILL x", "SHOW POOLS; DROP", "SET", "ÄÖ", "SHUTDOWN", "begin"]
        {
            let code = parse(text).err().map(|mistake| mistake.code);
            assert_eq!(code, (text != "SHOW").then_some("42601"), "{text}");
        }
        for text in ["PAUSE registry", "resume \"registry\"", "RECONNECT x;"] {
            assert_eq!(parse(text), Err(WHOLE));
        }
    }
}
