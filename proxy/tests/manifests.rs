//! The Kubernetes manifest as it stands: it parses, and the configuration inside it is one that the proxy takes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests say what they expect, like the tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redis_tls_proxy::config::{self, PoolMode, Purpose, Sources};
use serde_json::Value;

fn documents() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/redis-tls-proxy.yaml");
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn has_the_objects_that_it_promises() {
    let documents = documents();
    let kinds: Vec<_> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "DaemonSet", "Service", "Service", "NetworkPolicy"]);
    let pod = &documents[1]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], Value::Bool(true));
    assert_eq!(documents[2]["spec"]["internalTrafficPolicy"], "Local", "plaintext stays on the node");
    let peers = &documents[3]["spec"];
    assert_eq!(
        (&peers["clusterIP"], &peers["publishNotReadyAddresses"]),
        (&Value::from("None"), &Value::Bool(true)),
        "a name for each pod"
    );
}

#[test]
fn its_configuration_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let authority = lab::Authority::new().unwrap();
    for (file, content) in [
        ("redis-password", "r".to_owned()),
        ("postgres-password", "p".to_owned()),
        ("client-password", "c".to_owned()),
        ("postgres-ca.crt", authority.ca_pem()),
    ] {
        fs::write(dir.path().join(file), content).unwrap();
    }
    let text = documents()[0]["data"]["proxy.yaml"].as_str().unwrap().to_owned();
    let mounted = "/etc/redis-tls-proxy/secret";
    assert_eq!(text.matches(mounted).count(), 4, "every secret is read from the mount");
    let file = dir.path().join("proxy.yaml");
    fs::write(&file, text.replace(mounted, &dir.path().display().to_string())).unwrap();

    let loaded = config::load(&Sources {
        urls: Vec::new(),
        file: Some(file),
        flags: BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Serve,
        probe: &|_| Ok(()),
    })
    .unwrap();
    assert_eq!(loaded.config.listeners.len(), 2);
    let pools: Vec<_> = loaded.config.listeners.iter().map(|listener| (listener.pool.mode, listener.pool.size)).collect();
    assert_eq!(pools, [(PoolMode::Multiplex, 64), (PoolMode::Relay, 0)]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
