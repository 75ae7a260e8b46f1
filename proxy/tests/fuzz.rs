//! The fuzz bodies under a plain mutation loop, without a fuzzer's toolchain. Two seconds each; `LAB_FUZZ_SECONDS=1800` for longer.
//!
//! A failure prints the seed (`LAB_FUZZ_SEED` runs it again) and the bytes. What an input leads to is summed up in a number, and an input that
//! leads to a new one joins those that are mutated: a poor relation of a real fuzzer's coverage, but enough to get deep into the grammar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

mod reference;

use std::collections::HashSet;
use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use fastrand::Rng;
use lab::resp::encode;
use redis_tls_proxy::broker::exchange;
use redis_tls_proxy::postgres::sql;
use redis_tls_proxy::redis::frame::fuzz::{fuzz_replies, fuzz_requests, replies, requests};
use redis_tls_proxy::redis::frame::{RequestKind, RequestScanner};
use redis_tls_proxy::redis::head::Head;
use redis_tls_proxy::redis::table::fuzz::fuzz_head;
use redis_tls_proxy::redis::{classify, command, table};
use tokio::time::Instant;

/// Inputs to mutate are at most so many and so long.
const MOST_INPUTS: usize = 4096;
const LONGEST: usize = 400;

/// Says what failed, while the panic that said why is on its way out.
struct Witness<'a> {
    body: &'a str,
    seed: u64,
    data: Vec<u8>,
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed with LAB_FUZZ_SEED={} on b\"{}\"", self.body, self.seed, self.data.escape_ascii());
        }
    }
}

/// Mutates `inputs` and runs `body`, which returns what the input led to, until the time is up.
fn fuzz(name: &str, mut inputs: Vec<Vec<u8>>, tokens: &[&[u8]], body: impl Fn(&[u8]) -> u64) {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse().ok());
    let seconds = number("LAB_FUZZ_SECONDS").unwrap_or(2);
    let seed = number("LAB_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let (mut rng, mut seen, begin, mut runs) = (Rng::with_seed(seed), HashSet::new(), Instant::now(), 0u64);
    let mut witness = Witness { body: name, seed, data: Vec::new() };
    for input in &inputs {
        witness.data.clone_from(input);
        seen.insert(body(input));
    }
    while begin.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..100 {
            mutate(&mut rng, &inputs, tokens, &mut witness.data);
            if seen.insert(body(&witness.data)) && inputs.len() < MOST_INPUTS {
                inputs.push(witness.data.clone());
            }
            runs += 1;
        }
    }
    println!("{name}: {runs} runs, {} outcomes, seed {seed}", seen.len());
    assert!(seen.len() > 10, "the inputs all lead to the same: nothing was tested");
}

/// A new input in `data`, from one of `inputs`.
fn mutate(rng: &mut Rng, inputs: &[Vec<u8>], tokens: &[&[u8]], data: &mut Vec<u8>) {
    data.clone_from(rng.choice(inputs).unwrap());
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=data.len());
        let to = at + rng.usize(..=(data.len() - at).min(16));
        match rng.u8(..7) {
            0 if at < data.len() => data[at] = rng.u8(..),
            1 if at < data.len() => data[at] ^= 1 << rng.u8(..8),
            2 => drop(data.splice(at..at, rng.choice(tokens).unwrap().iter().copied())),
            3 => drop(data.splice(at..to, rng.choice(tokens).unwrap().iter().copied())),
            4 => drop(data.drain(at..to)),
            5 => {
                let piece = data[at..to].to_vec();
                drop(data.splice(at..at, piece));
            }
            _ => {
                let other = rng.choice(inputs).unwrap();
                data.truncate(at);
                data.extend_from_slice(&other[rng.usize(..=other.len())..]);
            }
        }
    }
    data.truncate(LONGEST);
}

