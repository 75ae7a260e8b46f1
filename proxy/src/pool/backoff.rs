//! The pause after a failure, longer after each.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; it doubles up to [`MAX_PAUSE`], each with up to half of jitter, so that proxies do not march in step.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A server that closes connections younger than this does not want them (it asks for a certificate, or is full): replacing those backs off
/// too, or a pool would shake hands with it as fast as both machines can.
pub(super) const YOUNG: Duration = Duration::from_secs(1);

/// Failures in a row, and until when to pause because of them.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// True when the last try failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// False during a pause.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// When the last pause ends or ended.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// A try has succeeded, or failed and begins the next pause.
    pub(super) fn note(&mut self, ok: bool, now: Instant) {
        if ok {
            *self = Self::default();
        } else {
            self.failures = self.failures.saturating_add(1);
            self.not_before = Some(now + self.pause().mul_f64(1.0 + 0.5 * fastrand::f64()));
        }
    }

    /// How long the pause is, without the jitter.
    pub(super) fn pause(&self) -> Duration {
        MIN_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(MAX_PAUSE)
    }
}
