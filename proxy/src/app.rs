//! The wiring: everything is bound and loaded by [`App::build`], and only [`App::run`] accepts.
//!
//! One thread per worker, each a runtime of its own with its own listening sockets and its own stock, so that a client's bytes never cross
//! threads. The calling thread looks at files and names, and leads the drain.

mod pooled;
mod share;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use humantime::format_duration;
use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Clients, PostgresServer};
use crate::config::{ClientAuth, Config, ListenAddr, Listener, Process, Protocol, read_pair};
use crate::control::{Vital, Vitals};
use crate::drain::Drain;
use crate::error_log::ErrorLog;
use crate::listener::{Bound, Places, accept, bind};
use crate::metrics::{ListenerMetrics, Metrics};
use crate::pool::{Budget, Limits, Stock};
use crate::reload::Reloaded;
use crate::serve::{ClientSecret, Service};
use crate::tls;
use crate::upstream::{Upstream, report_reload};

/// How often files are compared and, every so many times, names are looked up.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);
const LOOK_AT_NAMES: Duration = Duration::from_secs(5);
/// PostgreSQL gives a connection that has not logged in `authentication_timeout` (60 s by default) before it closes it.
const POSTGRES_UNUSED_LIMIT: Duration = Duration::from_secs(45);
/// A PostgreSQL that crashed or stops is through with its connections in less, unless new ones that say nothing hold it up.
const POSTGRES_SUSPECT: Duration = Duration::from_secs(2);

/// A proxy that is ready to accept.
pub struct App {
    process: Process,
    listeners: Vec<Arc<Shared>>,
    bound: Vec<Vec<Bound>>,
    /// A token for each worker, given back when it has emptied its accept queues and its last client has gone.
    working: TaskTracker,
    /// The clients' tasks of all workers: one that was never polled counts as well.
    clients: TaskTracker,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Begins the end.
    pub drain: Drain,
    /// Whether its threads and tasks live.
    pub vitals: Vitals,
}

/// What the workers share of one listener.
pub struct Shared {
    /// Its settings, with the port that was chosen for port 0.
    pub listener: Arc<Listener>,
    /// The server behind it.
    pub upstream: Arc<Upstream>,
    /// Places for clients.
    pub places: Arc<Places>,
    /// Its metrics.
    pub metrics: ListenerMetrics,
    /// Its errors.
    pub errors: Arc<ErrorLog>,
    /// How many upstream connections there may be, in the modes that share them.
    budget: Arc<Budget>,
    /// In the modes of PostgreSQL that share them: how they are opened, and who is served.
    postgres: Arc<PostgresServer>,
    clients: Arc<Clients>,
    client_tls: Option<Arc<Reloaded<ServerConfig>>>,
    client_secret: Option<Arc<Reloaded<ClientSecret>>>,
}

