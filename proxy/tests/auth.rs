//! Logins: the proxy's own at the server, clients' at the proxy, clients' own through the proxy; cancel requests; and secrets that stay secret.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use lab::certs::write_private;
use lab::postgres::Auth;
use lab::process::Signal;
use lab::{Leaf, Postgres, Proxy, Redis, Value, free_port};
use support::{Front, PROGRAM, SOON, Trust, front, psql_ok, psql_refused, text};
use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;

const UPSTREAM: &str = "Upstream-s3cret-77";
const LOCAL: &str = "Local-s3cret-88";

fn secret(trust: &Trust, name: &str, password: &str) -> PathBuf {
    let path = trust.path(name);
    // With the newline that editors add.
    write_private(&path, &format!("{password}\n")).unwrap();
    path
}

/// Arguments for a listener that wants [`LOCAL`] from its clients.
fn local(trust: &Trust) -> [String; 4] {
    let file = secret(trust, "client-password", LOCAL).to_str().unwrap().to_owned();
    ["--client-auth".into(), "password".into(), "--client-password-file".into(), file]
}

async fn redis_server(trust: &Trust) -> Redis {
    Redis::builder(&trust.authority).password(UPSTREAM).user("app", "app-pw").start().await.unwrap()
}

/// Sets a key through the proxy and looks for it in a database of the server.
async fn lands_in(front: &Front, redis: &Redis, database: &str) {
    let mut client = front.resp().await;
    let key = format!("key-{}", fastrand::u64(..));
    assert_eq!(client.command(&["SET", &key, "1"]).await.unwrap(), Value::ok(), "{}", front.proxy.stderr());
    let keyspace = redis.admin(&["EVAL", "redis.call('SELECT', ARGV[1]) return redis.call('EXISTS', KEYS[1])", "1", &key, database]).await;
    assert_eq!(keyspace.unwrap(), Value::Int(1), "not in database {database}");
}

#[tokio::test]
async fn the_proxy_logs_in_to_redis_with_and_without_a_user() {
    let trust = Trust::new();
    let redis = redis_server(&trust).await;
    let port = redis.port();
    for (login, database) in [(format!(":{UPSTREAM}@"), "0"), ("app:app-pw@".to_owned(), "3"), (format!("default:{UPSTREAM}@"), "7")] {
        let front = front(&format!("rediss://{login}localhost:{port}/{database}"), &trust.ca, &[]).await;
        lands_in(&front, &redis, database).await;
        let who = front.resp().await.command(&["ACL", "WHOAMI"]).await.unwrap().text();
        assert_eq!(who, if login.starts_with("app") { "app" } else { "default" });
    }
    let file = secret(&trust, "upstream-password", UPSTREAM);
    let front = front(&format!("rediss://default@localhost:{port}/2"), &trust.ca, &["--password-file", file.to_str().unwrap()]).await;
    lands_in(&front, &redis, "2").await;
}

#[tokio::test]
async fn a_wrong_upstream_password_is_the_operators_business() {
    let trust = Trust::new();
    let redis = redis_server(&trust).await;
    let front = front(&format!("rediss://:not-{UPSTREAM}@localhost:{}", redis.port()), &trust.ca, &["--pool-min-idle", "0"]).await;
    let answer = front.resp().await.command(&["PING"]).await.unwrap().text();
    assert_eq!(answer, "ERR redis-tls-proxy: the server refused the proxy's login");
    assert_eq!(front.errors("login").await, 1.0);
    assert!(front.proxy.stderr().contains("wrong user or password"), "{}", front.proxy.stderr());
}

