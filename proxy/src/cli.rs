//! The command line: arguments and environment in, one checked [`Command`] or the text to [`Exit`] with out.
//!
//! Nothing here prints or exits: `main` does. The flags come from the table of settings, all as plain text, so that what is wrong with a
//! flag, a variable, a file key or a URL is said in one place and in one way, and `clap` never quotes a value that may hold a password.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches};
use clap_complete::Shell;

use crate::config::settings::{ENV_PREFIX, Key, SETTINGS, Scope, Setting};
use crate::config::value::{Kind, Limits, Value};
use crate::config::{self, CONFIG_ENV, Env, Loaded, Mistakes, Purpose, Sources};

mod help;

const PROGRAM: &str = "redis-tls-proxy";

/// Bad arguments or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// What to do, with everything that it needs.
#[derive(Debug)]
pub enum Command {
    /// Serve until a signal.
    Run(Loaded),
    /// Look at every upstream once and report.
    Check {
        /// What to look at; nothing of it is listened on.
        loaded: Loaded,
        /// How to report.
        output: Output,
    },
    /// The configuration is good: print this to standard output, the warnings to standard error, exit 0.
    Validate {
        /// The table or the explanation.
        text: String,
        /// One line each.
        warnings: Vec<String>,
    },
    /// Ask `http://{admin}/startup` until it says yes (exit 0) or `max` has passed (exit 1).
    Wait {
        /// Never a wildcard address.
        admin: SocketAddr,
        /// Longer than zero.
        max: Duration,
    },
    /// Print this script to standard output, exit 0.
    Completions(String),
}

/// How `check` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// The process is to end with this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Ends with a newline; never a password.
    pub text: String,
    /// Standard output for what was asked for, standard error for what went wrong.
    pub stdout: bool,
    /// 0 or [`EXIT_USAGE`].
    pub code: u8,
}

impl Exit {
    fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), stdout: false, code: EXIT_USAGE }
    }

    fn asked_for(text: impl Into<String>) -> Self {
        Self { text: text.into(), stdout: true, code: 0 }
    }

    fn mistakes(mistakes: &Mistakes) -> Self {
        let count = mistakes.sorted().len();
        let words = if count == 1 { "1 mistake".to_owned() } else { format!("{count} mistakes") };
        Self::usage(format!("{mistakes}{words}; nothing was started\n"))
    }
}

/// Reads the arguments (the program's own name first) and the environment, loads the configuration that they name and checks it. Blocks
/// on files; call it before the runtime starts.
///
/// # Errors
/// What to print and the exit code: help and version with 0, every mistake with 64.
pub fn parse(args: impl Iterator<Item = OsString>, env: Env<'_>) -> Result<Command, Exit> {
    let mut args: Vec<OsString> = args.collect();
    match args.get(1) {
        None => return Err(Exit::usage(help::command().render_help().to_string())),
        // As with most programs that have commands; `help COMMAND` is `COMMAND --help`.
        Some(first) if first == "help" => {
            args.remove(1);
            args.truncate(2);
            args.push("--help".into());
        }
        Some(first) if means_run(&first.to_string_lossy()) => args.insert(1, "run".into()),
        Some(_) => {}
    }
    let matches = help::command().try_get_matches_from(&args).map_err(|error| from_clap(&error, &args))?;
    match matches.subcommand() {
        Some(("run", matches)) => load(matches, env, Purpose::Serve).map(Command::Run),
        Some(("check", matches)) => check(matches, env),
        Some(("validate", matches)) => validate(matches, env),
        Some(("wait", matches)) => wait(matches, env),
        Some(("completions", matches)) => completions(matches),
        _ => Err(Exit::usage(help::command().render_help().to_string())),
    }
}

/// `redis-tls-proxy rediss://…` and `redis-tls-proxy --config FILE` mean `run`.
fn means_run(first: &str) -> bool {
    first.contains("://") || (first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&first))
}

fn check(matches: &ArgMatches, env: Env<'_>) -> Result<Command, Exit> {
    let output = match text(matches, "output").unwrap_or("text") {
        "text" => Output::Text,
        "json" => Output::Json,
        _ => return Err(Exit::usage("--output: is neither text nor json; say -o json\n")),
    };
    Ok(Command::Check { loaded: load(matches, env, Purpose::Check)?, output })
}

fn validate(matches: &ArgMatches, env: Env<'_>) -> Result<Command, Exit> {
    if matches.get_flag("schema") {
        return Err(Exit::asked_for(config::schema()));
    }
    let loaded = load(matches, env, Purpose::Serve)?;
    let text = if matches.get_flag("explain") { loaded.explanation() } else { loaded.table() };
    Ok(Command::Validate { text, warnings: loaded.warnings })
}

