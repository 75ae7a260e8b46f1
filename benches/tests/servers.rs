//! The lab's servers do what the tests that use them rely on.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::postgres::Auth;
use lab::process::{self, Launch, Process, Signal};
use lab::{Authority, Hosts, Leaf, Postgres, Redis, Resp, Value, tls, usage};

const SOON: Duration = Duration::from_secs(5);

async fn ping(redis: &Redis, authority: &Authority, password: Option<&str>) -> Result<Value> {
    let stream = tls::connect(redis.address(), "localhost", tls::client_config(authority, None)?).await?;
    let mut client = Resp::new(stream);
    if let Some(password) = password {
        client.command(&["AUTH", password]).await?;
    }
    client.command(&["PING"]).await
}

#[tokio::test]
async fn redis_answers_over_tls() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).plain().password("s3cret").user("app", "other").start().await.unwrap();
    assert_eq!(ping(&redis, &authority, Some("s3cret")).await.unwrap(), Value::Simple("PONG".into()));
    assert!(ping(&redis, &authority, None).await.unwrap().is_error(), "it must want the password");

    let mut plain = Resp::connect(("127.0.0.1", redis.plain_port().unwrap())).await.unwrap();
    assert_eq!(plain.command(&["AUTH", "app", "other"]).await.unwrap(), Value::ok());
    assert_eq!(plain.command(&["RPUSH", "l", "a", "b"]).await.unwrap(), Value::Int(2));
    let list = plain.command(&["LRANGE", "l", "0", "-1"]).await.unwrap();
    assert_eq!(list, Value::Array(vec![Value::Bulk(b"a".to_vec()), Value::Bulk(b"b".to_vec())]));
    assert_eq!(plain.command(&["GET", "nothing"]).await.unwrap(), Value::Null);
    assert_eq!(redis.clients().await.unwrap(), 1);

    let arguments = std::fs::read(format!("/proc/{}/cmdline", redis.pid().unwrap())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("s3cret"), "the password is among the arguments");
}

#[tokio::test]
async fn every_bad_certificate_is_refused() {
    let authority = Authority::new().unwrap();
    let bad = [
        ("Expired", Leaf::server().expired()),
        ("NotValidYet", Leaf::server().not_yet_valid()),
        ("NotValidForName", Leaf::server().wrong_name()),
        ("UnknownIssuer", Leaf::server().without_intermediate()),
    ];
    let redis = Redis::start(&authority).await.unwrap();
    for (reason, leaf) in bad {
        redis.set_certificate(&authority.issue(&leaf).unwrap()).await.unwrap();
        let error = format!("{:#?}", ping(&redis, &authority, None).await.unwrap_err());
        assert!(error.contains(reason), "{reason} is not in: {error}");
    }
    for leaf in [Leaf::server().through_intermediate(), Leaf::server().rsa(), Leaf::server().days_left(3)] {
        redis.set_certificate(&authority.issue(&leaf).unwrap()).await.unwrap();
        ping(&redis, &authority, None).await.unwrap();
    }
    let stranger = Authority::new().unwrap();
    let error = format!("{:#?}", ping(&redis, &stranger, None).await.unwrap_err());
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
}

#[tokio::test]
async fn redis_wants_client_certificates_when_told_to() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).require_client_certificate().tls_protocols("TLSv1.2").start().await.unwrap();
    ping(&redis, &authority, None).await.unwrap_err();
    let client = authority.issue(&Leaf::client("app")).unwrap();
    let config = tls::client_config(&authority, Some(&client)).unwrap();
    let stream = tls::connect(redis.address(), "127.0.0.1", config).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    assert_eq!(Resp::new(stream).command(&["PING"]).await.unwrap(), Value::Simple("PONG".into()));
}

#[tokio::test]
async fn redis_stops_freezes_and_comes_back_on_its_port() {
    let authority = Authority::new().unwrap();
    let mut redis = Redis::start(&authority).await.unwrap();
    let port = redis.port();
    redis.freeze();
    let frozen = tokio::time::timeout(Duration::from_millis(100), ping(&redis, &authority, None)).await;
    assert!(frozen.is_err(), "a frozen server must not answer");
    redis.thaw();
    ping(&redis, &authority, None).await.unwrap();
    redis.stop().await.unwrap();
    ping(&redis, &authority, None).await.unwrap_err();
    redis.restart().await.unwrap();
    assert_eq!(redis.port(), port);
    ping(&redis, &authority, None).await.unwrap();
}

/// `psql` over TCP as a user would call it; the password comes from the environment.
fn psql(postgres: &Postgres, user: &str, password: &str, options: &str, sql: &str) -> Result<String> {
    let mut psql = Command::new(postgres.client("psql")?);
    let (port, ca) = (postgres.port(), postgres.ca_file());
    psql.arg("-XAtq").arg(format!("host=localhost port={port} user={user} sslrootcert={} {options}", ca.display()));
    process::run(psql.env("PGPASSWORD", password), Launch::default(), sql)
}

