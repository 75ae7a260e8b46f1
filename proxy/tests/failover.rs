//! Servers that are there but do not serve: read-only, loading, full, or no longer knowing the login.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

mod modes;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::redis::Builder;
use lab::{Gate, Hosts, Leaf, Proxy, Redis, Value, free_port};
use modes::{Client, Mode};
use support::{Front, PROGRAM, SOON, Trust, arguments_for, front};
use tokio::time::Instant;

/// A lane is not retired before it is so old.
const RETIRE_AFTER: Duration = Duration::from_millis(1100);

macro_rules! in_both_modes {
    ($($name:ident),+ $(,)?) => {
        mod session {
            $(#[tokio::test] async fn $name() { super::$name(super::Mode::Session).await; })+
        }
        mod multiplex {
            $(#[tokio::test] async fn $name() { super::$name(super::Mode::Multiplex).await; })+
        }
    };
}

in_both_modes!(
    a_failover_is_followed_by_name,
    a_read_only_server_is_asked_again_once_a_second,
    a_server_that_no_longer_knows_the_login_gets_another_connection,
    a_full_server_is_waited_for,
    a_loading_server_says_so,
);

async fn server(trust: &Trust, describe: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Redis {
    let certificate = trust.authority.issue(&Leaf::server().names(&["db.test", "localhost"])).unwrap();
    describe(Redis::builder(&trust.authority).certificate(certificate)).start().await.unwrap()
}

async fn proxy(mode: Mode, trust: &Trust, redis: &Redis, arguments: &[&str]) -> Front {
    let pool = ["--pool", mode.name(), "--workers", "1", "--pool-min-idle", "0"];
    front(&format!("rediss://localhost:{}", redis.port()), &trust.ca, &[&pool, arguments].concat()).await
}

async fn client(front: &Front) -> Client {
    Client::new(front.resp().await)
}

async fn replica(redis: &Redis) {
    redis.admin(&["REPLICAOF", "127.0.0.1", &free_port().unwrap().to_string()]).await.unwrap();
}

async fn a_failover_is_followed_by_name(mode: Mode) {
    let Some(hosts) = Hosts::new().unwrap() else {
        eprintln!("skipped: this machine allows no private mounts (unshare)");
        return;
    };
    let trust = Trust::new();
    let (old, new) = (server(&trust, |redis| redis).await, server(&trust, |redis| redis).await);
    let port = free_port().unwrap();
    let at = |last: u8| SocketAddr::from(([127, 0, 0, last], port));
    let (_old_gate, new_gate) = (Gate::start_at(at(1), old.address()).await.unwrap(), Gate::start_at(at(2), new.address()).await.unwrap());
    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 1])]).unwrap();
    let listen = free_port().unwrap();
    let pool = ["--pool", mode.name(), "--workers", "1", "--pool-min-idle", "2"];
    let arguments = arguments_for(&format!("rediss://db.test:{port}"), &trust.ca, listen, &pool);
    let proxy = Proxy::builder(PROGRAM).args(&arguments).hosts(&hosts).start().await.unwrap();
    let front = Front { proxy, port: listen };
    let mut writer = client(&front).await;
    assert_eq!(writer.say(&["SET", "k", "old"]).await, "OK");
    tokio::time::sleep(RETIRE_AFTER).await;

    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 2])]).unwrap();
    replica(&old).await;
    let refused = writer.say(&["SET", "k", "new"]).await;
    assert!(refused.starts_with("READONLY You can't write against a read only replica"), "{refused}");
    if mode == Mode::Session {
        // As on a direct connection: it stays where it is, and goes-redis and its kind connect anew.
        assert!(writer.say(&["SET", "k", "new"]).await.starts_with("READONLY"));
        drop(writer);
        writer = client(&front).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while writer.say(&["SET", "k", "new"]).await != "OK" {
            // Idle connections to the old address go when the name has been without it for a while.
            assert!(Instant::now() < deadline, "{}", front.proxy.stderr());
            drop(writer);
            writer = client(&front).await;
        }
    } else {
        assert_eq!(writer.say(&["SET", "k", "new"]).await, "OK", "the very next\n{}", front.proxy.stderr());
        assert!(front.metric("evictions_total", &[("reason", "read_only")]).await >= 1.0);
    }
    assert_eq!(new.admin(&["GET", "k"]).await.unwrap().text(), "new");
    assert_eq!(old.admin(&["GET", "k"]).await.unwrap().text(), "old");
    assert!(new_gate.accepted() >= 1);
}

