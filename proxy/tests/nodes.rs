//! The DaemonSet as it stands, on two nodes: its arguments, probes, files, user and times, read from the manifests, run as plain processes in
//! network namespaces; the Service's `internalTrafficPolicy` as kube-proxy does it, by address translation on each node.
//!
//! What stands in for the cluster: [`cluster`] for nodes, DNS and kube-proxy, [`pod`] for container runtime and kubelet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "nodes/cluster.rs"]
mod cluster;
#[path = "nodes/load.rs"]
mod load;
#[path = "nodes/pod.rs"]
mod pod;
#[path = "nodes/template.rs"]
mod template;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::Cluster;
use lab::netns::isolated;
use load::Load;
use pod::Pod;
use tokio::time::{Instant, sleep};

/// No request of an update may take so long: it would have waited for the new pod's share of PostgreSQL's connections.
const SLOW: Duration = Duration::from_secs(8);
/// For one test, with the machine's stalls.
const LIMIT: Duration = Duration::from_secs(240);
/// What a change of endpoints takes to come to a node.
const PROPAGATION: Duration = Duration::from_secs(2);
/// From being listed to having a share of PostgreSQL's connections.
const SHARE: Duration = Duration::from_secs(60);

/// Two nodes with a ready proxy each, which share PostgreSQL's connections.
async fn two_nodes() -> (Cluster, Pod, Pod) {
    let cluster = Cluster::start().await;
    let mut first = cluster.pod(&cluster.nodes[0], "proxy1", 5);
    let mut second = cluster.pod(&cluster.nodes[1], "proxy2", 5);
    // Whose clients would wait is not ready; but it has started, and its kubelet leaves it alone.
    first.probe_is(&cluster.nodes[0].machine, &cluster.template.startup, 200).await;
    first.probe_is(&cluster.nodes[0].machine, &cluster.template.readiness, 503).await;
    cluster.list_peers(&[&first, &second]);
    first.ready(&cluster.nodes[0].machine, &cluster.template).await;
    second.ready(&cluster.nodes[1].machine, &cluster.template).await;
    has_share(&cluster, 0, &first, 2).await;
    has_share(&cluster, 1, &second, 2).await;
    cluster.serve_by(&[&first, &second]);
    (cluster, first, second)
}

