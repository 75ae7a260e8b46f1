//! The manifests on a real API server, in a namespace that lets in none but "restricted" pods.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

use std::fs;
use std::path::{Path, PathBuf};

use lab::kubernetes::{Kubernetes, Nodes};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// Unknown fields, values out of range and warnings are all refused.
fn apply(cluster: &Kubernetes, layer: &Path) -> String {
    let layer = layer.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "--validate=strict", "--warnings-as-errors", "--kustomize", &layer], "").unwrap()
}

fn get(cluster: &Kubernetes, what: &[&str]) -> Value {
    let text = cluster.kubectl(&[&["--namespace=harbor", "get", "--output=json"], what].concat(), "").unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn the_api_server_takes_them_and_the_pods_run() {
    let cluster = Kubernetes::start().await.unwrap();
    cluster.add(Nodes { pool: "harbor", pool_id: "1", count: 2 }).await.unwrap();
    cluster.add(Nodes { pool: "other", pool_id: "2", count: 1 }).await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "harbor", "labels": {
        "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}});
    cluster.kubectl(&["create", "--filename=-"], &namespace.to_string()).unwrap();

    apply(&cluster, &folder().join("overlays/daemonset"));
    let ready = "--output=jsonpath={.status.numberReady}";
    let daemon_set = ["--namespace=harbor", "get", "daemonset", "redis-tls-proxy", ready];
    cluster.until("a proxy on each node", &daemon_set, |out| out == "3").await.unwrap();
    let pods = get(&cluster, &["pods"]);
    let pod = &pods["items"][0]["spec"];
    assert_eq!((&pod["priority"], &pod["preemptionPolicy"]), (&json!(1_000_000), &json!("PreemptLowerPriority")));
    // The same again changes nothing.
    let before = get(&cluster, &["daemonset", "redis-tls-proxy"])["metadata"]["resourceVersion"].clone();
    apply(&cluster, &folder().join("overlays/daemonset"));
    assert_eq!(get(&cluster, &["daemonset", "redis-tls-proxy"])["metadata"]["resourceVersion"], before);

    // With another configuration, on a pool, and a workload with a proxy of its own: as users put them together.
    let mine = tempfile::Builder::new().prefix("mine-").tempdir_in(folder()).unwrap();
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mine", "labels": {"redis-tls-proxy/sidecar": "true"}},
        "spec": {"selector": {"matchLabels": {"app": "mine"}}, "template": {"metadata": {"labels": {"app": "mine"}}, "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", "image": "app",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}}});
    let kustomization = json!({"namespace": "harbor", "resources": ["workload.yaml", "../base"],
        "components": ["../components/sidecar", "../components/node-pool"],
        "configMapGenerator": [{"name": "redis-tls-proxy", "behavior": "replace", "files": ["proxy.yaml"]}]});
    for (file, content) in [("workload.yaml", workload.to_string()), ("kustomization.yaml", kustomization.to_string())] {
        fs::write(mine.path().join(file), content).unwrap();
    }
    fs::write(mine.path().join("proxy.yaml"), "admin: 0.0.0.0:9090\n").unwrap();
    apply(&cluster, mine.path());
    cluster
        .until(
            "only on the pool, all of them new",
            &[
                "--namespace=harbor",
                "get",
                "daemonset",
                "redis-tls-proxy",
                "--output=jsonpath={.status.numberReady} {.status.updatedNumberScheduled} {.status.desiredNumberScheduled}",
            ],
            |out| out == "2 2 2",
        )
        .await
        .unwrap();
    let available = ["--namespace=harbor", "get", "deployment", "mine", "--output=jsonpath={.status.availableReplicas}"];
    cluster.until("the workload with its sidecar", &available, |out| out == "1").await.unwrap();
    let pods = get(&cluster, &["pods", "--selector=app=mine"]);
    assert_eq!(pods["items"][0]["spec"]["initContainers"][0]["restartPolicy"], "Always");

    cluster.kubectl(&["--namespace=harbor", "delete", "daemonset,deployment", "--all", "--wait=false"], "").unwrap();
    apply(&cluster, &folder().join("overlays/deployment"));
    let available = ["--namespace=harbor", "get", "deployment", "redis-tls-proxy", "--output=jsonpath={.status.availableReplicas}"];
    cluster.until("the deployment", &available, |out| out == "3").await.unwrap();
    assert_eq!(get(&cluster, &["poddisruptionbudget", "redis-tls-proxy"])["status"]["disruptionsAllowed"], 1);
}
