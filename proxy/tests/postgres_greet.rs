//! What a client of shared PostgreSQL connections hears before its first query: settings as the server understands them, keys of its own,
//! refusals in the server's words. Against a real server, byte by byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod support;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{Authority, Postgres};
use redis_tls_proxy::postgres::SqlState;
use redis_tls_proxy::postgres::startup::cancel_request;
use support::{Front, front};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::next;

/// A real server with a proxy in front of it.
struct Bench {
    postgres: Postgres,
    front: Front,
}

impl Bench {
    async fn new(arguments: &[&str]) -> Self {
        let authority = Authority::new().unwrap();
        let postgres =
            Postgres::builder(&authority).user("harbor", "s3cret", "registry").user("other", "x", "notary").start().await.unwrap();
        Self::before(postgres, arguments).await
    }

    async fn before(postgres: Postgres, arguments: &[&str]) -> Self {
        let url = format!("postgresql://harbor:s3cret@localhost:{}/registry", postgres.port());
        let front = front(&url, &postgres.ca_file(), arguments).await;
        Self { postgres, front }
    }

    /// Connects with these parameters and reads to ReadyForQuery, or to the end.
    async fn connect(&self, minor: u16, parameters: &[(&str, &str)]) -> Greeting {
        let mut stream = self.front.tcp().await;
        stream.write_all(&packet(minor, parameters)).await.unwrap();
        Greeting::read(stream).await
    }

    /// What it is told, code and text, instead of being served.
    async fn refused(&self, parameters: &[(&str, &str)]) -> (String, String) {
        let mut greeting = self.connect(0, parameters).await;
        let error = greeting.error.take().unwrap_or_else(|| panic!("served: {greeting:?}"));
        assert!(error.contains("VFATAL\0"), "{error:?}");
        let code = SqlState::of_error(error.as_bytes()).unwrap().to_string();
        let mut rest = Vec::new();
        greeting.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        (code, error.split('\0').find_map(|field| field.strip_prefix('M')).unwrap().to_owned())
    }

    /// Leases so far.
    async fn leases(&self) -> f64 {
        self.front.metric("leases_total", &[]).await
    }
}

