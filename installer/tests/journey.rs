//! The whole way, as a user goes it: from one token to a Harbor that is proved to work, looked at, broken, and looked at again.
//!
//! Everything is real but DigitalOcean and Harbor's own code: helm, a small chart, the API server, a proxy in front of a Redis, docker-registry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use lab::harbor::Harbor;
use lab::{Authority, Leaf, Proxy, Redis};
use support::town::Town;
use support::{Outcome, outcome};

/// What the chart of Harbor makes, as far as it matters here: pods behind a Service, and a certificate of its own.
const TEMPLATE: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-nginx"}
spec:
  replicas: {{ .Values.core.replicas }}
  selector: {matchLabels: {app: harbor, release: "{{ .Release.Name }}", component: nginx}}
  template:
    metadata: {labels: {app: harbor, release: "{{ .Release.Name }}", component: nginx}}
    spec: {containers: [{name: nginx, image: good, ports: [{name: https, containerPort: 8443}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: "{{ .Values.expose.clusterIP.name }}"}
spec:
  selector: {app: harbor, release: "{{ .Release.Name }}", component: nginx}
  ports: [{name: https, port: 443, targetPort: https}]
---
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-nginx"}
data: {ca.crt: "{{ .Files.Get "ca.crt" | b64enc }}"}
"#;

/// As without the option: a desk's default leaves the cluster alone.
const PLAN: &[&str] = &["plan", "--until", "harbor"];

struct Journey {
    town: Town,
    harbor: Harbor,
}

impl Journey {
    /// With a proxy on every node, and a chart in the folder.
    async fn begin(namespace: &str) -> Self {
        let town = Town::new(namespace).await;
        town.spec("proxy: {image: 'proxy:1'}\nharbor: {chart: 1.18.3}\n");
        town.apply().await.ends_with(0);
        // Harbor takes its administrator's password from the Secret at its first start.
        let password = town.desk.read("doks-harbor.keyring/harbor-admin-password");
        let harbor = Harbor::builder().real().name(&format!("harbor.{namespace}.svc")).password(&password).start().await.unwrap();
        town.kubernetes.forward(8443, harbor.port()).unwrap();
        let chart = town.desk.path("chart");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: harbor\nversion: 1.18.3\nappVersion: 2.14.3\n").unwrap();
        std::fs::write(chart.join("ca.crt"), harbor.ca_pem()).unwrap();
        std::fs::write(chart.join("templates/all.yaml"), TEMPLATE).unwrap();
        Self { town, harbor }
    }

    /// The program, with helm in its path.
    async fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.town.desk.command(arguments);
        command.env("PATH", self.town.kubernetes.tools());
        let outcome = outcome(command.spawn().unwrap()).await;
        self.town.desk.keeps_secrets(&outcome);
        outcome
    }
}

/// The built proxy, before a Redis with TLS, its admin port where every pod's leads.
async fn proxy(town: &Town) -> (Redis, Proxy) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_doks-harbor")).with_file_name("redis-tls-proxy");
    assert!(program.exists(), "build it first: cargo build -p redis-tls-proxy");
    let redis = Redis::start(&Authority::new().unwrap()).await.unwrap();
    let url = format!("rediss://localhost:{}", redis.port());
    let ca = redis.ca_file().display().to_string();
    let proxy = Proxy::start(program, &["run", &url, "--ca-file", &ca, "--pool", "multiplex"], &[]).await.unwrap();
    town.kubernetes.forward(9090, proxy.admin().port()).unwrap();
    (redis, proxy)
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, docker-registry and skopeo: make test-cluster"]
async fn from_one_token_to_a_harbor_that_works_and_what_is_said_when_it_does_not() {
    let journey = Journey::begin("journey").await;
    let (_redis, _proxy) = proxy(&journey.town).await;

    let plan = journey.run(PLAN).await.ends_with(2);
    assert!(plan.stdout.contains("+ release harbor, chart 1.18.3: install"), "{}", plan.stdout);
    let apply = &["apply", "--yes", "--poll", "10ms", "--until", "harbor", "--chart", "chart", "--harbor-timeout", "4m"];
    let applied = journey.run(apply).await.ends_with(0);
    for words in ["ready on 3 nodes", "Harbor 1.18.3: all", "components are healthy", "https://harbor.journey.svc", "harbor-admin-password"]
    {
        assert!(applied.stdout.contains(words), "{words}: {}\n{}", applied.stdout, applied.stderr);
    }

    // Nothing is left to do, and nothing is written.
    let (before, versions) = (journey.town.writes().len(), journey.town.versions());
    journey.run(PLAN).await.ends_with(0);
    journey.run(apply).await.ends_with(0);
    assert_eq!(journey.town.writes().len(), before, "{:#?}", journey.town.writes());
    assert_eq!(journey.town.versions(), versions);

    let status = journey.run(&["status"]).await.ends_with(0);
    for words in [
        "Proxy: ready on 3 of 3 nodes",
        "workers-0",
        "multiplex",
        "days",
        "harbor-1.18.3 deployed (Harbor 2.14.3)",
        "jobservice",
        "as the spec says",
    ] {
        assert!(status.stdout.contains(words), "{words}: {}", status.stdout);
    }
    let doctor = journey.run(&["doctor"]).await.ends_with(0);
    assert!(!doctor.stdout.contains('✗'), "{}", doctor.stdout);

    let smoke = journey.run(&["smoke"]).await.ends_with(0);
    assert!(smoke.stdout.contains("push") && smoke.stdout.contains("pull"), "{}", smoke.stdout);
    journey.harbor.world(|world| assert!(world.projects.is_empty() && world.robots.is_empty()));

    // On a machine that has no keyring, the cluster's does.
    let elsewhere = journey.town.desk.folder.path().join("elsewhere").display().to_string();
    journey.run(&["smoke", "--keyring", &elsewhere]).await.ends_with(0);
    assert!(!std::path::Path::new(&elsewhere).exists());

    // A login that pods pull with, and that ends: told when a third of its life is left.
    journey.run(&["pull-secret", "--all-projects", "--namespace", "default", "--days", "30"]).await.ends_with(0);
    let doctor = journey.run(&["doctor"]).await.ends_with(0);
    assert!(doctor.stdout.contains("1 in the cluster, none ends soon"), "{}", doctor.stdout);
    let soon = "doks-harbor/expires=2026-01-01T00:00:00Z";
    journey.town.kubernetes.kubectl(&["annotate", "--overwrite", "--namespace=default", "secret", "harbor-pull", soon], "").unwrap();
    let doctor = journey.run(&["doctor"]).await.ends_with(0);
    let cure = "doks-harbor pull-secret --namespace default --name harbor-pull --all-projects --days 30";
    assert!(
        doctor.stdout.contains("the login in default/harbor-pull ends at 2026-01-01") && doctor.stdout.contains(cure),
        "{}",
        doctor.stdout
    );

    // What goes wrong is said, by whom, and what to do.
    journey.harbor.world(|world| world.ails("redis", "dial tcp: connection refused"));
    let doctor = journey.run(&["doctor"]).await.ends_with(1);
    assert!(
        doctor.stdout.contains("redis (dial tcp: connection refused)") && doctor.stdout.contains("look at the proxies above"),
        "{}",
        doctor.stdout
    );
    let status = journey.run(&["status", "-o", "json"]).await.ends_with(1).json();
    assert_eq!(status["inside"]["health"]["status"], "unhealthy");
    assert_eq!(status["inside"]["proxies"]["pods"].as_array().unwrap().len(), 3);

    journey.town.kubectl(&["delete", "daemonset", "redis-tls-proxy"]);
    let doctor = journey.run(&["doctor"]).await.ends_with(1);
    assert!(doctor.stdout.contains("is not deployed"), "{}", doctor.stdout);

    // The end of it, in order.
    let kubeconfig = journey.town.kubernetes.kubeconfig().display().to_string();
    let refused = journey.run(&["destroy", "--proxy", "--kubeconfig", &kubeconfig]).await.ends_with(1);
    assert!(refused.stderr.contains("Harbor runs in the namespace journey (2 pods"), "{}", refused.stderr);
    assert!(refused.stdout.contains("stays the pull secrets default/harbor-pull"), "{}", refused.stdout);
    let gone = journey.run(&["destroy", "--harbor", "--proxy", "--kubeconfig", &kubeconfig]).await.ends_with(0);
    assert!(gone.stdout.contains("dies") && gone.stdout.contains("Done."), "{}", gone.stdout);
    let left = journey.town.kubectl(&["get", "all,secrets", "--output=name"]);
    assert_eq!(left.trim(), "secret/doks-harbor-keyring", "what Harbor's data cannot be read without stays as long as the data");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, docker-registry and skopeo: make test-cluster"]
async fn who_will_not_be_reached_hears_it_before_clients_do() {
    let town = Town::new("exposed").await;
    let spec = "harbor: {host: harbor.example.com, expose: ingress, ingress_class: exposed, tls_secret: harbor-tls}\n";
    town.spec(&format!("proxy: {{image: 'proxy:1'}}\n{spec}"));
    let preflight = async || town.desk.run(&["preflight", "--until", "harbor"]).await;
    let told = preflight().await.ends_with(0);
    for words in
        ["! there is no ingress class exposed", "! the Secret harbor-tls (harbor.tls_secret) is not there yet", "kubectl create secret tls"]
    {
        assert!(told.stdout.contains(words), "{words}: {}", told.stdout);
    }
    let class =
        r#"{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "exposed"}, "spec": {"controller": "x/y"}}"#;
    town.kubernetes.kubectl(&["apply", "--server-side", "--filename=-"], class).unwrap();
    town.kubernetes.kubectl(&["create", "namespace", "exposed"], "").unwrap();
    let put = |name: &str| {
        let files =
            Authority::new().unwrap().issue(&Leaf::server().names(&[name])).unwrap().write(town.desk.folder.path(), "site").unwrap();
        town.kubectl(&["delete", "secret", "harbor-tls", "--ignore-not-found"]);
        let (cert, key) = (format!("--cert={}", files.cert.display()), format!("--key={}", files.key.display()));
        town.kubectl(&["create", "secret", "tls", "harbor-tls", &cert, &key]);
    };
    put("other.example.com");
    let told = preflight().await.ends_with(3);
    assert!(told.stdout.contains("is for other.example.com, and not for harbor.example.com"), "{}", told.stdout);
    put("*.example.com");
    let told = preflight().await.ends_with(0);
    assert!(told.stdout.contains("✓ the ingress class exposed is there") && told.stdout.contains("ends in 36"), "{}", told.stdout);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, docker-registry and skopeo: make test-cluster"]
async fn without_helm_everything_else_is_done_and_the_command_is_told() {
    let town = Town::new("by-hand").await;
    let plan = town.desk.run(PLAN).await.ends_with(2);
    assert!(plan.stdout.contains("! helm is not installed"), "{}", plan.stdout);
    let told = town.desk.run(&["apply", "--yes", "--poll", "10ms", "--until", "harbor"]).await.ends_with(1);
    assert!(told.stderr.contains("everything but Harbor is done"), "{}", told.stderr);
    assert!(told.stderr.contains("helm upgrade --install harbor harbor --repo https://helm.goharbor.io --version"), "{}", told.stderr);
    assert!(told.stderr.contains("--values doks-harbor.out/harbor/values.yaml"), "{}", told.stderr);
    assert_eq!(town.object("daemonset", "redis-tls-proxy")["status"]["numberReady"], 3);
    let limit = Duration::from_secs(30);
    lab::until("the Lease is given back", limit, || town.object("lease", "doks-harbor").is_null()).await.unwrap();
}
