//! A name that moves: a program sees its own `/etc/hosts`, which the test edits while it runs.
//!
//! Managed databases fail over by changing a DNS record. Programs resolve through getaddrinfo, which cannot be pointed at a private DNS server
//! without touching the machine's resolver; a private mount namespace with another hosts file does the same for one process tree.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::process::is_root;

/// The file never changes its size, so that a reader in the middle of an edit never sees half of it.
const FILE_BYTES: usize = 4096;

/// A private hosts file.
pub struct Hosts {
    dir: TempDir,
    entries: Mutex<Entries>,
}

struct Entries {
    file: File,
    /// What each name points at.
    names: Vec<(String, Vec<IpAddr>)>,
}

impl Hosts {
    /// A private hosts file with `localhost` in it; `None` where the machine does not allow private mounts (needs root or unprivileged user
    /// namespaces): say so and skip the test.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new() -> Result<Option<Self>> {
        let dir = tempfile::Builder::new().prefix("lab-hosts-").tempdir()?;
        fs::write(dir.path().join("nsswitch.conf"), "hosts: files\npasswd: files\ngroup: files\n")?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(dir.path().join("hosts"))?;
        let hosts = Self { dir, entries: Mutex::new(Entries { file, names: Vec::new() }) };
        hosts.set("localhost", &[IpAddr::from([127, 0, 0, 1])])?;
        let probe = hosts.command(&Command::new("true")).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(probe.is_ok_and(|status| status.success()).then_some(hosts))
    }

    /// Points `name` at these addresses from now on; at none: the name does not exist.
    ///
    /// # Errors
    /// When the file cannot be written or is full.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.names.retain(|(known, _)| known != name);
        entries.names.push((name.to_owned(), addresses.to_vec()));
        let lines = entries.names.iter().flat_map(|(name, ips)| ips.iter().map(move |ip| format!("{ip} {name}\n")));
        let mut content = lines.collect::<String>().into_bytes();
        if content.len() > FILE_BYTES {
            bail!("too many names for the private hosts file");
        }
        content.resize(FILE_BYTES, b'\n');
        // In place, in one write: the mount shows this file, not one that takes its name.
        entries.file.seek(SeekFrom::Start(0))?;
        Ok(entries.file.write_all(&content)?)
    }

    /// The same command, seeing the private file as `/etc/hosts`. Its process id is that of the program itself.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        // sh gives way to the program, so that signals reach it.
        const MOUNT: &str = r#"mount --bind "$1/hosts" /etc/hosts && { [ ! -e /etc/nsswitch.conf ] || mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf; } && shift && exec "$@""#;
        let mut wrapped = Command::new("unshare");
        wrapped.args(if is_root() { &["--mount"][..] } else { &["--map-root-user", "--mount"] });
        wrapped.args(["--propagation", "private", "--", "sh", "-c", MOUNT, "sh"]);
        wrapped.arg(self.dir()).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}
