//! `make bench`: this proxy and its peers in front of the same TLS Redis and PostgreSQL, in one run.
//!
//! ```text
//! bench [--rounds N] [--quick] [--only ROW[,ROW]] [--peers NAME[,NAME]] [--proxy PATH] [--out DIR]
//! ```
//! Rounds alternate: every peer is measured once before any is measured again, each round begins with another one, and medians are reported,
//! so that a change of the machine's mood hits all alike. The load generator, the peer and the server share the machine's cores.

mod chart;
mod envoy;
mod generator;
mod load;
mod peers;
mod programs;
mod report;
mod tables;
mod targets;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::process::find;
use lab::{Authority, Leaf, Postgres, Redis, tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::client::Resumption;

use crate::load::{Bench, Figures, pgbench};
use crate::peers::{POSTGRES, Peer, REDIS, Target, is_direct, is_ours, takes_part};
use crate::programs::locate;
use crate::report::{Measurement, Report, machine, version};

const ROWS: &[&str] = &[
    "c50",
    "pipeline",
    "one",
    "connect",
    "big",
    "idle",
    "scale",
    "pg-simple",
    "pg-extended",
    "pg-prepared",
    "pg-rate-1",
    "pg-rate-20",
    "pg-rate-60",
    "pg-rate-400",
    "pg-idle",
    "pg-connect",
];

/// What the command line asks for.
struct Options {
    rounds: usize,
    quick: bool,
    rows: Vec<&'static str>,
    peers: Vec<&'static str>,
    proxy: PathBuf,
    out: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Some(mut options) = Options::parse(std::env::args().skip(1))? else { return Ok(()) };
    raise_file_limit();
    let left_out = options.leave_out_missing()?;
    let machine = machine();
    let authority = Authority::new()?;
    let bench = Bench::start(&authority, &options).await?;
    let mut report = Report { machine, settings: settings(&options, &bench), rounds: Vec::new() };
    report.settings.extend(left_out.map(|names| ("left out", names)));
    for row in &options.rows {
        measure(&bench, row, &options, &mut report).await?;
    }
    report.write(&options.out)?;
    say(&format!("\n{}\nwritten to {}", report.markdown()?, options.out.display()))?;
    if report.rounds.iter().any(|m| is_ours(m.peer) && m.error.is_some()) {
        bail!("redis-tls-proxy failed, see above");
    }
    Ok(())
}

impl Bench {
    async fn start(authority: &Authority, options: &Options) -> Result<Self> {
        // RSA-2048 is what managed databases show.
        let certificate = authority.issue(&Leaf::server().rsa())?;
        // Clients come from many loopback addresses, and only 127.0.0.1 itself is free from protected mode.
        let redis = Redis::builder(authority).certificate(certificate.clone()).plain().line("protected-mode no").max_clients(15_000);
        let redis = redis.start().await?;
        let mut tls = tls::client_config(authority, None)?.as_ref().clone();
        tls.resumption = Resumption::disabled();
        let postgres = if options.rows.iter().any(|row| row.starts_with("pg-")) {
            Some(Postgres::builder(authority).certificate(certificate).max_connections(500).start().await?)
        } else {
            None
        };
        let (millis, idle_clients, sizes): (_, _, &[usize]) =
            if options.quick { (300, 100, &[10, 100]) } else { (2000, 10_000, &[10, 100, 1_000, 10_000]) };
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let span = Duration::from_millis(millis);
        let bench = Self { redis, postgres, tls: tls.into(), span, idle_clients, sizes, descriptors };
        bench.prepare().await?;
        if let Some(postgres) = &bench.postgres {
            let direct = Peer::start("direct plaintext", &bench.target("pg-simple")?, &options.proxy).await?;
            pgbench(postgres, &direct, &["-i", "-q", "-s", "2"]).await?;
        }
        Ok(bench)
    }

    fn target(&self, row: &str) -> Result<Target> {
        Ok(if row.starts_with("pg-") {
            let postgres = self.postgres.as_ref().context("PostgreSQL is not running")?;
            let password = Some(postgres.password().to_owned());
            Target { scheme: "postgresql", ports: (postgres.port(), postgres.port()), ca: postgres.ca_file(), password }
        } else {
            let plain = self.redis.plain_port().context("Redis has no plaintext port")?;
            Target { scheme: "rediss", ports: (self.redis.port(), plain), ca: self.redis.ca_file(), password: None }
        })
    }

    async fn one(&self, row: &str, peer: &Peer) -> Result<Figures> {
        match row {
            "c50" => self.steady(peer, 50, 1).await,
            "pipeline" => self.steady(peer, 50, 16).await,
            "one" => self.steady(peer, 1, 1).await,
            "connect" => self.connect(peer).await,
            "big" => self.big(peer).await,
            "idle" => self.idle(peer).await,
            "scale" => self.scale(peer).await,
            "pg-simple" => self.pgbench(peer, "simple").await,
            "pg-extended" => self.pgbench(peer, "extended").await,
            "pg-prepared" => self.pgbench(peer, "prepared").await,
            "pg-rate-1" => self.pg_rate(peer, 1).await,
            "pg-rate-20" => self.pg_rate(peer, 20).await,
            "pg-rate-60" => self.pg_rate(peer, 60).await,
            "pg-rate-400" => self.pg_rate(peer, 400).await,
            "pg-connect" => self.pg_connect(peer).await,
            "pg-idle" => self.pg_idle(peer).await,
            _ => bail!("there is no row {row}"),
        }
    }
}

/// All rounds of one row. A peer that fails is reported and does not stop the others.
async fn measure(bench: &Bench, row: &'static str, options: &Options, report: &mut Report) -> Result<()> {
    let all = if row.starts_with("pg-") { POSTGRES } else { REDIS };
    let names: Vec<_> = all.iter().copied().filter(|name| options.peers.contains(name) && takes_part(name, row)).collect();
    // Memory of a program that has served before is not what it needs, and ten thousand clients take long to connect.
    let once = ["idle", "scale", "pg-idle"].contains(&row);
    let target = bench.target(row)?;
    let mut running = Vec::new();
    for name in &names {
        running.push((*name, if once { None } else { Some(Peer::start(name, &target, &options.proxy).await) }));
    }
    for round in 0..if once { 1 } else { options.rounds } {
        for turn in 0..running.len() {
            let Some((name, peer)) = running.get((turn + round) % running.len()) else { continue };
            let fresh;
            let peer = match peer {
                Some(peer) => peer,
                None => {
                    fresh = Peer::start(name, &target, &options.proxy).await;
                    &fresh
                }
            };
            let result = match peer {
                Ok(peer) => bench.one(row, peer).await.map_err(|error| format!("{error:#}")),
                Err(error) => Err(format!("{error:#}")),
            };
            let (figures, error) = match result {
                Ok(figures) => (figures, None),
                Err(error) => (Figures::new(), Some(error)),
            };
            say(&line(row, name, round, &figures, error.as_deref()))?;
            report.rounds.push(Measurement { row, peer: name, round, figures, error });
        }
    }
    Ok(())
}

/// Of Redis and of PostgreSQL, each once.
fn all_peers() -> Vec<&'static str> {
    REDIS.iter().chain(POSTGRES.iter().filter(|name| !REDIS.contains(name))).copied().collect()
}

