//! Ready connections: counted, never dead, replaced in time; and what clients see when the server dies, freezes, moves or is overrun.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lab::wait::until_some;
use lab::{Authority, Gate, Hosts, Leaf, Postgres, Proxy, Redis, Resp, Side, free_port, until};
use support::{Front, PROGRAM, SOON, Trust, arguments_for, front, redis_front, redis_url, text, tls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

const UNREACHABLE: &str = "ERR redis-tls-proxy: the server cannot be reached";
const NO_ANSWER: &str = "ERR redis-tls-proxy: the server did not answer in time";
const TLS_FAILED: &str = "ERR redis-tls-proxy: TLS to the server failed";
const BROKE: &str = "ERR redis-tls-proxy: the connection to the server failed";
const LOGIN_REFUSED: &str = "ERR redis-tls-proxy: the server refused the proxy's login";

/// A proxy behind whose back a gate stands before a real Redis.
async fn gated(redis: &Redis, arguments: &[&str]) -> (Gate, Front) {
    let gate = Gate::start(redis.address()).await.unwrap();
    let front = front(&redis_url(gate.port()), &redis.ca_file(), arguments).await;
    (gate, front)
}

/// What a new client hears in answer to PING, and how long that took.
async fn ping(front: &Front) -> (String, Duration) {
    let started = Instant::now();
    let answer = timeout(SOON, async { front.resp().await.command(&["PING"]).await }).await.expect("neither an answer nor an end");
    (answer.unwrap_or_else(|error| panic!("{error:#}\n{}", front.proxy.stderr())).text(), started.elapsed())
}

#[tokio::test]
async fn clients_get_ready_connections() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--pool-min-idle", "4"]).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        front.wait_idle(4.0).await;
        let mut client = front.resp().await;
        assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG");
        clients.push(client);
    }
    assert_eq!(front.metric("leases_total", &[("outcome", "warm")]).await, 10.0);
    assert_eq!(front.metric("leases_total", &[]).await, 10.0);
    assert_eq!(front.metric("upstream_connections", &[("state", "leased")]).await, 10.0);
    front.wait_idle(4.0).await;
    assert_eq!(redis.clients().await.unwrap(), 14);
    drop(clients);
    front.wait("upstream_connections", &[("state", "leased")], |leased| leased == 0.0).await;
    assert_eq!(front.metric("evictions_total", &[]).await, 0.0);
}

#[tokio::test]
async fn without_a_stock_every_client_waits_for_a_handshake() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--pool-min-idle", "0"]).await;
    assert_eq!(ping(&front).await.0, "PONG");
    assert_eq!(front.metric("leases_total", &[("outcome", "cold")]).await, 1.0);
    assert_eq!(front.metric("leases_total", &[("outcome", "warm")]).await, 0.0);
}

/// The server closes what is idle for 3 s, the stock would keep it for 4 minutes.
#[tokio::test]
async fn no_client_is_given_a_connection_that_the_server_has_closed() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).timeout(3).start().await.unwrap();
    // So many that each waits longer than that for its client.
    let front = redis_front(&redis, &["--pool-min-idle", "60"]).await;
    front.wait_idle(60.0).await;
    let started = Instant::now();
    let mut tick = interval(Duration::from_millis(150));
    let (mut served, mut crossed) = (0.0, 0);
    while started.elapsed() < Duration::from_secs(11) {
        tick.tick().await;
        let answer = timeout(SOON, async { front.resp().await.command(&["PING"]).await }).await.expect("neither an answer nor an end");
        // The server may close one in the very moment between its being given away and the request: nobody can see that one.
        crossed += u32::from(answer.is_err());
        served += 1.0;
    }
    assert!(crossed <= 2, "{crossed} of {served} were given a closed connection");
    let closed = front.metric("evictions_total", &[("reason", "server_closed")]).await;
    assert!(closed >= 1.0, "the server closed nothing");
    assert!(front.metric("leases_total", &[("outcome", "warm")]).await > served * 0.9, "most of {served} find a ready one");
    assert_eq!(front.metric("errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn connections_that_grow_old_are_replaced() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--pool-min-idle", "4", "--pool-max-idle-age", "1s"]).await;
    front.wait("evictions_total", &[("reason", "idle_age")], |count| count >= 8.0).await;
    front.wait_idle(4.0).await;
    assert_eq!(ping(&front).await.0, "PONG");
    let at_server = redis.clients().await.unwrap();
    assert!(at_server <= 9, "old connections are closed: {at_server} are open");
}

