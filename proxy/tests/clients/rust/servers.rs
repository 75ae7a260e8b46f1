//! The servers, the proxy with its doors, and how a client program is run at one of them.
//!
//! Tests of this file's user run in parallel and share what is running: the first one starts it, the last one to leave takes it down.

use std::fmt::Debug;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lab::process::Process;
use lab::{Authority, Gate, Postgres, Proxy, Redis, free_port, until};
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

/// Which way a client takes; on each it must see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Plaintext, without the proxy, with the server's own password.
    Direct,
    Relay(Door),
    Session,
    /// Redis alone.
    Multiplex,
    /// PostgreSQL alone.
    Transaction,
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
    ports: [u16; 5],
    server: Postgres,
    _files: TempDir,
}

/// Redis behind the proxy.
pub(crate) struct RedisLab {
    proxy: Proxy,
    ports: [u16; 5],
    _server: Redis,
    plain_port: u16,
    /// In front of the server's ports, with TLS and without. Not in a shared lab: a gate lives in the runtime of the test that made it.
    gates: Option<[Gate; 2]>,
    _files: TempDir,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::OwnLogin => "own",
            Self::LocalPassword => "local",
            Self::NoPassword => "open",
        }
    }

    /// The URL and its options, without the login in front of the host.
    fn options(self, name: &str, port: u16, dir: &Path) -> String {
        let (ca, upstream, local) = (dir.join("ca.pem"), dir.join("upstream"), dir.join("local"));
        let common = format!("listen=127.0.0.1:{port}&name={name}&ca_only=on&ca_file={}", ca.display());
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

impl Way {
    /// Through the modes that are there.
    pub(crate) const ALL: [Self; 4] =
        [Self::Direct, Self::Relay(Door::OwnLogin), Self::Relay(Door::LocalPassword), Self::Relay(Door::NoPassword)];
    pub(crate) const RELAY: [Self; 3] = [Self::Relay(Door::OwnLogin), Self::Relay(Door::LocalPassword), Self::Relay(Door::NoPassword)];
    pub(crate) const POOLED: [Self; 2] = [Self::Session, Self::Multiplex];
    /// Those of the proxy, in the order of its listeners.
    const PROXIED: [Self; 5] =
        [Self::Relay(Door::OwnLogin), Self::Relay(Door::LocalPassword), Self::Relay(Door::NoPassword), Self::Session, Self::Multiplex];
    /// The same, for PostgreSQL.
    const PROXIED_POSTGRES: [Self; 5] =
        [Self::Relay(Door::OwnLogin), Self::Relay(Door::LocalPassword), Self::Relay(Door::NoPassword), Self::Session, Self::Transaction];

    fn door(self) -> Door {
        match self {
            Self::Direct => Door::OwnLogin,
            Self::Relay(door) => door,
            Self::Session | Self::Multiplex | Self::Transaction => Door::LocalPassword,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay(door) => door.name(),
            Self::Session => "session",
            Self::Multiplex => "multiplex",
            Self::Transaction => "transaction",
        }
    }

    fn pool(self) -> &'static str {
        match self {
            Self::Session | Self::Multiplex | Self::Transaction => self.name(),
            Self::Direct | Self::Relay(_) => "relay",
        }
    }
}

/// The proxy with these listeners: a door, a name, and how its upstream connections are shared.
async fn proxy<const N: usize>(
    authority: &Authority,
    listeners: [(Door, &str, &str); N],
    url: impl Fn(Door) -> String,
) -> (Proxy, [u16; N], TempDir) {
    let dir = tempfile::tempdir().unwrap();
    authority.write_ca(dir.path()).unwrap();
    lab::certs::write_private(&dir.path().join("upstream"), PASSWORD).unwrap();
    lab::certs::write_private(&dir.path().join("local"), LOCAL_PASSWORD).unwrap();
    let ports = [(); N].map(|()| free_port().unwrap());
    let urls = listeners.iter().zip(ports);
    let urls = urls.map(|((door, name, pool), port)| format!("{}?{}&pool={pool}", url(*door), door.options(name, port, dir.path())));
    let urls: Vec<_> = urls.collect();
    (Proxy::start(env!("CARGO_BIN_EXE_redis-tls-proxy"), &urls, &[]).await.unwrap(), ports, dir)
}

