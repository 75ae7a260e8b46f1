//! The end of the process: drains of every kind break no reply, close who is idle, wait for who is busy, and say by their exit code how it went.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use lab::process::Signal;
use lab::{Authority, Postgres, Proxy, Redis, Resp, free_port, until};
use support::{Front, PROGRAM, SOON, Trust, arguments_for, ask, exit_code, redis_front, redis_url, tls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

async fn draining(front: &Front) {
    until("it drains", SOON, || front.proxy.stderr().contains("draining")).await.unwrap();
}

/// How it took its leave.
fn last_line(front: &Front) -> String {
    front.proxy.stderr().lines().last().unwrap().to_owned()
}

/// Sends `batch` GETs at a time until the connection ends; returns how many replies came. Every one must be whole and right.
async fn hammer(address: SocketAddr, key: String, value: Vec<u8>, batch: usize) -> usize {
    let reply = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    let request = lab::resp::encode(&["GET", &key]).repeat(batch);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.set_nodelay(true).unwrap();
    let mut replies = 0;
    let mut buffer = vec![0; reply.len() * batch];
    loop {
        if client.write_all(&request).await.is_err() {
            return replies;
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match client.read(&mut buffer[filled..]).await {
                Ok(0) => {
                    assert_eq!(filled % reply.len(), 0, "{key}: closed within a reply");
                    assert!(buffer[..filled].chunks(reply.len()).all(|got| got == reply), "{key}: a wrong reply");
                    return replies + filled / reply.len();
                }
                Ok(read) => filled += read,
                Err(error) => panic!("{key}: {error} after {filled} bytes of {}", buffer.len()),
            }
        }
        assert!(buffer.chunks(reply.len()).all(|got| got == reply), "{key}: a wrong reply");
        replies += batch;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_breaks_no_reply() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    for (round, mode) in ["relay", "session", "multiplex"].into_iter().cycle().take(6).enumerate() {
        let mut front = redis_front(&redis, &["--pool", mode]).await;
        let mut clients = JoinSet::new();
        for (number, batch) in [1, 1, 1, 1, 7, 30, 100, 400].into_iter().enumerate() {
            let (key, value) = (format!("key-{number}"), vec![b'a' + u8::try_from(number).unwrap(); 1 + 1500 * (number % 4)]);
            redis.admin(&[b"SET".as_slice(), key.as_bytes(), &value]).await.unwrap();
            clients.spawn(hammer(front.address(), key, value, batch));
        }
        front.wait("bytes_total", &[("direction", "upstream_to_client")], |bytes| bytes > 2_000_000.0).await;
        front.proxy.term();
        assert_eq!(exit_code(&mut front, Duration::from_secs(8)).await, 0, "round {round}, {mode}: {}", front.proxy.stderr());
        while let Some(replies) = timeout(SOON, clients.join_next()).await.unwrap() {
            assert!(replies.unwrap() > 0);
        }
        let log = front.proxy.stderr();
        assert_eq!(log.matches("client left").count(), log.matches("reason=drain").count(), "{log}");
    }
}

#[tokio::test]
async fn during_the_drain_delay_new_clients_are_still_served() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut front = redis_front(&redis, &["--drain-delay", "2s"]).await;
    assert_eq!(front.proxy.get("/readiness").await.unwrap().status, 200);
    front.proxy.term();
    let started = Instant::now();
    draining(&front).await;
    let readiness = front.proxy.get("/readiness").await.unwrap();
    assert_eq!((readiness.status, readiness.body.contains("draining")), (503, true));
    assert_eq!(front.proxy.get("/liveness").await.unwrap().status, 200);
    assert_eq!(front.metric("draining", &[]).await, 1.0);
    assert_eq!(ask(front.address()).await.unwrap().1, "PONG");
    assert!(started.elapsed() < Duration::from_secs(2), "the delay was over before it was tested");
    assert_eq!(exit_code(&mut front, SOON).await, 0);
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(TcpStream::connect(front.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// It may have come out of the accept queue that was emptied when the listener closed.
#[tokio::test]
async fn a_client_that_has_just_connected_gets_its_first_answer() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut front = redis_front(&redis, &[]).await;
    let mut client = front.resp().await;
    front.wait("clients_open", &[], |open| open == 1.0).await;
    front.proxy.term();
    until("the listener is closed", SOON, || std::net::TcpStream::connect(front.address()).is_err()).await.unwrap();
    assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG");
    assert_eq!(timeout(SOON, client.read_to_end()).await.unwrap().unwrap(), b"");
    drop(client);
    assert_eq!(exit_code(&mut front, SOON).await, 0);
}

/// More than one look at the queue hands over, on every worker; they connect and ask while the process cannot run.
#[tokio::test]
async fn all_who_wait_in_the_accept_queue_are_served() {
    const CLIENTS: usize = 600;
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut front = redis_front(&redis, &[]).await;
    front.proxy.signal(Signal::STOP);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = front.tcp().await;
        client.write_all(&lab::resp::encode(&["PING"])).await.unwrap();
        clients.push(client);
    }
    front.proxy.term();
    front.proxy.signal(Signal::CONT);
    let mut unserved = 0;
    for mut client in clients {
        let mut answer = Vec::new();
        let ended = timeout(SOON, client.read_to_end(&mut answer)).await.unwrap();
        unserved += usize::from(ended.is_err() || answer != b"+PONG\r\n");
    }
    assert_eq!(unserved, 0, "of {CLIENTS}; {}", front.proxy.stderr());
    assert_eq!(exit_code(&mut front, SOON).await, 0);
}

/// Each is accepted as soon as another has left, and closed in good order.
#[tokio::test]
async fn all_who_wait_are_accepted_even_if_descriptors_are_short() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let port = free_port().unwrap();
    let arguments = arguments_for(&redis_url(redis.port()), &redis.ca_file(), port, &["--pool-min-idle", "0"]);
    let limited = Proxy::builder("prlimit").args(&["--nofile=64:64", PROGRAM]).args(&arguments);
    let mut front = Front { proxy: limited.start().await.unwrap(), port };
    front.proxy.signal(Signal::STOP);
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(front.tcp().await);
    }
    front.proxy.term();
    front.proxy.signal(Signal::CONT);
    let mut reset = 0;
    for mut client in clients {
        reset += usize::from(timeout(SOON, client.read(&mut [0])).await.unwrap().is_err());
    }
    assert_eq!(reset, 0, "{}", front.proxy.stderr());
    assert_eq!(exit_code(&mut front, SOON).await, 0);
}

