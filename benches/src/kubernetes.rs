//! A real Kubernetes API: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, and KWOK, which plays the nodes and
//! their kubelets. What is written is stored, defaulted, validated and scheduled as on any cluster; containers do not run, but do what their
//! image says: one whose name holds `unpullable` or `crashing` never becomes ready, Jobs end well or, with `failing`, badly.
//!
//! The programs come from `.ci/cluster`, which builds them with Go from their published modules into a cache folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::certs::{Authority, Leaf, write_private};
use crate::ports::free_port;
use crate::process::{self, Launch, Process};
use crate::wait::until_some;

mod nodes;

pub use nodes::Nodes;

/// All of them are made by one script.
const PROGRAMS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl", "helm"];
/// A slow machine makes its hundreds of endpoints in half a minute.
const START: Duration = Duration::from_secs(240);
/// Of the cluster's administrator.
const TOKEN: &str = "lab-administrator";
/// Everything that changes something is written down; looks are not.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - {level: Metadata}
";

/// The running cluster; killed when dropped, and also when the test crashes.
pub struct Kubernetes {
    dir: TempDir,
    port: u16,
    ca: String,
    tools: PathBuf,
    /// In the order in which they are let go.
    _processes: Vec<Process>,
}

/// The folder of the programs, whether they are there or not: `$DOKS_HARBOR_CLUSTER_TOOLS/bin`, by default below `~/.cache`.
#[must_use]
pub fn tools() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache"))).unwrap_or_else(std::env::temp_dir);
    of("DOKS_HARBOR_CLUSTER_TOOLS").unwrap_or_else(|| cache().join("doks-harbor/cluster")).join("bin")
}

