//! One test, every mode: a real PostgreSQL behind a fault gate, reached directly or through the proxy in one of its pool modes.
//!
//! A test is a function of a [`Mode`]; [`in_every_mode!`] makes a test of it per mode. What a test claims is proved against the direct
//! connection first: a claim that fails there is wrong about PostgreSQL.
//!
//! ```text
//! direct:  client --plaintext--> Gate --plaintext--> PostgreSQL
//! others:  client --plaintext--> proxy --TLS--> Gate --TLS--> PostgreSQL
//! ```
//!
//! All tests of a file share one server; each has a database of its own.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

pub(crate) mod client;
pub(crate) mod message;
pub(crate) mod pgbouncer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use lab::certs::write_private;
use lab::wait::until_some;
use lab::{Gate, Postgres, Process};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::support::{Front, SOON, Trust, front};
pub(crate) use client::Client;

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Plaintext, without the proxy: what is right.
    Direct,
    Relay,
    Session,
    Transaction,
}

impl Mode {
    /// As `--pool` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }

    /// True where clients and upstream connections are paired for life, so that the end of one is the end of the other.
    pub(crate) fn is_one_to_one(self) -> bool {
        matches!(self, Self::Direct | Self::Relay)
    }
}

/// A test per mode for each of these functions of a [`Mode`]: `direct::name`, `relay::name`… Those behind `pooled:` are claims of `session` and
/// `transaction` alone, those behind `transaction:` of that mode alone.
macro_rules! in_every_mode {
    ($($name:ident),* $(; pooled: $($pooled:ident),+)? $(; transaction: $($transaction:ident),+)? $(,)?) => {
        $crate::pg_modes::in_mode!(direct, Direct, [$($name),*]);
        $crate::pg_modes::in_mode!(relay, Relay, [$($name),*]);
        $crate::pg_modes::in_mode!(session, Session, [$($name,)* $($($pooled),+)?]);
        $crate::pg_modes::in_mode!(transaction, Transaction, [$($name,)* $($($pooled,)+)? $($($transaction),+)?]);
    };
}

macro_rules! in_mode {
    ($module:ident, $mode:ident, [$($name:ident),* $(,)?] $(, $attribute:meta)?) => {
        mod $module {
            $crate::pg_modes::tests!($mode, [$($name),*], [$($attribute)?]);
        }
    };
}

macro_rules! tests {
    ($mode:ident, [$($name:ident),*], $attributes:tt) => {
        $($crate::pg_modes::test!($mode, $name, $attributes);)*
    };
}

macro_rules! test {
    ($mode:ident, $name:ident, [$($attribute:meta)?]) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attribute])?
            async fn $name() { super::$name($crate::pg_modes::Mode::$mode).await; }
    };
}

pub(crate) use {in_every_mode, in_mode, test, tests};

/// Whom the proxy logs in as, and what for; clients need no password of it.
pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "upstream it's=secret";
/// A role that [`USER`] may become.
pub(crate) const OTHER: &str = "other";

/// The server that the tests of a file share.
pub(crate) struct Lab {
    pub(crate) postgres: Postgres,
    trust: Trust,
}

impl Lab {
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Lab>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    async fn start() -> Self {
        let trust = Trust::new();
        let postgres = Postgres::builder(&trust.authority).user(USER, PASSWORD, USER).max_connections(400);
        let postgres = postgres.setting("max_prepared_transactions", "20").start().await.unwrap();
        postgres.sql(&format!("create role {OTHER}; grant {OTHER} to {USER}")).await.unwrap();
        Self { postgres, trust }
    }
}

/// A database, a gate in front of its server, and the way to it.
pub(crate) struct Bed {
    pub(crate) mode: Mode,
    pub(crate) lab: Arc<Lab>,
    /// This bed's own.
    pub(crate) database: String,
    /// Between PostgreSQL and whoever connects to it.
    pub(crate) gate: Gate,
    front: Option<Front>,
    pgbouncer: Option<(Process, SocketAddr)>,
    dir: tempfile::TempDir,
}

impl Bed {
    /// With one upstream connection for all clients, where they share.
    pub(crate) async fn one(mode: Mode) -> Self {
        Self::with(mode, 1, &[]).await
    }

    /// With so many upstream connections, and more arguments for the proxy.
    pub(crate) async fn with(mode: Mode, size: u32, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let lab = Lab::shared().await;
        let database = format!("bed{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        lab.postgres.sql(&format!("create database {database} owner {USER}")).await.unwrap();
        let gate = Gate::start(lab.postgres.address()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("upstream");
        write_private(&password, PASSWORD).unwrap();
        let mut bed = Self { mode, lab, database, gate, front: None, pgbouncer: None, dir };
        let size = size.to_string();
        match mode {
            Mode::Direct => {}
            Mode::Session | Mode::Transaction if pgbouncer::is_wanted() => {
                bed.pgbouncer = Some(pgbouncer::start(&bed, &size).await);
            }
            _ => {
                let url = format!("postgresql://{USER}@localhost:{}/{USER}?password_file={}", bed.gate.port(), password.display());
                let pool = ["--pool", mode.name(), "--pool-size", &size];
                let pool = if mode == Mode::Relay { &pool[..2] } else { &pool[..] };
                bed.front = Some(front(&url, &bed.lab.trust.ca, &[pool, arguments].concat()).await);
            }
        }
        bed
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        let front = self.front.as_ref().map(Front::address);
        front.or_else(|| self.pgbouncer.as_ref().map(|(_, address)| *address)).unwrap_or_else(|| self.gate.address())
    }

    /// The proxy, where there is one.
    pub(crate) fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// The proxy's log, for the text of a failure.
    pub(crate) fn log(&self) -> String {
        self.front.as_ref().map(|front| front.proxy.stderr()).unwrap_or_default()
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(&[]).await
    }

    /// With more startup parameters.
    pub(crate) async fn client_with(&self, parameters: &[(&str, &str)]) -> Client {
        self.try_client(parameters).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    pub(crate) async fn try_client(&self, parameters: &[(&str, &str)]) -> Result<Client, String> {
        let parameters = [&[("user", USER), ("database", &self.database)], parameters].concat();
        Client::log_in(self.address(), &parameters, PASSWORD).await
    }

    /// A client straight to the server, past proxy and gate.
    pub(crate) async fn past(&self, parameters: &[(&str, &str)]) -> Client {
        let parameters = [&[("user", USER), ("database", &self.database)], parameters].concat();
        Client::log_in(self.lab.postgres.address(), &parameters, PASSWORD).await.unwrap()
    }

    /// SQL in this bed's database, as the superuser and past everything.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        self.lab.postgres.sql_in(&self.database, sql).await.unwrap()
    }

    /// Waits until a question to the server, past everything, has this answer.
    pub(crate) async fn wait(&self, sql: &str, wanted: &str) {
        let waited = until_some(sql, SOON, || async { (self.sql(sql).await == wanted).then_some(()) }).await;
        if let Err(error) = waited {
            panic!("{error}: it is {:?}, not {wanted:?}\n{}", self.sql(sql).await, self.log());
        }
    }

    /// Waits until so many of this database's server processes run something.
    pub(crate) async fn wait_active(&self, count: u32) {
        let sql =
            "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and pid <> pg_backend_pid()";
        self.wait(sql, &count.to_string()).await;
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}
