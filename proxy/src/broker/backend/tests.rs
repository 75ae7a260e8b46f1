//! Against a real PostgreSQL over TLS: what is opened, what is told about failures, and that nothing of one client is left for the next.
//! Skipped, and said so, where there is none.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};

use lab::certs::Issued;
use lab::postgres::Builder;
use lab::{Authority, Postgres};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::settings::Key as Setting;
use crate::config::{Purpose, Sources, load};
use crate::error_log::ErrorLog;
use crate::metrics::{ListenerMetrics, Metrics};

/// A server, and the backend for it.
struct Bench {
    postgres: Postgres,
    server: PostgresServer,
    metrics: ListenerMetrics,
}

impl Bench {
    async fn start(describe: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Self {
        let authority = Authority::new().unwrap();
        let builder = Postgres::builder(&authority).user("harbor", "s3cret", "registry");
        let postgres = describe(builder).start().await.unwrap();
        let ca = postgres.ca_file();
        Self::with(postgres, "s3cret", &ca)
    }

    /// The versions that there are here.
    async fn each() -> Vec<Self> {
        [Some(Self::start(|builder| builder).await), Self::newest().await].into_iter().flatten().collect()
    }

    /// `None` when there is no PostgreSQL 18.
    async fn newest() -> Option<Self> {
        let bin: PathBuf = Postgres::newest_bin()?;
        Some(Self::start(|builder| builder.bin(&bin)).await)
    }

    fn with(postgres: Postgres, password: &str, ca: &Path) -> Self {
        let sources = Sources {
            urls: vec![format!("postgresql://harbor:{password}@localhost:{}/registry", postgres.port())],
            file: None,
            flags: BTreeMap::from([(Setting::CaFile, ca.display().to_string()), (Setting::CaOnly, "on".to_owned())]),
            env: &|_| None,
            variables: Vec::new(),
            purpose: Purpose::Check,
            probe: &|_| Ok(()),
        };
        let config = load(&sources).unwrap().config;
        let metrics = Metrics::new().unwrap().listener("test");
        let errors = Arc::new(ErrorLog::new("test", metrics.clone()));
        let upstream = Upstream::new(&config.listeners[0], metrics.clone(), errors).unwrap();
        Self { postgres, server: PostgresServer::new(Arc::new(upstream), 10), metrics }
    }

    async fn open(&self) -> Link {
        self.server.open(&key("registry")).await.unwrap()
    }

    async fn error(&self, database: &str) -> Error {
        self.server.open(&key(database)).await.err().unwrap()
    }

    fn errors(&self) -> u64 {
        self.metrics.errors.iter().map(|(_, counter)| counter.get()).sum()
    }
}

fn key(database: &str) -> Key {
    Key { database: database.as_bytes().into() }
}

/// Runs SQL as a client would, and follows what is reported; the first column of each row, or the code of an error.
async fn sql(link: &mut Link, sql: &str) -> std::result::Result<Vec<String>, String> {
    let message = [b"Q", &(u32::try_from(sql.len()).unwrap() + 5).to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
    link.stream_mut().write_all(&message).await.unwrap();
    link.stream_mut().flush().await.unwrap();
    let mut outcome = Ok(Vec::new());
    loop {
        let stream = link.stream_mut();
        let kind = stream.read_u8().await.unwrap();
        let mut body = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4];
        stream.read_exact(&mut body).await.unwrap();
        match kind {
            b'S' => {
                let (name, value) = postgres::message::parameter_status(&body).unwrap();
                Rc::make_mut(&mut link.server.params).report(name, value);
            }
            b'D' => outcome.as_mut().unwrap().push(String::from_utf8(body[6..].to_vec()).unwrap()),
            b'E' => outcome = Err(postgres::SqlState::of_error(&body).unwrap().to_string()),
            b'Z' => return outcome,
            _ => {}
        }
    }
}

async fn value(link: &mut Link, query: &str) -> String {
    sql(link, query).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_link_is_opened_and_told_about_the_server() {
    for bench in Bench::each().await {
        let mut link = bench.open().await;
        assert_eq!(link.server.base.value(b"session_authorization"), Some(&b"harbor"[..]));
        assert_eq!(link.server.base.value(b"application_name"), Some(&b""[..]));
        assert!(link.server.base.all_reported().count() >= 13 && link.server.params.changes_to(&link.server.base).is_empty());
        let pid: u32 = bench.postgres.sql("select pid from pg_stat_activity where usename = 'harbor'").await.unwrap().parse().unwrap();
        assert_eq!(link.cancel_key().process, pid);
        let probe = &mut Context::from_waker(std::task::Waker::noop());
        assert!(bench.server.poll_unfit(&mut link, probe).is_pending() && bench.server.outdated(&link).is_none());
        assert_eq!(bench.errors(), 0);
        bench.server.discard(link);
    }
}

#[tokio::test]
async fn whose_business_a_refusal_is() {
    let bench = Bench::start(|builder| builder.user("other", "x", "private").max_connections(5)).await;
    bench.postgres.sql("revoke connect on database private from public").await.unwrap();
    for (database, code) in [("nowhere", "3D000"), ("private", "42501"), ("template0", "55000")] {
        let error = bench.error(database).await;
        let reply = error.reply.unwrap();
        assert_eq!((error.kind, reply[0]), (Kind::Login, b'E'));
        assert_eq!(postgres::SqlState::of_error(&reply[5..]).unwrap().as_str(), code);
    }
    assert_eq!(bench.errors(), 0, "between a client and the server");
    let links = [bench.open().await, bench.open().await];
    let error = bench.error("registry").await;
    assert_eq!((error.kind, error.reply.is_none()), (Kind::Unavailable, true), "{error}");
    assert!(error.why.contains("53300"), "{error}");
    drop(links);
    let Bench { postgres, .. } = bench;
    let ca = postgres.ca_file();
    let bench = Bench::with(postgres, "wrong", &ca);
    let error = bench.error("registry").await;
    assert_eq!((error.side, error.kind, error.reply.is_none()), (crate::error::Side::Upstream, Kind::Login, true), "{error}");
    assert!(error.why.contains("28P01") && !error.why.contains("wrong"), "{error}");
}

/// The server offers SCRAM-SHA-256-PLUS; that it is used shows in that another certificate's hash is refused.
#[tokio::test]
async fn the_login_is_bound_to_the_certificate() {
    for bench in Bench::each().await {
        let upstream = &bench.server.upstream;
        let password = upstream.password().unwrap();
        for (wrong, bound) in [(false, true), (true, true), (false, false)] {
            let mut connection = upstream.connect().await.unwrap();
            let mut end_point = connection.stream.end_point().unwrap();
            end_point[0] ^= u8::from(wrong);
            let account = Account {
                user: "harbor",
                password: &password,
                database: None,
                allow_trust: false,
                end_point: bound.then_some(&end_point),
                keys: &upstream.scram_keys,
            };
            let opened = postgres::open_session(&mut connection.stream, b"registry", &account).await;
            let refused = opened.map(drop).map_err(|error| error.kind);
            assert_eq!(refused, if wrong { Err(Kind::Login) } else { Ok(()) });
        }
    }
}

/// A server with its certificate signed in this way.
async fn signed(algorithm: &'static rcgen::SignatureAlgorithm) -> (Bench, tempfile::TempDir) {
    let (ca_key, key) = (rcgen::KeyPair::generate_for(algorithm).unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut ca_params = rcgen::CertificateParams::default();
    ca_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, ca_params.self_signed(&ca_key).unwrap().pem()).unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca_params, ca_key)).unwrap();
    let issued = Issued { chain_pem: leaf.pem(), key_pem: key.serialize_pem() };
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).user("harbor", "s3cret", "registry").certificate(issued).start().await.unwrap();
    (Bench::with(postgres, "s3cret", &ca), dir)
}

