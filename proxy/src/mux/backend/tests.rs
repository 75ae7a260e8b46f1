//! Against a real redis-server over TLS: what is opened, what is kept of HELLO, and that nothing of one user is left for the next. Skipped,
//! and said so, where there is none.

use std::collections::BTreeMap;

use lab::redis::Builder;
use lab::{Authority, Redis, Resp};
use secrecy::SecretSlice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::key::Login;
use super::*;
use crate::config::settings::Key as Setting;
use crate::config::{Purpose, Sources, load};
use crate::error::{Error, Kind};
use crate::error_log::ErrorLog;
use crate::metrics::Metrics;

/// A server, and the backend for it.
struct Bench {
    redis: Redis,
    server: RedisServer,
    metrics: crate::metrics::ListenerMetrics,
}

impl Bench {
    /// `login`: what stands before the host in the URL; `path`: what behind it. `None` when redis-server is not installed.
    async fn start(login: &str, path: &str, describe: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Option<Self> {
        if lab::process::find("redis-server").is_none() {
            println!("skipped: no redis-server");
            return None;
        }
        let authority = Authority::new().unwrap();
        let redis = describe(Redis::builder(&authority)).start().await.unwrap();
        let ca = redis.ca_file().display().to_string();
        let sources = Sources {
            urls: vec![format!("rediss://{login}localhost:{}{path}", redis.port())],
            file: None,
            flags: BTreeMap::from([(Setting::CaFile, ca), (Setting::CaOnly, "on".to_owned())]),
            env: &|_| None,
            variables: Vec::new(),
            purpose: Purpose::Check,
            probe: &|_| Ok(()),
        };
        let config = load(&sources).unwrap().config;
        let metrics = Metrics::new().unwrap().listener("test");
        let errors = Arc::new(ErrorLog::new("test", metrics.clone()));
        let upstream = Upstream::new(&config.listeners[0], metrics.clone(), errors).unwrap();
        Some(Self { redis, server: RedisServer::new(Arc::new(upstream), false), metrics })
    }

    async fn open(&self, key: &Key) -> Link {
        self.server.open(key).await.unwrap()
    }

    async fn error(&self, key: &Key) -> Error {
        self.server.open(key).await.err().unwrap()
    }

    fn errors(&self) -> u64 {
        self.metrics.errors.iter().map(|(_, counter)| counter.get()).sum()
    }
}

fn key(database: u32, resp3: bool) -> Key {
    Key { identity: Identity::Proxy, database, resp3 }
}

fn client(user: Option<&[u8]>, password: &[u8]) -> Key {
    let secret = |bytes: &[u8]| SecretSlice::from(bytes.to_vec());
    Key { identity: Identity::Client(Arc::new(Login::new(user.map(secret), secret(password)))), database: 0, resp3: false }
}

/// Sends a line and reads all there is up to the reply of an ECHO behind it.
async fn raw(link: &mut Link, line: &str) -> Vec<u8> {
    let stream = &mut link.connection.stream;
    stream.write_all(format!("{line}\r\nECHO that-is-all\r\n").as_bytes()).await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"$11\r\nthat-is-all\r\n") {
        assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0);
    }
    all.truncate(all.len() - 18);
    all
}

/// What the server knows about the connection, but for its id, times and sizes.
async fn state(link: &mut Link) -> Vec<String> {
    let info = Resp::new(&mut link.connection.stream).command(&["CLIENT", "INFO"]).await.unwrap().text();
    let fields = ["name=", "flags=", "db=", "sub=", "psub=", "ssub=", "multi=", "user=", "resp=", "redir="];
    info.split_whitespace().filter(|field| fields.iter().any(|known| field.starts_with(known))).map(str::to_owned).collect()
}

async fn client_id(link: &mut Link) -> u64 {
    Resp::new(&mut link.connection.stream).command(&["CLIENT", "ID"]).await.unwrap().text().parse().unwrap()
}

