//! What Harbor's components really send, byte by byte: redigo's and go-redis' handshakes, scripts, pipelines, locks and health checks.
//!
//! At a locked door, as Harbor is installed: clients say a local password, with the user name `redis` that older charts cannot leave out, or none.
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
use modes::{Bed, CLIENT_PASSWORD, Client, Mode};
use support::SOON;
use tokio::time::{Instant, sleep};

modes::in_every_mode!(
    redigo_logs_in_with_and_without_a_user,
    go_redis_shakes_hands,
    a_wrong_password_is_refused_in_the_servers_words,
    job_service_fetches_jobs,
    job_service_beats_without_reading,
    job_service_moves_a_job_in_one_transaction,
    the_dashboard_dials_for_every_command,
    trivy_hears_of_scans_until_the_server_is_lost,
    the_registry_comes_in_bursts,
    core_keeps_sessions,
    core_locks_and_scans,
    core_notices_that_the_server_is_away,
    a_quota_is_updated_under_watch,
);

/// redigo's writer: 4 KiB go out as soon as they are full.
const REDIGO_BUFFER: usize = 4096;

fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::Bulk(text.as_ref().to_vec())
}

/// As redigo dials: AUTH, then SELECT, each awaited.
async fn redigo(bed: &Bed, database: u8) -> Client {
    let mut client = bed.resp().await;
    assert_eq!(client.say(&["AUTH", "redis", CLIENT_PASSWORD]).await, "OK", "{}", bed.log());
    assert_eq!(client.say(&["SELECT", &database.to_string()]).await, "OK");
    client
}

/// As go-redis dials: HELLO 3 with the password, SELECT, then what a server may not know.
async fn go_redis(bed: &Bed, database: u8) -> Client {
    let mut client = bed.resp().await;
    let hello = client.ask(&["hello", "3", "auth", "default", CLIENT_PASSWORD]).await;
    let Value::Map(items) = hello else { panic!("{hello:?}\n{}", bed.log()) };
    assert!(items.chunks(2).any(|pair| pair == [bulk("proto"), Value::Int(3)]), "{items:?}");
    if database > 0 {
        assert_eq!(client.say(&["select", &database.to_string()]).await, "OK");
    }
    let refused = client.ask(&["client", "maint_notifications", "on", "moving-endpoint-type", "internal-ip"]).await;
    assert!(refused.is_error(), "{refused:?}");
    client
        .raw(
            &[encode(&["client", "setinfo", "LIB-NAME", "go-redis(,go1.26)"]), encode(&["client", "setinfo", "LIB-VER", "9.17.2"])]
                .concat(),
        )
        .await;
    // Known from 7.2 on; go-redis ignores what comes.
    for _ in 0..2 {
        let reply = client.read().await;
        assert!(reply == Value::ok() || reply.is_error(), "{reply:?}");
    }
    client
}

/// redigo's TestOnBorrow.
async fn borrowed(client: &mut Client) -> &mut Client {
    assert_eq!(client.say(&["PING"]).await, "PONG");
    client
}

async fn redigo_logs_in_with_and_without_a_user(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    for login in [&["AUTH", "redis", CLIENT_PASSWORD][..], &["AUTH", CLIENT_PASSWORD], &["AUTH", "default", CLIENT_PASSWORD]] {
        let mut client = bed.resp().await;
        assert_eq!(client.say(login).await, "OK", "{}", bed.log());
        assert_eq!(client.say(&["SELECT", "1"]).await, "OK");
        assert_eq!(borrowed(&mut client).await.say(&["SET", "k", "v"]).await, "OK");
    }
    assert_eq!(redigo(&bed, 1).await.say(&["GET", "k"]).await, "v");
    assert_eq!(redigo(&bed, 2).await.ask(&["GET", "k"]).await, Value::Null);
}