impl App {
    /// Reads every file and binds every address.
    ///
    /// # Errors
    /// The first that fails, with its cure; nothing has been accepted then.
    pub fn build(config: Config) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        for listener in config.listeners {
            let sockets = bind(&listener.listen, config.process.workers)?;
            let mut listener = listener;
            if let Some(actual) = sockets.first().and_then(Bound::address) {
                listener.listen = ListenAddr::Tcp(actual);
            }
            bound.push(sockets);
            listeners.push(Arc::new(Shared::new(listener, &metrics)?));
        }
        let drain = Drain::new();
        Ok(Self {
            process: config.process,
            listeners,
            bound,
            working: TaskTracker::new(),
            clients: TaskTracker::new(),
            metrics,
            vitals: Vitals::new(drain.clone()),
            drain,
        })
    }

    /// The listeners, in the order of the configuration.
    #[must_use]
    pub fn listeners(&self) -> &[Arc<Shared>] {
        &self.listeners
    }

    /// Serves until `stop` resolves, then drains. True if every client was gone in time. Blocking threads of the caller's runtime may outlive
    /// it: end that with `shutdown_background`.
    ///
    /// # Errors
    /// If a worker's thread or runtime cannot be started.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> io::Result<bool> {
        let workers = self.start_workers()?;
        self.metrics.started.set(std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |now| now.as_secs_f64()));
        tokio::select! {
            () = stop => {}
            () = self.drain.announced.cancelled() => {}
            () = self.housekeeping() => {}
        }
        let began = Instant::now();
        let left = self.end().await;
        // The workers end by themselves after the cut. One that does not is left to the end of the process, as is the thread that waits for
        // it here: the caller must not wait for its runtime's blocking threads.
        let joined = tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join())));
        let _ = timeout(Duration::from_secs(2), joined).await;
        let seconds = began.elapsed().as_secs_f64();
        if left == 0 {
            tracing::info!(seconds, "drained");
        } else {
            tracing::warn!(clients = left, seconds, "stopped: the remaining clients were cut");
        }
        Ok(left == 0)
    }

    /// The drain of the module `drain`, phase by phase. Returns how many clients were cut.
    async fn end(&self) -> usize {
        self.metrics.draining.set(1);
        self.drain.announced.cancel();
        let (delay, limit) = (format_duration(self.process.drain_delay), format_duration(self.process.drain_timeout));
        tracing::info!(%delay, timeout = %limit, "draining");
        sleep(self.process.drain_delay).await;
        self.drain.closing.cancel();
        self.clients.close();
        self.working.close();
        let left = match timeout(self.process.drain_timeout, self.working.wait()).await {
            Ok(()) => 0,
            Err(_) => self.clients.len(),
        };
        self.drain.cut.cancel();
        if left > 0 {
            tracing::warn!(clients = left, "drain_timeout passed: the remaining clients are cut");
        }
        left
    }

    /// Looks at files and names for ever. Neither waits for the other, nor a name for a name: a resolver may take its time.
    async fn housekeeping(&self) {
        let files = async {
            let mut tick = every(LOOK_AT_FILES);
            loop {
                tick.tick().await;
                self.listeners.iter().for_each(|shared| shared.look_at_files());
            }
        };
        let names = self.listeners.iter().map(|shared| async {
            let (upstream, mut tick) = (&shared.upstream, every(LOOK_AT_NAMES));
            loop {
                tick.tick().await;
                // Counted and reported by whoever needs a connection.
                let _ = timeout(upstream.config().connect_timeout, upstream.resolve()).await;
            }
        });
        tokio::join!(files, join_all(names), join_all(self.listeners.iter().map(|shared| share::follow(shared))));
    }

    /// Every worker is complete before the first accepts: a crowd that uses up the descriptors must not find half of them.
    fn start_workers(&mut self) -> io::Result<Vec<JoinHandle<()>>> {
        let (report, reports) = mpsc::channel();
        let go = CancellationToken::new();
        let workers = (0..self.process.workers)
            .map(|number| {
                let mine = self.bound.iter_mut().map(Vec::pop);
                let sockets: Vec<_> = self.listeners.iter().cloned().zip(mine).collect();
                let worker = Worker {
                    number,
                    count: self.process.workers,
                    drain: self.drain.clone(),
                    clients: self.clients.clone(),
                    vitals: self.vitals.clone(),
                };
                let (vital, working) = (worker.vital("its thread"), self.working.token());
                let (report, go) = (report.clone(), go.clone());
                thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                    let _vital = vital;
                    let (runtime, outcome) = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                        Ok(runtime) => (Some(runtime), Ok(())),
                        Err(error) => (None, Err(error)),
                    };
                    // Nobody listens only when the start has failed already.
                    let _ = report.send(outcome);
                    let Some(runtime) = runtime else { return };
                    runtime.block_on(async {
                        go.cancelled().await;
                        worker.work(sockets).await;
                    });
                    drop(working);
                    // Dropping it would wait for a resolver that takes its time.
                    runtime.shutdown_background();
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        drop(report);
        for _ in &workers {
            reports.recv().map_err(io::Error::other)??;
        }
        go.cancel();
        Ok(workers)
    }
}

