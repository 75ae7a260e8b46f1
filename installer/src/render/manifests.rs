//! The proxy's Kubernetes objects: `manifests/redis-tls-proxy.yaml`, which can be used as it stands, with this installation's fields put in.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::proxy;
use super::yaml::{self, Document};
use crate::facts::Facts;
use crate::spec::Spec;

const MANIFESTS: &str = include_str!("../../../manifests/redis-tls-proxy.yaml");

/// The Service that Harbor connects to.
pub(super) const SERVICE: &str = "redis-proxy";
/// The headless Service that lists every proxy.
pub(super) const PEERS: &str = "redis-tls-proxy-peers";
/// DOKS puts it on each node, with the pool's name.
pub(super) const NODE_POOL: &str = "doks.digitalocean.com/node-pool";

/// The proxy's objects with this `proxy.yaml` in them, in the order in which they are applied: all but the namespace and the Secrets.
///
/// # Errors
/// When the embedded manifests are not what this code knows.
pub(super) fn objects(spec: &Spec, facts: &Facts, configuration: &str) -> Result<Vec<Value>, String> {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(MANIFESTS).map_err(|error| format!("manifests/redis-tls-proxy.yaml: {error}"))?;
    for object in &mut objects {
        put(object, "/metadata/namespace", spec.namespace.as_str().into())?;
        put(object, "/metadata/labels", labels())?;
        match object.get("kind").and_then(Value::as_str) {
            Some("ConfigMap") => put(object, "/data", data(facts, configuration))?,
            Some("DaemonSet") => daemon_set(object, spec, facts, configuration)?,
            _ => {}
        }
    }
    Ok(objects)
}

/// One file for `kubectl apply -f`.
///
/// # Errors
/// As [`objects`].
pub(super) fn render(spec: &Spec, facts: &Facts, configuration: &str) -> Result<String, String> {
    let mut documents: Vec<_> = objects(spec, facts, configuration)?.into_iter().map(Document::of).collect();
    if let Some(first) = documents.first_mut() {
        first.head("redis-tls-proxy on the nodes that Harbor runs on. The Secret of the same name comes from secrets.sh.");
        first.head(&format!("  kubectl apply --server-side --namespace {} --filename redis-tls-proxy.yaml", spec.namespace));
    }
    Ok(yaml::several(&documents))
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "redis-tls-proxy", "app.kubernetes.io/part-of": "harbor", "app.kubernetes.io/managed-by": "doks-harbor"})
}

/// The ConfigMap's: the configuration, and beside it the authorities, which are no secrets.
fn data(facts: &Facts, configuration: &str) -> Value {
    let files = std::iter::once(("proxy.yaml", configuration)).chain(proxy::authorities(facts));
    Value::Object(files.map(|(file, text)| (file.to_owned(), text.into())).collect())
}

fn daemon_set(object: &mut Value, spec: &Spec, facts: &Facts, configuration: &str) -> Result<(), String> {
    let pod = "/spec/template/spec";
    put(object, &format!("{pod}/containers/0/image"), spec.proxy.image.as_str().into())?;
    // The proxy reads its configuration once: another one makes other pods.
    let sum = digest(&SHA256, data(facts, configuration).to_string().as_bytes());
    let sum: String = sum.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    put(object, "/spec/template/metadata/annotations/doks-harbor~1configuration", sum.into())?;
    if let Some(affinity) = affinity(&spec.proxy.node_pools) {
        put(object, &format!("{pod}/affinity"), affinity)?;
    }
    Ok(())
}

/// Keeps pods on the nodes of these pools; nothing where there are none to keep to.
#[must_use]
pub(super) fn affinity(pools: &[String]) -> Option<Value> {
    let expression = json!({"key": NODE_POOL, "operator": "In", "values": pools});
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [expression]}]});
    (!pools.is_empty()).then(|| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}))
}

/// Sets the field at a JSON pointer. Its parent must be there: a path that is not is a manifest that has changed.
fn put(object: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key.replace("~1", "/"), value);
            Ok(())
        }
        _ => Err(format!(
            "manifests/redis-tls-proxy.yaml: has no {pointer}; this doks-harbor was built with manifests that it does not know"
        )),
    }
}
