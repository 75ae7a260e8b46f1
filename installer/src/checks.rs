//! Questions, answers and cures: how `preflight` and `doctor` report.

use std::fmt;

use serde::Serialize;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about: `token`, `cluster` …
    pub group: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen.
    pub says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it must be.
    Good,
    /// It will work; somebody should know.
    Warn,
    /// It will not work.
    Bad,
}

/// All checks, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Grouped.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether nothing stands in the way.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Bad)
    }

    /// As it must be.
    pub fn good(&mut self, group: &'static str, says: impl Into<String>) {
        self.checks.push(Check { group, status: Status::Good, says: says.into(), cure: None });
    }

    /// It will work; somebody should know.
    pub fn warn(&mut self, group: &'static str, says: impl Into<String>, cure: impl Into<String>) {
        self.checks.push(Check { group, status: Status::Warn, says: says.into(), cure: Some(cure.into()) });
    }

    /// It will not work.
    pub fn bad(&mut self, group: &'static str, says: impl Into<String>, cure: impl Into<String>) {
        self.checks.push(Check { group, status: Status::Bad, says: says.into(), cure: Some(cure.into()) });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group = "";
        for check in &self.checks {
            if check.group != group {
                group = check.group;
                writeln!(f, "{group}")?;
            }
            let mark = match check.status {
                Status::Good => "✓",
                Status::Warn => "!",
                Status::Bad => "✗",
            };
            writeln!(f, "  {mark} {}", check.says)?;
            if let Some(cure) = &check.cure {
                writeln!(f, "    {cure}")?;
            }
        }
        Ok(())
    }
}
