//! What was found, as JSON with every round, as Markdown tables of medians, and as SVG charts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::chart::{Bar, Panel, draw};
use crate::load::Figures;
use crate::peers::{OURS, POSTGRES, REDIS};

/// One peer's measurement in one round.
#[derive(Serialize)]
pub(crate) struct Measurement {
    pub(crate) row: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Everything a run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<&'static str, String>,
    pub(crate) settings: BTreeMap<&'static str, String>,
    pub(crate) rounds: Vec<Measurement>,
}

/// A column of a table.
struct Column {
    row: &'static str,
    figure: &'static str,
    heading: &'static str,
    decimals: usize,
}

const fn column(row: &'static str, figure: &'static str, heading: &'static str, decimals: usize) -> Column {
    Column { row, figure, heading, decimals }
}

/// A table: title, peers, columns.
type Table = (&'static str, &'static [&'static str], &'static [Column]);

const TABLES: &[Table] = &[
    (
        "Redis, 50 clients",
        REDIS,
        &[
            column("c50", "set_per_s", "SET/s", 0),
            column("c50", "get_per_s", "GET/s", 0),
            column("c50", "cpu_us", "proxy CPU us/req", 2),
            column("c50", "server_cpu_us", "Redis CPU us/req", 2),
            column("pipeline", "set_per_s", "pipeline 16: SET/s", 0),
            column("pipeline", "get_per_s", "GET/s", 0),
            column("pipeline", "cpu_us", "proxy CPU us/req", 2),
            column("pipeline", "server_cpu_us", "Redis CPU us/req", 2),
        ],
    ),
    (
        "Redis, one client; and a connection per request (20 clients)",
        REDIS,
        &[
            column("one", "get_avg_us", "1 client: GET avg us", 0),
            column("one", "get_p50_us", "p50 us", 0),
            column("one", "get_p99_us", "p99 us", 0),
            column("connect", "connect_per_s", "connect+GET/s", 0),
            column("connect", "connect_p50_us", "p50 us", 0),
            column("connect", "connect_p99_us", "p99 us", 0),
            column("connect", "cpu_us", "proxy CPU us", 0),
            column("connect", "server_cpu_us", "Redis CPU us", 0),
        ],
    ),
    (
        "Redis, values of 256 KiB (4 clients); and memory",
        REDIS,
        &[
            column("big", "set_per_s", "SET/s", 0),
            column("big", "get_per_s", "GET/s", 0),
            column("big", "set_max_us", "SET max us", 0),
            column("big", "get_max_us", "GET max us", 0),
            column("big", "cpu_us", "proxy CPU us/req", 0),
            column("idle", "idle_kib", "KiB per idle client", 1),
            column("idle", "base_mib", "MiB without clients", 1),
        ],
    ),
    (
        "PostgreSQL, pgbench -S, 16 clients",
        POSTGRES,
        &[
            column("pg-simple", "tps", "simple: tps", 0),
            column("pg-simple", "avg_us", "avg us", 0),
            column("pg-simple", "cpu_us", "proxy CPU us/tx", 2),
            column("pg-simple", "server_cpu_us", "PostgreSQL CPU us/tx", 1),
            column("pg-prepared", "tps", "prepared: tps", 0),
            column("pg-prepared", "avg_us", "avg us", 0),
            column("pg-prepared", "cpu_us", "proxy CPU us/tx", 2),
            column("pg-prepared", "server_cpu_us", "PostgreSQL CPU us/tx", 1),
        ],
    ),
];

/// A chart's panels: row, figure, title.
type Shown = (&'static str, &'static str, &'static str);

const REDIS_PANELS: &[Shown] = &[
    ("c50", "get_per_s", "GET per second, 50 clients (more is better)"),
    ("pipeline", "get_per_s", "GET per second, 50 clients, pipeline 16 (more is better)"),
    ("connect", "connect_per_s", "Connect + GET + close per second, 20 clients (more is better)"),
    ("big", "get_per_s", "GET of 256 KiB per second, 4 clients (more is better)"),
    ("c50", "cpu_us", "Proxy CPU, microseconds per request, 50 clients (less is better)"),
    ("one", "get_avg_us", "One client, average microseconds (less is better)"),
    ("idle", "idle_kib", "Memory per idle client, KiB (less is better)"),
];

const POSTGRES_PANELS: &[Shown] = &[
    ("pg-simple", "tps", "pgbench -S, 16 clients, simple protocol, transactions per second (more is better)"),
    ("pg-prepared", "tps", "The same, prepared statements (more is better)"),
];

impl Report {
    /// Writes `results.json`, `results.md` and the charts; only what was measured.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let write = |name: &str, content: &str| {
            let path = dir.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        write("results.json", &(serde_json::to_string_pretty(self)? + "\n"))?;
        write("results.md", &self.markdown()?)?;
        for (name, panels, peers) in [("redis.svg", REDIS_PANELS, REDIS), ("postgres.svg", POSTGRES_PANELS, POSTGRES)] {
            let panels: Vec<_> = panels.iter().filter_map(|shown| self.panel(shown, peers)).collect();
            if !panels.is_empty() {
                write(name, &draw(&panels)?)?;
            }
        }
        Ok(())
    }

    /// The tables, with how they came about.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out =
            String::from("# Benchmark results\n\nMedians; one run, alternating rounds, everything on loopback on one machine.\n\n");
        for (key, value) in self.machine.iter().chain(&self.settings) {
            writeln!(out, "- {key}: {value}")?;
        }
        for table in TABLES {
            self.table(&mut out, table)?;
        }
        let failed: Vec<_> = self.rounds.iter().filter_map(|m| Some((m, m.error.as_ref()?))).collect();
        if !failed.is_empty() {
            writeln!(out, "\n## Failed\n")?;
        }
        for (Measurement { row, peer, round, .. }, error) in failed {
            let error: String = error.lines().collect::<Vec<_>>().join(" / ").chars().take(400).collect();
            writeln!(out, "- {peer}, {row}, round {}: {error}", round + 1)?;
        }
        Ok(out)
    }

    fn table(&self, out: &mut String, &(title, peers, columns): &Table) -> Result<()> {
        let measured = |row: &str| self.rounds.iter().any(|m| m.row == row);
        let columns: Vec<_> = columns.iter().filter(|column| measured(column.row)).collect();
        if columns.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## {title}\n")?;
        let headings: String = columns.iter().map(|column| format!(" {} |", column.heading)).collect();
        writeln!(out, "| |{headings}\n|---|{}", "---:|".repeat(columns.len()))?;
        let shown = |peer: &str| self.rounds.iter().any(|m| m.peer == peer && columns.iter().any(|column| column.row == m.row));
        for peer in peers.iter().filter(|peer| shown(peer)) {
            let cells: String = columns.iter().map(|column| format!(" {} |", self.cell(column, peer))).collect();
            let name = if *peer == OURS { format!("**{peer}**") } else { (*peer).to_owned() };
            writeln!(out, "| {name} |{cells}")?;
        }
        Ok(())
    }

    fn cell(&self, column: &Column, peer: &str) -> String {
        let median = self.median(column.row, peer, column.figure);
        median.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", column.decimals))
    }

    fn panel(&self, &(row, figure, title): &Shown, peers: &[&'static str]) -> Option<Panel> {
        let bar = |peer: &&'static str| {
            let value = self.median(row, peer, figure)?;
            Some(Bar { label: (*peer).to_owned(), value, ours: *peer == OURS })
        };
        let bars: Vec<_> = peers.iter().filter_map(bar).collect();
        (!bars.is_empty()).then(|| Panel { title: title.to_owned(), bars })
    }

    /// Over the rounds that succeeded.
    pub(crate) fn median(&self, row: &str, peer: &str, figure: &str) -> Option<f64> {
        let matching = self.rounds.iter().filter(|m| m.row == row && m.peer == peer);
        median(matching.filter_map(|m| m.figures.get(figure).copied()).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

/// What the figures depend on besides the programs.
pub(crate) fn machine() -> BTreeMap<&'static str, String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, model)| model.trim().to_owned());
    let cores = std::thread::available_parallelism().map(usize::from).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
    // Anything but about 0 says that the machine had other things to do, and the figures are worth less.
    BTreeMap::from([("processor", format!("{cores} x {}", model.unwrap_or_default())), ("kernel", kernel), ("load before the run", load)])
}

/// The first line of what a program says about itself that has a digit in it.
pub(crate) fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    let words = text.split_whitespace().map(|word| word.trim_start_matches("v=").trim_start_matches(|c: char| !c.is_ascii_digit()));
    let number = words.into_iter().find(|word| word.contains('.'))?.split(['/', '-']).find(|part| part.contains('.'))?;
    Some(format!("{} {number}", program.file_name()?.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let measurement = |peer, round, value, error: Option<&str>| Measurement {
            row: "c50",
            peer,
            round,
            figures: if error.is_some() { Figures::new() } else { Figures::from([("get_per_s".into(), value)]) },
            error: error.map(String::from),
        };
        let rounds = vec![
            measurement("nginx", 0, 10.0, None),
            measurement("nginx", 1, 30.0, None),
            measurement("nginx", 2, 20.0, None),
            measurement(OURS, 0, 40.0, None),
            measurement(OURS, 1, 0.0, Some("no & answer\nmore")),
        ];
        Report { machine: BTreeMap::new(), settings: BTreeMap::new(), rounds }
    }

    #[test]
    fn the_table_has_medians_of_what_was_measured_and_names_failures() {
        let text = report().markdown().unwrap();
        assert!(text.contains("| nginx | - | 20 | - | - |\n"), "{text}");
        assert!(text.contains("| **redis-tls-proxy** | - | 40 | - | - |\n"), "{text}");
        assert!(text.contains("- redis-tls-proxy, c50, round 2: no & answer / more\n"), "{text}");
        assert!(!text.contains("haproxy") && !text.contains("PostgreSQL"), "{text}");
        assert_eq!(median(vec![1.0, 4.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn files_are_written_for_what_was_measured() {
        let dir = tempfile::tempdir().unwrap();
        report().write(dir.path()).unwrap();
        let chart = fs::read_to_string(dir.path().join("redis.svg")).unwrap();
        assert!(chart.starts_with("<svg") && chart.contains(">nginx<") && chart.contains(">40<"), "{chart}");
        assert!(!dir.path().join("postgres.svg").exists());
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(dir.path().join("results.json")).unwrap()).unwrap();
        assert_eq!(json["rounds"].as_array().unwrap().len(), 5);
    }
}
