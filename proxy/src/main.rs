//! The life of the process: read the configuration, bind and load everything, confine, serve, drain, and an exit code that says how it went.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | drained, or what was asked for is done |
//! | 1 | failed at run time, or `drain_timeout` passed with clients left |
//! | 64 | bad arguments or configuration; nothing was started |
//! | 130 | a second signal: ended at once |

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{ExitCode, exit};
use std::sync::Arc;

use redis_tls_proxy::admin::{self, Window};
use redis_tls_proxy::app::{App, Shared};
use redis_tls_proxy::cli::{self, Command, Exit};
use redis_tls_proxy::config::Loaded;
use redis_tls_proxy::control::ProcessControl;
use redis_tls_proxy::sandbox::{Allowed, confine};
use redis_tls_proxy::{check, limits, listener, logging, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

const FAILED: u8 = 1;
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    match cli::parse(std::env::args_os(), &env) {
        Ok(command) => carry_out(command),
        Err(Exit { text, stdout, code }) => {
            print(&text, stdout);
            ExitCode::from(code)
        }
    }
}

fn carry_out(command: Command) -> ExitCode {
    match command {
        Command::Run(loaded) => match run(loaded) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(Failure { why, code }) => {
                print(&format!("redis-tls-proxy: {why}\n"), false);
                ExitCode::from(code)
            }
        },
        Command::Check { loaded, output } => {
            loaded.warnings.iter().for_each(|warning| print(&format!("warning: {warning}\n"), false));
            let (text, ok) = block_on(check::check(&loaded.config, output));
            print(&text, true);
            ExitCode::from(if ok { 0 } else { FAILED })
        }
        Command::Validate { text, warnings } => {
            warnings.iter().for_each(|warning| print(&format!("warning: {warning}\n"), false));
            print(&text, true);
            ExitCode::SUCCESS
        }
        Command::Wait { admin, max } => match block_on(wait::wait(admin, max)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                print(&format!("redis-tls-proxy: {why}\n"), false);
                ExitCode::from(FAILED)
            }
        },
        Command::Completions(script) => {
            print(&script, true);
            ExitCode::SUCCESS
        }
    }
}

struct Failure {
    why: String,
    code: u8,
}

impl Failure {
    /// Something that the user has to change before anything can start.
    fn usage(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: cli::EXIT_USAGE }
    }

    fn run_time(why: &impl ToString) -> Self {
        Self { why: why.to_string(), code: FAILED }
    }
}

/// Serves until a signal, then drains; true if all clients were gone in time.
fn run(loaded: Loaded) -> Result<bool, Failure> {
    let process = loaded.config.process.clone();
    let log = logging::init(process.log_format, &process.log_level, process.quiet).map_err(Failure::usage)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let config = loaded.config;
    raise_limits(config.listeners.iter().map(|listener| listener.max_clients as u64).sum());

    let admin_socket = process
        .admin
        .map(|address| bind_admin(address).map_err(|error| Failure::usage(format!("admin: cannot listen on {address}: {error}"))))
        .transpose()?;
    let allowed = Allowed::for_config(&config);
    let app = App::build(config).map_err(Failure::usage)?;
    // Before any other thread exists: only threads that start later inherit the confinement.
    let sandbox =
        if process.landlock { confine(&allowed).map_err(|error| Failure::run_time(&error))?.to_string() } else { "off".to_owned() };

    let control = ProcessControl {
        metrics: Arc::clone(&app.metrics),
        listeners: app.listeners().to_vec(),
        windows: app.listeners().iter().map(|_| Window::default()).collect(),
        drain: app.drain.clone(),
        vitals: app.vitals.clone(),
        log,
        workers: process.workers,
        sandbox: sandbox.clone(),
    };
    let _admin =
        admin_socket.map(|socket| admin::spawn(socket, Arc::new(control))).transpose().map_err(|error| Failure::run_time(&error))?;
    announce(&app, process.admin, &sandbox);
    let listeners = app.listeners().to_vec();
    finish(runtime().map_err(|error| Failure::run_time(&error))?, async {
        let mut signals = Signals::new().map_err(|error| Failure::run_time(&error))?;
        let hangup = signal(SignalKind::hangup()).map_err(|error| Failure::run_time(&error))?;
        let (stop, stopped) = oneshot::channel();
        tokio::select! {
            clean = app.run(async { drop(stopped.await) }) => clean.map_err(|error| Failure::run_time(&error)),
            never = look_at_every_hangup(hangup, &listeners) => match never {},
            never = first_stops_second_ends(&mut signals, stop) => match never {},
        }
    })
}

fn bind_admin(address: SocketAddr) -> io::Result<TcpListener> {
    let taken = listener::is_taken(address);
    let socket = admin::bind(address)?;
    if taken {
        listener::warn_of_another(address);
    }
    Ok(socket)
}

fn raise_limits(max_clients: u64) {
    match limits::raise_nofile() {
        Ok(limit) => {
            if let Some(warning) = limits::shortfall(limit, max_clients) {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

fn announce(app: &App, admin: Option<SocketAddr>, sandbox: &str) {
    for shared in app.listeners() {
        let listener = &shared.listener;
        tracing::info!(
            listener = listener.name,
            listen = %listener.listen,
            upstream = format_args!("{}:{}", listener.upstream.host, listener.upstream.port),
            protocol = listener.protocol.name(),
            pool = listener.pool.mode.name(),
            "listening"
        );
    }
    let admin = admin.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/"));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), admin, landlock = sandbox, "started");
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The first signal begins the drain; the second ends the process on the spot.
async fn first_stops_second_ends(signals: &mut Signals, stop: oneshot::Sender<()>) -> Infallible {
    signals.next().await;
    // Fails only if a drain was already begun over HTTP.
    let _ = stop.send(());
    signals.next().await;
    tracing::warn!("second signal: ending at once");
    exit(INTERRUPTED)
}

/// SIGHUP asks for the look at files that is due every other second anyway; without a handler it would end the process.
async fn look_at_every_hangup(mut hangup: Signal, listeners: &[Arc<Shared>]) -> Infallible {
    loop {
        hangup.recv().await;
        listeners.iter().for_each(|shared| shared.look_at_files());
        tracing::info!("SIGHUP: looked at certificates and passwords");
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs to the end of `future` and no further: dropping the runtime would wait for its blocking threads, and getaddrinfo has no deadline.
fn finish<T>(runtime: Runtime, future: impl Future<Output = T>) -> T {
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    match runtime() {
        Ok(runtime) => finish(runtime, future),
        Err(error) => {
            print(&format!("redis-tls-proxy: cannot start: {error}\n"), false);
            exit(i32::from(FAILED));
        }
    }
}

/// A reader that has gone (`| head`) is no failure.
fn print(text: &str, stdout: bool) {
    let _ = if stdout { io::stdout().write_all(text.as_bytes()) } else { io::stderr().write_all(text.as_bytes()) };
}
