//! `check`: every upstream is reached once, step by step, and each step says what it found or why it failed and what to do.
//!
//! | read | for |
//! |---|---|
//! | `report`, `table` | what was found, as JSON (its keys) and as a table |
//! | `connect` | name, TCP, TLS, resumption: the same for all protocols |
//! | `redis`, `postgres` | login, server, round trip |
//!
//! The proxy's own code makes the connections and the logins, so that what works here works when serving. Nothing is listened on.

mod connect;
mod postgres;
mod redis;
pub mod report;
mod table;

use std::env;
use std::future::Future;
use std::io::{IsTerminal as _, stdout};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cli::Output;
use crate::config::{Config, Listener, Protocol};
use crate::error::{Error, Kind, Result};
use crate::error_log::ErrorLog;
use crate::metrics::Metrics;
use crate::upstream::Upstream;
use report::{Finding, Name, Report, Step, milliseconds};
use table::for_people;

/// How many pings at most, and for how long.
const PINGS: usize = 100;
const PINGING: Duration = Duration::from_secs(5);

/// Reaches the upstream of every listener, one after the other so that the times are worth something. Returns what to print and whether no
/// step failed. Takes `connect_timeout` per step at most, plus 5 s for the pings. Never prints, and no password is in the text.
pub async fn check(config: &Config, output: Output) -> (String, bool) {
    // The first random number of a process costs the gathering of entropy, up to 100 ms: not to be charged to the first handshake.
    let _ = aws_lc_rs::rand::fill(&mut [0; 32]);
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        listeners.push(Box::pin(check_listener(listener)).await);
    }
    let report = Report::new(listeners);
    let text = match output {
        Output::Json => report.json(),
        Output::Text => table::text(&report, stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())),
    };
    (text, report.is_ok())
}

async fn check_listener(listener: &Listener) -> report::Listener {
    let mut steps = Steps { taken: Vec::new(), limit: listener.upstream.connect_timeout };
    match upstream(listener) {
        // `None` only means that it ended early; the steps say why.
        Ok(upstream) => drop(take_steps(listener, &upstream, &mut steps).await),
        Err(why) => {
            let finding = Finding::fail(why, "`redis-tls-proxy validate` shows every mistake in the configuration");
            steps.taken.push(Step::new(Name::Configuration, None, finding));
        }
    }
    let all = [Name::Dns, Name::Tcp, Name::Tls, Name::Resumption, Name::Login, Name::Server, Name::RoundTrip];
    let (to_resumption, _) = all.split_at(4);
    let names = if listener.protocol == Protocol::Tls { to_resumption } else { &all };
    let host = &listener.upstream.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    report::Listener::new(&listener.name, listener.protocol.name(), format!("{host}:{}", listener.upstream.port), steps.taken, names)
}

fn upstream(listener: &Listener) -> std::result::Result<Upstream, String> {
    let metrics = Metrics::new().map_err(|error| error.to_string())?.listener(&listener.name);
    let errors = Arc::new(ErrorLog::new(&listener.name, metrics.clone()));
    Upstream::new(listener, metrics, errors)
}

async fn take_steps(listener: &Listener, upstream: &Upstream, steps: &mut Steps) -> Option<()> {
    let mut stream = connect::take_steps(listener, upstream, steps).await?;
    let done = match listener.protocol {
        Protocol::Redis => Box::pin(redis::take_steps(listener, upstream, &mut stream, steps)).await,
        Protocol::Postgres => Box::pin(postgres::take_steps(upstream, &mut stream, steps)).await,
        Protocol::Tls => Some(()),
    };
    connect::close(stream).await;
    done
}

/// A finding and what the next step needs of it; a failure is a finding too.
type Outcome<T> = std::result::Result<(Finding, T), Box<Finding>>;

/// The steps so far.
struct Steps {
    taken: Vec<Step>,
    /// For one step.
    limit: Duration,
}

impl Steps {
    /// Takes a step within the limit. `None`: it failed, and so there is no next one. `hint`: what silence means here.
    async fn take<T>(&mut self, name: Name, hint: &str, step: impl Future<Output = Outcome<T>>) -> Option<T> {
        let started = Instant::now();
        let outcome = match timeout(self.limit, step).await {
            Ok(outcome) => outcome,
            Err(_) => Err(silence(self.limit, hint).into()),
        };
        let (finding, value) = match outcome {
            Ok((finding, value)) => (finding, Some(value)),
            Err(finding) => (*finding, None),
        };
        self.taken.push(Step::new(name, Some(started.elapsed()), finding));
        value
    }

    fn skip(&mut self, name: Name, why: &str) {
        self.taken.push(Step::new(name, None, Finding::not_tried(why)));
    }

    /// Measures `ping` again and again. `what` is what people call one.
    async fn round_trips(&mut self, what: &str, mut ping: impl AsyncFnMut() -> Result<()>) -> Option<()> {
        let limit = self.limit;
        self.limit = limit + PINGING;
        let measure = async {
            let started = Instant::now();
            let mut times = Vec::with_capacity(PINGS);
            while times.len() < PINGS && started.elapsed() < PINGING {
                let begun = Instant::now();
                timeout(limit, ping()).await.unwrap_or_else(|_| {
                    let why = format!("a {what} was not answered within {}", humantime::format_duration(limit));
                    Err(Error::upstream(Kind::Timeout, why))
                })?;
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            let finding = Finding::ok(format!("p50 {}, p99 {} ({} × {what})", for_people(p50), for_people(p99), times.len()))
                .fact("count", times.len())
                .fact("p50_milliseconds", milliseconds(p50))
                .fact("p99_milliseconds", milliseconds(p99));
            Ok((finding, ()))
        };
        let done = self.take(Name::RoundTrip, "is the server overloaded?", measure).await;
        self.limit = limit;
        done
    }
}

/// Nothing came back in time; `hint` says what that may mean.
fn silence(limit: Duration, hint: &str) -> Error {
    Error::upstream(Kind::Timeout, format!("no answer within {} (connect_timeout); {hint}", humantime::format_duration(limit)))
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Nine tenths of a limit are used.
fn is_nearly_full(used: u64, limit: u64) -> bool {
    used.saturating_mul(10) >= limit.saturating_mul(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (Duration::from_millis(50), Duration::from_millis(99)));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
