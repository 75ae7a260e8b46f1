//! What would change in the cluster, for people and programs. `[pure]`

use std::fmt;

use serde::Serialize;

use super::{HarborPlan, Plan};
use crate::cluster::objects::Change;

/// Lines of one object that are shown.
const MOST_LINES: usize = 40;

/// The cluster's part.
#[derive(Debug, Default, Serialize)]
pub struct ClusterPlan {
    /// Where all of it is.
    pub namespace: String,
    /// It is not there yet.
    pub creates_namespace: bool,
    /// Entries of the keyring that the cluster does not have as they are here.
    pub keyring: Vec<&'static str>,
    /// Object by object.
    pub changes: Vec<Change>,
    /// What the one-shot Job is run for, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// What cannot be told before something else is there.
    pub later: Vec<String>,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Why nothing can be done: each with its cure.
    pub refusals: Vec<String>,
}

impl ClusterPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.creates_namespace && self.keyring.is_empty() && self.changes.is_empty() && self.job.is_none() && self.later.is_empty()
    }
}

impl fmt::Display for ClusterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "In the cluster, namespace {}:", self.namespace)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "    {note}"))?;
        if !self.refusals.is_empty() {
            writeln!(f, "  Nothing can be done before this is mended:")?;
            return self.refusals.iter().try_for_each(|why| writeln!(f, "  ! {why}"));
        }
        if self.is_empty() {
            return writeln!(f, "    everything is as it should be");
        }
        if self.creates_namespace {
            writeln!(f, "  + Namespace {}", self.namespace)?;
        }
        if !self.keyring.is_empty() {
            writeln!(f, "  ~ the keyring's home, Secret {}: {}", crate::cluster::vault::NAME, self.keyring.join(", "))?;
        }
        for change in &self.changes {
            writeln!(f, "  {} {} {}", change.action.mark(), change.kind, change.name)?;
            change.lines.iter().take(MOST_LINES).try_for_each(|line| writeln!(f, "      {line}"))?;
            if change.lines.len() > MOST_LINES {
                writeln!(f, "      … {} more lines", change.lines.len() - MOST_LINES)?;
            }
        }
        if let Some(job) = &self.job {
            writeln!(f, "  + Job, once: {job}")?;
        }
        self.later.iter().try_for_each(|what| writeln!(f, "  + {what}"))
    }
}

/// All parts.
#[derive(Debug, Serialize)]
pub struct Whole {
    /// What DigitalOcean provides.
    #[serde(flatten)]
    pub cloud: Plan,
    /// Nothing where the cluster is left alone.
    #[serde(rename = "in_cluster", skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterPlan>,
    /// Nothing where Harbor is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harbor: Option<HarborPlan>,
}

impl Whole {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cloud.is_empty()
            && self.cluster.as_ref().is_none_or(ClusterPlan::is_empty)
            && self.harbor.as_ref().is_none_or(HarborPlan::is_empty)
    }

    /// Whether something forbids all of it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.cloud.refusals.is_empty()
            || self.cluster.as_ref().is_some_and(|cluster| !cluster.refusals.is_empty())
            || self.harbor.as_ref().is_some_and(|harbor| !harbor.refusals.is_empty())
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cloud)?;
        if let Some(cluster) = &self.cluster {
            write!(f, "\n{cluster}")?;
        }
        self.harbor.as_ref().map_or(Ok(()), |harbor| write!(f, "\n{harbor}"))
    }
}