async fn a_read_only_server_is_asked_again_once_a_second(mode: Mode) {
    let trust = Trust::new();
    let redis = server(&trust, |redis| redis).await;
    let front = proxy(mode, &trust, &redis, &[]).await;
    let mut writer = client(&front).await;
    assert_eq!(writer.say(&["SET", "k", "v"]).await, "OK");
    replica(&redis).await;
    let before = front.metric("tls_handshakes_total", &[]).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        assert!(writer.say(&["SET", "k", "x"]).await.starts_with("READONLY"));
        assert_eq!(writer.say(&["GET", "k"]).await, "v", "it may be read");
    }
    let again = front.metric("tls_handshakes_total", &[]).await - before;
    let expected = if mode == Mode::Session { 0.0..=0.0 } else { 1.0..=3.0 };
    assert!(expected.contains(&again), "{again} new connections in {:?}", started.elapsed());
    redis.admin(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    assert_eq!(writer.say(&["SET", "k", "x"]).await, "OK");
}

/// A script can say anything, so also what a server says to a connection whose user is gone.
async fn a_server_that_no_longer_knows_the_login_gets_another_connection(mode: Mode) {
    let trust = Trust::new();
    let redis = server(&trust, |redis| redis.password("s3cret")).await;
    let url = format!("rediss://:s3cret@localhost:{}", redis.port());
    let front = front(&url, &trust.ca, &["--pool", mode.name(), "--workers", "1", "--pool-min-idle", "0"]).await;
    let mut one = client(&front).await;
    assert_eq!(one.say(&["PING"]).await, "PONG");
    tokio::time::sleep(RETIRE_AFTER).await;
    let said = one.say(&["EVAL", "return redis.error_reply('NOAUTH Authentication required.')", "0"]).await;
    assert_eq!(said, "NOAUTH Authentication required.", "word by word");
    drop(one);
    let mut two = client(&front).await;
    assert_eq!(two.say(&["PING"]).await, "PONG");
    assert_eq!(front.metric("tls_handshakes_total", &[]).await, 2.0, "{}", front.proxy.stderr());
}

async fn a_full_server_is_waited_for(mode: Mode) {
    let trust = Trust::new();
    let redis = server(&trust, |redis| redis.max_clients(4).plain()).await;
    let front = proxy(mode, &trust, &redis, &["--pool-wait-timeout", "4s", "--pool-max-idle-age", "1s"]).await;
    let mut first = client(&front).await;
    assert_eq!(first.say(&["PING"]).await, "PONG");
    // Others take every place that is left.
    let mut others = Vec::new();
    while let Ok(mut other) = lab::Resp::connect(("127.0.0.1", redis.plain_port().unwrap())).await {
        if !other.command(&["PING"]).await.is_ok_and(|reply| reply.text() == "PONG") {
            break;
        }
        others.push(other);
    }
    assert!(!others.is_empty());
    let mut second = client(&front).await;
    second.send(&["BLPOP", "l", "0.1"]).await;
    second.is_silent(Duration::from_millis(300)).await;
    assert_eq!(first.say(&["PING"]).await, "PONG", "who has a connection does not notice");
    drop(others);
    assert_eq!(second.read().await, Value::Null, "{}", front.proxy.stderr());
    assert_eq!(front.metric("clients_open", &[]).await, 2.0);
}

async fn a_loading_server_says_so(mode: Mode) {
    let trust = Trust::new();
    let redis = server(&trust, |redis| redis).await;
    let front = proxy(mode, &trust, &redis, &[]).await;
    let mut first = client(&front).await;
    let value = "x".repeat(2000);
    let keys = (0..200).flat_map(|i| [format!("key:{i}"), value.clone()]);
    assert_eq!(first.say(&std::iter::once("MSET".to_owned()).chain(keys).collect::<Vec<_>>()).await, "OK");
    // Loads the file again, as at its start: for two seconds it answers nothing but that, and that after each key.
    let slowly = ["key-load-delay", "10000", "loading-process-events-interval-bytes", "1024", "rdbcompression", "no"];
    redis.admin(&[&["CONFIG", "SET"], &slowly[..]].concat()).await.unwrap();
    let reload = tokio::spawn({
        let socket = redis.dir().join("redis.sock");
        async move {
            let mut admin = lab::Resp::new(tokio::net::UnixStream::connect(socket).await.unwrap());
            admin.command(&["DEBUG", "RELOAD"]).await.unwrap()
        }
    });
    let deadline = Instant::now() + 6 * SOON;
    let mut heard = 0;
    loop {
        let mut fresh = client(&front).await;
        let answer = fresh.say(&["GET", "key:199"]).await;
        if answer.starts_with("LOADING") {
            assert_eq!(answer, "LOADING Redis is loading the dataset in memory", "word by word");
            heard += 1;
        } else {
            assert!(answer == value, "{answer}");
            if reload.is_finished() {
                break;
            }
        }
        assert!(Instant::now() < deadline, "{}", front.proxy.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await; // between two tries
    }
    assert!(heard > 0, "it was never seen to load");
    assert_eq!(reload.await.unwrap(), Value::ok());
    assert_eq!(first.say(&["GET", "key:0"]).await, value, "it was closed by nobody");
}