#[tokio::test]
async fn a_server_that_refuses_connections_is_said_to_be_unreachable() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "0"]).await;
    gate.refuse().await.unwrap();
    let (answer, lasted) = ping(&front).await;
    assert_eq!(answer, UNREACHABLE);
    assert!(lasted < Duration::from_secs(1), "{lasted:?}");
    assert!(front.errors("tcp").await >= 1.0);
    gate.clear().await.unwrap();
    assert_eq!(ping(&front).await.0, "PONG");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_the_connect_timeout() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "0", "--connect-timeout", "1s"]).await;
    gate.hold().await.unwrap();
    let (answer, lasted) = ping(&front).await;
    assert_eq!(answer, NO_ANSWER);
    assert!(lasted > Duration::from_millis(900) && lasted < Duration::from_secs(3), "{lasted:?}");
    assert!(front.errors("timeout").await >= 1.0);
    gate.clear().await.unwrap();
    assert_eq!(ping(&front).await.0, "PONG");
}

#[tokio::test]
async fn a_server_that_dies_in_the_handshake_is_a_tls_failure() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "0"]).await;
    gate.cut_after(Side::Server, 100);
    let (answer, lasted) = ping(&front).await;
    assert_eq!(answer, TLS_FAILED);
    assert!(lasted < Duration::from_secs(2), "{lasted:?}");
    assert!(front.errors("tls_refused").await >= 1.0);
    gate.clear().await.unwrap();
    assert_eq!(ping(&front).await.0, "PONG");
}

#[tokio::test]
async fn a_server_that_fails_in_the_login_is_reported_and_forgiven() {
    const DIES: u8 = 0;
    const STAYS_SILENT: u8 = 1;
    const REFUSES: u8 = 2;
    const TALKS_NONSENSE: u8 = 3;
    const WORKS: u8 = 4;
    let trust = Trust::new();
    let mood = Arc::new(AtomicU8::new(DIES));
    let shared = Arc::clone(&mood);
    let server = tls_server(trust.server_config(), move |mut stream| {
        let mood = Arc::clone(&shared);
        async move {
            let mut request = [0; 1024];
            while let Ok(read) = stream.read(&mut request).await
                && read > 0
            {
                let request = text(&request[..read]);
                let answer: &[u8] = match mood.load(Ordering::SeqCst) {
                    DIES => return,
                    STAYS_SILENT => b"",
                    REFUSES => b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
                    TALKS_NONSENSE => b"HTTP/1.1 400 Bad Request\r\n",
                    _ if request.contains("AUTH") => b"+OK\r\n",
                    _ => b"+PONG\r\n",
                };
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let url = format!("rediss://app:secret@localhost:{}", server.port());
    let front = front(&url, &trust.ca, &["--pool-min-idle", "0", "--connect-timeout", "1s"]).await;
    for (state, words, kind) in
        [(DIES, BROKE, "io"), (STAYS_SILENT, NO_ANSWER, "timeout"), (REFUSES, LOGIN_REFUSED, "login"), (TALKS_NONSENSE, BROKE, "protocol")]
    {
        mood.store(state, Ordering::SeqCst);
        let (answer, lasted) = ping(&front).await;
        assert_eq!(answer, words);
        assert!(lasted < Duration::from_secs(3), "{words}: {lasted:?}");
        assert_eq!(front.errors(kind).await, 1.0, "{kind}");
    }
    mood.store(WORKS, Ordering::SeqCst);
    assert_eq!(ping(&front).await.0, "PONG");
}

#[tokio::test]
async fn connections_that_die_in_the_stock_are_replaced_before_anyone_gets_them() {
    let authority = Authority::new().unwrap();
    let mut redis = Redis::start(&authority).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "4"]).await;
    for round in 1..=5 {
        front.wait_idle(4.0).await;
        let doomed: Vec<_> = gate.connections();
        doomed.iter().for_each(|link| if round % 2 == 0 { link.cut() } else { link.reset_both() });
        let last = doomed.last().unwrap().id();
        until("the gate has closed them", SOON, || gate.connections().iter().all(|link| link.id() > last)).await.unwrap();
        assert_eq!(ping(&front).await.0, "PONG", "round {round}");
        front.wait("evictions_total", &[("reason", "server_closed")], |count| count >= 3.0 * f64::from(round)).await;
    }
    redis.crash();
    front.wait("upstream_connections", &[("state", "idle")], |idle| idle == 0.0).await;
    let (answer, lasted) = ping(&front).await;
    // The gate resets a connection that it cannot carry on.
    assert!([UNREACHABLE, TLS_FAILED, BROKE].contains(&answer.as_str()), "{answer}");
    assert!(lasted < Duration::from_secs(2));
    redis.restart().await.unwrap();
    assert_eq!(ping(&front).await.0, "PONG", "a client does not wait for the stock's own pause");
    // The stock fills up again by itself, once its pause is over.
    front
        .proxy
        .wait_metric("redis_tls_proxy_upstream_connections", &[("state", "idle")], Duration::from_secs(15), |n| n >= 4.0)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_dies_within_a_reply_ends_its_client_at_once() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    redis.admin(&[b"SET".as_slice(), b"large", &vec![b'x'; 4 * 1024 * 1024]]).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "1"]).await;
    for cut in [true, false] {
        gate.cut_after(Side::Server, 1_000_000);
        let mut client = front.resp().await;
        let started = Instant::now();
        if cut {
            let error = timeout(SOON, client.command(&["GET", "large"])).await.unwrap().unwrap_err();
            assert!(format!("{error:#}").contains("cut short"), "{error:#}");
        } else {
            gate.set(|faults| faults.cut_after_server = None);
            client.command(&["PING"]).await.unwrap();
            gate.slow(64 * 1024, Duration::from_millis(20));
            client.send(&["GET", "large"]).await.unwrap();
            until("half a reply", SOON, || gate.connections().iter().any(|link| link.bytes(Side::Server) > 500_000)).await.unwrap();
            gate.reset_both();
            let error = timeout(SOON, client.read()).await.unwrap().unwrap_err();
            assert!(format!("{error:#}").contains("reset"), "{error:#}");
        }
        assert!(started.elapsed() < Duration::from_secs(3));
        gate.clear().await.unwrap();
        assert_eq!(ping(&front).await.0, "PONG");
    }
}

