//! TLS on both sides: every bad certificate is refused with its own kind and words, and every good configuration works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use lab::{Authority, Gate, Leaf, Postgres, Proxy, Redis, Resp, free_port};
use rustls::ClientConfig;
use support::{Front, PROGRAM, SOON, Trust, arguments_for, front, psql_ok, psql_refused, redis_front, redis_url, startup, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

const TLS_FAILED: &str = "-ERR redis-tls-proxy: TLS to the server failed\r\n";

/// No connection is opened before a client asks.
const COLD: &[&str] = &["--pool-min-idle", "0", "--connect-timeout", "3s"];

/// A client writes a key: it hears that TLS failed and nothing else, the server hears nothing, the kind is counted and the log says `words`.
async fn refused(front: &Front, redis: &Redis, kind: &str, words: &str) {
    let before = front.errors(kind).await;
    let mut client = front.resp().await;
    client.send(&["SET", "leaked", "secret"]).await.unwrap();
    let heard = timeout(SOON, client.read_to_end()).await.unwrap().unwrap();
    assert_eq!(text(&heard), TLS_FAILED, "{kind}");
    assert_eq!(front.errors(kind).await, before + 1.0, "{kind}: {}", front.proxy.stderr());
    assert_eq!(front.metric("tls_errors_total", &[("kind", kind)]).await, before + 1.0, "{kind}");
    let log = front.proxy.stderr();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(words)), "{words:?} is not in the log:\n{log}");
    assert_eq!(redis.admin(&["EXISTS", "leaked"]).await.unwrap(), lab::Value::Int(0), "{kind}");
    assert_eq!(front.metric("bytes_total", &[]).await, 0.0, "{kind}");
}

async fn pong(front: &Front) {
    let answer = timeout(SOON, async { front.resp().await.command(&["PING"]).await }).await.unwrap();
    assert_eq!(answer.unwrap_or_else(|error| panic!("{error:#}\n{}", front.proxy.stderr())).text(), "PONG", "{}", front.proxy.stderr());
}

#[tokio::test]
async fn every_bad_certificate_is_refused_with_its_own_kind() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, COLD).await;
    let bad = [
        (Leaf::server().expired(), "tls_expired", "the certificate has expired"),
        (Leaf::server().not_yet_valid(), "tls_not_yet_valid", "the certificate is not valid yet"),
        (Leaf::server().wrong_name(), "tls_name", "the certificate is for another name"),
        (Leaf::server().without_intermediate(), "tls_issuer", "give its CA with ca_file"),
    ];
    for (leaf, kind, words) in bad {
        redis.set_certificate(&authority.issue(&leaf).unwrap()).await.unwrap();
        refused(&front, &redis, kind, words).await;
    }
    for leaf in [Leaf::server(), Leaf::server().through_intermediate(), Leaf::server().rsa()] {
        redis.set_certificate(&authority.issue(&leaf).unwrap()).await.unwrap();
        pong(&front).await;
    }
    assert_eq!(front.metric("errors_total", &[]).await, 4.0);
}

#[tokio::test]
async fn a_plaintext_port_is_called_one() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let gate = Gate::start(redis.address()).await.unwrap();
    let front = front(&redis_url(gate.port()), &redis.ca_file(), COLD).await;
    gate.garbage(b"-ERR unknown command\r\n");
    refused(&front, &redis, "tls_plaintext", "this is not a TLS port").await;
    gate.clear().await.unwrap();
    pong(&front).await;
}

#[tokio::test]
async fn a_server_below_the_least_version_is_refused() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).tls_protocols("TLSv1.2").start().await.unwrap();
    let strict = redis_front(&redis, &[COLD, &["--tls-min", "1.3"]].concat()).await;
    refused(&strict, &redis, "tls_refused", "none of the TLS versions allowed here").await;
    let lenient = redis_front(&redis, COLD).await;
    pong(&lenient).await;
    assert_eq!(lenient.metric("tls_handshakes_total", &[("version", "1.2")]).await, 1.0);
}

