//! How the text of a setting is read: by its kind, with limits, and with a cure in every refusal.
//!
//! A text may come from a shell, a variable, a file or a URL: it is read the same way everywhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tracing_subscriber::EnvFilter;

use super::types::ListenAddr;
use super::words;

/// How a setting's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `250ms`, `5s`, `1h30m`.
    Duration(Limits),
    /// A whole number from the first to the second.
    Count(usize, usize),
    /// One of the words.
    Words(&'static [&'static str]),
    /// `on`/`off`, `true`/`false`, `yes`/`no`.
    Switch,
    /// A file.
    Path,
    /// `IP:PORT` or `unix:PATH`.
    Listen,
    /// `IP:PORT` or `off`.
    Admin,
    /// `auto` or a number of threads.
    Workers,
    /// A `tracing` filter.
    Filter,
    /// A name for metrics and logs.
    Label,
    /// A DNS name or an IP address.
    ServerName,
    /// The name of an environment variable.
    EnvName,
}

/// The durations that make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Zero has a meaning of its own.
    pub zero: bool,
    /// Shortest, zero aside.
    pub least: Duration,
    /// Longest.
    pub most: Duration,
}

impl Limits {
    const DAY: u64 = 24 * 60 * 60;
    /// Ages of pooled connections.
    pub const POOL_AGE: Self = Self::new(false, Duration::from_secs(1), 30 * Self::DAY);
    /// Deadlines that someone waits for.
    pub const WAIT: Self = Self::new(false, Duration::from_millis(1), 3600);
    /// As [`Limits::WAIT`], where not waiting at all makes sense.
    pub const POOL_WAIT: Self = Self::new(true, Duration::from_millis(1), 3600);
    /// Silence of a client.
    pub const IDLE: Self = Self::new(true, Duration::from_millis(1), 30 * Self::DAY);
    /// Linux takes whole seconds up to 32767.
    pub const KEEPALIVE: Self = Self::new(true, Duration::from_secs(1), 32_767);
    /// Linux takes 32 bits of milliseconds; a day is more than anyone means.
    pub const USER_TIMEOUT: Self = Self::new(true, Duration::from_millis(1), Self::DAY);
    /// Both halves of a drain.
    pub const DRAIN: Self = Self::new(true, Duration::from_millis(1), Self::DAY);

    const fn new(zero: bool, least: Duration, most_seconds: u64) -> Self {
        Self { zero, least, most: Duration::from_secs(most_seconds) }
    }
}

/// A setting's text, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// From [`Kind::Duration`].
    Duration(Duration),
    /// From [`Kind::Count`].
    Count(usize),
    /// From [`Kind::Words`].
    Word(&'static str),
    /// From [`Kind::Switch`].
    Switch(bool),
    /// From [`Kind::Path`].
    Path(PathBuf),
    /// From [`Kind::Listen`].
    Listen(ListenAddr),
    /// From [`Kind::Admin`]; `None` = off.
    Admin(Option<SocketAddr>),
    /// From [`Kind::Workers`]; `None` = auto.
    Workers(Option<usize>),
    /// From [`Kind::Filter`], [`Kind::Label`], [`Kind::ServerName`], [`Kind::EnvName`].
    Text(String),
}

