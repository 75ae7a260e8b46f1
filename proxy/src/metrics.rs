//! Every metric, in one place: the doc comment of a field says what it counts, its registration gives it name and help.
//!
//! Labels are closed enums plus the listener's configured name, so that every series exists, at zero, before the first client. There is no
//! global registry: [`Metrics`] is made by `app` and passed down; each listener gets its own [`ListenerMetrics`], with all labels resolved,
//! so that counting on the data path is one atomic addition.

mod labels;

use std::marker::PhantomData;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use labels::{
    CloseReason, DialPhase, EvictReason, Handshake, LeaseOutcome, PinReason, RefusalReason, RejectReason, ReloadResult, RequestClass,
    UpstreamState,
};

use crate::error::{Kind, Label};

/// One metric per value of a closed label set.
#[derive(Clone)]
pub struct By<L, M> {
    each: Arc<[M]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> By<L, M> {
    fn new(make: impl Fn(L) -> M) -> Self {
        Self { each: L::ALL.iter().map(|label| make(*label)).collect(), label: PhantomData }
    }

    /// The metric for one label value.
    #[expect(clippy::indexing_slicing, reason = "built from L::ALL, which index() counts through")]
    pub fn of(&self, label: L) -> &M {
        &self.each[label.index()]
    }

    /// Every label value with its metric.
    pub fn iter(&self) -> impl Iterator<Item = (L, &M)> {
        L::ALL.iter().copied().zip(self.each.iter())
    }
}

/// Counts one in a gauge for as long as it lives.
pub struct Counted(IntGauge);

impl Counted {
    /// One more from now on.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one listener; cheap to clone.
#[derive(Clone)]
pub struct ListenerMetrics {
    /// Clients connected now.
    pub clients_open: IntGauge,
    /// Clients accepted.
    pub clients_accepted: IntCounter,
    /// Clients turned away.
    pub clients_rejected: By<RejectReason, IntCounter>,
    /// Clients served and gone.
    pub clients_closed: By<CloseReason, IntCounter>,
    /// Failures of `accept` itself (file descriptors, memory).
    pub accept_errors: IntCounter,
    /// Bytes from clients to the upstream.
    pub bytes_up: IntCounter,
    /// Bytes from the upstream to clients.
    pub bytes_down: IntCounter,
    /// Upstream connections now.
    pub upstream: By<UpstreamState, IntGauge>,
    /// Time spent in each part of opening an upstream connection.
    pub dial_seconds: By<DialPhase, Histogram>,
    /// Upstream TLS handshakes completed.
    pub handshakes: By<Handshake, IntCounter>,
    /// Errors by kind, both sides.
    pub errors: By<Kind, IntCounter>,
    /// TLS errors by kind: the `tls_` kinds of [`ListenerMetrics::errors`], both sides.
    pub tls_errors: By<Kind, IntCounter>,
    /// Time that clients, and lanes, waited for an upstream connection.
    pub pool_wait: Histogram,
    /// How clients, and lanes, got their upstream connection.
    pub leases: By<LeaseOutcome, IntCounter>,
    /// Upstream connections that this process may have now; 0 where there is no limit, or no share yet.
    pub pool_limit: IntGauge,
    /// Proxies that share the connection budget, with this one; 0 where none is shared.
    pub pool_peers: IntGauge,
    /// Upstream connections thrown away by the pool, or as lanes.
    pub evictions: By<EvictReason, IntCounter>,
    /// Times the upstream's name pointed to other addresses than before.
    pub dns_changes: IntCounter,
    /// Changed certificate, CA and password files.
    pub reloads: By<ReloadResult, IntCounter>,
    /// When the upstream's certificate expires, Unix seconds; 0 before the first handshake.
    pub cert_expiry: IntGauge,
    /// When the listener's own certificate expires, Unix seconds; 0 without one.
    pub listen_cert_expiry: IntGauge,
    /// PostgreSQL cancel requests carried upstream.
    pub cancels: IntCounter,
    /// Clients with an upstream connection of their own now, in the modes that share.
    pub pinned: IntGauge,
    /// Times a client got one.
    pub pins: By<PinReason, IntCounter>,
    /// Requests carried upstream.
    pub requests: By<RequestClass, IntCounter>,
    /// From a request's arrival to its last reply byte, seconds. One observation for requests that arrived together.
    pub request_seconds: By<RequestClass, Histogram>,
    /// Requests on lanes that have no reply yet.
    pub in_flight: IntGauge,
    /// Requests that went upstream in one write of a lane.
    pub batch: Histogram,
    /// Requests that the proxy answered with an error of its own.
    pub refusals: By<RefusalReason, IntCounter>,
}

impl ListenerMetrics {
    /// Counts an error under its kind.
    pub fn error(&self, kind: Kind) {
        self.errors.of(kind).inc();
        if kind.is_tls() {
            self.tls_errors.of(kind).inc();
        }
    }
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    /// 1 from SIGTERM on.
    pub draining: IntGauge,
    /// Unix time at which the process was ready to accept.
    pub started: Gauge,
}

/// Metrics of all listeners, before the listener's label is filled in.
struct Families {
    clients_open: IntGaugeVec,
    clients_accepted: IntCounterVec,
    clients_rejected: IntCounterVec,
    clients_closed: IntCounterVec,
    accept_errors: IntCounterVec,
    bytes: IntCounterVec,
    upstream: IntGaugeVec,
    dial_seconds: HistogramVec,
    handshakes: IntCounterVec,
    errors: IntCounterVec,
    tls_errors: IntCounterVec,
    pool_wait: HistogramVec,
    leases: IntCounterVec,
    pool_limit: IntGaugeVec,
    pool_peers: IntGaugeVec,
    evictions: IntCounterVec,
    dns_changes: IntCounterVec,
    reloads: IntCounterVec,
    cert_expiry: IntGaugeVec,
    listen_cert_expiry: IntGaugeVec,
    cancels: IntCounterVec,
    pinned: IntGaugeVec,
    pins: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    in_flight: IntGaugeVec,
    batch: HistogramVec,
    refusals: IntCounterVec,
}

/// 100 us to 10 s: a warm lease takes microseconds, a handshake across a region tens of milliseconds, a timeout seconds.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Requests in one write: powers of two up to what fits into one read of a busy worker.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only if two metrics had the same name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Make(&registry);
        let families = Families {
            clients_open: make.gauges("clients_open", "Clients connected now", &[])?,
            clients_accepted: make.counters("clients_accepted_total", "Clients accepted", &[])?,
            clients_rejected: make.counters("clients_rejected_total", "Clients turned away before they were served", &["reason"])?,
            clients_closed: make.counters("clients_closed_total", "Clients served and gone, by who or what ended it", &["reason"])?,
            accept_errors: make.counters("accept_errors_total", "Failures of accept(2): out of descriptors or memory", &[])?,
            bytes: make.counters("bytes_total", "Payload bytes relayed", &["direction"])?,
            upstream: make.gauges("upstream_connections", "Upstream connections now, by what they do", &["state"])?,
            dial_seconds: make.histograms("dial_seconds", "Time to open an upstream connection, by phase", SECONDS, &["phase"])?,
            handshakes: make.counters("tls_handshakes_total", "TLS handshakes with the upstream", &["version", "resumed"])?,
            errors: make.counters("errors_total", "Errors on either side", &["kind"])?,
            tls_errors: make.counters("tls_errors_total", "TLS errors on either side", &["kind"])?,
            pool_wait: make.histograms(
                "pool_wait_seconds",
                "Time that clients, and lanes, waited for their upstream connection",
                SECONDS,
                &[],
            )?,
            leases: make.counters("leases_total", "How clients, and lanes, got their upstream connection", &["outcome"])?,
            pool_limit: make.gauges(
                "pool_limit_connections",
                "Upstream connections that this process may have now (0: no limit, or no share yet)",
                &[],
            )?,
            pool_peers: make.gauges(
                "pool_budget_peers",
                "Proxies that share the connection budget, with this one (0: it is not shared)",
                &[],
            )?,
            evictions: make.counters("evictions_total", "Upstream connections thrown away by the pool, or as lanes", &["reason"])?,
            dns_changes: make.counters("dns_changes_total", "Times the upstream's name changed its addresses", &[])?,
            reloads: make.counters("reloads_total", "Changed certificate, CA or password files", &["result"])?,
            cert_expiry: make.gauges(
                "upstream_certificate_expiry_timestamp_seconds",
                "When the upstream's certificate expires (0: not seen yet)",
                &[],
            )?,
            listen_cert_expiry: make.gauges(
                "listener_certificate_expiry_timestamp_seconds",
                "When the listener's own certificate expires (0: none)",
                &[],
            )?,
            cancels: make.counters("cancel_requests_total", "PostgreSQL cancel requests carried upstream", &[])?,
            pinned: make.gauges("pinned_clients", "Clients with an upstream connection of their own now (pooled modes)", &[])?,
            pins: make.counters("pins_total", "Times a client got an upstream connection of its own (pooled modes)", &["reason"])?,
            requests: make.counters("requests_total", "Requests carried upstream (pooled modes)", &["class"])?,
            request_seconds: make.histograms(
                "request_seconds",
                "From a request's arrival to its last reply byte; requests that arrived together count once (pooled modes)",
                SECONDS,
                &["class"],
            )?,
            in_flight: make.gauges("lane_requests_in_flight", "Requests on lanes that have no reply yet (multiplex)", &[])?,
            batch: make.histograms(
                "lane_batch_requests",
                "Requests that went upstream in one write of a lane (multiplex)",
                BATCHES,
                &[],
            )?,
            refusals: make.counters("refusals_total", "Requests answered with an error of the proxy's own (pooled modes)", &["reason"])?,
        };
        let draining = make.register(IntGauge::new("redis_tls_proxy_draining", "1 from the first SIGTERM on")?)?;
        let started =
            make.register(Gauge::new("redis_tls_proxy_start_timestamp_seconds", "When the process was ready to accept clients")?)?;
        let build = IntGaugeVec::new(Opts::new("redis_tls_proxy_build_info", "Always 1; the version is a label"), &["version"])?;
        make.register(build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self { registry, families, draining, started })
    }

