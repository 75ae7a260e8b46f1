//! Redis and Valkey: login, what the server says of itself, PING.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::report::{Finding, Name};
use super::{Outcome, Steps, is_nearly_full};
use crate::config::{Listener, Pool};
use crate::error::{Error, Kind, Result, Side};
use crate::redis::command::encode;
use crate::redis::frame::ReplyScanner;
use crate::redis::login;
use crate::stream::Stream;
use crate::upstream::Upstream;

/// INFO's sections have a few KiB.
const MAX_REPLY_BYTES: usize = 256 * 1024;
const SILENT: &str = "it accepts connections but does not answer: is it busy with a slow command, or stopped?";

pub(super) async fn take_steps(listener: &Listener, upstream: &Upstream, stream: &mut Stream, steps: &mut Steps) -> Option<()> {
    let may_ask = steps.take(Name::Login, SILENT, log_in(upstream, stream)).await?;
    if may_ask {
        steps.take(Name::Server, SILENT, server(&listener.pool, stream)).await?;
    } else {
        steps.skip(Name::Server, "not tried: it needs a login; give credentials to see it");
    }
    // An answer of NOAUTH has made the same way.
    steps.round_trips("PING", async || ask(stream, &["PING"]).await.map(drop)).await
}

/// As when serving. The value: the server answers commands.
async fn log_in(upstream: &Upstream, stream: &mut Stream) -> Outcome<bool> {
    let config = upstream.config();
    let database = config.database.as_deref().and_then(|number| number.parse().ok());
    let user = config.credentials.as_ref().and_then(|login| login.user.as_deref());
    let password = upstream.password();
    login(stream, user, password.as_deref(), database).await?;
    if password.is_some() {
        let user = user.unwrap_or("default");
        let on = database.filter(|number| *number != 0).map(|number| format!(", database {number}")).unwrap_or_default();
        return Ok((Finding::ok(format!("as {user}{on}")).fact("credentials", true).fact("user", user), true));
    }
    let (says, may_ask) = match ask(stream, &["PING"]).await? {
        Reply::Text(_) => ("no credentials given, and the server asks for none", true),
        Reply::Error(code) if code == "NOAUTH" => ("no credentials given: the client's own login passes through", false),
        Reply::Error(code) => return Err(Error::upstream(Kind::Login, format!("PING answered with {code}")).into()),
    };
    Ok((Finding::ok(says).fact("credentials", false), may_ask))
}

async fn server(pool: &Pool, stream: &mut Stream) -> Outcome<()> {
    let info = ask(stream, &["INFO", "server"]).await?;
    let clients_info = ask(stream, &["INFO", "clients"]).await?;
    let max_clients = ask(stream, &["CONFIG", "GET", "maxclients"]).await?;
    let timeout = ask(stream, &["CONFIG", "GET", "timeout"]).await?;
    let finding = match &info {
        Reply::Text(text) => {
            // Valkey calls itself Redis 7.2 too, for old clients.
            let software = if field(text, "valkey_version").is_some() { "Valkey" } else { "Redis" };
            let version = field(text, "valkey_version").or_else(|| field(text, "redis_version")).unwrap_or("of unknown version");
            let mode = field(text, "redis_mode").or_else(|| field(text, "server_mode")).unwrap_or("unknown mode");
            Finding::ok(format!("{software} {version}, {mode}")).fact("software", software).fact("version", version).fact("mode", mode)
        }
        Reply::Error(code) => Finding::ok(format!("it does not say what it is (INFO: not allowed, {code})")),
    };
    let finding = clients(finding, clients_info.text(), &max_clients);
    Ok((idle_timeout(finding, pool.max_idle_age, &timeout), ()))
}

fn clients(finding: Finding, info: Option<&str>, config: &Reply) -> Finding {
    let number = |name| info.and_then(|text| field(text, name)).and_then(|text| text.parse::<u64>().ok());
    // INFO has the limit too, since Redis 7; managed services hide CONFIG.
    let (used, limit) = (number("connected_clients"), config.value().or_else(|| number("maxclients")));
    let shown = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let mut finding = finding;
    for (key, value) in [("clients", used), ("max_clients", limit)] {
        if let Some(value) = value {
            finding = finding.fact(key, value);
        }
    }
    let limit_shown = limit.map_or_else(|| format!("unknown ({})", config.refusal()), |limit| limit.to_string());
    let text = format!("{} connected of maxclients {limit_shown}", shown(used));
    match (used, limit) {
        (Some(used), Some(limit)) if is_nearly_full(used, limit) => {
            finding.warn("clients", format!("{text}: nearly full; raise maxclients or choose a bigger plan"))
        }
        _ => finding.line("clients", text),
    }
}

