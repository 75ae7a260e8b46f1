//! What would change: from spec and observed to steps, without a look at anything else. `[pure]`
//!
//! [`plan`] is what `doks-harbor plan` shows and what `apply` carries out. A step is a wish about the end ("these rules"), not about the way,
//! so that it can be carried out twice. What can only be known later (the rules of a cluster that is not there yet) is planned as it will be,
//! and planned again, by the same code, when it can be seen.

use serde::Serialize;

use crate::digitalocean::{FirewallRule, MaintenanceWindow, NewDatabase};
use crate::observe::{Observed, bucket_name};
use crate::spec::Spec;

mod cluster;
pub mod cost;
mod database;
mod harbor;
mod spaces;
mod text;
mod wanted;

pub use cluster::{ClusterPlan, Whole};
pub use database::firewall;
pub use harbor::HarborPlan;
pub use wanted::{Misfit, Wanted};

/// Everything that would be done, and everything that forbids it.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// For whom and where.
    pub scope: Scope,
    /// One for each resource, in the order in which people think of them.
    pub items: Vec<Item>,
    /// Why nothing can be done: each with its cure. Empty, or nothing is done.
    pub refusals: Vec<String>,
    /// Where each secret goes.
    pub secrets: Vec<SecretPlace>,
}

/// For whom and where.
#[derive(Debug, Serialize)]
pub struct Scope {
    /// Team and owner of the token.
    pub account: String,
    /// The DOKS cluster: name and id.
    pub cluster: String,
    /// Slug.
    pub region: String,
    /// Network that everything is in.
    pub vpc: Option<String>,
}

/// One resource.
#[derive(Debug, Serialize)]
pub struct Item {
    /// What is to become of it.
    pub action: Action,
    /// Which it is.
    pub role: Role,
    /// `PostgreSQL`.
    pub kind: &'static str,
    /// As DigitalOcean knows it.
    pub name: String,
    /// Worth knowing: a line each.
    pub notes: Vec<String>,
    /// What is new each month, in US cents: `None` for what costs nothing new, `Some(None)` for what nobody here knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cents_per_month: Option<Option<u32>>,
    /// Seconds that this usually takes.
    pub seconds: u32,
    /// In order.
    pub steps: Vec<Step>,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Harbor's tables.
    Postgres,
    /// Harbor's sessions and jobs.
    Valkey,
    /// Harbor's images.
    Spaces,
}

/// What is to become of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `+`: it is not there.
    Create,
    /// `=`: the user's own; what Harbor needs is added.
    Adopt,
    /// `~`: ours, and not as it should be.
    Change,
    /// ` `: ours, and as it should be.
    Keep,
    /// `!`: it has our name and is not ours, or is not where it must be.
    Foreign,
}

impl Action {
    /// A mark for tables.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Adopt => "=",
            Self::Change => "~",
            Self::Keep => " ",
            Self::Foreign => "!",
        }
    }
}

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    /// `POST /v2/databases`, born with its firewall.
    CreateDatabase {
        /// The whole request.
        #[serde(flatten)]
        new: NewDatabase,
    },
    /// Until it serves.
    AwaitOnline,
    /// A user of PostgreSQL.
    CreateUser {
        /// Its name.
        user: String,
    },
    /// A database of PostgreSQL.
    CreateDb {
        /// Its name.
        db: String,
    },
    /// The whole new set: those of others, as they are, and ours.
    SetFirewall {
        /// All of them.
        rules: Vec<FirewallRule>,
    },
    /// Nothing is thrown away when memory is full.
    SetNoEviction,
    /// When it may be updated.
    SetMaintenance {
        /// Weekly.
        window: MaintenanceWindow,
    },
    /// The live password into the keyring.
    KeepPassword,
    /// With a temporary key: the bucket, our claim on it, its life-cycle rule, a key for it alone, and the proof that it works.
    MakeBucket {
        /// Its name.
        bucket: String,
        /// Slug.
        region: String,
        /// Must be there already.
        adopted: bool,
    },
    /// A key that a killed run left.
    RemoveKey {
        /// Its public half.
        access_key: String,
        /// What it was for.
        why: &'static str,
    },
}

/// Where a secret goes.
#[derive(Debug, Serialize)]
pub struct SecretPlace {
    /// What it opens.
    pub what: &'static str,
    /// Where it is born.
    pub from: &'static str,
    /// Its file in the keyring.
    pub keyring: &'static str,
}

/// What would change.
#[must_use]
pub fn plan(spec: &Spec, observed: &Observed) -> Plan {
    let mut refusals = Vec::new();
    let items = vec![
        database::postgres(spec, observed, &mut refusals),
        database::valkey(spec, observed, &mut refusals),
        spaces::bucket(spec, observed, &mut refusals),
    ];
    let (account, cluster) = (&observed.account, &observed.cluster);
    let team = account.team.as_ref().map_or_else(String::new, |team| format!("{}, ", team.name));
    let scope = Scope {
        account: format!("{team}{}", account.email),
        cluster: format!("{} ({})", cluster.name, cluster.id),
        region: cluster.region.clone(),
        vpc: cluster.vpc_uuid.clone(),
    };
    Plan { scope, items, refusals, secrets: SECRETS.iter().map(SecretPlace::of).collect() }
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.steps.is_empty())
    }

    /// The item of this role.
    #[must_use]
    pub fn item(&self, role: Role) -> Option<&Item> {
        self.items.iter().find(|item| item.role == role)
    }
}

const SECRETS: &[(&str, &str, &str)] = &[
    ("PostgreSQL, as Harbor's user", "made by DigitalOcean", "postgres-password"),
    ("Valkey, as its default user", "made by DigitalOcean", "valkey-password"),
    ("the bucket, and no other", "made by DigitalOcean, told once", "spaces-access-key, spaces-secret-key"),
    ("the proxy, from inside the cluster", "made here", "client-password"),
    ("Harbor's user admin, at its first start", "made here", "harbor-admin-password"),
    ("Harbor's components, to each other", "made here", "harbor-*"),
];

impl SecretPlace {
    fn of(&(what, from, keyring): &(&'static str, &'static str, &'static str)) -> Self {
        Self { what, from, keyring }
    }
}

/// The bucket that is meant.
pub(super) fn bucket_of(spec: &Spec, observed: &Observed) -> String {
    bucket_name(spec, &observed.names)
}
