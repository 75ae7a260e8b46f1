//! The files that a spec and its facts come to. Pure: nothing here looks at the machine or the network ([`proxy::check`] excepted).
//!
//! ```text
//!   spec ──┬─► budget ──┬─► proxy.yaml ──► kubernetes/*.yaml (from manifests/)
//!   facts ─┘            └─► harbor/values.yaml ◄── merged: the user's values, or refused by name
//!                           secrets.sh, NEXT.md: paths and commands
//! ```
//!
//! Everything may be committed. Secrets are references, by one table ([`secrets`]); what an old chart or Harbor's compose installer can only
//! take as a value comes from [`secrets::values`] and [`compose_secret`], for the keyring's folder and nobody else.

use std::collections::BTreeMap;

use serde_json::Value;

mod budget;
mod compose;
pub mod job;
mod local;
mod manifests;
mod merge;
mod next;
pub mod proxy;
pub mod secrets;
mod values;
mod yaml;

pub use budget::Budget;
pub use compose::{SECRET_FILE as COMPOSE_SECRET_FILE, compose, secret as compose_secret};
pub use local::{FOLDER as LOCAL_FOLDER, budget as local_budget, local};
pub use manifests::needs_crd;
pub use merge::layered;
pub use next::{CHART_REPOSITORY, helm_command};
pub use secrets::values as secret_values;
pub use values::{Reached, reached};

use crate::facts::Facts;
use crate::spec::{Expose, Spec};

/// What is to be written: path below the output folder, and content. None of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// `harbor/values.yaml` …
    pub files: BTreeMap<String, String>,
    /// What the user should hear about it, a line each.
    pub warnings: Vec<String>,
}

impl Rendered {
    fn add(&mut self, path: &str, content: impl Into<String>) {
        self.files.insert(path.to_owned(), content.into());
    }
}

/// For Harbor's Helm chart.
///
/// # Errors
/// Everything that stands against it, a line each, with the key and the cure.
pub fn helm(spec: &Spec, facts: &Facts, user_values: Option<&Value>) -> Result<Rendered, Vec<String>> {
    let mut problems = unknown_chart(spec);
    let budget = Budget::new(spec, facts, facts.cluster.nodes).map_err(|problem| problems.push(problem)).ok();
    // Without a budget there is nothing to return, but other mistakes are to be told with it.
    let shown = budget.unwrap_or(Budget { total: None, reserve: 0, proxies: 1, share: 1 });
    let mut harbor = values::render(spec, facts, &shown);
    if let Some(user) = user_values {
        merge::merge(&mut harbor.root, user).unwrap_or_else(|conflicts| problems.extend(conflicts));
    }
    let configuration = proxy::configuration(facts, &shown, &proxy::Place::pod(&spec.namespace));
    let (manifests, monitoring) =
        manifests::render(spec, facts, &configuration).map_err(|problem| problems.push(problem)).unwrap_or_default();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut rendered = Rendered::default();
    rendered.warnings.extend(shown.warning());
    rendered.warnings.extend(unusual(spec, facts, &harbor.root));
    rendered.add("proxy/proxy.yaml", configuration);
    rendered.add("kubernetes/redis-tls-proxy.yaml", manifests);
    rendered.add("kubernetes/monitoring.yaml", monitoring);
    rendered.add("harbor/values.yaml", harbor.text());
    if let Some(pod) = next::grant_pod(spec, facts) {
        rendered.add("kubernetes/grant.yaml", pod);
    }
    rendered.add("secrets.sh", secrets::script(spec));
    rendered.add("NEXT.md", next::helm(spec, facts));
    Ok(rendered)
}

/// The proxy's Kubernetes objects in the order in which they are applied: all but the namespace and the Secrets. One of them, the PriorityClass, is
/// of no namespace; those of which [`needs_crd`] is true are left out where the cluster does not know their kind.
///
/// # Errors
/// Everything that stands against it.
pub fn objects(spec: &Spec, facts: &Facts) -> Result<Vec<Value>, Vec<String>> {
    let budget = Budget::new(spec, facts, facts.cluster.nodes).map_err(|problem| vec![problem])?;
    let configuration = proxy::configuration(facts, &budget, &proxy::Place::pod(&spec.namespace));
    manifests::objects(spec, facts, &configuration).map_err(|problem| vec![problem])
}

/// The spec refuses these itself; one that was put together otherwise must not get values that are half right.
fn unknown_chart(spec: &Spec) -> Vec<String> {
    use crate::spec::ChartVersion as Chart;
    let (chart, mut problems) = (spec.harbor.chart, Vec::new());
    if chart.major != 1 || !chart.at_least(Chart::OLDEST.minor) || chart.minor > Chart::NEWEST.minor {
        let (oldest, newest) = (Chart::OLDEST, Chart::NEWEST.minor);
        problems.push(format!("harbor.chart: the keys of {chart} are not known, and a key that it lacks would be ignored silently; take {oldest} to 1.{newest}.x"));
    }
    if spec.harbor.expose == Expose::Route && !chart.at_least(18) {
        problems.push(format!("harbor.expose: route came with chart 1.18, and this is {chart}; take a newer chart, or ingress"));
    }
    problems
}

/// What works and may surprise.
fn unusual(spec: &Spec, facts: &Facts, values: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let loggers = yaml::at(values, "jobservice.jobLoggers").and_then(Value::as_array);
    if spec.harbor.replicas > 1 && loggers.is_some_and(|loggers| loggers.iter().any(|logger| logger == "file")) {
        warnings.push(
            "harbor.values: jobservice.jobLoggers: file needs a volume that all replicas can write to, which DOKS has not".to_owned(),
        );
    }
    if spec.harbor.expose == Expose::Route && spec.harbor.tls_secret.is_some() {
        warnings.push("harbor.tls_secret: is not used with expose: route; name it in the Gateway's listener".to_owned());
    }
    if facts.postgres.ca.is_none() {
        warnings.push("postgres: these facts have no authority for its certificate, so it must be signed by a public one".to_owned());
    }
    warnings
}
