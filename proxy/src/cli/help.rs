//! What `--help` says: prose, examples, exit codes; and the shape of the commands.

use clap::{Arg, ArgAction, Command};

use super::{PROGRAM, setting_args};

const ABOUT: &str = "\
Plaintext Redis and PostgreSQL clients on one side, verified TLS connections to the server on the other.

Give it the server's URL, and point the client at 127.0.0.1. The server's certificate is always verified: chain, name and dates. \
Connections are kept ready, so that a client does not wait for a TLS handshake.";

// Lines of at most 96 letters: clap wraps longer ones wherever they happen to reach the edge.
const EXAMPLES: &str = "\
Examples:
  redis-tls-proxy rediss://db.example.com
        clients connect to 127.0.0.1:6379 and log in themselves
  REDIS_TLS_PROXY_PASSWORD=... redis-tls-proxy run rediss://default@db.example.com:25061/1
        the proxy logs in, the clients need not
  redis-tls-proxy run rediss://a.example.com 'postgresql://b.example.com?ca_file=ca.pem'
        two listeners; options of one stand in its URL
  redis-tls-proxy run --config /etc/redis-tls-proxy/proxy.yaml
  redis-tls-proxy check rediss://db.example.com
        names, TCP, TLS, login, round trip: what works and what does not
  redis-tls-proxy validate --config proxy.yaml --explain
        every mistake at once; else every setting, where it comes from and what it is for

Every setting can be a flag (--pool-size 20), a variable (REDIS_TLS_PROXY_POOL_SIZE=20) or a
key of the file (pool_size: 20); those of a listener also stand in its URL (?pool_size=20).
URL > flag > environment > listener in the file > top level of the file > default.

Passwords: ?password_file=FILE, or REDIS_TLS_PROXY_PASSWORD for the server and
REDIS_TLS_PROXY_CLIENT_PASSWORD for the clients. One in a URL on the command line works, but
other users of the machine can read it.

Exit codes:
  0    drained, or all is well
  1    failed while running, or the drain's deadline passed
  64   bad arguments or configuration
  130  second Ctrl-C";

const URLS: &str = "\
rediss://[user[:password]@]host[:6379][/db], postgresql://[user[:password]@]host[:5432][/database] or tls://host:port; \
one listener each, its options as ?listen=127.0.0.1:6380&max_clients=50";

/// The commands, built anew for each use: clap renders by changing them.
pub(super) fn command() -> Command {
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXAMPLES)
        .override_usage("redis-tls-proxy [run] [OPTIONS] URL...\n       redis-tls-proxy COMMAND")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .subcommand(configured("run", "Serve until SIGTERM or Ctrl-C; a URL as first argument means this").after_help(EXAMPLES))
        .subcommand(
            configured("check", "Look at every server once: name, TCP, TLS, login, round trip").arg(
                Arg::new("output").short('o').long("output").value_name("text|json").help("How to report [text]").action(ArgAction::Set),
            ),
        )
        .subcommand(
            configured("validate", "Show every mistake in the configuration with its cure, or what would run")
                .arg(switch("explain", "Show every setting, where its value comes from and what it is for"))
                .arg(switch("schema", "Print the JSON schema of the file and nothing else")),
        )
        .subcommand(
            Command::new("wait")
                .about("Wait until a proxy has started: its /startup says yes")
                .arg(Arg::new("max").long("max").value_name("TIME").help("Give up (exit 1) after so long [30s]").action(ArgAction::Set))
                .args(setting_args().filter(|arg| arg.get_id() == "admin").map(|arg| arg.help("Where to ask [127.0.0.1:9090]"))),
        )
        .subcommand(
            Command::new("completions")
                .about("Print the completion script of a shell: bash, elvish, fish, powershell or zsh")
                .arg(Arg::new("shell").value_name("SHELL").required(true).action(ArgAction::Set)),
        )
}

/// A command that takes a configuration.
fn configured(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(Arg::new("url").value_name("URL").num_args(0..).help(URLS).action(ArgAction::Append))
        .arg(
            Arg::new("config")
                .short('c')
                .long("config")
                .value_name("FILE")
                .help("Read a file instead of URLs [none; REDIS_TLS_PROXY_CONFIG]")
                .action(ArgAction::Set),
        )
        .args(setting_args())
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}