/// In TLS 1.2 the server refuses within the handshake, in TLS 1.3 after the client's side of it is complete.
#[tokio::test]
async fn a_server_that_wants_a_client_certificate_says_so() {
    let trust = Trust::new();
    let files = trust.authority.issue(&Leaf::client("app")).unwrap().write(trust.dir.path(), "client").unwrap();
    let certificate = ["--client-cert", files.cert.to_str().unwrap(), "--client-key", files.key.to_str().unwrap()];
    for (protocol, version) in [("TLSv1.2", "1.2"), ("TLSv1.3", "1.3")] {
        let redis = Redis::builder(&trust.authority).require_client_certificate().tls_protocols(protocol).start().await.unwrap();
        let without = redis_front(&redis, COLD).await;
        if protocol == "TLSv1.2" {
            refused(&without, &redis, "tls_refused", "set client_cert and client_key").await;
        } else {
            let mut client = without.resp().await;
            let answer = timeout(SOON, client.command(&["SET", "leaked", "secret"])).await.unwrap();
            assert!(answer.is_err() || answer.unwrap().is_error());
            without.wait("errors_total", &[("kind", "tls_refused")], |errors| errors >= 1.0).await;
            assert!(without.proxy.stderr().contains("set client_cert and client_key"), "{}", without.proxy.stderr());
            assert_eq!(redis.admin(&["EXISTS", "leaked"]).await.unwrap(), lab::Value::Int(0));
        }
        let with = redis_front(&redis, &[COLD, &certificate].concat()).await;
        pong(&with).await;
        assert_eq!(with.metric("tls_handshakes_total", &[("version", version)]).await, 1.0);
    }
}

/// The login is what notices that a TLS 1.3 server wanted a certificate.
#[tokio::test]
async fn a_refused_handshake_is_recognised_in_the_login_too() {
    let authority = Authority::new().unwrap();
    let redis =
        Redis::builder(&authority).require_client_certificate().tls_protocols("TLSv1.3").password("upstream-pw").start().await.unwrap();
    let url = format!("rediss://:upstream-pw@localhost:{}", redis.port());
    let front = front(&url, &redis.ca_file(), COLD).await;
    refused(&front, &redis, "tls_refused", "set client_cert and client_key").await;
}

/// Handshakes succeed, connections die at once: the stock must not try again as fast as it can.
#[tokio::test]
async fn a_server_that_drops_fresh_connections_is_not_stormed() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).require_client_certificate().tls_protocols("TLSv1.3").start().await.unwrap();
    let front = redis_front(&redis, &["--pool-min-idle", "4"]).await;
    front.wait("tls_handshakes_total", &[], |count| count >= 4.0).await;
    sleep_until(Instant::now() + Duration::from_secs(2)).await;
    let handshakes = front.metric("tls_handshakes_total", &[]).await;
    assert!(handshakes < 60.0, "{handshakes} handshakes in two seconds, all in vain");
}

#[tokio::test]
async fn roots_are_the_public_ones_and_the_file_or_the_file_alone() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let both = redis_front(&redis, &[COLD, &["--ca-only=off"]].concat()).await;
    pong(&both).await;

    let port = free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["run", "--pool-min-idle", "0", "--listen", &listen, &redis_url(redis.port())];
    let public_only = Front { proxy: Proxy::start(PROGRAM, &arguments, &[]).await.unwrap(), port };
    refused(&public_only, &redis, "tls_issuer", "issuer is not trusted").await;

    let stranger = Trust::new();
    let wrong_file = front(&redis_url(redis.port()), &stranger.ca, COLD).await;
    refused(&wrong_file, &redis, "tls_issuer", "issuer is not trusted").await;
}