    /// The metrics of one listener, every series of them present from now on.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let f = &self.families;
        let by_counter = |family: &IntCounterVec, label: &str| family.with_label_values(&[name, label]);
        ListenerMetrics {
            clients_open: f.clients_open.with_label_values(&[name]),
            clients_accepted: f.clients_accepted.with_label_values(&[name]),
            clients_rejected: By::new(|r: RejectReason| by_counter(&f.clients_rejected, r.label())),
            clients_closed: By::new(|r: CloseReason| by_counter(&f.clients_closed, r.label())),
            accept_errors: f.accept_errors.with_label_values(&[name]),
            bytes_up: by_counter(&f.bytes, "client_to_upstream"),
            bytes_down: by_counter(&f.bytes, "upstream_to_client"),
            upstream: By::new(|s: UpstreamState| f.upstream.with_label_values(&[name, s.label()])),
            dial_seconds: By::new(|p: DialPhase| f.dial_seconds.with_label_values(&[name, p.label()])),
            handshakes: By::new(|h: Handshake| {
                let (version, resumed) = match h {
                    Handshake::Tls12Full => ("1.2", "false"),
                    Handshake::Tls12Resumed => ("1.2", "true"),
                    Handshake::Tls13Full => ("1.3", "false"),
                    Handshake::Tls13Resumed => ("1.3", "true"),
                };
                f.handshakes.with_label_values(&[name, version, resumed])
            }),
            errors: By::new(|k: Kind| by_counter(&f.errors, k.label())),
            tls_errors: By::new(|k: Kind| {
                // Kinds that are not TLS share the series `tls_other`, which `error()` never counts them under.
                by_counter(&f.tls_errors, if k.is_tls() { k.label() } else { Kind::TlsOther.label() })
            }),
            pool_wait: f.pool_wait.with_label_values(&[name]),
            leases: By::new(|o: LeaseOutcome| by_counter(&f.leases, o.label())),
            pool_limit: f.pool_limit.with_label_values(&[name]),
            pool_peers: f.pool_peers.with_label_values(&[name]),
            evictions: By::new(|r: EvictReason| by_counter(&f.evictions, r.label())),
            dns_changes: f.dns_changes.with_label_values(&[name]),
            reloads: By::new(|r: ReloadResult| by_counter(&f.reloads, r.label())),
            cert_expiry: f.cert_expiry.with_label_values(&[name]),
            listen_cert_expiry: f.listen_cert_expiry.with_label_values(&[name]),
            cancels: f.cancels.with_label_values(&[name]),
            pinned: f.pinned.with_label_values(&[name]),
            pins: By::new(|r: PinReason| by_counter(&f.pins, r.label())),
            requests: By::new(|c: RequestClass| by_counter(&f.requests, c.label())),
            request_seconds: By::new(|c: RequestClass| f.request_seconds.with_label_values(&[name, c.label()])),
            in_flight: f.in_flight.with_label_values(&[name]),
            batch: f.batch.with_label_values(&[name]),
            refusals: By::new(|r: RefusalReason| by_counter(&f.refusals, r.label())),
        }
    }

    /// Everything in the Prometheus text format.
    ///
    /// # Errors
    /// If a collector yields a malformed family, which would be a bug of ours.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut out = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Registration with the prefix and the `listener` label that all per-listener metrics share.
struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("redis_tls_proxy_{name}"), help)
    }

    fn labels<'l>(more: &[&'l str]) -> Vec<&'l str> {
        std::iter::once("listener").chain(more.iter().copied()).collect()
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> prometheus::Result<C> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Self::opts(name, help), &Self::labels(labels))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Self::opts(name, help), &Self::labels(labels))?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, &Self::labels(labels))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a process with one listener that nobody has used.
    fn unused() -> String {
        let metrics = Metrics::new().unwrap();
        let _listener = metrics.listener("x");
        metrics.render().unwrap()
    }

    #[test]
    fn every_series_exists_before_the_first_client() {
        let text = unused();
        fn check<L: Label>(text: &str, family: &str, label: &str) {
            for value in L::ALL {
                let series = [format!("{label}=\"{}\"", value.label()), "listener=\"x\"".to_owned()];
                let zero = |line: &&str| line.starts_with(family) && series.iter().all(|part| line.contains(part)) && line.ends_with(" 0");
                assert!(text.lines().any(|line| zero(&line)), "{family}{series:?}");
            }
        }
        check::<UpstreamState>(&text, "redis_tls_proxy_upstream_connections{", "state");
        check::<PinReason>(&text, "redis_tls_proxy_pins_total{", "reason");
        check::<RequestClass>(&text, "redis_tls_proxy_requests_total{", "class");
        check::<RequestClass>(&text, "redis_tls_proxy_request_seconds_count{", "class");
        check::<RefusalReason>(&text, "redis_tls_proxy_refusals_total{", "reason");
        check::<CloseReason>(&text, "redis_tls_proxy_clients_closed_total{", "reason");
        check::<EvictReason>(&text, "redis_tls_proxy_evictions_total{", "reason");
        check::<LeaseOutcome>(&text, "redis_tls_proxy_leases_total{", "outcome");
        for single in ["pinned_clients{", "lane_requests_in_flight{", "lane_batch_requests_count{"] {
            let series = format!("redis_tls_proxy_{single}listener=\"x\"}} 0");
            assert!(text.lines().any(|line| line == series), "{series}");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let text = unused();
        let mut seen = 0;
        for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE redis_tls_proxy_")?.split_once(' ')) {
            seen += 1;
            assert!(text.contains(&format!("# HELP redis_tls_proxy_{name} ")), "{name} has no help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(kind != "histogram" || name.ends_with("_seconds") || name.ends_with("_requests"), "{name} has no unit");
        }
        assert!(seen >= 28, "{seen} families");
    }
}
