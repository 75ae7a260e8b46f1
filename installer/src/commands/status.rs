//! `status`: what is there now.

use std::fmt;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::{Serialize, Serializer};

use super::sight::{self, Sight, Way};
use super::{DONE, FAILED, Tools, say, show, unless_interrupted};
use crate::cli::{Output, Shared, Status};
use crate::cluster::proxies::{Proxies, Proxy};
use crate::digitalocean::DatabaseStatus;
use crate::doctor::{Inside, Told, told};
use crate::harbor::system::Health;
use crate::observe::{BucketSight, Observed, ObservedDatabase, bucket_name};
use crate::plan::{Wanted, Whole};
use crate::spec::Spec;

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    name: String,
    state: String,
    details: Vec<String>,
    /// Where it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

#[derive(Serialize)]
struct Report {
    cluster: String,
    resources: Vec<Line>,
    /// What `apply` would do.
    drift: Vec<String>,
    /// What the cluster tells; absent with `--cloud`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "inside")]
    inside: Option<Told<Inside>>,
}

fn inside<S: Serializer>(what: &Option<Told<Inside>>, to: S) -> std::result::Result<S::Ok, S::Error> {
    match what {
        Some(what) => told(what, to),
        None => to.serialize_none(),
    }
}

pub(super) async fn run(shared: &Shared, args: &Status) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let mut way = Way::default();
    let watch = async {
        loop {
            let seen = sight::look(shared, &tools, args.cloud, &mut way).await?;
            let report = report(&tools.spec, seen);
            match shared.output {
                // One document a line, for whoever reads a stream of them.
                Output::Json if args.watch => say(&serde_json::to_string(&report)?),
                output => show(output, &report)?,
            }
            if !args.watch {
                return Ok(if report.is_well() { DONE } else { FAILED });
            }
            tokio::time::sleep(args.every).await;
        }
    };
    unless_interrupted(watch).await.unwrap_or(Ok(DONE))
}

fn report(spec: &Spec, seen: Sight) -> Report {
    let (observed, inside) = (&seen.cloud, seen.inside);
    let cluster = &observed.cluster;
    let nodes: u32 = cluster.node_pools.iter().map(|pool| pool.count).sum();
    let state = format!("{:?}", cluster.status.state).to_lowercase();
    let details = vec![cluster.region.clone(), format!("version {}", cluster.version), format!("{nodes} nodes")];
    let resources = vec![
        Line { what: "DOKS cluster", name: cluster.name.clone(), state, details, address: None },
        database(&Wanted::postgres(spec, &observed.names), &observed.postgres),
        database(&Wanted::valkey(spec, &observed.names), &observed.valkey),
        bucket(spec, observed),
    ];
    let plan = &seen.whole.cloud;
    let steps = plan.items.iter().flat_map(|item| item.steps.iter().map(move |step| format!("{} {}: {step}", item.kind, item.name)));
    let drift = plan.refusals.iter().cloned().chain(steps).chain(inside_drift(&seen.whole)).collect();
    Report { cluster: cluster.name.clone(), resources, drift, inside }
}

/// A line for each object, and one for Harbor.
fn inside_drift(whole: &Whole) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(plan) = &whole.cluster {
        lines.extend(plan.refusals.iter().cloned());
        lines.extend(plan.changes.iter().map(|change| format!("{} {}: {}", change.kind, change.name, change.action.word())));
        lines.extend(plan.job.iter().map(|job| format!("Job, once: {job}")));
    }
    if let Some(plan) = &whole.harbor {
        lines.extend(plan.refusals.iter().cloned());
        lines.extend(plan.change.iter().map(|change| format!("release {}: {change}", plan.release)));
    }
    lines
}

fn database(wanted: &Wanted<'_>, seen: &ObservedDatabase) -> Line {
    let what = wanted.kind;
    let Some(there) = &seen.cluster else {
        let state = if seen.other_kind.is_some() { "something else" } else { "missing" };
        return Line { what, name: wanted.name.clone(), state: state.to_owned(), details: Vec::new(), address: None };
    };
    let state = match there.status {
        DatabaseStatus::Other => "busy".to_owned(),
        status => format!("{status:?}").to_lowercase(),
    };
    let mut details = vec![
        format!("{} {}", there.engine.word(), there.version.as_deref().unwrap_or("?")),
        format!("{} x {}", there.num_nodes, there.size),
    ];
    let address = there.private_connection.as_ref().map(|to| format!("{}:{}", to.host, to.port));
    if seen.online().is_some() {
        details.push(match seen.rules.len() {
            0 => "open to everybody".to_owned(),
            1 => "1 firewall rule".to_owned(),
            rules => format!("{rules} firewall rules"),
        });
    }
    Line { what, name: there.name.clone(), state, details, address }
}

