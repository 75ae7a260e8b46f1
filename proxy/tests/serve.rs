//! Clients on their way in: who is blamed for silence, who is let go of, what it costs the server, and what the log says of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Gate, Leaf, Postgres, Redis, free_port, until};
use support::{Front, SOON, Trust, exit_code, front, redis_front, redis_url, reset_on_close, startup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;

/// A server that takes every connection and never gets as far as TLS.
struct Mute {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Mute {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).await.unwrap();
        let mute = Self { address: listener.local_addr().unwrap(), open: Arc::default(), most: Arc::default() };
        let (open, most) = (Arc::clone(&mute.open), Arc::clone(&mute.most));
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        mute
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Everything until the end, which must come soon.
async fn heard(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(SOON, client.read_to_end(&mut bytes)).await.expect("neither words nor an end");
    support::text(&bytes)
}

async fn say(front: &Front, words: &[u8]) -> TcpStream {
    let mut client = front.tcp().await;
    client.write_all(words).await.unwrap();
    client
}

/// TLS as PostgreSQL does it, and then not a word.
async fn mute_after_tls(trust: &Trust) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(trust.server_config()));
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                tcp.read_exact(&mut [0; 8]).await.unwrap();
                tcp.write_all(b"S").await.unwrap();
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_login_is_blamed_for_it() {
    let trust = Trust::new();
    let server = mute_after_tls(&trust).await;
    for login in ["", "app:pw@"] {
        let front = front(&format!("postgresql://{login}localhost:{}/db", server.port()), &trust.ca, &["--connect-timeout", "1s"]).await;
        let said = heard(&mut say(&front, &startup("app", "db")).await).await;
        assert!(said.contains("08006") && said.contains("the server did not answer in time"), "{said:?}\n{}", front.proxy.stderr());
        front.wait("clients_rejected_total", &[("reason", "upstream")], |count| count == 1.0).await;
        assert_eq!(front.metric("clients_rejected_total", &[("reason", "timeout")]).await, 0.0);
        assert_eq!(front.errors("timeout").await, 1.0);
        let log = front.proxy.stderr();
        assert!(log.contains("side=upstream") && !log.contains("side=client"), "{log}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_the_servers_question_is_blamed_for_it() {
    let trust = Trust::new();
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let front = front(&format!("postgresql://localhost:{}", postgres.port()), &trust.ca, &["--connect-timeout", "1s"]).await;
    let said = heard(&mut say(&front, &startup("postgres", "postgres")).await).await;
    assert!(said.contains("57014"), "{said:?}");
    front.wait("clients_rejected_total", &[("reason", "timeout")], |count| count == 1.0).await;
}

/// For a backend that does not exist; anybody can send it.
const CANCEL: [u8; 16] = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];

#[tokio::test]
async fn cancel_requests_open_few_connections_at_one_time() {
    let trust = Trust::new();
    let server = Mute::start().await;
    let arguments = ["--workers", "1", "--pool-min-idle", "0", "--connect-timeout", "4s"];
    let front = front(&format!("postgresql://localhost:{}/db", server.address.port()), &trust.ca, &arguments).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(say(&front, &CANCEL).await);
    }
    // As some drivers do; the request counts all the same.
    clients.iter().for_each(|client| rustix::net::shutdown(client, rustix::net::Shutdown::Write).unwrap());
    front.wait("clients_accepted_total", &[], |accepted| accepted == 30.0).await;
    until("the first are on their way", SOON, || server.open() == 8).await.unwrap();
    // Before the first give up: the server learns of an end a moment after the proxy has begun the next.
    assert_eq!(server.most(), 8);
    for client in &mut clients {
        assert_eq!(heard(client).await, "");
    }
}

#[tokio::test]
async fn a_cancel_request_is_given_up_with_its_client() {
    let trust = Trust::new();
    let server = Mute::start().await;
    let arguments = ["--workers", "1", "--pool-min-idle", "0", "--connect-timeout", "60s"];
    let front = front(&format!("postgresql://localhost:{}/db", server.address.port()), &trust.ca, &arguments).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(say(&front, &CANCEL).await);
    }
    until("the first are on their way", SOON, || server.open() == 8).await.unwrap();
    clients.iter().for_each(reset_on_close);
    drop(clients);
    front.wait("clients_open", &[], |open| open == 0.0).await;
    until("nothing is left at the server", SOON, || server.open() == 0).await.unwrap();
}