fn line(row: &str, peer: &str, round: usize, figures: &Figures, error: Option<&str>) -> String {
    let figures: String = figures.iter().map(|(name, value)| format!("  {name} {value:.1}")).collect();
    let error = error.map(|error| format!("  FAILED: {error}")).unwrap_or_default();
    format!("{row:<12} round {} {peer:<28}{figures}{error}", round + 1)
}

/// Ten thousand clients are as many descriptors here and twice as many in a relay, which inherits the limit.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused only where the hard limit is lower than what is asked for, and that is what was asked for.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn settings(options: &Options, bench: &Bench) -> BTreeMap<&'static str, String> {
    let mut programs: Vec<_> = find("redis-server").map(|path| (path, "--version")).into_iter().collect();
    programs.extend(bench.postgres.as_ref().and_then(|postgres| postgres.client("postgres").ok()).map(|path| (path, "--version")));
    let flags = [("socat", "-V"), ("stunnel", "-version"), ("haproxy", "-v"), ("nginx", "-v")];
    // Variants are the same program.
    for name in options.peers.iter().filter(|name| !is_direct(name) && !name.contains([',', ' '])) {
        let flag = flags.iter().find(|(program, _)| program == name).map_or("--version", |(_, flag)| flag);
        programs.extend(locate(name, &options.proxy).ok().map(|path| (path, flag)));
    }
    let versions: Vec<_> = programs.iter().filter_map(|(program, flag)| version(program, flag)).collect();
    let (rounds, idle, span) = (options.rounds, bench.idle_clients, bench.span.as_secs_f32());
    let limit = bench.descriptors;
    BTreeMap::from([
        ("method", format!("{rounds} rounds of about {span} s each; RSA-2048 certificate; 64-byte values")),
        (
            "clients",
            format!(
                "{idle} idle ones (1000 at most of socat and stunnel, which have a process or a thread for each), fewer where the limit of {limit} open files is reached"
            ),
        ),
        ("programs", versions.join("; ")),
    ])
}