impl Kubernetes {
    /// The programs that are missing on this machine; none when it can be started.
    #[must_use]
    pub fn missing() -> Vec<&'static str> {
        PROGRAMS.iter().copied().filter(|program| !tools().join(program).is_file()).collect()
    }

    /// An empty cluster without nodes.
    ///
    /// # Errors
    /// When a program is missing or does not start; the text holds the end of its log.
    pub async fn start() -> Result<Self> {
        let missing = Self::missing();
        if !missing.is_empty() {
            bail!("{} not in {}: run .ci/cluster, which builds them with Go", missing.join(", "), tools().display());
        }
        let (dir, tools) = (tempfile::Builder::new().prefix("kubernetes").tempdir()?, tools());
        let (etcd_port, peer, port, kubelet) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let authority = Authority::new()?;
        let ca = prepare(dir.path(), &authority, port)?;
        nodes::prepare(dir.path(), kubelet)?;
        let start = |name: &str, arguments: &str| {
            let mut command = Command::new(tools.join(name));
            command.args(arguments.split_whitespace().map(|argument| argument.replace("DIR", &dir.path().display().to_string())));
            Process::spawn(name, command.current_dir(dir.path()), dir.path())
        };

        let etcd = start("etcd", &etcd(etcd_port, peer))?;
        let mut apiserver = start("kube-apiserver", &apiserver(etcd_port, port))?;
        let kubeconfig = dir.path().join("kubeconfig");
        let serves = async || kubectl(&tools, &kubeconfig, &["get", "--raw", "/readyz"], "").is_ok();
        apiserver.ready(START, serves).await?;
        install(&tools, &kubeconfig)?;
        let manager = start("kube-controller-manager", MANAGER)?;
        let scheduler = start("kube-scheduler", SCHEDULER)?;
        let kwok = start("kwok", &format!("{KWOK} --node-port={kubelet} --server-address=127.0.0.1:{kubelet}"))?;
        let cluster = Self { dir, port, ca, tools, _processes: vec![kwok, scheduler, manager, apiserver, etcd] };
        // Without it no pod is admitted in any namespace.
        cluster
            .until("the controller manager works", &["get", "serviceaccount", "default", "--output=name"], |out| !out.is_empty())
            .await?;
        Ok(cluster)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Of the administrator.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        TOKEN
    }

    /// The administrator's, as a file.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Where kubectl and helm are.
    #[must_use]
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// Runs kubectl as the administrator, with this on its standard input, and returns its output. Blocks.
    ///
    /// # Errors
    /// When it fails; the text ends with its standard error.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        kubectl(&self.tools, &self.kubeconfig(), arguments, input)
    }

    /// Waits until what kubectl says is as it should be.
    ///
    /// # Errors
    /// When it is not within four minutes; the text has what it said last.
    pub async fn until(&self, what: &str, arguments: &[&str], mut is_so: impl FnMut(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let waited = until_some(what, START, || {
            last = self.kubectl(arguments, "").unwrap_or_else(|error| error.to_string());
            std::future::ready(is_so(&last).then(|| last.clone()))
        });
        waited.await.with_context(|| format!("kubectl {}: {last}", arguments.join(" ")))
    }

    /// Every request so far that could change something, one JSON document each: `verb`, `user.username`, `userAgent`, `objectRef`,
    /// `requestURI`, `responseStatus.code`. Dry runs are among them: their `requestURI` says so.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<serde_json::Value>> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.log"))?;
        // The last line may be half written.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// The kinds with which tests tell KWOK what to do while it runs.
fn install(tools: &Path, kubeconfig: &Path) -> Result<()> {
    let crds = tools.with_file_name("crds");
    for kind in ["clusterportforwards", "clusterlogs"] {
        let file = crds.join(format!("kwok.x-k8s.io_{kind}.yaml")).display().to_string();
        kubectl(tools, kubeconfig, &["apply", "--server-side", "--filename", &file], "")?;
        let name = format!("crd/{kind}.kwok.x-k8s.io");
        kubectl(tools, kubeconfig, &["wait", "--for=condition=Established", "--timeout=120s", &name], "")?;
    }
    Ok(())
}

fn kubectl(tools: &Path, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(tools.join("kubectl"));
    command.arg(format!("--kubeconfig={}", kubeconfig.display())).args(arguments);
    process::run(&command, Launch::default(), input)
}

fn etcd(port: u16, peer: u16) -> String {
    format!(
        "--data-dir=DIR/etcd --listen-client-urls=http://127.0.0.1:{port} --advertise-client-urls=http://127.0.0.1:{port} \
         --listen-peer-urls=http://127.0.0.1:{peer} --initial-advertise-peer-urls=http://127.0.0.1:{peer} \
         --initial-cluster=default=http://127.0.0.1:{peer} --unsafe-no-fsync --log-level=warn"
    )
}

fn apiserver(etcd: u16, port: u16) -> String {
    format!(
        "--etcd-servers=http://127.0.0.1:{etcd} --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port={port} \
         --tls-cert-file=DIR/apiserver.crt --tls-private-key-file=DIR/apiserver.key --cert-dir=DIR/certs \
         --service-cluster-ip-range=10.0.0.0/16 --service-account-issuer=https://kubernetes.default.svc \
         --service-account-key-file=DIR/accounts.key --service-account-signing-key-file=DIR/accounts.key \
         --token-auth-file=DIR/tokens.csv --authorization-mode=RBAC --allow-privileged=true \
         --kubelet-preferred-address-types=InternalIP --endpoint-reconciler-type=none --profiling=false \
         --audit-policy-file=DIR/audit.yaml --audit-log-path=DIR/audit.log --audit-log-mode=blocking"
    )
}

/// A busy machine lets the heartbeats of hundreds of nodes wait, which makes none of them sick.
const MANAGER: &str = "--kubeconfig=DIR/kubeconfig --service-account-private-key-file=DIR/accounts.key --root-ca-file=DIR/ca.crt \
                       --leader-elect=false --secure-port=0 --allocate-node-cidrs=false --kube-api-qps=300 --kube-api-burst=600 \
                       --concurrent-serviceaccount-token-syncs=5 --node-monitor-grace-period=1h";
const SCHEDULER: &str = "--kubeconfig=DIR/kubeconfig --leader-elect=false --secure-port=0 --kube-api-qps=300 --kube-api-burst=600";
const KWOK: &str = "--kubeconfig=DIR/kubeconfig --manage-all-nodes --config=DIR/kwok.yaml --node-ip=127.0.0.1 --cidr=10.244.0.0/16 \
                    --tls-cert-file=DIR/apiserver.crt --tls-private-key-file=DIR/apiserver.key";

/// All files that the programs read; returns the authority's certificate.
fn prepare(dir: &Path, authority: &Authority, port: u16) -> Result<String> {
    authority.issue(&Leaf::server())?.write(dir, "apiserver")?;
    authority.issue(&Leaf::server().rsa())?.write(dir, "accounts")?;
    let ca = authority.ca_pem();
    std::fs::write(dir.join("ca.crt"), &ca)?;
    std::fs::write(dir.join("audit.yaml"), AUDIT)?;
    write_private(&dir.join("tokens.csv"), &format!("{TOKEN},administrator,administrator,system:masters\n"))?;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": {"server": format!("https://127.0.0.1:{port}"), "certificate-authority": dir.join("ca.crt")}}],
        "users": [{"name": "lab", "user": {"token": TOKEN}}],
    });
    write_private(&dir.join("kubeconfig"), &kubeconfig.to_string())?;
    Ok(ca)
}
