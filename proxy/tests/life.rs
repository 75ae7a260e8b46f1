//! The limits of the process: too many clients, no descriptors, no time for probes; and a successor on the same port.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lab::process::Signal;
use lab::{Authority, Leaf, Proxy, Redis, Resp, free_port, until};
use support::{Front, PROGRAM, SOON, Trust, arguments_for, ask, exit_code, front, redis_front, redis_url, startup, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

enum Outcome {
    Served(Resp<TcpStream>),
    Refused(String),
    Closed,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_clients_find_a_thousand_places() {
    const CLIENTS: usize = 5_000;
    const PLACES: usize = 1_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    if limit.maximum.is_some_and(|maximum| maximum < 4_096) {
        eprintln!("skipped: a thousand clients need more than {:?} descriptors", limit.maximum);
        return;
    }
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--max-clients", "1000"]).await;
    let (address, at_one_time) = (front.address(), Arc::new(Semaphore::new(50)));
    let mut crowd = JoinSet::new();
    for _ in 0..CLIENTS {
        let turn = Arc::clone(&at_one_time);
        crowd.spawn(async move {
            let _turn = turn.acquire().await.unwrap();
            // One that is refused leaves at once, as patience with it is limited.
            match timeout(SOON, ask(address)).await.expect("neither an answer nor an end") {
                Ok((client, answer)) if answer == "PONG" => Outcome::Served(client),
                Ok((_, answer)) => Outcome::Refused(answer),
                Err(_) => Outcome::Closed,
            }
        });
    }
    let (mut served, mut refused, mut closed) = (Vec::new(), 0, 0);
    while let Some(outcome) = crowd.join_next().await {
        match outcome.unwrap() {
            Outcome::Served(client) => served.push(client),
            Outcome::Refused(words) => {
                assert_eq!(words, "ERR max number of clients reached");
                refused += 1;
            }
            Outcome::Closed => closed += 1,
        }
    }
    assert_eq!((served.len(), refused + closed), (PLACES, CLIENTS - PLACES));
    // In a great crowd a client's PING can meet the closed socket before it has read the words.
    assert!(closed <= 40, "{closed} clients were refused without a word");
    assert_eq!(front.metric("clients_open", &[]).await, 1000.0);
    assert_eq!(front.metric("clients_rejected_total", &[("reason", "max_clients")]).await, 4000.0);
    assert_eq!(front.proxy.get("/readiness").await.unwrap().status, 503);
    for client in &mut served {
        assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG", "who has a place keeps it");
    }
    drop(served);
    front.wait("clients_open", &[], |open| open == 0.0).await;
    assert_eq!(front.proxy.get("/readiness").await.unwrap().status, 200);
    assert_eq!(ask(address).await.unwrap().1, "PONG");
}

#[tokio::test]
async fn a_postgres_client_too_many_hears_53300() {
    let trust = Trust::new();
    let url = format!("postgresql://localhost:{}", free_port().unwrap());
    let front = front(&url, &trust.ca, &["--max-clients", "1", "--pool-min-idle", "0"]).await;
    let first = front.tcp().await;
    front.wait("clients_open", &[], |open| open == 1.0).await;
    let mut second = front.tcp().await;
    second.write_all(&startup("app", "app")).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, second.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = text(&answer);
    assert!(answer.starts_with('E') && answer.contains("SFATAL\0") && answer.contains("C53300\0"), "{answer:?}");
    drop(first);
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived_without_spinning() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let port = free_port().unwrap();
    let arguments = arguments_for(&redis_url(redis.port()), &redis.ca_file(), port, &["--pool-min-idle", "0"]);
    let limited = Proxy::builder("prlimit").args(&["--nofile=64:64", PROGRAM]).args(&arguments);
    let mut front = Front { proxy: limited.start().await.unwrap(), port };
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(front.tcp().await);
    }
    until("descriptors run out", SOON, || front.proxy.stderr().contains("cannot accept clients")).await.unwrap();
    let before = front.proxy.usage().unwrap().cpu;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = front.proxy.usage().unwrap().cpu - before;
    assert!(spent < Duration::from_millis(400), "{spent:?} of CPU in 2 s of doing nothing");
    let said = front.proxy.stderr().matches("cannot accept clients").count();
    assert!(said <= 2, "once per worker at most:\n{}", front.proxy.stderr());
    drop(crowd);
    // Those who left in the queue are accepted first, and for that moment descriptors are short again.
    front.wait("clients_accepted_total", &[], |accepted| accepted >= 200.0).await;
    front.wait("clients_open", &[], |open| open == 0.0).await;
    assert!(front.metric("accept_errors_total", &[]).await >= 1.0);
    for _ in 0..20 {
        assert_eq!(timeout(SOON, ask(front.address())).await.unwrap().unwrap().1, "PONG");
    }
    assert_eq!(front.proxy.try_wait().unwrap(), None);
}

/// A new process takes over while clients come and go, five times in a row.
///
/// Every listening socket of a port has an accept queue of its own, and the old process empties its queues before it closes them. What can
/// still be lost is a connection whose handshake the kernel completes between the last look and the close: unless
/// `net.ipv4.tcp_migrate_req` is 1 (Linux 5.14), it is reset. That window is some microseconds per worker, so a handover may cost a
/// connection or two now and then, and none where requests migrate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_without_a_gap() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut old = redis_front(&redis, &[]).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (address, stop, served) = (old.address(), Arc::clone(&stop), Arc::clone(&served));
        clients.spawn(async move {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let asked = async {
                    let answer = Resp::connect(address).await?.command(&["PING"]).await?.text();
                    anyhow::ensure!(answer == "PONG", "{answer}");
                    Ok::<_, anyhow::Error>(())
                };
                match timeout(SOON, asked).await {
                    Ok(Ok(())) => drop(served.fetch_add(1, Ordering::Relaxed)),
                    Ok(Err(error)) => failures.push(format!("{error:#}")),
                    Err(_) => failures.push("no answer".to_owned()),
                }
            }
            failures
        });
    }
    let more = async |count: u64| {
        let now = served.load(Ordering::Relaxed);
        until("clients are served", SOON, || served.load(Ordering::Relaxed) > now + count).await.unwrap();
    };
    for _ in 0..5 {
        more(300).await;
        let arguments = arguments_for(&redis_url(redis.port()), &redis.ca_file(), old.port, &[]);
        let new = Front { proxy: Proxy::start(PROGRAM, &arguments, &[]).await.unwrap(), port: old.port };
        old.proxy.term();
        assert_eq!(exit_code(&mut old, SOON).await, 0, "{}", old.proxy.stderr());
        old = new;
    }
    more(300).await;
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    while let Some(one) = clients.join_next().await {
        failures.extend(one.unwrap());
    }
    let migrates = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req").is_ok_and(|value| value.trim() == "1");
    let total = served.load(Ordering::Relaxed);
    eprintln!("{} of {total} connections failed (tcp_migrate_req: {migrates})", failures.len());
    assert!(failures.len() <= if migrates { 0 } else { 10 }, "of {total}: {failures:?}");
    assert!(old.metric("clients_accepted_total", &[]).await >= 300.0, "the last successor serves alone");
}

