//! Harbor's Helm values, for every chart from 1.8 to 1.19: only keys that the chart of that version has, and no secret.
//!
//! [`expose`]: how Harbor is reached. [`storage`]: where its state is, all of it outside of the cluster. [`components`]: its pods and the
//! secrets that they share. What changed between versions is said where it matters, as `chart.at_least(MINOR)`.

mod components;
mod expose;
mod storage;

pub use expose::{Reached, reached};

use super::Budget;
use super::secrets::{self, VALUES_FILE};
use super::yaml::Document;
use crate::facts::Facts;
use crate::spec::Spec;

/// The values, before the user's own.
#[must_use]
pub(super) fn render(spec: &Spec, facts: &Facts, budget: &Budget) -> Document {
    let mut document = Document::new();
    head(&mut document, spec);
    expose::set(&mut document, spec);
    storage::set(&mut document, spec, facts, budget);
    components::set(&mut document, spec);
    retired(&mut document, spec);
    document
}

/// The name that pods of the whole cluster know the proxy by; on each node it leads to the proxy of that node. Harbor's components tell each
/// other their addresses, so this must mean the same everywhere.
#[must_use]
pub(super) fn proxy_address(namespace: &str) -> String {
    format!("{}.{namespace}.svc", super::manifests::SERVICE)
}

fn head(document: &mut Document, spec: &Spec) {
    let harbor = &spec.harbor;
    document
        .head(&format!("Values of Harbor's Helm chart {}, behind redis-tls-proxy. There is no secret in here: commit it.", harbor.chart));
    document.head(
        "Rendered from doks-harbor.yaml, and rendered again by the next run: what you want changed belongs into a file of your own, named as \
         harbor.values there, which is merged on top.",
    );
    let keys: Vec<_> = secrets::as_values(harbor.chart).map(|(key, _)| key).collect();
    if !keys.is_empty() {
        document.head(&format!(
            "This chart is too old to take all secrets from Kubernetes Secrets. {VALUES_FILE} in the keyring's folder has the others, for a second \
             --values of helm: {}.",
            keys.join(", ")
        ));
    }
}

/// Parts that Harbor has given up since, and that old charts switch on.
fn retired(document: &mut Document, spec: &Spec) {
    if !spec.harbor.chart.at_least(13) {
        document.explain("notary.enabled", "Given up by Harbor 2.9. It would need two databases of its own.", false);
    }
    if !spec.harbor.chart.at_least(12) {
        document.explain("chartmuseum.enabled", "Given up by Harbor 2.8: charts are OCI artifacts.", false);
    }
}