async fn go_redis_shakes_hands(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let (mut core, mut registry) = (go_redis(&bed, 0).await, go_redis(&bed, 2).await);
    assert_eq!(core.say(&["set", "k", "core"]).await, "OK");
    assert_eq!(registry.ask(&["get", "k"]).await, Value::Null);
    assert_eq!(core.ask(&["hset", "h", "f", "v"]).await, Value::Int(1));
    assert_eq!(core.ask(&["hgetall", "h"]).await, Value::Map(vec![bulk("f"), bulk("v")]));
    // The handshake in one go, as a library may send it.
    let mut client = bed.resp().await;
    let all = [
        encode(&["hello", "3", "auth", "redis", CLIENT_PASSWORD, "setname", "worker"]),
        encode(&["select", "1"]),
        encode(&["client", "getname"]),
        encode(&["ping"]),
    ];
    client.raw(&all.concat()).await;
    assert!(matches!(client.read().await, Value::Map(_)));
    assert_eq!(
        (client.read().await, client.read().await.text(), client.read().await.text()),
        (Value::ok(), "worker".into(), "PONG".into())
    );
}

async fn a_wrong_password_is_refused_in_the_servers_words(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let mut client = bed.resp().await;
    for login in [&["AUTH", "redis", "guess"][..], &["AUTH", "guess"], &["HELLO", "3", "AUTH", "redis", "guess"]] {
        assert_eq!(client.say(login).await, "WRONGPASS invalid username-password pair or user is disabled.", "{login:?}");
        assert_eq!(client.say(&["GET", "k"]).await, "NOAUTH Authentication required.", "{login:?}");
    }
    assert!(client.say(&["HELLO", "3"]).await.starts_with("NOAUTH HELLO must be called with the client already authenticated"));
    assert_eq!(client.say(&["AUTH", "redis", CLIENT_PASSWORD]).await, "OK");
    assert_eq!(client.ask(&["GET", "k"]).await, Value::Null);
}

/// gocraft/work's fetch: 17 kinds of jobs with six keys each.
fn fetch(command: &str, script: &str) -> Vec<u8> {
    let kinds = (0..17).map(|kind| format!("{{harbor_job_service_namespace}}:jobs:A_KIND_OF_JOB_{kind:02}"));
    let keys = kinds.flat_map(|kind| {
        ["", ":inprogress:0123456789ab", ":paused", ":lock", ":lock_info", ":max_concurrency"].map(|end| kind.clone() + end)
    });
    let mut words = vec![command.to_owned(), script.to_owned(), "102".to_owned()];
    words.extend(keys);
    words.push("0123456789abcdef01234567".to_owned());
    encode(&words)
}

const FETCH: &str = "for i = 1, #KEYS, 6 do local job = redis.call('rpoplpush', KEYS[i], KEYS[i + 1]) \
                     if job then redis.call('incr', KEYS[i + 3]) redis.call('hincrby', KEYS[i + 4], ARGV[1], 1) return {job, KEYS[i], KEYS[i + 1]} end end return nil";

