//! The checked configuration: what the rest of the program reads.
//!
//! No `Option` here means "not validated": an absent value is a choice of the user's. Made by [`super::load`], nowhere else.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Everything one process does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings of the process as a whole.
    pub process: Process,
    /// At least one; names and addresses are unique.
    pub listeners: Vec<Listener>,
}

/// Settings of the process as a whole.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where `/metrics`, the probes and the status page are served; `None` = off.
    pub admin: Option<SocketAddr>,
    /// Threads that carry traffic, at least 1.
    pub workers: usize,
    /// How long new clients are still accepted after SIGTERM, while readiness already says no.
    pub drain_delay: Duration,
    /// How long after `drain_delay` busy clients may take to finish.
    pub drain_timeout: Duration,
    /// Text for people, JSON for collectors.
    pub log_format: LogFormat,
    /// A `tracing` filter: `info`, `debug`, `redis_tls_proxy=debug,rustls=warn`.
    pub log_level: String,
    /// Only warnings and errors.
    pub quiet: bool,
    /// Confine the process with Landlock where the kernel has it.
    pub landlock: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `time LEVEL message key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// One address that clients connect to, and the server behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The label in metrics and logs; unique. Default: protocol and port, e.g. `redis-6379`.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where clients connect.
    pub listen: ListenAddr,
    /// The server behind it.
    pub upstream: Upstream,
    /// How upstream connections are shared.
    pub pool: Pool,
    /// How clients prove who they are.
    pub client_auth: ClientAuth,
    /// Clients speak TLS when present, plaintext when not.
    pub listen_tls: Option<ListenTls>,
    /// Clients at one time over all workers; more are refused in the protocol's own words.
    pub max_clients: usize,
    /// A client silent both ways for so long is closed; zero = never.
    pub idle_timeout: Duration,
    /// Keepalive probes start after so long, on both sides; zero = off.
    pub tcp_keepalive: Duration,
    /// Unacknowledged data kills a connection after so long, on both sides; zero = the system's default.
    pub tcp_user_timeout: Duration,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2/RESP3.
    Redis,
    /// The PostgreSQL frontend/backend protocol 3.
    Postgres,
    /// Any protocol: bytes.
    Tls,
}

impl Protocol {
    /// The word in names, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgresql",
            Self::Tls => "tls",
        }
    }
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// An IP address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket, created with mode 0660.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The server behind a listener, and how it is reached.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// A DNS name or an IP address (IPv6 without brackets); resolved for every new connection.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Redis: the database number. PostgreSQL: the database for clients that name none.
    pub database: Option<String>,
    /// The proxy logs in with these; without them the client's own login passes through.
    pub credentials: Option<Credentials>,
    /// How its certificate is verified.
    pub tls: UpstreamTls,
    /// Limit for name, TCP, TLS and login together.
    pub connect_timeout: Duration,
    /// PostgreSQL >= 17: TLS from the first byte (ALPN `postgresql`), one round trip less.
    pub direct_tls: bool,
}

/// A login.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `None`: Redis' AUTH with a password alone. Always present for PostgreSQL.
    pub user: Option<String>,
    /// The password or where it is.
    pub password: Password,
}

/// A password, or the file that holds it (one trailing newline is not part of it).
#[derive(Clone, Debug)]
pub enum Password {
    /// From a URL or the environment.
    Inline(SecretString),
    /// Read again when its content changes.
    File(PathBuf),
}

/// How an upstream's certificate is verified. There is no way to turn it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM roots trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Trust `ca_file` alone.
    pub ca_only: bool,
    /// The name that is sent (SNI) and verified; default: the host.
    pub server_name: Option<String>,
    /// Client certificate chain and key, PEM.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// TLS 1.2 is refused when set.
    pub tls13_only: bool,
    /// Offer X25519MLKEM768 (a ClientHello of 1.7 kB; some middleboxes drop it).
    pub post_quantum: bool,
}

/// How clients' TLS is terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// Clients must show a certificate that one of these PEM roots signed.
    pub client_ca: Option<PathBuf>,
}

/// How clients prove who they are.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Not at all: loopback and unix sockets.
    None,
    /// By a local password, different from the server's own. Any user name is accepted.
    Password(Password),
    /// The server itself judges: the client's own login passes through.
    Upstream,
}

/// How upstream connections are shared.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The mode.
    pub mode: PoolMode,
    /// Upstream connections at most, over all workers; 0 = no limit but `budget`. In `relay` they follow the clients and this is not used.
    pub size: usize,
    /// The server's connections are divided among several proxies (pooled PostgreSQL).
    pub budget: Option<PoolBudget>,
    /// Connections kept ready, over all workers.
    pub min_idle: usize,
    /// A connection unused for so long is replaced; keep it below the server's idle timeout.
    pub max_idle_age: Duration,
    /// A connection this old is replaced when it is free. Not used in `relay`.
    pub max_lifetime: Duration,
    /// How long a client waits for a connection before it gets an error; zero = not at all.
    pub wait_timeout: Duration,
    /// `transaction`: prepared statements kept on each upstream connection, at least 1.
    pub prepared_statements: usize,
}

/// Connections that several proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolBudget {
    /// All that the server gives; more than `reserve`.
    pub total: usize,
    /// Of these, the ones that no proxy may use.
    pub reserve: usize,
    /// The DNS name with an address for each proxy, in lower case; `None`: there is only this one.
    pub peers: Option<String>,
}

/// How upstream connections are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// One upstream connection per client, never reused.
    Relay,
    /// One upstream connection per client for as long as it stays, then brought back to the state of a new one and reused.
    Session,
    /// Few upstream connections shared by all clients, request by request (Redis).
    Multiplex,
    /// Few upstream connections shared by all clients, transaction by transaction (PostgreSQL).
    Transaction,
}

impl PoolMode {
    /// The word in the configuration, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Session => "session",
            Self::Multiplex => "multiplex",
            Self::Transaction => "transaction",
        }
    }
}