#[tokio::test]
async fn probes_answer_while_the_proxy_is_saturated() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &[]).await;
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &front.port.to_string(), "-c", "50", "-P", "8", "-n", "100000000", "-t", "set", "-d", "1000", "-q"]);
    let mut benchmark = tokio::process::Command::from(benchmark)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    front.wait("clients_open", &[], |open| open >= 50.0).await;
    let before = front.metric("bytes_total", &[]).await;
    let mut times = Vec::new();
    let mut tick = interval(Duration::from_millis(25));
    for path in ["/readiness", "/liveness", "/startup", "/metrics"].repeat(10) {
        tick.tick().await;
        let started = Instant::now();
        assert_eq!(front.proxy.get(path).await.unwrap().status, 200, "{path}");
        times.push(started.elapsed());
    }
    times.sort_unstable();
    // Some may meet a machine that is busy with other tests, or with other machines, as well.
    assert!(times[times.len() / 2] < Duration::from_millis(250), "{times:?}");
    assert!(times[times.len() - 1] < Duration::from_secs(5), "{times:?}");
    assert!(front.metric("bytes_total", &[]).await > before + 100_000.0, "there was no load");
    assert_eq!(benchmark.try_wait().unwrap(), None, "the load had ended");
    benchmark.kill().await.unwrap();
}

/// `/etc/hosts` as a pipe that nobody writes to: getaddrinfo never comes back. `None` where the machine allows no private mounts.
async fn front_with_a_resolver_that_hangs(trust: &Trust) -> Option<Front> {
    const MOUNT: &str = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
    let pipe = trust.path("hosts");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let private = if rustix::process::geteuid().is_root() { &["--mount"][..] } else { &["--map-root-user", "--mount"] };
    let mount = ["--", "sh", "-c", MOUNT, "sh", pipe.to_str().unwrap()];
    let probe = Command::new("unshare").args(private).args(mount).arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return None;
    }
    let port = free_port().unwrap();
    let arguments = arguments_for("rediss://db.test:6379", &trust.ca, port, &["--connect-timeout", "1s"]);
    let proxy = Proxy::builder("unshare").args(private).args(&mount).args(&[PROGRAM]).args(&arguments);
    Some(Front { proxy: proxy.start().await.unwrap(), port })
}