fn wait(matches: &ArgMatches, env: Env<'_>) -> Result<Command, Exit> {
    let max = match Kind::Duration(Limits::WAIT).parse(text(matches, "max").unwrap_or("30s")) {
        Ok(Value::Duration(max)) => max,
        Ok(_) => Duration::from_secs(30),
        Err(why) => return Err(Exit::usage(format!("--max: {why}\n"))),
    };
    let setting = Key::Admin.setting();
    let from_env = env(&setting.env_key()).filter(|text| !text.is_empty());
    let (place, given) = match (text(matches, setting.name), &from_env) {
        (Some(text), _) => ("--admin".to_owned(), text),
        (None, Some(text)) => (setting.env_key(), text.as_str()),
        (None, None) => ("--admin".to_owned(), setting.preset.text(None).unwrap_or_default()),
    };
    match setting.kind.parse(given) {
        Ok(Value::Admin(Some(admin))) => Ok(Command::Wait { admin: reachable(admin), max }),
        Ok(_) => Err(Exit::usage(format!("{place}: is off, so there is nobody to ask; give the address of the proxy's admin\n"))),
        Err(why) => Err(Exit::usage(format!("{place}: {why}\n"))),
    }
}

/// What a wildcard listens on can be reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn completions(matches: &ArgMatches) -> Result<Command, Exit> {
    let shell: Shell = text(matches, "shell")
        .unwrap_or_default()
        .parse()
        .map_err(|_| Exit::usage("SHELL: is not a known shell; say bash, elvish, fish, powershell or zsh\n"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), PROGRAM, &mut script);
    Ok(Command::Completions(String::from_utf8_lossy(&script).into_owned()))
}

fn load(matches: &ArgMatches, env: Env<'_>, purpose: Purpose) -> Result<Loaded, Exit> {
    let urls: Vec<String> = matches.get_many::<String>("url").into_iter().flatten().cloned().collect();
    let from_env = env(CONFIG_ENV).filter(|path| !path.is_empty()).map(PathBuf::from);
    let is_left_out = from_env.is_some() && !urls.is_empty();
    let file = match text(matches, "config") {
        Some(_) if !urls.is_empty() => {
            return Err(Exit::usage("--config: cannot stand beside URLs; put them into the file, or leave the file out\n"));
        }
        Some(path) => Some(PathBuf::from(path)),
        None if urls.is_empty() => from_env,
        None => None,
    };
    let given = |setting: &Setting| text(matches, setting.name).map(|text| (setting.key, text.to_owned()));
    let flags: BTreeMap<Key, String> = SETTINGS.iter().filter_map(given).collect();
    let variables = variables();
    let sources = Sources { urls, file, flags, env, variables, purpose, probe: &config::probe_bind };
    let mut loaded = config::load(&sources).map_err(|mistakes| Exit::mistakes(&mistakes))?;
    if is_left_out {
        loaded.warnings.push(format!("{CONFIG_ENV} is set, but its file is not read, because there are URLs; keep one of them"));
    }
    Ok(loaded)
}

/// The names of the variables that begin like ours: a lookup alone does not find those that are misspelt.
fn variables() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| name.starts_with(ENV_PREFIX)).collect()
}

fn text<'m>(matches: &'m ArgMatches, name: &str) -> Option<&'m str> {
    matches.try_get_one::<String>(name).ok().flatten().map(String::as_str)
}

/// The flags of the table.
fn setting_args() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(|setting| {
        let heading = match setting.scope {
            Scope::Process => "Settings of the process",
            Scope::Listener => "Settings of every listener",
        };
        let arg = Arg::new(setting.name)
            .long(setting.name)
            .value_name(setting.kind.placeholder())
            .help(format!("{} [{}]", setting.help, setting.preset.shown()))
            .help_heading(heading)
            .action(ArgAction::Set)
            // A value such as -1 is to be refused by its kind, with a cure.
            .allow_hyphen_values(matches!(setting.kind, Kind::Count(..) | Kind::Workers));
        match (setting.kind, setting.preset.text(None)) {
            // `--ca-only` alone means on; a value needs the `=`, or it would swallow the URL behind it.
            (Kind::Switch, Some("off")) => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
            _ => arg,
        }
    })
}

/// clap's words, without anything in which a password may hide: an argument that is not a plain word is not repeated.
fn from_clap(error: &clap::Error, args: &[OsString]) -> Exit {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Exit::asked_for(text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Exit::usage(text),
        _ => {}
    }
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let mut text = text;
    for arg in args.iter().skip(1) {
        let arg = arg.to_string_lossy();
        let value = if arg.starts_with('-') { arg.split_once('=').map_or("", |(_, value)| value) } else { &arg };
        if value.len() > 3 && !is_word(value) {
            text = text.replace(value, "***");
        }
    }
    Exit::usage(text)
}