fn bucket(spec: &Spec, observed: &Observed) -> Line {
    let state = match observed.spaces.bucket {
        BucketSight::Ready => "ready",
        BucketSight::NoKey => "no key in the keyring",
        BucketSight::Missing => "missing",
        BucketSight::Forbidden => "closed to our key",
    };
    let details = observed.spaces.region.iter().cloned().collect();
    Line { what: "Spaces bucket", name: bucket_name(spec, &observed.names), state: state.to_owned(), details, address: None }
}

impl Report {
    /// Nothing is to be done, and all that was asked for serves.
    fn is_well(&self) -> bool {
        let serves = |inside: &Inside| {
            let is_everywhere =
                inside.proxies.wanted.is_some_and(|wanted| usize::try_from(wanted).is_ok_and(|wanted| inside.proxies.ready() >= wanted));
            is_everywhere && inside.health.as_ref().is_ok_and(Health::is_healthy)
        };
        self.drift.is_empty() && self.inside.as_ref().is_none_or(|inside| inside.as_ref().is_ok_and(serves))
    }
}

/// Not wrapped: a name that is cut in two cannot be copied.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn proxies(f: &mut fmt::Formatter<'_>, proxies: &Proxies) -> fmt::Result {
    let Some(wanted) = proxies.wanted else { return writeln!(f, "\nThe proxy is not deployed.") };
    writeln!(f, "\nProxy: ready on {} of {wanted} nodes", proxies.ready())?;
    let mut table = table();
    table.set_header(["node", "state", "server", "clients", "connections", "certificate"]);
    for proxy in &proxies.pods {
        rows(&mut table, proxy);
    }
    writeln!(f, "{}", table.trim_fmt())
}

/// A line for each server of a proxy.
fn rows(table: &mut Table, proxy: &Proxy) {
    let listeners = proxy.status.iter().flat_map(|status| &status.listeners);
    let mut node = proxy.node.as_str();
    let mut state = proxy.trouble.clone().or_else(|| proxy.status.as_ref().map(|status| status.state.clone())).unwrap_or_default();
    for listener in listeners {
        let connections = listener.upstream_connections.iter().filter(|(_, count)| **count > 0);
        let connections: Vec<_> = connections.map(|(what, count)| format!("{count} {what}")).collect();
        let days = listener.upstream_certificate.map_or_else(|| "not seen yet".to_owned(), |seen| format!("{} days", seen.days_left));
        let what = format!("{} ({})", listener.name, listener.pool_mode);
        table.add_row([node, &state, &what, &listener.clients.open.to_string(), &connections.join(", "), &days]);
        (node, state) = ("", String::new());
    }
    if !node.is_empty() {
        table.add_row([node, &state]);
    }
}

fn harbor(f: &mut fmt::Formatter<'_>, inside: &Inside) -> fmt::Result {
    let release = match &inside.release {
        Ok(Some(release)) => format!("{} {} (Harbor {})", release.chart, release.status, release.app_version),
        Ok(None) => "not installed".to_owned(),
        Err(why) => why.clone(),
    };
    writeln!(f, "\nHarbor: {release}")?;
    match &inside.health {
        Ok(health) => {
            let mut table = table();
            for component in &health.components {
                table.add_row([component.name.as_str(), &component.status, component.error.as_deref().unwrap_or_default()]);
            }
            writeln!(f, "{}", table.trim_fmt())
        }
        Err(why) => writeln!(f, "  cannot be asked for its health: {why}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table();
        for line in &self.resources {
            let details: Vec<_> = std::iter::once(line.details.join(", ")).chain(line.address.clone()).collect();
            table.add_row([line.what.to_owned(), line.name.clone(), line.state.clone(), details.join("\n")]);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        match &self.inside {
            None => {}
            Some(Err(why)) => writeln!(f, "\nThe cluster cannot be asked: {why}")?,
            Some(Ok(inside)) => {
                proxies(f, &inside.proxies)?;
                harbor(f, inside)?;
            }
        }
        if self.drift.is_empty() {
            return writeln!(f, "\nEverything is as the spec says.");
        }
        writeln!(f, "\nNot as the spec says; `doks-harbor apply` would:")?;
        self.drift.iter().try_for_each(|line| writeln!(f, "  ~ {line}"))
    }
}