fn every(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

impl Shared {
    fn new(listener: Listener, metrics: &Metrics) -> Result<Self, String> {
        let metrics = metrics.listener(&listener.name);
        let alpn: &'static [&'static [u8]] = if listener.protocol == Protocol::Postgres { &[b"postgresql"] } else { &[] };
        let client_tls = listener.listen_tls.clone().map(|tls| {
            let mut files = vec![tls.cert.clone(), tls.key.clone()];
            files.extend(tls.client_ca.clone());
            let expiry = metrics.listen_cert_expiry.clone();
            // Made again at every reload, and so is the metric.
            let make = move || {
                let config = tls::server_config(&tls, alpn)?;
                let (chain, _) = read_pair(&tls.cert, &tls.key)?;
                expiry.set(chain.first().and_then(|leaf| tls::expiry(leaf)).unwrap_or(0));
                Ok(config)
            };
            Reloaded::new(files, make).map(Arc::new)
        });
        let client_secret = match &listener.client_auth {
            ClientAuth::Password(source) => Some(Arc::new(ClientSecret::load(source)?)),
            ClientAuth::None | ClientAuth::Upstream => None,
        };
        let errors = Arc::new(ErrorLog::new(&listener.name, metrics.clone()));
        let upstream = Arc::new(Upstream::new(&listener, metrics.clone(), Arc::clone(&errors))?);
        Ok(Self {
            postgres: Arc::new(PostgresServer::new(Arc::clone(&upstream), listener.pool.prepared_statements)),
            upstream,
            places: Arc::new(Places::new(listener.max_clients)),
            budget: share::budget(&listener, &metrics),
            clients: Arc::default(),
            client_tls: client_tls.transpose()?,
            client_secret,
            errors,
            listener: Arc::new(listener),
            metrics,
        })
    }

    /// Takes into use what has changed in certificates and passwords, with a line in the log.
    pub fn look_at_files(&self) {
        self.upstream.look_at_files(&self.listener.name);
        if let Some(tls) = &self.client_tls {
            report_reload(tls.look(), &self.listener.name, "client", &self.metrics);
        }
        if let Some(secret) = &self.client_secret {
            report_reload(secret.look(), &self.listener.name, "client", &self.metrics);
        }
    }

    /// Shares that differ by one at most and add up to the whole.
    fn min_idle(&self, worker: usize, workers: usize) -> usize {
        (self.listener.pool.min_idle + worker) / workers
    }

    fn limits(&self, worker: usize, workers: usize) -> Limits {
        let pool = &self.listener.pool;
        let (unused_limit, suspect) = match self.listener.protocol {
            Protocol::Postgres => (POSTGRES_UNUSED_LIMIT, POSTGRES_SUSPECT),
            Protocol::Redis | Protocol::Tls => (Duration::MAX, Duration::ZERO),
        };
        Limits {
            min_idle: self.min_idle(worker, workers),
            max_idle_age: pool.max_idle_age.min(unused_limit),
            wait_timeout: pool.wait_timeout,
            suspect,
        }
    }
}

/// One thread that carries traffic.
struct Worker {
    number: usize,
    count: usize,
    drain: Drain,
    clients: TaskTracker,
    vitals: Vitals,
}

impl Worker {
    fn vital(&self, part: &str) -> Vital {
        self.vitals.guard(format!("worker-{}: {part}", self.number))
    }

    /// Accepts on its sockets, tends its stocks, ends when the drain is over and its last client has gone.
    async fn work(self, sockets: Vec<(Arc<Shared>, Option<Bound>)>) {
        let mut accepting = Vec::new();
        for (shared, bound) in sockets {
            let Some(bound) = bound else { continue };
            let service = Rc::new(Service {
                listener: Arc::clone(&shared.listener),
                upstream: Arc::clone(&shared.upstream),
                mux: shared.mux(self.number, self.count, &self.drain),
                broker: shared.broker(self.number, self.count, &self.drain),
                stock: Stock::new(Arc::clone(&shared.upstream), shared.limits(self.number, self.count), shared.metrics.clone()),
                places: Arc::clone(&shared.places),
                client_tls: shared.client_tls.clone(),
                client_secret: shared.client_secret.clone(),
                errors: Arc::clone(&shared.errors),
                refusing: Cell::new(0),
                drain: self.drain.clone(),
                metrics: shared.metrics.clone(),
            });
            let (tender, vital) = (Rc::clone(&service), self.vital(&format!("the stock of {}", shared.listener.name)));
            tokio::task::spawn_local(async move {
                let _vital = vital;
                let (moved, closing) = (tender.upstream.moved(), tender.drain.closing.clone());
                match (&tender.mux, &tender.broker) {
                    (None, None) => tender.stock.tend(moved, closing).await,
                    (None, Some(broker)) => broker.leases.tend(moved, closing).await,
                    (Some(mux), _) => {
                        tokio::join!(mux.leases.tend(moved.clone(), closing.clone()), mux.lanes.tend(moved, closing));
                    }
                }
            });
            let (clients, vital) = (self.clients.clone(), self.vital(&format!("accepting for {}", shared.listener.name)));
            accepting.push(tokio::task::spawn_local(async move {
                let _vital = vital;
                let serve = |socket, peer| Rc::clone(&service).serve(socket, peer);
                if let Err(error) = accept(bound, &service.listener.name, &service.drain, &service.metrics, &clients, serve).await {
                    tracing::error!(listener = service.listener.name, %error, "cannot accept on this worker");
                }
            }));
        }
        self.drain.closing.cancelled().await;
        for task in accepting {
            // Ends by itself once `closing` is cancelled.
            let _ = task.await;
        }
        tokio::select! {
            // Closed by whoever leads the drain.
            () = self.clients.wait() => {}
            () = async { self.drain.cut.cancelled().await; sleep(Duration::from_secs(1)).await } => {}
        }
    }
}
