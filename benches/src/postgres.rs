//! A real PostgreSQL server with TLS on loopback.

mod cluster;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::certs::{Authority, Issued, Leaf, write_private};
use crate::ports::free_port;
use crate::process::{self, Launch, Process, Signal};
use crate::usage::Usage;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);

/// How clients over TCP prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// SCRAM-SHA-256, the default.
    Scram,
    /// MD5, as old clusters still have it.
    Md5,
    /// The password itself.
    Password,
    /// Nothing to prove.
    Trust,
}

/// What the server should be like; made by [`Postgres::builder`].
pub struct Builder<'a> {
    authority: &'a Authority,
    certificate: Option<Issued>,
    bin: Option<PathBuf>,
    auth: Auth,
    ssl_only: bool,
    client_certificate: bool,
    users: Vec<(String, String, String)>,
    settings: Vec<(String, String)>,
}

/// A running server, killed with all its backends when dropped.
pub struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    process: Option<Process>,
    port: u16,
    password: String,
}

impl Postgres {
    /// A server with a good certificate, SCRAM, and the superuser `postgres` with a password of its own.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn start(authority: &Authority) -> Result<Self> {
        Self::builder(authority).start().await
    }

    /// A server to be described first. Its certificate comes from `authority`, which is also whom it trusts for client certificates.
    #[must_use]
    pub fn builder(authority: &Authority) -> Builder<'_> {
        Builder {
            authority,
            certificate: None,
            bin: None,
            auth: Auth::Scram,
            ssl_only: false,
            client_certificate: false,
            users: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// The programs of PostgreSQL 18 or newer (direct TLS, protocol 3.2): the directory named by `LAB_PG18_BIN`, or Debian's if it is new
    /// enough. `None`: say so and skip the test.
    #[must_use]
    pub fn newest_bin() -> Option<PathBuf> {
        cluster::newest_bin()
    }

    /// A client program such as `psql` or `pgbench`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn client(&self, program: &str) -> Result<PathBuf> {
        cluster::client(program, &self.bin)
    }

    /// 127.0.0.1 and the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The port, on 127.0.0.1 and ::1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of the superuser `postgres`.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The root certificate that clients should trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// What the server logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// Runs SQL as the superuser over the server's unix socket, past TLS and every gate; values separated by `|`, rows by newlines.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("postgres", sql).await
    }

    /// [`Postgres::sql`] in another database.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.client("psql")?);
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &self.port.to_string(), "-d", database, "-h"]);
        psql.arg(self.dir.path()).env_remove("PGSSLMODE").env_remove("PGOPTIONS");
        let sql = sql.to_owned();
        // On standard input, because passwords are in it.
        let output = tokio::task::spawn_blocking(move || process::run(&psql, Launch::default(), &sql)).await??;
        Ok(output.trim_end().to_owned())
    }

    /// How many clients are connected over TCP.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn clients(&self) -> Result<usize> {
        let sql = "select count(*) from pg_stat_activity where backend_type = 'client backend' and client_addr is not null";
        Ok(self.sql(sql).await?.parse()?)
    }

    /// Shuts it down "fast": clients get 57P01 and the connection closes.
    ///
    /// # Errors
    /// When it does not leave in 10 s.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            process.stop(Signal::INT, STOP).await?;
        }
        self.process = None;
        Ok(())
    }

    /// Ends it at once, with all its backends, as a crash would.
    pub fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Killed outright it would leave a System V shared memory segment behind, and those are few.
            process.kill_gently(Signal::QUIT, STOP);
        }
    }

    /// Starts it again on the same port with the same data; stops it first when it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Stops all its processes where they are; connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.process.iter().for_each(Process::freeze);
    }

    /// Ends [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.process.iter().for_each(Process::thaw);
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// CPU time and memory of all its processes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage> {
        self.process.as_ref().context("PostgreSQL is not running")?.usage()
    }

    /// Replaces the certificate for connections made from now on, without a restart.
    ///
    /// # Errors
    /// When the files cannot be written or the server does not run.
    pub async fn set_certificate(&self, issued: &Issued) -> Result<()> {
        self.write_certificate(issued)?;
        self.sql("select pg_reload_conf()").await.map(drop)
    }

    fn write_certificate(&self, issued: &Issued) -> Result<()> {
        let files = issued.write(self.dir.path(), "server")?;
        cluster::give(&files.key)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(self.data()).current_dir("/");
        let mut process = Process::spawn_with("postgres", &command, self.dir.path(), cluster::launch())?;
        // The last line of this file is the postmaster's own word on its state.
        let state = self.data().join("postmaster.pid");
        let id = process.id().to_string();
        let is_ready = |text: String| text.lines().next() == Some(&id) && text.lines().nth(7).is_some_and(|line| line.trim() == "ready");
        process.ready(START, async || fs::read_to_string(&state).is_ok_and(is_ready)).await?;
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

impl Builder<'_> {
    /// Another certificate than [`Leaf::server`].
    #[must_use]
    pub fn certificate(mut self, issued: Issued) -> Self {
        self.certificate = Some(issued);
        self
    }

    /// The programs of another version, e.g. [`Postgres::newest_bin`].
    #[must_use]
    pub fn bin(mut self, dir: &Path) -> Self {
        self.bin = Some(dir.to_owned());
        self
    }

    /// Another kind of login over TCP.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Plaintext clients over TCP are refused.
    #[must_use]
    pub fn ssl_only(mut self) -> Self {
        self.ssl_only = true;
        self
    }

    /// Clients over TCP must show a certificate of the authority besides their password (`clientcert=verify-ca`); implies [`Builder::ssl_only`].
    #[must_use]
    pub fn require_client_certificate(mut self) -> Self {
        (self.client_certificate, self.ssl_only) = (true, true);
        self
    }

    /// Another user (no superuser) who owns a database.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, database: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned(), database.to_owned()));
        self
    }

    /// The limit on connections; 3 of them are for superusers.
    #[must_use]
    pub fn max_connections(self, connections: u32) -> Self {
        self.setting("max_connections", &connections.to_string())
    }

    /// Any setting of postgresql.conf.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the text has its log.
    pub async fn start(self) -> Result<Postgres> {
        let bin = self.bin.clone().map_or_else(cluster::bin, Ok)?;
        let dir = tempfile::Builder::new().prefix("lab-pg-").tempdir()?;
        cluster::give(dir.path())?;
        let (programs, data) = (bin.clone(), dir.path().join("data"));
        tokio::task::spawn_blocking(move || cluster::create(&programs, &data)).await?.context("initdb failed")?;
        self.authority.write_ca(dir.path())?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        let mut postgres = Postgres { dir, bin, process: None, port: free_port()?, password };
        let issued = match &self.certificate {
            Some(issued) => issued.clone(),
            None => self.authority.issue(&Leaf::server())?,
        };
        postgres.write_certificate(&issued)?;
        let data = postgres.data();
        for (name, content) in [("postgresql.auto.conf", self.settings(&postgres)), ("pg_hba.conf", self.hba())] {
            write_private(&data.join(name), &content)?;
            cluster::give(&data.join(name))?;
        }
        postgres.launch().await?;
        postgres.sql(&self.roles(&postgres.password)).await.map_err(|error| anyhow!("{error:#}\n{}", postgres.log()))?;
        Ok(postgres)
    }

    fn settings(&self, postgres: &Postgres) -> String {
        let dir = postgres.dir.path().display().to_string();
        let in_dir = |name: &str| format!("{dir}/{name}");
        let mut settings: Vec<(String, String)> = [
            ("listen_addresses", "127.0.0.1, ::1".to_owned()),
            ("port", postgres.port.to_string()),
            ("unix_socket_directories", dir.clone()),
            ("ssl", "on".into()),
            ("ssl_cert_file", in_dir("server.crt")),
            ("ssl_key_file", in_dir("server.key")),
            ("ssl_ca_file", in_dir("ca.pem")),
            ("password_encryption", if self.auth == Auth::Md5 { "md5" } else { "scram-sha-256" }.into()),
            // Data need not outlive the test.
            ("fsync", "off".into()),
            ("synchronous_commit", "off".into()),
            ("full_page_writes", "off".into()),
            ("shared_buffers", "32MB".into()),
            ("max_wal_size", "64MB".into()),
            ("autovacuum", "off".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        settings.extend(self.settings.iter().cloned());
        settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
    }

    fn hba(&self) -> String {
        let kind = if self.ssl_only { "hostssl" } else { "host" };
        let auth = match self.auth {
            Auth::Scram => "scram-sha-256",
            Auth::Md5 => "md5",
            Auth::Password => "password",
            Auth::Trust => "trust",
        };
        let certificate = if self.client_certificate { " clientcert=verify-ca" } else { "" };
        let over = |network: &str| format!("{kind} all all {network} {auth}{certificate}\n{kind} replication all {network} {auth}\n");
        // The socket lies in a directory that only its owner (and root) can enter.
        format!("local all all trust\n{}{}", over("127.0.0.0/8"), over("::1/128"))
    }

    fn roles(&self, password: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut sql = format!("alter role postgres password {};\n", quoted(password));
        for (name, password, database) in &self.users {
            sql.push_str(&format!("create role \"{name}\" login password {};\n", quoted(password)));
            sql.push_str(&format!("create database \"{database}\" owner \"{name}\";\n"));
        }
        sql
    }
}
