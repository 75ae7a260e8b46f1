//! `status`: what is there now.

use std::fmt;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{DONE, FAILED, Tools, keyring, say, show, unless_interrupted};
use crate::cli::{Output, Shared, Status};
use crate::digitalocean::DatabaseStatus;
use crate::observe::{BucketSight, Observed, ObservedDatabase, bucket_name, observe};
use crate::plan::{Wanted, plan};
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

#[derive(Debug, Serialize)]
struct Report {
    cluster: String,
    resources: Vec<Line>,
    /// What `apply` would do.
    drift: Vec<String>,
}

pub(super) async fn run(shared: &Shared, args: &Status) -> Result<u8> {
    let tools = Tools::new(shared)?;
    let watch = async {
        loop {
            let keyring = keyring(shared)?;
            let observed = observe(&tools.client, &tools.s3, &tools.spec, keyring.as_ref()).await?;
            let report = report(&tools.spec, &observed);
            match shared.output {
                // One document a line, for whoever reads a stream of them.
                Output::Json if args.watch => say(&serde_json::to_string(&report)?),
                output => show(output, &report)?,
            }
            if !args.watch {
                return Ok(if report.drift.is_empty() { DONE } else { FAILED });
            }
            tokio::time::sleep(args.every).await;
        }
    };
    unless_interrupted(watch).await.unwrap_or(Ok(DONE))
}

fn report(spec: &Spec, observed: &Observed) -> Report {
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
    let plan = plan(spec, observed);
    let steps = plan.items.iter().flat_map(|item| item.steps.iter().map(move |step| format!("{} {}: {step}", item.kind, item.name)));
    Report { cluster: cluster.name.clone(), resources, drift: plan.refusals.iter().cloned().chain(steps).collect() }
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        // Not wrapped: a name that is cut in two cannot be copied.
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for line in &self.resources {
            let details: Vec<_> = std::iter::once(line.details.join(", ")).chain(line.address.clone()).collect();
            table.add_row([line.what.to_owned(), line.name.clone(), line.state.clone(), details.join("\n")]);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        if self.drift.is_empty() {
            return writeln!(f, "\nEverything is as the spec says.");
        }
        writeln!(f, "\nNot as the spec says; `doks-harbor apply` would:")?;
        self.drift.iter().try_for_each(|line| writeln!(f, "  ~ {line}"))
    }
}
