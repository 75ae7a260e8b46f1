//! What is measured: each function takes one peer for one round and returns named figures.
//!
//! `redis-benchmark` and `pgbench` where they fit, [`crate::generator`] where they do not (a connection per request, large values with their
//! worst latency, thousands of clients). CPU figures are microseconds of user and system time per request: `cpu_us` of all the peer's
//! processes, `server_cpu_us` of the server's, `total_cpu_us` of both.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::process::{self, Launch, require};
use lab::usage::cpu_of_tree;
use lab::{Postgres, Redis, resp};
use rustls::ClientConfig;

use crate::generator::{Ask, Crowd, Dial, per_connection, per_request};
use crate::peers::{Peer, is_relay};

/// What one round found, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Something that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_millis(200);
const BIG_BYTES: usize = 256 * 1024;
const SMALL_BYTES: usize = 64;
const BIG_CLIENTS: usize = 4;
const CONNECT_CLIENTS: u8 = 20;
/// Clients that ask at a time while many more are connected: as many as in the other rows, or as few as the smallest crowd has.
const BUSY: usize = 50;
const CALM: usize = 10;
/// Transactions per second of the rows that ask for latency: far below what any pooler can carry.
const RATE: u32 = 2_000;
/// At least, also where each is TLS and SCRAM on a slow machine.
const LOGINS_PER_SECOND: u32 = 40;
/// Seconds that do not count: the first ones find connections that are just being made.
const SETTLING: u64 = 2;
/// Idle clients of a peer that has a process or a thread for each.
const FORKED: usize = 1_000;

/// The servers, and how long to measure.
pub(crate) struct Bench {
    pub(crate) redis: Redis,
    /// Only when a row needs it.
    pub(crate) postgres: Option<Postgres>,
    /// For clients that speak TLS themselves; without resumption, as Redis clients do by default.
    pub(crate) tls: Arc<ClientConfig>,
    /// How long one measurement takes, roughly.
    pub(crate) span: Duration,
    pub(crate) idle_clients: usize,
    /// Numbers of connected clients, growing.
    pub(crate) sizes: &'static [usize],
    /// Open files that this program and each peer may have.
    pub(crate) descriptors: usize,
}

impl Bench {
    /// Writes the keys that are read later.
    pub(crate) async fn prepare(&self) -> Result<()> {
        self.redis.admin(&[&b"SET"[..], b"bench:small", &[b'x'; SMALL_BYTES]]).await.map(drop)
    }

    /// SET and GET of 64 bytes over `clients` connections, `pipeline` requests at a time.
    pub(crate) async fn steady(&self, peer: &Peer, clients: u32, pipeline: u32) -> Result<Figures> {
        // Warm-up and calibration at once.
        let warm = self.redis_benchmark(peer, clients, pipeline, 4_000 * pipeline.min(8)).await?;
        let slowest = warm.iter().map(|test| test.per_s).fold(f64::INFINITY, f64::min);
        let requests = whole((slowest * self.span.as_secs_f64() / 2.0).clamp(2_000.0, 10_000_000.0));
        let meter = Meter::start(peer, self.redis.pid())?;
        let tests = self.redis_benchmark(peer, clients, pipeline, requests).await?;
        let mut figures = Figures::new();
        meter.stop(&mut figures, f64::from(requests) * tests.len() as f64).await?;
        figures.insert("per_s".into(), of_both(tests.iter().map(|test| test.per_s)));
        for Test { name, per_s, avg_us, p50_us, p99_us } in tests {
            for (figure, value) in [("per_s", per_s), ("avg_us", avg_us), ("p50_us", p50_us), ("p99_us", p99_us)] {
                figures.insert(format!("{name}_{figure}"), value);
            }
        }
        Ok(figures)
    }

    async fn redis_benchmark(&self, peer: &Peer, clients: u32, pipeline: u32, requests: u32) -> Result<Vec<Test>> {
        let mut command = Command::new(require("redis-benchmark", "redis-tools")?);
        command.args(["-h", "127.0.0.1", "-d", "64", "-t", "set,get", "--csv", "-p", &peer.address.port().to_string()]);
        command.args(["-c", &clients.to_string(), "-P", &pipeline.to_string(), "-n", &requests.to_string()]);
        if peer.tls {
            command.args(["--tls", "--sni", "localhost", "--cacert"]).arg(self.redis.ca_file());
        }
        let output = run(command, self.span * 20 + PATIENCE).await?;
        let tests: Vec<_> = output.lines().filter_map(Test::parse).collect();
        if tests.len() != 2 {
            bail!("redis-benchmark said: {output}");
        }
        Ok(tests)
    }