impl Kind {
    /// The placeholder in the help.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Duration(_) => "TIME",
            Self::Count(..) => "N",
            Self::Words { .. } => "WORD",
            Self::Switch => "on|off",
            Self::Path => "FILE",
            Self::Listen | Self::Admin => "ADDR",
            Self::Workers => "auto|N",
            Self::Filter => "LEVEL",
            Self::Label | Self::ServerName | Self::EnvName => "NAME",
        }
    }

    /// Reads `text`.
    ///
    /// # Errors
    /// What is wrong with it, and the cure after a semicolon. The text itself is quoted, except where it might hold a misplaced password.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        if text.is_empty() {
            return Err("is empty; give a value or leave it out".to_owned());
        }
        self.read(text).map_err(|why| {
            if text.contains('@') || text.contains("://") {
                "looks like a URL or a login, which does not go here; see `redis-tls-proxy run --help`".to_owned()
            } else {
                why
            }
        })
    }

    fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Duration(limits) => duration(text, limits).map(Value::Duration),
            Self::Count(least, most) => count(text, least, most).map(Value::Count),
            Self::Words(words) => word(text, words).map(Value::Word),
            Self::Switch => switch(text).map(Value::Switch),
            Self::Path if text.contains("://") => Err("is a URL; give the path of a file".to_owned()),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Listen => listen(text).map(Value::Listen),
            // YAML 1.1 tools rewrite an unquoted `off` to `false`.
            Self::Admin if matches!(text, "off" | "false") => Ok(Value::Admin(None)),
            Self::Admin => socket(text).map(|address| Value::Admin(Some(address))).map_err(|why| format!("{why}, or off")),
            Self::Workers if text == "auto" => Ok(Value::Workers(None)),
            Self::Workers => count(text, 1, 1024).map(|n| Value::Workers(Some(n))).map_err(|why| format!("{why}, or auto")),
            Self::Filter => filter(text).map(Value::Text),
            Self::Label => label(text).map(Value::Text),
            Self::ServerName => server_name(text).map(Value::Text),
            Self::EnvName => env_name(text).map(Value::Text),
        }
    }
}

/// A duration with its unit; `0` without one, where zero has a meaning.
pub(super) fn duration(text: &str, limits: Limits) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok_and(|number| number != 0.0) {
        return Err(format!("`{text}` has no unit; say {text}s for seconds"));
    }
    let value = if text == "0" {
        Duration::ZERO
    } else {
        humantime::parse_duration(text).map_err(|_| format!("`{text}` is not a duration; say 5s, 250ms or 1h30m"))?
    };
    let shown = |limit| humantime::format_duration(limit);
    if value.is_zero() {
        return if limits.zero { Ok(value) } else { Err(format!("must not be zero; give {} or more", shown(limits.least))) };
    }
    if value < limits.least {
        return Err(format!("`{text}` is too short; give {} or more", shown(limits.least)));
    }
    if value > limits.most {
        return Err(format!("`{text}` is too long; give {} or less", shown(limits.most)));
    }
    Ok(value)
}

fn count(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let range = || format!("give a whole number from {least} to {most}");
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is not a whole number; {}", range()));
    }
    text.parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| format!("{text} is out of range; {}", range()))
}

fn word(text: &str, known: &'static [&'static str]) -> Result<&'static str, String> {
    known
        .iter()
        .find(|word| **word == text)
        .copied()
        .ok_or_else(|| format!("`{text}` is not one of the choices; {}", words::guess(text, known.iter().copied(), "say ")))
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off; say on or off")),
    }
}

/// Linux: `sun_path` has 108 bytes, the last of which is zero.
pub(super) const UNIX_PATH_BYTES: usize = 107;

fn listen(text: &str) -> Result<ListenAddr, String> {
    let Some(path) = text.strip_prefix("unix:") else {
        return socket(text).map(ListenAddr::Tcp).map_err(|why| format!("{why}, or unix:PATH"));
    };
    if path.is_empty() {
        return Err("unix: has no path; say unix:/run/redis-tls-proxy/redis.sock".to_owned());
    }
    if path.len() > UNIX_PATH_BYTES {
        return Err(format!("the path has {} bytes and the system allows {UNIX_PATH_BYTES}; choose a shorter one", path.len()));
    }
    Ok(ListenAddr::Unix(PathBuf::from(path)))
}

/// `IP:PORT`; `localhost` is 127.0.0.1, any other name might resolve to several addresses and is refused.
fn socket(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        let cure = match text.trim_start_matches(':').parse::<u16>() {
            Ok(port) => format!("say 127.0.0.1:{port}"),
            Err(_) => "say IP:PORT, such as 127.0.0.1:6379 or [::1]:6379".to_owned(),
        };
        format!("`{text}` is not an IP address with a port; {cure}")
    })
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(text: &str) -> Result<String, String> {
    // A bare word that is no level is to `tracing` the name of a module: `inof` would silence everything else.
    let is_level = |part: &str| LEVELS.contains(&part.trim().to_ascii_lowercase().as_str());
    if let Some(part) = text.split(',').find(|part| !part.contains(['=', '[']) && !is_level(part)) {
        return Err(format!("`{}` is not a level; {}", part.trim(), words::guess(part, LEVELS.into_iter(), "say ")));
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("`{text}` is not a log filter; say info, or info,redis_tls_proxy=debug")),
    }
}