#[tokio::test]
async fn hello_is_answered_as_the_server_does() {
    let Some(bench) = Bench::start("", "", |builder| builder).await else { return };
    for opened_as in [false, true] {
        let mut link = bench.open(&key(3, opened_as)).await;
        let id = client_id(&mut link).await;
        for (resp3, hello) in [(true, "HELLO 3"), (false, "HELLO 2"), (true, "HELLO 3")] {
            let theirs = raw(&mut link, hello).await;
            assert_eq!(link.hello.reply(resp3, id).escape_ascii().to_string(), theirs.escape_ascii().to_string());
        }
        assert_eq!(link.hello.fact("mode"), Some("standalone"));
        assert!(state(&mut link).await.contains(&"db=3".to_owned()));
        assert!(link.knows_reset);
        let probe = &mut Context::from_waker(std::task::Waker::noop());
        assert!(bench.server.poll_unfit(&mut link, probe).is_pending() && bench.server.outdated(&link).is_none());
        bench.server.discard(link);
    }
}

#[tokio::test]
async fn who_logs_in_as_whom() {
    let Some(bench) = Bench::start("joe:secret@", "/2", |builder| builder.user("joe", "secret").password("other")).await else { return };
    let mut link = bench.open(&key(2, false)).await;
    assert_eq!(bench.server.database(), 2);
    assert!(state(&mut link).await.contains(&"user=joe".to_owned()));
    assert_eq!(bench.metrics.dial_seconds.of(crate::metrics::DialPhase::Login).get_sample_count(), 1);
    // Any bytes.
    let password = b"\xff\x00 \r\n\"x";
    let rule = [b">".as_slice(), password].concat();
    bench.redis.admin(&[b"ACL".as_slice(), b"SETUSER", b"\xe9t\xe9", b"on", &rule, b"~*", b"+@all"]).await.unwrap();
    let mut link = bench.open(&client(Some(b"\xe9t\xe9"), password)).await;
    assert!(raw(&mut link, "ACL WHOAMI").await.ends_with(b"\xe9t\xe9\r\n"));
    let mut link = bench.open(&client(None, b"other")).await;
    assert!(state(&mut link).await.contains(&"user=default".to_owned()));
}

#[tokio::test]
async fn clients_hear_the_server_and_the_log_does_not() {
    let Some(bench) = Bench::start("joe:secret@", "", |builder| builder.user("joe", "secret").password("other")).await else { return };
    let wrong: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for (key, reply) in [
        (key(99, false), b"-ERR DB index is out of range\r\n".as_slice()),
        (client(Some(b"joe"), b"x"), wrong),
        (client(None, b"x"), wrong),
    ] {
        let error = bench.error(&key).await;
        assert_eq!((error.kind, error.reply.as_deref()), (Kind::Login, Some(reply)));
        assert!(!format!("{error} {error:?} {key:?}").contains("index is out of"), "{error:?}");
    }
    assert_eq!(bench.errors(), 0, "nothing is wrong with the proxy or the server");
    bench.redis.admin(&["ACL", "SETUSER", "joe", "-select"]).await.unwrap();
    let error = bench.error(&key(3, false)).await;
    assert_eq!((error.kind, error.reply, bench.errors()), (Kind::Login, None, 1), "the text names the proxy's user");
    bench.redis.admin(&["ACL", "SETUSER", "joe", "resetpass", ">new"]).await.unwrap();
    let error = bench.error(&key(0, false)).await;
    assert_eq!((error.kind, error.reply, bench.errors()), (Kind::Login, None, 2));
}

#[tokio::test]
async fn a_database_of_the_configuration_is_no_clients_doing() {
    let Some(bench) = Bench::start("", "/99", |builder| builder).await else { return };
    let error = bench.error(&key(99, false)).await;
    assert_eq!((error.kind, error.reply, bench.errors()), (Kind::Login, None, 1));
    drop(bench.open(&key(1, false)).await);
}

#[tokio::test]
async fn a_server_that_wants_a_password_says_so() {
    let Some(bench) = Bench::start("", "", |builder| builder.password("x")).await else { return };
    let error = bench.error(&key(0, false)).await;
    assert!(error.kind == Kind::Login && error.reply.is_none() && error.why.contains("NOAUTH"), "{error}");
}

/// What one user may leave behind, one line after the other, and whether each line's replies are read.
const DIRT: &[&[&str]] = &[
    &["GET x"],
    &["SELECT 5", "CLIENT SETNAME joe"],
    &["WATCH a b"],
    &["MULTI", "SET a 1", "GET a"],
    &["WATCH a", "MULTI", "WRONG"],
    &["SUBSCRIBE a b c"],
    &["PSUBSCRIBE *"],
    &["SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE c"],
    &["CLIENT TRACKING ON BCAST"],
    &["CLIENT TRACKING ON", "MULTI"],
];

