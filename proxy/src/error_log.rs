//! What became of errors: counted always, remembered for the status page, logged at most once per message and ten seconds.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::admin::LastError;
use crate::error::{Error, Label};
use crate::logging::Throttle;
use crate::metrics::ListenerMetrics;

const INTERVAL: Duration = Duration::from_secs(10);

/// The errors of one listener.
pub struct ErrorLog {
    listener: String,
    metrics: ListenerMetrics,
    last: Mutex<Option<LastError>>,
    throttle: Throttle<(String, &'static str, &'static str, String)>,
}

impl ErrorLog {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(listener: &str, metrics: ListenerMetrics) -> Self {
        Self { listener: listener.to_owned(), metrics, last: Mutex::default(), throttle: Throttle::new(INTERVAL, 64) }
    }

    /// Counts, remembers and perhaps logs an error. `event` is a fixed phrase: what could not be done because of it.
    pub fn report(&self, event: &'static str, error: &Error) {
        self.report_of(None, event, error);
    }

    /// As [`ErrorLog::report`], with the address of the client that it befell: of several equal errors the first one's is logged.
    pub fn report_of(&self, client: Option<&dyn Display>, event: &'static str, error: &Error) {
        self.metrics.error(error.kind);
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastError::new(error.side, error.kind, &error.why, now));
        let (side, kind) = (error.side.to_string(), error.kind.label());
        // With the message: one error must not hide another of its kind.
        if let Some(suppressed) = self.throttle.check(&(side, kind, event, error.why.clone())) {
            let suppressed = (suppressed > 0).then_some(suppressed);
            let client = client.map(tracing::field::display);
            tracing::warn!(listener = self.listener, client, side = %error.side, kind, error = error.why, suppressed, "{event}");
        }
    }

    /// The latest.
    pub fn last(&self) -> Option<LastError> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