#[tokio::test]
async fn another_server_name_can_be_verified() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue(&Leaf::server().names(&["db.internal.test"])).unwrap();
    let redis = Redis::builder(&authority).certificate(certificate).start().await.unwrap();
    let front = redis_front(&redis, &[COLD, &["--server-name", "db.internal.test"]].concat()).await;
    pong(&front).await;
    let without = redis_front(&redis, COLD).await;
    refused(&without, &redis, "tls_name", "set server_name").await;
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions() {
    let authority = Authority::new().unwrap();
    for (protocol, version) in [("TLSv1.2", "1.2"), ("TLSv1.3", "1.3")] {
        let redis = Redis::builder(&authority).tls_protocols(protocol).start().await.unwrap();
        let front = redis_front(&redis, COLD).await;
        for _ in 0..5 {
            pong(&front).await;
        }
        let count = async |resumed: &str| front.metric("tls_handshakes_total", &[("version", version), ("resumed", resumed)]).await;
        assert_eq!((count("false").await, count("true").await), (1.0, 4.0), "TLS {version}");
        let status = front.proxy.status().await.unwrap();
        assert_eq!(status["listeners"][0]["handshakes"][format!("{version},resumed")], 4, "{status}");
    }
}

/// A listener with a certificate of its own.
struct Listening {
    trust: Trust,
    arguments: Vec<String>,
}

