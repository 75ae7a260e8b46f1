//! What this project wants to reach, as data, and whether a run did.
//!
//! Each goal is a bound on the ratio of one figure of ours to another peer's, or to the best of several, all of the same run. Where
//! a goal says "the best peer", variants count: nginx with one worker is a peer like nginx with two.

use serde::Serialize;

use crate::peers::{MULTIPLEX, OURS, POSTGRES, REDIS, TRANSACTION, is_direct, is_ours, is_pooler, is_relay, split};
use crate::tables::Better::{self, Less, More};

/// A row, a figure in it, and which way is better.
type Figure = (&'static str, &'static str, Better);

/// More is better: at least so many times the other's. Less is better: at most.
struct Goal {
    what: &'static str,
    ours: &'static str,
    figure: Figure,
    bound: f64,
    against: Against,
}

enum Against {
    /// One peer, and possibly another figure of it.
    Peer(&'static str, &'static str),
    /// The best of those that the function names.
    Best(fn(&str) -> bool),
    /// The figure itself is bound.
    Itself,
}

/// What became of one goal.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) what: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) target: String,
    /// The ratio, or the figure itself.
    pub(crate) measured: f64,
    /// The peer that it is a ratio to.
    pub(crate) against: &'static str,
    pub(crate) met: bool,
}

const C50: Figure = ("c50", "per_s", More);
const PIPELINE: Figure = ("pipeline", "per_s", More);
const CONNECT: Figure = ("connect", "connect_per_s", More);
const BIG: Figure = ("big", "per_s", More);
const AVERAGE: Figure = ("one", "get_avg_us", Less);
const STALL_US: f64 = 40_000.0;

const fn goal(what: &'static str, ours: &'static str, figure: Figure, bound: f64, against: Against) -> Goal {
    Goal { what, ours, figure, bound, against }
}

const GOALS: &[Goal] = &[
    goal("50 clients, requests per second", MULTIPLEX, C50, 1.3, Against::Peer("direct TLS", "per_s")),
    goal("50 clients, requests per second", MULTIPLEX, C50, 0.95, Against::Peer("direct plaintext", "per_s")),
    goal("50 clients, requests per second", MULTIPLEX, C50, 3.0, Against::Peer("socat", "per_s")),
    goal("50 clients, proxy CPU per request", MULTIPLEX, ("c50", "cpu_us", Less), 0.45, Against::Best(is_envoy)),
    goal(
        "50 clients, CPU of proxy and Redis to Redis alone with direct TLS",
        MULTIPLEX,
        ("c50", "total_cpu_us", Less),
        0.8,
        Against::Peer("direct TLS", "server_cpu_us"),
    ),
    goal("pipeline 16, requests per second", MULTIPLEX, PIPELINE, 1.15, Against::Peer("direct TLS", "per_s")),
    goal("pipeline 16, requests per second", MULTIPLEX, PIPELINE, 2.5, Against::Best(is_redis_proxy)),
    goal("50 clients, proxy CPU per request", OURS, ("c50", "cpu_us", Less), 0.75, Against::Best(is_event_relay)),
    goal("one client, average time", OURS, AVERAGE, 0.9, Against::Best(is_peer)),
    goal("one client, average time", MULTIPLEX, AVERAGE, 0.9, Against::Best(is_peer)),
    goal("a connection per request, per second", MULTIPLEX, CONNECT, 20.0, Against::Peer("direct TLS", "connect_per_s")),
    goal("a connection per request, per second", MULTIPLEX, CONNECT, 0.75, Against::Peer("direct plaintext", "connect_per_s")),
    goal("a connection per request, per second", OURS, CONNECT, 1.2, Against::Best(is_relaying_peer)),
    goal("256 KiB values, requests per second", OURS, BIG, 1.1, Against::Best(is_peer)),
    goal("256 KiB values, requests per second", MULTIPLEX, BIG, 1.1, Against::Best(is_peer)),
    goal("256 KiB values, slowest SET in us", OURS, ("big", "set_max_us", Less), STALL_US, Against::Itself),
    goal("256 KiB values, slowest GET in us", OURS, ("big", "get_max_us", Less), STALL_US, Against::Itself),
    goal("256 KiB values, slowest SET in us", MULTIPLEX, ("big", "set_max_us", Less), STALL_US, Against::Itself),
    goal("256 KiB values, slowest GET in us", MULTIPLEX, ("big", "get_max_us", Less), STALL_US, Against::Itself),
    goal("memory of an idle client in KiB", MULTIPLEX, ("idle", "idle_kib", Less), 4.0, Against::Itself),
    goal("CPU per request with ever more clients, to that with 10", OURS, ("scale", "growth", Less), 1.3, Against::Itself),
    goal("CPU per request with ever more clients, to that with 10", MULTIPLEX, ("scale", "growth", Less), 1.3, Against::Itself),
    goal("PostgreSQL, prepared, transactions per second", TRANSACTION, ("pg-prepared", "tps", More), 1.5, Against::Best(is_pooler)),
    goal(
        "PostgreSQL, prepared, transactions per second",
        TRANSACTION,
        ("pg-prepared", "tps", More),
        0.75,
        Against::Peer("direct TLS", "tps"),
    ),
    goal("PostgreSQL, prepared, proxy CPU per transaction", TRANSACTION, ("pg-prepared", "cpu_us", Less), 0.6, Against::Best(is_pooler)),
    goal("PostgreSQL, simple, transactions per second", TRANSACTION, ("pg-simple", "tps", More), 1.4, Against::Best(is_pooler)),
    goal("memory of an idle PostgreSQL client in KiB", TRANSACTION, ("pg-idle", "idle_kib", Less), 4.0, Against::Itself),
    goal("the same, always 10 clients at a time", MULTIPLEX, ("scale", "calm_growth", Less), 1.3, Against::Itself),
];