async fn job_service_fetches_jobs(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let mut workers = Vec::new();
    for _ in 0..10 {
        workers.push(redigo(&bed, 1).await);
    }
    let sha = bed.redis.admin(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", FETCH]).await.unwrap().text();
    let (evalsha, eval) = (fetch("EVALSHA", &sha), fetch("EVAL", FETCH));
    assert!(evalsha.len() > 6000 && eval.len() > 6000, "{} {}", evalsha.len(), eval.len());
    // Nobody has loaded it: told so word by word, redigo sends the script.
    let first = &mut workers[0];
    borrowed(first).await.raw(&evalsha).await;
    assert_eq!(first.read().await, Value::Error("NOSCRIPT No matching script. Please use EVAL.".into()));
    first.raw(&eval).await;
    assert_eq!(first.read().await, Value::Null);

    let jobs = "{harbor_job_service_namespace}:jobs:A_KIND_OF_JOB_11";
    let mut pusher = redigo(&bed, 1).await;
    let mut got = Vec::new();
    for round in 0..5 {
        for i in 0..6 {
            assert_eq!(pusher.ask(&["LPUSH", jobs, &format!("job {round} {i}")]).await, Value::Int(i + 1));
        }
        for worker in &mut workers {
            // The first buffer and the rest are two writes.
            let (first, rest) = evalsha.split_at(REDIGO_BUFFER);
            borrowed(worker).await.raw(first).await;
            worker.raw(rest).await;
        }
        for worker in &mut workers {
            match worker.read().await {
                Value::Array(items) => got.push(items[0].text()),
                other => assert_eq!(other, Value::Null),
            }
        }
        assert_eq!(pusher.ask(&["LLEN", jobs]).await, Value::Int(0));
    }
    got.sort();
    let mut wanted: Vec<_> = (0..5).flat_map(|round| (0..6).map(move |i| format!("job {round} {i}"))).collect();
    wanted.sort();
    assert_eq!(got, wanted, "every job once");
}

async fn job_service_beats_without_reading(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let mut client = redigo(&bed, 1).await;
    let mut other = redigo(&bed, 1).await;
    for beat in 0..20 {
        let pools = encode(&["SADD", "{ns}:worker_pools", "pool"]);
        let pool = encode(&["HMSET", "{ns}:worker_pools:pool", "heartbeat_at", &beat.to_string(), "job_names", "a,b", "pid", "1"]);
        client.raw(&[pools, pool].concat()).await;
    }
    // What is not read has been done all the same.
    let deadline = Instant::now() + SOON;
    while other.say(&["HGET", "{ns}:worker_pools:pool", "heartbeat_at"]).await != "19" {
        assert!(Instant::now() < deadline, "the heartbeat stands still");
    }
    for beat in 0..20 {
        assert_eq!(client.read().await, Value::Int(i64::from(beat == 0)));
        assert_eq!(client.read().await, Value::ok());
    }
    assert_eq!(client.say(&["PING"]).await, "PONG");
}

async fn job_service_moves_a_job_in_one_transaction(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let mut client = redigo(&bed, 1).await;
    let job = format!("{{\"name\":\"GC\",\"id\":\"{}\"}}", "x".repeat(300));
    let commands: [&[&str]; 6] = [
        &["MULTI"],
        &["LREM", "{ns}:jobs:GC:inprogress", "1", &job],
        &["DECR", "{ns}:jobs:GC:lock"],
        &["HINCRBY", "{ns}:jobs:GC:lock_info", "pool", "-1"],
        &["ZADD", "{ns}:dead", "1700000000", &job],
        &["EXEC"],
    ];
    let buffer: Vec<_> = commands.iter().flat_map(|command| encode(command)).collect();
    let queued = || Value::Simple("QUEUED".into());
    let cuts = (1..buffer.len()).step_by(7).chain([buffer.len()]);
    for (round, cut) in cuts.enumerate() {
        borrowed(&mut client).await.ask(&["LPUSH", "{ns}:jobs:GC:inprogress", &job]).await;
        let (first, second) = buffer.split_at(cut);
        client.raw(first).await;
        client.raw(second).await;
        for wanted in [Value::ok(), queued(), queued(), queued(), queued()] {
            assert_eq!(client.read().await, wanted, "cut at {cut}");
        }
        let count = -i64::try_from(round).unwrap() - 1;
        let done = [Value::Int(1), Value::Int(count), Value::Int(count), Value::Int(i64::from(round == 0))];
        assert_eq!(client.read().await, Value::Array(done.to_vec()), "cut at {cut}");
    }
    // A connection that is given back in the middle is told to DISCARD.
    assert_eq!(client.say(&["MULTI"]).await, "OK");
    assert_eq!(client.say(&["LREM", "l", "1", "x"]).await, "QUEUED");
    assert_eq!(client.say(&["DISCARD"]).await, "OK");
    assert_eq!(client.say(&["PING"]).await, "PONG");
}

async fn the_dashboard_dials_for_every_command(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    redigo(&bed, 1).await.ask(&["SADD", "{ns}:known_jobs", "GC"]).await;
    for _ in 0..50 {
        let mut client = redigo(&bed, 1).await;
        assert_eq!(client.ask(&["SMEMBERS", "{ns}:known_jobs"]).await, Value::Array(vec![bulk("GC")]));
        drop(client);
        let mut client = redigo(&bed, 1).await;
        client
            .raw(&[encode(&["LLEN", "{ns}:jobs:GC"]), encode(&["LINDEX", "{ns}:jobs:GC", "-1"]), encode(&["HGETALL", "{ns}:x"])].concat())
            .await;
        assert_eq!((client.read().await, client.read().await, client.read().await), (Value::Int(0), Value::Null, Value::Array(vec![])));
    }
}

async fn trivy_hears_of_scans_until_the_server_is_lost(mode: Mode) {
    const CHANNEL: &str = "harbor.scanner.trivy:job-queue:jobs:scan_artifact";
    let bed = Bed::locked(mode, &[]).await;
    let mut publisher = go_redis(&bed, 5).await;
    for round in 0..3 {
        let mut subscriber = go_redis(&bed, 5).await;
        assert_eq!(subscriber.ask(&["subscribe", CHANNEL]).await, Value::Push(vec![bulk("subscribe"), bulk(CHANNEL), Value::Int(1)]));
        for i in 0..10 {
            let job = format!("{{\"id\":\"{round}-{i}\",\"request\":\"{}\"}}", "x".repeat(i * 500));
            assert_eq!(publisher.ask(&["publish", CHANNEL, &job]).await, Value::Int(1));
            assert_eq!(subscriber.read().await, Value::Push(vec![bulk("message"), bulk(CHANNEL), bulk(&job)]));
        }
        // When it is quiet, the library asks whether the connection still lives.
        assert_eq!(subscriber.say(&["ping"]).await, "PONG");
        bed.gate.cut();
        // Silence would be scans that wait for ever: a message to nobody is lost.
        subscriber.ends().await;
        publisher = again(&bed, 5).await;
        assert_eq!(publisher.ask(&["publish", CHANNEL, "nobody hears this"]).await, Value::Int(0));
    }
}

/// Dials until the server is there again, as clients do.
async fn again(bed: &Bed, database: u8) -> Client {
    let deadline = Instant::now() + SOON;
    loop {
        let mut client = bed.resp().await;
        if client.try_ask(&["hello", "3", "auth", "default", CLIENT_PASSWORD]).await.is_ok_and(|reply| !reply.is_error())
            && client.try_ask(&["select", &database.to_string()]).await.is_ok_and(|reply| reply == Value::ok())
        {
            return client;
        }
        assert!(Instant::now() < deadline, "the server is back and nobody notices\n{}", bed.log());
        sleep(Duration::from_millis(20)).await; // a new attempt
    }
}

async fn the_registry_comes_in_bursts(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let digest = |i: u32| format!("sha256:{i:064x}");
    let bursts = (0..30_u32).map(|pusher| {
        let bed = &bed;
        async move {
            let mut client = bed.resp().await;
            // The registry up to 2.14 knows no user name.
            assert_eq!(client.say(&["AUTH", CLIENT_PASSWORD]).await, "OK");
            assert_eq!(client.say(&["SELECT", "2"]).await, "OK");
            for i in 0..20 {
                let (blob, repository) = (format!("blobs::{}", digest(pusher * 100 + i)), format!("repository::library/{pusher}::blobs"));
                let media = "application/octet-stream";
                assert_eq!(
                    borrowed(&mut client).await.ask(&["HMGET", &blob, "digest", "size", "mediatype"]).await,
                    Value::Array(vec![Value::Null; 3])
                );
                assert_eq!(client.say(&["HMSET", &blob, "digest", &digest(i), "size", &i.to_string()]).await, "OK");
                assert_eq!(client.ask(&["HSETNX", &blob, "mediatype", media]).await, Value::Int(1));
                assert_eq!(client.ask(&["SADD", &repository, &digest(i)]).await, Value::Int(1));
                assert_eq!(client.ask(&["SISMEMBER", &repository, &digest(i)]).await, Value::Int(1));
                let known = vec![bulk(digest(i)), bulk(i.to_string()), bulk(media)];
                assert_eq!(client.ask(&["HMGET", &blob, "digest", "size", "mediatype"]).await, Value::Array(known));
            }
        }
    });
    futures_util::future::join_all(bursts).await;
}

async fn core_keeps_sessions(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(go_redis(&bed, 0).await);
    }
    for round in 0..10 {
        for (id, client) in clients.iter_mut().enumerate() {
            let (old, new) = (format!("session:{id}:{round}"), format!("session:{id}:{round}:new"));
            // Go's gob encoding is any bytes.
            let session: Vec<u8> = (0..=255).cycle().skip(id).take(700).collect();
            assert_eq!(client.ask(&["exists", &old]).await, Value::Int(0));
            assert_eq!(client.ask(&[b"set", old.as_bytes(), &session, b"ex", b"1800"]).await, Value::ok());
            assert_eq!(client.ask(&["get", &old]).await, bulk(&session));
            assert_eq!(client.say(&["rename", &old, &new]).await, "OK");
            assert_eq!(client.ask(&["expire", &new, "1800"]).await, Value::Int(1));
            assert_eq!(client.ask(&["get", &old]).await, Value::Null);
            assert_eq!(client.ask(&[b"set", new.as_bytes(), &session, b"xx", b"keepttl"]).await, Value::ok());
            assert_eq!(client.ask(&["del", &new]).await, Value::Int(1));
            assert_eq!(client.say(&["rename", &old, &new]).await, "ERR no such key");
        }
    }
}

