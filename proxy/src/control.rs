//! What the admin server may see and do.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::admin::{Control, ListenerFacts, ListenerSnapshot, Snapshot, State, Window};
use crate::app::Shared;
use crate::config::PoolBudget;
use crate::drain::Drain;
use crate::logging::LogControl;
use crate::metrics::Metrics;
use crate::pool::quota::SETTLE;

/// Twice what it takes where names resolve.
const SHARE_PATIENCE: Duration = Duration::from_secs(2 * SETTLE.as_secs());

/// Notices when a part without which the process only looks alive ends before the drain, by a panic say. Cheap to clone.
#[derive(Clone)]
pub struct Vitals {
    drain: Drain,
    /// The first part that was lost.
    lost: Arc<OnceLock<String>>,
}

/// Lives as long as its part does.
pub struct Vital {
    part: String,
    vitals: Vitals,
}

impl Vitals {
    /// Nothing lost. From `drain.closing` on, everything may end.
    #[must_use]
    pub fn new(drain: Drain) -> Self {
        Self { drain, lost: Arc::default() }
    }

    /// A guard for the task or thread that does `part`, to be moved into it.
    #[must_use]
    pub fn guard(&self, part: String) -> Vital {
        Vital { part, vitals: self.clone() }
    }

    /// Whether every guard is still held.
    ///
    /// # Errors
    /// What was lost, and what to do.
    pub fn check(&self) -> Result<(), String> {
        match self.lost.get() {
            None => Ok(()),
            Some(part) => Err(format!("{part} has died; restart this process, the log says what happened")),
        }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        // One that dies takes others along: the first is the cause.
        if !self.vitals.drain.closing.is_cancelled() && self.vitals.lost.set(self.part.clone()).is_ok() {
            tracing::error!(part = self.part, "a part of this process has died: liveness says no from now on");
        }
    }
}

/// The process as the admin server knows it.
pub struct ProcessControl {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Arc<Shared>>,
    /// Their last minute, in the same order.
    pub windows: Vec<Window>,
    /// The end of the process.
    pub drain: Drain,
    /// Whether all parts live.
    pub vitals: Vitals,
    /// The log filter.
    pub log: LogControl,
    /// Threads that carry traffic.
    pub workers: usize,
    /// What Landlock achieved.
    pub sandbox: String,
}

impl ProcessControl {
    fn state(&self) -> State {
        if self.drain.announced.is_cancelled() {
            State::Draining
        } else if self.metrics.started.get() > 0.0 {
            State::Ready
        } else {
            State::Starting
        }
    }

    /// Whether clients of a listener would have to wait because this process has just begun to be counted among its peers. Until then the process
    /// that it replaces goes on, if there is one; but not for long, since the other listeners need nothing of the kind.
    fn waits_for_share(&self, shared: &Shared) -> bool {
        let shares = matches!(shared.listener.pool.budget, Some(PoolBudget { peers: Some(_), .. }));
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |now| now.as_secs_f64());
        shares && shared.metrics.pool_limit.get() == 0 && now - self.metrics.started.get() < SHARE_PATIENCE.as_secs_f64()
    }

    fn watched(&self) -> impl Iterator<Item = (&Shared, &Window)> {
        self.listeners.iter().map(|shared| &**shared).zip(&self.windows)
    }

    fn listener(shared: &Shared, window: &Window, now: i64) -> ListenerSnapshot {
        let listener = &shared.listener;
        let upstream = &listener.upstream;
        let facts = ListenerFacts {
            name: listener.name.clone(),
            protocol: listener.protocol.name().to_owned(),
            listen: listener.listen.to_string(),
            upstream: if upstream.host.contains(':') {
                format!("[{}]:{}", upstream.host, upstream.port)
            } else {
                format!("{}:{}", upstream.host, upstream.port)
            },
            addresses: shared.upstream.names.addresses().iter().map(ToString::to_string).collect(),
            pool_mode: listener.pool.mode.name().to_owned(),
            client_tls: listener.listen_tls.is_some(),
            max_clients: listener.max_clients,
            last_error: shared.errors.last(),
        };
        let recent = window.recent(&shared.metrics, Instant::now());
        ListenerSnapshot::from_metrics(&shared.metrics, facts, recent, now)
    }
}

impl Control for ProcessControl {
    fn started(&self) -> Result<(), String> {
        if self.metrics.started.get() > 0.0 { Ok(()) } else { Err("starting: not accepting clients yet".to_owned()) }
    }

    fn ready(&self) -> Result<(), String> {
        self.started()?;
        if self.drain.announced.is_cancelled() {
            return Err("draining: this process is going away".to_owned());
        }
        if let Some(shared) = self.listeners.iter().find(|shared| self.waits_for_share(shared)) {
            return Err(format!("listener {} waits for its share of the server's connections", shared.listener.name));
        }
        match self.listeners.iter().find(|shared| shared.places.taken() >= shared.listener.max_clients) {
            None => Ok(()),
            Some(full) => Err(format!("listener {} has {} clients, its max_clients", full.listener.name, full.listener.max_clients)),
        }
    }

    fn alive(&self) -> Result<(), String> {
        self.vitals.check()
    }

    fn metrics(&self) -> String {
        self.metrics.render().unwrap_or_else(|error| format!("# {error}\n"))
    }

    fn snapshot(&self) -> Snapshot {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds of this era fit an i64")]
        let started_at = self.metrics.started.get() as i64;
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.state(),
            not_ready: self.ready().err(),
            now,
            started_at,
            uptime_seconds: if started_at > 0 { u64::try_from(now - started_at).unwrap_or(0) } else { 0 },
            workers: self.workers,
            log_level: self.log.level(),
            sandbox: self.sandbox.clone(),
            listeners: self.watched().map(|(shared, window)| Self::listener(shared, window, now)).collect(),
        }
    }

    fn tick(&self) {
        self.watched().for_each(|(shared, window)| window.note(&shared.metrics, Instant::now()));
    }

    fn drain(&self) {
        self.drain.announced.cancel();
    }

    fn set_log_level(&self, directive: &str) -> Result<(), String> {
        self.log.set(directive)
    }

    fn log_level(&self) -> String {
        self.log.level()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_panics_is_named_and_one_that_ends_in_the_drain_is_not() {
        let drain = Drain::new();
        let vitals = Vitals::new(drain.clone());
        let late = vitals.guard("worker-0".to_owned());
        let [first, second] = ["worker-1", "worker-2"].map(|part| vitals.guard(part.to_owned()));
        assert_eq!(vitals.check(), Ok(()));
        for guard in [first, second] {
            let worker = std::thread::spawn(move || {
                let _guard = guard;
                panic!("as intended by this test");
            });
            assert!(worker.join().is_err());
            assert!(vitals.check().unwrap_err().starts_with("worker-1 has died;"));
        }
        let calm = Vitals::new(drain.clone());
        let guard = calm.guard("worker-0".to_owned());
        drain.closing.cancel();
        drop((late, guard));
        assert_eq!(calm.check(), Ok(()));
    }
}
