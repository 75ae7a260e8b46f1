//! The servers, the proxy with its doors, and how a client program is run at one of them.
//!
//! Tests of this file's user run in parallel and share what is running: the first one starts it, the last one to leave takes it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lab::process::Process;
use lab::{Authority, Postgres, Proxy, Redis, free_port};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A client that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Upstream: user, password, and the database of the same name.
const USER: &str = "app";
const PASSWORD: &str = "upstream it's=secret";
/// What clients give at [`Door::LocalPassword`].
const LOCAL_PASSWORD: &str = "local secret";

/// How a listener lets clients in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// No credentials in the URL: the client's own login passes through.
    OwnLogin,
    /// Credentials in the URL, and a local password for clients.
    LocalPassword,
    /// Credentials in the URL, and clients need no password.
    NoPassword,
}

/// What a client says when it logs in, and where.
pub(crate) struct Key {
    pub(crate) port: u16,
    /// PostgreSQL alone.
    pub(crate) user: &'static str,
    pub(crate) password: Option<&'static str>,
    /// True when a wrong password must be refused.
    pub(crate) is_checked: bool,
}

/// A client program, not yet told where to go.
pub(crate) struct Program {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// PostgreSQL behind the proxy.
pub(crate) struct PostgresLab {
    proxy: Proxy,
    ports: [u16; 3],
    server: Postgres,
    _files: TempDir,
}

/// Redis behind the proxy.
pub(crate) struct RedisLab {
    proxy: Proxy,
    ports: [u16; 3],
    _server: Redis,
    _files: TempDir,
}

impl Door {
    pub(crate) const ALL: [Self; 3] = [Self::OwnLogin, Self::LocalPassword, Self::NoPassword];

    fn name(self) -> &'static str {
        match self {
            Self::OwnLogin => "own",
            Self::LocalPassword => "local",
            Self::NoPassword => "open",
        }
    }

    /// The URL and its options, without the login in front of the host.
    fn options(self, port: u16, dir: &Path) -> String {
        let (ca, upstream, local) = (dir.join("ca.pem"), dir.join("upstream"), dir.join("local"));
        let common = format!("listen=127.0.0.1:{port}&name={}&ca_only=on&ca_file={}", self.name(), ca.display());
        match self {
            Self::OwnLogin => common,
            Self::LocalPassword => {
                let (upstream, local) = (upstream.display(), local.display());
                format!("{common}&password_file={upstream}&client_auth=password&client_password_file={local}")
            }
            Self::NoPassword => format!("{common}&password_file={}", upstream.display()),
        }
    }
}

/// The proxy with one listener per door.
async fn proxy(authority: &Authority, url: impl Fn(Door) -> String) -> (Proxy, [u16; 3], TempDir) {
    let dir = tempfile::tempdir().unwrap();
    authority.write_ca(dir.path()).unwrap();
    lab::certs::write_private(&dir.path().join("upstream"), PASSWORD).unwrap();
    lab::certs::write_private(&dir.path().join("local"), LOCAL_PASSWORD).unwrap();
    let ports = [(); 3].map(|()| free_port().unwrap());
    let urls: Vec<_> =
        Door::ALL.iter().zip(ports).map(|(door, port)| format!("{}?{}", url(*door), door.options(port, dir.path()))).collect();
    (Proxy::start(env!("CARGO_BIN_EXE_redis-tls-proxy"), &urls, &[]).await.unwrap(), ports, dir)
}

impl PostgresLab {
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<PostgresLab>> = Mutex::const_new(Weak::new());
        share(&SHARED, Self::start()).await
    }

    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let server = Postgres::builder(&authority).user(USER, PASSWORD, USER).ssl_only().max_connections(150).start().await.unwrap();
        let port = server.port();
        let (proxy, ports, files) = proxy(&authority, |door| match door {
            Door::OwnLogin => format!("postgresql://localhost:{port}"),
            Door::LocalPassword | Door::NoPassword => format!("postgresql://{USER}@localhost:{port}/{USER}"),
        })
        .await;
        Self { proxy, ports, server, _files: files }
    }

    pub(crate) fn key(&self, door: Door) -> Key {
        let port = self.ports[door as usize];
        match door {
            Door::OwnLogin => Key { port, user: USER, password: Some(PASSWORD), is_checked: true },
            Door::LocalPassword => Key { port, user: "harbor", password: Some(LOCAL_PASSWORD), is_checked: true },
            Door::NoPassword => Key { port, user: "harbor", password: None, is_checked: false },
        }
    }

    /// One of PostgreSQL's own clients.
    pub(crate) fn client(&self, program: &str) -> String {
        self.server.client(program).unwrap().display().to_string()
    }

    pub(crate) fn log(&self) -> String {
        self.proxy.stderr()
    }

    /// Runs it to its end; it must say `ok` and nothing else.
    pub(crate) async fn run(&self, name: &str, program: &Program, door: Door) {
        let key = self.key(door);
        let mut command = program.command(name, door, &key);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", key.port.to_string()).env("PGUSER", key.user).env("PGDATABASE", USER);
        // What clients do whom nobody tells: ask for TLS, and go on without when it is declined.
        command.env("PGSSLMODE", "prefer").env("PGCONNECT_TIMEOUT", "10").env("PGPASSFILE", "/nonexistent").env("EXPECT_USER", USER);
        match key.password {
            Some(password) => command.env("PGPASSWORD", password),
            None => command.env_remove("PGPASSWORD"),
        };
        run(&command, name, door, &self.proxy).await;
    }
}

