//! A real `redis-server` with TLS on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::certs::{Authority, Issued, Leaf, write_private};
use crate::ports::free_port;
use crate::process::{Process, Signal, require};
use crate::resp::{Resp, Value};
use crate::usage::Usage;

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);

/// What the server should be like; made by [`Redis::builder`].
pub struct Builder<'a> {
    authority: &'a Authority,
    certificate: Option<Issued>,
    plain: bool,
    require_client_certificate: bool,
    password: Option<String>,
    lines: Vec<String>,
}

/// A running server, killed when dropped.
pub struct Redis {
    dir: TempDir,
    program: PathBuf,
    process: Option<Process>,
    port: u16,
    plain_port: Option<u16>,
    password: Option<String>,
}

impl Redis {
    /// A server with a TLS port, a good certificate, and no password.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not start.
    pub async fn start(authority: &Authority) -> Result<Self> {
        Self::builder(authority).start().await
    }

    /// A server to be described first. Its certificate comes from `authority`, which is also whom it trusts for client certificates.
    #[must_use]
    pub fn builder(authority: &Authority) -> Builder<'_> {
        Builder { authority, certificate: None, plain: false, require_client_certificate: false, password: None, lines: Vec::new() }
    }

    /// 127.0.0.1 and the TLS port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The TLS port, on 127.0.0.1 and ::1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The plaintext port, when [`Builder::plain`] asked for one.
    #[must_use]
    pub fn plain_port(&self) -> Option<u16> {
        self.plain_port
    }

    /// The default user's password.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The root certificate that clients should trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The server's directory: certificates, configuration, output. Gone with the server.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the server logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stdout).unwrap_or_default()
    }

    /// Runs a command as the default user over the server's unix socket, past TLS and every gate.
    ///
    /// # Errors
    /// When the server does not run. An error reply is an error too.
    pub async fn admin<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Value> {
        let stream = UnixStream::connect(self.socket()).await.context("redis-server is not running")?;
        let mut client = Resp::new(stream);
        if let Some(password) = &self.password {
            client.command(&["AUTH", password]).await?;
        }
        match client.command(arguments).await? {
            Value::Error(text) => bail!("redis-server: {text}"),
            reply => Ok(reply),
        }
    }

    /// A number from `INFO`, e.g. `connected_clients`, `total_commands_processed`. The asking connection counts as a client.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn info(&self, field: &str) -> Result<f64> {
        let text = self.admin(&["INFO"]).await?.text();
        let value =
            text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).with_context(|| format!("INFO has no {field}"))?;
        Ok(value.trim().parse()?)
    }

    /// Connections by network clients: those over the unix socket not counted.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn clients(&self) -> Result<usize> {
        let list = self.admin(&["CLIENT", "LIST"]).await?.text();
        Ok(list.lines().filter(|line| !line.contains("redis.sock")).count())
    }

    /// Shuts it down in an orderly way; clients see the connection close. Data is lost.
    ///
    /// # Errors
    /// When it does not leave in 5 s.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, STOP).await?;
        }
        Ok(())
    }

    /// Kills it outright; the kernel closes its connections.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same ports, with the last certificate of [`Redis::set_certificate`]; stops it first when it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Replaces the certificate for connections made from now on, without a restart.
    ///
    /// # Errors
    /// When the server does not run or refuses the files.
    pub async fn set_certificate(&self, issued: &Issued) -> Result<()> {
        issued.write(self.dir.path(), "server")?; // for the next start
        // Under another name each time, because a value that does not change may not be looked at.
        let files = issued.write(self.dir.path(), &format!("server-{}", fastrand::u64(..)))?;
        let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
        self.admin(&["CONFIG", "SET", "tls-cert-file", cert.as_str(), "tls-key-file", key.as_str()]).await.map(drop)
    }

    /// Stops the process where it is; connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.process.iter().for_each(Process::freeze);
    }

    /// Ends [`Redis::freeze`].
    pub fn thaw(&self) {
        self.process.iter().for_each(Process::thaw);
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// CPU time and memory.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("redis-server is not running")?.usage()
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg(self.dir.path().join("redis.conf"));
        let mut process = Process::spawn("redis-server", &command, self.dir.path())?;
        let socket = self.socket();
        // Any answer will do, also "-NOAUTH". The socket is bound after the ports, so they listen by then.
        let answers = async || match UnixStream::connect(&socket).await {
            Ok(stream) => Resp::new(stream).command(&["PING"]).await.is_ok(),
            Err(_) => false,
        };
        process.ready(START, answers).await?;
        self.process = Some(process);
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }
}

impl Builder<'_> {
    /// Another certificate than [`Leaf::server`].
    #[must_use]
    pub fn certificate(mut self, issued: Issued) -> Self {
        self.certificate = Some(issued);
        self
    }

    /// A plaintext port as well.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Clients must show a certificate of the authority (`tls-auth-clients yes`).
    #[must_use]
    pub fn require_client_certificate(mut self) -> Self {
        self.require_client_certificate = true;
        self
    }

    /// A password for the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// An ACL user that may do everything.
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        self.line(format!("user {name} on >{password} ~* &* +@all"))
    }

    /// Idle clients are closed after so many seconds.
    #[must_use]
    pub fn timeout(self, seconds: u32) -> Self {
        self.line(format!("timeout {seconds}"))
    }

    /// More clients are refused.
    #[must_use]
    pub fn max_clients(self, clients: u32) -> Self {
        self.line(format!("maxclients {clients}"))
    }

    /// `TLSv1.2`, `TLSv1.3` or both, separated by a space.
    #[must_use]
    pub fn tls_protocols(self, protocols: &str) -> Self {
        self.line(format!("tls-protocols \"{protocols}\""))
    }

    /// Any line of redis.conf.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not start; the text has its log.
    pub async fn start(self) -> Result<Redis> {
        let program = require("redis-server", "redis-server")?;
        let dir = tempfile::Builder::new().prefix("lab-redis-").tempdir()?;
        let port = free_port()?;
        let plain_port = if self.plain { Some(free_port()?) } else { None };
        self.authority.write_ca(dir.path())?;
        let issued = match &self.certificate {
            Some(issued) => issued.clone(),
            None => self.authority.issue(&Leaf::server())?,
        };
        issued.write(dir.path(), "server")?;
        write_private(&dir.path().join("redis.conf"), &self.config(dir.path(), port, plain_port))?;
        let mut redis = Redis { dir, program, process: None, port, plain_port, password: self.password };
        redis.launch().await?;
        Ok(redis)
    }

    /// Secrets are in this file and nowhere else, least of all among the arguments.
    fn config(&self, dir: &Path, port: u16, plain_port: Option<u16>) -> String {
        let dir = dir.display();
        let mut config = format!(
            "bind 127.0.0.1 -::1\nport {plain}\ntls-port {port}\nunixsocket {dir}/redis.sock\ndir {dir}\n\
             tls-cert-file {dir}/server.crt\ntls-key-file {dir}/server.key\ntls-ca-cert-file {dir}/ca.pem\ntls-auth-clients {auth}\n\
             save \"\"\nappendonly no\ndaemonize no\nenable-debug-command yes\nenable-module-command no\n",
            plain = plain_port.unwrap_or_default(),
            auth = if self.require_client_certificate { "yes" } else { "no" },
        );
        if let Some(password) = &self.password {
            config.push_str(&format!("requirepass \"{password}\"\n"));
        }
        for line in &self.lines {
            config.push_str(line);
            config.push('\n');
        }
        config
    }
}
