//! The checks, as they are shown.

use std::fmt;
use std::future::Future;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use tokio::time::Instant;

use crate::progress::Progress;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    Passed,
    /// Not so.
    Failed,
    /// It needs something that failed before.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// A word.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// How long it took.
    pub seconds: f64,
    /// What was seen, or why not.
    pub told: String,
    /// Of what failed: what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// What `--keep` leaves.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// The project.
    pub project: String,
    /// As docker pulls it.
    pub image: String,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As in an image's name.
    pub harbor: String,
    /// Everything has passed.
    pub ok: bool,
    /// In their order.
    pub checks: Vec<Check>,
    /// What was left there on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

impl Report {
    /// Of these checks.
    #[must_use]
    pub fn new(harbor: &str, checks: Vec<Check>, kept: Option<Kept>) -> Self {
        let ok = checks.iter().all(|check| check.state == State::Passed);
        Self { harbor: harbor.to_owned(), ok, checks, kept }
    }
}

/// Checks as they are made, each with a line of progress.
pub(super) struct Checks<'a> {
    pub(super) all: Vec<Check>,
    progress: &'a Progress,
}

impl<'a> Checks<'a> {
    pub(super) const fn new(progress: &'a Progress) -> Self {
        Self { all: Vec::new(), progress }
    }

    /// Makes a check and keeps it; what it yields.
    pub(super) async fn step<T>(&mut self, name: &'static str, cure: &str, work: impl Future<Output = Result<(T, String)>>) -> Option<T> {
        let (check, yielded) = make(self.progress, name, cure, work).await;
        self.all.push(check);
        yielded
    }

    /// A check that is worth a line only when it has something to tell.
    pub(super) async fn quiet(&mut self, name: &'static str, cure: &str, work: impl Future<Output = Result<((), String)>>) {
        let (check, _) = make(&Progress::new(true), name, cure, work).await;
        self.all.extend((!check.told.is_empty()).then_some(check));
    }

    /// Checks that need what has failed.
    pub(super) fn skip_more(&mut self, names: &[&'static str]) {
        let skipped = |name: &&'static str| Check { name, state: State::Skipped, seconds: 0.0, told: String::new(), cure: None };
        self.all.extend(names.iter().map(skipped));
    }

    pub(super) fn skip(mut self, names: &[&'static str]) -> Vec<Check> {
        self.skip_more(names);
        self.all
    }
}

/// Makes a check; what it yields, beside what it has seen.
pub(super) async fn make<T>(
    progress: &Progress,
    name: &'static str,
    cure: &str,
    work: impl Future<Output = Result<(T, String)>>,
) -> (Check, Option<T>) {
    let (begun, task) = (Instant::now(), progress.task(name));
    let outcome = work.await;
    let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    match outcome {
        Ok((yielded, told)) => {
            task.done(&told);
            (Check { name, state: State::Passed, seconds, told, cure: None }, Some(yielded))
        }
        Err(error) => {
            let told = format!("{error:#}");
            task.say(&format!("✗ {told}"));
            (Check { name, state: State::Failed, seconds, told, cure: Some(cure.to_owned()) }, None)
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        // Not wrapped: what is cut in two cannot be copied.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for check in &self.checks {
            let (sign, took) = match check.state {
                State::Passed => ("✓", format!("{:.1} s", check.seconds)),
                State::Failed => ("✗", format!("{:.1} s", check.seconds)),
                State::Skipped => ("-", String::new()),
            };
            let told = match (check.state, &check.cure) {
                (State::Skipped, _) => "not tried".to_owned(),
                (_, Some(cure)) => format!("{}\n→ {cure}", check.told),
                (_, None) => check.told.clone(),
            };
            table.add_row([sign.to_owned(), check.name.to_owned(), took, told]);
        }
        writeln!(f, "{}\n", table.trim_fmt())?;
        if let Some(kept) = &self.kept {
            writeln!(f, "Kept: {}. The first smoke after an hour deletes the project.", kept.image)?;
        }
        if self.ok {
            return writeln!(f, "Harbor at {} works.", self.harbor);
        }
        let failed = self.checks.iter().filter(|check| check.state == State::Failed).count();
        writeln!(f, "Harbor at {} does not work as it should: {failed} of {} checks failed.", self.harbor, self.checks.len())
    }
}
