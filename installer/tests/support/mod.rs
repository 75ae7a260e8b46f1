//! The built program, a folder of its own, and a cloud that it takes for DigitalOcean.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests; not each test uses all")]

#[path = "../outcome/mod.rs"]
mod outcome;
pub(crate) mod town;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use lab::Authority;
use lab::cloud::Cloud;
use lab::digitalocean::{Builder, CLUSTER_NAME, Fake};
pub(crate) use outcome::{Outcome, outcome};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Of the databases' certificates.
static AUTHORITY: OnceLock<String> = OnceLock::new();

/// Where one user sits.
pub(crate) struct Desk {
    pub(crate) cloud: Cloud,
    pub(crate) folder: TempDir,
    /// In place of the fake's own URL: somebody who listens in between.
    pub(crate) api: Option<String>,
}

/// What is there when all is done: the account, and the buckets with their objects and whether they have a lifecycle.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) state: serde_json::Value,
    pub(crate) buckets: Vec<(String, Vec<String>, bool)>,
}

impl Desk {
    /// With a spec for the fake's cluster and nothing else in it.
    pub(crate) async fn new() -> Self {
        Self::with(Fake::builder(), "").await
    }

    /// In this account, and with these lines in the spec.
    pub(crate) async fn with(builder: Builder, spec: &str) -> Self {
        let pem = AUTHORITY.get_or_init(|| Authority::new().unwrap().ca_pem());
        let builder = builder.ca("pg", pem).ca("valkey", pem);
        let desk = Self { cloud: Cloud::with(builder).await.unwrap(), folder: tempfile::tempdir().unwrap(), api: None };
        desk.spec(spec);
        desk
    }

    /// Another spec.
    pub(crate) fn spec(&self, lines: &str) {
        std::fs::write(self.path("doks-harbor.yaml"), format!("cluster: {CLUSTER_NAME}\n{lines}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Every file below the folder, with its text.
    pub(crate) fn files(&self) -> Vec<(PathBuf, String)> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.clone(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
                }
            }
        }
        files
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doks-harbor"));
        let mut cloud = self.cloud.arguments();
        if let Some(api) = &self.api {
            cloud[1].clone_from(api);
        }
        command.args(arguments).args(alone(arguments)).args(cloud).current_dir(self.folder.path()).env_clear();
        command.env("DIGITALOCEAN_TOKEN", self.cloud.api.token()).env("PATH", "/nowhere").env("HOME", self.folder.path());
        // Whatever may be told by whoever asks for everything.
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = outcome(self.start(arguments)).await;
        self.keeps_secrets(&outcome);
        outcome
    }

    /// With `-o json`: what is on standard output is one document, whatever happened.
    pub(crate) async fn json(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        let outcome = self.run(&[arguments, &["-o", "json"]].concat()).await.ends_with(code);
        outcome.json()
    }

    /// The passwords and keys that the account knows now.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.cloud.api.world(|world| {
            let users = world.databases.iter().flat_map(|database| database.users.iter().map(|user| user.password.clone()));
            let keys = world.keys.iter().map(|key| key.secret_key.clone());
            users.chain(keys).chain([self.cloud.api.token().to_owned()]).collect()
        })
    }

    /// None of them is in what was said, or in any file outside of keyrings.
    #[track_caller]
    pub(crate) fn keeps_secrets(&self, outcome: &Outcome) {
        let kept = |name: &str| self.path(name);
        let keyrings = [kept("doks-harbor.keyring"), kept("elsewhere"), kept("own")];
        let files: Vec<_> =
            self.files().into_iter().filter(|(path, _)| !keyrings.iter().any(|keyring| path.starts_with(keyring))).collect();
        for secret in self.secrets() {
            assert!(!outcome.stdout.contains(&secret) && !outcome.stderr.contains(&secret), "a secret is told: {outcome:?}");
            let holder = files.iter().find(|(_, text)| text.contains(&secret));
            assert!(holder.is_none(), "{:?} holds a secret", holder.map(|(path, _)| path));
        }
    }

    /// All that is left at the end, without what differs from run to run.
    pub(crate) fn end(&self) -> End {
        // Names of keys hold the keyring's id.
        let id = self.read("doks-harbor.keyring/.id");
        let state = serde_json::from_str(&self.cloud.api.snapshot().to_string().replace(&id, "KEYRING")).unwrap();
        let buckets = self.cloud.s3.snapshot().buckets.into_iter();
        let buckets = buckets.map(|(name, bucket)| (name, bucket.objects.into_keys().collect(), bucket.lifecycle.is_some())).collect();
        End { state, buckets }
    }

    /// A plan has nothing to do and does nothing.
    pub(crate) async fn is_finished(&self) {
        let mutations = self.cloud.api.mutations();
        self.run(&["plan"]).await.ends_with(0);
        assert_eq!(self.cloud.api.mutations(), mutations);
    }

    /// `apply` as tests want it: unasked and quick.
    pub(crate) async fn apply(&self) -> Outcome {
        self.run(APPLY).await
    }
}

pub(crate) const APPLY: &[&str] = &["apply", "--yes", "--poll", "10ms"];

/// Without Kubernetes: the cluster is left alone. Tests that have one say how far to go.
fn alone(arguments: &[&str]) -> &'static [&'static str] {
    match arguments.first() {
        Some(&"preflight" | &"plan" | &"apply") if !arguments.contains(&"--until") => &["--until", "cloud"],
        Some(&"rotate" | &"destroy") if !arguments.contains(&"--kubeconfig") => &["--cloud-only"],
        _ => &[],
    }
}

/// Whether a file of this name is below the folder.
pub(crate) fn exists(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}