async fn soil(link: &mut Link, lines: &[&str], resp3: bool) {
    let mut resp = Resp::new(&mut link.connection.stream);
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        // Each channel is answered; RESP2's TRACKING needs another connection to redirect to.
        let replies = if words[0].ends_with("SUBSCRIBE") { words.len() - 1 } else { 1 };
        resp.send(&words).await.unwrap();
        for _ in 0..replies {
            let reply = resp.read().await.unwrap();
            assert!(!reply.is_error() || *line == "WRONG" || !resp3 && line.contains("TRACKING"), "{line}: {reply:?}");
        }
    }
}

async fn every_dirt_is_cleaned(bench: &Bench, knows_reset: bool, resp3s: &[bool]) {
    for resp3 in resp3s.iter().copied() {
        let key = key(2, resp3);
        let fresh = state(&mut bench.open(&key).await).await;
        for lines in DIRT {
            let mut link = bench.open(&key).await;
            let id = client_id(&mut link).await;
            for round in 0..2 {
                soil(&mut link, lines, resp3).await;
                if lines[0].contains("SUBSCRIBE") {
                    // Unread messages, of every kind.
                    for _ in 0..200 {
                        bench.redis.admin(&["PUBLISH", "b", "message"]).await.unwrap();
                    }
                }
                bench.server.clean(&mut link, &key).await.unwrap_or_else(|error| panic!("{lines:?} {resp3} {round}: {error}"));
                assert_eq!(state(&mut link).await, fresh, "{lines:?}");
                assert_eq!(link.knows_reset, knows_reset);
                // In step, in no MULTI, watching nothing, deaf.
                bench.redis.admin(&["SET", "a", "2"]).await.unwrap();
                bench.redis.admin(&["PUBLISH", "a", "x"]).await.unwrap();
                let transaction = raw(&mut link, "MULTI\r\nPING\r\nEXEC").await;
                assert_eq!(transaction.escape_ascii().to_string(), "+OK\\r\\n+QUEUED\\r\\n*1\\r\\n+PONG\\r\\n", "{lines:?}");
                assert_eq!(client_id(&mut link).await, id);
            }
        }
    }
}

#[tokio::test]
async fn reset_leaves_nothing_behind() {
    let Some(bench) = Bench::start(":pw@", "", |builder| builder.password("pw")).await else { return };
    every_dirt_is_cleaned(&bench, true, &[false, true]).await;
    // RESET ends MONITOR and REPLY OFF too.
    for line in ["MONITOR\r\n", "CLIENT REPLY OFF\r\n"] {
        let mut link = bench.open(&key(0, false)).await;
        let fresh = state(&mut bench.open(&key(0, false)).await).await;
        link.connection.stream.write_all(line.as_bytes()).await.unwrap();
        if line == "MONITOR\r\n" {
            assert_eq!(link.connection.stream.read_u8().await.unwrap(), b'+');
            link.connection.stream.read_exact(&mut [0; 4]).await.unwrap();
        }
        bench.server.clean(&mut link, &key(0, false)).await.unwrap();
        assert_eq!(state(&mut link).await, fresh);
    }
}

#[tokio::test]
async fn without_reset_step_by_step() {
    let Some(bench) = Bench::start(":pw@", "", |builder| builder.password("pw").line("rename-command RESET \"\"")).await else { return };
    every_dirt_is_cleaned(&bench, false, &[false, true]).await;
    // There is no way out of MONITOR then: what it says is no answer to anything asked.
    let mut link = bench.open(&key(0, false)).await;
    link.connection.stream.write_all(b"MONITOR\r\n").await.unwrap();
    link.connection.stream.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(bench.server.clean(&mut link, &key(0, false)).await.unwrap_err().kind, Kind::Protocol);
}

#[tokio::test]
async fn a_server_that_knows_no_hello() {
    let lines = ["rename-command RESET \"\"", "rename-command HELLO \"\""];
    let Some(bench) = Bench::start("", "", |builder| lines.iter().fold(builder, |builder, line| builder.line(*line))).await else { return };
    let mut link = bench.open(&key(1, false)).await;
    assert!(!link.knows_reset);
    let (known, theirs) = (link.hello.reply(true, 1), raw(&mut link, "HELLO 2").await);
    assert_eq!(known.escape_ascii().to_string(), theirs.escape_ascii().to_string());
    every_dirt_is_cleaned(&bench, false, &[false]).await;
    let error = bench.error(&key(1, true)).await;
    assert!(error.reply.unwrap().starts_with(b"-ERR unknown command 'HELLO'"));
}

