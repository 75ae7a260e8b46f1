//! Log lines: how they look, which are written, and how a flood of equal ones is held back.
//!
//! Everything goes to stderr, one line an event. Text: `2026-01-01T00:00:00.000Z INFO message key=value`. JSON: one flat object with
//! `timestamp`, `severity`, `message` and the event's fields. Spans are not shown: an event carries its own fields. Values may come from
//! peers, so control characters never reach the output as they are.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::Hash;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::LogFormat;

/// Changes the log filter of the running process; cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    directive: Arc<Mutex<String>>,
}

impl LogControl {
    /// Puts another filter in force: a level, or `target=level` pairs, separated by commas.
    ///
    /// # Errors
    /// What is wrong with the directive; the old filter stays.
    pub fn set(&self, directive: &str) -> Result<(), String> {
        let filter = parse(directive)?;
        // The lock is held across the swap, so that level() never names a filter that another thread has already replaced.
        let mut current = self.directive.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.reload(filter).map_err(|error| format!("the log filter cannot be replaced: {error}"))?;
        directive.clone_into(&mut current);
        Ok(())
    }

    /// The filter in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.directive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts logging to stderr; call it once, first thing. `quiet` means `warn`, whatever `level` says. Colours appear only on a terminal, and
/// not when `NO_COLOR` is set.
///
/// # Errors
/// What is wrong with `level`, or that logging has been started before.
pub fn init(format: LogFormat, level: &str, quiet: bool) -> Result<LogControl, String> {
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let (subscriber, control) = subscriber(format, if quiet { "warn" } else { level }, colours, std::io::stderr)?;
    subscriber.try_init().map_err(|error| format!("logging cannot start: {error}"))?;
    Ok(control)
}

fn subscriber<W>(
    format: LogFormat,
    directive: &str,
    colours: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogControl), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(directive)?);
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer).event_format(Lines { format, colours });
    let control = LogControl { handle, directive: Arc::new(Mutex::new(directive.to_owned())) };
    Ok((tracing_subscriber::registry().with(filter).with(lines), control))
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Stricter than [`EnvFilter`], which takes a misspelt level for the name of a target and then logs nothing else.
fn parse(directive: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    for part in directive.split(',').map(str::trim) {
        let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        let target_is_fine =
            target.is_none_or(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-' | b'.')));
        if !is_level(level) || !target_is_fine {
            return Err(format!(
                "log level: {part:?} is neither one of {} nor `target=level`; example: info,redis_tls_proxy=debug",
                LEVELS.join(", ")
            ));
        }
    }
    let tight: String = directive.chars().filter(|c| !c.is_whitespace()).collect();
    EnvFilter::builder().parse(tight).map_err(|error| format!("log level: {directive:?}: {error}"))
}

/// Writes one event as one line.
struct Lines {
    format: LogFormat,
    colours: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut fields = Fields::default();
        event.record(&mut fields);
        match self.format {
            LogFormat::Text => text_line(writer, &timestamp, event, fields, self.colours),
            LogFormat::Json => json_line(writer, timestamp, event, fields),
        }
    }
}

fn text_line(mut out: Writer<'_>, timestamp: &str, event: &Event<'_>, fields: Fields, colours: bool) -> fmt::Result {
    let level = *event.metadata().level();
    if colours {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        write!(out, "\x1b[2m{timestamp}\x1b[0m \x1b[{colour}m{level}\x1b[0m")?;
    } else {
        write!(out, "{timestamp} {level}")?;
    }
    if level > Level::INFO {
        write!(out, " {}:", event.metadata().target())?;
    }
    if !fields.message.is_empty() {
        write!(out, " {}", OneLine(&fields.message))?;
    }
    for (key, value) in fields.rest {
        let plain = match &value {
            Value::String(text) if !needs_quotes(text) => text.clone(),
            other => other.to_string(),
        };
        if colours {
            write!(out, " \x1b[2m{key}=\x1b[0m{}", OneLine(&plain))?;
        } else {
            write!(out, " {key}={}", OneLine(&plain))?;
        }
    }
    writeln!(out)
}

fn json_line(mut out: Writer<'_>, timestamp: String, event: &Event<'_>, fields: Fields) -> fmt::Result {
    let level = *event.metadata().level();
    let mut object = fields.rest;
    if level > Level::INFO {
        object.insert("target".into(), event.metadata().target().into());
    }
    object.insert("timestamp".into(), timestamp.into());
    object.insert("severity".into(), level.as_str().into());
    object.insert("message".into(), fields.message.into());
    writeln!(out, "{}", Value::Object(object))
}

/// A value that would not be told apart from what stands around it.
fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'))
}

/// Text in which a control character appears as its escape: a peer's bytes must not forge a line or drive a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// An event's fields in the order of their names.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            // Where a bridged record came from; the event's metadata says it already.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                self.rest.insert(name.trim_start_matches("r#").to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no infinity and no NaN.
        self.put(field, serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number));
    }
}

/// Lets one of many equal events through per interval, and counts the rest. The key says which are equal: `(listener, kind)`.
///
/// Shared between threads; the lock is held for a map look-up.
pub struct Throttle<K> {
    interval: Duration,
    capacity: usize,
    seen: Mutex<HashMap<K, Seen>>,
}

struct Seen {
    written_at: Instant,
    suppressed: u64,
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    /// One event per key and `interval`, for at most `capacity` keys; beyond that the key that was written longest ago is forgotten.
    #[must_use]
    pub fn new(interval: Duration, capacity: usize) -> Self {
        Self { interval, capacity: capacity.max(1), seen: Mutex::new(HashMap::new()) }
    }

    /// Whether to write an event now: `Some` with the number of equal ones held back since the last that was written, or `None`.
    pub fn check(&self, key: &K) -> Option<u64> {
        self.check_at(key, tokio::time::Instant::now().into_std())
    }

    /// [`Throttle::check`] at a given time.
    pub fn check_at(&self, key: &K, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = seen.get_mut(key) {
            if now.saturating_duration_since(entry.written_at) < self.interval {
                entry.suppressed = entry.suppressed.saturating_add(1);
                return None;
            }
            entry.written_at = now;
            return Some(std::mem::take(&mut entry.suppressed));
        }
        if seen.len() >= self.capacity {
            let oldest = seen.iter().min_by_key(|(_, entry)| entry.written_at).map(|(key, _)| key.clone());
            oldest.and_then(|key| seen.remove(&key));
        }
        seen.insert(key.clone(), Seen { written_at: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