async fn core_locks_and_scans(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let (mut one, mut two) = (redigo(&bed, 1).await, redigo(&bed, 1).await);
    assert_eq!(one.say(&["SET", "lock", "one", "NX", "EX", "30"]).await, "OK");
    assert_eq!(two.ask(&["SET", "lock", "two", "NX", "EX", "30"]).await, Value::Null);
    assert_eq!((two.say(&["GET", "lock"]).await, one.ask(&["DEL", "lock"]).await), ("one".into(), Value::Int(1)));

    let fill: Vec<_> = (0..5000).flat_map(|i| encode(&["SET", &format!("blobs::{i}"), "x"])).collect();
    one.raw(&fill).await;
    for _ in 0..5000 {
        assert_eq!(one.read().await, Value::ok());
    }
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    loop {
        let Value::Array(page) = two.ask(&["SCAN", &cursor, "MATCH", "blobs::*", "COUNT", "1000"]).await else { panic!("no page") };
        let Value::Array(found) = &page[1] else { panic!("no keys") };
        keys.extend(found.iter().map(Value::text));
        cursor = page[0].text();
        if cursor == "0" {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5000);
}

async fn core_notices_that_the_server_is_away(mode: Mode) {
    let bed = Bed::locked(mode, &["--pool-wait-timeout", "1s", "--connect-timeout", "1s"]).await;
    let (mut core, mut worker) = (go_redis(&bed, 0).await, redigo(&bed, 1).await);
    assert_eq!((core.say(&["ping"]).await, worker.say(&["PING"]).await), ("PONG".into(), "PONG".into()));
    bed.gate.refuse().await.unwrap();
    bed.gate.cut();
    for client in [&mut core, &mut worker] {
        let started = Instant::now();
        let told = client.try_ask(&["PING"]).await;
        assert!(told.as_ref().map_or(true, Value::is_error), "the server is away and PING says {told:?}");
        // Within the three seconds that core waits for an answer.
        assert!(started.elapsed() < Duration::from_secs(3), "told after {:?}", started.elapsed());
    }
    bed.gate.clear().await.unwrap();
    let mut core = again(&bed, 0).await;
    assert_eq!(core.say(&["ping"]).await, "PONG");
    // Another worker may still be pausing after its last try.
    assert_eq!(again(&bed, 1).await.say(&["PING"]).await, "PONG");
}

async fn a_quota_is_updated_under_watch(mode: Mode) {
    let bed = Bed::locked(mode, &[]).await;
    let attempts = (0..8).map(|_| {
        let bed = &bed;
        async move {
            let mut client = go_redis(bed, 0).await;
            let mut done = 0;
            while done < 10 {
                assert_eq!(client.say(&["watch", "quota"]).await, "OK");
                let used: i64 = client.say(&["get", "quota"]).await.parse().unwrap_or(0);
                let commands = [encode(&["multi"]), encode(&["set", "quota", &(used + 1).to_string(), "ex", "60"]), encode(&["exec"])];
                client.raw(&commands.concat()).await;
                assert_eq!((client.read().await, client.read().await.text()), (Value::ok(), "QUEUED".into()));
                match client.read().await {
                    Value::Null => {}
                    reply => {
                        assert_eq!(reply, Value::Array(vec![Value::ok()]));
                        done += 1;
                    }
                }
                assert_eq!(client.say(&["unwatch"]).await, "OK");
            }
        }
    });
    futures_util::future::join_all(attempts).await;
    assert_eq!(bed.redis.admin(&["GET", "quota"]).await.unwrap().text(), "80");
}
