//! The lab's Kubernetes: what the tests of the cluster side rest on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use lab::kubernetes::{Kubernetes, Nodes};
use serde_json::{Value, json};

/// A DaemonSet of this image.
fn daemon_set(name: &str, image: &str) -> String {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "it", "image": image}]}},
        },
    })
    .to_string()
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn pods_come_up_on_nodes_and_do_what_their_image_says() {
    let cluster = Kubernetes::start().await.unwrap();
    cluster.add(Nodes { pool: "default", pool_id: "11111111-1111-4111-8111-111111111111", count: 3 }).await.unwrap();
    for (name, image) in [("good", "good:1"), ("bad", "unpullable:1"), ("worse", "crashing:1")] {
        cluster.kubectl(&["apply", "--server-side", "--filename=-"], &daemon_set(name, image)).unwrap();
    }
    let ready = |name: &'static str| ["get", "daemonset", name, "--output=jsonpath={.status.numberReady}/{.status.desiredNumberScheduled}"];
    cluster.until("all good ones are ready", &ready("good"), |out| out == "3/3").await.unwrap();
    for (name, reason) in [("bad", "ImagePullBackOff"), ("worse", "CrashLoopBackOff")] {
        let selector = format!("--selector=app={name}");
        let waiting = ["get", "pods", &selector, "--output=jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"];
        cluster.until("they wait", &waiting, |out| out.split_whitespace().filter(|word| *word == reason).count() == 3).await.unwrap();
        assert_eq!(cluster.kubectl(&ready(name), "").unwrap(), "0/3");
    }
    // A job, to its end.
    cluster.kubectl(&["create", "job", "well", "--image=job:1"], "").unwrap();
    cluster.kubectl(&["create", "job", "badly", "--image=failing:1"], "").unwrap();
    let ended = |name: &'static str| ["get", "job", name, "--output=jsonpath={.status.succeeded}/{.status.failed}"];
    cluster.until("it ends well", &ended("well"), |out| out == "1/").await.unwrap();
    cluster.until("it ends badly", &ended("badly"), |out| out.starts_with('/') && out.len() > 1).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn writes_are_written_down_and_ports_are_forwarded() {
    let cluster = Kubernetes::start().await.unwrap();
    cluster.add(Nodes { pool: "default", pool_id: "11111111-1111-4111-8111-111111111111", count: 1 }).await.unwrap();
    cluster.kubectl(&["create", "configmap", "seen"], "").unwrap();
    cluster.kubectl(&["get", "configmap", "seen"], "").unwrap();
    let of = |event: &Value, name: &str| event.pointer("/objectRef/name").and_then(Value::as_str) == Some(name);
    let audit = cluster.audit().unwrap();
    let verbs: Vec<_> = audit.iter().filter(|event| of(event, "seen")).map(|event| event["verb"].clone()).collect();
    assert_eq!(verbs, ["create"]);

    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.forward(9090, server.local_addr().unwrap().port()).unwrap();
    cluster.kubectl(&["apply", "--server-side", "--filename=-"], &daemon_set("good", "good:1")).unwrap();
    let ready = ["get", "daemonset", "good", "--output=jsonpath={.status.numberReady}"];
    cluster.until("it is ready", &ready, |out| out == "1").await.unwrap();
    let port = lab::free_port().unwrap();
    let mut command = std::process::Command::new(cluster.tools().join("kubectl"));
    command.arg(format!("--kubeconfig={}", cluster.kubeconfig().display())).args([
        "port-forward",
        "daemonset/good",
        &format!("{port}:9090"),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let _forward = lab::Process::spawn("port-forward", &command, dir.path()).unwrap();
    let limit = std::time::Duration::from_secs(60);
    lab::wait::until_some("a connection arrives", limit, async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        tokio::time::timeout(std::time::Duration::from_secs(5), server.accept()).await.ok()?.ok()
    })
    .await
    .unwrap();
}