fn packet(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut strings = b"user\0somebody\0".to_vec();
    for (name, value) in parameters {
        strings.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    strings.push(0);
    let mut packet = wire::startup_packet(&strings);
    packet[6..8].copy_from_slice(&minor.to_be_bytes());
    packet
}

/// What a client has heard.
#[derive(Debug)]
struct Greeting {
    stream: TcpStream,
    /// The types of the messages, in order.
    kinds: String,
    negotiated: Option<Vec<u8>>,
    settings: BTreeMap<String, String>,
    key: Option<(u32, Vec<u8>)>,
    error: Option<String>,
}

impl Greeting {
    async fn read(stream: TcpStream) -> Self {
        let settings = BTreeMap::new();
        let mut heard = Self { stream, kinds: String::new(), negotiated: None, settings, key: None, error: None };
        loop {
            let (kind, body) = timeout(Duration::from_secs(30), next(&mut heard.stream)).await.unwrap();
            heard.kinds.push(char::from(kind));
            match kind {
                b'v' => heard.negotiated = Some(body),
                b'R' if body == [0; 4] => {}
                b'S' => {
                    let text = String::from_utf8(body).unwrap();
                    let (name, value) = text.strip_suffix('\0').unwrap().split_once('\0').unwrap();
                    heard.settings.insert(name.to_owned(), value.to_owned());
                }
                b'K' => heard.key = Some((u32::from_be_bytes(body[..4].try_into().unwrap()), body[4..].to_vec())),
                b'Z' if body == b"I" => return heard,
                b'E' => {
                    heard.error = Some(String::from_utf8(body).unwrap());
                    return heard;
                }
                other => panic!("unexpected {}", char::from(other)),
            }
        }
    }

    fn setting(&self, name: &str) -> &str {
        &self.settings[name]
    }
}

#[tokio::test]
async fn a_greeting_is_that_of_a_session_of_its_own() {
    for mode in ["session", "transaction"] {
        let bench = Bench::new(&["--pool", mode]).await;
        let plain = bench.connect(0, &[]).await;
        assert!(plain.kinds.starts_with("RS") && plain.kinds.ends_with("SKZ"), "{}", plain.kinds);
        for name in ["server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes", "IntervalStyle"]
        {
            assert!(plain.settings.contains_key(name), "{name}");
        }
        assert_eq!((plain.setting("session_authorization"), plain.setting("application_name")), ("harbor", ""));
        let (process, secret) = plain.key.clone().unwrap();
        assert!(process > 0 && i32::try_from(process).is_ok() && secret.len() == 4);

        let wishes = [
            ("timezone", "utc"),
            ("datestyle", "german"),
            ("client_encoding", "latin-1"),
            ("application_name", "it's me"),
            ("options", r#"-c intervalstyle=iso_8601 --statement-timeout=5s -c search_path="$user",\ public -c TimeZone=Asia/Tokyo"#),
        ];
        let own = bench.connect(0, &wishes).await;
        for (name, value) in
            [("TimeZone", "UTC"), ("DateStyle", "German, DMY"), ("client_encoding", "LATIN1"), ("application_name", "it's me")]
        {
            assert_eq!(own.setting(name), value);
        }
        assert_eq!(own.setting("IntervalStyle"), "iso_8601");
        assert_ne!(own.key, plain.key);
        // And none of it stays behind.
        let again = bench.connect(0, &[]).await;
        assert_eq!(again.settings, plain.settings);
        let partly = bench.connect(0, &[("DateStyle", "SQL, MDY")]).await;
        assert_eq!((partly.setting("DateStyle"), partly.setting("TimeZone")), ("SQL, MDY", plain.setting("TimeZone")));
    }
}

#[tokio::test]
async fn the_usual_login_needs_no_server() {
    let bench = Bench::new(&["--pool", "transaction", "--workers", "1"]).await;
    let wishes = [("timezone", "UTC"), ("application_name", "core")];
    let first = bench.connect(0, &wishes).await;
    let leases = bench.leases().await;
    for _ in 0..5 {
        assert_eq!(bench.connect(0, &wishes).await.settings, first.settings);
        assert_eq!(bench.connect(0, &[wishes[1], wishes[0]]).await.settings, first.settings);
        bench.connect(0, &[]).await;
    }
    assert_eq!(bench.leases().await, leases);
    bench.connect(0, &[("timezone", "Asia/Tokyo")]).await;
    assert_eq!(bench.leases().await, leases + 1.0);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_servers_words() {
    let bench = Bench::new(&["--pool", "transaction", "--pool-size", "1"]).await;
    for (parameters, code, text) in [
        (&[("nonsense", "1")][..], "42704", "unrecognized configuration parameter \"nonsense\""),
        (&[("TimeZone", "Nowhere/Town")], "22023", "invalid value for parameter \"TimeZone\": \"Nowhere/Town\""),
        (&[("options", "-c statement_timeout=long")], "22023", "invalid value for parameter \"statement_timeout\": \"long\""),
        (&[("options", "-d 5")], "42601", "invalid command-line argument for server process: -d"),
        (&[("options", "-c geqo")], "42601", "-c geqo requires a value"),
        (&[("log_statement", "none")], "42501", "permission denied to set parameter \"log_statement\""),
        (&[("server_version", "19")], "55P02", "parameter \"server_version\" cannot be changed"),
        (&[("TimeZone'); DROP TABLE x; --", "1")], "", ""),
        (&[("database", "nowhere")], "3D000", "database \"nowhere\" does not exist"),
        (&[("replication", "true")], "0A000", "replication is not possible over pooled connections"),
    ] {
        let (seen, said) = bench.refused(parameters).await;
        assert!(code.is_empty() || seen == code, "{parameters:?}: {seen} {said}");
        assert!(said.starts_with(text), "{parameters:?}: {said}");
    }
    // After all that the one connection is as good as new.
    let fine = bench.connect(0, &[("replication", "off"), ("database", "notary")]).await;
    assert!(fine.error.is_none());
    assert_eq!(bench.postgres.sql("select count(*) from pg_stat_activity where usename = 'harbor'").await.unwrap(), "1");
}

#[tokio::test]
async fn nothing_in_a_startup_message_is_sql() {
    let bench = Bench::new(&["--pool", "session"]).await;
    bench.postgres.sql_in("registry", "create table x(); grant all on x to harbor; create schema \"q'); drop table x; --\"").await.unwrap();
    for value in ["'; DROP TABLE x; --", "x'); DROP TABLE x; --", r"\'; DROP TABLE x; --", "$1", "$$; DROP TABLE x; --"] {
        assert_eq!(bench.connect(0, &[("application_name", value)]).await.setting("application_name"), value);
    }
    for path in [r#""q'); drop table x; --", public"#, r#""$user", public"#, "''"] {
        let options = format!("-c search_path={}", path.replace('\\', r"\\").replace(' ', r"\ "));
        assert!(bench.connect(0, &[("options", &options)]).await.error.is_none(), "{path}");
    }
    assert_eq!(bench.postgres.sql_in("registry", "select count(*) from x").await.unwrap(), "0");
}

#[tokio::test]
async fn versions_and_keys() {
    let bench = Bench::new(&["--pool", "transaction"]).await;
    let new = bench.connect(2, &[]).await;
    assert!(new.kinds.starts_with("RS") && new.negotiated.is_none());
    assert_eq!(new.key.unwrap().1.len(), 32);
    let greased = bench.connect(9999, &[("_pq_.test_protocol_negotiation", "")]).await;
    assert!(greased.kinds.starts_with("vRS"), "{}", greased.kinds);
    assert_eq!(greased.kinds.matches('v').count(), 1);
    assert_eq!(greased.negotiated.unwrap(), b"\0\x03\0\x02\0\0\0\x01_pq_.test_protocol_negotiation\0");
    assert_eq!(greased.key.unwrap().1.len(), 32);
    let old = bench.connect(1, &[]).await;
    assert_eq!((old.negotiated.unwrap(), old.key.unwrap().1.len()), (b"\0\x03\0\0\0\0\0\0".to_vec(), 4));
}

#[tokio::test]
async fn versions_are_negotiated_before_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "local").unwrap();
    let arguments = ["--pool", "transaction", "--client-auth", "password", "--client-password-file", file.to_str().unwrap()];
    let bench = Bench::new(&arguments).await;
    let mut stream = bench.front.tcp().await;
    stream.write_all(&packet(9999, &[])).await.unwrap();
    let (first, second) = (next(&mut stream).await, next(&mut stream).await);
    assert_eq!((first.0, second.0, &second.1[..4]), (b'v', b'R', &[0, 0, 0, 10][..]));
}

#[tokio::test]
async fn a_cancel_without_a_meaning_is_closed_without_words() {
    let bench = Bench::new(&["--pool", "transaction"]).await;
    let client = bench.connect(2, &[]).await;
    let (process, secret) = client.key.clone().unwrap();
    let mut wrong = secret.clone();
    wrong[31] ^= 1;
    for (process, secret) in [(process, &secret[..]), (process, &wrong), (process, &secret[..4]), (process ^ 1, &secret)] {
        let mut stream = bench.front.tcp().await;
        stream.write_all(&cancel_request(process, secret)).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty());
    }
    assert_eq!(bench.front.metric("cancel_requests_total", &[]).await, 0.0, "nothing had a connection");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_until_the_limit() {
    let mut bench = Bench::new(&["--pool", "transaction", "--pool-min-idle", "0", "--pool-wait-timeout", "1s"]).await;
    bench.postgres.stop().await.unwrap();
    let (code, text) = bench.refused(&[]).await;
    assert_eq!(code, "08006", "{text}");
    bench.postgres.restart().await.unwrap();
    // The pause between tries may be longer than one login waits.
    let served = async { while bench.connect(0, &[]).await.error.is_some() {} };
    timeout(support::SOON, served).await.expect("the server is back");
}

#[tokio::test]
async fn too_many_clients_are_refused() {
    let bench = Bench::new(&["--pool", "transaction", "--max-clients", "1"]).await;
    let stream = bench.front.tcp().await;
    bench.front.wait("clients_open", &[], |open| open >= 1.0).await;
    let (code, _) = bench.refused(&[]).await;
    assert_eq!(code, "53300");
    drop(stream);
}
