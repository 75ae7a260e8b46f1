//! What the spec wants of one database cluster, and what stands against it: the preflight and the plan both ask here, so they say the same.
//! `[pure]`

use std::fmt;

use super::{Role, cost};
use crate::digitalocean::{DatabaseCluster, Engine, EngineOptions, KubernetesCluster, Options};
use crate::names::{Names, TAG_PREFIX};
use crate::spec::{Maintenance, Spec};

/// In the words that both kinds share.
pub struct Wanted<'a> {
    /// Which it is.
    pub role: Role,
    /// `PostgreSQL`.
    pub kind: &'static str,
    /// What is made; an adopted Valkey may be a Redis.
    pub engine: Engine,
    /// The user's, or ours.
    pub name: String,
    /// Whether it is the user's.
    pub adopt: bool,
    /// Of the spec.
    pub version: Option<&'a str>,
    /// Slug.
    pub size: &'a str,
    /// 1 to 3.
    pub nodes: u8,
    /// When it may be updated.
    pub maintenance: &'a Maintenance,
    /// US cents a month, if it is known.
    pub price: Option<u32>,
}

/// Something that stands against it, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What was seen.
    pub says: String,
    /// What to do.
    pub cure: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.says, self.cure)
    }
}

fn misfit(says: impl Into<String>, cure: impl Into<String>) -> Misfit {
    Misfit { says: says.into(), cure: cure.into() }
}

impl<'a> Wanted<'a> {
    /// Harbor's tables.
    #[must_use]
    pub fn postgres(spec: &'a Spec, names: &Names) -> Self {
        let pg = &spec.postgres;
        Self {
            role: Role::Postgres,
            kind: "PostgreSQL",
            engine: Engine::Pg,
            name: pg.adopt.clone().unwrap_or_else(|| names.postgres()),
            adopt: pg.adopt.is_some(),
            version: pg.version.as_deref(),
            size: &pg.size,
            nodes: pg.nodes,
            maintenance: &pg.maintenance,
            price: cost::postgres(&pg.size, pg.nodes),
        }
    }

    /// Harbor's sessions and jobs.
    #[must_use]
    pub fn valkey(spec: &'a Spec, names: &Names) -> Self {
        let valkey = &spec.valkey;
        Self {
            role: Role::Valkey,
            kind: "Valkey",
            engine: Engine::Valkey,
            name: valkey.adopt.clone().unwrap_or_else(|| names.valkey()),
            adopt: valkey.adopt.is_some(),
            version: valkey.version.as_deref(),
            size: &valkey.size,
            nodes: valkey.nodes,
            maintenance: &valkey.maintenance,
            price: cost::valkey(&valkey.size, valkey.nodes),
        }
    }

    /// Whether a cluster of this kind can be it.
    #[must_use]
    pub fn fits(&self, engine: Engine) -> bool {
        engine == self.engine || (self.engine == Engine::Valkey && engine == Engine::Redis)
    }

    /// Names of those that could be it.
    #[must_use]
    pub fn candidates(&self, all: &[DatabaseCluster]) -> Vec<String> {
        all.iter().filter(|there| self.fits(there.engine)).map(|there| there.name.clone()).collect()
    }

    /// There is no cluster of the name that is to be adopted.
    #[must_use]
    pub fn nothing_to_adopt(&self, candidates: &[String]) -> Misfit {
        let cure = if candidates.is_empty() { "the account has none".to_owned() } else { format!("there is {}", candidates.join(", ")) };
        misfit(format!("there is no cluster {:?} to adopt", self.name), cure)
    }

    /// Why a cluster of that name cannot be used.
    #[must_use]
    pub fn misfits(&self, there: &DatabaseCluster, cluster: &KubernetesCluster, names: &Names) -> Vec<Misfit> {
        let name = &there.name;
        if !self.fits(there.engine) {
            let way = if self.adopt { "adopt another, or none" } else { "remove it, or adopt another" };
            return vec![misfit(format!("{name} is no {} but {}", self.kind, there.engine.word()), way)];
        }
        let mut found = Vec::new();
        let tag = names.tag();
        let is_tagged = there.tags.iter().flatten().any(|mark| *mark == tag);
        if !self.adopt && !is_tagged {
            found.push(misfit(
                format!("{name} exists and is not marked as this cluster's (tag {tag})"),
                format!("say `adopt: {name}` to use it as it is, or remove it"),
            ));
        }
        if let Some(other) = there.tags.iter().flatten().filter(|_| !is_tagged).find_map(|mark| mark.strip_prefix(TAG_PREFIX)) {
            found.push(misfit(
                format!("{name} is marked as belonging to the Harbor of another DOKS cluster, {other}"),
                format!(
                    "two would write over each other: adopt another; or take the tag away, if that Harbor is gone: {TAG_PREFIX}{other}"
                ),
            ));
        }
        if there.region != cluster.region {
            let says = format!("{name} is in {}, the cluster in {}", there.region, cluster.region);
            found.push(misfit(says, "no private network connects them: adopt another"));
        } else if there.private_network_uuid != cluster.vpc_uuid {
            let cure = "its private name leads nowhere: move it with `doctl databases migrate`, or adopt another";
            found.push(misfit(format!("{name} is in another VPC than the cluster"), cure));
        }
        found
    }

    /// Why none can be made.
    #[must_use]
    pub fn unoffered(&self, options: &Options, cluster: &KubernetesCluster) -> Vec<Misfit> {
        let Some(offer) = options.options.get(self.engine.word()).filter(|offer| !offer.versions.is_empty()) else {
            return vec![misfit("is not offered to this account", "adopt one that you have")];
        };
        let mut found = Vec::new();
        let region = &cluster.region;
        if !offer.regions.iter().any(|there| there == region) {
            found.push(misfit(format!("is not offered in {region}"), format!("it is in {}", offer.regions.join(", "))));
        }
        if let Some(version) = self.version.filter(|version| !offer.versions.iter().any(|there| there == version)) {
            let cure = format!("there is {}; without `version` the newest is taken", offer.versions.join(", "));
            found.push(misfit(format!("version {version} is not offered"), cure));
        }
        let layout = offer.layouts.iter().find(|layout| layout.num_nodes == self.nodes);
        let sizes = layout.map(|layout| layout.sizes.as_slice()).unwrap_or_default();
        if !sizes.iter().any(|there| there == self.size) {
            let some: Vec<_> = sizes.iter().take(6).map(String::as_str).collect();
            found.push(misfit(format!("there is no {} with {} nodes", self.size, self.nodes), format!("there is {} …", some.join(", "))));
        }
        found
    }

    /// The version that would be made.
    #[must_use]
    pub fn version_of(&self, options: &Options) -> Option<String> {
        self.version.map(str::to_owned).or_else(|| options.options.get(self.engine.word()).and_then(newest))
    }
}

/// The newest version that is offered.
fn newest(options: &EngineOptions) -> Option<String> {
    let number = |version: &&String| version.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    options.versions.iter().max_by_key(number).cloned()
}