/// A client in BLPOP, which nothing will ever end, and the moment from which the server has it.
async fn blocked(front: &Front, redis: &Redis) -> Resp<TcpStream> {
    let mut client = front.resp().await;
    client.send(&["BLPOP", "nothing", "0"]).await.unwrap();
    while redis.info("blocked_clients").await.unwrap() < 1.0 {
        tokio::task::yield_now().await;
    }
    client
}

#[tokio::test]
async fn who_is_still_busy_at_the_drain_timeout_is_cut() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut front = redis_front(&redis, &["--drain-timeout", "1s"]).await;
    let mut client = blocked(&front, &redis).await;
    let started = Instant::now();
    front.proxy.term();
    assert_eq!(timeout(SOON, client.read_to_end()).await.unwrap().unwrap_err().to_string(), "Connection reset by peer (os error 104)");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(exit_code(&mut front, SOON).await, 1);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(front.proxy.stderr().contains("reason=cut"), "{}", front.proxy.stderr());
    let last = last_line(&front);
    assert!(last.contains("WARN stopped: the remaining clients were cut clients=1 seconds="), "{last}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT)] {
        let mut front = redis_front(&redis, &[]).await;
        let _client = blocked(&front, &redis).await;
        front.proxy.signal(first);
        draining(&front).await;
        front.proxy.signal(second);
        assert_eq!(exit_code(&mut front, Duration::from_secs(2)).await, 130);
        // The next one to be blocked must not be mistaken for this one.
        while redis.info("blocked_clients").await.unwrap() > 0.0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A listener for each protocol in one process.
struct Three {
    postgres: Postgres,
    redis: Redis,
    proxy: Proxy,
    ports: [u16; 3],
}

async fn three(trust: &Trust) -> Three {
    let (redis, postgres) = (Redis::start(&trust.authority).await.unwrap(), Postgres::start(&trust.authority).await.unwrap());
    let echo = tls_server(trust.server_config(), |stream| async move {
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    let ports = [(); 3].map(|()| free_port().unwrap());
    let postgres_url =
        format!("postgresql://postgres:{}@localhost:{}/postgres?listen=127.0.0.1:{}", postgres.password(), postgres.port(), ports[1]);
    let arguments = [
        "run".to_owned(),
        "--ca-only".to_owned(),
        "--ca-file".to_owned(),
        trust.ca.to_str().unwrap().to_owned(),
        format!("rediss://localhost:{}?listen=127.0.0.1:{}", redis.port(), ports[0]),
        postgres_url,
        format!("tls://localhost:{}?listen=127.0.0.1:{}", echo.port(), ports[2]),
    ];
    let proxy = Proxy::start(PROGRAM, &arguments, &[]).await.unwrap();
    Three { postgres, redis, proxy, ports }
}

#[tokio::test]
async fn idle_clients_of_every_protocol_are_closed_at_once() {
    let trust = Trust::new();
    let mut three = three(&trust).await;
    let [redis, postgres, tls] = three.ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let (mut spoke, _) = ask(redis).await.unwrap();
    let mut mute = TcpStream::connect(redis).await.unwrap();
    let (mut subscriber, _) = ask(redis).await.unwrap();
    subscriber.command(&["SUBSCRIBE", "news"]).await.unwrap();
    // Halfway through a transaction that has not begun at the server: nothing is owed.
    let (mut queued, _) = ask(redis).await.unwrap();
    assert_eq!(queued.command(&["MULTI"]).await.unwrap().text(), "OK");
    assert_eq!(queued.command(&["SET", "k", "v"]).await.unwrap().text(), "QUEUED");
    let config = format!("host=127.0.0.1 port={} user=any dbname=postgres", postgres.port());
    let (sql, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(sql.query_one("select 42", &[]).await.unwrap().get::<_, i32>(0), 42);
    let mut echo = TcpStream::connect(tls).await.unwrap();
    echo.write_all(b"hello").await.unwrap();
    echo.read_exact(&mut [0; 5]).await.unwrap();

    let started = Instant::now();
    three.proxy.term();
    for client in [&mut spoke, &mut subscriber, &mut queued] {
        assert_eq!(timeout(SOON, client.read_to_end()).await.unwrap().unwrap(), b"");
    }
    let ended = timeout(SOON, connection).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN), "as PostgreSQL says it");
    assert!(started.elapsed() < Duration::from_millis(900), "protocols that can tell: {:?}", started.elapsed());
    // Nothing but silence tells that these are idle.
    assert_eq!(timeout(SOON, mute.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert_eq!(timeout(SOON, echo.read(&mut [0])).await.unwrap().unwrap(), 0);
    drop((spoke, subscriber, queued, mute, echo));
    let status = three.proxy.wait_exit(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", three.proxy.stderr());
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    assert!(sql.is_closed());
    assert_eq!(three.redis.clients().await.unwrap(), 0, "nothing is left behind at the server");
    assert_eq!(three.postgres.clients().await.unwrap(), 0);
}

#[tokio::test]
async fn a_long_query_finishes_during_the_drain() {
    let trust = Trust::new();
    let mut three = three(&trust).await;
    let config = format!("host=127.0.0.1 port={} user=any dbname=postgres", three.ports[1]);
    let (sql, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked = tokio::spawn(async move { sql.query_one("select pg_sleep(2), 42", &[]).await.unwrap().get::<_, i32>(1) });
    while three.postgres.sql("select count(*) from pg_stat_activity where query like 'select pg_sleep(2)%'").await.unwrap() != "1" {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    three.proxy.term();
    assert_eq!(timeout(SOON, asked).await.unwrap().unwrap(), 42);
    assert!(started.elapsed() > Duration::from_secs(1), "the query was over before the drain began");
    let _ = timeout(SOON, connection).await.unwrap();
    assert_eq!(three.proxy.wait_exit(SOON).await.unwrap().code(), Some(0), "{}", three.proxy.stderr());
}

#[tokio::test]
async fn a_drain_can_be_asked_for_over_http() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let mut front = redis_front(&redis, &[]).await;
    let (mut client, _) = ask(front.address()).await.unwrap();
    assert_eq!(front.proxy.request("GET", "/drain", "").await.unwrap().status, 405);
    assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG");
    assert_eq!(front.proxy.request("POST", "/drain", "").await.unwrap().status, 202);
    assert_eq!(timeout(SOON, client.read_to_end()).await.unwrap().unwrap(), b"");
    drop(client);
    assert_eq!(exit_code(&mut front, SOON).await, 0, "{}", front.proxy.stderr());
    let (log, last) = (front.proxy.stderr(), last_line(&front));
    assert!(log.contains("INFO draining delay=0s timeout=25s") && last.contains("INFO drained seconds="), "{log}");
}
