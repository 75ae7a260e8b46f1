//! `--target local`: a proxy on this machine, for a look with psql or redis-cli from wherever the databases can be reached.

use super::proxy::{self, Place};
use super::{Budget, Rendered};
use crate::facts::Facts;
use crate::spec::Spec;

/// Where the files go, below the output folder.
pub const FOLDER: &str = "local";

/// Only what the fleet in the cluster leaves to others: a look must not take Harbor's connections.
#[must_use]
pub fn budget(spec: &Spec) -> Budget {
    let share = spec.proxy.reserve_connections.max(1);
    Budget { total: None, reserve: 0, proxies: 1, share }
}

/// The proxy's configuration and what lies beside it. Its paths are this machine's, and none of it is secret.
#[must_use]
pub fn local(spec: &Spec, facts: &Facts, place: &Place) -> Rendered {
    let mut rendered = Rendered::default();
    rendered.add(&format!("{FOLDER}/proxy.yaml"), proxy::configuration(facts, &budget(spec), place));
    for (file, pem) in proxy::authorities(facts) {
        rendered.add(&format!("{FOLDER}/{file}"), pem);
    }
    rendered
}
