//! PostgreSQL's programs, and data directories: `initdb` takes 1.5 s, copying what it made a tenth of that.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{Launch, find, is_root, run};

/// Whom servers run as: PostgreSQL refuses root.
pub(super) fn launch() -> Launch<'static> {
    Launch { user: is_root().then_some("postgres") }
}

/// The directory with `initdb` and `postgres`: `LAB_PG_BIN`, or the newest that Debian has installed.
pub(super) fn bin() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("LAB_PG_BIN").map(PathBuf::from) {
        return if has_server(&dir) { Ok(dir) } else { Err(anyhow!("LAB_PG_BIN: no initdb and postgres in {}", dir.display())) };
    }
    debian().pop().context("PostgreSQL is not installed: run `apt-get install -y postgresql` (or `make deps`)")
}

/// `LAB_PG18_BIN` where it holds a server, else Debian's if that is 18 or newer.
pub(super) fn newest_bin() -> Option<PathBuf> {
    let named = std::env::var_os("LAB_PG18_BIN").map(PathBuf::from).filter(|dir| has_server(dir));
    named.or_else(|| debian().pop().filter(|dir| major(dir) >= 18))
}

/// A client program: beside the server, in PATH, or Debian's.
pub(super) fn client(program: &str, bin: &Path) -> Result<PathBuf> {
    let beside = std::iter::once(bin.to_owned()).chain(debian().into_iter().rev()).map(|dir| dir.join(program));
    let found = beside.into_iter().find(|path| path.is_file()).or_else(|| find(program));
    found.with_context(|| format!("{program} is not installed: run `apt-get install -y postgresql-client` (or `make deps`)"))
}

/// Debian's versions, oldest first.
fn debian() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|entry| entry.path().join("bin")).filter(|dir| has_server(dir)).collect();
    found.sort_by_key(|dir| major(dir));
    found
}

fn has_server(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn major(bin: &Path) -> u32 {
    bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// Fills `data` (which must not exist) with a fresh cluster: superuser `postgres`, UTF-8, trust. Blocks.
pub(super) fn create(bin: &Path, data: &Path) -> Result<()> {
    let version = run(Command::new(bin.join("postgres")).arg("--version"), launch(), "")?;
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let Some(cache) = cache() else { return initdb(bin, data) };
    let template = cache.join(version.trim().chars().map(word).collect::<String>());
    if !template.is_dir() {
        fs::create_dir_all(&cache)?;
        initdb(bin, data)?;
        // Copied beside and renamed, so that nobody sees half a template; whoever comes second loses, which is as good.
        let fresh = tempfile::Builder::new().prefix("lab-template-").tempdir_in(&cache)?;
        let copied = fresh.path().join("data");
        copy(data, &copied)?;
        let _ = fs::rename(copied, template);
        return Ok(());
    }
    copy(&template, data)
}

/// In the build directory, which `cargo clean` empties; nowhere when the program was not built by cargo.
fn cache() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file())?;
    Some(target.join("lab"))
}

fn initdb(bin: &Path, data: &Path) -> Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command.args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "-D"]);
    run(command.arg(data).current_dir("/"), launch(), "").map(drop)
}

/// With owners and modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["-a", "--reflink=auto", "--"]).arg(from).arg(to), Launch::default(), "").map(drop)
}

/// Gives a file or directory to whom the server runs as.
pub(super) fn give(path: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids =
        passwd.lines().find_map(|line| line.strip_prefix("postgres:")?.split(':').skip(1).take(2).map(|id| id.parse().ok()).collect());
    let ids: Option<Vec<u32>> = ids;
    let Some(&[uid, gid]) = ids.as_deref() else {
        bail!("there is no user `postgres`, which PostgreSQL needs when started by root: run `apt-get install -y postgresql`");
    };
    if fs::metadata(path)?.uid() != uid {
        chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give {} to postgres", path.display()))?;
    }
    Ok(())
}