    /// 20 clients, each in a loop: connect, GET, close.
    pub(crate) async fn connect(&self, peer: &Peer) -> Result<Figures> {
        let ask = small_get();
        per_request(&self.dial(peer), std::slice::from_ref(&ask), CONNECT_CLIENTS, WARM_UP).await?;
        let meter = Meter::start(peer, self.redis.pid())?;
        let times = per_request(&self.dial(peer), std::slice::from_ref(&ask), CONNECT_CLIENTS, self.span).await?;
        let mut figures = Figures::new();
        meter.stop(&mut figures, times.count()).await?;
        times.record("connect", &mut figures);
        Ok(figures)
    }

    /// 4 clients with 256 KiB values: SET for half of the time, then GET.
    pub(crate) async fn big(&self, peer: &Peer) -> Result<Figures> {
        let set = Ask::new(resp::encode(&[&b"SET"[..], b"bench:big", &vec![b'x'; BIG_BYTES]]), "+OK\r\n".len());
        let get = Ask::new(resp::encode(&["GET", "bench:big"]), bulk_len(BIG_BYTES));
        let (mut figures, mut requests, mut rates) = (Figures::new(), 0.0, Vec::new());
        let meter = Meter::start(peer, self.redis.pid())?;
        for (name, ask) in [("set", &set), ("get", &get)] {
            let times = per_connection(&self.dial(peer), ask, BIG_CLIENTS, self.span / 2).await?;
            requests += times.count();
            rates.push(times.rate());
            times.record(name, &mut figures);
        }
        figures.insert("per_s".into(), of_both(rates.into_iter()));
        meter.stop(&mut figures, requests).await?;
        Ok(figures)
    }

    /// Memory of the peer with nobody connected, and per connected client that has sent one PING. The kernel's socket memory is not in it.
    pub(crate) async fn idle(&self, peer: &Peer) -> Result<Figures> {
        let forks = ["socat", "stunnel"].contains(&peer.name);
        let wanted = self.fitting(peer, if forks { self.idle_clients.min(FORKED) } else { self.idle_clients });
        let base = peer.usage().pss_bytes as f64;
        let mut crowd = Crowd::new(self.dial(peer));
        crowd.grow(wanted, &ping()).await?;
        let (full, count) = (peer.usage().pss_bytes as f64, crowd.len() as f64);
        drop(crowd);
        peer.settle().await?;
        let idle_kib = (full - base) / 1024.0 / count.max(1.0);
        Ok(Figures::from([("base_mib".into(), base / 1024.0 / 1024.0), ("idle_kib".into(), idle_kib), ("clients".into(), count)]))
    }

    /// What a request costs with 10, 100, 1,000 and 10,000 clients connected. The turn goes round over all of them, so that each request
    /// finds another client's memory, cold, in the kernel too. 50 clients at a time have asked for something, or all 10: closed loops as in the
    /// other rows. What more clients cost may hide behind what they save by being served together, so it is measured with 10
    /// at a time for every size as well: `calm_…`. `growth` and `calm_growth` are the highest cost to that with 10 clients.
    pub(crate) async fn scale(&self, peer: &Peer) -> Result<Figures> {
        let (mut figures, mut crowd) = (Figures::new(), Crowd::new(self.dial(peer)));
        for size in self.sizes {
            crowd.grow(self.fitting(peer, *size), &ping()).await?;
            let busy = self.crowd(peer, &mut crowd, BUSY.min(*size)).await?;
            let calm = if *size > CALM { self.crowd(peer, &mut crowd, CALM).await? } else { busy.clone() };
            figures.extend(busy.into_iter().map(|(name, value)| (format!("{name}_{size}"), value)));
            figures.extend(calm.into_iter().map(|(name, value)| (format!("calm_{name}_{size}"), value)));
        }
        for prefix in ["", "calm_"] {
            // A direct connection has nobody between: then it is the server whose cost grows.
            let cost = |size: &usize| {
                let names = [format!("{prefix}cpu_us_{size}"), format!("{prefix}server_cpu_us_{size}")];
                names.iter().find_map(|name| figures.get(name).copied())
            };
            let (least, most) = (self.sizes.first().and_then(cost), self.sizes.iter().filter_map(cost).reduce(f64::max));
            if let (Some(least), Some(most)) = (least, most) {
                figures.insert(format!("{prefix}growth"), most / least.max(1e-3));
            }
        }
        Ok(figures)
    }

    async fn crowd(&self, peer: &Peer, crowd: &mut Crowd, in_flight: usize) -> Result<Figures> {
        let ask = small_get();
        crowd.ask_in_turn(&ask, in_flight, WARM_UP).await?;
        let meter = Meter::start(peer, self.redis.pid())?;
        let times = crowd.ask_in_turn(&ask, in_flight, self.span).await?;
        let mut figures = Figures::from([("clients".into(), crowd.len() as f64)]);
        meter.stop(&mut figures, times.count()).await?;
        times.record("get", &mut figures);
        Ok(figures)
    }

