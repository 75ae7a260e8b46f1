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
use std::time::Duration;

use lab::{Postgres, free_port};
use support::{Front, SOON, Trust, front, startup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

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
