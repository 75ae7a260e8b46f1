//! The Kubernetes manifests as they stand: they parse, fit together, and the configurations in them are ones that the proxy takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::process;
use redis_tls_proxy::config::{self, Config, PoolMode, Purpose, Sources};
use serde_json::{Value, json};

const SECRETS: &str = "/etc/redis-tls-proxy/secret";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn document(file: &str) -> Value {
    let mut documents = documents(file);
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

/// Every folder with a `kustomization.yaml`.
fn layers() -> Vec<PathBuf> {
    let mut found: Vec<_> = ["base", "overlays", "components"]
        .iter()
        .flat_map(|top| {
            [folder().join(top)].into_iter().chain(fs::read_dir(folder().join(top)).unwrap().map(|entry| entry.unwrap().path()))
        })
        .filter(|path| path.join("kustomization.yaml").is_file())
        .collect();
    found.sort();
    assert_eq!(found.len(), 6, "{found:?}");
    found
}

/// The proxy's own judgement of a configuration, its mounted secrets replaced by real files.
fn judged(file: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    for secret in ["valkey-password", "postgres-password", "client-password"] {
        fs::write(dir.path().join(secret), secret).unwrap();
    }
    fs::write(dir.path().join("postgres-ca.crt"), lab::Authority::new().unwrap().ca_pem()).unwrap();
    let text = fs::read_to_string(folder().join(file)).unwrap();
    assert!(text.matches(SECRETS).count() >= 3, "every secret is read from the mount");
    let mounted = dir.path().join("proxy.yaml");
    fs::write(&mounted, text.replace(SECRETS, &dir.path().display().to_string())).unwrap();
    let sources = Sources {
        urls: Vec::new(),
        file: Some(mounted),
        flags: BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Serve,
        probe: &|_| Ok(()),
    };
    let loaded = config::load(&sources).unwrap_or_else(|mistakes| panic!("{file}: {mistakes}"));
    assert!(loaded.warnings.is_empty(), "{file}: {:?}", loaded.warnings);
    loaded.config
}

#[test]
fn the_configurations_are_valid() {
    for file in ["base/proxy.yaml", "components/sidecar/proxy.yaml"] {
        let config = judged(file);
        let pools: Vec<_> = config.listeners.iter().map(|listener| listener.pool.mode).collect();
        assert_eq!(pools, [PoolMode::Multiplex, PoolMode::Transaction], "{file}");
    }
}

/// Ports, paths and times are said in several files; they must agree.
#[test]
fn pods_configuration_and_policy_agree() {
    let config = judged("base/proxy.yaml");
    let daemon_set = document("base/daemonset.yaml");
    let pod = &daemon_set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports: BTreeMap<_, _> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports, BTreeMap::from([("redis", 6379), ("postgresql", 5432), ("admin", 9090)]));
    let text = fs::read_to_string(folder().join("base/proxy.yaml")).unwrap();
    for port in ports.values() {
        assert!(text.contains(&format!("0.0.0.0:{port}\n")), "{port}");
    }
    let drain = config.process.drain_delay + config.process.drain_timeout;
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > drain.as_secs(), "the drain must fit");
    for (probe, path) in [("startupProbe", "/startup"), ("readinessProbe", "/readiness"), ("livenessProbe", "/liveness")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "admin"}));
    }

    let services = documents("base/services.yaml");
    assert_eq!(services[0]["spec"]["internalTrafficPolicy"], "Local", "plaintext stays on the node");
    let peers = &services[1];
    assert_eq!((&peers["spec"]["clusterIP"], &peers["spec"]["publishNotReadyAddresses"]), (&json!("None"), &json!(true)));
    assert!(text.contains(&format!("pool_budget_peers: {}\n", peers["metadata"]["name"].as_str().unwrap())));

    let policy = document("base/network-policy.yaml");
    let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    for service in &services {
        assert_eq!(&service["spec"]["selector"], labels);
    }
    let allowed: BTreeSet<_> =
        policy["spec"]["egress"][1]["ports"].as_array().unwrap().iter().map(|rule| rule["port"].as_u64().unwrap()).collect();
    let servers: BTreeSet<_> = config.listeners.iter().map(|listener| u64::from(listener.upstream.port)).collect();
    assert_eq!(allowed, servers, "what the proxy dials is what it may dial");
}