impl RedisLab {
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisLab>> = Mutex::const_new(Weak::new());
        share(&SHARED, Self::start()).await
    }

    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let server = Redis::builder(&authority).password(PASSWORD).start().await.unwrap();
        let port = server.port();
        let (proxy, ports, files) = proxy(&authority, |_| format!("rediss://localhost:{port}")).await;
        Self { proxy, ports, _server: server, _files: files }
    }

    pub(crate) fn key(&self, door: Door) -> Key {
        let port = self.ports[door as usize];
        let password = match door {
            Door::OwnLogin => Some(PASSWORD),
            Door::LocalPassword => Some(LOCAL_PASSWORD),
            Door::NoPassword => None,
        };
        // At the open door a client that sends a password all the same is refused by the server, which knows it as its own or not at all.
        Key { port, user: "default", password, is_checked: true }
    }

    pub(crate) fn log(&self) -> String {
        self.proxy.stderr()
    }

    /// Runs it to its end; it must say `ok` and nothing else.
    pub(crate) async fn run(&self, name: &str, program: &Program, door: Door) {
        let key = self.key(door);
        let mut command = program.command(name, door, &key);
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", key.port.to_string()).env("REDIS_PASSWORD", key.password.unwrap_or(""));
        run(&command, name, door, &self.proxy).await;
    }
}

impl Program {
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { program: program.to_owned(), arguments, environment: Vec::new() }
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A script of this directory.
    pub(crate) fn source(language: &str, file: &str) -> String {
        sources().join(language).join(file).display().to_string()
    }

    /// A path of what `.ci/clients` installed by a list of packages that is still the same.
    pub(crate) fn installed(language: &str, list: &str, path: &str) -> String {
        let installed = target().join(language).join("installed");
        let wanted = fs::read(sources().join(language).join(list)).unwrap();
        let is_current = fs::read(&installed).is_ok_and(|list| list == wanted);
        assert!(is_current, "{} is missing or old: run .ci/clients first", installed.display());
        target().join(language).join(path).display().to_string()
    }

    /// A Go program that is not older than its sources.
    pub(crate) fn built_go(name: &str) -> String {
        let program = target().join("go").join(name);
        let age = |path: &Path| path.metadata().ok()?.modified().ok();
        let go = sources().join("go");
        let folders = [go.clone(), go.join(name), go.join("check")];
        let sources = folders.iter().flat_map(|folder| folder.read_dir().unwrap()).map(|entry| entry.unwrap().path());
        let newest = sources.filter(|path| path.is_file()).filter_map(|path| age(&path)).max();
        let is_current = age(&program).is_some_and(|age| newest.is_some_and(|newest| newest <= age));
        assert!(is_current, "{} is missing or old: run .ci/clients first", program.display());
        program.display().to_string()
    }

    fn command(&self, name: &str, door: Door, key: &Key) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("PREFIX", format!("{name}_{}", door.name())).env("DOOR", door.name());
        command.env("PASSWORD_CHECKED", if key.is_checked { "yes" } else { "no" });
        command
    }
}

/// Where `.ci/clients` installs.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

async fn run(command: &Command, name: &str, door: Door, proxy: &Proxy) {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::spawn(name, command, dir.path()).unwrap();
    let ended = process.wait_exit(LIMIT).await;
    let said = process.stdout();
    let is_well = ended.as_ref().is_ok_and(std::process::ExitStatus::success) && said.trim() == "ok";
    let proxy = proxy.stderr();
    assert!(is_well, "{name} at {door:?}: {ended:?}\n{said}{}\n--- the proxy's log ---\n{proxy}", process.stderr());
}

/// What is running, or a new one. No caller may keep it beyond its own test: then nobody would take it down.
async fn share<T>(shared: &Mutex<Weak<T>>, start: impl Future<Output = T>) -> Arc<T> {
    let mut shared = shared.lock().await;
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let started = Arc::new(start.await);
    *shared = Arc::downgrade(&started);
    started
}
