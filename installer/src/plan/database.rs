//! One database cluster: made or adopted, and brought to what Harbor needs. `[pure]`

use super::{Action, Item, Role, Step, cost};
use crate::digitalocean::{DatabaseCluster, Engine, EngineOptions, FirewallRule, MaintenanceWindow, NewDatabase};
use crate::observe::{Observed, ObservedDatabase, serves};
use crate::spec::{Maintenance, Spec};

/// Usual, of DigitalOcean: five minutes.
const SECONDS_TO_CREATE: u32 = 300;

/// What the spec wants, in the words that both kinds share.
struct Wanted<'a> {
    role: Role,
    kind: &'static str,
    engine: Engine,
    name: String,
    adopt: bool,
    version: Option<&'a str>,
    size: &'a str,
    nodes: u8,
    maintenance: &'a Maintenance,
    price: Option<u32>,
}

pub(super) fn postgres(spec: &Spec, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let pg = &spec.postgres;
    let wanted = Wanted {
        role: Role::Postgres,
        kind: "PostgreSQL",
        engine: Engine::Pg,
        name: pg.adopt.clone().unwrap_or_else(|| observed.names.postgres()),
        adopt: pg.adopt.is_some(),
        version: pg.version.as_deref(),
        size: &pg.size,
        nodes: pg.nodes,
        maintenance: &pg.maintenance,
        price: cost::postgres(&pg.size, pg.nodes),
    };
    let seen = &observed.postgres;
    let mut item = cluster(&wanted, seen, observed, refusals);
    if item.action != Action::Foreign {
        if seen.user.is_none() {
            item.steps.push(Step::CreateUser { user: pg.user.clone() });
        }
        if !seen.has_db {
            item.steps.push(Step::CreateDb { db: pg.database.clone() });
        }
        finish(&mut item, &wanted, seen, observed);
    }
    item
}

pub(super) fn valkey(spec: &Spec, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let valkey = &spec.valkey;
    let wanted = Wanted {
        role: Role::Valkey,
        kind: "Valkey",
        engine: Engine::Valkey,
        name: valkey.adopt.clone().unwrap_or_else(|| observed.names.valkey()),
        adopt: valkey.adopt.is_some(),
        version: valkey.version.as_deref(),
        size: &valkey.size,
        nodes: valkey.nodes,
        maintenance: &valkey.maintenance,
        price: cost::valkey(&valkey.size, valkey.nodes),
    };
    let seen = &observed.valkey;
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
    let Some(there) = &seen.cluster else {
        if wanted.adopt {
            item.action = Action::Foreign;
            refusals.push(format!("{}: there is no cluster {:?} to adopt; see `doctl databases list`", wanted.kind, wanted.name));
        } else {
            create(&mut item, wanted, observed, refusals);
        }
        return item;
    };
    let complaints = misfits(wanted, there, observed);
    if !complaints.is_empty() {
        item.action = Action::Foreign;
        refusals.extend(complaints);
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

fn create(item: &mut Item, wanted: &Wanted<'_>, observed: &Observed, refusals: &mut Vec<String>) {
    let options = observed.options.options.get(wanted.engine.word());
    let Some(version) = wanted.version.map(str::to_owned).or_else(|| options.and_then(newest)) else {
        item.action = Action::Foreign;
        refusals.push(format!("{}: DigitalOcean offers no version of it to this account", wanted.kind));
        return;
    };
    let Some(vpc) = observed.cluster.vpc_uuid.clone() else {
        item.action = Action::Foreign;
        refusals.push(format!("{}: the cluster {} is in no VPC, so nothing could be private to it", wanted.kind, observed.cluster.name));
        return;
    };
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

/// Why this cluster cannot be used.
fn misfits(wanted: &Wanted<'_>, there: &DatabaseCluster, observed: &Observed) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |why: String| complaints.push(format!("{} {}: {why}", wanted.kind, there.name));
    let tag = observed.names.tag();
    if !wanted.adopt && !there.tags.iter().flatten().any(|found| *found == tag) {
        complain(format!(
            "exists and is not marked as this cluster's (tag {tag}); say `adopt: {}` to use it as it is, or remove it",
            there.name
        ));
    }
    if there.region != observed.cluster.region {
        complain(format!(
            "is in {}, the cluster in {}: no private network connects them; adopt another",
            there.region, observed.cluster.region
        ));
    } else if there.private_network_uuid != observed.cluster.vpc_uuid {
        complain("is in another VPC than the cluster, so its private name leads nowhere; move it with `doctl databases migrate`, or adopt another".to_owned());
    }
    complaints
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
        let others = seen.rules.iter().filter(|rule| !is_ours(rule, &observed.cluster.id)).count();
        if others > 0 {
            item.notes.push(format!("{others} firewall rules of others stay"));
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
fn firewall(rules: &[FirewallRule], cluster: &str) -> Option<Vec<FirewallRule>> {
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

/// The newest version that is offered.
#[must_use]
pub fn newest(options: &EngineOptions) -> Option<String> {
    let number = |version: &&String| version.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    options.versions.iter().max_by_key(number).cloned()
}