impl PostgresLab {
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<PostgresLab>> = Mutex::const_new(Weak::new());
        share(&SHARED, Self::start()).await
    }

    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let server = Postgres::builder(&authority).user(USER, PASSWORD, USER).max_connections(250).start().await.unwrap();
        let port = server.port();
        let listeners = Way::PROXIED_POSTGRES.map(|way| (way.door(), way.name(), way.pool()));
        let (proxy, ports, files) = proxy(&authority, listeners, |door| match door {
            Door::OwnLogin => format!("postgresql://localhost:{port}"),
            Door::LocalPassword | Door::NoPassword => format!("postgresql://{USER}@localhost:{port}/{USER}"),
        })
        .await;
        Self { proxy, ports, server, _files: files }
    }

    pub(crate) fn key(&self, way: Way) -> Key {
        let listener = Way::PROXIED_POSTGRES.iter().position(|proxied| *proxied == way);
        let port = listener.map_or_else(|| self.server.port(), |listener| self.ports[listener]);
        match way.door() {
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
    pub(crate) async fn run(&self, name: &str, program: &Program, way: Way) {
        let key = self.key(way);
        let mut command = program.command(name, way.name(), &key);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", key.port.to_string()).env("PGUSER", key.user).env("PGDATABASE", USER);
        // What clients do whom nobody tells: ask for TLS, and go on without when it is declined.
        let tls = if way == Way::Direct { "disable" } else { "prefer" };
        command.env("PGSSLMODE", tls).env("PGCONNECT_TIMEOUT", "10").env("PGPASSFILE", "/nonexistent").env("EXPECT_USER", USER);
        match key.password {
            Some(password) => command.env("PGPASSWORD", password),
            None => command.env_remove("PGPASSWORD"),
        };
        run(&command, name, way, &self.proxy).await;
    }
}

impl RedisLab {
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisLab>> = Mutex::const_new(Weak::new());
        share(&SHARED, Self::start(false)).await
    }

    /// One of the caller's own whose connections can be cut.
    pub(crate) async fn with_gates() -> Self {
        Self::start(true).await
    }

    async fn start(gated: bool) -> Self {
        let authority = Authority::new().unwrap();
        let server = Redis::builder(&authority).password(PASSWORD).plain().start().await.unwrap();
        let (mut port, mut plain_port, mut gates) = (server.port(), server.plain_port().unwrap(), None);
        if gated {
            let [tls, plain] = [port, plain_port].map(|port| Gate::start((Ipv4Addr::LOCALHOST, port).into()));
            let both = [tls.await.unwrap(), plain.await.unwrap()];
            (port, plain_port) = (both[0].port(), both[1].port());
            gates = Some(both);
        }
        let listeners = Way::PROXIED.map(|way| (way.door(), way.name(), way.pool()));
        let (proxy, ports, files) = proxy(&authority, listeners, |_| format!("rediss://localhost:{port}")).await;
        Self { proxy, ports, plain_port, gates, _server: server, _files: files }
    }

    pub(crate) fn key(&self, way: Way) -> Key {
        let listener = Way::PROXIED.iter().position(|proxied| *proxied == way);
        let port = listener.map_or(self.plain_port, |listener| self.ports[listener]);
        let password = match way.door() {
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
    pub(crate) async fn run(&self, name: &str, program: &Program, way: Way) {
        run(&self.command(name, program, way), name, way, &self.proxy).await;
    }

    /// The same, with a program that says `cut` when all its connections are to be cut, and goes on when the file `CUT_DONE` is there.
    pub(crate) async fn run_with_a_cut(&self, name: &str, program: &Program, way: Way) {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        let mut command = self.command(name, program, way);
        command.env("CUT_DONE", &done);
        let mut process = Process::spawn(name, &command, dir.path()).unwrap();
        let asked = until("it asks for the cut", LIMIT, || process.stdout().contains("cut\n")).await;
        self.gates.as_ref().expect("a lab with gates").iter().for_each(Gate::cut);
        fs::write(done, "").unwrap();
        let ended = process.wait_exit(LIMIT).await;
        let said = process.stdout();
        let is_well = asked.is_ok() && ended.as_ref().is_ok_and(std::process::ExitStatus::success) && said.trim() == "cut\nok";
        assert!(is_well, "{name}, {way:?}: {ended:?}\n{said}{}\n--- the proxy's log ---\n{}", process.stderr(), self.log());
    }

    fn command(&self, name: &str, program: &Program, way: Way) -> Command {
        let key = self.key(way);
        let mut command = program.command(name, way.name(), &key);
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", key.port.to_string()).env("REDIS_PASSWORD", key.password.unwrap_or(""));
        command
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
        let folders = [go.clone(), go.join(name.trim_end_matches("-harbor")), go.join("check")];
        let sources = folders.iter().flat_map(|folder| folder.read_dir().unwrap()).map(|entry| entry.unwrap().path());
        let newest = sources.filter(|path| path.is_file()).filter_map(|path| age(&path)).max();
        let is_current = age(&program).is_some_and(|age| newest.is_some_and(|newest| newest <= age));
        assert!(is_current, "{} is missing or old: run .ci/clients first", program.display());
        program.display().to_string()
    }

    fn command(&self, name: &str, way: &str, key: &Key) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("PREFIX", format!("{name}_{way}")).env("DOOR", way);
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

async fn run(command: &Command, name: &str, way: impl Debug, proxy: &Proxy) {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::spawn(name, command, dir.path()).unwrap();
    let ended = process.wait_exit(LIMIT).await;
    let said = process.stdout();
    let is_well = ended.as_ref().is_ok_and(std::process::ExitStatus::success) && said.trim() == "ok";
    // Of one that hangs: where each of its connections stands.
    let status = if is_well { None } else { proxy.status().await.ok() };
    let proxy = proxy.stderr();
    assert!(is_well, "{name}, {way:?}: {ended:?}\n{said}{}\n{status:#?}\n--- the proxy's log ---\n{proxy}", process.stderr());
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
