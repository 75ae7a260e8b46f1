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
    town.plan().await.ends_with(0);
    town.apply().await.ends_with(0);
    assert_eq!(town.versions(), before);
    assert_eq!(town.writes().len(), writes, "{:#?}", town.writes());
}