#[tokio::test]
async fn redis_clients_need_the_local_password() {
    let trust = Trust::new();
    let redis = redis_server(&trust).await;
    let arguments = local(&trust);
    let front =
        front(&format!("rediss://:{UPSTREAM}@localhost:{}", redis.port()), &trust.ca, &arguments.each_ref().map(String::as_str)).await;

    let mut client = front.resp().await;
    assert_eq!(client.command(&["GET", "k"]).await.unwrap().text(), "NOAUTH Authentication required.");
    for wrong in [&["AUTH", "guess"][..], &["AUTH", "default", UPSTREAM], &["HELLO", "3", "AUTH", "default", "guess"]] {
        let answer = client.command(wrong).await.unwrap();
        assert!(answer.is_error() && answer.text().starts_with("WRONGPASS"), "{wrong:?}: {answer:?}");
    }
    assert_eq!(client.command(&["AUTH", LOCAL]).await.unwrap(), Value::ok());
    assert_eq!(client.command(&["SET", "k", "v"]).await.unwrap(), Value::ok());

    let mut client = front.resp().await;
    assert_eq!(client.command(&["AUTH", "anyone", LOCAL]).await.unwrap(), Value::ok());
    assert_eq!(client.command(&["GET", "k"]).await.unwrap().text(), "v");

    let mut client = front.resp().await;
    let hello = client.command(&["HELLO", "3", "AUTH", "anyone", LOCAL, "SETNAME", "worker"]).await.unwrap();
    assert!(matches!(&hello, Value::Map(_)), "{hello:?}");
    assert_eq!(client.command(&["GET", "nothing"]).await.unwrap(), Value::Null);
    assert_eq!(client.command(&["CLIENT", "GETNAME"]).await.unwrap().text(), "worker");

    // Pipelined behind the login, as client libraries do.
    let mut client = front.resp().await;
    client.send_raw(&[lab::resp::encode(&["AUTH", LOCAL]), lab::resp::encode(&["GET", "k"])].concat()).await.unwrap();
    assert_eq!((client.read().await.unwrap(), client.read().await.unwrap().text()), (Value::ok(), "v".to_owned()));

    let mut guesser = front.resp().await;
    guesser.command(&["AUTH", "guess"]).await.unwrap();
    drop(guesser);
    front.wait("clients_rejected_total", &[("reason", "auth")], |count| count >= 1.0).await;
}

#[tokio::test]
async fn redis_logins_pass_through_where_the_proxy_has_none() {
    let trust = Trust::new();
    let redis = redis_server(&trust).await;
    let front = front(&format!("rediss://localhost:{}", redis.port()), &trust.ca, &[]).await;
    let mut client = front.resp().await;
    assert!(client.command(&["GET", "k"]).await.unwrap().text().starts_with("NOAUTH"));
    assert!(client.command(&["AUTH", "app", "wrong"]).await.unwrap().text().starts_with("WRONGPASS"));
    assert_eq!(client.command(&["AUTH", "app", "app-pw"]).await.unwrap(), Value::ok());
    assert_eq!(client.command(&["ACL", "WHOAMI"]).await.unwrap().text(), "app");
}

fn plain(port: u16, user: &str) -> String {
    format!("host=127.0.0.1 port={port} user={user} dbname=postgres sslmode=disable")
}

#[tokio::test]
async fn postgres_clients_need_the_local_password() {
    let trust = Trust::new();
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let url = format!("postgresql://postgres:{}@localhost:{}/postgres", postgres.password(), postgres.port());
    let front = front(&url, &trust.ca, &local(&trust).each_ref().map(String::as_str)).await;
    for user in ["harbor", "postgres", "it's me"] {
        let connection = plain(front.port, &format!("'{}'", user.replace('\'', "\\'")));
        assert_eq!(psql_ok(&connection, LOCAL, "select current_user").await, "postgres", "{user}");
    }
    for wrong in ["guess", postgres.password()] {
        let said = psql_refused(&plain(front.port, "harbor"), wrong, "select 1").await;
        assert!(said.contains("password authentication failed for user \"harbor\""), "{said}");
    }
    let config = format!("{} password=guess", plain(front.port, "harbor"));
    let error = tokio_postgres::connect(&config, NoTls).await.map(drop).unwrap_err();
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("28P01"));
    front.wait("clients_rejected_total", &[("reason", "auth")], |count| count >= 3.0).await;
}