impl Options {
    /// `None` after `--help`.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let here = std::env::current_exe()?;
        let proxy = here.parent().unwrap_or_else(|| Path::new(".")).join("redis-tls-proxy");
        let every = all_peers();
        let mut options = Self { rounds: 3, quick: false, rows: ROWS.to_vec(), peers: every, proxy, out: PathBuf::new() };
        let mut out = None;
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--rounds" => options.rounds = value()?.parse().context("--rounds needs a number")?,
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--only" => options.rows = choose(&value()?, ROWS)?,
                "--peers" => options.peers = choose(&value()?, &all_peers())?,
                "--proxy" => options.proxy = value()?.into(),
                "--out" => out = Some(PathBuf::from(value()?)),
                "--help" => {
                    say("bench [--rounds 3] [--quick] [--only ROW,…] [--peers NAME,…] [--proxy PATH] [--out DIR]")?;
                    say(&format!("rows: {}\npeers: {}", ROWS.join(", "), all_peers().join(", ")))?;
                    return Ok(None);
                }
                _ => bail!("there is no {flag}; try --help"),
            }
        }
        // A part of the picture must not take the place of the whole one.
        let whole = !options.quick && options.rows.len() == ROWS.len() && options.peers.len() == all_peers().len();
        options.out = out.unwrap_or_else(|| PathBuf::from(if whole { "benches/results" } else { "benches/results/raw" }));
        Ok(Some(options))
    }

    /// Peers that are not installed are named and not measured; ours must be there.
    fn leave_out_missing(&mut self) -> Result<Option<String>> {
        let mut missing = Vec::new();
        for name in std::mem::take(&mut self.peers) {
            match locate(name, &self.proxy) {
                Err(error) if is_ours(name) => return Err(error),
                Err(error) if !is_direct(name) => {
                    say(&format!("without {name}: {error:#}"))?;
                    missing.push(name);
                }
                _ => self.peers.push(name),
            }
        }
        Ok((!missing.is_empty()).then(|| format!("{} (not installed)", missing.join("; "))))
    }
}

/// Names from a list; the first word stands for all that begin with it ("direct", "nginx"), a variant for itself ("multiplex").
fn choose(list: &str, known: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for word in list.split(',') {
        let before = chosen.len();
        chosen.extend(
            known
                .iter()
                .copied()
                .filter(|name| *name == word || name.split([' ', ',']).next() == Some(word) || name.ends_with(&format!(", {word}"))),
        );
        if chosen.len() == before {
            bail!("{word} is none of: {}", known.join(", "));
        }
    }
    Ok(chosen)
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
