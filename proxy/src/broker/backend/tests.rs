//! Against a real PostgreSQL over TLS: what is opened, what is told about failures, and that nothing of one client is left for the next.
//! Skipped, and said so, where there is none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lab::postgres::Builder;
use lab::{Authority, Postgres};

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
        Self::with(describe(builder).start().await.unwrap(), "s3cret")
    }

    /// `None` when there is no PostgreSQL 18.
    async fn newest() -> Option<Self> {
        let bin: PathBuf = Postgres::newest_bin()?;
        Some(Self::start(|builder| builder.bin(&bin)).await)
    }

    fn with(postgres: Postgres, password: &str) -> Self {
        let sources = Sources {
            urls: vec![format!("postgresql://harbor:{password}@localhost:{}/registry", postgres.port())],
            file: None,
            flags: BTreeMap::from([(Setting::CaFile, postgres.ca_file().display().to_string()), (Setting::CaOnly, "on".to_owned())]),
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

#[tokio::test]
async fn a_link_is_opened_and_told_about_the_server() {
    for bench in [Some(Bench::start(|builder| builder).await), Bench::newest().await].into_iter().flatten() {
        let mut link = bench.open().await;
        assert_eq!(link.server.base.value(b"session_authorization"), Some(&b"harbor"[..]));
        assert_eq!(link.server.base.value(b"application_name"), Some(&b""[..]));
        assert!(link.server.base.all_reported().count() >= 13 && link.server.params.suits(&link.server.base));
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
    let bench = Bench::with(postgres, "wrong");
    let error = bench.error("registry").await;
    assert_eq!((error.side, error.kind, error.reply.is_none()), (crate::error::Side::Upstream, Kind::Login, true), "{error}");
    assert!(error.why.contains("28P01") && !error.why.contains("wrong"), "{error}");
}
