//! What a snapshot reads off the metrics, and the keys of its JSON.

use super::*;
use crate::admin::window::Latency;
use crate::metrics::{Metrics, PinReason, RefusalReason, RejectReason, RequestClass};

pub(in crate::admin) const NOW: i64 = 1_800_000_000;

/// A snapshot with something in every part.
pub(in crate::admin) fn sample() -> Snapshot {
    let metrics = Metrics::new().unwrap().listener("redis-6379");
    metrics.clients_open.set(3);
    metrics.clients_accepted.inc_by(1_234_567);
    metrics.clients_rejected.of(RejectReason::Auth).inc_by(2);
    metrics.clients_rejected.of(RejectReason::MaxClients).inc();
    metrics.bytes_up.inc_by(2048);
    metrics.bytes_down.inc_by(5_000_000_000);
    metrics.upstream.of(UpstreamState::Idle).set(4);
    metrics.upstream.of(UpstreamState::Leased).set(3);
    metrics.leases.of(LeaseOutcome::Warm).inc_by(9);
    metrics.leases.of(LeaseOutcome::Cold).inc();
    metrics.dial_seconds.of(DialPhase::Tls).observe(0.004);
    metrics.dial_seconds.of(DialPhase::Tls).observe(0.008);
    metrics.error(Kind::TlsExpired);
    metrics.cert_expiry.set(NOW + 41 * DAY + 5);
    let facts = ListenerFacts {
        name: "redis-6379".into(),
        protocol: "redis".into(),
        listen: "127.0.0.1:6379".into(),
        upstream: "valkey.example.com:25061".into(),
        addresses: vec!["10.1.2.3".into(), "fd00::7".into()],
        pool_mode: "relay".into(),
        client_tls: false,
        max_clients: 10_000,
        last_error: Some(LastError::new(Side::Upstream, Kind::TlsExpired, "certificate expired; renew it", NOW - 75)),
    };
    Snapshot {
        version: "0.1.0".into(),
        state: State::Ready,
        not_ready: None,
        now: NOW,
        started_at: NOW - 93_784,
        uptime_seconds: 93_784,
        workers: 2,
        log_level: "info".into(),
        sandbox: "fully".into(),
        listeners: vec![ListenerSnapshot::from_metrics(&metrics, facts, None, NOW), pooled()],
    }
}

/// A listener that shares, with something in every part.
fn pooled() -> ListenerSnapshot {
    let metrics = Metrics::new().unwrap().listener("pooled");
    metrics.upstream.of(UpstreamState::Lane).set(2);
    metrics.upstream.of(UpstreamState::Leased).set(3);
    metrics.requests.of(RequestClass::Shared).inc_by(40_000);
    metrics.requests.of(RequestClass::Pinned).inc_by(70);
    metrics.in_flight.set(17);
    metrics.pinned.set(3);
    metrics.pins.of(PinReason::Blocking).inc_by(60);
    metrics.refusals.of(RefusalReason::Forbidden).inc_by(2);
    let facts = ListenerFacts {
        name: "redis-6380".into(),
        protocol: "redis".into(),
        listen: "127.0.0.1:6380".into(),
        upstream: "valkey.example.com:25061".into(),
        addresses: Vec::new(),
        pool_mode: "multiplex".into(),
        client_tls: false,
        max_clients: 10_000,
        last_error: None,
    };
    let recent = Recent {
        seconds: 60.0,
        requests_per_second: [("pinned", 0.5), ("shared", 12_345.6), ("transaction", 0.0)].into(),
        latency: [("shared", Latency { p50: 0.000_25, p99: 0.0014 })].into(),
        requests_per_write: Some(6.25),
    };
    ListenerSnapshot::from_metrics(&metrics, facts, Some(recent), NOW)
}

#[test]
fn reads_every_metric_it_shows() {
    let snapshot = sample();
    let one = &snapshot.listeners[0];
    assert_eq!((one.clients.open, one.clients.accepted, one.clients.rejected), (3, 1_234_567, 3));
    assert_eq!(one.clients.rejected_by["auth"], 2);
    assert_eq!((one.bytes.client_to_upstream, one.bytes.upstream_to_client), (2048, 5_000_000_000));
    assert_eq!((one.upstream_connections.idle, one.upstream_connections.leased, one.upstream_connections.connecting), (4, 3, 0));
    assert_eq!(one.warm_share, Some(0.9));
    assert!((one.mean_dial_seconds["tls"] - 0.006).abs() < 1e-9, "{:?}", one.mean_dial_seconds);
    assert_eq!(one.mean_dial_seconds.len(), 1, "phases that never happened have no mean");
    assert_eq!(one.errors["tls_expired"], 1);
    assert_eq!(one.upstream_certificate.as_ref().map(|c| c.days_left), Some(41));
    assert!(one.listen_certificate.is_none());
    assert!(one.pooled.is_none(), "a relay has no lanes");

    let two = &snapshot.listeners[1];
    assert_eq!((two.upstream_connections.lane, two.upstream_connections.leased), (2, 3));
    let pooled = two.pooled.as_ref().unwrap();
    assert_eq!((pooled.requests_in_flight, pooled.pinned_clients), (17, 3));
    assert_eq!((pooled.requests["shared"], pooled.pins["blocking"], pooled.refusals["forbidden"]), (40_000, 60, 2));
}

#[test]
fn an_unused_listener_claims_nothing() {
    let metrics = Metrics::new().unwrap().listener("x");
    let facts = sample().listeners[0].facts.clone();
    let one = ListenerSnapshot::from_metrics(&metrics, facts, None, NOW);
    assert_eq!(one.warm_share, None);
    assert!(one.upstream_certificate.is_none());
    assert!(one.mean_dial_seconds.is_empty());
}

#[test]
fn an_expired_certificate_has_negative_days() {
    assert_eq!(Certificate::from_expiry(NOW - 1, NOW).unwrap().days_left, -1);
    assert_eq!(Certificate::from_expiry(NOW + DAY - 1, NOW).unwrap().days_left, 0);
    assert!(Certificate::from_expiry(0, NOW).is_none());
}

/// These keys are what scripts read: a rename breaks them, so it must break this first.
#[test]
fn json_has_the_documented_keys() {
    let json = serde_json::to_value(sample()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "listeners log_level not_ready now sandbox started_at state uptime_seconds version workers");
    let listener = &json["listeners"][0];
    assert_eq!(
        keys(listener),
        "accept_errors addresses bytes client_tls clients dns_changes errors evictions handshakes last_error leases listen \
         listen_certificate max_clients mean_dial_seconds name pool_mode pooled protocol reloads upstream upstream_certificate \
         upstream_connections warm_share"
    );
    assert_eq!(keys(&listener["clients"]), "accepted closed_by open rejected rejected_by");
    assert_eq!(keys(&listener["bytes"]), "client_to_upstream upstream_to_client");
    assert_eq!(keys(&listener["upstream_connections"]), "connecting idle lane leased");
    assert_eq!(keys(&listener["last_error"]), "at kind message side");
    assert_eq!(keys(&listener["upstream_certificate"]), "days_left expires_at");
    let pooled = &json["listeners"][1]["pooled"];
    assert_eq!(keys(pooled), "pinned_clients pins recent refusals requests requests_in_flight");
    assert_eq!(keys(&pooled["recent"]), "latency requests_per_second requests_per_write seconds");
    assert_eq!(keys(&pooled["recent"]["latency"]["shared"]), "p50 p99");
    assert_eq!(json["state"], "ready");
    assert_eq!(listener["leases"]["timeout"], 0, "closed label sets are complete, at zero");
}
