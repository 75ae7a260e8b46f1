//! Classes of literal requests, whole and cut; what must never be shared; and how long it takes.

use std::collections::HashSet;
use std::hint::black_box;

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz::fuzz_head;
use super::*;
use crate::redis::class::{Local, Pinning, Transaction};
use crate::redis::command::encode;

use Class::{Blocking, Forbidden, Hostile, Once, Read, Unknown, Wait, Write};

const CONNECTION: Class = Class::Pinning(Pinning::Connection);
const FOREVER: Class = Class::Pinning(Pinning::Forever);
const SUBSCRIBE: Class = Class::Pinning(Pinning::Subscribe);

fn array(line: &str) -> Vec<u8> {
    encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// The class of a command line, the same in every case and both forms.
fn class(line: &str) -> Class {
    let all: Vec<_> = [line.to_string(), line.to_lowercase(), line.to_uppercase()]
        .iter()
        .flat_map(|line| {
            [
                array(line),
                format!("{line}\r\n").into_bytes(),
                format!("  '{}\n", line.replacen(' ', "' ", 1) + if line.contains(' ') { "" } else { "'" }).into_bytes(),
            ]
        })
        .map(|frame| classify(&frame).unwrap())
        .collect();
    assert!(all.iter().all(|class| *class == all[0]), "{line}: {all:?}");
    all[0]
}

#[test]
fn classes_are_as_they_should_be() {
    for (lines, expected) in [
        (
            &["get k", "mget a b c d e f g h i j k l", "ping", "ttl k", "scan 0", "georadius_ro k 1 1 1 m", "georadiusbymember_ro k m 1 m"]
                [..],
            Read,
        ),
        (&["object freq k", "pubsub channels", "client help", "client", "command", "command docs get", "acl whoami", "config get *"], Read),
        (&["eval_ro s 0", "fcall_ro f 0", "memory usage k", "slowlog get", "sort_ro k", "hpexpiretime k fields 1 f", "vsim k ele e"], Read),
        (
            &["set k v", "getex k", "spop k", "georadius k 1 1 1 m", "georadiusbymember k m 1 m", "sort k", "publish c m", "spublish c m"],
            Write,
        ),
        (
            &["eval s 0", "evalsha s 0", "fcall f 0", "script load s", "function flush", "xgroup create k g 0", "flushall", "hgetdel k"],
            Write,
        ),
        (&["zremrangebyscore k 0 1", "migrate h 1 k 0 1", "restore-asking k 0 v", "msetex 1 k v"], Write),
        (&["wait 1 0", "waitaof 1 0 0"], Wait),
        (
            &[
                "blpop k 0",
                "brpop k 0",
                "blmove a b left left 0",
                "blmpop 0 1 k left",
                "brpoplpush a b 0",
                "bzpopmin k 0",
                "bzmpop 0 1 k min",
            ],
            Blocking,
        ),
        (
            &["client kill id 1", "client list", "client pause 1", "client unpause", "client unblock 1", "script kill", "function kill"],
            Once,
        ),
        (
            &[
                "shutdown",
                "failover",
                "debug sleep 1",
                "debug",
                "debug protocol push",
                "replicaof no one",
                "slaveof a 1",
                "acl deluser a",
                "save",
                "bgsave",
                "config set a b",
            ],
            Once,
        ),
        (&["function stats", "module load x", "cluster failover", "latency reset"], Once),
        (&["client tracking on", "client caching yes", "client getredir", "client trackinginfo", "client id", "client info"], CONNECTION),
        (&["asking", "readonly", "readwrite"], CONNECTION),
        (&["client reply off"], Class::Pinning(Pinning::Silent)),
        (&["script debug yes", "client no-evict on", "client no-touch on", "client capa redirect"], FOREVER),
        (&["client import-source on"], FOREVER),
        (&["subscribe c", "psubscribe c", "ssubscribe c", "unsubscribe", "punsubscribe", "sunsubscribe"], SUBSCRIBE),
        (&["monitor"], Class::Pinning(Pinning::Monitor)),
        (&["sync", "psync ? -1", "replconf ack 1", "cluster syncslots x"], Forbidden),
        (&["post / http/1.1", "host: example.com"], Hostile),
        (
            &[
                "gett k",
                "ge k",
                "json.get k",
                "ft.search i q",
                "object bogus k",
                "client bogus",
                "\u{e9}",
                "a-name-that-is-longer-than-any-known-one",
            ],
            Unknown,
        ),
        (&["auth p"], Class::Local(Local::Auth)),
        (&["hello 3"], Class::Local(Local::Hello)),
        (&["select 1"], Class::Local(Local::Select)),
        (&["quit"], Class::Local(Local::Quit)),
        (&["reset"], Class::Local(Local::Reset)),
        (&["client setname n"], Class::Local(Local::SetName)),
        (&["client getname"], Class::Local(Local::GetName)),
        (&["client setinfo lib-name n"], Class::Local(Local::SetInfo)),
        (&["client maint_notifications on"], Class::Local(Local::MaintNotifications)),
        (&["multi"], Class::Transaction(Transaction::Multi)),
        (&["exec"], Class::Transaction(Transaction::Exec)),
        (&["discard"], Class::Transaction(Transaction::Discard)),
        (&["watch k"], Class::Transaction(Transaction::Watch)),
        (&["unwatch"], Class::Transaction(Transaction::Unwatch)),
    ] {
        for line in lines {
            assert_eq!(class(line), expected, "{line}");
        }
    }
    assert_eq!(classify(b"*1\r\n$4\r\nGET\0\r\n"), Some(Unknown), "no padding is part of a name");
    assert_eq!(classify(b"*1\r\n$0\r\n\r\n"), Some(Unknown));
}

#[test]
fn streams_wait_when_they_are_told_to() {
    for (line, expected) in [
        ("xread streams k 0", Read),
        ("xread count 1 streams block 0", Read),
        ("xread block 0 streams k 0", Blocking),
        ("xread count 1 block 0 streams k 0", Blocking),
        ("xread count block streams k 0", Read),
        ("xread k 0", Blocking),
        ("xread", Blocking),
        ("xreadgroup group g c streams k >", Write),
        ("xreadgroup group block block noack claim 5 count 1 streams k >", Write),
        ("xreadgroup group streams streams block 0 streams k >", Blocking),
        ("xreadgroup noack group g c block 0 streams k >", Blocking),
        ("xreadgroup group g c newer streams k >", Blocking),
    ] {
        assert_eq!(class(line), expected, "{line}");
    }
    let frame = array("XREAD COUNT 1 STREAMS k 0");
    let end = frame.windows(7).position(|bytes| bytes == b"STREAMS").unwrap() + 7;
    assert_eq!(classify(&frame[..end - 1]), Some(Blocking));
    assert_eq!(classify(&frame[..end]), Some(Read));
}

#[test]
fn a_class_is_known_as_early_as_possible() {
    for (frame, expected) in [
        (&b""[..], None),
        (b"*2\r\n$3\r\nGE", None),
        (b"*2\r\n$3\r\nGET", Some(Read)),
        (b"*3\r\n$6\r\nCLIENT", None),
        (b"*3\r\n$6\r\nCLIENT\r\n$4\r\nKIL", None),
        (b"*3\r\n$6\r\nCLIENT\r\n$4\r\nKILL", Some(Once)),
        (b"*1\r\n$6\r\nCLIENT", Some(Read)),
        (b"GET k", None),
        (b"GET k\n", Some(Read)),
        (b"GET 'k\n", Some(Read)),
        (b"'GET k\n", Some(Unknown)),
        // Nobody waits for half a gigabyte of name.
        (b"*2\r\n$536870912\r\nGET", Some(Unknown)),
        (b"*3\r\n$6\r\nCLIENT\r\n$536870912\r\nKILL", Some(Unknown)),
        (b"*0\r\n", None),
        (b"*-1\r\n", None),
        (b" \r\n", None),
    ] {
        assert_eq!(classify(frame), expected, "{:?}", frame.escape_ascii().to_string());
    }
}

#[test]
fn every_entry_is_found_and_explained() {
    let mut seen = HashSet::new();
    for entry in entries() {
        assert!(seen.insert((entry.name, entry.subcommand)), "{entry:?} is there twice");
        assert!(!entry.why.is_empty() && !entry.name.is_empty());
        let words = [Some(entry.name), entry.subcommand];
        for word in words.iter().flatten() {
            assert!(word.len() <= LONGEST_NAME && !word.bytes().any(|byte| byte.is_ascii_lowercase()), "{word}");
        }
        let line = words.iter().flatten().copied().collect::<Vec<_>>().join(" ");
        let expected = if matches!(entry.name, "XREAD" | "XREADGROUP") { Blocking } else { entry.class };
        assert_eq!(class(&line), expected, "{line}");
    }
    assert!(seen.len() > 350, "{}", seen.len());
}

#[test]
fn early_classes_stay() {
    for entry in entries() {
        let words = [entry.name.as_bytes(), entry.subcommand.unwrap_or("STREAMS").as_bytes(), b"key", b"value"];
        fuzz_head(&encode(&words));
        fuzz_head(&[words.join(&b' ').as_slice(), b"\r\n"].concat());
    }
    for line in ["XREADGROUP GROUP BLOCK STREAMS COUNT 1 STREAMS k 0", "XREAD COUNT 1 BLOCK 0 STREAMS k 0", "XREAD BLOCK"] {
        fuzz_head(&array(line));
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(data in vec(any::<u8>(), 0..200)) {
        fuzz_head(&data);
    }

    #[test]
    fn nearly_requests_keep_their_class(data in vec(prop::sample::select(b"*$123\r\nGETCLINXRADSM \"'\\\0".to_vec()), 0..80)) {
        fuzz_head(&data);
    }

    #[test]
    fn commands_keep_their_class((entry, rest, at, byte) in (
        prop::sample::select(entries().collect::<Vec<_>>()),
        vec(prop::sample::select(vec!["BLOCK", "STREAMS", "COUNT", "GROUP", "NOACK", "1", "", "k"]), 0..8),
        any::<usize>(),
        any::<u8>(),
    )) {
        let mut words = vec![entry.name.as_bytes()];
        words.extend(entry.subcommand.map(str::as_bytes));
        words.extend(rest.iter().map(|word| word.as_bytes()));
        let mut frame = encode(&words);
        fuzz_head(&frame);
        let at = at % frame.len();
        frame[at] = byte;
        fuzz_head(&frame);
    }
}

/// `cargo test --release -p redis-tls-proxy table -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn nanoseconds_per_request() {
    const ROUNDS: u32 = 2_000_000;
    for line in [
        "GET key:000000000001",
        "SET key:000000000001 xxx",
        "EVALSHA 0123 1 k",
        "OBJECT FREQ k",
        "CLIENT LIST",
        "XREAD COUNT 1 STREAMS k 0",
        "JSON.GET k",
    ] {
        let frame = array(line);
        let best = (0..5)
            .map(|_| {
                let begin = tokio::time::Instant::now();
                for _ in 0..ROUNDS {
                    assert!(classify(black_box(&frame)).is_some());
                }
                begin.elapsed()
            })
            .min()
            .unwrap();
        println!("{line}: {:.1} ns", best.as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
}
