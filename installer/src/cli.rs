//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod day_after;

pub use day_after::{Days, HarborLogin, Open, PullSecret, Reach, Runtime, Smoke, Trust};

/// Installs Harbor on DigitalOcean Kubernetes, behind redis-tls-proxy.
///
/// Provisions managed PostgreSQL, Valkey and a Spaces bucket for one DOKS cluster, runs the proxy on its nodes and installs Harbor with helm.
/// Needs one DigitalOcean token; keeps no state file: every run looks at what is there.
///
/// Begin with `doks-harbor init`, then `preflight`, `plan`, `apply`.
#[derive(Debug, Parser)]
#[command(name = "doks-harbor", version, arg_required_else_help = true, disable_help_subcommand = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 the plan has changes, 3 preflight failed, 4 timed out (run again), 64 bad arguments or \
                        spec, 130 Ctrl-C (run again)"
)]
pub struct Cli {
    /// Shared by all commands.
    #[command(flatten)]
    pub shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Shared by all commands.
#[derive(Debug, Args)]
pub struct Shared {
    /// What is wanted.
    #[arg(long, short = 'f', value_name = "FILE", default_value = "doks-harbor.yaml", global = true)]
    pub spec: PathBuf,
    /// The folder of secrets, for you alone.
    #[arg(long, value_name = "FOLDER", default_value = "doks-harbor.keyring", global = true)]
    pub keyring: PathBuf,
    /// Text for people, JSON for programs.
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Text, global = true)]
    pub output: Output,
    /// File with the DigitalOcean token. Else DIGITALOCEAN_TOKEN, DIGITALOCEAN_ACCESS_TOKEN, doctl's configuration.
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Context of doctl's configuration.
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Kubeconfig of the cluster. Without: credentials that DigitalOcean gives for an hour.
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME", requires = "kubeconfig", global = true)]
    pub kube_context: Option<String>,
    /// Another DigitalOcean API.
    #[arg(long, value_name = "URL", env = "DIGITALOCEAN_API_URL", default_value = "https://api.digitalocean.com", global = true)]
    pub api_url: String,
    /// Another S3 endpoint, for all regions.
    #[arg(long, value_name = "URL", env = "DOKS_HARBOR_SPACES_ENDPOINT", global = true)]
    pub spaces_endpoint: Option<String>,
    /// Show no progress.
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One document.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented doks-harbor.yaml.
    Init(Init),
    /// Look for everything that could go wrong, with its cure. Changes nothing.
    Preflight(Preflight),
    /// Show what would change, what it costs and how long it takes. Changes nothing; exit code 2 when there is something to do.
    Plan(Plan),
    /// Make it so: safe to interrupt, safe to run again.
    Apply(Apply),
    /// Show what is there now.
    Status(Status),
    /// Write the proxy's configuration, manifests and Harbor's values to a folder.
    Render(Render),
    /// Prove that Harbor works: push and pull a small image, run a garbage collection that deletes nothing.
    Smoke(Smoke),
    /// Make docker, containerd and podman trust this registry: print how, or write the files.
    Trust(Trust),
    /// Create or update the Secret with which pods pull images.
    PullSecret(PullSecret),
    /// Reach Harbor's web pages through the cluster's API.
    Open(Open),
    /// Find what is wrong, with its cure. Changes nothing.
    Doctor(Doctor),
    /// Change a secret.
    Rotate(Rotate),
    /// Show what would be deleted and what stays; delete what is named.
    Destroy(Destroy),
    /// What the Job in the cluster runs.
    #[command(hide = true)]
    Database(Database),
    /// Print a script for the shell.
    Completions {
        /// For this one.
        shell: Shell,
    },
}

/// Of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Name or id of the DOKS cluster. Without: the token's only one.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The name that docker will use, reached through an ingress.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Overwrite the file.
    #[arg(long)]
    pub force: bool,
}

/// Of `preflight`.
#[derive(Debug, Args)]
pub struct Preflight {
    /// How far `apply` is to go.
    #[arg(long, value_enum, value_name = "PHASE", default_value_t = Until::Harbor)]
    pub until: Until,
}

/// Of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// How far to go.
    #[arg(long, value_enum, value_name = "PHASE", default_value_t = Until::Harbor)]
    pub until: Until,
}

