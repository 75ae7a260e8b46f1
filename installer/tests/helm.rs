//! Harbor by helm: the real program, a real API server, and a small chart that calls itself harbor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use doks_harbor::apply::harbor::{self, Harbor};
use doks_harbor::apply::is_late;
use doks_harbor::cluster::{Access, Cluster};
use doks_harbor::helm::{Change, Chart, Helm};
use doks_harbor::progress::Progress;
use doks_harbor::spec::Spec;
use lab::kubernetes::{Kubernetes, Nodes};
use serde_json::Value;
use tempfile::TempDir;

/// For what should happen.
const LONG: Duration = Duration::from_secs(240);

const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-core"}
spec:
  replicas: {{ .Values.core.replicas }}
  selector: {matchLabels: {release: "{{ .Release.Name }}", component: core}}
  template:
    metadata: {labels: {release: "{{ .Release.Name }}", component: core}}
    spec: {containers: [{name: core, image: "{{ .Values.image }}"}]}
"#;

struct Desk {
    kubernetes: Kubernetes,
    cluster: Cluster,
    helm: Helm,
    spec: Spec,
    progress: Progress,
    folder: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let kubernetes = Kubernetes::start().await.unwrap();
        kubernetes.add(Nodes { pool: "default", pool_id: "11111111-1111-4111-8111-111111111111", count: 2 }).await.unwrap();
        kubernetes.kubectl(&["create", "namespace", "harbor"], "").unwrap();
        let access = Access::file(&kubernetes.kubeconfig(), None).await.unwrap();
        let cluster = Cluster::new(access, "harbor").unwrap();
        let helm = Helm::at(&kubernetes.tools().join("helm"), &cluster).await.unwrap();
        let spec = Spec::read("cluster: x\nharbor: {chart: 1.18.3}").unwrap();
        Self { kubernetes, cluster, helm, spec, progress: Progress::new(true), folder: tempfile::tempdir().unwrap() }
    }

    /// A chart of this version, in a folder of its own.
    fn chart(&self, name: &str, version: &str) -> Chart {
        let folder = self.folder.path().join(format!("{name}-{version}"));
        std::fs::create_dir_all(folder.join("templates")).unwrap();
        std::fs::write(folder.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: 2.14.3\n"))
            .unwrap();
        std::fs::write(folder.join("values.yaml"), "core: {replicas: 1}\nimage: good\n").unwrap();
        std::fs::write(folder.join("templates/core.yaml"), DEPLOYMENT).unwrap();
        Chart::File(folder)
    }

    fn values(&self, name: &str, text: &str) -> PathBuf {
        let path: PathBuf = Path::new(self.folder.path()).join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What would change, with these values.
    async fn look(&self, values: &str) -> anyhow::Result<Option<Change>> {
        let values: Value = serde_saphyr::from_str(&format!("harborAdminPassword: not to be told\n{values}")).unwrap();
        harbor::look(&self.helm, &self.spec, &values).await
    }

    fn harbor(&self, chart: Chart, values: &str, patience: Duration) -> Harbor<'_> {
        let files = vec![self.values("values.yaml", values), self.values("secret.yaml", "harborAdminPassword: not to be told\n")];
        let (cluster, helm, spec, progress) = (&self.cluster, &self.helm, &self.spec, &self.progress);
        Harbor { cluster, helm, spec, chart, values: files, progress, patience }
    }
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn harbor_is_installed_left_alone_changed_and_upgraded() {
    let mut desk = Desk::new().await;
    let chart = desk.chart("harbor", "1.18.3");
    let harbor = desk.harbor(chart.clone(), "core: {replicas: 2}\n", LONG);
    assert_eq!(desk.look("core: {replicas: 2}").await.unwrap(), Some(Change::Install));
    harbor.converge().await.unwrap();
    let ready = ["get", "deployment", "--namespace=harbor", "harbor-core", "--output=jsonpath={.status.readyReplicas}"];
    assert_eq!(desk.kubernetes.kubectl(&ready, "").unwrap(), "2", "it was waited for");

    assert_eq!(desk.look("core: {replicas: 2}").await.unwrap(), None, "there is nothing left to do");
    let before = desk.kubernetes.audit().unwrap().len();
    assert_eq!(desk.look("core: {replicas: 2}").await.unwrap(), None);
    assert!(
        desk.kubernetes
            .audit()
            .unwrap()
            .iter()
            .skip(before)
            .all(|event| event["userAgent"].as_str().is_none_or(|agent| !agent.contains("helm")))
    );

    let changed = desk.harbor(chart.clone(), "core: {replicas: 3}\n", LONG);
    assert_eq!(desk.look("core: {replicas: 3}").await.unwrap(), Some(Change::Values { keys: vec!["core.replicas".into()] }));
    changed.converge().await.unwrap();
    assert_eq!(desk.kubernetes.kubectl(&ready, "").unwrap(), "3");

    // The next chart; and a chart that is not the one that the values are for.
    desk.spec = Spec::read("cluster: x\nharbor: {chart: 1.19.1}").unwrap();
    let wrong = desk.harbor(chart, "core: {replicas: 3}\n", LONG).converge().await.unwrap_err().to_string();
    assert!(wrong.contains("is harbor 1.18.3, and the values are for harbor 1.19.1"), "{wrong}");
    let foreign = desk.harbor(desk.chart("nginx", "1.19.1"), "", LONG).converge().await.unwrap_err().to_string();
    assert!(foreign.contains("is nginx 1.19.1"), "{foreign}");
    let newer = desk.harbor(desk.chart("harbor", "1.19.1"), "core: {replicas: 3}\n", LONG);
    let change = desk.look("core: {replicas: 3}").await.unwrap().unwrap();
    assert_eq!(change, Change::Upgrade { from: "1.18.3".into(), to: "1.19.1".into(), keys: Vec::new() });
    newer.converge().await.unwrap();
    assert_eq!(desk.helm.release("harbor").await.unwrap().unwrap().chart, "harbor-1.19.1");
    // And never back.
    desk.spec = Spec::read("cluster: x\nharbor: {chart: 1.18.3}").unwrap();
    let back = desk.look("core: {replicas: 3}").await.unwrap_err().to_string();
    assert!(back.contains("forward only"), "{back}");

    desk.helm.uninstall("harbor", LONG).await.unwrap();
    assert_eq!(desk.helm.release("harbor").await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn what_it_waited_for_in_vain_is_told_and_the_next_run_goes_on() {
    let desk = Desk::new().await;
    let stuck = desk.harbor(desk.chart("harbor", "1.18.3"), "image: unpullable:1\n", Duration::from_secs(10));
    let error = stuck.converge().await.unwrap_err();
    assert!(is_late(&error), "{error:#}");
    let told = format!("{error:#}");
    assert!(told.contains("core 0/1") && told.contains("ImagePullBackOff"), "{told}");
    assert!(!told.contains("not to be told"), "{told}");

    let mended = desk.harbor(desk.chart("harbor", "1.18.3"), "image: good:1\n", LONG);
    assert!(desk.look("image: good:1").await.unwrap().is_some());
    mended.converge().await.unwrap();
    assert_eq!(desk.look("image: good:1").await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_run_that_is_stopped_leaves_a_release_that_can_be_gone_on_with() {
    let desk = Desk::new().await;
    let stuck = desk.harbor(desk.chart("harbor", "1.18.3"), "image: unpullable:1\n", LONG);
    let waits = ["get", "pods", "--namespace=harbor", "--output=jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"];
    tokio::select! {
        ended = stuck.converge() => panic!("{ended:?}"),
        waits = desk.kubernetes.until("its pod waits", &waits, |out| out == "ImagePullBackOff") => { waits.unwrap(); }
    }
    // Helm was told to stop, and says so in the cluster.
    let release = [
        "get",
        "secrets",
        "--namespace=harbor",
        "--selector=owner=helm,name=harbor",
        "--output=jsonpath={.items[*].metadata.labels.status}",
    ];
    desk.kubernetes.until("the release has failed", &release, |out| out == "failed").await.unwrap();
    let mended = desk.harbor(desk.chart("harbor", "1.18.3"), "image: good:1\n", LONG);
    mended.converge().await.unwrap();
    assert_eq!(desk.look("image: good:1").await.unwrap(), None);
}
