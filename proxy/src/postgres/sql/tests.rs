//! The scanner over tables of texts, nasty ones first of all, and over texts that are put together at random.

mod cases;

use std::hint::black_box;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::fuzz::fuzz;
use super::{Command, Verdict, scan};
use crate::postgres::traces::Traces;
use cases::{COMMANDS, PLAIN, SAID};

/// A verdict in the words of the tables.
fn say(verdict: &Verdict) -> String {
    let mut words = Vec::new();
    if !verdict.leaves.is_empty() {
        words.push(verdict.leaves.to_string());
    }
    if verdict.ends {
        words.push("ends".to_owned());
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    words.extend(verdict.command.as_ref().map(|command| match command {
        Command::Deallocate(name) => format!("deallocate({})", text(name)),
        Command::DeallocateAll => "deallocate-all".to_owned(),
        Command::DiscardAll => "discard-all".to_owned(),
        Command::Set { name, value: Some(value) } => format!("set({}={})", text(name), text(value)),
        Command::Set { name, value: None } => format!("set({})", text(name)),
        Command::ResetAll => "reset-all".to_owned(),
    }));
    words.extend(verdict.resets.then(|| "resets".to_owned()));
    words.join(" ")
}

fn all() -> Vec<(&'static str, &'static str)> {
    PLAIN.iter().map(|text| (*text, "")).chain(SAID.iter().chain(COMMANDS).copied()).collect()
}

#[test]
fn tables() {
    let wrong: Vec<_> = all()
        .into_iter()
        .filter_map(|(text, expected)| {
            let said = say(&scan(text.as_bytes()));
            (said != expected).then(|| format!("{text:?}: said {said:?}, not {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(all().len() > 300, "{}", all().len());
}

#[test]
fn fuzz_body_on_the_tables() {
    for (text, _) in all() {
        fuzz(text.as_bytes());
        // Every beginning, and every end.
        for at in 0..=text.len() {
            fuzz(&text.as_bytes()[..at]);
            fuzz(&text.as_bytes()[at..]);
        }
    }
}

/// What a hostile client might send to keep a worker busy.
#[test]
fn long_texts_take_long_only_once() {
    const LENGTH: usize = 1 << 17;
    let pieces =
        ["(", ")", "'", "\"", "''", "$", "$a", "$a$", "$$", "/*", "*/", "/", "*", "-", "--", ";", "a", "1", ".", "\\", "\\'", "E'\\", "\n"];
    let pieces =
        pieces.iter().copied().chain(["set ", "set_config(", "u&\"", "pg_temp", "SET SESSION ", "DO '", "SET a=1,", "é", "begin atomic"]);
    let begin = tokio::time::Instant::now();
    for piece in pieces {
        for text in [piece.repeat(LENGTH / piece.len()), format!("CREATE FUNCTION BEGIN ATOMIC {}", piece.repeat(LENGTH / piece.len()))] {
            black_box(scan(text.as_bytes()));
        }
    }
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    let text = format!("SELECT '{}'; LISTEN x", "it''s; ".repeat(LENGTH));
    assert_eq!(say(&scan(text.as_bytes())), "listen");
}

const TOKENS: &[&str] = &[
    "SET",
    "RESET",
    "LISTEN",
    "UNLISTEN",
    "PREPARE",
    "TRANSACTION",
    "LOAD",
    "DECLARE",
    "DO",
    "DROP",
    "CLOSE",
    "DEALLOCATE",
    "DISCARD",
    "ALL",
    "CREATE",
    "OR",
    "REPLACE",
    "GLOBAL",
    "LOCAL",
    "SESSION",
    "TEMP",
    "TEMPORARY",
    "INTO",
    "INSERT",
    "WITH",
    "HOLD",
    "FUNCTION",
    "PROCEDURE",
    "BEGIN",
    "ATOMIC",
    "END",
    "COMMIT",
    "UPDATE",
    "ONLY",
    "ROLE",
    "AUTHORIZATION",
    "TIME",
    "ZONE",
    "NAMES",
    "TO",
    "DEFAULT",
    "pg_temp",
    "pg_settings",
    "pg_advisory_lock",
    "pg_advisory_unlock",
    "currval",
    "set_config",
    "setseed",
    "true",
    "(",
    ")",
    ",",
    ".",
    "=",
    ";",
    "'",
    "''",
    "\"",
    "$$",
    "$a$",
    "$1",
    "$",
    "E'",
    "U&'",
    "u&\"",
    "\\",
    "--",
    "/*",
    "*/",
    "-",
    "/",
    "1",
    "x",
    "é",
    "\n",
    "\r",
    " ",
    "\0",
    "[",
    "]",
];

#[test]
fn fuzz_body_on_random_tokens() {
    let mut random = fastrand::Rng::with_seed(1989);
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..random.usize(0..14) {
            text.push_str(random.choice(TOKENS).unwrap());
            text.push_str(random.choice(["", " ", " "]).unwrap());
        }
        fuzz(text.as_bytes());
    }
}

/// Statements without a `;`, and what each leaves when it is one of several.
const STATEMENTS: &[(&str, Traces)] = &[
    ("SELECT 1", Traces::NONE),
    ("INSERT INTO t VALUES ('it''s; listen')", Traces::NONE),
    ("SELECT $q$ ; LISTEN y; $q$", Traces::NONE),
    ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT lastval(); END", Traces::NONE),
    ("LISTEN x", Traces::LISTEN),
    ("SELECT pg_advisory_lock ( 1 )", Traces::LOCK),
    ("CREATE TEMP TABLE t (a int)", Traces::TEMP),
    ("PREPARE p AS SELECT 1", Traces::PREPARE),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Traces::HOLD),
    ("SET ROLE x", Traces::ROLE),
    ("SET a = 1", Traces::SETTING),
    ("SELECT currval ( 's' )", Traces::SEQUENCE),
    ("LOAD 'x'", Traces::LOAD),
];

fn filler() -> impl Strategy<Value = &'static str> {
    select(&[" ", "\n", "\t", "/* ; ' */", "/* /* \" */ $$ */", "-- ' ; $$\n", "--\r", " /**/ "][..])
}

proptest! {
    #[test]
    fn statements_are_seen_in_any_company(picked in vec((select(STATEMENTS), vec(filler(), 1..4), any::<u64>()), 2..7)) {
        let (mut text, mut expected) = (String::new(), Traces::NONE);
        for ((statement, leaves), fillers, cases) in picked {
            // Letters outside quotes in any case, something else between the words.
            let mut quoted = false;
            for (index, letter) in statement.chars().enumerate() {
                quoted ^= letter == '\'' || letter == '$';
                match letter {
                    ' ' if !quoted => text.push_str(fillers[index % fillers.len()]),
                    _ if !quoted && cases >> (index % 64) & 1 == 1 => text.push(letter.to_ascii_uppercase()),
                    _ => text.push(letter),
                }
            }
            text.push_str(fillers[0]);
            text.push(';');
            expected |= leaves;
        }
        let verdict = scan(text.as_bytes());
        prop_assert_eq!(verdict.leaves, expected, "{}", text);
        prop_assert_eq!(verdict.command, None);
    }

    #[test]
    fn fuzz_body_on_any_bytes(data in vec(any::<u8>(), 0..80)) {
        fuzz(&data);
    }

    #[test]
    fn a_name_is_read_as_it_was_written(name in "[ -~]{1,40}", value in "[ -\\[\\]-~]{0,40}") {
        let deallocate = format!("DEALLOCATE \"{}\"", name.replace('"', "\"\""));
        prop_assert_eq!(scan(deallocate.as_bytes()).command, Some(Command::Deallocate(name.into_bytes().into())));
        let set = format!("SET a.b TO '{}'", value.replace('\'', "''"));
        prop_assume!(!value.contains("pg_temp"));
        prop_assert_eq!(scan(set.as_bytes()).command, Some(Command::Set { name: (*b"a.b").into(), value: Some(value.into_bytes().into()) }));
    }
}

/// `cargo test --release -p redis-tls-proxy postgres::sql -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn nanoseconds_per_text() {
    let print = |name: &str, text: &str| {
        let rounds = 200_000_000 / (text.len() + 50);
        let best = (0..5)
            .map(|_| {
                let begin = tokio::time::Instant::now();
                for _ in 0..rounds {
                    black_box(scan(black_box(text.as_bytes())));
                }
                begin.elapsed()
            })
            .min()
            .unwrap();
        let each = best.as_secs_f64() / rounds as f64;
        println!("{name}: {} bytes, {:.1} ns, {:.0} MB/s", text.len(), each * 1e9, text.len() as f64 / each / 1e6);
    };
    print("BEGIN", "BEGIN");
    print("pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 1234567890;");
    print("pgbench's update", "UPDATE pgbench_accounts SET abalance = abalance + 4711 WHERE aid = 1234567890;");
    print("SET", "SET TIME ZONE 'UTC'");
    print("words", &"SELECT t.id, t.name FROM project AS t WHERE t.deleted = false AND t.owner_id IN (1, 2, 3)\n".repeat(1000));
    print("rows", &format!("INSERT INTO t VALUES {}", "(4711, 'some text of a usual length', now()),\n".repeat(2000)));
    print("string", &format!("INSERT INTO t VALUES ('{}')", "0123456789abcdef".repeat(10_000)));
}

#[test]
fn what_is_reset_behind_everything_is_not_left() {
    let pool = scan(b"SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;");
    assert_eq!((pool.leaves, pool.ends, pool.resets, pool.command), (Traces::NONE, true, true, None));
    assert!(scan(b"SET a.b = 1; RESET ALL").resets);
    for left in ["RESET ALL; SET a.b = 1", "RESET ALL; SELECT set_config('a.b', '1', false)", "SET a.b = 1; BEGIN; RESET ALL; ROLLBACK"] {
        let verdict = scan(left.as_bytes());
        assert!(!verdict.resets && verdict.leaves.has(Traces::SETTING), "{left}: {verdict:?}");
    }
    assert!(!scan(b"RESET ALL").resets, "a command of its own");
}
