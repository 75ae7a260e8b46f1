//! The programs that are compared, each at its best settings: verified TLS to the server, session resumption where it can, no Nagle on either
//! side. Those with workers have one for each of two cores, and are measured with a single one too where that can be the better choice; this
//! project's proxy chooses by itself. nginx is also measured as it comes, without TLS 1.3, where a resumed handshake is cheaper and less secret.
//! Envoy's `redis_proxy` gathers requests for up to a millisecond where throughput counts, and is measured without that where it would only wait.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use lab::process::Process;
use lab::usage::{Usage, cpu_of_tree, tree};
use lab::{Resp, free_port, until};
use tempfile::TempDir;

use crate::programs::{Setup, command};

/// In the order of the table. The direct ones are the frame: no proxy at all.
pub(crate) const REDIS: &[&str] = &[
    "direct plaintext",
    "direct TLS",
    "socat",
    "stunnel",
    "haproxy",
    "haproxy, 1 worker",
    "nginx",
    "nginx, 1 worker",
    "nginx, TLS 1.2",
    "envoy",
    "envoy, 1 worker",
    "envoy redis_proxy",
    "envoy redis_proxy, no buffer",
    "ghostunnel",
    OURS,
    MULTIPLEX,
    SESSION,
];
/// No other proxy of that list speaks PostgreSQL's way into TLS. PgBouncer is Debian's; from 1.21 on it keeps prepared statements. It has one
/// thread, and is also measured as two processes that share a port and the pool's size.
pub(crate) const POSTGRES: &[&str] = &[
    "direct plaintext",
    "direct TLS",
    "pgbouncer",
    "pgbouncer, 2 processes",
    "pgbouncer 1.24",
    "pgbouncer 1.24, 2 processes",
    OURS,
    SESSION,
    TRANSACTION,
];
/// The proxy of this project, as it comes: `relay`, an upstream connection for each client.
pub(crate) const OURS: &str = "redis-tls-proxy";
/// The same with few upstream connections, shared.
pub(crate) const MULTIPLEX: &str = "redis-tls-proxy, multiplex";
/// The same with few connections to PostgreSQL, each lent for a transaction.
pub(crate) const TRANSACTION: &str = "redis-tls-proxy, transaction";
/// The same with upstream connections that are lent and come back.
pub(crate) const SESSION: &str = "redis-tls-proxy, session";

const START: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_secs(5);

/// The TLS server behind a peer.
#[derive(Clone)]
pub(crate) struct Target {
    /// `rediss` or `postgresql`.
    pub(crate) scheme: &'static str,
    /// The server's TLS port, and its plaintext port.
    pub(crate) ports: (u16, u16),
    /// What to trust.
    pub(crate) ca: PathBuf,
    /// PostgreSQL's superuser's, for poolers that log in by themselves.
    pub(crate) password: Option<String>,
}

/// One program in front of the server, or none.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Where the load goes.
    pub(crate) address: SocketAddr,
    /// The load itself speaks TLS.
    pub(crate) tls: bool,
    process: Option<Process>,
    _dir: TempDir,
    /// Processes while nobody is connected.
    idle_processes: usize,
}

impl Peer {
    /// Starts the program and waits until it carries a PING (PostgreSQL: until it accepts).
    pub(crate) async fn start(name: &'static str, target: &Target, proxy: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let (tls_port, plain_port) = target.ports;
        let direct = match name {
            "direct plaintext" => Some((plain_port, false)),
            "direct TLS" => Some((tls_port, true)),
            _ => None,
        };
        if let Some((port, tls)) = direct {
            return Ok(Self { name, address: local(port), tls, process: None, _dir: dir, idle_processes: 0 });
        }
        let port = free_port()?;
        let command = command(name, &Setup { target, proxy, dir: dir.path(), port })?;
        let mut process = Process::spawn(name, &command, dir.path())?;
        let redis = target.scheme == "rediss";
        let carries = async || match Resp::connect(local(port)).await {
            Ok(mut client) => !redis || client.command(&["PING"]).await.is_ok(),
            Err(_) => false,
        };
        process.ready(START, carries).await?;
        let mut peer = Self { name, address: local(port), tls: false, process: Some(process), _dir: dir, idle_processes: 0 };
        peer.wait_quiet().await;
        peer.idle_processes = peer.processes();
        Ok(peer)
    }