#[tokio::test]
async fn certificates_of_other_kinds_log_in_too() {
    let (bench, _dir) = signed(&rcgen::PKCS_ECDSA_P384_SHA384).await;
    let link = bench.open().await;
    assert_eq!(link.connection.stream.end_point().unwrap().len(), 48);
    // PostgreSQL offers to bind, and could not.
    let (bench, _dir) = signed(&rcgen::PKCS_ED25519).await;
    assert_eq!(bench.open().await.connection.stream.end_point(), None);
}

#[tokio::test]
async fn cleaning_leaves_nothing() {
    const LEFT: &str = "select (select count(*) from pg_class where relpersistence = 't' and relkind = 'r'), \
        (select count(*) from pg_listening_channels()), (select count(*) from pg_prepared_statements), (select count(*) from pg_cursors), \
        (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), current_user = session_user, \
        current_setting('TimeZone') || current_setting('search_path') || current_setting('work_mem')";
    let left = format!("select array_to_string(array[x.*::text], ',') from ({LEFT}) x");
    for bench in Bench::each().await {
        let mut link = bench.open().await;
        let as_new = value(&mut link, &left).await;
        for statement in [
            "create temp table t (a int)",
            "set timezone to 'Asia/Tokyo'",
            "set work_mem to '77MB'",
            "set search_path to nowhere",
            "set application_name to 'somebody'",
            "listen news",
            "prepare p as select 1",
            "declare c cursor with hold for select 1",
            "select pg_advisory_lock(7)",
            "set role none; notify news",
        ] {
            sql(&mut link, statement).await.unwrap();
        }
        let (number, dirty) = (link.cancel_key().process.to_string(), value(&mut link, &left).await);
        assert!(dirty.starts_with("(1,1,1,1,1,"), "{dirty}");
        assert_eq!(link.server.params.value(b"timezone"), Some(&b"Asia/Tokyo"[..]));
        link.server.traces = Traces::LOCK | Traces::LISTEN | Traces::TEMP;
        link.facts().lent(9);
        bench.server.clean(&mut link, &key("registry")).await.unwrap();
        assert!(link.server.traces.is_empty() && Rc::ptr_eq(&link.server.params, &link.server.base));
        assert_eq!((link.facts().state(), link.facts().client()), (LinkState::Idle, 0));
        assert_eq!(value(&mut link, &left).await, as_new);
        assert_eq!(value(&mut link, "select pg_backend_pid()").await, number);
        bench.server.discard(link);
    }
}

