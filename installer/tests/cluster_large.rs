//! A cluster with three hundred nodes: the proxy comes up on each, and an update goes through all of them without a storm of questions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use std::time::Duration;

use lab::digitalocean::Fake;
use lab::kubernetes::Nodes;
use support::town::{APPLY, Town, pool_id};
use tokio::time::timeout;

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn three_hundred_nodes_are_watched_not_polled() {
    // Of the largest plan, so that each proxy has its share.
    let spec = "proxy: {image: 'proxy:1'}\npostgres: {size: db-s-4vcpu-8gb}\n";
    let town = Town::with("large", Fake::builder(), spec).await;
    town.kubernetes.add(Nodes { pool: "many", pool_id: &pool_id(), count: 297 }).await.unwrap();
    let applied = town.apply().await.ends_with(0);
    assert!(applied.stdout.contains("ready on 300 nodes"), "{}", applied.stdout);

    let before = town.versions();
    town.apply().await.ends_with(0);
    assert_eq!(town.versions(), before);

    let written = town.writes().len();
    town.spec(&format!("{spec}harbor: {{release: harbor}}\n").replace("proxy:1", "proxy:2"));
    // From node to node, one after the other: minutes.
    let run = town.desk.start(APPLY).wait_with_output();
    let output = timeout(Duration::from_secs(900), run).await.unwrap().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("ready on 300 nodes"), "{stderr}");
    assert!(stderr.contains("of 300 nodes ready; starting on many-"), "{stderr}");
    // One DaemonSet, the keyring's Lease with its renewals, and nothing for each node.
    let writes = town.writes().split_off(written);
    assert!(writes.iter().filter(|write| !write.contains("/leases")).count() < 5, "{writes:#?}");
    town.kubernetes.kubectl(&["delete", "nodes", "--selector=doks.digitalocean.com/node-pool=many", "--wait=false"], "").unwrap();
}
