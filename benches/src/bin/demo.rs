//! `make demo`: the whole way through in half a minute. Real TLS servers, the proxy before both of them, real load generators, one table.
//!
//! `KEEP=1` leaves everything running until Ctrl-C, for a look at the status page and a try by hand.

#![expect(clippy::print_stdout, reason = "printing is what the demo is for")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::process::{Launch, require, run};
use lab::{Authority, Postgres, Process, Proxy, Redis, free_port};
use tokio::time::Instant;

const PG_PASSWORD: &str = "demo-only";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let program = proxy_program()?;
    let dir = tempfile::tempdir()?;
    say("Certificates, a TLS Redis and a TLS PostgreSQL, all on loopback …");
    let authority = Authority::new()?;
    let redis = Redis::start(&authority).await?;
    let postgres = Postgres::builder(&authority).ssl_only().user("demo", PG_PASSWORD, "demo").start().await?;
    let lab = Lab { redis, postgres, dir: dir.path().to_owned() };

    let ports = Ports { relay: free_port()?, multiplex: free_port()?, postgres: free_port()? };
    let config = lab.write_config(&ports)?;
    say("redis-tls-proxy before both of them, before Redis in two ways: an upstream connection per client, and a few for all …");
    let proxy = Proxy::start(&program, &["run", "--config", &config.display().to_string(), "--quiet"], &[]).await?;
    let socat = lab.start_socat().await?;

    say("Load: redis-benchmark and pgbench, direct and through …");
    let rows = lab.measure(&ports, socat.port, &proxy).await?;
    print_table(&rows);
    let warm = proxy.metric("redis_tls_proxy_leases_total", &[("outcome", "warm")]).await?;
    let resumed = proxy.metric("redis_tls_proxy_tls_handshakes_total", &[("resumed", "true")]).await?;
    println!("\n{warm} clients got a connection that was ready; {resumed} TLS handshakes were resumed.");
    println!("Status page  http://{}/\nMetrics      http://{0}/metrics", proxy.admin());
    if std::env::var_os("KEEP").is_some() {
        println!("\nTry it:      redis-cli -p {}      relay", ports.relay);
        println!("             redis-cli -p {}      multiplex", ports.multiplex);
        println!("             psql -h 127.0.0.1 -p {} -U demo demo\n\nCtrl-C ends it.", ports.postgres);
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

fn say(what: &str) {
    println!("── {what}");
}

/// Built into the same folder as this program.
fn proxy_program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let program = here.parent().context("no folder")?.join("redis-tls-proxy");
    ensure!(program.exists(), "{} is missing; run `make demo`, which builds it", program.display());
    Ok(program)
}

struct Lab {
    redis: Redis,
    postgres: Postgres,
    dir: PathBuf,
}

/// Where the proxy listens.
struct Ports {
    relay: u16,
    multiplex: u16,
    postgres: u16,
}

struct Socat {
    port: u16,
    _process: Process,
}

struct Row {
    what: &'static str,
    unit: &'static str,
    direct: f64,
    socat: Option<f64>,
    relay: f64,
    multiplex: Option<f64>,
}