#[tokio::test]
async fn what_cannot_be_cleaned_is_said() {
    let bench = Bench::start(|builder| builder).await;
    let registry = key("registry");
    let mut link = bench.open().await;
    link.server.traces = Traces::LOAD;
    assert!(bench.server.clean(&mut link, &registry).await.unwrap_err().why.contains("LOAD"));
    let mut link = bench.open().await;
    sql(&mut link, "begin").await.unwrap();
    assert!(bench.server.clean(&mut link, &registry).await.unwrap_err().why.contains("25001"));
    let mut link = bench.open().await;
    link.connection.early = b"S".to_vec();
    assert!(bench.server.clean(&mut link, &registry).await.is_err());
    // It has the old default, which nobody reports as long as it is overridden.
    let mut link = bench.open().await;
    sql(&mut link, "set timezone to 'CET'").await.unwrap();
    bench.postgres.sql("alter system set timezone to 'Asia/Tokyo'").await.unwrap();
    bench.postgres.sql("select pg_reload_conf()").await.unwrap();
    while bench.open().await.server.base.value(b"timezone") != Some(b"Asia/Tokyo") {}
    assert!(bench.server.clean(&mut link, &registry).await.unwrap_err().why.contains("defaults"));
}

/// PostgreSQL looks at its files between commands only, so an unused link hears of a new default with what it is asked next.
#[tokio::test]
async fn an_unused_link_hears_of_its_end_and_of_nothing_else() {
    for bench in Bench::each().await {
        let mut link = bench.open().await;
        bench.postgres.sql("alter system set timezone to 'Asia/Tokyo'").await.unwrap();
        bench.postgres.sql("select pg_reload_conf()").await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(bench.server.poll_unfit(&mut link, cx))).await.is_pending());
        while value(&mut link, "show timezone").await != "Asia/Tokyo" {}
        assert_eq!(link.server.params.value(b"timezone"), Some(&b"Asia/Tokyo"[..]));

        bench.postgres.sql(&format!("select pg_terminate_backend({})", link.cancel_key().process)).await.unwrap();
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), poll_fn(|cx| bench.server.poll_unfit(&mut link, cx)));
        assert_eq!(end.await.unwrap(), EvictReason::ServerClosed);
    }
}

