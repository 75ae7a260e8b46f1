//! Landlock: after the start, this process may only do what a proxy does.
//!
//! Reading is left for what the resolver, the process metrics and reloads need; writing for the directories of unix sockets, to remove them
//! at the end; nothing may be executed. TCP connections go to the configured upstream ports and to DNS, and nothing more is bound. Sockets
//! and files that are open already are not affected. UDP is not covered by the kernel, so DNS over it works.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

use crate::config::{ClientAuth, Config, ListenAddr, Password};

/// The newest version that this was tested with; on older kernels the crate asks for what they have.
const ABI_KNOWN: ABI = ABI::V6;

/// Name resolution (nsswitch, resolv.conf wherever it points, nss modules) and /proc for the process metrics.
const READ_ALWAYS: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/run",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/etc/resolv.conf",
];

/// DNS falls back to TCP for long answers.
const DNS_PORT: u16 = 53;

/// What stays allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Files, or directories with all below them, that may be read. Those that do not exist are skipped.
    pub read: BTreeSet<PathBuf>,
    /// Directories in which sockets may be made, renamed and removed.
    pub sockets: BTreeSet<PathBuf>,
    /// TCP ports that may be connected to, on any address.
    pub connect: BTreeSet<u16>,
}

/// How much of it the kernel enforces; shown as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// All of it.
    Fully,
    /// What an older kernel knows: before 6.7 no rule for TCP, for example.
    Partially,
    /// The kernel has no Landlock, or it is switched off.
    NotSupported,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fully => "fully",
            Self::Partially => "partially",
            Self::NotSupported => "not supported",
        })
    }
}

impl Allowed {
    /// What `config` needs: the directories of its files, which reloads read again, and its upstreams' ports. Looks at the file system to
    /// follow links.
    #[must_use]
    pub fn for_config(config: &Config) -> Self {
        let mut allowed = Self { read: READ_ALWAYS.iter().map(PathBuf::from).collect(), ..Self::default() };
        allowed.connect.insert(DNS_PORT);
        for listener in &config.listeners {
            allowed.connect.insert(listener.upstream.port);
            if let ListenAddr::Unix(path) = &listener.listen {
                allowed.sockets.insert(directory_of(path));
            }
            let upstream = &listener.upstream;
            let mut files: Vec<&Path> = upstream.tls.ca_file.iter().map(PathBuf::as_path).collect();
            if let Some((cert, key)) = &upstream.tls.client_cert {
                files.extend([cert.as_path(), key.as_path()]);
            }
            if let Some(tls) = &listener.listen_tls {
                files.extend([tls.cert.as_path(), tls.key.as_path()]);
                files.extend(tls.client_ca.as_deref());
            }
            files.extend(upstream.credentials.as_ref().and_then(|credentials| password_file(&credentials.password)));
            if let ClientAuth::Password(password) = &listener.client_auth {
                files.extend(password_file(password));
            }
            for file in files {
                allowed.read.extend(directories_of(file));
            }
        }
        allowed
    }
}

fn password_file(password: &Password) -> Option<&Path> {
    match password {
        Password::Inline(_) => None,
        Password::File(path) => Some(path),
    }
}

/// The directory of a path; `.` for a bare name.
fn directory_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Every directory that must be readable for `file` to be readable now *and after it was replaced*.
///
/// A rule is bound to the directory itself, not to its name. Editors and certbot rename a new file over the old one: its directory will do.
/// Kubernetes keeps the files in `..2026_01_01/`, links `..data` to it, and on an update makes a new directory and a new link: so where a
/// component is a link into its own surroundings, the directory that holds the link is needed.
fn directories_of(file: &Path) -> BTreeSet<PathBuf> {
    let mut needed = BTreeSet::from([directory_of(file)]);
    if let Ok(real) = file.canonicalize() {
        needed.insert(directory_of(&real));
    }
    for prefix in file.ancestors() {
        let holder = directory_of(prefix);
        let stays_below = |target: &Path| target.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // `/lib -> usr/lib` would open the whole file system, and such links are not replaced while a process runs.
        if holder != Path::new("/") && std::fs::read_link(prefix).is_ok_and(|target| stays_below(&target)) {
            needed.insert(holder);
        }
    }
    needed
}

/// Confines the calling thread, and every thread that it starts from now on. It cannot be undone.
///
/// Landlock belongs to a thread: call this in `main`, after everything is bound and loaded and **before** any runtime, worker or admin
/// thread is started; threads that run already stay free.
///
/// # Errors
/// The kernel has Landlock but refused the rules, one line. The thread is then as free as before.
pub fn confine(allowed: &Allowed) -> Result<Confinement, String> {
    try_confine(allowed).map_err(|error| format!("Landlock could not be switched on: {error}; `landlock: off` starts without it"))
}

fn try_confine(allowed: &Allowed) -> Result<Confinement, RulesetError> {
    let in_socket_directories = AccessFs::MakeSock | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI_KNOWN))?
        .handle_access(AccessNet::from_all(ABI_KNOWN))?
        .scope(Scope::from_all(ABI_KNOWN))?
        .create()?;
    for path in &allowed.read {
        let access = if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
        rules = allow(rules, path, access)?;
    }
    for path in &allowed.sockets {
        rules = allow(rules, path, in_socket_directories)?;
    }
    for port in &allowed.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Fully,
        RulesetStatus::PartiallyEnforced => Confinement::Partially,
        RulesetStatus::NotEnforced => Confinement::NotSupported,
    })
}

/// What cannot be opened now cannot be allowed, and need not be: most of the list differs between distributions.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