    /// False for a direct connection.
    pub(crate) fn is_proxy(&self) -> bool {
        self.process.is_some()
    }

    /// User and system time of all its processes so far, of children that have left too.
    pub(crate) fn cpu(&self) -> Duration {
        self.process.as_ref().map(|process| cpu_of_tree(process.id())).unwrap_or_default()
    }

    /// Memory of all its processes; zero for a direct connection.
    pub(crate) fn usage(&self) -> Usage {
        self.process.as_ref().and_then(|process| process.usage().ok()).unwrap_or_default()
    }

    /// Waits until the children of finished connections have left, so that their CPU time is counted.
    pub(crate) async fn settle(&self) -> Result<()> {
        if self.process.is_none() {
            return Ok(());
        }
        until(&format!("{}'s children leave", self.name), SETTLE, || self.processes() <= self.idle_processes).await
    }

    fn processes(&self) -> usize {
        self.process.as_ref().map(|process| tree(process.id()).len()).unwrap_or_default()
    }

    /// Children of the first PING may still be leaving: wait until two looks agree.
    async fn wait_quiet(&self) {
        let mut last = 0;
        // In vain only for a program that keeps starting processes; then the first count is as good as any.
        let _ = until("the number of processes stands", SETTLE, || {
            let now = self.processes();
            std::mem::replace(&mut last, now) == now
        })
        .await;
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Program and variant: `nginx, TLS 1.2`.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_once(", ").unwrap_or((name, ""))
}

/// One of this project's.
pub(crate) fn is_ours(name: &str) -> bool {
    split(name).0 == OURS
}

/// No proxy between.
pub(crate) fn is_direct(name: &str) -> bool {
    name.starts_with("direct")
}

/// Has a connection to the server for each client, and so needs two descriptors for one.
pub(crate) fn is_relay(name: &str) -> bool {
    ![MULTIPLEX, TRANSACTION].contains(&name) && split(name).0 != "envoy redis_proxy" && !is_pooler(name)
}

/// A pooler of PostgreSQL that is not ours.
pub(crate) fn is_pooler(name: &str) -> bool {
    name.starts_with("pgbouncer")
}

/// False for a peer in a row where it would say nothing new.
pub(crate) fn takes_part(name: &str, row: &str) -> bool {
    match (split(name), row) {
        // Unknown to it before 1.21.
        (("pgbouncer", _), "pg-prepared") => false,
        // Nobody else can have so many clients, or is without a login of clients that costs more than the rest.
        (_, "pg-idle" | "pg-connect") => is_pooler(name) || name == TRANSACTION,
        (_, "pg-simple" | "pg-extended" | "pg-prepared") => true,
        ((_, "2 processes"), _) => false,
        // 400 sessions on 20 connections would wait for ever.
        (_, "pg-rate-60" | "pg-rate-400") => name != SESSION,
        ((_, "1 worker"), _) => ["c50", "pipeline"].contains(&row),
        ((_, "TLS 1.2"), _) => row == "connect",
        // The shape of the curve is the question, so one of each kind will do.
        (_, "scale") => is_direct(name) || [OURS, MULTIPLEX, "nginx", "envoy redis_proxy, no buffer"].contains(&name),
        (("envoy redis_proxy", ""), _) => ["c50", "pipeline", "big"].contains(&row),
        (("envoy redis_proxy", "no buffer"), _) => row != "big",
        (_, "idle") => !is_direct(name),
        _ => true,
    }
}