#[tokio::test]
async fn a_postgres_client_hears_of_a_dead_server_in_its_own_protocol() {
    let trust = Trust::new();
    let nobody = free_port().unwrap();
    let front = front(&format!("postgresql://localhost:{nobody}"), &trust.ca, &["--pool-min-idle", "0"]).await;
    let mut client = front.tcp().await;
    client.write_all(b"\0\0\0\x12\0\x03\0\0user\0app\0\0").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = text(&answer);
    assert!(answer.starts_with('E') && answer.contains("C08006\0") && answer.contains("the server cannot be reached"), "{answer:?}");
    assert!(!answer.contains(&nobody.to_string()), "addresses are none of the client's business");
}

/// The kernel of a frozen server goes on acknowledging until its buffer is full; from then on the data is not taken and the clock runs.
#[tokio::test]
async fn a_frozen_server_is_noticed_within_the_user_timeout() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--pool-min-idle", "1", "--tcp-user-timeout", "2s", "--tcp-keepalive", "1s"]).await;
    let mut client = front.tcp().await;
    client.write_all(b"PING\r\n").await.unwrap();
    client.read_exact(&mut [0; 7]).await.unwrap();
    redis.freeze();
    let started = Instant::now();
    let value = vec![b'x'; 1024 * 1024];
    let stuck = async {
        loop {
            client.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n").await?;
            client.write_all(&value).await?;
            client.write_all(b"\r\n").await?;
        }
    };
    let ended: std::io::Result<()> = timeout(Duration::from_secs(20), stuck).await.expect("it must notice");
    ended.unwrap_err();
    let lasted = started.elapsed();
    assert!(lasted > Duration::from_millis(1500) && lasted < Duration::from_secs(8), "{lasted:?}");
    front.wait("clients_closed_total", &[("reason", "upstream_error")], |closed| closed == 1.0).await;
    assert_eq!(front.errors("timeout").await, 1.0, "{}", front.proxy.stderr());
    redis.thaw();
    assert_eq!(ping(&front).await.0, "PONG");
}