    /// As many clients as `peer` has file descriptors for, at most `wanted`: a relay needs two for each. Some are left for listeners,
    /// programs, libraries.
    fn fitting(&self, peer: &Peer, wanted: usize) -> usize {
        let fit = self.descriptors.saturating_sub(300) / if is_relay(peer.name) && peer.is_proxy() { 2 } else { 1 };
        // A round number, and a multiple of what is in flight.
        wanted.min((fit / 100 * 100).max(CALM))
    }

    /// A loop of 20 clients that need no password: connect, log in, ask once, close.
    pub(crate) async fn pg_connect(&self, peer: &Peer) -> Result<Figures> {
        let asks = [Ask::until_ready(log_in()), Ask::until_ready(query("select 1"))];
        per_request(&self.dial(peer), &asks, CONNECT_CLIENTS, WARM_UP).await?;
        let postgres = self.postgres.as_ref().context("PostgreSQL is not running")?;
        let meter = Meter::start(peer, postgres.pid())?;
        let times = per_request(&self.dial(peer), &asks, CONNECT_CLIENTS, self.span).await?;
        let mut figures = Figures::new();
        meter.stop(&mut figures, times.count()).await?;
        times.record("connect", &mut figures);
        Ok(figures)
    }

    /// Memory per client that has logged in and asks for nothing.
    pub(crate) async fn pg_idle(&self, peer: &Peer) -> Result<Figures> {
        let base = peer.usage().pss_bytes as f64;
        let mut crowd = Crowd::new(self.dial(peer));
        crowd.grow(self.fitting(peer, self.idle_clients / 2), &Ask::until_ready(log_in())).await?;
        let (full, count) = (peer.usage().pss_bytes as f64, crowd.len() as f64);
        drop(crowd);
        let idle_kib = (full - base) / 1024.0 / count.max(1.0);
        Ok(Figures::from([("base_mib".into(), base / 1024.0 / 1024.0), ("idle_kib".into(), idle_kib), ("clients".into(), count)]))
    }

    /// Latency while `clients` together begin so many transactions per second, counted from when each was due.
    pub(crate) async fn pg_rate(&self, peer: &Peer, clients: u32) -> Result<Figures> {
        let postgres = self.postgres.as_ref().context("PostgreSQL is not running")?;
        let dir = tempfile::tempdir()?;
        let prefix = dir.path().join("log").display().to_string();
        // Its clock runs while it connects, and 400 logins take their time.
        let seconds = self.span.as_secs().max(1) + SETTLING + u64::from(clients / LOGINS_PER_SECOND);
        let (clients, seconds, rate) = (clients.to_string(), seconds.to_string(), RATE.to_string());
        let jobs = if clients == "1" { "1" } else { "2" };
        let steady =
            ["-S", "-n", "-c", &clients, "-j", jobs, "-M", "extended", "-R", &rate, "-T", &seconds, "--log", "--log-prefix", &prefix];
        let meter = Meter::start(peer, postgres.pid())?;
        pgbench(postgres, peer, &steady).await?;
        let mut micros = Vec::new();
        for file in std::fs::read_dir(dir.path())? {
            let text = std::fs::read_to_string(file?.path())?;
            // Client, count, latency, script, and the second in which it ended.
            let ended = |line: &str| line.split(' ').nth(4)?.parse::<u64>().ok();
            let begin = text.lines().next().and_then(ended).unwrap_or_default() + SETTLING;
            let settled = text.lines().filter(|line| ended(line).is_some_and(|second| second >= begin));
            micros.extend(settled.filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
        }
        micros.sort_unstable();
        let at = |part: usize| micros.get(micros.len() * part / 1000).copied().map(f64::from).context("pgbench logged nothing");
        let mut figures = Figures::from([("p50_us".into(), at(500)?), ("p95_us".into(), at(950)?), ("p99_us".into(), at(990)?)]);
        meter.stop(&mut figures, micros.len() as f64).await?;
        Ok(figures)
    }

    /// `pgbench -S` with 16 clients; `protocol` is pgbench's word: `simple`, `prepared`.
    pub(crate) async fn pgbench(&self, peer: &Peer, protocol: &str) -> Result<Figures> {
        let postgres = self.postgres.as_ref().context("PostgreSQL is not running")?;
        pgbench(postgres, peer, &["-S", "-n", "-c", "16", "-j", "2", "-M", protocol, "-T", "1"]).await?;
        let seconds = self.span.as_secs().max(1).to_string();
        let meter = Meter::start(peer, postgres.pid())?;
        let output = pgbench(postgres, peer, &["-S", "-n", "-c", "16", "-j", "2", "-M", protocol, "-T", &seconds]).await?;
        let after = |key: &str| -> Result<f64> {
            let number = output.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.split([' ', '/']).next());
            number.and_then(|number| number.parse().ok()).with_context(|| format!("pgbench said: {output}"))
        };
        let mut figures = Figures::from([("tps".into(), after("tps = ")?), ("avg_us".into(), after("latency average = ")? * 1000.0)]);
        meter.stop(&mut figures, after("number of transactions actually processed: ")?).await?;
        Ok(figures)
    }

