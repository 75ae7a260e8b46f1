//! What could go wrong, found before anything is made: each check with what was seen and, where it fails, the cure.
//!
//! [`judge`] is pure: it looks at a [`Sight`] in which every answer may be missing, and says all that can be said.

use crate::checks::Report;
use crate::digitalocean::{self, ClusterState, DatabaseCluster, Engine, KubernetesCluster};
use crate::helm::Unusable;
use crate::names::Names;
use crate::observe::{Sight, find_cluster};
use crate::plan::{Misfit, Wanted, cost};
use crate::spaces;
use crate::spec::Spec;

pub mod cluster;
pub mod exposure;

/// DigitalOcean's default limit for an account.
const MOST_DATABASES: usize = 10;
/// A version that ends within so many days is worth a word.
const SOON_DAYS: i64 = 90;
/// A trusted source has 100 addresses at most, and a node has two.
const MOST_NODES: u32 = 50;

/// Looks at everything once. `today` is `2026-11-22`; `helm` its version, or why there is none to work with.
#[must_use]
pub fn judge(spec: &Spec, sight: &Sight, today: &str, helm: Result<&str, &Unusable>) -> Report {
    let mut report = Report::default();
    token(&mut report, spec, sight);
    let cluster = cluster(&mut report, spec, sight);
    if let Some(cluster) = cluster {
        databases(&mut report, spec, sight, cluster, today);
        bucket(&mut report, spec, cluster);
    }
    match helm {
        Ok(version) => report.good("tools", format!("helm {version}")),
        Err(why) => report.warn("tools", why.to_string(), "until then everything but Harbor itself can be installed"),
    }
    report
}

fn token(report: &mut Report, spec: &Spec, sight: &Sight) {
    const GROUP: &str = "token";
    match &sight.account {
        Ok(account) if account.status == "locked" => {
            report.bad(GROUP, format!("the account {} is locked", account.email), "see the control panel: DigitalOcean says why");
        }
        Ok(account) => {
            let team = account.team.as_ref().map_or_else(String::new, |team| format!(", team {}", team.name));
            report.good(GROUP, format!("works: {}{team}", account.email));
        }
        Err(error) if error.status() == Some(401) => {
            report.bad(
                GROUP,
                "is not valid",
                "make one at https://cloud.digitalocean.com/account/api/tokens and put it into DIGITALOCEAN_TOKEN",
            );
            return;
        }
        // Nobody is there: every other question would say the same.
        Err(error) if error.status().is_none() && sight.clusters.is_err() && sight.databases.is_err() => {
            let cure = "is this machine online, and --api-url right? https://status.digitalocean.com knows of outages";
            report.bad(GROUP, format!("DigitalOcean does not answer: {error}"), cure);
            return;
        }
        Err(error) => failed(report, GROUP, "the account", "account:read", error),
    }
    let mut scope = |what: &str, scope: &str, error: Option<&digitalocean::Error>| match error {
        None => report.good(GROUP, format!("may see {what}")),
        Some(error) => failed(report, GROUP, what, scope, error),
    };
    scope("Kubernetes clusters", "kubernetes:read", sight.clusters.as_ref().err());
    scope("databases", "database:read", sight.databases.as_ref().err().or_else(|| sight.options.as_ref().err()));
    if spec.project.is_some() {
        scope("projects", "project:read", sight.projects.as_ref().err());
    }
    if spec.spaces.keys.is_none() {
        scope("Spaces keys", "spaces_key:read", sight.keys.as_ref().err());
    }
    passwords(report, sight);
}

/// The one scope whose lack is not an error but a gap.
fn passwords(report: &mut Report, sight: &Sight) {
    let Ok(databases) = &sight.databases else { return };
    let mut connections = databases.iter().filter_map(|database| database.connection.as_ref()).peekable();
    let told = |to: &digitalocean::Connection| {
        to.password.as_ref().is_some_and(|password| !secrecy::ExposeSecret::expose_secret(password).is_empty())
    };
    if connections.peek().is_some() && !connections.any(told) {
        report.bad(
            "token",
            "may not see the passwords of databases",
            "give it the scope database:view_credentials: the proxy logs in with them",
        );
    }
}

