//! `smoke`, `trust`, `open` and `pull-secret` in a cluster: a real API server, a Harbor without a public name behind a port-forward that KWOK plays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use doks_harbor::cluster::{Access, Cluster, Forward};
use lab::harbor::Harbor;
use lab::kubernetes::{Kubernetes, Nodes};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

mod visitor;

use visitor::{Outcome, Visitor};

/// For what should happen.
const LONG: Duration = Duration::from_secs(240);

struct Desk {
    kubernetes: Kubernetes,
    visitor: Visitor,
}

impl Desk {
    /// A cluster with a Harbor of the chart's default kind: clusterIP, a certificate that the chart made.
    async fn new() -> Self {
        let harbor = Harbor::builder().name("harbor.harbor.svc").start().await.unwrap();
        let visitor = Visitor::at(harbor);
        let kubernetes = Kubernetes::start().await.unwrap();
        kubernetes.add(Nodes { pool: "default", pool_id: "11111111-1111-4111-8111-111111111111", count: 1 }).await.unwrap();
        kubernetes.forward(8443, visitor.harbor.port()).unwrap();
        let desk = Self { kubernetes, visitor };
        desk.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "harbor" } }));
        let labels = json!({ "app": "harbor", "component": "nginx" });
        let container = json!({ "name": "nginx", "image": "nginx", "ports": [{ "containerPort": 8443, "name": "tls" }] });
        desk.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "harbor-nginx", "namespace": "harbor" },
            "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } } },
        }));
        desk.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "harbor", "namespace": "harbor" },
            "spec": { "selector": labels, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }, { "name": "https", "port": 443, "targetPort": "tls" }] },
        }));
        let ca = BASE64_STANDARD.encode(desk.visitor.harbor.ca_pem());
        desk.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "harbor-nginx", "namespace": "harbor" }, "data": { "ca.crt": ca, "tls.crt": ca },
        }));
        let ready = ["get", "deployment", "-n", "harbor", "harbor-nginx", "--output=jsonpath={.status.readyReplicas}"];
        desk.kubernetes.until("nginx is ready", &ready, |out| out == "2").await.unwrap();
        std::fs::write(desk.visitor.path("doks-harbor.yaml"), "cluster: x\n").unwrap();
        desk
    }

    fn apply(&self, object: &Value) {
        self.kubernetes.kubectl(&["apply", "--server-side", "--field-manager=lab", "--filename=-"], &object.to_string()).unwrap();
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let output = self.kubernetes.kubectl(&[&["get", "--output=json"], arguments].concat(), "").unwrap();
        serde_json::from_str(&output).unwrap()
    }

    /// By the kubeconfig, without an address and an authority: the cluster knows them.
    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = self.visitor.bare(arguments);
        command.arg("--kubeconfig").arg(self.kubernetes.kubeconfig());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = visitor::outcome(self.command(arguments).spawn().unwrap()).await;
        self.visitor.keeps_secrets(&outcome);
        outcome
    }

    async fn cluster(&self) -> Cluster {
        Cluster::new(Access::file(&self.kubernetes.kubeconfig(), None).await.unwrap(), "harbor").unwrap()
    }
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_harbor_without_a_public_name_is_reached_and_trusted_through_the_cluster() {
    let desk = Desk::new().await;
    let smoke = desk.run(&["smoke", "-o", "json"]).await.ends_with(0).json();
    assert!(
        smoke["checks"][0]["told"].as_str().unwrap().contains("through the cluster, verified by the Secret harbor/harbor-nginx"),
        "{smoke:#}"
    );
    desk.visitor.nothing_is_left();
    let trust = desk.run(&["trust", "--write", "podman", "--root", "machine", "-o", "json"]).await.ends_with(0).json();
    assert_eq!((&trust["registry"], &trust["source"]), (&"harbor.harbor.svc".into(), &"the Secret harbor/harbor-nginx".into()));
    assert!(desk.visitor.path("machine/etc/containers/certs.d/harbor.harbor.svc/ca.crt").exists());

    // Another authority in the Secret: TLS is verified over the port-forward, too.
    let other = lab::Authority::new().unwrap().ca_pem();
    desk.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "harbor-nginx", "namespace": "harbor" }, "data": { "ca.crt": BASE64_STANDARD.encode(other) },
    }));
    let before = desk.visitor.harbor.world(|world| world.log.len());
    desk.run(&["smoke"]).await.ends_with(1).tells("certificate is not accepted");
    assert_eq!(desk.visitor.harbor.world(|world| world.log.len()), before, "nothing was sent");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn the_cluster_tells_of_the_authority_of_a_harbor_with_a_name() {
    let desk = Desk::new().await;
    // Reached without the cluster, with a certificate that only the cluster can vouch for.
    let named = Harbor::start().await.unwrap();
    let ca = BASE64_STANDARD.encode(named.ca_pem());
    desk.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "harbor-nginx", "namespace": "harbor" }, "data": { "ca.crt": ca },
    }));
    let trust = desk.run(&["trust", "--harbor", named.url(), "-o", "json"]).await.ends_with(0).json();
    assert_eq!((&trust["source"], &trust["registry"]), (&"the Secret harbor/harbor-nginx".into(), &named.host().into()));

    // Behind an ingress, the way through the cluster is core's, in plain HTTP inside of the API server's TLS; Harbor calls itself by its name.
    let core = Harbor::builder().name("harbor.localhost").plain().start().await.unwrap();
    core.world(|world| world.authority = Some(named.ca_pem().to_owned()));
    desk.kubernetes.forward(8080, core.port()).unwrap();
    desk.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "harbor-core", "namespace": "harbor" },
        "spec": { "selector": { "app": "harbor" }, "ports": [{ "name": "http-web", "port": 80, "targetPort": 8080 }] },
    }));
    std::fs::write(desk.visitor.path("doks-harbor.yaml"), "cluster: x\nharbor: {expose: ingress, host: harbor.localhost}\n").unwrap();
    let smoke = desk.run(&["smoke", "--forward", "-o", "json"]).await.ends_with(0).json();
    assert!(smoke["checks"][0]["told"].as_str().unwrap().starts_with("harbor.localhost through the cluster"), "{smoke:#}");
    let trust = desk.run(&["trust", "--forward", "-o", "json"]).await.ends_with(0).json();
    assert_eq!(trust["source"], "Harbor's /systeminfo/getcert, through the cluster");
    // Its pages are put together by the ingress alone.
    desk.run(&["open", "--forward"]).await.ends_with(1).tells("open https://harbor.localhost");
    desk.run(&["open"]).await.ends_with(0).tells("https://harbor.localhost");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn open_forwards_until_it_is_told_to_end() {
    let desk = Desk::new().await;
    let port = lab::free_port().unwrap().to_string();
    let mut child = desk.command(&["open", "--port", &port]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    while let Some(line) = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap() {
        let is_last = line.contains("until Ctrl-C");
        told.push(line);
        if is_last {
            break;
        }
    }
    let told = told.join("\n");
    for words in [
        &format!("https://localhost:{port}/"),
        "admin",
        "doks-harbor.keyring/harbor-admin-password",
        "kubectl get secret -n harbor harbor-admin",
        "SHA-256",
    ] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    assert!(!told.contains(lab::harbor::PASSWORD));
    // What a browser would find there.
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    stream.write_all(b"this is not TLS\n").await.unwrap();
    let mut answer = [0; 1];
    tokio::time::timeout(LONG, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [0x15], "Harbor's alert");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    visitor::outcome(child).await.ends_with(0);
    // Taken: said.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    desk.run(&["open", "--port", &port]).await.ends_with(1).tells("cannot be listened on");
    desk.kubernetes.kubectl(&["delete", "service", "-n", "harbor", "harbor"], "").unwrap();
    desk.run(&["open"]).await.ends_with(1).tells("there is no Service harbor in the namespace harbor");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_forward_outlives_its_pod_and_reaches_a_pods_own_port() {
    let desk = Desk::new().await;
    let cluster = desk.cluster().await;
    // Echoes a line, whoever asks.
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    desk.kubernetes.forward(9090, echo.local_addr().unwrap().port()).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = echo.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let says = async |address: std::net::SocketAddr, text: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; text.len()];
        tokio::time::timeout(LONG, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, text.as_bytes());
    };
    let pods = || {
        desk.get(&["pods", "-n", "harbor"])["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    // To a pod; several at one time, each with its own bytes.
    let pod = Forward::to_pod(&cluster, &pods()[0], 9090).await.unwrap();
    let texts: Vec<String> = (0..20).map(|number| format!("{number}").repeat(40_000)).collect();
    futures_util::future::join_all(texts.iter().map(|text| says(pod.address(), text))).await;

    // To a Service, whose pods are replaced one after the other.
    desk.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "echo", "namespace": "harbor" },
        "spec": { "selector": { "app": "harbor", "component": "nginx" }, "ports": [{ "name": "echo", "port": 7, "targetPort": 9090 }] },
    }));
    let service = Forward::to_service(&cluster, "echo", "7", 0).await.unwrap();
    says(service.address(), "before").await;
    for gone in pods() {
        desk.kubernetes.kubectl(&["delete", "pod", "-n", "harbor", &gone, "--wait=true"], "").unwrap();
        says(service.address(), "after").await;
    }
    // Nobody is left: connections end, and why is told.
    desk.kubernetes.kubectl(&["scale", "deployment", "-n", "harbor", "harbor-nginx", "--replicas=0"], "").unwrap();
    desk.kubernetes.until("no pod", &["get", "pods", "-n", "harbor", "--output=name"], str::is_empty).await.unwrap();
    let mut trouble = service.trouble();
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    tokio::time::timeout(LONG, trouble.changed()).await.unwrap().unwrap();
    assert!(trouble.borrow().as_ref().unwrap().contains("no pod behind Service echo is ready"), "{:?}", trouble.borrow());
    assert!(Forward::to_service(&cluster, "echo", "8", 0).await.err().unwrap().to_string().contains("no port 8"));
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn pull_secrets_go_where_pods_pull() {
    let desk = Desk::new().await;
    desk.visitor.harbor.world(|world| world.add_project("web", false, "2026-01-01T00:00:00.000Z"));
    let robots = || desk.visitor.harbor.world(|world| world.robots.iter().map(|robot| robot.name.clone()).collect::<Vec<_>>());
    let pull = ["pull-secret", "--project", "web", "-n", "one", "-n", "two", "--service-account", "default", "-o", "json"];

    desk.run(&pull).await.ends_with(1).tells("the namespace one (kubectl create namespace one), the namespace two");
    assert!(robots().is_empty(), "nothing is made before all is looked at");
    for name in ["one", "two"] {
        desk.kubernetes.kubectl(&["create", "namespace", name], "").unwrap();
        let account = ["get", "serviceaccount", "-n", name, "default", "--output=name"];
        desk.kubernetes.until("the service account is there", &account, |out| out.contains("serviceaccount/default")).await.unwrap();
    }
    // One that is used already, and must stay.
    let others = r#"{"imagePullSecrets":[{"name":"others"}]}"#;
    desk.kubernetes.kubectl(&["patch", "serviceaccount", "-n", "one", "default", "--patch", others], "").unwrap();

    let report = desk.run(&pull).await.ends_with(0).json();
    assert_eq!(report["logins"].as_array().unwrap().iter().map(|login| login["what"].clone()).collect::<Vec<_>>(), ["created", "created"]);
    let notes = report["notes"].to_string();
    assert!(notes.contains("cluster's own DNS") && notes.contains("unknown authority"), "what a kubelet would stumble over: {notes}");
    let secret = desk.get(&["secret", "-n", "one", "harbor-pull"]);
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    let config = BASE64_STANDARD.decode(secret["data"][".dockerconfigjson"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let auth = &config["auths"]["harbor.harbor.svc"];
    let known = desk
        .visitor
        .harbor
        .world(|world| world.robots.iter().any(|robot| auth["username"] == *robot.name && auth["password"] == *robot.secret));
    assert!(known, "the Secret holds the robot's");
    let accounts = |namespace: &str| desk.get(&["serviceaccount", "-n", namespace, "default"])["imagePullSecrets"].clone();
    assert_eq!(accounts("one"), json!([{ "name": "others" }, { "name": "harbor-pull" }]));
    assert_eq!(accounts("two"), json!([{ "name": "harbor-pull" }]));

    // Again: nothing is written, neither here nor there.
    let (before, writes) = (robots(), desk.kubernetes.audit().unwrap().len());
    let report = desk.run(&pull).await.ends_with(0).json();
    assert!(
        report["logins"].as_array().unwrap().iter().all(|login| login["what"] == "kept" && login["service_accounts"] == json!([])),
        "{report:#}"
    );
    let ours = |audit: &Vec<Value>| {
        audit.iter().skip(writes).filter(|entry| entry["userAgent"].as_str().is_some_and(|agent| agent.contains("kube.rs"))).count()
    };
    assert_eq!((robots(), ours(&desk.kubernetes.audit().unwrap())), (before.clone(), 0));

    // One namespace is shut out in Harbor: only that one is renewed.
    let gone = before.iter().find(|name| name.contains("-one-")).unwrap().clone();
    desk.visitor.harbor.world(|world| world.robots.retain(|robot| robot.name != gone));
    let report = desk.run(&pull).await.ends_with(0).json();
    assert_eq!((&report["logins"][0]["what"], &report["logins"][1]["what"]), (&"renewed".into(), &"kept".into()));
    assert_eq!(robots().len(), 2);
    // Other projects are another Secret; a person's edit is put right.
    desk.visitor.harbor.world(|world| world.add_project("tools", false, "2026-01-01T00:00:00.000Z"));
    let more = ["pull-secret", "--project", "web", "--project", "tools", "-n", "two"];
    desk.run(&more).await.ends_with(0).tells("it was for other projects");
    desk.kubernetes
        .kubectl(
            &["patch", "secret", "-n", "two", "harbor-pull", "--type=merge", "--patch", r#"{"data":{".dockerconfigjson":"e30="}}"#],
            "",
        )
        .unwrap();
    desk.run(&more).await.ends_with(0);
    desk.run(&more).await.ends_with(0).tells("kept");

    // A Secret of somebody else's stays.
    let theirs =
        ["create", "secret", "docker-registry", "-n", "two", "theirs", "--docker-server=x", "--docker-username=u", "--docker-password=p"];
    desk.kubernetes.kubectl(&theirs, "").unwrap();
    let (count, refused) = (robots().len(), ["pull-secret", "--project", "web", "-n", "two", "--name", "theirs"]);
    desk.run(&refused).await.ends_with(1).tells("not of doks-harbor");
    assert_eq!(robots().len(), count);
}
