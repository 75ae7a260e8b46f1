//! What the admin server may see and do.

use std::sync::Arc;
use std::time::SystemTime;

use crate::admin::{Control, ListenerFacts, ListenerSnapshot, Snapshot, State};
use crate::app::Shared;
use crate::drain::Drain;
use crate::logging::LogControl;
use crate::metrics::Metrics;

/// The process as the admin server knows it.
pub struct ProcessControl {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Arc<Shared>>,
    /// The end of the process.
    pub drain: Drain,
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

    fn listener(&self, shared: &Shared, now: i64) -> ListenerSnapshot {
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
        ListenerSnapshot::from_metrics(&shared.metrics, facts, now)
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
        match self.listeners.iter().find(|shared| shared.places.taken() >= shared.listener.max_clients) {
            None => Ok(()),
            Some(full) => Err(format!("listener {} has {} clients, its max_clients", full.listener.name, full.listener.max_clients)),
        }
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
            listeners: self.listeners.iter().map(|shared| self.listener(shared, now)).collect(),
        }
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
