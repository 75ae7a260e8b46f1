//! How PostgreSQL's few connections are divided, and how many Harbor may open in front of them.
//!
//! ```text
//!   Harbor's pods                proxies, one a node               PostgreSQL
//!   core, jobservice … ──► many client connections ──► a share of (connections - reserve) each
//! ```
//!
//! A proxy lends one of its connections for a transaction. Harbor holds one for as long as a manifest is pushed, its talk with Spaces
//! included, and some requests take a second one meanwhile. Where they wait for it matters. Within Harbor (`maxOpenConns`) a request waits for
//! ever; at the proxy it waits in turn, for half a minute, and then hears an error. So Harbor gets several times the connections that its node
//! has, and the wait is the proxy's.

use crate::facts::Facts;
use crate::spec::Spec;

/// Below so many for a node, two pushes that each need a second connection can stop each other.
const LEAST: u32 = 3;
/// Below so many for a node, pushes wait for each other noticeably.
const COMFORTABLE: u32 = 10;
/// Of Harbor's connections for each one of the node's share.
const OPEN_PER_SHARE: u32 = 4;
/// Of Harbor's connections, at least: waiting is the proxy's.
const OPEN_LEAST: u32 = 50;
/// Of Harbor's connections, at most: enough for anything that a node's share can serve.
const OPEN_MOST: u32 = 400;
/// Each proxy's connections where the plan's limit is not known; the smallest plan has 22.
const UNKNOWN_SHARE: u32 = 5;

/// How the connections are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What the plan allows, where that is known.
    pub total: Option<u32>,
    /// Left for others.
    pub reserve: u32,
    /// Proxies at the most.
    pub proxies: u32,
    /// For each proxy.
    pub share: u32,
}

impl Budget {
    /// With this many proxies.
    ///
    /// # Errors
    /// Where Harbor could not work with so few, with the key and the cure.
    pub fn new(spec: &Spec, facts: &Facts, proxies: u32) -> Result<Self, String> {
        let (total, reserve, proxies) = (facts.postgres.connections, spec.proxy.reserve_connections, proxies.max(1));
        let Some(all) = total else {
            return Ok(Self { total, reserve, proxies, share: UNKNOWN_SHARE });
        };
        if reserve >= all {
            return Err(format!(
                "proxy.reserve_connections: {reserve} leaves nothing of the {all} connections of {}; lower it, or take a larger postgres.size",
                facts.postgres.size
            ));
        }
        let share = (all - reserve) / proxies;
        if share < LEAST {
            return Err(format!(
                "postgres.size: {} has {all} connections; less {reserve} in reserve, {proxies} nodes have {share} each, and Harbor needs {LEAST} \
                 at the least; take a larger plan (2 GB has 47, 4 GB has 97), or fewer nodes with proxy.node_pools",
                facts.postgres.size
            ));
        }
        Ok(Self { total, reserve, proxies, share })
    }

    /// What to tell the user, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.total.is_none() {
            return Some(format!(
                "postgres: how many connections this plan allows is not known; each proxy takes {UNKNOWN_SHARE} at most. Look with `SHOW \
                 max_connections`, and write pool_budget_total instead of pool_size into the proxy's configuration"
            ));
        }
        (self.share < COMFORTABLE).then(|| {
            format!(
                "postgres.size: {} connections for each of {} nodes; more than that many pushes at one time on a node wait for each other. A \
                 larger plan (2 GB has 47, 4 GB has 97) or fewer nodes (proxy.node_pools) give more",
                self.share, self.proxies
            )
        })
    }

    /// `database.maxOpenConns`, of each pod.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.share.saturating_mul(OPEN_PER_SHARE).clamp(OPEN_LEAST, OPEN_MOST)
    }

    /// `database.maxIdleConns`, of each pod. An idle connection costs the proxy a few KiB and PostgreSQL nothing.
    #[must_use]
    pub fn idle(&self) -> u32 {
        self.open().min(OPEN_LEAST)
    }

    /// The arithmetic, for the proxy's configuration.
    #[must_use]
    pub fn explain(&self) -> String {
        let Self { total, reserve, proxies, share } = self;
        match total {
            None => format!(
                "How many connections this plan allows is not known: {share} at most for each proxy. `SHOW max_connections` tells it; with \
                 that, pool_budget_total divides it exactly."
            ),
            Some(total) if *proxies == 1 => format!("{total} connections in the plan, less {reserve} for others: {share}."),
            Some(total) => format!(
                "{total} connections in the plan, less {reserve} for others (migrations, psql, monitoring), over {proxies} nodes: {share} each. \
                 The proxies count each other by this name and divide anew when nodes come and go; during a rollout there is one more."
            ),
        }
    }

    /// The arithmetic, for Harbor's settings: of each `client`, such as a pod, whose proxy is at this `place`, such as on its node.
    #[must_use]
    pub fn explain_open(&self, client: &str, place: &str) -> String {
        format!(
            "For each {client}, towards the proxy {place}, which has {} of PostgreSQL's connections and lends one for a transaction. Several \
             times as many here on purpose: a request that has to wait does so at the proxy, in turn and for half a minute, and not in \
             Harbor, for ever.",
            self.share
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harbor_may_open_more_than_the_share() {
        for share in [3, 5, 10, 17, 92, 792] {
            let budget = Budget { total: Some(1000), reserve: 5, proxies: 3, share };
            assert!(budget.open() > share.min(OPEN_MOST - 1) && budget.idle() <= budget.open(), "{budget:?}");
        }
    }
}
