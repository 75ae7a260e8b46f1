//! The commands: each reads what it needs, calls the rooms that know how, and says what came of it.

use std::future::Future;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::apply::TimedOut;
use crate::cli::{Cli, Command, Output, Shared};
use crate::digitalocean::Client;
use crate::keyring::Keyring;
use crate::observe::S3;
use crate::spec::{Mistakes, Spec};
use crate::{http, token};

mod apply;
mod destroy;
mod init;
mod plan;
mod render;
mod rotate;
mod status;

/// Done.
const DONE: u8 = 0;
/// Something failed, and was said.
const FAILED: u8 = 1;
/// The plan has something to do.
const CHANGES: u8 = 2;
/// The preflight found something.
const PREFLIGHT: u8 = 3;
/// It takes longer than it may; run again.
const TIMED_OUT: u8 = 4;
/// Bad arguments or spec (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Ctrl-C; run again.
const INTERRUPTED: u8 = 130;

/// Carries out a command; says what went wrong.
pub async fn run(cli: Cli) -> ExitCode {
    match dispatch(cli).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("doks-harbor: {error:#}"));
            let code = if error.chain().any(|cause| cause.is::<TimedOut>()) {
                TIMED_OUT
            } else if error.chain().any(|cause| cause.is::<Mistakes>()) {
                USAGE
            } else {
                FAILED
            };
            ExitCode::from(code)
        }
    }
}

async fn dispatch(cli: Cli) -> Result<u8> {
    let shared = &cli.shared;
    match cli.command {
        Command::Init(args) => init::run(shared, &args).await,
        Command::Preflight => plan::preflight(shared).await,
        Command::Plan => plan::plan(shared).await,
        Command::Apply(args) => apply::run(shared, &args).await,
        Command::Status(args) => status::run(shared, &args).await,
        Command::Render(args) => render::run(shared, &args).await,
        Command::Rotate(args) => rotate::run(shared, &args).await,
        Command::Destroy(args) => destroy::run(shared, &args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "doks-harbor", &mut script);
            say(String::from_utf8_lossy(&script).trim_end());
            Ok(DONE)
        }
    }
}

/// What most commands work with.
struct Tools {
    client: Client,
    s3: S3,
    spec: Spec,
}

impl Tools {
    fn new(shared: &Shared) -> Result<Self> {
        let spec = read_spec(&shared.spec)?;
        let (client, s3) = servers(shared)?;
        Ok(Self { client, s3, spec })
    }
}

fn servers(shared: &Shared) -> Result<(Client, S3)> {
    let token = token::find(shared.token_file.as_deref(), shared.context.as_deref(), &|name| std::env::var(name).ok())?;
    let http = http::client()?;
    let client = Client::new(&shared.api_url, token, http.clone());
    Ok((client, S3 { endpoint: shared.spaces_endpoint.clone(), http }))
}

fn read_spec(path: &Path) -> Result<Spec> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read; `doks-harbor init` writes one"))?;
    Spec::read(&text).with_context(|| format!("{shown} has mistakes; nothing was done"))
}

/// Where there is one; commands that only look make none.
fn keyring(shared: &Shared) -> Result<Option<Keyring>> {
    Keyring::open_existing(&shared.keyring)
}

/// A result: standard output.
fn say(text: &str) {
    // A reader that has gone is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Anything else: standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A result in the form that was asked for.
fn show<T: Serialize + std::fmt::Display>(output: Output, what: &T) -> Result<()> {
    match output {
        Output::Text => say(what.to_string().trim_end()),
        Output::Json => say(&serde_json::to_string_pretty(what)?),
    }
    Ok(())
}

/// Asks a person, if there is one. `None`: there is nobody to ask.
fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let _ = write!(std::io::stderr(), "{question} ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

/// The outcome, or `None` after Ctrl-C or SIGTERM: then `work` has been dropped.
async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await.unwrap_or(()),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
        () = terminated => None,
    }
}

/// `2026-11-22`.
fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let days = i32::try_from(since.as_secs() / 86_400).unwrap_or(i32::MAX);
    // 1970-01-01 is Julian day 2440588.
    time::Date::from_julian_day(days.saturating_add(2_440_588)).map_or_else(|_| String::new(), |date| date.to_string())
}