fn label(text: &str) -> Result<String, String> {
    let fits = text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` cannot be a name; use up to 63 letters, digits, dots, dashes and underscores"))
}

/// A name that can stand in a certificate.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    ServerName::try_from(text)
        .map(|_| text.to_ascii_lowercase())
        .map_err(|_| format!("`{text}` is neither a DNS name nor an IP address; give the name in the server's certificate"))
}

fn env_name(text: &str) -> Result<String, String> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !text.starts_with(|c: char| c.is_ascii_digit());
    // Not quoted: it may be the password itself.
    fits.then(|| text.to_owned()).ok_or_else(|| "is not the name of an environment variable; give the name, not the password".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units_and_stay_within_limits() {
        let read = |text| duration(text, Limits::IDLE);
        assert_eq!(read("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(read("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(read("0").unwrap(), Duration::ZERO);
        assert_eq!(read("0s").unwrap(), Duration::ZERO);
        assert_eq!(read("5").unwrap_err(), "`5` has no unit; say 5s for seconds");
        assert_eq!(read("1.5").unwrap_err(), "`1.5` has no unit; say 1.5s for seconds");
        assert_eq!(read("soon").unwrap_err(), "`soon` is not a duration; say 5s, 250ms or 1h30m");
        assert_eq!(duration("0", Limits::WAIT).unwrap_err(), "must not be zero; give 1ms or more");
        assert_eq!(duration("500ms", Limits::KEEPALIVE).unwrap_err(), "`500ms` is too short; give 1s or more");
        assert_eq!(duration("2h", Limits::WAIT).unwrap_err(), "`2h` is too long; give 1h or less");
    }

    #[test]
    fn refusals_name_the_cure() {
        let refused = |kind: Kind, text: &str| kind.parse(text).unwrap_err();
        assert_eq!(refused(Kind::Words(&["relay"]), "rely"), "`rely` is not one of the choices; did you mean `relay`?");
        assert_eq!(refused(Kind::Count(1, 9), "-3"), "`-3` is not a whole number; give a whole number from 1 to 9");
        assert_eq!(
            refused(Kind::Count(1, 9), "99999999999999999999"),
            "99999999999999999999 is out of range; give a whole number from 1 to 9"
        );
        assert_eq!(refused(Kind::Listen, "6380"), "`6380` is not an IP address with a port; say 127.0.0.1:6380, or unix:PATH");
        assert_eq!(refused(Kind::Switch, "maybe"), "`maybe` is neither on nor off; say on or off");
        assert_eq!(refused(Kind::Filter, "inof"), "`inof` is not a level; did you mean `info`?");
        assert!(!refused(Kind::EnvName, "s3cret!").contains("s3cret"));
        assert!(refused(Kind::Listen, &format!("unix:/{}", "x".repeat(107))).starts_with("the path has 108 bytes"));
        assert!(refused(Kind::Path, "").contains("empty"));
    }

    #[test]
    fn accepts_what_people_write() {
        assert_eq!(Kind::Listen.parse("localhost:1"), Ok(Value::Listen(ListenAddr::Tcp(([127, 0, 0, 1], 1).into()))));
        assert_eq!(Kind::Listen.parse("unix:/a"), Ok(Value::Listen(ListenAddr::Unix("/a".into()))));
        assert_eq!(Kind::Admin.parse("off"), Ok(Value::Admin(None)));
        assert_eq!(Kind::Workers.parse("auto"), Ok(Value::Workers(None)));
        assert_eq!(Kind::Switch.parse("True"), Ok(Value::Switch(true)));
        assert_eq!(Kind::Filter.parse("info,redis_tls_proxy=debug"), Ok(Value::Text("info,redis_tls_proxy=debug".to_owned())));
    }
}
