//! What the status page and `/status` show: plain data, read off the metrics at the moment somebody asks.
//!
//! The field names are the JSON's keys and part of the interface. Nothing here is a secret: names, addresses, counts and error texts that
//! are fit for the log. Times are Unix seconds, sizes bytes, everything counted since the process started.

use std::collections::BTreeMap;

use serde::Serialize;

use super::window::Recent;
use crate::config::PoolMode;
use crate::error::{Kind, Label, Side};
use crate::metrics::{By, DialPhase, LeaseOutcome, ListenerMetrics, ReloadResult, UpstreamState};

const DAY: i64 = 24 * 60 * 60;

/// The process at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// Where in its life the process is.
    pub state: State,
    /// Why it is not ready; absent when it is.
    pub not_ready: Option<String>,
    /// When this was read, Unix seconds.
    pub now: i64,
    /// When the process was ready to accept, Unix seconds.
    pub started_at: i64,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Threads that carry traffic.
    pub workers: usize,
    /// The log filter in force.
    pub log_level: String,
    /// What Landlock achieved, in a word; `off` when it was not asked for.
    pub sandbox: String,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerSnapshot>,
}

/// Where in its life the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not everything is bound and loaded yet.
    Starting,
    /// Accepting clients.
    Ready,
    /// Going away: SIGTERM or `POST /drain`.
    Draining,
}

impl State {
    /// The word in the JSON and on the page.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What a listener is, as opposed to what it counted.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerFacts {
    /// The configured name; the `listener` label of the metrics.
    pub name: String,
    /// `redis`, `postgresql` or `tls`.
    pub protocol: String,
    /// The address that was bound: `127.0.0.1:6379`, `unix:/run/proxy/redis.sock`.
    pub listen: String,
    /// The server, `host:port`.
    pub upstream: String,
    /// The addresses that its name last resolved to; empty before the first resolution.
    pub addresses: Vec<String>,
    /// How upstream connections are shared: `relay`, `session`, `multiplex` or `transaction`.
    pub pool_mode: String,
    /// Clients speak TLS to this listener.
    pub client_tls: bool,
    /// The configured limit of clients.
    pub max_clients: usize,
    /// The latest error, whichever side it came from.
    pub last_error: Option<LastError>,
}

/// The latest error of a listener.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// Who has to act: `client`, `upstream` or `proxy`.
    pub side: String,
    /// The `kind` label of the metrics.
    pub kind: &'static str,
    /// The line that was logged.
    pub message: String,
    /// When, Unix seconds.
    pub at: i64,
}

impl LastError {
    /// From the parts of an error of the data path, at Unix second `at`.
    pub fn new(side: Side, kind: Kind, message: impl Into<String>, at: i64) -> Self {
        Self { side: side.to_string(), kind: kind.label(), message: message.into(), at }
    }
}

/// One listener at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerSnapshot {
    /// What it is.
    #[serde(flatten)]
    pub facts: ListenerFacts,
    /// Its clients.
    pub clients: Clients,
    /// Payload relayed.
    pub bytes: Bytes,
    /// Its connections to the server, now.
    pub upstream_connections: UpstreamConnections,
    /// What only the modes `session` and `multiplex` have; absent in `relay`.
    pub pooled: Option<Pooled>,
    /// How clients, and in `multiplex` lanes, got their upstream connection, by outcome.
    pub leases: BTreeMap<&'static str, u64>,
    /// The share of them that got a connection which was ready, 0 to 1; absent before the first.
    pub warm_share: Option<f64>,
    /// Mean seconds per phase of opening an upstream connection; only phases that have happened.
    pub mean_dial_seconds: BTreeMap<&'static str, f64>,
    /// Upstream TLS handshakes, by `version,full|resumed`.
    pub handshakes: BTreeMap<&'static str, u64>,
    /// Errors, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Unused upstream connections thrown away, by reason.
    pub evictions: BTreeMap<&'static str, u64>,
    /// Failures of accept itself.
    pub accept_errors: u64,
    /// Times the server's name pointed elsewhere than before.
    pub dns_changes: u64,
    /// Changed files: taken over, refused.
    pub reloads: Reloads,
    /// The server's certificate; absent before the first handshake.
    pub upstream_certificate: Option<Certificate>,
    /// The listener's own certificate; absent without one.
    pub listen_certificate: Option<Certificate>,
}

/// The clients of a listener.
#[derive(Clone, Debug, Serialize)]
pub struct Clients {
    /// Connected now.
    pub open: u64,
    /// Accepted.
    pub accepted: u64,
    /// Turned away, for whatever reason.
    pub rejected: u64,
    /// Turned away, by reason.
    pub rejected_by: BTreeMap<&'static str, u64>,
    /// Served and gone, by reason.
    pub closed_by: BTreeMap<&'static str, u64>,
}

/// Payload relayed, bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Bytes {
    /// From clients to the server.
    pub client_to_upstream: u64,
    /// From the server to clients.
    pub upstream_to_client: u64,
}