/// One number for what an input led to; counts above a few are alike.
fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn request_inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = [
        &b"*1\r\n$4\r\nPING\r\n"[..],
        b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n*1\r\n$4\r\nPING\r\n",
        b"*0\r\n*-1\r\n\r\nPING\r\n",
        b"SET \"a\\x41\\n b\" 'it\\'s'\r\n",
        b"*5\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\nk\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"*11\r\n",
        b"*1\r\n$16385\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    inputs.extend(table::entries().map(|entry| encode(&[entry.name, entry.subcommand.unwrap_or("k"), "v"])));
    inputs
}

const REQUEST_TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"*",
    b"$",
    b"*1\r\n",
    b"*2\r\n",
    b"*3\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"$0\r\n\r\n",
    b"$1\r\nk\r\n",
    b"$3\r\nGET\r\n",
    b"-",
    b"0",
    b"10",
    b"2147483648",
    b"536870913",
    b"99999999999999999999",
    b"\"",
    b"'",
    b"\\",
    b"\"\\n\\r\\t\\b\\a\\q\"",
    b"\\x4",
    b" ",
    b"\t",
    b"\x0b",
    b"\0",
    b"$5\r\nBLOCK\r\n",
    b"$7\r\nSTREAMS\r\n",
    b"$6\r\nCLIENT\r\n",
    b"GET k\r\n",
    b"XREAD BLOCK 0 STREAMS k 0\n",
];

/// What each request of the stream is, and how it ended.
fn request_outcome(data: &[u8]) -> u64 {
    let (frames, end) = requests(RequestScanner::new(), [data]);
    let mut begin = 0;
    let kinds: Vec<_> = frames
        .iter()
        .take(4)
        .map(|&(end, kind)| format!("{kind:?} {:?}", classify(&data[std::mem::replace(&mut begin, end)..end])))
        .collect();
    outcome((kinds, format!("{end:?}"), frames.len().min(6)))
}

#[test]
fn requests_are_cut_alike() {
    fuzz("requests", request_inputs(), REQUEST_TOKENS, |data| {
        fuzz_requests(data);
        request_outcome(data.get(2..).unwrap_or_default())
    });
}

#[test]
fn replies_are_cut_alike() {
    let inputs = [
        &b"+OK\r\n-ERR no\r\n:1\r\n$3\r\nabc\r\n$-1\r\n*-1\r\n"[..],
        b"*2\r\n*1\r\n$1\r\na\r\n:2\r\n_\r\n",
        b"%1\r\n+k\r\n#t\r\n~1\r\n,1.5\r\n(123456789012345678901234567890\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n=7\r\ntxt:abc\r\n!3\r\nERR\r\n",
        b"|1\r\n+ttl\r\n:1\r\n+OK\r\n*0\r\n%0\r\n",
        b"$?\r\n;1\r\na\r\n;0\r\n*?\r\n.\r\n",
    ];
    let tokens: &[&[u8]] = &[
        b"\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*1\r\n",
        b"*2\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"%1\r\n",
        b"~1\r\n",
        b">2\r\n",
        b"|1\r\n",
        b"_\r\n",
        b"#f\r\n",
        b",inf\r\n",
        b"$9\r\nsubscribe\r\n",
        b"-",
        b"0",
        b"99999999999999999999",
        b"?",
        b"\r",
        b"\n",
    ];
    fuzz("replies", inputs.map(|input| [&b"\0\x07"[..], input].concat()).into(), tokens, |data| {
        fuzz_replies(data);
        let (frames, end) = replies([data.get(2..).unwrap_or_default()]);
        let kinds: Vec<_> = frames.iter().take(6).map(|(_, kind)| format!("{kind:?}")).collect();
        outcome((kinds, format!("{end:?}"), frames.len().min(9)))
    });
}

#[test]
fn classes_are_known_early_and_for_good() {
    fuzz("classes", request_inputs(), REQUEST_TOKENS, |data| {
        fuzz_head(data);
        request_outcome(data)
    });
}

