//! A pod of the DaemonSet: a network of its own, a read-only root with the volumes at their places, the program as a user without rights; and the
//! kubelet's part, its probes and its way to end it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Result;
use lab::netns::Machine;
use lab::process::{Process, Signal};
use lab::proxy::{Answer, request_over, sum};
use lab::until;
use tempfile::TempDir;

use super::template::{Probe, Template};

/// This machine stalls for seconds now and then, and that is not what is tested here.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pod {
    // Ends before its files go.
    process: Option<Process>,
    pub(crate) ip: Ipv4Addr,
    machine: Machine,
    /// `root`, and the log beside it.
    dir: TempDir,
}

/// What is mounted into every pod.
pub(crate) struct Volumes<'a> {
    pub(crate) config: &'a [(&'a str, String)],
    pub(crate) secret: &'a [(&'a str, String)],
    pub(crate) resolv_conf: &'a str,
}

impl Pod {
    /// Makes it; its container does not run yet.
    pub(crate) fn new(name: &str, node: &Machine, ip: Ipv4Addr, gateway: Ipv4Addr, template: &Template, volumes: &Volumes<'_>) -> Self {
        let machine = Machine::new(name).unwrap();
        machine.plug_into(Some(node), ip, gateway).unwrap();
        let dir = tempfile::Builder::new().prefix("lab-pod-").tempdir().unwrap();
        let pod = Self { process: None, ip, machine, dir };
        pod.fill(template, volumes);
        pod
    }

    /// The image's files stand for themselves but for the program's libraries, which a static one would not need.
    fn fill(&self, template: &Template, volumes: &Volumes<'_>) {
        let root = self.root();
        fs::create_dir(&root).unwrap();
        for dir in ["etc", "usr", "proc", "dev"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        for library in ["lib", "lib64"] {
            symlink(Path::new("usr").join(library), root.join(library)).unwrap();
        }
        fs::write(root.join("redis-tls-proxy"), "").unwrap();
        fs::write(root.join("etc/resolv.conf"), volumes.resolv_conf).unwrap();
        fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n{} pod\n", self.ip)).unwrap();
        for (volume, path) in &template.mounts {
            let (files, mode) = if volume == "config" { (volumes.config, 0o644) } else { (volumes.secret, template.secret_mode) };
            let folder = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(&folder).unwrap();
            for (name, content) in files {
                let file = folder.join(name);
                fs::write(&file, content).unwrap();
                chown(&file, Some(0), Some(u32::try_from(template.fs_group).unwrap())).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    /// Starts the container: for the first time, or again after its end.
    pub(crate) fn launch(&mut self, template: &Template) {
        const CONTAIN: &str = r#"root=$1 program=$2 user=$3 group=$4; shift 4
            mount --bind "$root" "$root"
            for dir in usr proc dev; do mount --rbind "/$dir" "$root/$dir"; done
            mount --bind "$program" "$root/redis-tls-proxy"
            mount -o remount,bind,ro "$root"
            exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$user" --groups "$group" --inh-caps=-all --bounding-set=-all \
                --no-new-privs -- /redis-tls-proxy "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-ec", CONTAIN, "sh"]).arg(self.root());
        command.arg(env!("CARGO_BIN_EXE_redis-tls-proxy")).arg(template.user.to_string()).arg(template.fs_group.to_string());
        command.args(&template.args);
        // The one thing that is not in the manifests: the lab's authority is no public one, and Valkey's would be.
        let authority = format!("{}/postgres-ca.crt", template.mounts["secret"]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("REDIS_TLS_PROXY_CA_FILE", authority);
        self.process = Some(Process::spawn("proxy", &self.machine.command(&command), self.dir.path()).unwrap());
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// One probe, as the kubelet of `node` does it: from the node, to the pod's address.
    pub(crate) async fn probe(&self, node: &Machine, probe: &Probe) -> Result<Answer> {
        let address = SocketAddr::from((self.ip, probe.port));
        let ask = async { request_over(node.connect(address, probe.timeout).await?, "GET", &probe.path, "").await };
        tokio::time::timeout(probe.timeout, ask).await?
    }

    /// Waits until a probe has this status.
    pub(crate) async fn probe_is(&self, node: &Machine, probe: &Probe, status: u16) {
        let has = async {
            while !self.probe(node, probe).await.is_ok_and(|answer| answer.status == status) {
                tokio::time::sleep(probe.period / 10).await;
            }
        };
        tokio::time::timeout(PATIENCE, has).await.unwrap_or_else(|_| panic!("{} is not {status}:\n{}", probe.path, self.log()));
    }

    /// Waits until its startup probe has succeeded, within what the probe allows, and then its readiness probe.
    pub(crate) async fn ready(&mut self, node: &Machine, template: &Template) {
        for probe in [&template.startup, &template.readiness] {
            let limit = if probe.path == template.startup.path {
                template.startup.period * u32::try_from(probe.failures).unwrap()
            } else {
                PATIENCE
            };
            let passed = tokio::time::timeout(limit, self.probe_is(node, probe, 200)).await;
            passed.unwrap_or_else(|_| panic!("{} does not succeed within {limit:?}:\n{}", probe.path, self.log()));
        }
        assert_eq!(self.probe(node, &template.liveness).await.unwrap().status, 200);
    }

    pub(crate) async fn metrics(&self, node: &Machine, template: &Template) -> String {
        let probe = Probe { path: "/metrics".to_owned(), port: template.ports["admin"], timeout: PATIENCE, period: PATIENCE, failures: 1 };
        self.probe(node, &probe).await.unwrap().ok().unwrap()
    }

    /// The sum of a metric's series.
    pub(crate) async fn metric(&self, node: &Machine, template: &Template, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.metrics(node, template).await;
        sum(&metrics, &format!("redis_tls_proxy_{name}"), labels).unwrap_or_else(|| panic!("no {name} {labels:?}:\n{metrics}"))
    }

    pub(crate) fn terminate(&mut self) {
        self.process().signal(Signal::TERM);
    }

    pub(crate) fn kill(&mut self) {
        self.process().signal(Signal::KILL);
    }

    /// Its exit status; fails when it takes longer than the pod may.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let status = self.process().wait_exit(limit).await.unwrap();
        self.process = None;
        status
    }

    pub(crate) async fn said(&self, what: &str) {
        until(what, PATIENCE, || self.log().contains(what)).await.unwrap();
    }

    pub(crate) fn log(&self) -> String {
        ["proxy.out", "proxy.err"].map(|file| fs::read_to_string(self.dir.path().join(file)).unwrap_or_default()).concat()
    }
}
