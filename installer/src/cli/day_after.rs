//! Arguments of what talks to Harbor itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// How Harbor is reached.
#[derive(Debug, Args)]
pub struct Reach {
    /// Where Harbor answers. Without: at the host of the spec, or through the cluster's API when it has none.
    #[arg(long, value_name = "URL")]
    pub harbor: Option<String>,
    /// The authority (CA, PEM) of Harbor's certificate. Without: public ones, and the one that the cluster tells.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Through the cluster's API (a port-forward), also when the spec has a host.
    #[arg(long, conflicts_with = "harbor")]
    pub forward: bool,
}

/// Who asks Harbor.
#[derive(Debug, Args)]
pub struct HarborLogin {
    /// A user of Harbor's. Without: admin, with the keyring's password.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File with the user's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Of `smoke`.
#[derive(Debug, Args)]
pub struct Smoke {
    /// How Harbor is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Who asks.
    #[command(flatten)]
    pub login: HarborLogin,
    /// Leave the project and its image there, for a look.
    #[arg(long)]
    pub keep: bool,
    /// How long the garbage collection may take.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// Of `trust`.
#[derive(Debug, Args)]
pub struct Trust {
    /// How Harbor is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Write the files for these, in place of printing how.
    #[arg(long, value_enum, value_name = "PROGRAM", num_args = 0..=1, default_missing_value = "all")]
    pub write: Option<Runtime>,
    /// Write below this folder as if it were the root: an image, another machine's disk.
    #[arg(long, value_name = "FOLDER", requires = "write", conflicts_with = "user")]
    pub root: Option<PathBuf>,
    /// Only for you (podman, skopeo, rootless docker), below your home; needs no root.
    #[arg(long, requires = "write")]
    pub user: bool,
    /// Overwrite files that are somebody else's.
    #[arg(long, requires = "write")]
    pub force: bool,
}

/// What pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd: Kubernetes' nodes, nerdctl.
    Containerd,
    /// podman, skopeo, buildah, CRI-O.
    Podman,
    /// All of them.
    All,
}

/// Of `pull-secret`.
#[derive(Debug, Args)]
pub struct PullSecret {
    /// How Harbor is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Who asks.
    #[command(flatten)]
    pub login: HarborLogin,
    /// May be pulled from. Once for each project.
    #[arg(long, value_name = "NAME", required_unless_present = "all_projects")]
    pub project: Vec<String>,
    /// All projects that are and will be.
    #[arg(long, conflicts_with = "project")]
    pub all_projects: bool,
    /// Where pods pull; must exist. Once for each namespace.
    #[arg(long, short = 'n', value_name = "NAME", required_unless_present = "out")]
    pub namespace: Vec<String>,
    /// The Secret's name.
    #[arg(long, value_name = "NAME", default_value = "harbor-pull")]
    pub name: String,
    /// Let pods of this service account pull without saying so (`default`: all pods that name none). Once for each.
    #[arg(long, value_name = "NAME", requires = "namespace")]
    pub service_account: Vec<String>,
    /// How long the robot account lives: days, or `never`.
    #[arg(long, value_name = "N|never", default_value = "never", value_parser = days)]
    pub days: Days,
    /// A new robot account, also when the old one works.
    #[arg(long)]
    pub rotate: bool,
    /// In place of the cluster: the credentials to this file (0600), as docker and podman read it; `-` for standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "namespace")]
    pub out: Option<PathBuf>,
}

/// A life in days, or without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub Option<u32>);

fn days(text: &str) -> Result<Days, String> {
    match text {
        "never" => Ok(Days(None)),
        number => match number.parse() {
            Ok(days @ 1..=36_500) => Ok(Days(Some(days))),
            _ => Err("say a number of days from 1 on, or never".to_owned()),
        },
    }
}

/// Of `open`.
#[derive(Debug, Args)]
pub struct Open {
    /// Through the cluster's API, also when the spec has a host.
    #[arg(long)]
    pub forward: bool,
    /// The port on this machine.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub port: u16,
    /// Also start the browser.
    #[arg(long)]
    pub browser: bool,
}
