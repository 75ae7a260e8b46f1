//! What helm would do, for people and programs. `[pure]`

use std::fmt;

use serde::Serialize;

use crate::helm::Change;
use crate::spec::{ChartVersion, Spec};

/// Harbor's part.
#[derive(Debug, Serialize)]
pub struct HarborPlan {
    /// Of helm.
    pub release: String,
    /// What is wanted.
    pub chart: ChartVersion,
    /// What would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Why helm cannot be asked yet: then it is asked later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<String>,
    /// Why there is no helm to ask, and what to do by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<String>,
    /// Why nothing can be done: each with its cure.
    pub refusals: Vec<String>,
}

impl HarborPlan {
    /// Nothing to do.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let (release, chart) = (spec.harbor.release.clone(), spec.harbor.chart);
        Self { release, chart, change: None, later: None, by_hand: None, refusals: Vec::new() }
    }

    /// Whether nothing is to be done here.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.change.is_none() && self.later.is_none()
    }
}

impl fmt::Display for HarborPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Harbor, by helm:")?;
        if !self.refusals.is_empty() {
            writeln!(f, "  Nothing can be done before this is mended:")?;
            return self.refusals.iter().try_for_each(|why| writeln!(f, "  ! {why}"));
        }
        let (release, chart) = (&self.release, self.chart);
        if let Some(why) = &self.by_hand {
            writeln!(f, "  ! {why}")?;
        }
        match (&self.change, &self.later) {
            (Some(change @ (Change::Install | Change::Again)), _) => writeln!(f, "  + release {release}, chart {chart}: {change}"),
            (Some(change), _) => {
                writeln!(f, "  ~ release {release}: {change}")?;
                if matches!(change, Change::Upgrade { .. }) {
                    writeln!(
                        f,
                        "      Harbor migrates its database when it starts, forward only: the way back is a backup of before. Make one first"
                    )?;
                    writeln!(
                        f,
                        "      (`Restore from backup` of the control panel forks the database as it was at any minute of the last week)."
                    )?;
                }
                Ok(())
            }
            (None, Some(why)) => writeln!(f, "  + release {release}, chart {chart}: {why}"),
            (None, None) if self.by_hand.is_none() => writeln!(f, "    release {release}, chart {chart}: as it should be"),
            (None, None) => Ok(()),
        }
    }
}
