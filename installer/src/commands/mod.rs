//! The commands: each reads what it needs, calls the rooms that know how, and says what came of it.

#![allow(clippy::large_futures, reason = "a process runs one command, once")]

use std::future::Future;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::apply::{Temporary, is_late};
use crate::checks::{Report, Status};
use crate::cli::{Cli, Command, Output, Shared};
use crate::cluster::{Access, Cluster, check};
use crate::digitalocean::Client;
use crate::keyring::Keyring;
use crate::observe::{S3, find_cluster};
use crate::spec::{Mistakes, Spec};
use crate::{http, preflight, token};

mod apply;
mod database;
mod destroy;
mod doctor;
mod harbor;
mod init;
mod open;
mod plan;
mod pull_secret;
mod release;
mod render;
mod rotate;
mod sight;
mod smoke;
mod status;
mod trust;

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
/// For the deletion of the temporary key, after Ctrl-C.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Carries out a command; says what went wrong.
pub async fn run(cli: Cli) -> ExitCode {
    let output = cli.shared.output;
    match dispatch(cli).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let (code, told) = (code_of(&error), format!("{error:#}"));
            complain(&format!("doks-harbor: {told}"));
            if output == Output::Json {
                // Whoever reads JSON finds a document, whatever happened.
                say(&serde_json::json!({ "error": told, "exit_code": code }).to_string());
            }
            ExitCode::from(code)
        }
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() {
        INTERRUPTED
    } else if is_late(error) {
        TIMED_OUT
    } else if error.chain().any(<dyn std::error::Error>::is::<Mistakes>) {
        USAGE
    } else {
        FAILED
    }
}

/// Ctrl-C or SIGTERM: exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {0}")]
struct Interrupted(&'static str);

async fn dispatch(cli: Cli) -> Result<u8> {
    let shared = &cli.shared;
    match cli.command {
        Command::Init(args) => init::run(shared, &args).await,
        Command::Preflight(args) => looking(plan::preflight(shared, &args)).await,
        Command::Plan(args) => looking(plan::plan(shared, &args)).await,
        Command::Apply(args) => apply::run(shared, &args).await,
        Command::Status(args) => status::run(shared, &args).await,
        Command::Render(args) => render::run(shared, &args).await,
        Command::Smoke(args) => smoke::run(shared, &args).await,
        Command::Trust(args) => trust::run(shared, &args).await,
        Command::PullSecret(args) => pull_secret::run(shared, &args).await,
        Command::Open(args) => open::run(shared, &args).await,
        Command::Doctor(args) => looking(doctor::run(shared, &args)).await,
        Command::Database(args) => database::run(&args).await,
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

/// A command that changes nothing. Stopped, it takes its temporary files with it (helm's kubeconfig, a copy of the keyring): they hold secrets.
async fn looking(work: impl Future<Output = Result<u8>>) -> Result<u8> {
    unless_interrupted(work).await.unwrap_or_else(|| Err(Interrupted("nothing was changed").into()))
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

/// The cluster's own API: by the user's kubeconfig, else by credentials that DigitalOcean gives for an hour. Does not talk to it yet.
async fn cluster(shared: &Shared, spec: &Spec) -> Result<Cluster> {
    let access = match &shared.kubeconfig {
        Some(file) => Access::file(file, shared.kube_context.as_deref()).await?,
        None => {
            let (client, _) = servers(shared)?;
            let clusters = client.clusters().await?;
            Access::digitalocean(&client, &find_cluster(&clusters, &spec.cluster)?.id).await?
        }
    };
    Cluster::new(access, &spec.namespace)
}

/// [`cluster`], asked who it is: it must be the DOKS cluster of the spec.
async fn reached(shared: &Shared, tools: &Tools) -> Result<Cluster> {
    let cluster = cluster(shared, &tools.spec).await?;
    let sight = check::Sight::look(&cluster).await?;
    let mut report = Report::default();
    let clusters = tools.client.clusters().await?;
    preflight::cluster::judge(&mut report, &tools.spec, Some(find_cluster(&clusters, &tools.spec.cluster)?), &Ok(sight));
    match report.checks.into_iter().find(|check| check.status == Status::Bad) {
        Some(check) => bail!("{}; {}", check.says, check.cure.unwrap_or_default()),
        None => Ok(cluster),
    }
}

fn read_spec(path: &Path) -> Result<Spec> {
    let shown = path.display();
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| usage(format!("{shown} cannot be read ({error}); `doks-harbor init` writes one")))?;
    Spec::read(&text).with_context(|| format!("{shown} has mistakes; nothing was done"))
}

/// Exit code 64.
fn usage(why: impl Into<String>) -> anyhow::Error {
    Mistakes(vec![why.into()]).into()
}

/// Where there is one; commands that only look make none.
fn keyring(shared: &Shared) -> Result<Option<Keyring>> {
    Keyring::look(&shared.keyring)
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

/// Asks a person, if there is one. `None`: there is nobody to ask. Ctrl-C ends the waiting.
async fn ask(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let _ = write!(std::io::stderr(), "{question} ");
    let _ = std::io::stderr().flush();
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own, which nobody waits for: a read cannot be interrupted.
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        let _ = tell.send(read.ok().map(|_| answer.trim().to_owned()));
    });
    told.await.ok().flatten()
}

/// A question that is answered with yes or no.
///
/// # Errors
/// When it is not answered with yes.
async fn agreed(question: &str) -> Result<()> {
    match ask(&format!("{question} [y/N]")).await.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => bail!("nothing was done"),
        None => bail!("nothing was done: there is nobody to ask; say --yes"),
    }
}

/// The outcome of work that may have made a key which must not outlive it.
///
/// # Errors
/// [`Interrupted`] after Ctrl-C or SIGTERM, with the key gone; as the work itself.
async fn unless_stopped<T>(client: &Client, temporary: &Temporary, next: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    if let Some(outcome) = unless_interrupted(work).await {
        return outcome;
    }
    complain("interrupted; one moment");
    // Once more Ctrl-C, and this is left to the next run, too.
    let removed = unless_interrupted(tokio::time::timeout(LAST_WORDS, temporary.remove(client))).await;
    let left = removed.and_then(|removed| removed.unwrap_or_else(|_| Err(anyhow!("a temporary Spaces key may be left"))).err());
    Err(left.map_or_else(|| Interrupted(next).into(), |left| left.context(Interrupted(next))))
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

/// Unix seconds.
fn now() -> i64 {
    Timestamp::now().as_second()
}

/// `2026-11-22`.
fn today() -> String {
    let days = i32::try_from(now() / 86_400).unwrap_or(i32::MAX);
    // 1970-01-01 is Julian day 2440588.
    time::Date::from_julian_day(days.saturating_add(2_440_588)).map_or_else(|_| String::new(), |date| date.to_string())
}