/// Replies that were left unread are not taken for those to the cleaning, however alike they are.
#[tokio::test]
async fn a_reply_owed_spoils_the_connection() {
    let Some(bench) = Bench::start("", "", |builder| builder).await else { return };
    let forged = format!(
        "EVAL \"return redis.status_reply('RESET')\" 0\r\nHELLO 2\r\nPING {}\r\nEVAL \"return redis.status_reply('RESET')\" 0\r\n",
        "0".repeat(32)
    );
    for owed in ["PING\r\n", "LRANGE x 0 1\r\n", "EVAL \"return redis.status_reply('RESET')\" 0\r\n", &forged] {
        let mut link = bench.open(&key(0, false)).await;
        link.connection.stream.write_all(owed.as_bytes()).await.unwrap();
        let error = bench.server.clean(&mut link, &key(0, false)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Protocol, "{owed}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_not_clean() {
    let Some(mut bench) = Bench::start("", "", |builder| builder).await else { return };
    let mut link = bench.open(&key(0, true)).await;
    bench.redis.crash();
    assert_eq!(bench.server.clean(&mut link, &key(0, true)).await.unwrap_err().kind, Kind::Io);
    assert!(bench.server.has_unread(&link));
}

/// A client's request that is answered by a real lease, cleaned, and given to the next, all through the pool.
#[tokio::test]
async fn through_the_pool() {
    use crate::pool::{Budget, LeaseLimits, Leases};
    let Some(bench) = Bench::start("", "", |builder| builder).await else { return };
    let hour = std::time::Duration::from_secs(3600);
    let limits = LeaseLimits { max_idle_age: hour, max_lifetime: hour, wait_timeout: hour };
    let local = tokio::task::LocalSet::new();
    let leases = Leases::new(Arc::new(bench.server), Budget::new(1), limits, None, bench.metrics.clone());
    local
        .run_until(async {
            let first = key(1, false);
            let mut lease = leases.take(&first).await.unwrap();
            let id = client_id(lease.connection_mut()).await;
            soil(lease.connection_mut(), &["SELECT 3", "MULTI"], false).await;
            let (next, ()) = tokio::join!(leases.take(&first), async { lease.clean_and_give_back() });
            let mut next = next.unwrap();
            assert_eq!(client_id(next.connection_mut()).await, id);
            assert!(state(next.connection_mut()).await.contains(&"db=1".to_owned()));
            next.give_back();
            let mut other = leases.take(&key(2, true)).await.unwrap();
            assert_ne!(client_id(other.connection_mut()).await, id);
            drop(other);
            assert_eq!(bench.metrics.evictions.of(EvictReason::Pressure).get(), 1);
        })
        .await;
}

/// Only the echo of this cleaning's own token proves the place in the stream; a byte too many disproves it.
#[tokio::test]
async fn replies_that_fit_are_not_enough() {
    const HELLO: &str = "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:2\r\n";
    let wish = Wish { account: None, is_clients: false, resp3: false, database: 0, is_database_clients: false };
    for (echo, behind, proves) in [(true, "", true), (false, "", false), (true, "+OK\r\n", false), (true, ">1\r\n+x\r\n", false)] {
        let (mut proxy, mut server) = tokio::io::duplex(1 << 16);
        let serve = async {
            let mut request = Vec::new();
            let tail = b"$4\r\nPING\r\n$32\r\n".len() + 34;
            while !request.windows(4).any(|window| window == b"PING") || !request.ends_with(b"\r\n") {
                server.read_buf(&mut request).await.unwrap();
            }
            let token = &request[request.len() - tail..][b"$4\r\nPING\r\n".len()..];
            let token = String::from_utf8(token.to_vec()).unwrap();
            let token = if echo { token } else { format!("$32\r\n{}\r\n", "0".repeat(32)) };
            server.write_all(format!(">1\r\n+x\r\n+RESET\r\n{HELLO}+PONG\r\n{token}{behind}").as_bytes()).await.unwrap();
        };
        let mut knows_reset = true;
        let (cleaned, ()) = tokio::join!(clean(&mut proxy, &wish, &mut knows_reset), serve);
        assert_eq!(cleaned.is_ok(), proves, "{echo} {behind:?}");
    }
}