/// Of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// How long a database may take.
    #[arg(long, value_name = "DURATION", default_value = "45m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Between two looks at something that takes its time.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub poll: Duration,
    /// Where the rendered files go.
    #[arg(long, value_name = "FOLDER", default_value = "doks-harbor.out")]
    pub out: PathBuf,
    /// How far to go.
    #[arg(long, value_enum, value_name = "PHASE", default_value_t = Until::Harbor)]
    pub until: Until,
    /// How long the proxy may make no progress on its way to every node.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub rollout: Duration,
    /// Harbor's chart as a folder or an archive on this machine, in place of its repository.
    #[arg(long, value_name = "PATH")]
    pub chart: Option<PathBuf>,
    /// How long helm may wait for Harbor.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = humantime::parse_duration)]
    pub harbor_timeout: Duration,
}

/// How far `apply` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Until {
    /// The cluster itself is left alone: what DigitalOcean provides, and the rendered files.
    Cloud,
    /// Also the proxy in the cluster.
    Proxy,
    /// Also Harbor.
    Harbor,
}

/// Of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// What DigitalOcean provides alone: needs no way into the cluster.
    #[arg(long)]
    pub cloud: bool,
}

/// Of `database`.
#[derive(Debug, Args)]
pub struct Database {
    /// The proxy's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The administrator of PostgreSQL.
    #[arg(long, value_name = "USER", default_value = "doadmin")]
    pub admin: String,
    /// File with the administrator's password.
    #[arg(long, value_name = "FILE")]
    pub admin_password_file: PathBuf,
    /// How long servers may be out of reach.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Also write the outcome here: what is left of a container.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// What DigitalOcean provides alone: needs no way into the cluster.
    #[arg(long)]
    pub cloud: bool,
    /// Again and again, until Ctrl-C.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Between two looks.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub every: Duration,
}

/// Of `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// Facts of a former run, in place of a look at DigitalOcean.
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// For what.
    #[arg(long, value_enum, default_value_t = Target::Helm)]
    pub target: Target,
    /// Where the files go.
    #[arg(long, value_name = "FOLDER", default_value = "doks-harbor.out")]
    pub out: PathBuf,
    /// Of `--target local`: where Redis clients connect. Without: 127.0.0.1:6379.
    #[arg(long, value_name = "ADDR")]
    pub redis_listen: Option<String>,
    /// Of `--target local`: where PostgreSQL clients connect. Without: 127.0.0.1:5432.
    #[arg(long, value_name = "ADDR")]
    pub postgres_listen: Option<String>,
}

/// What is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Harbor's Helm chart on DOKS.
    Helm,
    /// Harbor's own docker-compose installer.
    Compose,
    /// A proxy on this machine, with the keyring's own files: for a look with psql or redis-cli.
    Local,
}

/// Of `rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Which one.
    #[arg(value_enum)]
    pub secret: Secret,
    /// Second half of `spaces`: delete the old key, once Harbor uses the new one.
    #[arg(long)]
    pub finish: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Of `admin`: the https URL at which Harbor answers.
    #[arg(long, value_name = "URL")]
    pub harbor: Option<String>,
    /// Leave the cluster as it is: its Secrets are made by hand.
    #[arg(long)]
    pub cloud_only: bool,
}

/// A secret that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Secret {
    /// Of Harbor's user in PostgreSQL.
    Pg,
    /// Of Valkey: changed in the control panel, taken over here.
    Valkey,
    /// The bucket's key: a new one first, the old one last.
    Spaces,
    /// Of Harbor's user admin.
    Admin,
}

/// Of `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Take Harbor's release away, with helm. Its images and tables stay.
    #[arg(long, conflicts_with = "cloud_only")]
    pub harbor: bool,
    /// Take the proxy away, with all that is only for it.
    #[arg(long, conflicts_with = "cloud_only")]
    pub proxy: bool,
    /// Leave the cluster as it is, also when Harbor may be running there: it is gone, or looked after by others.
    #[arg(long)]
    pub cloud_only: bool,
    /// Delete the databases, and everything in them.
    #[arg(long)]
    pub databases: bool,
    /// Delete the bucket, and every image in it.
    #[arg(long)]
    pub bucket: bool,
    /// In place of typing it: the name of a thing that is to be deleted. Once for each.
    #[arg(long, value_name = "NAME")]
    pub confirm: Vec<String>,
    /// How long it may take until names are free.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Between two looks.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub poll: Duration,
}