    fn dial(&self, peer: &Peer) -> Dial {
        Dial { address: peer.address, tls: peer.tls.then(|| Arc::clone(&self.tls)) }
    }
}

/// Runs pgbench through `peer` as the superuser.
pub(crate) async fn pgbench(postgres: &Postgres, peer: &Peer, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(postgres.client("pgbench")?);
    command.args(arguments).args(["-U", "postgres", "-p", &peer.address.port().to_string(), "postgres"]);
    command.env("PGHOST", if peer.tls { "localhost" } else { "127.0.0.1" }).env("PGPASSWORD", postgres.password());
    command.env("PGSSLMODE", if peer.tls { "verify-full" } else { "disable" }).env("PGSSLROOTCERT", postgres.ca_file());
    run(command, PATIENCE * 3).await
}

/// A first message that asks for no more than it must.
fn log_in() -> Vec<u8> {
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 8).unwrap_or_default();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat()
}

fn query(sql: &str) -> Vec<u8> {
    let length = u32::try_from(sql.len() + 5).unwrap_or_default();
    [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat()
}

/// One line of `redis-benchmark --csv`.
struct Test {
    name: String,
    per_s: f64,
    avg_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Test {
    /// `"SET","rps","avg","min","p50","p95","p99","max"`, latencies in milliseconds; the heading is no test.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(',').map(|field| field.trim_matches('"')).collect();
        let [name, per_s, avg, _min, p50, _p95, p99, _max] = *fields.as_slice() else { return None };
        let micros = |text: &str| text.parse::<f64>().ok().map(|ms| ms * 1000.0);
        let name = name.to_ascii_lowercase();
        Some(Self { name, per_s: per_s.parse().ok()?, avg_us: micros(avg)?, p50_us: micros(p50)?, p99_us: micros(p99)? })
    }
}

/// CPU time of the peer and of the server before a measurement.
struct Meter<'a> {
    peer: &'a Peer,
    server: u32,
    before: (Duration, Duration),
}

impl<'a> Meter<'a> {
    fn start(peer: &'a Peer, server: Option<u32>) -> Result<Self> {
        let server = server.context("the server is not running")?;
        Ok(Self { peer, server, before: (peer.cpu(), cpu_of_tree(server)) })
    }

    /// Adds the CPU time per request since the start.
    async fn stop(self, figures: &mut Figures, requests: f64) -> Result<()> {
        self.peer.settle().await?;
        let after = (self.peer.cpu(), cpu_of_tree(self.server));
        let per_request = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / requests.max(1.0);
        let (peer, server) = (per_request(after.0, self.before.0), per_request(after.1, self.before.1));
        if self.peer.is_proxy() {
            figures.insert("cpu_us".into(), peer);
        }
        figures.insert("server_cpu_us".into(), server);
        figures.insert("total_cpu_us".into(), peer + server);
        Ok(())
    }
}

/// Runs a load generator beside this task, within bounds.
async fn run(command: Command, limit: Duration) -> Result<String> {
    let seconds = limit.as_secs().to_string();
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=5", &seconds]).arg(command.get_program()).args(command.get_args());
    bounded.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let name = Path::new(command.get_program()).display().to_string();
    let output = tokio::task::spawn_blocking(move || process::run(&bounded, Launch::default(), "")).await?;
    output.with_context(|| format!("{name} failed (limit {seconds} s)"))
}

fn small_get() -> Ask {
    Ask::new(resp::encode(&["GET", "bench:small"]), bulk_len(SMALL_BYTES))
}

fn ping() -> Ask {
    Ask::new(resp::encode(&["PING"]), "+PONG\r\n".len())
}

/// The rate of as many SETs as GETs: the harmonic mean.
fn of_both(rates: impl ExactSizeIterator<Item = f64>) -> f64 {
    rates.len() as f64 / rates.map(|rate| 1.0 / rate.max(1e-3)).sum::<f64>()
}

/// Bytes of a bulk reply.
fn bulk_len(bytes: usize) -> usize {
    format!("${bytes}\r\n").len() + bytes + 2
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the caller clamps it to a few millions")]
fn whole(number: f64) -> u32 {
    number as u32
}
