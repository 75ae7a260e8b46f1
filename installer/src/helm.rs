//! The helm program: what is installed, what an upgrade would change, and the upgrade itself.
//!
//! Credentials reach it by a file of its owner's alone that is gone with the run; secrets are in no argument.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

use crate::cluster::Cluster;

mod change;
mod release;

pub use change::{Change, change};
pub use release::Release;

/// The oldest that we know to work: its `upgrade` can create the namespace, and waits for Jobs.
const OLDEST: (u32, u32) = (3, 8);
/// For an answer that changes nothing. A chart may have to be fetched first.
const ANSWER: Duration = Duration::from_secs(180);
/// Of the environment, what would win over the file with the credentials: another server would get them, or one that nobody verifies.
const OVERRIDES: [&str; 9] = [
    "HELM_KUBECONTEXT",
    "HELM_KUBETOKEN",
    "HELM_KUBEAPISERVER",
    "HELM_KUBECAFILE",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    "HELM_KUBETLS_SERVER_NAME",
    "HELM_KUBEASUSER",
    "HELM_KUBEASGROUPS",
    "HELM_DEBUG",
];
/// Enough of what it says when it fails.
const LAST_WORDS: u64 = 4096;

/// The program, ready to work with one cluster.
pub struct Helm {
    program: PathBuf,
    /// `v3.18.6`.
    pub version: String,
    namespace: String,
    /// Removed when dropped.
    kubeconfig: NamedTempFile,
}

/// Where Harbor's chart comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chart {
    /// A repository; the version is the spec's.
    Repository(String),
    /// A folder or an archive on this machine.
    File(PathBuf),
}

/// Why there is no helm to work with: each with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not in `PATH`.
    #[error(
        "helm is not installed; install it (https://helm.sh/docs/intro/install) and run again, or go on by hand: the last step of NEXT.md"
    )]
    Missing,
    /// Too old.
    #[error("helm {0} is too old; install 3.8 or newer (https://helm.sh/docs/intro/install) and run again, or go on by hand: NEXT.md")]
    TooOld(String),
    /// Not what it says to be.
    #[error("{0} does not behave like helm: {1}")]
    Strange(PathBuf, String),
}

impl Helm {
    /// Finds it in `PATH` and asks for its version.
    ///
    /// # Errors
    /// [`Unusable`] where there is none that works.
    pub async fn find(cluster: &Cluster) -> Result<Self> {
        Self::at(&in_path().ok_or(Unusable::Missing)?, cluster).await
    }

    /// This one.
    ///
    /// # Errors
    /// [`Unusable`] where it does not work.
    pub async fn at(program: &Path, cluster: &Cluster) -> Result<Self> {
        let version = version(program).await?;
        let mut kubeconfig =
            tempfile::Builder::new().prefix("doks-harbor-").tempfile().context("no temporary file for helm can be made")?;
        kubeconfig.write_all(cluster.access.text()?.expose_secret().as_bytes()).context("the temporary file for helm cannot be written")?;
        Ok(Self { program: program.to_owned(), version, namespace: cluster.namespace.clone(), kubeconfig })
    }

    /// What is installed under this name, if anything.
    ///
    /// # Errors
    /// When helm cannot tell.
    pub async fn release(&self, name: &str) -> Result<Option<Release>> {
        // A pattern, in which the dots of a name would stand for anything.
        let pattern = format!("^{}$", name.replace('.', "\\."));
        let listed = self.answer(&["list", "--all", "--output", "json", "--filter", &pattern]).await?;
        let listed: Vec<Release> = serde_json::from_slice(&listed).context("helm list: its answer is not what it should be")?;
        Ok(listed.into_iter().find(|release| release.name == name))
    }

    /// The values that a release was given.
    ///
    /// # Errors
    /// When helm cannot tell.
    pub async fn values(&self, name: &str) -> Result<Value> {
        let told = self.answer(&["get", "values", name, "--output", "json"]).await?;
        serde_json::from_slice(&told).context("helm get values: its answer is not what it should be")
    }

