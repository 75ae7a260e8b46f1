//! The cluster's part of the program, against a real API server with nodes that come up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use support::town::Town;

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn from_nothing_to_a_proxy_on_every_node_and_then_no_write_at_all() {
    let town = Town::new("from-nothing").await;
    town.desk.run(&["preflight", "--until", "proxy"]).await.ends_with(0);
    let plan = town.plan().await.ends_with(2);
    assert!(plan.stdout.contains("+ Namespace from-nothing") && plan.stdout.contains("once the databases are there"), "{}", plan.stdout);
    assert_eq!(town.kubernetes.kubectl(&["get", "namespace", "from-nothing", "--ignore-not-found", "--output=name"], "").unwrap(), "");

    let applied = town.apply().await.ends_with(0);
    assert!(applied.stdout.contains("ready on 3 nodes"), "{}", applied.stdout);
    let set = town.object("daemonset", "redis-tls-proxy");
    assert_eq!(set["status"]["numberReady"], 3);
    assert_eq!(set["metadata"]["managedFields"][0]["manager"], "doks-harbor");
    let keyring = town.object("secret", "doks-harbor-keyring");
    assert_eq!(keyring["data"]["client-password"], town.object("secret", "redis-tls-proxy")["data"]["client-password"]);
    let jobs = town.kubectl(&["get", "jobs", "--output=jsonpath={.items[*].status.succeeded}"]);
    assert_eq!(jobs, "1");
    assert_eq!(town.object("secret", "doks-harbor-database"), serde_json::Value::Null, "the administrator's password is gone");
    assert_eq!(town.object("lease", "doks-harbor"), serde_json::Value::Null, "and so is the Lease");

    let (before, writes) = (town.versions(), town.writes().len());
    assert!(writes > 10, "the audit tells what was written: {writes}");
    town.plan().await.ends_with(0);
    town.apply().await.ends_with(0);
    assert_eq!(town.versions(), before);
    assert_eq!(town.writes().len(), writes, "{:#?}", town.writes());
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn another_configuration_is_shown_line_by_line_and_goes_from_node_to_node() {
    let town = Town::new("rolling").await;
    town.apply().await.ends_with(0);
    let pods = || town.kubectl(&["get", "pods", "--selector=app.kubernetes.io/name=redis-tls-proxy", "--output=name"]);
    let before = pods();
    town.spec("proxy: {image: 'proxy:1', reserve_connections: 11}\n");
    let plan = town.plan().await.ends_with(2);
    for words in ["~ ConfigMap redis-tls-proxy", "+     pool_budget_reserve: 11", "~ DaemonSet redis-tls-proxy"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    let applied = town.apply().await.ends_with(0);
    assert!(applied.stderr.contains("of 3 nodes ready"), "{}", applied.stderr);
    assert!(pods().lines().all(|pod| !before.contains(pod)), "every pod is new");
    assert_eq!(pods().lines().count(), 3);
    town.plan().await.ends_with(0);
    // What is not wanted any more is taken away; what others have put there stays.
    let stale = |name: &str, labels: &str| {
        town.kubectl(&["create", "configmap", name]);
        town.kubectl(&["label", "configmap", name, labels, "app.kubernetes.io/name=redis-tls-proxy"]);
    };
    stale("stale", "app.kubernetes.io/managed-by=doks-harbor");
    stale("theirs", "app.kubernetes.io/managed-by=somebody");
    assert!(town.plan().await.ends_with(2).stdout.contains("- ConfigMap stale"));
    town.apply().await.ends_with(0);
    let left = town.kubectl(&["get", "configmaps", "--output=name"]);
    assert!(left.contains("theirs") && !left.contains("stale"), "{left}");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_rotation_reaches_the_clusters_secrets() {
    let town = Town::new("rotation").await;
    let kubeconfig = town.kubernetes.kubeconfig().display().to_string();
    let rotate =
        async |what: &[&str]| town.desk.run(&[&["rotate"], what, &["--yes", "--kubeconfig", &kubeconfig]].concat()).await.ends_with(0);
    town.apply().await.ends_with(0);
    let before = town.object("secret", "redis-tls-proxy")["data"].clone();
    let told = rotate(&["pg"]).await;
    assert!(told.stdout.contains("Changed in the cluster: Secret redis-tls-proxy"), "{}", told.stdout);
    let after = town.object("secret", "redis-tls-proxy")["data"].clone();
    assert_ne!(before["postgres-password"], after["postgres-password"]);
    assert_eq!(before["client-password"], after["client-password"]);
    assert_eq!(town.object("secret", "doks-harbor-keyring")["data"]["postgres-password"], after["postgres-password"]);

    let key = || town.object("secret", "harbor-spaces")["data"]["REGISTRY_STORAGE_S3_ACCESSKEY"].clone();
    let old = key();
    let told = rotate(&["spaces"]).await;
    assert!(told.stdout.contains("harbor-spaces") && told.stdout.contains("restart Harbor's registry"), "{}", told.stdout);
    assert_ne!(key(), old);
    rotate(&["spaces", "--finish"]).await;
    assert_eq!(town.object("lease", "doks-harbor"), serde_json::Value::Null);
    town.plan().await.ends_with(0);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn the_end_takes_what_can_be_made_again_and_the_keyring_goes_with_the_data() {
    let town = Town::new("the-end").await;
    let kubeconfig = town.kubernetes.kubeconfig().display().to_string();
    let destroy =
        async |what: &[&str]| town.desk.run(&[&["destroy"], what, &["--poll", "10ms", "--kubeconfig", &kubeconfig]].concat()).await;
    town.apply().await.ends_with(0);
    let before = town.versions();
    let shown = destroy(&[]).await.ends_with(0);
    assert!(
        shown.stdout.contains("stays the proxy in the namespace the-end: ") && shown.stdout.contains("DaemonSet redis-tls-proxy"),
        "{}",
        shown.stdout
    );
    assert_eq!(town.versions(), before, "it only looks");

    // Harbor stands on it.
    town.kubectl(&["run", "harbor-core", "--image=harbor:1", "--labels=app=harbor,release=harbor"]);
    let told = destroy(&["--proxy"]).await.ends_with(1);
    assert!(told.stderr.contains("Harbor runs in the namespace the-end (1 pods"), "{}", told.stderr);
    town.kubectl(&["delete", "pod", "harbor-core"]);
    town.kubectl(&["create", "configmap", "somebodys"]);

    // The last place of the key that Harbor's data was encrypted with.
    town.kubectl(&["delete", "secret", "doks-harbor-keyring"]);
    let told = destroy(&["--proxy", "--keyring", "elsewhere"]).await.ends_with(1);
    assert!(told.stderr.contains("nothing was deleted: the Secret harbor-encryption"), "{}", told.stderr);
    town.apply().await.ends_with(0);

    destroy(&["--proxy"]).await.ends_with(0);
    let left = || town.kubectl(&["get", "secrets,daemonsets,services,jobs,networkpolicies,leases", "--output=name"]);
    assert_eq!(left().trim(), "secret/doks-harbor-keyring");
    town.apply().await.ends_with(0);

    let names: Vec<_> = town.desk.cloud.api.world(|world| world.databases.iter().map(|database| database.name.clone()).collect());
    let bucket = town.desk.cloud.s3.snapshot().buckets.into_keys().next().unwrap();
    let all = ["--databases", "--bucket", "--confirm", &names[0], "--confirm", &names[1], "--confirm", &bucket];
    destroy(&all).await.ends_with(0);
    assert_eq!(left().trim(), "");
    assert!(town.kubectl(&["get", "configmaps", "--output=name"]).contains("somebodys"), "the namespace, and what is in it, is not ours");
    assert!(town.desk.cloud.api.world(|world| world.databases.is_empty()));
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn by_hand_the_secrets_are_the_same() {
    let town = Town::new("by-script").await;
    town.apply().await.ends_with(0);
    let before = town.object("secret", "harbor-encryption");
    let out = town.desk.path("doks-harbor.out");
    let mut script = std::process::Command::new("sh");
    script.arg(out.join("secrets.sh")).arg(town.desk.path("doks-harbor.keyring"));
    let path = format!("{}:/usr/bin:/bin", town.kubernetes.tools().display());
    script.env("PATH", path).env("KUBECONFIG", town.kubernetes.kubeconfig());
    let ran = script.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let after = town.object("secret", "harbor-encryption");
    assert_eq!((&before["data"], &before["metadata"]["labels"]), (&after["data"], &after["metadata"]["labels"]));
    let plan = town.plan().await;
    assert_eq!(plan.code, Some(0), "{}", plan.stdout);
}