/// The server must not close what the stock keeps ready.
fn idle_timeout(finding: Finding, max_idle_age: Duration, config: &Reply) -> Finding {
    let age = humantime::format_duration(max_idle_age);
    let Some(seconds) = config.value() else {
        let why = config.refusal();
        return finding.line("timeout", format!("unknown ({why}); keep pool_max_idle_age ({age}) below it"));
    };
    let finding = finding.fact("timeout_seconds", seconds);
    if seconds == 0 {
        return finding.line("timeout", "the server never closes idle connections");
    }
    let closes = format!("the server closes idle connections after {seconds} s");
    if Duration::from_secs(seconds) <= max_idle_age {
        finding.warn("timeout", format!("{closes}, but pool_max_idle_age is {age}: set it below, or clients get dead connections"))
    } else {
        finding.line("timeout", format!("{closes}; pool_max_idle_age {age} is below"))
    }
}

/// A field of INFO.
fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

/// A reply, as far as `check` asks for it.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// A status or a string; of an array, the elements' lines with their lengths.
    Text(String),
    /// The code of an error.
    Error(String),
}

impl Reply {
    fn parse(frame: &[u8]) -> Self {
        let text = String::from_utf8_lossy(frame);
        match text.split_at_checked(1) {
            Some(("-", line)) => {
                let code = line.split_whitespace().next().filter(|code| code.bytes().all(|byte| byte.is_ascii_uppercase()));
                Self::Error(code.unwrap_or("an error").to_owned())
            }
            Some(("$", rest)) => Self::Text(rest.split_once("\r\n").map_or("", |(_, payload)| payload).to_owned()),
            Some((_, rest)) => Self::Text(rest.trim_end().to_owned()),
            None => Self::Text(String::new()),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Error(_) => None,
        }
    }

    /// The value in a reply to CONFIG GET, a number: the last line of the array. Services that hide CONFIG return an empty one, or an error.
    fn value(&self) -> Option<u64> {
        self.text()?.lines().nth(4)?.parse().ok()
    }

    /// Why [`Reply::value`] has nothing.
    fn refusal(&self) -> String {
        match self {
            Self::Text(_) => "the server does not tell".to_owned(),
            Self::Error(code) => format!("CONFIG GET: not allowed, {code}"),
        }
    }
}

/// One command, one reply.
async fn ask(stream: &mut Stream, command: &[&str]) -> Result<Reply> {
    let arguments: Vec<_> = command.iter().map(|argument| argument.as_bytes()).collect();
    let sent = async {
        stream.write_all(&encode(&arguments)).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| Error::io(Side::Upstream, &error))?;
    let name = command.first().copied().unwrap_or_default();
    let mut scanner = ReplyScanner::new();
    let mut frame = Vec::new();
    loop {
        let seen = frame.len();
        let read = stream.read_buf(&mut frame).await.map_err(|error| Error::io(Side::Upstream, &error))?;
        if read == 0 {
            return Err(Error::upstream(Kind::Io, format!("closed while {name} was unanswered; is the server out of connections?")));
        }
        let broken = |why: &dyn std::fmt::Display| {
            Error::upstream(Kind::Protocol, format!("unexpected answer to {name} ({why}); is it a Redis server?"))
        };
        match scanner.next(frame.get(seen..).unwrap_or_default()) {
            Ok(Some(reply)) => {
                frame.truncate(seen + reply.end);
                return Ok(Reply::parse(&frame));
            }
            Ok(None) if frame.len() <= MAX_REPLY_BYTES => {}
            Ok(None) => return Err(broken(&"too long")),
            Err(error) => return Err(broken(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_and_refusals() {
        let config = Reply::parse(b"*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n");
        assert_eq!(config.value(), Some(10_000));
        assert_eq!(Reply::parse(b"*0\r\n").value(), None);
        let refused = Reply::parse(b"-NOPERM User a has no permissions to run the 'config|get' command\r\n");
        assert_eq!((refused.value(), refused.refusal().as_str()), (None, "CONFIG GET: not allowed, NOPERM"));
        assert_eq!(Reply::parse(b"-oops\r\n"), Reply::Error("an error".to_owned()));
        let info = Reply::parse(b"$44\r\n# Server\r\nredis_version:7.0.15\r\nredis_mode:x\r\n\r\n");
        assert_eq!(field(info.text().unwrap(), "redis_version"), Some("7.0.15"));
        assert_eq!(field(info.text().unwrap(), "version"), None);
    }
}
