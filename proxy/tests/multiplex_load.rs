//! One client's habits are not another's delay, and nobody's memory: those that do not read, send halves, ask for much, leave, or are too many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod modes;
mod support;

use std::time::Duration;

use lab::Value;
use lab::resp::encode;
use modes::{Bed, Mode};
use support::reset_on_close;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

modes::in_every_mode!(
    a_client_that_does_not_read_delays_nobody,
    half_a_command_delays_nobody,
    half_a_large_value_delays_nobody,
    large_values_are_not_kept,
    a_pop_whose_client_has_left_eats_nothing,
    many_blocked_pops_delay_nobody,
    too_many_clients_are_told;
    pooled: leases_come_back_clean
);

/// With this many clients at work one after another.
const PATIENCE: Duration = Duration::from_secs(2);
const MIB: usize = 1024 * 1024;

/// Somebody else's life goes on: each answer at once.
async fn lives_on(bed: &Bed) {
    let mut client = bed.resp().await;
    let started = Instant::now();
    for i in 0..200 {
        assert_eq!(client.say(&["SET", "other", &i.to_string()]).await, "OK");
        assert_eq!(client.say(&["GET", "other"]).await, i.to_string());
    }
    assert!(started.elapsed() < PATIENCE, "400 requests took {:?}", started.elapsed());
}

/// The proxy's memory, or 0 without one.
fn memory(bed: &Bed) -> usize {
    bed.front().map_or(0, |front| usize::try_from(front.proxy.usage().unwrap().rss_bytes).unwrap())
}

async fn a_client_that_does_not_read_delays_nobody(mode: Mode) {
    const REQUESTS: usize = 100;
    let bed = Bed::start(mode).await;
    let value = vec![b'x'; MIB];
    bed.past().await.ask(&[b"SET", &b"large"[..], &value]).await;
    lives_on(&bed).await;
    let before = memory(&bed);
    let mut deaf = bed.narrow().await;
    deaf.write_all(&encode(&["GET", "large"]).repeat(REQUESTS)).await.unwrap();
    for _ in 0..3 {
        lives_on(&bed).await;
    }
    let grown = memory(&bed).saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes are kept for one who does not read");
    // Late, all that comes is right; a shared connection may have been closed to it by now.
    let (mut heard, mut buffer) = (0, vec![0; 256 * 1024]);
    let reply = [format!("${MIB}\r\n").as_bytes(), &value, b"\r\n"].concat();
    while heard < reply.len() * REQUESTS {
        match timeout(support::SOON, deaf.read(&mut buffer)).await.expect("neither bytes nor an end") {
            Ok(read @ 1..) => {
                let mut got = &buffer[..read];
                while !got.is_empty() {
                    let rest = &reply[heard % reply.len()..];
                    let (now, later) = got.split_at(got.len().min(rest.len()));
                    assert!(now == &rest[..now.len()], "something else after {heard} bytes");
                    (got, heard) = (later, heard + now.len());
                }
            }
            _ => {
                assert_eq!(mode, Mode::Multiplex, "closed after {heard} bytes\n{}", bed.log());
                break;
            }
        }
    }
    lives_on(&bed).await;
}

async fn half_a_command_delays_nobody(mode: Mode) {
    let bed = Bed::start(mode).await;
    let whole = encode(&["SET", "half", "value"]);
    let mut halves = Vec::new();
    for cut in 1..whole.len() {
        let mut client = bed.resp().await;
        client.raw(&whole[..cut]).await;
        halves.push((client, cut));
    }
    lives_on(&bed).await;
    for (mut client, cut) in halves {
        client.raw(&whole[cut..]).await;
        assert_eq!(client.read().await, Value::ok(), "cut at {cut}");
    }
}

async fn half_a_large_value_delays_nobody(mode: Mode) {
    let bed = Bed::start(mode).await;
    let whole = encode(&[b"SET", &b"half"[..], &vec![b'x'; 8 * MIB]]);
    let (first, second) = whole.split_at(whole.len() / 2);
    let (mut slow, mut dying, mut other) = (bed.resp().await, bed.resp().await, bed.resp().await);
    assert_eq!(other.say(&["PING"]).await, "PONG");
    slow.raw(first).await;
    dying.raw(first).await;
    lives_on(&bed).await;
    reset_on_close(dying.stream());
    drop(dying);
    lives_on(&bed).await;
    assert_eq!(other.ask(&["EXISTS", "half"]).await, Value::Int(0));
    slow.raw(second).await;
    assert_eq!(slow.read().await, Value::ok());
    assert_eq!(other.ask(&["STRLEN", "half"]).await, Value::Int(8 * 1024 * 1024));
}

async fn large_values_are_not_kept(mode: Mode) {
    const LENGTH: usize = 48 * MIB;
    let bed = Bed::start(mode).await;
    lives_on(&bed).await;
    let before = memory(&bed);
    let value = (0..=u8::MAX).collect::<Vec<_>>().repeat(LENGTH / 256);
    let mut client = bed.resp().await;
    assert_eq!(client.ask(&[b"SET", &b"large"[..], &value]).await, Value::ok());
    let grown = memory(&bed).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more after a request of {LENGTH}");
    assert!(client.ask(&["GET", "large"]).await == Value::Bulk(value), "the value changed");
    let grown = memory(&bed).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more after a reply of {LENGTH}");
    assert_eq!(client.say(&["PING"]).await, "PONG");
}