impl Listening {
    fn new() -> Self {
        let trust = Trust::new();
        let files = trust.authority.issue(&Leaf::server()).unwrap().write(trust.dir.path(), "listen").unwrap();
        let arguments = ["--listen-cert", files.cert.to_str().unwrap(), "--listen-key", files.key.to_str().unwrap()].map(String::from);
        Self { trust, arguments: arguments.to_vec() }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.arguments.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    fn client(&self, certificate: Option<&lab::Issued>) -> Arc<ClientConfig> {
        lab::tls::client_config(&self.trust.authority, certificate).unwrap()
    }
}

#[tokio::test]
async fn redis_clients_may_speak_tls() {
    let listening = Listening::new();
    let redis = Redis::start(&listening.trust.authority).await.unwrap();
    let front = redis_front(&redis, &listening.arguments(&[])).await;
    let stream = lab::tls::connect(front.address(), "localhost", listening.client(None)).await.unwrap();
    let mut client = Resp::new(stream);
    assert_eq!(client.command(&["SET", "k", "v"]).await.unwrap().text(), "OK");
    assert_eq!(client.command(&["GET", "k"]).await.unwrap().text(), "v");

    let mut plaintext = front.tcp().await;
    plaintext.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(SOON, plaintext.read_to_end(&mut heard)).await.expect("a plaintext client is closed");
    assert!(!text(&heard).contains("PONG"));
    front.wait("errors_total", &[("kind", "tls_plaintext")], |errors| errors == 1.0).await;
    assert_eq!(front.metric("clients_rejected_total", &[("reason", "tls")]).await, 1.0);
    assert!(front.proxy.stderr().contains("the client does not speak TLS"), "{}", front.proxy.stderr());
}

#[tokio::test]
async fn mutual_tls_lets_only_known_clients_in() {
    let listening = Listening::new();
    let redis = Redis::start(&listening.trust.authority).await.unwrap();
    let ca = listening.trust.ca.to_str().unwrap();
    let front = redis_front(&redis, &listening.arguments(&["--listen-client-ca", ca])).await;
    let known = listening.trust.authority.issue(&Leaf::client("app")).unwrap();
    let stream = lab::tls::connect(front.address(), "localhost", listening.client(Some(&known))).await.unwrap();
    assert_eq!(Resp::new(stream).command(&["PING"]).await.unwrap().text(), "PONG");

    let unknown = Authority::new().unwrap().issue(&Leaf::client("app")).unwrap();
    for (rejected, certificate) in [(1.0, None), (2.0, Some(&unknown))] {
        let answer = async {
            let stream = lab::tls::connect(front.address(), "localhost", listening.client(certificate)).await?;
            Resp::new(stream).command(&["PING"]).await
        };
        let error = timeout(SOON, answer).await.unwrap().unwrap_err();
        front.wait("clients_rejected_total", &[("reason", "tls")], |count| count == rejected).await;
        assert!(!format!("{error:#}").contains("PONG"));
    }
    // One PING of 14 bytes, by the one that is known.
    assert_eq!(front.metric("bytes_total", &[("direction", "client_to_upstream")]).await, 14.0);
}

async fn postgres_front(listening: &Listening) -> (Postgres, Front) {
    let postgres = Postgres::start(&listening.trust.authority).await.unwrap();
    let url = format!("postgresql://postgres:{}@localhost:{}/postgres", postgres.password(), postgres.port());
    let front = front(&url, &listening.trust.ca, &listening.arguments(&[])).await;
    (postgres, front)
}

#[tokio::test]
async fn postgres_clients_may_speak_tls() {
    let listening = Listening::new();
    let (_postgres, front) = postgres_front(&listening).await;
    let connection = format!("host=localhost hostaddr=127.0.0.1 port={} user=anyone", front.port);
    let verified = format!("{connection} sslmode=verify-full sslrootcert={}", listening.trust.ca.display());
    assert_eq!(psql_ok(&verified, "", "select current_user, 6*7").await, "postgres|42");

    let plaintext = psql_refused(&format!("{connection} sslmode=disable"), "", "select 1").await;
    assert!(plaintext.contains("FATAL") && plaintext.to_lowercase().contains("ssl"), "{plaintext}");
    front.wait("clients_rejected_total", &[], |count| count == 1.0).await;
    // The preference that falls back to plaintext must not fall back here.
    assert_eq!(psql_ok(&format!("{connection} sslmode=prefer"), "", "select 1").await, "1");
}

/// PostgreSQL 17's TLS without SSLRequest.
#[tokio::test]
async fn postgres_clients_may_begin_with_tls_if_they_say_so() {
    let listening = Listening::new();
    let (_postgres, front) = postgres_front(&listening).await;
    let with_alpn = |names: &[&str]| {
        let mut config = (*listening.client(None)).clone();
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let ask = async |config: Arc<ClientConfig>| -> anyhow::Result<Vec<u8>> {
        let mut stream = lab::tls::connect(front.address(), "localhost", config).await?;
        stream.write_all(&startup("anyone", "postgres")).await?;
        let mut answer = vec![0; 9];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(SOON, ask(with_alpn(&["postgresql"]))).await.unwrap().unwrap();
    assert_eq!(answer, b"R\0\0\0\x08\0\0\0\0", "AuthenticationOk");
    for names in [&[][..], &["http/1.1"][..]] {
        let before = front.metric("clients_rejected_total", &[]).await;
        timeout(SOON, ask(with_alpn(names))).await.unwrap().unwrap_err();
        front.wait("clients_rejected_total", &[], |count| count == before + 1.0).await;
    }
    assert!(front.proxy.stderr().contains("ALPN"), "{}", front.proxy.stderr());
}

#[tokio::test]
async fn postgres_upstream_may_begin_with_tls() {
    let Some(bin) = Postgres::newest_bin() else {
        eprintln!("skipped: no PostgreSQL 18 (LAB_PG18_BIN)");
        return;
    };
    let trust = Trust::new();
    let postgres = Postgres::builder(&trust.authority).bin(&bin).start().await.unwrap();
    let url = format!("postgresql://postgres:{}@localhost:{}/postgres", postgres.password(), postgres.port());
    let port = free_port().unwrap();
    let proxy = Proxy::start(PROGRAM, &arguments_for(&url, &trust.ca, port, &["--direct-tls"]), &[]).await.unwrap();
    let connection = format!("host=127.0.0.1 port={port} user=anyone sslmode=disable");
    assert_eq!(psql_ok(&connection, "", "select ssl from pg_stat_ssl where pid = pg_backend_pid()").await, "t");
    drop(proxy);
}