#[tokio::test]
async fn a_resolver_that_hangs_delays_neither_files_nor_the_end() {
    let trust = Trust::new();
    let Some(mut front) = front_with_a_resolver_that_hangs(&trust).await else {
        eprintln!("skipped: this machine allows no private mounts");
        return;
    };
    front.wait("errors_total", &[("kind", "timeout")], |errors| errors >= 1.0).await;
    std::fs::write(&trust.ca, Authority::new().unwrap().ca_pem()).unwrap();
    front.wait("reloads_total", &[("result", "ok")], |reloads| reloads == 1.0).await;
    front.proxy.term();
    assert_eq!(exit_code(&mut front, Duration::from_secs(3)).await, 0, "{}", front.proxy.stderr());
}

#[tokio::test]
async fn a_hangup_is_a_look_at_the_files_and_never_the_end() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let pair = ["cert", "key"].map(|name| trust.path(name).to_str().unwrap().to_owned());
    let install = |days: u16| {
        let issued = trust.authority.issue(&Leaf::server().days_left(days)).unwrap();
        lab::certs::write_private(Path::new(&pair[1]), &issued.key_pem).unwrap();
        std::fs::write(&pair[0], issued.chain_pem).unwrap();
    };
    install(20);
    let arguments = ["--listen-cert", &pair[0], "--listen-key", &pair[1], "--drain-delay", "2s"];
    let mut front = redis_front(&redis, &arguments).await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let in_days = |expiry: f64| ((expiry - now) / 86_400.0).round();
    let expiry = "listener_certificate_expiry_timestamp_seconds";
    assert_eq!(in_days(front.metric(expiry, &[]).await), 20.0);

    install(30);
    front.proxy.signal(Signal::HUP);
    let looked = |times| front.proxy.stderr().matches("SIGHUP: looked at certificates and passwords").count() == times;
    until("it looks", SOON, || looked(1)).await.unwrap();
    assert_eq!(in_days(front.metric(expiry, &[]).await), 30.0);

    front.proxy.term();
    until("it drains", SOON, || front.proxy.stderr().contains("draining")).await.unwrap();
    front.proxy.signal(Signal::HUP);
    until("it looks again", SOON, || looked(2)).await.unwrap();
    assert_eq!(exit_code(&mut front, SOON).await, 0, "{}", front.proxy.stderr());
}

#[tokio::test]
async fn a_second_process_on_a_port_is_warned_of_the_first() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut first = redis_front(&redis, &[]).await;
    let port = first.port;
    let again = async || {
        let proxy = Proxy::start(PROGRAM, &arguments_for(&redis_url(redis.port()), &redis.ca_file(), port, &[]), &[]).await.unwrap();
        Front { proxy, port }
    };
    let warned = |front: &Front| front.proxy.stderr().contains(&format!("WARN another process listens on 127.0.0.1:{port} too"));
    let mut second = again().await;
    assert_eq!((warned(&first), warned(&second)), (false, true), "{}", second.proxy.stderr());
    // Connections that the proxies close first keep the port busy, but nobody listens.
    let client = ask(first.address()).await.unwrap();
    for front in [&mut first, &mut second] {
        front.proxy.term();
        assert_eq!(exit_code(front, SOON).await, 0);
    }
    assert!(!warned(&again().await));
    drop(client);
}

/// Its clients would wait until it has been counted among its peers; so long, whoever it replaces goes on.
#[tokio::test]
async fn who_has_no_share_of_the_connections_yet_is_not_ready() {
    let url = "postgresql://user@127.0.0.1:1/db?listen=127.0.0.1:0&pool=transaction&pool_budget_total=22&pool_budget_peers=127.0.0.1";
    let proxy = Proxy::start(PROGRAM, &[url], &[("REDIS_TLS_PROXY_PASSWORD_ENV", "WORD"), ("WORD", "word")]).await.unwrap();
    let readiness = proxy.get("/readiness").await.unwrap();
    assert!(readiness.status == 503 && readiness.body.contains("share"), "{readiness:?}");
    assert_eq!(proxy.metric("redis_tls_proxy_pool_limit_connections", &[]).await.unwrap(), 0.0);
    let is_ready = async || proxy.get("/readiness").await.is_ok_and(|answer| answer.status == 200).then_some(());
    lab::wait::until_some("it is ready", SOON * 2, is_ready).await.unwrap();
    assert_eq!(
        proxy.metric("redis_tls_proxy_pool_limit_connections", &[]).await.unwrap(),
        19.0,
        "because it has a share, not for the time"
    );
}