/// The scanner, the parser, the walker and the table against a reader of requests that has nothing in common with them.
#[test]
fn a_second_reader_reads_the_same_requests() {
    fuzz("requests read twice", request_inputs(), REQUEST_TOKENS, |data| {
        let (expected, expected_end) = reference::read(data);
        let (frames, end) = requests(RequestScanner::unauthenticated(), [data]);
        assert_eq!(end, expected_end);
        assert_eq!(frames.len(), expected.len(), "frames");
        let mut begin = 0;
        for ((end, kind), expected) in frames.into_iter().zip(expected) {
            assert_eq!(end, expected.end);
            let frame = &data[std::mem::replace(&mut begin, end)..end];
            assert_eq!(kind == RequestKind::Nothing, expected.words.is_empty());
            let walked: Vec<_> = Head::new(frame).map(|word| word.unwrap().into_owned()).collect();
            assert_eq!(walked, expected.words, "the walker");
            match command::parse(frame) {
                Ok(words) => assert_eq!(words, expected.words, "the parser"),
                Err(error) => assert!(expected.words.len() > 10, "the parser: {error}"),
            }
            if kind != RequestKind::Nothing {
                assert_eq!(classify(frame), classify(&encode(&expected.words)), "an inline request is classified like an array");
            }
        }
        request_outcome(data)
    });
}

/// A message of PostgreSQL's protocol.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// Of what one side says in one go.
fn turn(server: bool, messages: &[Vec<u8>]) -> Vec<u8> {
    let bytes = messages.concat();
    bytes.chunks(127).flat_map(|some| [&[u8::try_from(some.len()).unwrap() << 1 | u8::from(server)], some].concat()).collect()
}

#[test]
fn postgres_conversations_are_cut_alike() {
    let m = message;
    let batch = turn(
        false,
        &[
            m(b'P', b"a\0SELECT 1\0\0\0"),
            m(b'B', b"\0a\0\0\0\0\0\0\0"),
            m(b'D', b"Sa\0"),
            m(b'E', b"\0\0\0\0\0"),
            m(b'C', b"Sa\0"),
            m(b'S', b""),
        ],
    );
    let ready = m(b'Z', b"I");
    let settings = [m(b'1', b""), m(b'2', b""), m(b'D', b"\0\0"), m(b'S', b"TimeZone\0CET\0"), m(b'C', b"SELECT 1\0"), ready.clone()];
    let answer = [m(b'1', b""), m(b'2', b""), m(b't', b"\0\0"), m(b'n', b""), m(b'D', b"\0\0"), m(b'C', b"SELECT 1\0"), ready.clone()];
    let stale = m(b'E', b"SERROR\0C0A000\0RRevalidateCachedQuery\0\0");
    let failed = m(b'E', b"SERROR\0C26000\0Mprepared statement \"_rtp_1\" does not exist\0\0");
    let query = |text: &str| turn(false, &[m(b'Q', format!("{text}\0").as_bytes())]);
    let inputs = vec![
        [&b"\0"[..], &batch, &turn(true, &answer), &batch, &turn(true, &[stale.clone(), ready.clone()]), &turn(true, &answer)].concat(),
        [&b"\x05"[..], &batch, &turn(true, &settings), &turn(true, &answer)].concat(),
        [&b"\x02"[..], &batch, &turn(true, &answer)].concat(),
        [&b"\0"[..], &batch, &turn(true, &[failed, ready.clone()]), &batch].concat(),
        [&b"\0"[..], &query("SET timezone TO 'x'"), &turn(true, &[m(b'S', b"TimeZone\0x\0"), m(b'C', b"SET\0"), ready.clone()])].concat(),
        [&b"\0"[..], &query("BEGIN"), &turn(true, &[m(b'C', b"BEGIN\0"), m(b'Z', b"T")]), &query("DEALLOCATE ALL")].concat(),
        [
            &b"\0"[..],
            &query("LISTEN x"),
            &turn(true, &[m(b'C', b"LISTEN\0"), ready.clone()]),
            &query("DISCARD ALL"),
            &turn(true, std::slice::from_ref(&ready)),
        ]
        .concat(),
        [
            &b"\0"[..],
            &query("COPY t FROM STDIN"),
            &turn(true, &[m(b'G', b"\0\0\0")]),
            &turn(false, &[m(b'd', b"1"), m(b'S', b""), m(b'c', b"")]),
            &turn(true, &[m(b'C', b"COPY 1\0"), ready]),
        ]
        .concat(),
    ];
    let all = [
        &b"P"[..],
        b"B",
        b"D",
        b"E",
        b"C",
        b"S",
        b"H",
        b"Q",
        b"F",
        b"d",
        b"c",
        b"f",
        b"Z",
        b"1",
        b"2",
        b"3",
        b"T",
        b"n",
        b"s",
        b"I",
        b"G",
        b"A",
    ];
    let mut tokens: Vec<Vec<u8>> = all.iter().map(|kind| kind.to_vec()).collect();
    tokens.extend(
        [&b"\0\0\0\x04"[..], b"\0\0\0\x05", b"\0\0\xff\xff", b"\x7f\xff\xff\xff", b"\0", b"_rtp_1\0", b"a\0", b"\0a\0"].map(<[u8]>::to_vec),
    );
    tokens.extend([query("DEALLOCATE a"), query("RESET ALL"), query(""), batch]);
    tokens.extend([b'S', b'H', b'c'].map(|kind| turn(false, &[m(kind, b"")])));
    tokens.extend([b'I', b'T', b'E'].map(|status| turn(true, &[m(b'Z', &[status])])));
    tokens.extend([turn(true, &[stale]), turn(true, &[m(b'1', b""), m(b'2', b"")]), turn(true, &[m(b'G', b"\0\0\0")])]);
    let tokens: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
    fuzz("PostgreSQL", inputs, &tokens, |data| {
        exchange::fuzz::fuzz(data);
        let ended = exchange::fuzz::play(data, 0);
        let kinds = |bytes: &[u8]| bytes.iter().filter(|byte| byte.is_ascii_uppercase()).take(12).copied().collect::<Vec<_>>();
        outcome((kinds(&ended.up), kinds(&ended.down), ended.end, ended.rests, ended.prepared))
    });
}

