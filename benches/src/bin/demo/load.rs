//! redis-benchmark and pgbench: at the servers themselves, through socat, and through the proxy.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::process::{Launch, require, run};
use lab::{Process, free_port};

use crate::account::Account;

/// Whom it goes to.
pub(crate) struct Load<'a> {
    pub(crate) account: &'a Account,
    /// The proxy's port for Redis.
    pub(crate) redis: u16,
    /// The proxy's port for PostgreSQL.
    pub(crate) postgres: u16,
    /// What clients give the proxy.
    pub(crate) password: String,
}

/// One line of the table.
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    direct: f64,
    socat: Option<f64>,
    proxy: f64,
}

struct Socat {
    port: u16,
    _process: Process,
}

impl Load<'_> {
    pub(crate) fn ping_through_the_proxy(&self) -> Result<String> {
        redis_cli(self.redis, &self.password, None)
    }

    /// The proxy's password there.
    pub(crate) fn ping_at_the_database(&self) -> Result<String> {
        redis_cli(self.account.redis.port(), &self.password, Some(&self.account.redis.ca_file()))
    }

    pub(crate) async fn measure(&self) -> Result<Vec<Row>> {
        let socat = self.start_socat().await?;
        let (server, mut rows) = (&self.account.redis, Vec::new());
        let own = server.password().context("Redis has no password")?;
        for (what, clients, pipeline, requests) in [
            ("Redis GET, 50 clients", 50, Some(1), 120_000),
            ("the same, 16 at a time", 50, Some(16), 400_000),
            ("Redis GET, 1 client", 1, Some(1), 20_000),
            ("Redis, a connection per GET", 20, None, 800),
        ] {
            let load = RedisLoad { clients, pipeline, requests };
            rows.push(Row {
                what,
                unit: "req/s",
                direct: load.run(server.port(), own, Some(&server.ca_file()))?,
                socat: Some(load.run(socat.port, own, None)?),
                proxy: load.run(self.redis, &self.password, None)?,
            });
        }
        let (server, own) = (self.account.postgres.port(), self.account.secret("postgres-password")?);
        self.pgbench(&["-i", "-q", "-s", "2"], server, &own, "verify-full")?;
        for (what, mode) in [("PostgreSQL SELECT, 16 clients", "simple"), ("the same, prepared", "prepared")] {
            let arguments = ["-S", "-n", "-c", "16", "-T", "2", "-M", mode];
            rows.push(Row {
                what,
                unit: "tx/s",
                direct: tps(&self.pgbench(&arguments, server, &own, "verify-full")?)?,
                socat: None,
                proxy: tps(&self.pgbench(&arguments, self.postgres, &self.password, "disable")?)?,
            });
        }
        Ok(rows)
    }

    async fn start_socat(&self) -> Result<Socat> {
        let (port, server) = (free_port()?, &self.account.redis);
        let mut command = Command::new(require("socat", "socat")?);
        command.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=128,nodelay")).arg(format!(
            "OPENSSL:localhost:{},cafile={},nodelay",
            server.port(),
            server.ca_file().display()
        ));
        let mut process = Process::spawn("socat", &command, server.dir())?;
        process.ready(Duration::from_secs(5), async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await?;
        Ok(Socat { port, _process: process })
    }

    fn pgbench(&self, arguments: &[&str], port: u16, password: &str, sslmode: &str) -> Result<String> {
        let server = &self.account.postgres;
        let mut command = Command::new(server.client("pgbench")?);
        command
            .args(arguments)
            .args(["-h", "localhost", "-p", &port.to_string(), "-U", "harbor", "registry"])
            .env("PGPASSWORD", password)
            .env("PGSSLMODE", sslmode)
            .env("PGSSLROOTCERT", server.ca_file());
        run(&command, Launch::default(), "").inspect(|_| dot())
    }
}

struct RedisLoad {
    clients: u32,
    /// Requests at a time on a connection that is kept; `None` for a connection per request.
    pipeline: Option<u32>,
    requests: u32,
}

impl RedisLoad {
    /// Requests per second as redis-benchmark counts them; over TLS when a CA is given.
    fn run(&self, port: u16, password: &str, ca: Option<&Path>) -> Result<f64> {
        let mut command = Command::new(require("redis-benchmark", "redis-tools")?);
        let (keep, pipeline) = self.pipeline.map_or(("0", 1), |pipeline| ("1", pipeline));
        command.args(["-h", "localhost", "-p", &port.to_string(), "-t", "get", "-d", "64", "--csv", "-k", keep]);
        command.args(["-c", &self.clients.to_string(), "-n", &self.requests.to_string(), "-P", &pipeline.to_string()]);
        // It takes it from nowhere else; these passwords end with the demo.
        command.args(["-a", password]).args(tls(ca));
        let out = run(&command, Launch::default(), "")?;
        let line = out.lines().find(|line| line.starts_with("\"GET\"")).with_context(|| format!("redis-benchmark said: {out}"))?;
        dot();
        Ok(line.split(',').nth(1).context("no rate")?.trim_matches('"').parse()?)
    }
}

/// What a PING comes to, in one line.
fn redis_cli(port: u16, password: &str, ca: Option<&Path>) -> Result<String> {
    let mut command = Command::new(require("redis-cli", "redis-tools")?);
    command.args(["-h", "localhost", "-p", &port.to_string()]).args(tls(ca)).arg("PING").env("REDISCLI_AUTH", password);
    let output = command.output()?;
    let said = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Ok(said.lines().next().unwrap_or_default().trim_start_matches("AUTH failed: ").to_owned())
}

fn tls(ca: Option<&Path>) -> Vec<PathBuf> {
    ca.map_or_else(Vec::new, |ca| vec!["--tls".into(), "--cacert".into(), ca.to_owned()])
}

/// Something was measured.
fn dot() {
    print!(" ·");
    let _ = std::io::stdout().flush();
}

fn tps(out: &str) -> Result<f64> {
    let line = out.lines().find(|line| line.starts_with("tps = ")).with_context(|| format!("pgbench said: {out}"))?;
    Ok(line.split_whitespace().nth(2).context("no rate")?.parse()?)
}

/// The table.
pub(crate) fn print(rows: &[Row]) {
    let columns = ["direct TLS", "socat", "the proxy", "x socat", "x direct"];
    println!("\n\n   {:<30}{}", "", columns.map(|name| format!("{name:>12}")).concat());
    for Row { what, unit, direct, socat, proxy } in rows {
        let times = |other: Option<f64>| other.map_or_else(|| "–".to_owned(), |rate| format!("{:.1}", proxy / rate));
        let rate = |rate: &f64| format!("{rate:.0}");
        let columns = [rate(direct), socat.as_ref().map_or_else(|| "–".to_owned(), rate), rate(proxy), times(*socat), times(Some(*direct))];
        println!("   {what:<30}{}   {unit}", columns.map(|column| format!("{column:>12}")).concat());
    }
}
