//! Somebody with the built program, a folder, and a Harbor that is there already.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests; not each test uses all")]

#[path = "../outcome/mod.rs"]
mod outcome;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use lab::harbor::Harbor;
pub(crate) use outcome::{Outcome, outcome};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

pub(crate) struct Visitor {
    pub(crate) harbor: Harbor,
    pub(crate) folder: TempDir,
}

impl Visitor {
    pub(crate) async fn new() -> Self {
        Self::at(Harbor::start().await.unwrap())
    }

    /// With the keyring that `apply` would have made.
    pub(crate) fn at(harbor: Harbor) -> Self {
        let visitor = Self { harbor, folder: tempfile::tempdir().unwrap() };
        std::fs::write(visitor.path("ca.pem"), visitor.harbor.ca_pem()).unwrap();
        let keyring = visitor.path("doks-harbor.keyring");
        std::fs::create_dir(&keyring).unwrap();
        std::fs::set_permissions(&keyring, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(keyring.join(".id"), "0123456789ab").unwrap();
        std::fs::write(keyring.join("harbor-admin-password"), lab::harbor::PASSWORD).unwrap();
        visitor
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// At this Harbor, with its authority.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.args(["--harbor", self.harbor.url(), "--ca-file", "ca.pem"]);
        command
    }

    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doks-harbor"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", "/nowhere").env("HOME", self.folder.path()).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = outcome(self.command(arguments).spawn().unwrap()).await;
        self.keeps_secrets(&outcome);
        outcome
    }

    /// With `-o json`: what is on standard output is one document, whatever happened.
    pub(crate) async fn json(&self, arguments: &[&str], code: i32) -> Value {
        self.run(&[arguments, &["-o", "json"]].concat()).await.ends_with(code).json()
    }

    /// None that Harbor knows is in what was said.
    #[track_caller]
    pub(crate) fn keeps_secrets(&self, outcome: &Outcome) {
        let secrets = self.harbor.world(|world| {
            let robots = world.robots.iter().map(|robot| robot.secret.clone());
            robots.chain([world.password.clone()]).collect::<Vec<_>>()
        });
        for secret in secrets {
            assert!(!outcome.stdout.contains(&secret) && !outcome.stderr.contains(&secret), "a secret is told: {outcome:?}");
        }
    }

    /// Nothing of ours is left in Harbor.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        self.harbor.world(|world| {
            assert!(world.projects.is_empty() && world.robots.is_empty(), "{:?} {:?}\n{:#?}", world.projects, world.robots, world.log);
        });
    }
}
