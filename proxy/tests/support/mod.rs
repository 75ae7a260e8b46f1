//! What the tests of the built program share: one proxy in front of one server, TLS servers of the test's own making, programs run to their end.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Authority, Leaf, Proxy, Redis, Resp, free_port};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The program under test; absolute, so that nothing depends on the working directory.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-tls-proxy");
/// For what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A proxy in front of one server.
pub(crate) struct Front {
    pub(crate) proxy: Proxy,
    pub(crate) port: u16,
}

/// A proxy that trusts `ca` alone, on a free port.
pub(crate) async fn front(url: &str, ca: &Path, arguments: &[&str]) -> Front {
    let port = free_port().unwrap();
    let proxy = Proxy::start(PROGRAM, &arguments_for(url, ca, port, arguments), &[]).await.unwrap();
    Front { proxy, port }
}

/// The arguments of [`front`].
pub(crate) fn arguments_for(url: &str, ca: &Path, port: u16, more: &[&str]) -> Vec<String> {
    let listen = format!("127.0.0.1:{port}");
    let mut arguments = vec!["run".to_owned()];
    for (flag, value) in [("--listen", listen.as_str()), ("--workers", "2"), ("--ca-file", ca.to_str().unwrap())] {
        if !more.contains(&flag) {
            arguments.extend([flag, value].map(String::from));
        }
    }
    if !more.contains(&"--ca-only=off") {
        arguments.push("--ca-only".to_owned());
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments.push(url.to_owned());
    arguments
}

/// A proxy in front of a real Redis.
pub(crate) async fn redis_front(redis: &Redis, arguments: &[&str]) -> Front {
    front(&redis_url(redis.port()), &redis.ca_file(), arguments).await
}

pub(crate) fn redis_url(port: u16) -> String {
    format!("rediss://localhost:{port}")
}

impl Front {
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    pub(crate) async fn resp(&self) -> Resp<TcpStream> {
        Resp::connect(self.address()).await.unwrap()
    }

    /// The sum of the series with these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.proxy.metric(&format!("redis_tls_proxy_{name}"), labels).await.unwrap()
    }

    pub(crate) async fn wait(&self, name: &str, labels: &[(&str, &str)], condition: impl Fn(f64) -> bool) -> f64 {
        self.proxy.wait_metric(&format!("redis_tls_proxy_{name}"), labels, SOON, condition).await.unwrap()
    }

    /// Errors counted under a kind.
    pub(crate) async fn errors(&self, kind: &str) -> f64 {
        self.metric("errors_total", &[("kind", kind)]).await
    }

    /// Waits until so many connections are ready.
    pub(crate) async fn wait_idle(&self, count: f64) {
        self.wait("upstream_connections", &[("state", "idle")], |idle| idle >= count).await;
    }
}

/// A directory with a CA file in it, and the authority.
pub(crate) struct Trust {
    pub(crate) authority: Authority,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: PathBuf,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let authority = Authority::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca = authority.write_ca(dir.path()).unwrap();
        Self { authority, dir, ca }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        lab::tls::server_config(&self.authority.issue(&Leaf::server()).unwrap(), None).unwrap()
    }
}

/// A TLS server that runs `serve` for every connection whose handshake succeeds, until the test's runtime ends.
pub(crate) async fn tls_server<F>(config: ServerConfig, serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, serve) = (TlsAcceptor::from(Arc::new(config)), Arc::new(serve));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            tokio::spawn(async move {
                tcp.set_nodelay(true).unwrap();
                if let Ok(stream) = acceptor.accept(tcp).await {
                    serve(stream).await;
                }
            });
        }
    });
    address
}

/// Runs a program to its end without blocking the runtime. Output and status as they are; killed when the future is dropped.
pub(crate) async fn run(command: Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.with_context(|| format!("{name} does not end"))?.context(name)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes the next close of this socket an RST.
pub(crate) fn reset_on_close(tcp: &TcpStream) {
    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
}

/// `psql` as a user would call it: everything in the connection string, the password in the environment.
pub(crate) async fn psql(connection: &str, password: &str, sql: &str) -> Output {
    let mut psql = Command::new(lab::process::require("psql", "postgresql-client").unwrap());
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PG")) {
        psql.env_remove(key);
    }
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, connection]).env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "10");
    run(psql).await.unwrap()
}

/// What `psql` printed, after checking that it succeeded.
pub(crate) async fn psql_ok(connection: &str, password: &str, sql: &str) -> String {
    let output = psql(connection, password, sql).await;
    assert!(output.status.success(), "{connection}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// What `psql` complained about, after checking that it failed.
pub(crate) async fn psql_refused(connection: &str, password: &str, sql: &str) -> String {
    let output = psql(connection, password, sql).await;
    assert!(!output.status.success(), "{connection}: it must fail, but said {}", text(&output.stdout));
    text(&output.stderr)
}

/// PostgreSQL's first message, protocol 3.0.
pub(crate) fn startup(user: &str, database: &str) -> Vec<u8> {
    let parameters = format!("user\0{user}\0database\0{database}\0\0");
    let mut message = u32::try_from(parameters.len() + 8).unwrap().to_be_bytes().to_vec();
    message.extend_from_slice(&[0, 3, 0, 0]);
    message.extend_from_slice(parameters.as_bytes());
    message
}

/// A new client's PING and what it heard.
pub(crate) async fn ask(address: SocketAddr) -> Result<(Resp<TcpStream>, String)> {
    let mut client = Resp::connect(address).await?;
    let answer = client.command(&["PING"]).await?.text();
    Ok((client, answer))
}

/// How it left, within `limit`.
pub(crate) async fn exit_code(front: &mut Front, limit: Duration) -> i32 {
    let status = front.proxy.wait_exit(limit).await.unwrap();
    status.code().unwrap_or_else(|| panic!("killed: {status}\n{}", front.proxy.stderr()))
}
