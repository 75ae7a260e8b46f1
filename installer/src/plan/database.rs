//! One database cluster: made or adopted, and brought to what Harbor needs. `[pure]`

use super::{Action, Item, Misfit, Step, Wanted};
use crate::digitalocean::{FirewallRule, MaintenanceWindow, NewDatabase};
use crate::observe::{Observed, ObservedDatabase, serves};
use crate::spec::Spec;

/// Usual, of DigitalOcean: five minutes.
const SECONDS_TO_CREATE: u32 = 300;

pub(super) fn postgres(spec: &Spec, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let (wanted, seen) = (Wanted::postgres(spec, &observed.names), &observed.postgres);
    let mut item = cluster(&wanted, seen, observed, refusals);
    if item.action != Action::Foreign {
        if seen.user.is_none() {
            item.steps.push(Step::CreateUser { user: spec.postgres.user.clone() });
        }
        if !seen.has_db {
            item.steps.push(Step::CreateDb { db: spec.postgres.database.clone() });
        }
        finish(&mut item, &wanted, seen, observed);
    }
    item
}

pub(super) fn valkey(spec: &Spec, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let (wanted, seen) = (Wanted::valkey(spec, &observed.names), &observed.valkey);
    let mut item = cluster(&wanted, seen, observed, refusals);
    if item.action != Action::Foreign {
        if seen.eviction.as_deref() != Some("noeviction") {
            item.steps.push(Step::SetNoEviction);
        }
        finish(&mut item, &wanted, seen, observed);
    }
    item
}

/// The cluster itself: there, or to be made; never to be made again.
fn cluster(wanted: &Wanted<'_>, seen: &ObservedDatabase, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let mut item = Item {
        action: if wanted.adopt { Action::Adopt } else { Action::Keep },
        role: wanted.role,
        kind: wanted.kind,
        name: wanted.name.clone(),
        notes: Vec::new(),
        cents_per_month: None,
        seconds: 0,
        steps: Vec::new(),
    };
    let Some(there) = seen.cluster.as_ref().or(seen.other_kind.as_ref()) else {
        if wanted.adopt {
            refuse(&mut item, refusals, [wanted.nothing_to_adopt(&seen.candidates)]);
        } else {
            create(&mut item, wanted, observed, refusals);
        }
        return item;
    };
    refuse(&mut item, refusals, wanted.misfits(there, &observed.cluster, &observed.names));
    if item.action == Action::Foreign {
        return item;
    }
    if !serves(there.status) {
        item.seconds = SECONDS_TO_CREATE;
        item.steps.push(Step::AwaitOnline);
    }
    if !wanted.adopt && (there.size != wanted.size || there.num_nodes != wanted.nodes) {
        let (is, want) = (format!("{} x {}", there.num_nodes, there.size), format!("{} x {}", wanted.nodes, wanted.size));
        item.notes.push(format!("is {is}, the spec says {want}: resize it in the control panel; nothing here does"));
    }
    if let Some(end) = there.version_end_of_life.as_deref().and_then(|end| end.get(..10)) {
        item.notes.push(format!("version {} has fixes until {end}", there.version.as_deref().unwrap_or("?")));
    }
    item
}

/// Each with its cure; none changes nothing.
fn refuse(item: &mut Item, refusals: &mut Vec<String>, misfits: impl IntoIterator<Item = Misfit>) {
    for misfit in misfits {
        item.action = Action::Foreign;
        refusals.push(format!("{}: {misfit}", item.kind));
    }
}

fn create(item: &mut Item, wanted: &Wanted<'_>, observed: &Observed, refusals: &mut Vec<String>) {
    refuse(item, refusals, wanted.unoffered(&observed.options, &observed.cluster));
    let (Some(vpc), Some(version)) = (observed.cluster.vpc_uuid.clone(), wanted.version_of(&observed.options)) else {
        let says = format!("the cluster {} is in no VPC", observed.cluster.name);
        let misfit = Misfit { says, cure: "nothing could be private to it: make a cluster in a VPC".to_owned() };
        return refuse(item, refusals, observed.cluster.vpc_uuid.is_none().then_some(misfit));
    };
    if item.action == Action::Foreign {
        return;
    }
    item.action = Action::Create;
    item.seconds = SECONDS_TO_CREATE;
    item.cents_per_month = Some(wanted.price);
    item.notes.push(format!("version {version}, {} x {}, open to this cluster only", wanted.nodes, wanted.size));
    item.steps.push(Step::CreateDatabase {
        new: NewDatabase {
            name: wanted.name.clone(),
            engine: wanted.engine,
            version,
            num_nodes: wanted.nodes,
            size: wanted.size.to_owned(),
            region: observed.cluster.region.clone(),
            private_network_uuid: vpc,
            project_id: observed.project.as_ref().map(|project| project.id.clone()),
            tags: vec![observed.names.tag()],
            rules: vec![FirewallRule::cluster(&observed.cluster.id)],
        },
    });
    item.steps.push(Step::AwaitOnline);
}

/// What both kinds end with.
fn finish(item: &mut Item, wanted: &Wanted<'_>, seen: &ObservedDatabase, observed: &Observed) {
    let creates = item.action == Action::Create;
    if seen.online().is_some() {
        if let Some(rules) = firewall(&seen.rules, &observed.cluster.id) {
            if seen.rules.is_empty() {
                item.notes.push("is open to everybody now; will be open to this cluster only".to_owned());
            }
            item.steps.push(Step::SetFirewall { rules });
        }
        let others = || seen.rules.iter().filter(|rule| !is_ours(rule, &observed.cluster.id));
        if others().count() > 0 {
            item.notes.push(format!("{} firewall rules of others stay", others().count()));
        }
        let ours = FirewallRule::cluster("");
        if let Some(other) = others().find(|rule| rule.kind == ours.kind && rule.description == ours.description) {
            item.notes
                .push(format!("the Harbor of another DOKS cluster, {}, is let in, too: two must not share one database", other.value));
        }
    }
    let window = MaintenanceWindow { day: wanted.maintenance.day.clone(), hour: wanted.maintenance.hour.clone() };
    let is = seen.cluster.as_ref().and_then(|there| there.maintenance_window.as_ref());
    if !wanted.adopt && !is.is_some_and(|is| is.is(&window)) {
        item.steps.push(Step::SetMaintenance { window });
    }
    if !seen.password_kept {
        item.steps.push(Step::KeepPassword);
    }
    // That a password is to be read is no change of the resource.
    if item.action == Action::Keep && item.steps.iter().any(|step| *step != Step::KeepPassword) {
        item.action = Action::Change;
    }
    if !creates && item.seconds == 0 && !item.steps.is_empty() {
        item.seconds = 10;
    }
}

/// The rules that there should be, if that is not what there is: ours added, those of others untouched.
#[must_use]
pub fn firewall(rules: &[FirewallRule], cluster: &str) -> Option<Vec<FirewallRule>> {
    if rules.iter().any(|rule| is_ours(rule, cluster)) {
        return None;
    }
    let mut all = rules.to_vec();
    all.push(FirewallRule::cluster(cluster));
    Some(all)
}

fn is_ours(rule: &FirewallRule, cluster: &str) -> bool {
    rule.kind == "k8s" && rule.value == cluster
}