#[tokio::test]
async fn a_query_is_cancelled_over_a_connection_of_its_own() {
    for bench in Bench::each().await {
        let mut link = bench.open().await;
        let key = link.cancel_key();
        let cancelled = async {
            let sleeping = format!("select count(*) from pg_stat_activity where pid = {} and wait_event = 'PgSleep'", key.process);
            while bench.postgres.sql(&sleeping).await.unwrap() != "1" {}
            cancel(&bench.server.upstream, key).await
        };
        let (query, cancelled) = tokio::join!(sql(&mut link, "select pg_sleep(60)"), cancelled);
        assert_eq!((query, cancelled.is_ok()), (Err("57014".to_owned()), true));
        assert_eq!(value(&mut link, "select 1").await, "1");
        assert_eq!(bench.metrics.cancels.get(), 1);
    }
}

#[tokio::test]
async fn others_see_each_link() {
    let bench = Bench::start(|builder| builder).await;
    let links = [bench.open().await, bench.open().await];
    links[1].facts().lent(77);
    links[1].facts().count_requests(1);
    let seen = bench.server.links();
    assert_eq!(seen.len(), 2);
    let states: Vec<_> = seen.iter().map(|facts| (facts.state(), facts.client(), facts.requests())).collect();
    assert_eq!(states, [(LinkState::Idle, 0, 0), (LinkState::Active, 77, 1)]);
    for (facts, link) in seen.iter().zip(&links) {
        assert_eq!((&*facts.database, facts.process), (&b"registry"[..], link.cancel_key().process));
        assert_eq!(facts.addresses.unwrap().1.port(), bench.postgres.port());
        assert!(facts.tls.starts_with("TLSv1.3/TLS_"), "{}", facts.tls);
    }
    links[1].facts().returned();
    assert_eq!(seen[1].state(), LinkState::Idle);
    let [first, second] = links;
    bench.server.discard(first);
    assert_eq!(bench.server.links()[0].id, seen[1].id);
    drop(second);
    assert!(bench.server.links().is_empty());
}

#[tokio::test]
async fn a_link_goes_to_another_thread() {
    let bench = Bench::start(|builder| builder).await;
    let mut link = bench.open().await;
    sql(&mut link, "set timezone to 'CET'").await.unwrap();
    let (id, process) = (link.facts().id, link.cancel_key().process);
    assert!(link.can_move());
    link.server.traces = Traces::TEMP;
    assert!(!link.can_move());
    link.server.traces = Traces::NONE;
    let parts = link.into_parts();
    let there = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut link = Link::from_parts(parts).unwrap();
            assert_eq!((link.server.params.value(b"timezone"), link.cancel_key().process), (Some(&b"CET"[..]), process));
            let zone = value(&mut link, "show timezone").await;
            (zone, link.facts().id, link.can_move(), link.into_parts())
        })
    });
    let (zone, there, can_move, parts) = there.join().unwrap();
    assert_eq!((zone.as_str(), there, can_move), ("CET", id, true));
    let mut link = Link::from_parts(parts).unwrap();
    assert_eq!(value(&mut link, "show timezone").await, "CET");
    assert_eq!(bench.server.links().len(), 1);
    // One that has been sent half a message stays.
    link.connection.early = b"S".to_vec();
    assert!(!link.can_move());
}