async fn has_share(cluster: &Cluster, node: usize, pod: &Pod, peers: u32) {
    let node = &cluster.nodes[node].machine;
    let has = async {
        loop {
            let limit = pod.metric(node, &cluster.template, "pool_limit_connections", &[("listener", "postgresql")]).await;
            let counted = pod.metric(node, &cluster.template, "pool_budget_peers", &[]).await;
            if limit > 0.0 && counted == f64::from(peers) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SHARE, has).await.unwrap_or_else(|_| panic!("no share of {peers}:\n{}", pod.log()));
}

async fn accepted(cluster: &Cluster, node: usize, pod: &Pod) -> f64 {
    pod.metric(&cluster.nodes[node].machine, &cluster.template, "clients_accepted_total", &[]).await
}

#[tokio::test]
#[ignore = "needs root and ip: make test-cluster"]
async fn traffic_stays_on_its_node() {
    if !isolated("traffic_stays_on_its_node", LIMIT).await.unwrap() {
        return;
    }
    let (cluster, first, second) = two_nodes().await;
    // It is no wall that keeps node 1's clients away from node 2's proxy.
    let elsewhere = SocketAddr::from((second.ip, 6379));
    drop(cluster.nodes[0].clients.connect(elsewhere, Duration::from_secs(10)).await.unwrap());
    let before = accepted(&cluster, 1, &second).await;

    let load = Load::start(&cluster.nodes[0].clients, 3);
    load.goes_on(500).await;
    let tally = load.end().await;
    assert_eq!(tally.failures(), [""; 0]);
    assert!(accepted(&cluster, 0, &first).await >= 100.0, "those that connect for each request are many");
    assert_eq!(accepted(&cluster, 1, &second).await, before, "node 2's proxy has seen none of it");

    // The other way round, and both at once.
    let before = accepted(&cluster, 0, &first).await;
    let load = Load::start(&cluster.nodes[1].clients, 3);
    load.goes_on(500).await;
    assert_eq!(load.end().await.failures(), [""; 0]);
    assert_eq!(accepted(&cluster, 0, &first).await, before);
    // Few connections carried it, all of them TLS with the proxy's login: PostgreSQL takes no others.
    let clients = cluster.redis.clients().await.unwrap();
    assert!(clients > 0 && clients <= 40, "{clients} connections at Redis");
    assert!(cluster.postgres.clients().await.unwrap() <= 42, "the share of both");
}

/// A surge update of node 1 in the order of the DaemonSet controller: the new pod is ready, the old one is told to end, and *then* the node hears
/// that its endpoint has gone.
#[tokio::test]
#[ignore = "needs root and ip: make test-cluster"]
async fn an_update_under_load_fails_no_request() {
    if !isolated("an_update_under_load_fails_no_request", LIMIT).await.unwrap() {
        return;
    }
    const EACH: usize = 3;
    let (cluster, mut old, other) = two_nodes().await;
    let node = &cluster.nodes[0];
    let (load, elsewhere) = (Load::start(&node.clients, EACH), Load::start(&cluster.nodes[1].clients, 1));
    load.goes_on(300).await;

    let mut new = cluster.pod(node, "proxy1b", 6);
    cluster.list_peers(&[&old, &other, &new]);
    new.ready(&node.machine, &cluster.template).await;
    cluster.serve_by(&[&old, &new, &other]);
    load.goes_on(300).await;

    let told = Instant::now();
    old.terminate();
    old.said("draining").await;
    let answer = old.probe(&node.machine, &cluster.template.readiness).await.unwrap();
    assert!(answer.status == 503 && answer.body.starts_with("draining"), "{answer:?}");
    assert_eq!(old.probe(&node.machine, &cluster.template.liveness).await.unwrap().status, 200, "or the kubelet would restart it");
    sleep(PROPAGATION).await;
    cluster.serve_by(&[&new, &other]);
    let status = old.ended(cluster.template.grace).await;
    assert_eq!(status.code(), Some(0), "{}", old.log());
    eprintln!("the old pod took {:?} of {:?}", told.elapsed(), cluster.template.grace);
    cluster.list_peers(&[&new, &other]);
    load.goes_on(300).await;

    let (tally, elsewhere) = (load.end().await, elsewhere.end().await);
    let [done, reconnected, crossed] = [&tally.done, &tally.reconnected, &tally.crossed].map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{done} requests, the slowest took {:?}; {reconnected} connections made again, {crossed} closes met a request",
        tally.slowest()
    );
    assert_eq!(tally.failures(), [""; 0]);
    assert!(reconnected + crossed <= 2 * EACH as u64, "each connection that is kept, once");
    assert!(tally.slowest() < SLOW, "{:?}: who waited, and what for?", tally.slowest());
    assert_eq!((elsewhere.failures(), elsewhere.reconnected.load(Ordering::Relaxed)), (vec![], 0), "node 2 has not noticed");
}

#[tokio::test]
#[ignore = "needs root and ip: make test-cluster"]
async fn a_killed_proxy_is_its_own_nodes_matter() {
    if !isolated("a_killed_proxy_is_its_own_nodes_matter", LIMIT).await.unwrap() {
        return;
    }
    let (cluster, mut first, second) = two_nodes().await;
    let node = &cluster.nodes[0];
    let (here, there) = (Load::start(&node.clients, 2), Load::start(&cluster.nodes[1].clients, 2));
    here.goes_on(200).await;
    there.goes_on(200).await;

    first.kill();
    assert_eq!(first.ended(Duration::from_secs(10)).await.code(), None, "killed");
    assert!(first.probe(&node.machine, &cluster.template.readiness).await.is_err());
    cluster.serve_by(&[&second]);
    there.goes_on(300).await;
    assert!(!here.tally().failures().is_empty(), "who was on it has noticed");

    // The kubelet starts the container again, in the same pod with the same address.
    first.launch(&cluster.template);
    first.ready(&node.machine, &cluster.template).await;
    has_share(&cluster, 0, &first, 2).await;
    cluster.serve_by(&[&first, &second]);
    drop(here);
    let again = Load::start(&node.clients, 2);
    again.goes_on(300).await;
    assert_eq!(again.end().await.failures(), [""; 0]);
    let there = there.end().await;
    assert_eq!((there.failures(), there.reconnected.load(Ordering::Relaxed)), (vec![], 0), "node 2 has not noticed");
}