#[tokio::test]
async fn the_proxy_logs_in_to_postgres_by_scram_and_md5_only() {
    let trust = Trust::new();
    for (auth, allowed) in [(Auth::Scram, true), (Auth::Md5, true), (Auth::Password, false), (Auth::Trust, false)] {
        let postgres = Postgres::builder(&trust.authority).auth(auth).user("app", "app-pw", "registry").start().await.unwrap();
        let front = front(&format!("postgresql://app:app-pw@localhost:{}/registry", postgres.port()), &trust.ca, &[]).await;
        // A client that names no database gets the one of the URL.
        let connection = format!("host=127.0.0.1 port={} user=anyone sslmode=disable", front.port);
        if allowed {
            assert_eq!(psql_ok(&connection, "", "select current_user, current_database()").await, "app|registry", "{auth:?}");
            let other = psql_ok(&format!("{connection} dbname=postgres"), "", "select current_database()").await;
            assert_eq!(other, "postgres", "{auth:?}: a client's own choice stays");
        } else {
            let said = psql_refused(&connection, "", "select 1").await;
            assert!(said.contains("FATAL") && said.contains("the server refused the proxy's login"), "{auth:?}: {said}");
            // Counted when the client has closed in its turn.
            front.wait("errors_total", &[("kind", "login")], |errors| errors == 1.0).await;
            let log = front.proxy.stderr();
            let words = if auth == Auth::Trust { "lets everybody in without a password" } else { "SCRAM-SHA-256 and MD5 only" };
            assert!(log.contains(words), "{auth:?}: {log}");
        }
    }
}

#[tokio::test]
async fn postgres_logins_pass_through_where_the_proxy_has_none() {
    let trust = Trust::new();
    for auth in [Auth::Scram, Auth::Md5] {
        let postgres = Postgres::builder(&trust.authority).auth(auth).user("app", "app-pw", "registry").start().await.unwrap();
        let front = front(&format!("postgresql://localhost:{}", postgres.port()), &trust.ca, &[]).await;
        let connection = plain(front.port, "app");
        assert_eq!(psql_ok(&connection, "app-pw", "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()").await, "app|t");
        let said = psql_refused(&connection, "wrong", "select 1").await;
        assert!(said.contains("password authentication failed for user \"app\""), "{said}");
        front.wait("clients_rejected_total", &[("reason", "auth")], |count| count == 1.0).await;
        let said = psql_refused(&plain(front.port, "app").replace("dbname=postgres", "dbname=missing"), "app-pw", "select 1").await;
        assert!(said.contains("database \"missing\" does not exist"), "the server's own words: {said}");
    }
}

/// With TLS on both sides the client knows of channel binding and the server offers it, but it ends at the proxy, and the server takes the
/// client's "you do not offer it" for an attack. Nothing in between can mend that, since the flag is part of what is signed: a client must
/// not ask for it, or the proxy must hold the credentials.
#[tokio::test]
async fn postgres_logins_pass_through_a_tls_listener() {
    let trust = Trust::new();
    let files = trust.authority.issue(&Leaf::server()).unwrap().write(trust.dir.path(), "listen").unwrap();
    let certificate = ["--listen-cert", files.cert.to_str().unwrap(), "--listen-key", files.key.to_str().unwrap()];
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let front = front(&format!("postgresql://localhost:{}", postgres.port()), &trust.ca, &certificate).await;
    let connection = plain(front.port, "postgres").replace("sslmode=disable", "sslmode=require");
    let unbound = format!("{connection} channel_binding=disable");
    assert_eq!(psql_ok(&unbound, postgres.password(), "select 1").await, "1");
    let said = psql_refused(&connection, postgres.password(), "select 1").await;
    assert!(said.contains("channel binding"), "{said}");
}