async fn a_pop_whose_client_has_left_eats_nothing(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut other = bed.resp().await;
    let pops: [&[&str]; 5] = [
        &["BLPOP", "queue", "0"],
        &["BRPOPLPUSH", "queue", "elsewhere", "0"],
        &["BLMOVE", "queue", "elsewhere", "LEFT", "LEFT", "0"],
        &["BLMPOP", "0", "1", "queue", "LEFT"],
        &["XREAD", "BLOCK", "0", "STREAMS", "stream", "$"],
    ];
    for pop in pops {
        for reset in [false, true] {
            let mut client = bed.resp().await;
            client.send(pop).await;
            bed.wait_blocked(1.0).await;
            if reset {
                reset_on_close(client.stream());
            }
            drop(client);
            bed.wait_blocked(0.0).await;
            assert_eq!(other.ask(&["RPUSH", "queue", "job"]).await, Value::Int(1), "{pop:?}");
            assert_eq!(other.ask(&["LRANGE", "queue", "0", "-1"]).await, Value::Array(vec![Value::Bulk(b"job".to_vec())]), "{pop:?}");
            assert_eq!(other.ask(&["DEL", "queue", "elsewhere"]).await, Value::Int(1));
        }
    }
}

async fn many_blocked_pops_delay_nobody(mode: Mode) {
    const MANY: usize = 50;
    let bed = Bed::start(mode).await;
    let mut blocked = Vec::new();
    for i in 0..MANY {
        let mut client = bed.resp().await;
        client.send(&["BLPOP", &format!("queue:{i}"), "0"]).await;
        blocked.push(client);
    }
    bed.wait_blocked(50.0).await;
    lives_on(&bed).await;
    let mut other = bed.resp().await;
    for i in (0..MANY).rev() {
        assert_eq!(other.ask(&["RPUSH", &format!("queue:{i}"), &i.to_string()]).await, Value::Int(1));
    }
    for (i, client) in blocked.iter_mut().enumerate() {
        let job = [format!("queue:{i}"), i.to_string()].map(|text| Value::Bulk(text.into_bytes())).to_vec();
        assert_eq!(client.read().await, Value::Array(job));
    }
}

async fn too_many_clients_are_told(mode: Mode) {
    // The server's own connections do not count at the proxy, and the proxy's few do not matter to the server.
    let bed = Bed::with(mode, |redis| if mode == Mode::Direct { redis.max_clients(2) } else { redis }, &["--max-clients", "2"]).await;
    let (mut one, mut two) = (bed.resp().await, bed.resp().await);
    assert_eq!((one.say(&["PING"]).await, two.say(&["PING"]).await), ("PONG".into(), "PONG".into()));
    let mut three = bed.resp().await;
    assert_eq!(three.read().await, Value::Error("ERR max number of clients reached".into()));
    three.ends().await;
    drop(two);
    let deadline = Instant::now() + support::SOON;
    loop {
        let mut next = bed.resp().await;
        if matches!(next.try_ask(&["PING"]).await, Ok(Value::Simple(pong)) if pong == "PONG") {
            break;
        }
        assert!(Instant::now() < deadline, "the place of one that left stays taken");
    }
    assert_eq!(one.say(&["PING"]).await, "PONG");
}

async fn leases_come_back_clean(mode: Mode) {
    let bed = Bed::with(mode, |redis| redis, &["--pool-size", "8", "--workers", "1"]).await;
    let states: [&[&[&str]]; 8] = [
        &[&["WATCH", "k"]],
        &[&["MULTI"], &["SET", "k", "never"]],
        &[&["SUBSCRIBE", "ch"]],
        &[&["SELECT", "5"], &["WATCH", "k"]],
        &[&["HELLO", "3"], &["CLIENT", "TRACKING", "ON"]],
        &[&["CLIENT", "NO-EVICT", "ON"]],
        &[&["CLIENT", "SETNAME", "me"], &["CLIENT", "ID"]],
        &[&["BLPOP", "nothing", "0.001"]],
    ];
    for (round, state) in std::iter::repeat_n(states, 3).flatten().enumerate() {
        let mut client = bed.resp().await;
        for command in state {
            let reply = client.ask(command).await;
            assert!(!reply.is_error(), "{command:?}: {reply:?}");
        }
        drop(client);
        let mut next = bed.resp().await;
        // A pin, so that it is given a connection which somebody had before.
        assert_eq!(next.say(&["WATCH", "another"]).await, "OK", "round {round}");
        assert_eq!(next.ask(&["CLIENT", "GETNAME"]).await, Value::Null);
        assert_eq!(next.ask(&["HGETALL", "nothing"]).await, Value::Array(vec![]));
        assert_eq!(next.ask(&["SET", "k", &round.to_string()]).await, Value::ok());
        assert_eq!(next.say(&["MULTI"]).await, "OK");
        assert_eq!(next.ask(&["EXEC"]).await, Value::Array(vec![]));
        let found = bed.redis.admin(&["GET", "k"]).await.unwrap().text();
        assert_eq!(found, round.to_string(), "written to database 0");
    }
    assert!(bed.redis.clients().await.unwrap() <= 8, "more upstream connections than the pool may have");
}
