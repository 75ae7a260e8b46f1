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
use crate::peers::{POSTGRES, REDIS, is_ours, split};
use crate::tables::{Better, Column, POSTGRES_PANELS, REDIS_PANELS, Shown, TABLES, Table};
use crate::targets::{Outcome, outcomes};

/// What `results.json` holds: the run, and what follows from it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    targets: Vec<Outcome>,
}

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

impl Report {
    /// Writes `results.json`, `results.md` and the charts; only what was measured.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let write = |name: &str, content: &str| {
            let path = dir.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        let whole = Whole { report: self, targets: self.targets() };
        write("results.json", &(serde_json::to_string_pretty(&whole)? + "\n"))?;
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
        self.write_targets(&mut out)?;
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

    fn targets(&self) -> Vec<Outcome> {
        outcomes(&|row, peer, figure| self.median(row, peer, figure))
    }

    fn write_targets(&self, out: &mut String) -> Result<()> {
        let outcomes = self.targets();
        if outcomes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Targets\n\n| what | of | target | measured | against | met |\n|---|---|---:|---:|---|---|")?;
        for Outcome { what, peer, target, measured, against, met } in outcomes {
            let met = if met { "yes" } else { "**no**" };
            let mode = split(peer).1;
            let mode = if mode.is_empty() { "relay" } else { mode };
            writeln!(out, "| {what} | {mode} | {target} | {measured:.2} | {against} | {met} |")?;
        }
        Ok(())
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
            let name = if is_ours(peer) { format!("**{peer}**") } else { (*peer).to_owned() };
            writeln!(out, "| {name} |{cells}")?;
        }
        Ok(())
    }

    fn cell(&self, column: &Column, peer: &str) -> String {
        let median = self.median(column.row, peer, column.figure);
        median.map_or_else(|| "-".to_owned(), |value| format!("{value:.*}", column.decimals))
    }

    fn panel(&self, &Shown { row, figure, title, better }: &Shown, peers: &[&'static str]) -> Option<Panel> {
        let mut bars: Vec<Bar> = Vec::new();
        for peer in peers {
            let Some(value) = self.median(row, peer, figure) else { continue };
            let bar = Bar { label: (*peer).to_owned(), value, ours: is_ours(peer) };
            // One bar for each of the others, whichever variant did best here; the table has them all.
            let sibling = bars.last_mut().filter(|last| !bar.ours && split(&last.label).0 == split(peer).0);
            match sibling {
                Some(last) if better.of(value, last.value) => *last = bar,
                Some(_) => {}
                None => bars.push(bar),
            }
        }
        let better = if better == Better::More { "more" } else { "less" };
        (!bars.is_empty()).then(|| Panel { title: format!("{title} ({better} is better)"), bars })
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

    use crate::peers::OURS;

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
        assert!(text.contains("| nginx | - | 20 | - | - | - |\n"), "{text}");
        assert!(text.contains("| **redis-tls-proxy** | - | 40 | - | - | - |\n"), "{text}");
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
