//! The built program, a folder of its own, and a cloud that it takes for DigitalOcean.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "helpers of tests; not each test uses all")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lab::cloud::Cloud;
use lab::digitalocean::{Builder, CLUSTER_NAME, Fake};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// For a whole run on a slow machine.
const LONG: Duration = Duration::from_secs(120);

/// Where one user sits.
pub(crate) struct Desk {
    pub(crate) cloud: Cloud,
    pub(crate) folder: TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl Desk {
    /// With a spec for the fake's cluster and nothing else in it.
    pub(crate) async fn new() -> Self {
        Self::with(Fake::builder(), "").await
    }

    /// In this account, and with these lines in the spec.
    pub(crate) async fn with(builder: Builder, spec: &str) -> Self {
        let desk = Self { cloud: Cloud::with(builder).await.unwrap(), folder: tempfile::tempdir().unwrap() };
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
        command.args(arguments).args(self.cloud.arguments()).current_dir(self.folder.path()).env_clear();
        command.env("DIGITALOCEAN_TOKEN", self.cloud.api.token()).env("PATH", "/nowhere").env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.start(arguments)).await
    }

    /// `apply` as tests want it: unasked and quick.
    pub(crate) async fn apply(&self) -> Outcome {
        self.run(APPLY).await
    }
}

pub(crate) const APPLY: &[&str] = &["apply", "--yes", "--poll", "10ms"];

pub(crate) async fn outcome(child: Child) -> Outcome {
    let output = timeout(LONG, child.wait_with_output()).await.expect("it does not end").unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether a file of this name is below the folder.
pub(crate) fn exists(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}
