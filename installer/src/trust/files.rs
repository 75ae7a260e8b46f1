//! The files that are read by docker, containerd and podman.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{advice, ca_in};
use crate::cli::Runtime;

/// The first line of files that are ours. All readers of PEM skip what is outside of its marks.
const OURS: &str = "# Written by doks-harbor";

/// Where the folders of the programs are.
#[derive(Clone, Debug)]
pub enum Place {
    /// `/etc`, or `/etc` below a folder that is another machine's root.
    Root(PathBuf),
    /// `~/.config`: for one user, with rootless programs.
    Home(PathBuf),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there, and another one.
    Changed,
    /// It was there.
    Same,
}

impl Outcome {
    /// A mark for lists.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Created => "+",
            Self::Changed => "~",
            Self::Same => "=",
        }
    }

    /// A word for lists.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Created => "written",
            Self::Changed => "changed",
            Self::Same => "as it was",
        }
    }
}

impl Place {
    /// A folder of one program, as this machine sees it and as the program will.
    fn folder(&self, program: &str, registry: &str) -> (PathBuf, PathBuf) {
        let relative = Path::new(program).join("certs.d").join(registry);
        match self {
            Self::Root(root) => (root.join("etc").join(&relative), Path::new("/etc").join(relative)),
            Self::Home(config) => (config.join(&relative), config.join(relative)),
        }
    }

    /// Writes what these programs need; all that is in the way is found before anything is written.
    ///
    /// # Errors
    /// When a file of somebody else's is there and may not be overwritten, and when a folder cannot be written to.
    pub fn write(&self, what: Runtime, registry: &str, pem: &str, force: bool) -> Result<Vec<Written>> {
        let wanted = self.wanted(what, registry, pem);
        let mut found = Vec::new();
        for (path, content) in &wanted {
            found.push(outcome(path, content, force)?);
        }
        let mut written = Vec::new();
        for ((path, content), outcome) in wanted.into_iter().zip(found) {
            if outcome != Outcome::Same {
                write(&path, &content).with_context(|| format!("{} cannot be written; --user needs no root", path.display()))?;
            }
            written.push(Written { path, outcome });
        }
        Ok(written)
    }

    fn wanted(&self, what: Runtime, registry: &str, pem: &str) -> Vec<(PathBuf, String)> {
        let is = |runtime| what == runtime || what == Runtime::All;
        let authority = format!("{OURS}: the authority of {registry}\n{pem}");
        let mut wanted = Vec::new();
        for (runtime, program) in [(Runtime::Docker, "docker"), (Runtime::Podman, "containers"), (Runtime::Containerd, "containerd")] {
            if !is(runtime) {
                continue;
            }
            let (here, there) = self.folder(program, registry);
            wanted.push((ca_in(&here), authority.clone()));
            if runtime == Runtime::Containerd {
                let hosts = advice::hosts(registry, &ca_in(&there).display().to_string());
                // Last: it names the other one.
                wanted.push((here.join("hosts.toml"), format!("{OURS}\n{hosts}")));
            }
        }
        wanted
    }
}

fn outcome(path: &Path, content: &str, force: bool) -> Result<Outcome> {
    let there = match fs::read(path) {
        Ok(there) => String::from_utf8_lossy(&there).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Outcome::Created),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    if there == content {
        return Ok(Outcome::Same);
    }
    if !force && !there.starts_with(OURS) {
        bail!("{} is there and not of doks-harbor; nothing was written; look at it, then say --force to overwrite it", path.display());
    }
    Ok(Outcome::Changed)
}

/// In one go, for everybody to read.
fn write(path: &Path, content: &str) -> Result<()> {
    let folder = path.parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Whether containerd's configuration looks into the folder, as far as its text tells.
#[must_use]
pub fn config_path_is_set(root: &Path) -> bool {
    let text = fs::read_to_string(root.join("etc/containerd/config.toml")).unwrap_or_default();
    text.lines().map(str::trim).any(|line| line.starts_with("config_path") && line.contains("/etc/containerd/certs.d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(place: &Place, pem: &str, force: bool) -> Result<Vec<Outcome>> {
        let written = place.write(Runtime::All, "harbor.example.com:30003", pem, force)?;
        Ok(written.into_iter().map(|file| file.outcome).collect())
    }

    #[test]
    fn what_is_ours_is_kept_up_to_date_and_what_is_not_stays() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::Root(root.path().to_owned());
        let read = |file: &str| fs::read_to_string(root.path().join("etc").join(file)).unwrap();
        assert_eq!(all(&place, "one", false).unwrap(), [Outcome::Created; 4]);
        assert_eq!(all(&place, "one", false).unwrap(), [Outcome::Same; 4]);
        let again = [Outcome::Changed, Outcome::Changed, Outcome::Changed, Outcome::Same];
        assert_eq!(all(&place, "two", false).unwrap(), again);
        let hosts = read("containerd/certs.d/harbor.example.com:30003/hosts.toml");
        assert!(hosts.contains("ca = \"/etc/containerd/certs.d/harbor.example.com:30003/ca.crt\""), "{hosts}");
        let docker = root.path().join("etc/docker/certs.d/harbor.example.com:30003/ca.crt");
        assert_eq!(fs::metadata(&docker).unwrap().permissions().mode() & 0o777, 0o644);

        // Somebody else's, though another file would be written before it.
        fs::write(root.path().join("etc/containers/certs.d/harbor.example.com:30003/ca.crt"), "mine").unwrap();
        let told = all(&place, "three", false).unwrap_err().to_string();
        assert!(told.contains("containers/certs.d") && told.contains("--force"), "{told}");
        assert!(fs::read_to_string(&docker).unwrap().ends_with("two"), "nothing was written");
        assert_eq!(all(&place, "three", true).unwrap().len(), 4);
        assert!(read("containers/certs.d/harbor.example.com:30003/ca.crt").ends_with("three"));
    }

    #[test]
    fn a_users_own_need_no_root() {
        let home = tempfile::tempdir().unwrap();
        let written = Place::Home(home.path().to_owned()).write(Runtime::Podman, "h", "pem", false).unwrap();
        assert_eq!(written, [Written { path: home.path().join("containers/certs.d/h/ca.crt"), outcome: Outcome::Created }]);
    }

    #[test]
    fn containerds_configuration_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        assert!(!config_path_is_set(root.path()));
        fs::create_dir_all(root.path().join("etc/containerd")).unwrap();
        let set = |text: &str| {
            fs::write(root.path().join("etc/containerd/config.toml"), text).unwrap();
            config_path_is_set(root.path())
        };
        assert!(set("  [plugins.x.registry]\n    config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"\n"));
        assert!(!set("# config_path = \"/etc/containerd/certs.d\"\nconfig_path = \"\"\n"));
    }
}
