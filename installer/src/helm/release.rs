//! What helm says of a release.

use serde::{Deserialize, Serialize};

/// One line of `helm list --output json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Helm writes a number as text here.
    pub revision: String,
    /// `deployed`, `failed`, `pending-install`, `pending-upgrade`, `pending-rollback`, `uninstalling` …
    pub status: String,
    /// Name and version: `harbor-1.18.3`.
    pub chart: String,
    /// Of Harbor: `2.14.3`.
    pub app_version: String,
}

impl Release {
    /// Of the chart: `1.18.3`. `None` where it is not Harbor's.
    #[must_use]
    pub fn chart_version(&self) -> Option<&str> {
        self.chart.strip_prefix("harbor-")
    }
}