#[tokio::test]
async fn a_name_that_moves_takes_the_stock_with_it() {
    let Some(hosts) = Hosts::new().unwrap() else {
        eprintln!("skipped: this machine allows no private mounts (unshare)");
        return;
    };
    let authority = Authority::new().unwrap();
    let certificate = authority.issue(&Leaf::server().names(&["db.test"])).unwrap();
    let redis = Redis::builder(&authority).certificate(certificate).start().await.unwrap();
    let port = free_port().unwrap();
    let at = |last: u8| SocketAddr::from(([127, 0, 0, last], port));
    let (old, new) = (Gate::start_at(at(1), redis.address()).await.unwrap(), Gate::start_at(at(2), redis.address()).await.unwrap());
    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 1])]).unwrap();
    let listen = free_port().unwrap();
    let arguments = arguments_for(&format!("rediss://db.test:{port}"), &redis.ca_file(), listen, &["--pool-min-idle", "4"]);
    let proxy = Proxy::builder(PROGRAM).args(&arguments).hosts(&hosts).start().await.unwrap();
    let front = Front { proxy, port: listen };
    front.wait_idle(4.0).await;
    let mut client = front.resp().await;
    assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG");
    front.wait_idle(4.0).await;
    assert_eq!((old.open(), new.open()), (5, 0));

    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 2])]).unwrap();
    // Names are looked at every 5 s, and an address is gone after 10 s without it.
    old.wait_open(1, Duration::from_secs(18)).await.unwrap();
    front.wait_idle(4.0).await;
    assert_eq!(new.open(), 4);
    assert_eq!(front.metric("dns_changes_total", &[]).await, 1.0);
    assert_eq!(front.metric("evictions_total", &[("reason", "dns")]).await, 4.0);
    assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG", "who is being served stays where he is");
    assert_eq!(ping(&front).await.0, "PONG");
    assert_eq!(front.metric("errors_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_of_clients_causes_a_queue_and_not_a_herd_of_handshakes() {
    const CLIENTS: usize = 200;
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let (gate, front) = gated(&redis, &["--pool-min-idle", "0", "--workers", "1", "--pool-wait-timeout", "60s"]).await;
    gate.delay(Duration::from_millis(5));
    let mut herd = JoinSet::new();
    for _ in 0..CLIENTS {
        let address = front.address();
        herd.spawn(async move {
            let mut client = Resp::connect(address).await.unwrap();
            (client.command(&["PING"]).await.unwrap().text(), client)
        });
    }
    let mut most: f64 = 0.0;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        tokio::select! {
            Some(served) = herd.join_next() => {
                let (answer, client) = served.unwrap();
                assert_eq!(answer, "PONG");
                clients.push(client);
            }
            connecting = front.metric("upstream_connections", &[("state", "connecting")]) => most = most.max(connecting),
        }
    }
    assert!(most >= 4.0, "the samples missed it all: {most}");
    assert!(most <= 16.0, "{most} handshakes at one time on one worker");
    assert_eq!(gate.open(), CLIENTS);
    assert_eq!(front.metric("errors_total", &[]).await, 0.0);
    assert_eq!(front.metric("clients_rejected_total", &[]).await, 0.0);
}

/// A crashed PostgreSQL waits for every connection that it still accepted and that says nothing.
#[tokio::test]
async fn a_postgresql_that_crashes_is_back_at_once() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::start(&authority).await.unwrap();
    let url = format!("postgresql://localhost:{}", postgres.port());
    let front = front(&url, &postgres.ca_file(), &["--pool-min-idle", "8"]).await;
    front.wait_idle(8.0).await;
    let victim = postgres.sql("select pid from pg_stat_activity where backend_type = 'background writer'").await.unwrap();
    assert!(Command::new("kill").args(["-9", victim.trim()]).status().unwrap().success());
    until_some("PostgreSQL to recover", Duration::from_secs(10), || async { postgres.sql("select 1").await.ok() }).await.unwrap();
    front.wait_idle(8.0).await;
}