fn told(report: &mut Report, group: &'static str, misfits: impl IntoIterator<Item = Misfit>) {
    misfits.into_iter().for_each(|misfit| report.bad(group, misfit.says, misfit.cure));
}

fn failed(report: &mut Report, group: &'static str, what: &str, scope: &str, error: &digitalocean::Error) {
    if error.is_forbidden() {
        report.bad(group, format!("may not see {what}"), format!("give it the scope {scope}"));
    } else {
        report.bad(group, format!("{what}: {error}"), "try again; https://status.digitalocean.com knows of outages");
    }
}

fn cluster<'a>(report: &mut Report, spec: &Spec, sight: &'a Sight) -> Option<&'a KubernetesCluster> {
    const GROUP: &str = "cluster";
    let clusters = sight.clusters.as_ref().ok()?;
    let cluster = match find_cluster(clusters, &spec.cluster) {
        Ok(cluster) => cluster,
        Err(error) => {
            report.bad(GROUP, error.to_string(), "`doctl kubernetes cluster list` shows what the token sees");
            return None;
        }
    };
    let what = format!("{} in {}, version {}", cluster.name, cluster.region, cluster.version);
    match cluster.status.state {
        ClusterState::Running | ClusterState::Upgrading => report.good(GROUP, what),
        ClusterState::Degraded => report.warn(GROUP, format!("{what}: degraded"), "look at it before a registry depends on it"),
        state => report.bad(GROUP, format!("{what}: {}", format!("{state:?}").to_lowercase()), "wait until it runs"),
    }
    if cluster.vpc_uuid.is_none() {
        report.bad(GROUP, "is in no VPC", "nothing could be private to it: make a cluster in a VPC");
    }
    for pool in spec.proxy.node_pools.iter().filter(|pool| !cluster.node_pools.iter().any(|there| there.name == **pool)) {
        let there: Vec<_> = cluster.node_pools.iter().map(|pool| pool.name.as_str()).collect();
        report.bad(GROUP, format!("has no node pool {pool:?}"), format!("proxy.node_pools can name {}", there.join(", ")));
    }
    let nodes: u32 = cluster.node_pools.iter().map(digitalocean::NodePool::most).sum();
    if nodes > MOST_NODES {
        report.warn(
            GROUP,
            format!("can have {nodes} nodes"),
            "a database trusts 100 addresses at most, and a node has two: the last nodes may be kept out",
        );
    }
    if let Some(firewall) = cluster.control_plane_firewall.as_ref().filter(|firewall| firewall.enabled) {
        let allowed = firewall.allowed_addresses.join(", ");
        report.warn(
            GROUP,
            format!("its API server admits only {allowed}"),
            "this machine must be among them when it comes to the cluster itself",
        );
    }
    Some(cluster)
}

fn databases(report: &mut Report, spec: &Spec, sight: &Sight, cluster: &KubernetesCluster, today: &str) {
    let Ok(all) = &sight.databases else { return };
    let names = Names::of(&cluster.id);
    let mut missing = 0;
    for wanted in [Wanted::postgres(spec, &names), Wanted::valkey(spec, &names)] {
        let there = all.iter().find(|there| there.name == wanted.name);
        match there {
            Some(there) => existing(report, &wanted, there, cluster, &names, today),
            None if wanted.adopt => told(report, wanted.kind, [wanted.nothing_to_adopt(&wanted.candidates(all))]),
            None => {
                missing += 1;
                offered(report, &wanted, sight, cluster);
            }
        }
        if wanted.engine == Engine::Pg {
            budget(report, spec, there.map_or(wanted.size, |there| there.size.as_str()), cluster);
        }
    }
    if missing > 0 && all.len() + missing > MOST_DATABASES {
        let says = format!("the account has {} database clusters, and {missing} are to be made", all.len());
        report.warn(
            "quota",
            says,
            format!("an account may have {MOST_DATABASES} unless DigitalOcean raised that: ask its support, or adopt some"),
        );
    }
}

