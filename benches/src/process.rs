//! Child processes that never outlive the test that started them.
//!
//! Dropping a [`Process`] kills it with all its descendants and waits. Should the test itself be killed, the kernel does it: children are
//! started through `setpriv --pdeathsig`, from one thread that lives as long as the process, because that signal is tied to the *thread* that
//! forked and a test's thread may end before its server should.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::time::Instant;

use crate::usage::{self, Usage};
use crate::wait::{until, until_some};

/// How long a process may take to leave after SIGKILL; only the kernel is in the way then.
const REAP: Duration = Duration::from_secs(5);

/// A running child, its output in files.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How to start a child, besides what its `Command` says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Launch<'a> {
    /// Run as this user; only for root.
    pub user: Option<&'a str>,
}

impl Process {
    /// Starts `command`; its output goes to `dir/NAME.out` and `dir/NAME.err` (appended, so that restarts keep the history).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, command: &Command, dir: &Path) -> Result<Self> {
        Self::spawn_with(name, command, dir, Launch::default())
    }

    /// [`Process::spawn`] with more choices.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_with(name: &str, command: &Command, dir: &Path, launch: Launch<'_>) -> Result<Self> {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let append = |path: &Path| File::options().append(true).create(true).open(path);
        let mut command = wrap(command, launch);
        command.stdin(Stdio::null()).stdout(append(&stdout)?).stderr(append(&stderr)?).process_group(0);
        let child = fork(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id, which is also its process group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends a signal to the process alone. One that has gone already is no error.
    pub fn signal(&self, signal: Signal) {
        // Not reaped before `child` says so, hence the id is still ours.
        let _ = kill_process(self.pid(), signal);
    }

    /// Stops the process and its descendants where they are (SIGSTOP); connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal_tree(Signal::STOP);
    }

    /// Ends [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal_tree(Signal::CONT);
    }

    /// Its exit status once it has left. Never blocks.
    ///
    /// # Errors
    /// As `waitpid`.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it has left by itself.
    ///
    /// # Errors
    /// When it has not within `limit`; the text ends with its standard error.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} leaves", self.name);
        let child = &mut self.child;
        let left = until_some(&what, limit, || std::future::ready(child.try_wait().ok().flatten())).await;
        left.map_err(|error| anyhow!("{error}\n{}", self.stderr()))
    }

    /// Waits until `ready` holds, unless the process leaves first.
    ///
    /// # Errors
    /// When it left or `limit` passed; the text ends with its output.
    pub async fn ready(&mut self, limit: Duration, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                bail!("{} left at once, {status}:\n{}{}", self.name, self.stdout(), self.stderr());
            }
            if matches!(tokio::time::timeout_at(deadline, ready()).await, Ok(true)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} was not ready within {limit:?}:\n{}{}", self.name, self.stdout(), self.stderr());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signal and waits until the process has left.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub async fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        self.signal(Signal::CONT);
        self.wait_exit(limit).await
    }

    /// CPU time and memory of the process and its descendants.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        usage::of_tree(self.id())
    }

    /// Kills it and its descendants and waits for it, unless it has left already.
    pub fn kill(&mut self) {
        // Once reaped, its id may be another process's: signal nobody then.
        if matches!(self.child.try_wait(), Ok(None)) {
            // So that it starts nothing between the look at its descendants and their end.
            self.signal(Signal::STOP);
            self.signal_tree(Signal::KILL);
            let _ = self.child.wait();
        }
    }

    /// Asks it to leave by `signal`, also when it is frozen, and kills it when it has not after `limit`. Blocks.
    pub fn kill_gently(&mut self, signal: Signal, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.signal(signal);
        self.thaw();
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
    }

    fn signal_tree(&self, signal: Signal) {
        // Descendants that made a session of their own (PostgreSQL's) are not in the group, so both are needed. Parents first: a postmaster
        // that saw a backend die would start to recover.
        // And the look at them comes first: orphans have another parent.
        let tree = usage::tree(self.id());
        let _ = kill_process_group(self.pid(), signal);
        for pid in tree {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until no process with this id is left (reaped or gone).
///
/// # Errors
/// When one still is after 5 s.
pub async fn gone(pid: u32) -> Result<()> {
    until(&format!("process {pid} is gone"), REAP, || !Path::new(&format!("/proc/{pid}")).exists()).await
}

/// Finds a program in PATH, `/usr/sbin` and `/sbin`.
///
/// # Errors
/// When it is not there; the text names the Debian package to install.
pub fn require(program: &str, package: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| anyhow!("{program} is not installed: run `apt-get install -y {package}` (or `make deps`)"))
}

/// Finds a program in PATH, `/usr/sbin` and `/sbin`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// True for root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The command behind `setpriv`, which becomes it: the process id stays the same.
fn wrap(command: &Command, launch: Launch<'_>) -> Command {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    // BusyBox has a setpriv without this option.
    let works = |path: &PathBuf| {
        let probe = Command::new(path).args(["--pdeathsig", "KILL", "true"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    };
    let setpriv = SETPRIV.get_or_init(|| find("setpriv").filter(works));
    let mut wrapped = match (setpriv, launch.user) {
        (Some(setpriv), user) => {
            let mut wrapped = Command::new(setpriv);
            if let Some(user) = user {
                wrapped.args(["--reuid", user, "--regid", user, "--init-groups"]);
            }
            // A postmaster killed outright leaves its backends for a moment; QUIT makes it take them along.
            wrapped.args(["--pdeathsig", if user.is_some() { "QUIT" } else { "KILL" }, "--"]).arg(command.get_program());
            wrapped
        }
        (None, Some(user)) => {
            let mut wrapped = Command::new("runuser");
            wrapped.args(["-u", user, "--"]).arg(command.get_program());
            wrapped
        }
        (None, None) => Command::new(command.get_program()),
    };
    wrapped.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// Runs a command to its end as `launch` says, and returns its standard output. Blocks.
///
/// # Errors
/// When it cannot be started or fails; the text ends with its standard error.
pub fn run(command: &Command, launch: Launch<'_>, input: &str) -> Result<String> {
    let mut wrapped = wrap(command, launch);
    let name = command.get_program().to_string_lossy().into_owned();
    wrapped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = fork(wrapped).with_context(|| format!("cannot start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input closes it; its exit status tells whether that was right.
        let _ = io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{name} failed, {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// Forks from the thread that lives as long as the process.
fn fork(command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(8);
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = sync_channel(1);
    let lost = |_| io::Error::other("the thread that starts processes is gone");
    forker.send((command, answer)).map_err(|_| lost(()))?;
    child.recv().map_err(|_| lost(()))?
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
