//! The proxy's Kubernetes objects: those of `manifests/base` and `manifests/components/monitoring`, which can be used as they stand, with this
//! installation's fields put in.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::proxy;
use super::yaml::{self, Document};
use crate::facts::Facts;
use crate::spec::Spec;

/// In the order in which they are applied: a pod's class must be there before it is.
const MANIFESTS: [(&str, &str); 6] = [
    ("base/priority-class.yaml", include_str!("../../../manifests/base/priority-class.yaml")),
    ("base/daemonset.yaml", include_str!("../../../manifests/base/daemonset.yaml")),
    ("base/services.yaml", include_str!("../../../manifests/base/services.yaml")),
    ("base/network-policy.yaml", include_str!("../../../manifests/base/network-policy.yaml")),
    ("components/monitoring/pod-monitor.yaml", include_str!("../../../manifests/components/monitoring/pod-monitor.yaml")),
    ("components/monitoring/alerts.yaml", include_str!("../../../manifests/components/monitoring/alerts.yaml")),
];

/// DaemonSet, ConfigMap, Secret.
const NAME: &str = "redis-tls-proxy";
/// The Service that Harbor connects to.
pub(super) const SERVICE: &str = "redis-proxy";
/// The headless Service that lists every proxy.
pub(super) const PEERS: &str = "redis-tls-proxy-peers";
/// DOKS puts it on each node, with the pool's name.
pub(super) const NODE_POOL: &str = "doks.digitalocean.com/node-pool";

/// The proxy's objects with this `proxy.yaml` in them, in the order in which they are applied: all but the namespace and the Secrets. Those of
/// which [`needs_crd`] is true come last.
///
/// # Errors
/// When the embedded manifests are not what this code knows.
pub(super) fn objects(spec: &Spec, facts: &Facts, configuration: &str) -> Result<Vec<Value>, String> {
    let mut objects = vec![config_map(facts, configuration)];
    for (file, text) in MANIFESTS {
        let read: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| format!("manifests/{file}: {error}"))?;
        objects.extend(read);
    }
    for object in &mut objects {
        put(object, "/metadata/labels", labels())?;
        match object.get("kind").and_then(Value::as_str) {
            // Of the cluster, not of a namespace.
            Some("PriorityClass") => continue,
            Some("DaemonSet") => daemon_set(object, spec, facts, configuration)?,
            Some("NetworkPolicy") => network_policy(object, spec, facts)?,
            _ => {}
        }
        put(object, "/metadata/namespace", spec.namespace.as_str().into())?;
    }
    Ok(objects)
}

/// Whether a cluster may lack the kind of an object: those of Prometheus' operator.
#[must_use]
pub fn needs_crd(object: &Value) -> bool {
    object.get("apiVersion").and_then(Value::as_str).is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
}

/// The files for `kubectl apply -f`: of the proxy, and of what Prometheus' operator has to know.
///
/// # Errors
/// As [`objects`].
pub(super) fn render(spec: &Spec, facts: &Facts, configuration: &str) -> Result<(String, String), String> {
    let (monitoring, proxy): (Vec<_>, Vec<_>) = objects(spec, facts, configuration)?.into_iter().partition(needs_crd);
    let file = |objects: Vec<Value>, name: &str, head: &str| {
        let mut documents: Vec<_> = objects.into_iter().map(Document::of).collect();
        if let Some(first) = documents.first_mut() {
            first.head(head);
            first.head(&format!("  kubectl apply --server-side --namespace {} --filename {name}", spec.namespace));
        }
        yaml::several(&documents)
    };
    Ok((
        file(
            proxy,
            "redis-tls-proxy.yaml",
            "redis-tls-proxy on the nodes that Harbor runs on. The Secret of the same name comes from secrets.sh.",
        ),
        file(
            monitoring,
            "monitoring.yaml",
            "For a cluster with Prometheus' operator: what to scrape, and what to alert on. Where it selects by a label (`release`), add it.",
        ),
    ))
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "harbor", "app.kubernetes.io/managed-by": "doks-harbor"})
}

fn config_map(facts: &Facts, configuration: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": data(facts, configuration)})
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
        // Whoever names a pool means all of its nodes, also those that a taint keeps for few.
        put(object, &format!("{pod}/tolerations"), json!([{"operator": "Exists"}]))?;
    }
    Ok(())
}

/// In: this release's pods, since the chart's `nameOverride` changes the other label. Out: the ports that these servers have.
fn network_policy(object: &mut Value, spec: &Spec, facts: &Facts) -> Result<(), String> {
    put(object, "/spec/ingress/0/from/0/podSelector/matchLabels", json!({"release": spec.harbor.release}))?;
    let ports: Vec<_> = [facts.valkey.port, facts.postgres.port].iter().map(|port| json!({"port": port})).collect();
    put(object, "/spec/egress/1/ports", ports.into())
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
        _ => Err(format!("manifests: no {pointer}; this doks-harbor was built with manifests that it does not know")),
    }
}