#[tokio::test]
async fn psql_connects_with_verify_full() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).user("app", "it's", "registry").ssl_only().max_connections(20).start().await.unwrap();
    let full = "sslmode=verify-full channel_binding=require dbname=registry";
    let answer = psql(&postgres, "app", "it's", full, "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()").unwrap();
    assert_eq!(answer.trim(), "app|t");
    psql(&postgres, "app", "wrong", full, "select 1").unwrap_err();
    let refused = psql(&postgres, "app", "it's", "sslmode=disable dbname=registry", "select 1").unwrap_err();
    assert!(refused.to_string().contains("no encryption"), "{refused}");
    let admin = postgres.password().to_owned();
    assert_eq!(psql(&postgres, "postgres", &admin, "sslmode=verify-full dbname=postgres", "show max_connections").unwrap().trim(), "20");
    assert_eq!(postgres.clients().await.unwrap(), 0);
}

#[tokio::test]
async fn postgres_has_other_logins_and_restarts() {
    let authority = Authority::new().unwrap();
    let mut postgres = Postgres::builder(&authority).auth(Auth::Md5).user("old", "pw", "old").start().await.unwrap();
    assert!(postgres.sql("select rolpassword from pg_authid where rolname = 'old'").await.unwrap().starts_with("md5"));
    psql(&postgres, "old", "pw", "sslmode=disable dbname=old", "create table kept as select 1").unwrap();
    postgres.restart().await.unwrap();
    assert_eq!(postgres.sql_in("old", "select count(*) from kept").await.unwrap(), "1");
}

#[tokio::test]
async fn postgres_wants_client_certificates_when_told_to() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).require_client_certificate().user("app", "pw", "app").start().await.unwrap();
    let without = psql(&postgres, "app", "pw", "sslmode=verify-full dbname=app", "select 1").unwrap_err();
    assert!(without.to_string().contains("client certificate"), "{without}");
    let dir = tempfile::tempdir().unwrap();
    let files = authority.issue(&Leaf::client("app")).unwrap().write(dir.path(), "app").unwrap();
    let with = format!("sslmode=verify-full dbname=app sslcert={} sslkey={}", files.cert.display(), files.key.display());
    assert_eq!(psql(&postgres, "app", "pw", &with, "select 1").unwrap().trim(), "1");
}

#[tokio::test]
async fn the_newest_postgres_starts_too() {
    let Some(bin) = Postgres::newest_bin() else {
        eprintln!("skipped: no PostgreSQL 18; set LAB_PG18_BIN to the directory with its initdb and postgres");
        return;
    };
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).bin(&bin).start().await.unwrap();
    let version: u32 = postgres.sql("show server_version_num").await.unwrap().parse().unwrap();
    assert!(version >= 180_000, "{version}");
}

#[tokio::test]
async fn nothing_is_left_after_a_drop() {
    let authority = Authority::new().unwrap();
    let (mut redis, postgres) = tokio::join!(Redis::start(&authority), Postgres::start(&authority));
    let mut pids = Vec::new();
    for root in [redis.as_ref().unwrap().pid().unwrap(), postgres.as_ref().unwrap().pid().unwrap()] {
        pids.extend(usage::tree(root));
    }
    assert!(pids.len() > 4, "PostgreSQL has several processes: {pids:?}");
    redis.as_mut().unwrap().freeze();
    postgres.as_ref().unwrap().freeze();
    let dirs = [redis.as_ref().unwrap().ca_file(), postgres.as_ref().unwrap().ca_file()];
    drop((redis, postgres));
    for pid in pids {
        process::gone(pid).await.unwrap();
    }
    for file in dirs {
        assert!(!file.parent().unwrap().exists(), "{} is left", file.display());
    }
}

#[tokio::test]
async fn children_are_captured_measured_and_killed_with_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo out; echo err >&2; setsid sleep 1000 & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; wait"]);
    let mut process = Process::spawn("shell", &command, dir.path()).unwrap();
    lab::until("it has counted", SOON, || process.stdout() == "out\ndone\n").await.unwrap();
    assert_eq!(process.stderr(), "err\n");
    let usage = process.usage().unwrap();
    assert_eq!(usage.processes, 2);
    assert!(usage.cpu >= Duration::from_millis(10) && usage.rss_bytes > 100_000 && usage.pss_bytes <= usage.rss_bytes, "{usage:?}");
    let tree = usage::tree(process.id());
    process.kill();
    for pid in tree {
        process::gone(pid).await.unwrap();
    }
    let mut quick = Process::spawn("true", Command::new("sh").args(["-c", "kill -TERM $$"]), dir.path()).unwrap();
    let status = quick.wait_exit(SOON).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::TERM.as_raw()));
    let error = process::require("no-such-server", "its-package").unwrap_err().to_string();
    assert!(error.contains("its-package"), "{error}");
}

#[tokio::test]
async fn a_name_moves_under_a_running_program() {
    let Some(hosts) = Hosts::new().unwrap() else {
        eprintln!("skipped: this machine does not allow private mounts");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let before = std::fs::read_to_string("/etc/hosts").unwrap();
    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 2])]).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "while :; do getent ahostsv4 db.test | head -n1 | cut -d' ' -f1; sleep 0.01; done"]);
    let process = Process::spawn("resolver", &hosts.command(&shell), dir.path()).unwrap();
    lab::until("the first address", SOON, || process.stdout().ends_with("127.0.0.2\n")).await.unwrap();
    hosts.set("db.test", &[IpAddr::from([127, 0, 0, 3])]).unwrap();
    lab::until("the second address", SOON, || process.stdout().ends_with("127.0.0.3\n")).await.unwrap();
    assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), before, "the machine's own file must not change");
    assert!(Path::new(&format!("/proc/{}", process.id())).exists());
}
