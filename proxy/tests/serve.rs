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

use lab::{Gate, Postgres, Redis, free_port, until};
use support::{Front, SOON, Trust, exit_code, front, redis_url, reset_on_close, startup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
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
    let arguments = ["--workers", "1", "--pool-min-idle", "0", "--connect-timeout", "1s"];
    let front = front(&format!("postgresql://localhost:{}/db", server.address.port()), &trust.ca, &arguments).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(say(&front, &CANCEL).await);
    }
    // As some drivers do; the request counts all the same.
    clients.iter().for_each(|client| rustix::net::shutdown(client, rustix::net::Shutdown::Write).unwrap());
    for client in &mut clients {
        assert_eq!(heard(client).await, "");
    }
    assert_eq!(server.most(), 8);
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
