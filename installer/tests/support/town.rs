//! A desk whose DOKS cluster is a real Kubernetes API: one for all tests of a program, a namespace for each.

use std::sync::{Arc, Weak};

use lab::digitalocean::{Builder, CLUSTER, CLUSTER_NAME, Cluster, Fake, REGION, VPC};
use lab::kubernetes::{Kubernetes, Nodes};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Desk, Outcome};

/// Gone with the last test that uses it.
static SHARED: Mutex<Weak<Kubernetes>> = Mutex::const_new(Weak::new());

/// Where one user sits, and the cluster.
pub(crate) struct Town {
    pub(crate) desk: Desk,
    pub(crate) kubernetes: Arc<Kubernetes>,
    pub(crate) namespace: String,
}

/// The id of the only pool of the fake's cluster.
pub(crate) fn pool_id() -> String {
    Cluster::new(CLUSTER, CLUSTER_NAME, REGION, VPC).pool_id("workers")
}

impl Town {
    /// With three nodes, an image that works, and a namespace that is not there yet.
    pub(crate) async fn new(namespace: &str) -> Self {
        Self::with(namespace, Fake::builder(), "proxy: {image: 'proxy:1'}\n").await
    }

    /// In this account, with these lines in the spec.
    pub(crate) async fn with(namespace: &str, builder: Builder, spec: &str) -> Self {
        let kubernetes = shared().await;
        let builder = builder.kubernetes(&kubernetes.server(), kubernetes.ca_pem(), kubernetes.token());
        let desk = Desk::with(builder, &format!("namespace: {namespace}\n{spec}")).await;
        Self { desk, kubernetes, namespace: namespace.to_owned() }
    }

    /// Another spec.
    pub(crate) fn spec(&self, lines: &str) {
        self.desk.spec(&format!("namespace: {}\n{lines}", self.namespace));
    }

    /// `apply`, as far as the proxy.
    pub(crate) async fn apply(&self) -> Outcome {
        self.desk.run(APPLY).await
    }

    /// `plan`, as far as the proxy.
    pub(crate) async fn plan(&self) -> Outcome {
        self.desk.run(&["plan", "--until", "proxy"]).await
    }

    /// kubectl in the namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubernetes.kubectl(&[&["--namespace", self.namespace.as_str()], arguments].concat(), "").unwrap()
    }

    /// An object of the namespace; `Null` where there is none.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.kubectl(&["get", kind, name, "--ignore-not-found", "--show-managed-fields", "--output=json"]);
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// Every object of the namespace with its version.
    pub(crate) fn versions(&self) -> String {
        let kinds = "secrets,configmaps,services,daemonsets,networkpolicies,jobs,leases,pods,serviceaccounts,poddisruptionbudgets";
        let columns = "--output=custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
        self.kubectl(&["get", kinds, columns])
    }

    /// What we have written into the namespace so far: dry runs are not among it.
    pub(crate) fn writes(&self) -> Vec<String> {
        let text = |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ours = self.kubernetes.audit().unwrap().into_iter().filter(|event| {
            let uri = text(event, "/requestURI");
            let agent = text(event, "/userAgent");
            text(event, "/objectRef/namespace") == self.namespace
                && text(event, "/user/username") == "administrator"
                && !agent.starts_with("kubectl")
                && !agent.starts_with("kube-")
                && !agent.starts_with("kwok")
                && !uri.contains("dryRun=All")
                && !uri.contains("selfsubjectaccessreviews")
        });
        ours.map(|event| format!("{} {}", text(&event, "/verb"), text(&event, "/requestURI"))).collect()
    }
}

pub(crate) const APPLY: &[&str] = &["apply", "--yes", "--poll", "10ms", "--until", "proxy"];

async fn shared() -> Arc<Kubernetes> {
    let mut shared = SHARED.lock().await;
    if let Some(there) = shared.upgrade() {
        return there;
    }
    let new = Arc::new(Kubernetes::start().await.unwrap());
    new.add(Nodes { pool: "workers", pool_id: &pool_id(), count: 3 }).await.unwrap();
    *shared = Arc::downgrade(&new);
    new
}