/// Connections to the server, by what they are doing.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamConnections {
    /// Ready and unused.
    pub idle: u64,
    /// In a client's hands.
    pub leased: u64,
    /// Shared by clients: open lanes.
    pub lane: u64,
    /// Being opened.
    pub connecting: u64,
}

/// Requests, and the clients that have an upstream connection of their own.
#[derive(Clone, Debug, Serialize)]
pub struct Pooled {
    /// Requests carried upstream, by class.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests on lanes that have no reply yet.
    pub requests_in_flight: u64,
    /// Requests answered with an error of the proxy's own, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Clients with an upstream connection of their own now.
    pub pinned_clients: u64,
    /// Times a client got one, by reason.
    pub pins: BTreeMap<&'static str, u64>,
    /// The last minute; absent in the first seconds.
    pub recent: Option<Recent>,
}

/// What became of changed files.
#[derive(Clone, Debug, Serialize)]
pub struct Reloads {
    /// In use.
    pub ok: u64,
    /// Refused; the previous content stays in use.
    pub failed: u64,
}

/// How long a certificate is still good for.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// Unix seconds.
    pub expires_at: i64,
    /// Whole days, rounded down; negative when it has expired.
    pub days_left: i64,
}

impl Certificate {
    /// From the metric, in which 0 means that there is none.
    fn from_expiry(expires_at: i64, now: i64) -> Option<Self> {
        (expires_at != 0).then(|| Self { expires_at, days_left: expires_at.saturating_sub(now).div_euclid(DAY) })
    }
}

impl ListenerSnapshot {
    /// Reads the listener's metrics. `now` is Unix seconds.
    #[must_use]
    pub fn from_metrics(metrics: &ListenerMetrics, facts: ListenerFacts, recent: Option<Recent>, now: i64) -> Self {
        let rejected_by = counts(&metrics.clients_rejected);
        let leases = counts(&metrics.leases);
        let asked: u64 = leases.values().sum();
        let pooled = (facts.pool_mode != PoolMode::Relay.name()).then(|| Pooled::from_metrics(metrics, recent));
        Self {
            facts,
            pooled,
            clients: Clients {
                open: gauge(&metrics.clients_open),
                accepted: metrics.clients_accepted.get(),
                rejected: rejected_by.values().sum(),
                rejected_by,
                closed_by: counts(&metrics.clients_closed),
            },
            bytes: Bytes { client_to_upstream: metrics.bytes_up.get(), upstream_to_client: metrics.bytes_down.get() },
            upstream_connections: UpstreamConnections {
                idle: gauge(metrics.upstream.of(UpstreamState::Idle)),
                leased: gauge(metrics.upstream.of(UpstreamState::Leased)),
                lane: gauge(metrics.upstream.of(UpstreamState::Lane)),
                connecting: gauge(metrics.upstream.of(UpstreamState::Connecting)),
            },
            warm_share: share(metrics.leases.of(LeaseOutcome::Warm).get(), asked),
            leases,
            mean_dial_seconds: mean_dial_seconds(metrics),
            handshakes: counts(&metrics.handshakes),
            errors: counts(&metrics.errors),
            evictions: counts(&metrics.evictions),
            accept_errors: metrics.accept_errors.get(),
            dns_changes: metrics.dns_changes.get(),
            reloads: Reloads { ok: metrics.reloads.of(ReloadResult::Ok).get(), failed: metrics.reloads.of(ReloadResult::Failed).get() },
            upstream_certificate: Certificate::from_expiry(metrics.cert_expiry.get(), now),
            listen_certificate: Certificate::from_expiry(metrics.listen_cert_expiry.get(), now),
        }
    }
}

impl Pooled {
    fn from_metrics(metrics: &ListenerMetrics, recent: Option<Recent>) -> Self {
        Self {
            requests: counts(&metrics.requests),
            requests_in_flight: gauge(&metrics.in_flight),
            refusals: counts(&metrics.refusals),
            pinned_clients: gauge(&metrics.pinned),
            pins: counts(&metrics.pins),
            recent,
        }
    }
}

/// A gauge counts things and is never meant to be negative; two threads may let it look so for a moment.
fn gauge(gauge: &prometheus::IntGauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

fn counts<L: Label>(by: &By<L, prometheus::IntCounter>) -> BTreeMap<&'static str, u64> {
    by.iter().map(|(label, counter)| (label.label(), counter.get())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
fn mean_dial_seconds(metrics: &ListenerMetrics) -> BTreeMap<&'static str, f64> {
    let mean = |(phase, histogram): (DialPhase, &prometheus::Histogram)| {
        let samples = histogram.get_sample_count();
        (samples > 0).then(|| (phase.label(), histogram.get_sample_sum() / samples as f64))
    };
    metrics.dial_seconds.iter().filter_map(mean).collect()
}

#[cfg(test)]
pub(super) mod tests;