impl Lab {
    /// What a user would write: listeners, the CA, the password in a file.
    fn write_config(&self, ports: &Ports) -> Result<PathBuf> {
        let password = self.dir.join("pg-password");
        lab::certs::write_private(&password, PG_PASSWORD)?;
        let path = self.dir.join("proxy.yaml");
        let (redis, redis_ca) = (self.redis.port(), self.redis.ca_file());
        let (postgres, postgres_ca) = (self.postgres.port(), self.postgres.ca_file());
        let mut text = "ca_only: true\nlisteners:\n".to_owned();
        for (port, pool) in [(ports.relay, "relay"), (ports.multiplex, "multiplex")] {
            text += &format!(
                "  - url: rediss://localhost:{redis}\n    listen: 127.0.0.1:{port}\n    ca_file: {}\n    pool: {pool}\n",
                redis_ca.display()
            );
        }
        text += &format!(
            "  - url: postgresql://demo@localhost:{postgres}/demo\n    listen: 127.0.0.1:{}\n    ca_file: {}\n    password_file: {}\n",
            ports.postgres,
            postgres_ca.display(),
            password.display(),
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    async fn start_socat(&self) -> Result<Socat> {
        let port = free_port()?;
        let mut command = Command::new(require("socat", "socat")?);
        command.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=128,nodelay")).arg(format!(
            "OPENSSL:localhost:{},cafile={},nodelay",
            self.redis.port(),
            self.redis.ca_file().display()
        ));
        let mut process = Process::spawn("socat", &command, &self.dir)?;
        process.ready(Duration::from_secs(5), async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await?;
        Ok(Socat { port, _process: process })
    }

    async fn measure(&self, ports: &Ports, socat: u16, proxy: &Proxy) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (what, clients, pipeline, requests) in [
            ("Redis GET, 50 clients", 50, Some(1), 120_000),
            ("the same, 16 at a time", 50, Some(16), 400_000),
            ("Redis GET, 1 client", 1, Some(1), 20_000),
            ("Redis, a connection per GET", 20, None, 1_000),
        ] {
            let load = RedisLoad { clients, pipeline, requests };
            rows.push(Row {
                what,
                unit: "req/s",
                direct: load.run(self.redis.port(), Some(&self.redis.ca_file()))?,
                socat: Some(load.run(socat, None)?),
                relay: load.run(ports.relay, None)?,
                multiplex: Some(load.run(ports.multiplex, None)?),
            });
        }
        self.pgbench(&["-i", "-q", "-s", "2"], self.postgres.port(), "verify-full")?;
        for (what, mode) in [("PostgreSQL SELECT, 16 clients", "simple"), ("the same, prepared", "prepared")] {
            let arguments = ["-S", "-n", "-c", "16", "-T", "2", "-M", mode];
            rows.push(Row {
                what,
                unit: "tx/s",
                direct: tps(&self.pgbench(&arguments, self.postgres.port(), "verify-full")?)?,
                socat: None,
                relay: tps(&self.pgbench(&arguments, ports.postgres, "disable")?)?,
                multiplex: None,
            });
        }
        ensure!(proxy.metric("redis_tls_proxy_bytes_total", &[]).await? > 0.0, "the proxy carried nothing");
        Ok(rows)
    }

    fn pgbench(&self, arguments: &[&str], port: u16, sslmode: &str) -> Result<String> {
        let mut command = Command::new(self.postgres.client("pgbench")?);
        command
            .args(arguments)
            .args(["-h", "localhost", "-p", &port.to_string(), "-U", "demo", "demo"])
            .env("PGPASSWORD", PG_PASSWORD)
            .env("PGSSLMODE", sslmode)
            .env("PGSSLROOTCERT", self.postgres.ca_file());
        let started = Instant::now();
        let out = run(&command, Launch::default(), "")?;
        println!("   pgbench {} on port {port}: {:.1} s", arguments.join(" "), started.elapsed().as_secs_f64());
        Ok(out)
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
    fn run(&self, port: u16, ca: Option<&Path>) -> Result<f64> {
        let mut command = Command::new(require("redis-benchmark", "redis-tools")?);
        let (keep, pipeline) = self.pipeline.map_or(("0", 1), |pipeline| ("1", pipeline));
        command.args(["-h", "localhost", "-p", &port.to_string(), "-t", "get", "-d", "64", "--csv", "-k", keep]);
        command.args(["-c", &self.clients.to_string(), "-n", &self.requests.to_string(), "-P", &pipeline.to_string()]);
        if let Some(ca) = ca {
            command.arg("--tls").arg("--cacert").arg(ca);
        }
        let out = run(&command, Launch::default(), "")?;
        let line = out.lines().find(|line| line.starts_with("\"GET\"")).with_context(|| format!("redis-benchmark said: {out}"))?;
        let rps: f64 = line.split(',').nth(1).context("no rate")?.trim_matches('"').parse()?;
        println!("   redis-benchmark -c {} -P {pipeline} -k {keep} on port {port}: {rps:.0}/s", self.clients);
        Ok(rps)
    }
}

fn tps(out: &str) -> Result<f64> {
    let line = out.lines().find(|line| line.starts_with("tps = ")).with_context(|| format!("pgbench said: {out}"))?;
    Ok(line.split_whitespace().nth(2).context("no rate")?.parse()?)
}

fn print_table(rows: &[Row]) {
    let columns = ["direct TLS", "socat", "relay", "multiplex"];
    println!("\n{:<32}{}   best x socat  x direct", "", columns.map(|name| format!("{name:>12}")).concat());
    for Row { what, unit, direct, socat, relay, multiplex } in rows {
        let best = multiplex.map_or(*relay, |multiplex| multiplex.max(*relay));
        let rates = [Some(*direct), *socat, Some(*relay), *multiplex];
        let rates = rates.map(|rate| rate.map_or_else(|| format!("{:>12}", "–"), |rate| format!("{rate:>12.0}")));
        let times = |other: Option<f64>| other.map_or_else(|| "–".to_owned(), |rate| format!("{:.1}", best / rate));
        println!("{what:<32}{} {:>13} {:>9}   {unit}", rates.concat(), times(*socat), times(Some(*direct)));
    }
}