fn existing(report: &mut Report, wanted: &Wanted<'_>, there: &DatabaseCluster, cluster: &KubernetesCluster, names: &Names, today: &str) {
    let group = wanted.kind;
    let misfits = wanted.misfits(there, cluster, names);
    if misfits.is_empty() {
        let version = there.version.as_deref().unwrap_or("of unknown version");
        let what = format!("{} {version}, {} x {}", there.engine.word(), there.num_nodes, there.size);
        report.good(group, format!("{} is there: {what}", there.name));
    }
    told(report, group, misfits);
    match there.version_end_of_life.as_deref().and_then(|end| days_between(today, end)) {
        Some(days) if days < 0 => report.warn(
            group,
            format!("its version has had no fixes for {} days", -days),
            "upgrade it: `doctl databases update-major-version`",
        ),
        Some(days) if days < SOON_DAYS => report.warn(group, format!("its version gets no fixes in {days} days"), "plan an upgrade"),
        _ => {}
    }
}

fn offered(report: &mut Report, wanted: &Wanted<'_>, sight: &Sight, cluster: &KubernetesCluster) {
    let group = wanted.kind;
    report.good(group, format!("the name {} is free", wanted.name));
    let Ok(options) = &sight.options else { return };
    let misfits = wanted.unoffered(options, cluster);
    if let Some(version) = wanted.version_of(options).filter(|_| misfits.is_empty()) {
        let newest = if wanted.version.is_none() { ", the newest" } else { "" };
        report.good(group, format!("version {version}{newest}"));
    }
    told(report, group, misfits);
}

/// A proxy on each node has its share of PostgreSQL's connections.
fn budget(report: &mut Report, spec: &Spec, size: &str, cluster: &KubernetesCluster) {
    const GROUP: &str = "PostgreSQL";
    let pools = cluster.node_pools.iter().filter(|pool| spec.proxy.node_pools.is_empty() || spec.proxy.node_pools.contains(&pool.name));
    let nodes = pools.map(digitalocean::NodePool::most).sum::<u32>().max(1);
    let Some(connections) = cost::connections(size) else {
        return report.warn(
            GROUP,
            format!("how many connections {size} has is not known"),
            "see its page in the control panel; the share of each node follows",
        );
    };
    let share = connections.saturating_sub(spec.proxy.reserve_connections) / nodes;
    let says = format!("{size} has {connections} connections: {share} for each of {nodes} nodes");
    let cure = "take a larger plan, or run Harbor on fewer nodes with proxy.node_pools";
    match share {
        0..=2 => report.bad(GROUP, says, cure),
        3..=9 => report.warn(GROUP, says, cure),
        _ => report.good(GROUP, says),
    }
}

fn bucket(report: &mut Report, spec: &Spec, cluster: &KubernetesCluster) {
    const GROUP: &str = "Spaces";
    match &spec.spaces.region {
        Some(region) if !spaces::REGIONS.contains(&region.as_str()) => {
            report.warn(GROUP, format!("no Spaces are known in {region}"), format!("known are {}", spaces::REGIONS.join(", ")));
        }
        Some(region) => report.good(GROUP, format!("region {region}")),
        None if spaces::REGIONS.contains(&cluster.region.as_str()) => {
            report.good(GROUP, format!("region {}, the cluster's", cluster.region));
        }
        None => {
            let near = spaces::nearest(&cluster.region).unwrap_or("one of theirs");
            report.bad(
                GROUP,
                format!("the cluster's region {} has none", cluster.region),
                format!("write spaces.region: {near} is the nearest"),
            );
        }
    }
}

/// Days from one RFC 3339 date to another.
fn days_between(from: &str, to: &str) -> Option<i64> {
    let day = |text: &str| {
        let mut parts = text.get(..10)?.split('-');
        let (year, month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u8>().ok()?, parts.next()?.parse().ok()?);
        let date = time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()?;
        Some(i64::from(date.to_julian_day()))
    };
    Some(day(to)? - day(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_years() {
        assert_eq!(days_between("2026-11-22", "2027-11-22T00:00:00Z"), Some(365));
        assert_eq!(days_between("2026-11-22", "2026-11-12T00:00:00Z"), Some(-10));
        assert_eq!(days_between("2026-11-22", "soon"), None);
    }
}
