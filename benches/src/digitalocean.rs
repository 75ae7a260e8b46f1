//! A small DigitalOcean that keeps state: enough of its API for the installer, on a free loopback port, in this process, gone when dropped.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use lab::digitalocean::{At, Fake, Fault, Moment};
//!
//! let fake = Fake::builder().creating_polls(3).start()?;
//! fake.fault(At::call("POST", "/v2/databases"), Fault::After(500));
//! let frozen = fake.freeze_at(4, Moment::AfterCommit); // the fourth request that changes something
//! // … run the installer with --api-url of fake.url() and the token fake.token() …
//! frozen.reached().await;
//! // … kill it, run it again, and compare fake.snapshot() with that of an undisturbed run.
//! # Ok(())
//! # }
//! ```
//!
//! A request goes through: number and log, faults of before, token, scope, the change and its hooks, faults of after, answer. The change
//! happens at once and as a whole, whatever becomes of the answer. The server has a thread of its own, so a test may block.
//!
//! | file | what |
//! |---|---|
//! | `builder` | what there is when it starts |
//! | `world` | what there is: clusters, databases, keys, projects |
//! | `server`, `routes`, `answer` | HTTP, who handles what with which scope, DigitalOcean's words |
//! | `account`, `databases`, `inside`, `spaces` | the calls |
//! | `faults` | what goes wrong, and when |
//! | `snapshot` | the end state, for comparing |

mod account;
mod answer;
mod builder;
mod databases;
mod faults;
mod inside;
mod routes;
mod server;
mod snapshot;
mod spaces;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use crate::wait::Frozen;
pub use builder::Builder;
pub use faults::{At, Fault, Moment};
pub use server::{Exchange, Hook};
pub use world::{Access, Births, Cluster, Database, Endpoint, Event, Key, Phase, Pool, Project, Region, Rule, User, Vpc, World};

/// The DOKS cluster of a fake that was not told of others.
pub const CLUSTER: &str = "bd5f5959-5e1e-4205-a714-a914373942af";
/// Its name.
pub const CLUSTER_NAME: &str = "production";
/// Its network.
pub const VPC: &str = "c33931f2-a26a-4e61-b85c-4e95a2ec431b";
/// Its region.
pub const REGION: &str = "nyc3";

/// A running fake.
#[derive(Debug)]
pub struct Fake {
    port: u16,
    token: String,
    shared: Arc<server::Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    /// An account with one DOKS cluster and nothing else, until told otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// [`Self::builder`] and nothing else.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> anyhow::Result<Self> {
        Self::builder().start()
    }

    /// For `--api-url`: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The one token that it takes.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Breaks one request: the first from now on that `at` fits.
    pub fn fault(&self, at: At, fault: Fault) {
        self.faults(at, 1, fault);
    }

    /// Breaks the first `times` requests that `at` fits. Of several that fit, the one that was asked for first counts.
    pub fn faults(&self, at: At, times: usize, fault: Fault) {
        self.lock().faults.add(at, times, fault);
    }

    /// Holds request number `n` of those that change something (counted from 1, since the start) until [`Self::thaw`] or the client is gone.
    pub fn freeze_at(&self, n: usize, moment: Moment) -> Frozen {
        self.freeze(At::Mutation(n), moment)
    }

    /// Holds the first request that `at` fits until [`Self::thaw`] or the client is gone.
    pub fn freeze(&self, at: At, moment: Moment) -> Frozen {
        self.lock().faults.freeze(at, moment)
    }

    /// Lets every held request go on, and drops every fault that has not happened.
    pub fn thaw(&self) {
        self.lock().faults.thaw();
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.lock().log.len()
    }

    /// How many of them would change something: everything but GET.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.lock().mutations
    }

    /// All of them, with their answers, in the order in which they came. Passwords and secrets read `REDACTED`.
    #[must_use]
    pub fn log(&self) -> Vec<Exchange> {
        self.lock().log.clone()
    }

    /// `METHOD PATH` of all of them; for counting.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.lock().log.iter().map(|exchange| format!("{} {}", exchange.method, exchange.path)).collect()
    }

    /// What there is, without what differs from run to run: ids, passwords, times.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        snapshot::of(&self.lock().world)
    }

    /// Looks at what there is, or changes it as somebody else would in the control panel.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.lock().world)
    }

    fn lock(&self) -> MutexGuard<'_, server::State> {
        self.shared.lock()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A lock that a panicking test does not take with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
