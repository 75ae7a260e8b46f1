//! Ceph's object gateway, which is what Spaces is: a monitor, one storage daemon that keeps everything in memory, and the gateway.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::OWNER;
use crate::ports::free_port;
use crate::process::{self, Launch, Process};

/// What has to be installed, and in which of Debian's packages it is.
const PROGRAMS: &[(&str, &str)] = &[
    ("ceph-mon", "ceph-mon"),
    ("monmaptool", "ceph-common"),
    ("ceph", "ceph-common"),
    ("ceph-osd", "ceph-osd"),
    ("radosgw", "radosgw"),
    ("radosgw-admin", "radosgw"),
];
/// The gateway makes its pools when it first starts; ten seconds on a machine that does nothing else.
const START: Duration = Duration::from_secs(300);
const ID: &str = "6b1b5b0e-9d0e-4ed5-8f0a-0c8e5ad52f01";

/// The running gateway with its daemons; killed when dropped, and also when the test crashes.
pub struct Ceph {
    dir: TempDir,
    port: u16,
    /// The gateway first: it is of no use without the others.
    _processes: [Process; 3],
}

impl Ceph {
    /// The Debian packages that are missing on this machine; none when it can be started.
    #[must_use]
    pub fn missing() -> Vec<&'static str> {
        let mut packages: Vec<_> = PROGRAMS.iter().filter(|(program, _)| process::find(program).is_none()).map(|(_, of)| *of).collect();
        packages.dedup();
        packages
    }

    /// An empty one, with a user ([`OWNER`]) who has no key.
    ///
    /// # Errors
    /// When a package is missing or a daemon does not start.
    pub async fn start() -> Result<Self> {
        let missing = Self::missing();
        if !missing.is_empty() {
            bail!("Ceph is not installed: run `apt-get install -y --no-install-recommends {}` (or `.ci/ceph`)", missing.join(" "));
        }
        let dir = tempfile::Builder::new().prefix("ceph").tempdir()?;
        let (monitor, port) = (free_port()?, free_port()?);
        configure(dir.path(), monitor, port)?;

        let map = path(dir.path(), "monmap");
        run(dir.path(), "monmaptool", &["--create", "--fsid", ID, "--addv", "a", &format!("[v2:127.0.0.1:{monitor}]"), &map]).await?;
        run(dir.path(), "ceph-mon", &["--mkfs", "-i", "a", "--monmap", &map]).await?;
        let mon = daemon(dir.path(), "ceph-mon", &["-i", "a"])?;
        run(dir.path(), "ceph", &["--connect-timeout", "120", "osd", "new", ID, "0"]).await?;
        run(dir.path(), "ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", ID]).await?;
        let osd = daemon(dir.path(), "ceph-osd", &["-i", "0"])?;
        let mut gateway = daemon(dir.path(), "radosgw", &["-n", "client.rgw"])?;
        gateway.ready(START, async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()).await?;

        let ceph = Self { dir, port, _processes: [gateway, osd, mon] };
        ceph.add_user(OWNER).await?;
        Ok(ceph)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a user, who owns the buckets that are made with their keys.
    ///
    /// # Errors
    /// When there is one already.
    pub async fn add_user(&self, user: &str) -> Result<()> {
        self.admin(&["user", "create", "--uid", user, "--display-name", user, "--gen-access-key=false"]).await
    }

    /// Makes a key of [`OWNER`] known, for everything.
    ///
    /// # Errors
    /// When the gateway's tool fails.
    pub async fn add_key(&self, access: &str, secret: &str) -> Result<()> {
        self.add_key_of(OWNER, access, secret).await
    }

    /// Makes a key of this user known, for everything.
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn add_key_of(&self, user: &str, access: &str, secret: &str) -> Result<()> {
        self.admin(&["key", "create", "--uid", user, "--key-type", "s3", "--access-key", access, "--secret-key", secret]).await
    }

    /// Makes a key of [`OWNER`] known that can only read.
    ///
    /// # Errors
    /// When the gateway's tool fails.
    pub async fn add_reader(&self, access: &str, secret: &str) -> Result<()> {
        let reader = format!("{OWNER}:{}", access.to_lowercase());
        self.admin(&["subuser", "create", "--uid", OWNER, "--subuser", &reader, "--access", "read"]).await?;
        self.admin(&["key", "create", "--subuser", &reader, "--key-type", "s3", "--access-key", access, "--secret-key", secret]).await
    }

    /// Forgets a key of [`OWNER`].
    ///
    /// # Errors
    /// When it was not known.
    pub async fn remove_key(&self, access: &str) -> Result<()> {
        self.admin(&["key", "rm", "--uid", OWNER, "--key-type", "s3", "--access-key", access]).await
    }

    async fn admin(&self, arguments: &[&str]) -> Result<()> {
        let arguments: Vec<_> = ["-n", "client.rgw"].iter().chain(arguments).copied().collect();
        run(self.dir.path(), "radosgw-admin", &arguments).await.map(drop)
    }
}

/// Loopback only, nothing on disk but the logs, no authentication among the daemons.
fn configure(dir: &Path, monitor: u16, port: u16) -> Result<()> {
    for folder in ["mon", "osd", "run", "rgw"] {
        fs::create_dir(dir.join(folder))?;
    }
    let shown = dir.display();
    let text = format!(
        "[global]
fsid = {ID}
mon host = [v2:127.0.0.1:{monitor}]
ms bind msgr1 = false
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
mon allow pool size one = true
mon max pg per osd = 1000
run dir = {shown}/run
admin socket = {shown}/run/$name.$pid.asok
pid file = {shown}/run/$name.pid
log file = {shown}/$name.log
mon cluster log file = {shown}/cluster.log
[mon.a]
mon data = {shown}/mon
public addr = 127.0.0.1
[osd.0]
osd data = {shown}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {shown}/rgw
# Its default is `secure`, which there is not without authentication: it would wait for ever.
ms mon client mode = crc
"
    );
    fs::write(dir.join("ceph.conf"), text).context("Ceph's configuration cannot be written")
}

/// In the foreground, so that it is a child of ours.
fn daemon(dir: &Path, program: &str, arguments: &[&str]) -> Result<Process> {
    Process::spawn(program, command(dir, program, arguments)?.arg("-f"), dir)
}

async fn run(dir: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let command = command(dir, program, arguments)?;
    tokio::task::spawn_blocking(move || process::run(&command, Launch::default(), "")).await?
}

fn command(dir: &Path, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(process::require(program, "ceph-common ceph-mon ceph-osd radosgw")?);
    command.args(arguments).env("CEPH_CONF", dir.join("ceph.conf")).env_remove("CEPH_ARGS").current_dir(dir);
    Ok(command)
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}