#[tokio::test]
async fn ctrl_c_in_psql_cancels_the_query() {
    let trust = Trust::new();
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let url = format!("postgresql://postgres:{}@localhost:{}/postgres", postgres.password(), postgres.port());
    let front = front(&url, &trust.ca, &[]).await;
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["-X", "-c", "select pg_sleep(30)", &plain(front.port, "anyone")]);
    let psql = psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    while postgres.sql("select count(*) from pg_stat_activity where query = 'select pg_sleep(30)'").await.unwrap() != "1" {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let pid = rustix::process::Pid::from_raw(i32::try_from(psql.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let output = timeout(SOON, psql.wait_with_output()).await.expect("it must end").unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let said = text(&output.stderr);
    assert!(said.contains("canceling statement due to user request"), "{said} {:?}", output.status.signal());
    assert_eq!(front.metric("cancel_requests_total", &[]).await, 1.0);
    assert_eq!(front.metric("errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn secrets_show_nowhere() {
    let trust = Trust::new();
    let redis = redis_server(&trust).await;
    let postgres = Postgres::start(&trust.authority).await.unwrap();
    let file = secret(&trust, "upstream-password", UPSTREAM);
    let postgres_file = secret(&trust, "postgres-password", postgres.password());
    let wrong_file = secret(&trust, "wrong-password", "Wrong-s3cret-99");
    let ports = [(); 3].map(|()| free_port().unwrap());
    let url = |login: &str, upstream: u16, listen: u16, file: &PathBuf| {
        format!("{login}@localhost:{upstream}?listen=127.0.0.1:{listen}&password_file={}", file.display())
    };
    let arguments = [
        vec!["run".to_owned(), "--ca-only".into(), "--ca-file".into(), trust.ca.to_str().unwrap().into()],
        vec!["--log-level".into(), "trace".into()],
        local(&trust).to_vec(),
        vec![url("rediss://default", redis.port(), ports[0], &file)],
        vec![url("postgresql://postgres", postgres.port(), ports[1], &postgres_file)],
        vec![url("rediss://default", redis.port(), ports[2], &wrong_file)],
    ]
    .concat();
    let proxy = Proxy::start(PROGRAM, &arguments, &[]).await.unwrap();
    let [good, sql, bad] = ports.map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    for (address, expected) in [(good, "PONG"), (bad, "ERR redis-tls-proxy: the server refused the proxy's login")] {
        let mut client = lab::Resp::connect(address).await.unwrap();
        client.command(&["AUTH", "Guess-s3cret-11"]).await.unwrap();
        client.command(&["AUTH", LOCAL]).await.unwrap();
        assert_eq!(client.command(&["PING"]).await.unwrap().text(), expected);
    }
    let mut client = lab::Resp::connect(good).await.unwrap();
    client.command(&["HELLO", "3", "AUTH", "default", LOCAL]).await.unwrap();
    client.command(&["SET", "Key-s3cret-22", "Value-s3cret-33"]).await.unwrap();
    psql_refused(&plain(sql.port(), "someone"), "Guess-s3cret-11", "select 1").await;
    assert_eq!(psql_ok(&plain(sql.port(), "someone"), LOCAL, "select 'Query-s3cret-44'").await, "Query-s3cret-44");

    let cmdline = std::fs::read(format!("/proc/{}/cmdline", proxy.pid())).unwrap();
    let places = [
        ("the arguments", text(&cmdline)),
        ("the log", proxy.stderr() + &proxy.stdout()),
        ("/metrics", proxy.metrics().await.unwrap()),
        ("/status", proxy.get("/status").await.unwrap().body),
        ("the page", proxy.get("/").await.unwrap().body),
    ];
    assert!(places[1].1.contains("DEBUG") || places[1].1.contains("TRACE"), "the log is not talkative enough to prove anything");
    for (place, content) in places {
        assert!(!content.is_empty());
        for secret in ["s3cret", postgres.password()] {
            assert!(!content.contains(secret), "`{secret}` is in {place}: {content}");
        }
    }
}