    /// Name and version of a chart.
    ///
    /// # Errors
    /// When it cannot be fetched, or is none.
    pub async fn chart(&self, chart: &Chart, version: &str) -> Result<(String, String)> {
        let mut arguments: Vec<OsString> = vec!["show".into(), "chart".into()];
        arguments.extend(chart.arguments(version));
        let told = self.answer(&arguments).await.with_context(|| format!("the chart {chart} {version} cannot be had"))?;
        let told: Value = serde_saphyr::from_slice(&told).with_context(|| format!("{chart} is no chart"))?;
        let field =
            |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("{chart} has no {name}"));
        Ok((field("name")?, field("version")?))
    }

    /// Begins `upgrade --install`, which returns when everything serves or `patience` is over.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn upgrade(&self, name: &str, chart: &Chart, version: &str, values: &[PathBuf], patience: Duration) -> Result<Upgrade> {
        let mut arguments: Vec<OsString> = vec!["upgrade".into(), "--install".into(), name.into()];
        arguments.extend(chart.arguments(version));
        for file in values {
            arguments.extend(["--values".into(), file.into()]);
        }
        arguments.extend(["--wait".into(), "--timeout".into(), format!("{}s", patience.as_secs()).into()]);
        // Not a pipe: told to stop, helm says so before it writes it down in the cluster, and would die of a reader that has gone.
        let says = tempfile::tempfile().context("no temporary file for helm can be made")?;
        let mut command = self.command(&arguments);
        command.stdout(Stdio::null()).stderr(says.try_clone().context("the temporary file for helm cannot be used")?);
        let child = command.kill_on_drop(false).spawn().context("helm cannot be started")?;
        Ok(Upgrade { child: Some(child), says })
    }

    /// `uninstall`: Harbor's pods go; what holds data (volumes that the chart marks to be kept) stays.
    ///
    /// # Errors
    /// When it fails.
    pub async fn uninstall(&self, name: &str, patience: Duration) -> Result<()> {
        let limit = format!("{}s", patience.as_secs());
        let command = self.command(&["uninstall", name, "--wait", "--timeout", &limit]).kill_on_drop(true).output();
        succeeded(command.await.context("helm cannot be started")?).map(|_| ())
    }

    async fn answer<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Vec<u8>> {
        let mut command = self.command(arguments);
        let answer = tokio::time::timeout(ANSWER, command.kill_on_drop(true).output()).await;
        succeeded(answer.with_context(|| format!("helm does not answer within {ANSWER:?}"))?.context("helm cannot be started")?)
    }

    fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--namespace").arg(&self.namespace).arg("--kubeconfig").arg(self.kubeconfig.path());
        for name in OVERRIDES {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Of the program in `PATH`, without a cluster.
///
/// # Errors
/// Why there is none to work with.
pub async fn installed() -> Result<String, Unusable> {
    version(&in_path().ok_or(Unusable::Missing)?).await
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file())
}

async fn version(program: &Path) -> Result<String, Unusable> {
    let asked = Command::new(program).args(["version", "--template", "{{.Version}}"]).stdin(Stdio::null()).kill_on_drop(true).output();
    let strange = |what: String| Unusable::Strange(program.to_owned(), what);
    let told = tokio::time::timeout(ANSWER, asked).await.map_err(|_| strange("it does not answer".to_owned()))?;
    let told = told.map_err(|error| strange(error.to_string()))?;
    let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    match number(&version) {
        Some(number) if number >= OLDEST => Ok(version),
        Some(_) => Err(Unusable::TooOld(version)),
        None => Err(strange(format!("it calls its version {version:?}"))),
    }
}

/// `v3.18.6+gabc` is (3, 18).
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Chart {
    fn arguments(&self, version: &str) -> Vec<OsString> {
        match self {
            Self::Repository(url) => vec!["harbor".into(), "--repo".into(), url.into(), "--version".into(), version.into()],
            // Absolute: else helm might take it for `repository/chart`.
            Self::File(path) => vec![std::path::absolute(path).unwrap_or_else(|_| path.clone()).into()],
        }
    }
}

impl std::fmt::Display for Chart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(url) => write!(f, "harbor of {url}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A running `upgrade`. Dropped, it is told to stop, and writes down in the cluster that it was: killed outright it would leave a release that
/// is "pending" for ever.
pub struct Upgrade {
    child: Option<Child>,
    says: File,
}

/// How an upgrade that was not carried out ended.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Its patience was over: what it waited for may still come.
    #[error("helm waited in vain: {0}")]
    Late(String),
    /// Anything else.
    #[error("helm failed: {0}")]
    Refused(String),
}

impl Upgrade {
    /// Waits for its end. Cancel safe only in that dropping `self` stops helm.
    ///
    /// # Errors
    /// [`Failed`], with helm's last words.
    pub async fn finish(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else { bail!("helm has ended already") };
        let status = child.wait().await.context("helm cannot be waited for")?;
        self.child = None;
        if status.success() {
            return Ok(());
        }
        let told = last_words(&mut self.says).unwrap_or_else(|error| format!("what it said cannot be read: {error}"));
        let late = ["timed out", "deadline exceeded", "context canceled"].iter().any(|sign| told.contains(sign));
        Err(if late { Failed::Late(told) } else { Failed::Refused(told) }.into())
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended by itself just now.
            let _ = kill_process(id, Signal::TERM);
        }
    }
}

fn last_words(says: &mut File) -> std::io::Result<String> {
    let length = says.seek(SeekFrom::End(0))?;
    says.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
    let mut words = Vec::new();
    says.read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).trim().to_owned())
}

fn succeeded(output: Output) -> Result<Vec<u8>> {
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("helm: {}", told.trim());
    }
    Ok(output.stdout)
}

/// Where `values.yaml` and what belongs to it are, for [`Helm::upgrade`].
#[must_use]
pub fn values_files(out: &Path, secret: Option<PathBuf>) -> Vec<PathBuf> {
    std::iter::once(out.join("harbor/values.yaml")).chain(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_leads_no_credentials_elsewhere() {
        let kubeconfig = NamedTempFile::new().unwrap();
        let helm = Helm { program: "helm".into(), version: String::new(), namespace: "harbor".to_owned(), kubeconfig };
        let command = helm.command(&["list"]);
        let removed: Vec<_> = command.as_std().get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name.to_owned()).collect();
        for name in ["HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_KUBEINSECURE_SKIP_TLS_VERIFY", "HELM_KUBECONTEXT"] {
            assert!(removed.iter().any(|found| found == name), "{name}");
        }
    }
}
