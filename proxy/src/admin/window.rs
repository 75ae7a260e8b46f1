//! The last minute: what counters alone do not tell, namely how fast they grow and how requests fared lately.
//!
//! A point is read off the metrics every [`TICK`]; what is told is the difference between the moment and the oldest point. The data path
//! knows nothing of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Metric as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::error::Label as _;
use crate::metrics::{ListenerMetrics, RequestClass};

/// How often a point is read.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// How far back points go.
const SPAN: Duration = Duration::from_secs(60);
/// A difference over less says little.
const LEAST: Duration = Duration::from_secs(1);

/// The points of one listener.
#[derive(Default)]
pub struct Window {
    /// Oldest first. Locked for reading and for adding one, both short and on the admin thread.
    points: Mutex<VecDeque<Point>>,
}

/// What the metrics said at one moment.
struct Point {
    at: Instant,
    requests: BTreeMap<&'static str, u64>,
    latency: BTreeMap<&'static str, Buckets>,
    writes: u64,
    written: f64,
}

/// A histogram: upper bounds in seconds, and how many observations were at most so.
type Buckets = Vec<(f64, u64)>;

/// How a listener fared lately.
#[derive(Clone, Debug, Serialize)]
pub struct Recent {
    /// Over so many seconds, at most a minute.
    pub seconds: f64,
    /// Requests carried upstream each second, by class.
    pub requests_per_second: BTreeMap<&'static str, f64>,
    /// From a request's arrival to its reply, by class; only classes that had requests.
    pub latency: BTreeMap<&'static str, Latency>,
    /// Mean number of requests in one write of a lane; absent when there was none.
    pub requests_per_write: Option<f64>,
}

/// Two quantiles, interpolated between the bounds of the histogram `request_seconds` as Prometheus does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Seconds within which half of the requests were answered.
    pub p50: f64,
    /// Seconds within which 99 of 100 were.
    pub p99: f64,
}

impl Window {
    /// Reads a point and forgets those that are too old.
    pub fn note(&self, metrics: &ListenerMetrics, now: Instant) {
        let mut points = self.lock();
        points.push_back(Point::read(metrics, now));
        while points.front().is_some_and(|point| now.duration_since(point.at) > SPAN) {
            points.pop_front();
        }
    }

    /// What has happened since the oldest point; `None` in the first second.
    #[must_use]
    pub fn recent(&self, metrics: &ListenerMetrics, now: Instant) -> Option<Recent> {
        let points = self.lock();
        let then = points.front().filter(|point| now.duration_since(point.at) >= LEAST)?;
        Some(Point::read(metrics, now).since(then))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Point>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Point {
    fn read(metrics: &ListenerMetrics, at: Instant) -> Self {
        let buckets = |(class, histogram): (RequestClass, &prometheus::Histogram)| {
            let metric = histogram.metric();
            let buckets = metric.get_histogram().get_bucket().iter();
            (class.label(), buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect())
        };
        Self {
            at,
            requests: metrics.requests.iter().map(|(class, counter)| (class.label(), counter.get())).collect(),
            latency: metrics.request_seconds.iter().map(buckets).collect(),
            writes: metrics.batch.get_sample_count(),
            written: metrics.batch.get_sample_sum(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates and means need no more than 53 bits")]
    fn since(&self, then: &Self) -> Recent {
        let seconds = self.at.duration_since(then.at).as_secs_f64();
        let grown = |now: u64, before: Option<&u64>| now.saturating_sub(before.copied().unwrap_or(0));
        let rate = |(class, now): (&&'static str, &u64)| (*class, grown(*now, then.requests.get(class)) as f64 / seconds);
        let latency = |(class, now): (&&'static str, &Buckets)| {
            let before = then.latency.get(class)?;
            let counts: Buckets = now.iter().zip(before).map(|((bound, now), (_, before))| (*bound, grown(*now, Some(before)))).collect();
            Some((*class, Latency { p50: quantile(&counts, 0.5)?, p99: quantile(&counts, 0.99)? }))
        };
        let writes = grown(self.writes, Some(&then.writes));
        Recent {
            seconds,
            requests_per_second: self.requests.iter().map(rate).collect(),
            latency: self.latency.iter().filter_map(latency).collect(),
            requests_per_write: (writes > 0).then(|| (self.written - then.written) / writes as f64),
        }
    }
}

/// Seconds within which the share `part` of all observations lies, as if they were spread evenly within their bucket; the highest bound for
/// those beyond it. `None` without observations within the bounds.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
    let (highest, all) = *buckets.last().filter(|(_, all)| *all > 0)?;
    let rank = part * all as f64;
    let (mut below, mut under) = (0.0, 0);
    for (bound, count) in buckets {
        if *count as f64 >= rank {
            let inside = (*count - under).max(1) as f64;
            return Some(below + (bound - below) * ((rank - under as f64) / inside));
        }
        (below, under) = (*bound, *count);
    }
    Some(highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn tells_the_difference_and_not_the_sum() {
        let metrics = Metrics::new().unwrap().listener("x");
        let shared = metrics.requests.of(RequestClass::Shared);
        let (window, start) = (Window::default(), Instant::now());
        shared.inc_by(1_000_000);
        metrics.request_seconds.of(RequestClass::Shared).observe(9.0);
        assert!(window.recent(&metrics, start).is_none(), "there is no point yet");
        window.note(&metrics, start);
        assert!(window.recent(&metrics, start + LEAST / 2).is_none(), "too soon to say");

        shared.inc_by(500);
        metrics.batch.observe(3.0);
        metrics.batch.observe(5.0);
        for _ in 0..100 {
            metrics.request_seconds.of(RequestClass::Shared).observe(0.0008);
        }
        let recent = window.recent(&metrics, start + Duration::from_secs(10)).unwrap();
        assert!((recent.requests_per_second["shared"] - 50.0).abs() < 1e-9, "{recent:?}");
        assert!(recent.requests_per_second["pinned"].abs() < f64::EPSILON, "{recent:?}");
        assert!((recent.requests_per_write.unwrap() - 4.0).abs() < 1e-9, "{recent:?}");
        let Latency { p50, p99 } = recent.latency["shared"];
        assert!(p50 > 0.0005 && p50 < p99 && p99 <= 0.001, "the observation from before the window is not in it: {recent:?}");
        assert_eq!(recent.latency.len(), 1, "classes without requests have no latency");
    }

    #[test]
    fn looks_back_for_a_minute() {
        let metrics = Metrics::new().unwrap().listener("x");
        let (window, start) = (Window::default(), Instant::now());
        for ticks in 0..100 {
            window.note(&metrics, start + TICK * ticks);
        }
        let recent = window.recent(&metrics, start + TICK * 99).unwrap();
        assert!((recent.seconds - 60.0).abs() < 1e-9, "{recent:?}");
        assert!(window.lock().len() <= 13);
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let buckets = [(1.0, 10), (2.0, 10), (4.0, 20)];
        assert_eq!(quantile(&buckets, 0.5), Some(1.0));
        assert_eq!(quantile(&buckets, 0.25), Some(0.5));
        assert_eq!(quantile(&buckets, 0.75), Some(3.0));
        assert_eq!(quantile(&buckets, 1.0), Some(4.0));
        assert_eq!(quantile(&[(1.0, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