#[tokio::test]
async fn queries_can_be_cancelled_when_all_places_are_taken() {
    let trust = Trust::new();
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let url = format!("postgresql://postgres:{}@localhost:{}/postgres", postgres.password(), postgres.port());
    let front = front(&url, &trust.ca, &["--max-clients", "1"]).await;
    let config = format!("host=127.0.0.1 port={} user=any dbname=postgres", front.port);
    let (sql, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    let cancel = sql.cancel_token();
    let query = tokio::spawn(async move { sql.simple_query("select pg_sleep(60)").await.map(drop) });
    while postgres.sql("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'").await.unwrap() != "1" {
        tokio::task::yield_now().await;
    }
    cancel.cancel_query(NoTls).await.unwrap();
    let ended = timeout(SOON, query).await.expect("the query goes on").unwrap();
    assert_eq!(ended.unwrap_err().code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn who_has_gone_does_not_wait_for_a_connection() {
    let trust = Trust::new();
    let server = Mute::start().await;
    let arguments = ["--pool-min-idle", "0", "--connect-timeout", "60s", "--pool-wait-timeout", "60s"];
    for url in ["rediss", "postgresql"] {
        let mut front = front(&format!("{url}://localhost:{}", server.address.port()), &trust.ca, &arguments).await;
        let words = if url == "rediss" { lab::resp::encode(&["PING"]) } else { startup("app", "db") };
        for reset in [true, false] {
            let mut clients = Vec::new();
            for _ in 0..4 {
                clients.push(say(&front, &words).await);
            }
            until("all wait", SOON, || server.open() >= 4).await.unwrap();
            clients.iter().filter(|_| reset).for_each(reset_on_close);
            drop(clients);
            // A request of Redis' is answered even behind a FIN.
            let left = if url == "rediss" && !reset { 4.0 } else { 0.0 };
            front.wait("clients_open", &[], |open| open == left).await;
        }
        if url == "postgresql" {
            front.proxy.term();
            assert_eq!(exit_code(&mut front, SOON).await, 0, "{}", front.proxy.stderr());
        }
    }
}

#[tokio::test]
async fn a_request_with_a_fin_behind_it_is_answered_when_its_turn_comes() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let gate = Gate::start(redis.address()).await.unwrap();
    let front = front(&redis_url(gate.port()), &redis.ca_file(), &["--pool-min-idle", "0"]).await;
    gate.freeze();
    let mut client = say(&front, &lab::resp::encode(&["PING"])).await;
    rustix::net::shutdown(&client, rustix::net::Shutdown::Write).unwrap();
    gate.wait_open(1, SOON).await.unwrap();
    // Long enough for the proxy to look twice whether the client is still there.
    assert!(timeout(Duration::from_millis(300), client.read(&mut [0])).await.is_err(), "it was closed");
    gate.thaw();
    assert_eq!(heard(&mut client).await, "+PONG\r\n");
}

fn with_certificate(trust: &Trust) -> [String; 4] {
    let files = trust.authority.issue(&Leaf::server()).unwrap().write(trust.dir.path(), "listen").unwrap();
    ["--listen-cert".into(), files.cert.to_str().unwrap().into(), "--listen-key".into(), files.key.to_str().unwrap().into()]
}

#[tokio::test]
async fn who_has_not_logged_in_does_not_hold_the_drain() {
    let trust = Trust::new();
    let server = Mute::start().await;
    let secret = trust.path("client-password");
    lab::certs::write_private(&secret, "Local-s3cret-88").unwrap();
    let password = ["--client-auth", "password", "--client-password-file", secret.to_str().unwrap()].map(String::from);
    let certificate = with_certificate(&trust);
    // Protocol, settings, first words, last words.
    let cases: [(_, &[String], Vec<u8>, &str); 5] = [
        ("postgresql", &[], Vec::new(), ""),
        ("postgresql", &password, startup("app", "db"), "57P01"),
        ("rediss", &password, Vec::new(), ""),
        ("rediss", &certificate, Vec::new(), ""),
        ("tls", &certificate, b"\x16\x03\x01".to_vec(), ""),
    ];
    let ends = cases.into_iter().map(|(protocol, settings, words, last)| {
        let (trust, server) = (&trust, &server);
        async move {
            // The server is never asked for anything but the proxy's password, which passes nobody in.
            let url = format!("{protocol}://{}localhost:{}", if protocol == "tls" { "" } else { "app:pw@" }, server.address.port());
            let mut arguments = vec!["--pool-min-idle", "0", "--connect-timeout", "60s"];
            arguments.extend(settings.iter().map(String::as_str));
            let mut front = front(&url, &trust.ca, &arguments).await;
            let mut client = say(&front, &words).await;
            front.wait("clients_open", &[], |open| open == 1.0).await;
            let started = Instant::now();
            front.proxy.term();
            let said = heard(&mut client).await;
            assert!(said.contains(last), "{protocol}: {said:?}");
            drop(client);
            assert_eq!(exit_code(&mut front, SOON).await, 0, "{protocol}: {}", front.proxy.stderr());
            assert!(started.elapsed() < Duration::from_secs(3), "{protocol}: {:?}", started.elapsed());
        }
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test]
async fn a_silent_client_behind_tls_costs_no_connection() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let certificate = with_certificate(&trust);
    let arguments = [&["--workers", "1"][..], &certificate.each_ref().map(String::as_str)].concat();
    let front = front(&redis_url(redis.port()), &trust.ca, &arguments).await;
    let connector = tokio_rustls::TlsConnector::from(lab::tls::client_config(&trust.authority, None).unwrap());
    let connect = async || connector.connect("localhost".try_into().unwrap(), front.tcp().await).await.unwrap();
    let mut silent = connect().await;
    let mut spoke = lab::Resp::new(connect().await);
    assert_eq!(spoke.command(&["PING"]).await.unwrap().text(), "PONG");
    assert_eq!(front.metric("leases_total", &[]).await, 1.0);
    // In two pieces, of which the first is read before there is a connection.
    silent.write_all(b"PI").await.unwrap();
    front.wait("leases_total", &[], |leases| leases == 2.0).await;
    silent.write_all(b"NG\r\n").await.unwrap();
    assert_eq!(lab::Resp::new(silent).read().await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn tls_on_a_plaintext_listener_of_redis_is_refused_at_once() {
    let trust = Trust::new();
    let secret = trust.path("client-password");
    lab::certs::write_private(&secret, "Local-s3cret-88").unwrap();
    let redis = Redis::start(&trust.authority).await.unwrap();
    for more in [&[][..], &["--client-auth", "password", "--client-password-file", secret.to_str().unwrap()]] {
        let front = redis_front(&redis, more).await;
        let connector = tokio_rustls::TlsConnector::from(lab::tls::client_config(&trust.authority, None).unwrap());
        let refused = timeout(SOON, connector.connect("localhost".try_into().unwrap(), front.tcp().await)).await;
        assert!(refused.expect("it hangs").is_err());
        front.wait("clients_rejected_total", &[("reason", "protocol")], |count| count == 1.0).await;
        assert_eq!(front.metric("leases_total", &[]).await, 0.0);
        let log = front.proxy.stderr();
        assert!(log.contains("the client speaks TLS, but this listener is plaintext"), "{log}");
    }
}

#[tokio::test]
async fn the_log_names_the_client_and_hides_no_error_behind_another() {
    let trust = Trust::new();
    let server = Mute::start().await;
    let arguments = ["--pool-min-idle", "0", "--workers", "1"];
    let front = front(&format!("postgresql://localhost:{}/db", server.address.port()), &trust.ca, &arguments).await;
    let mut addresses = Vec::new();
    for words in [&b"\x16\x03\x01\0"[..], &[0, 0, 0, 9, 1], &[0, 0, 0, 9, 1]] {
        let mut client = say(&front, words).await;
        addresses.push(format!("client={}", client.local_addr().unwrap()));
        client.shutdown().await.unwrap();
        heard(&mut client).await;
    }
    front.wait("clients_rejected_total", &[("reason", "protocol")], |count| count == 3.0).await;
    let log = front.proxy.stderr();
    assert!(log.contains("began with TLS") && log.contains(&addresses[0]), "{log}");
    assert!(log.contains("closed in the middle of its first packet") && log.contains(&addresses[1]), "{log}");
    assert!(!log.contains(&addresses[2]), "equal errors are logged once: {log}");
}