fn is_peer(name: &str) -> bool {
    !is_direct(name) && !is_ours(name) && !is_pooler(name)
}

fn is_relaying_peer(name: &str) -> bool {
    is_peer(name) && is_relay(name)
}

fn is_event_relay(name: &str) -> bool {
    ["haproxy", "nginx", "envoy", "ghostunnel"].contains(&split(name).0)
}

fn is_redis_proxy(name: &str) -> bool {
    split(name).0 == "envoy redis_proxy"
}

fn is_envoy(name: &str) -> bool {
    name.starts_with("envoy")
}

/// What became of the goals that the run has the figures for; `median` takes row, peer and figure.
pub(crate) fn outcomes(median: &dyn Fn(&str, &str, &str) -> Option<f64>) -> Vec<Outcome> {
    GOALS.iter().filter_map(|goal| goal.outcome(median)).collect()
}

impl Goal {
    fn outcome(&self, median: &dyn Fn(&str, &str, &str) -> Option<f64>) -> Option<Outcome> {
        let (row, figure, better) = self.figure;
        let ours = median(row, self.ours, figure)?;
        let (against, theirs) = match self.against {
            Against::Peer(peer, figure) => (peer, median(row, peer, figure)?),
            Against::Best(among) => {
                let peers =
                    REDIS.iter().chain(POSTGRES).filter(|name| among(name)).filter_map(|name| Some((*name, median(row, name, figure)?)));
                peers.reduce(|best, next| if better.of(next.1, best.1) { next } else { best })?
            }
            Against::Itself => ("-", 1.0),
        };
        let measured = ours / theirs.max(1e-9);
        let (sign, met) = match better {
            More => (">=", measured >= self.bound),
            Less => ("<=", measured <= self.bound),
        };
        Some(Outcome { what: self.what, peer: self.ours, target: format!("{sign} {}", self.bound), measured, against, met })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_against_the_best_of_the_named_peers_and_only_when_measured() {
        let figures = [
            ("c50", OURS, "cpu_us", 6.0),
            ("c50", "nginx", "cpu_us", 9.0),
            ("c50", "nginx, 1 worker", "cpu_us", 8.0),
            ("c50", "envoy redis_proxy", "cpu_us", 1.0),
            ("connect", MULTIPLEX, "connect_per_s", 100.0),
            ("connect", "direct TLS", "connect_per_s", 10.0),
            ("idle", MULTIPLEX, "idle_kib", 4.0),
        ];
        let median = |row: &str, peer: &str, figure: &str| figures.iter().find(|f| (f.0, f.1, f.2) == (row, peer, figure)).map(|f| f.3);
        let found = outcomes(&median);
        let short: Vec<_> = found.iter().map(|o| (o.peer, o.target.as_str(), o.measured, o.against, o.met)).collect();
        let expected = [
            (OURS, "<= 0.75", 0.75, "nginx, 1 worker", true),
            (MULTIPLEX, ">= 20", 10.0, "direct TLS", false),
            (MULTIPLEX, "<= 4", 4.0, "-", true),
        ];
        assert_eq!(short, expected);
    }
}