/// What the "restricted" Pod Security Standard asks for, of every container that these files make.
#[test]
fn every_container_is_confined() {
    let daemon_set = document("base/daemonset.yaml");
    let pod = &daemon_set["spec"]["template"]["spec"];
    let sidecar = document("components/sidecar/sidecar.yaml");
    let beside = &sidecar["spec"]["template"]["spec"]["initContainers"][0];
    for (context, container) in [(&pod["securityContext"], &pod["containers"][0]), (&beside["securityContext"], beside)] {
        let user = (&context["runAsNonRoot"], &context["runAsUser"], &context["seccompProfile"]["type"]);
        assert_eq!(user, (&json!(true), &json!(65532), &json!("RuntimeDefault")));
        let own = &container["securityContext"];
        let rights = (&own["allowPrivilegeEscalation"], &own["readOnlyRootFilesystem"], &own["capabilities"]["drop"]);
        assert_eq!(rights, (&json!(false), &json!(true), &json!(["ALL"])));
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    assert_eq!((&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]), (&json!(false), &json!(false)));
    assert_eq!(beside["restartPolicy"], "Always", "a native sidecar");
}

#[test]
#[ignore = "needs kubectl of Kubernetes' programs: make test-cluster"]
fn kustomize_takes_every_folder() {
    for layer in layers() {
        build(&layer);
    }
    let deployment = build(&folder().join("overlays/deployment"));
    let kinds: Vec<_> = deployment.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"Deployment") && kinds.contains(&"PodDisruptionBudget") && !kinds.contains(&"DaemonSet"), "{kinds:?}");
    let service = deployment.iter().find(|object| object["metadata"]["name"] == "redis-proxy").unwrap();
    assert_eq!(service["spec"]["internalTrafficPolicy"], Value::Null);
    let owner = deployment.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!((&owner["spec"]["updateStrategy"], &owner["spec"]["strategy"]["type"]), (&Value::Null, &json!("RollingUpdate")));
    let volume = owner["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"].as_str().unwrap();
    assert!(deployment.iter().any(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == volume), "{volume}");
}

/// Components change what they are added to: a workload's own parts stay, and it gets the sidecar before its other init containers.
#[test]
#[ignore = "needs kubectl of Kubernetes' programs: make test-cluster"]
fn components_can_be_added() {
    let mine = tempfile::Builder::new().prefix("mine-").tempdir_in(folder()).unwrap();
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Job"] {
        let workload = json!({"apiVersion": if kind == "Job" { "batch/v1" } else { "apps/v1" }, "kind": kind,
            "metadata": {"name": "mine", "labels": {"redis-tls-proxy/sidecar": "true"}},
            "spec": {"template": {"spec": {"initContainers": [{"name": "migrate", "image": "m"}], "containers": [{"name": "app", "image": "a"}],
                "volumes": [{"name": "data", "emptyDir": {}}]}}}});
        let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}, "spec": {"template": {"spec": {"containers": []}}}});
        let kustomization = json!({"resources": ["workload.yaml", "other.yaml", "../base"],
            "components": ["../components/sidecar", "../components/node-pool", "../components/monitoring"]});
        for (file, content) in [("workload.yaml", &workload), ("other.yaml", &other), ("kustomization.yaml", &kustomization)] {
            fs::write(mine.path().join(file), content.to_string()).unwrap();
        }
        let objects = build(mine.path());
        let named =
            |kind: &str, name: &str| objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap();
        let pod = &named(kind, "mine")["spec"]["template"]["spec"];
        let names = |list: &str| -> Vec<String> {
            pod[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (names("initContainers"), names("containers")),
            (vec!["redis-tls-proxy".to_owned(), "migrate".to_owned()], vec!["app".to_owned()])
        );
        assert!(names("volumes").contains(&"data".to_owned()) && names("volumes").len() == 3, "{pod}");
        assert_eq!(pod["initContainers"][0]["restartPolicy"], "Always");
        assert!(!named("Deployment", "other").to_string().contains("redis-tls-proxy"), "only what is labelled");
        let proxies = &named("DaemonSet", "redis-tls-proxy")["spec"]["template"]["spec"];
        assert!(proxies["affinity"]["nodeAffinity"].is_object() && proxies["tolerations"].is_array());
        assert_eq!(named("PodMonitor", "redis-tls-proxy")["spec"]["podMetricsEndpoints"][0]["port"], "admin");
    }
}

/// What `kubectl kustomize` makes of a folder.
fn build(layer: &Path) -> Vec<Value> {
    let built = lab::kubernetes::tools().join("kubectl");
    let kubectl = if built.is_file() { built } else { process::find("kubectl").expect("kubectl is not installed: .ci/cluster builds it") };
    let mut command = Command::new(kubectl);
    command.arg("kustomize").arg(layer);
    let text = process::run(&command, process::Launch::default(), "").unwrap_or_else(|error| panic!("{}: {error}", layer.display()));
    // A component may make nothing by itself.
    if text.trim().is_empty() { Vec::new() } else { serde_saphyr::from_multiple(&text).unwrap() }
}