#[test]
fn what_a_text_of_sql_leaves_is_found_in_any_company() {
    let inputs = [
        &b"SELECT pg_advisory_lock(1)"[..],
        b"LISTEN x; UNLISTEN *",
        b"CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        b"SET search_path TO a, \"B\"",
        b"SELECT set_config('a.b', 'c', true), $$x$$, E'\\''",
        b"DO $x$ BEGIN PERFORM nextval('s'); END $x$",
        b"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        b"DEALLOCATE PREPARE \"a\"; DISCARD ALL; RESET ALL",
        b"DECLARE c CURSOR WITH HOLD FOR SELECT U&\"\\0061\" UESCAPE '!'",
        b"PREPARE TRANSACTION 'x'; PREPARE a AS SELECT 1; LOAD 'x'",
    ];
    let tokens: &[&[u8]] = &[
        b"'",
        b"\"",
        b"$$",
        b"$a$",
        b"E'",
        b"U&'",
        b"\\",
        b"--",
        b"\n",
        b"/*",
        b"*/",
        b";",
        b"(",
        b")",
        b",",
        b"=",
        b" TO ",
        b"SET ",
        b"LOCAL ",
        b"RESET ",
        b"BEGIN ",
        b"ATOMIC ",
        b"END ",
        b"CREATE FUNCTION ",
        b"DO ",
        b"TEMP ",
        b"LISTEN ",
        b"DEALLOCATE ",
        b"DISCARD ALL",
        b"set_config(",
        b"true",
        b"\xc3\xa4",
    ];
    fuzz("SQL", inputs.map(<[u8]>::to_vec).into(), tokens, |data| {
        sql::fuzz::fuzz(data);
        outcome(format!("{:?}", sql::scan(data)))
    });
}
