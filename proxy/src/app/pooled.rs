//! The wiring of the modes that share upstream connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::Shared;
use crate::broker::{Broker, Greetings, Key};
use crate::config::{ClientAuth, PoolMode, Protocol};
use crate::drain::Drain;
use crate::mux::{self, Auth, Identity, Lanes, Mux, RedisServer, Verdicts};
use crate::pool::{LeaseLimits, Leases};

impl Shared {
    /// What one worker shares among its clients; `None` in the modes that do not share.
    pub(super) fn mux(&self, worker: usize, workers: usize, drain: &Drain) -> Option<Rc<Mux>> {
        let (listener, pool) = (&self.listener, &self.listener.pool);
        let shares = match (listener.protocol, pool.mode) {
            (Protocol::Redis, PoolMode::Session) => false,
            (Protocol::Redis, PoolMode::Multiplex) => true,
            (Protocol::Redis | Protocol::Postgres | Protocol::Tls, _) => return None,
        };
        let logs_in = listener.upstream.credentials.is_some();
        let asks_server = self.client_secret.is_none() && !logs_in;
        let server = Arc::new(RedisServer::new(Arc::clone(&self.upstream), asks_server));
        let home = mux::Key { identity: Identity::Proxy, database: server.database(), resp3: false };
        // Where every client has a login of its own, nothing is known before it comes.
        let ready = (!matches!(listener.client_auth, ClientAuth::Upstream)).then(|| (home.clone(), self.min_idle(worker, workers)));
        let leases = Leases::new(server, Arc::clone(&self.budget), self.lease_limits(), ready, self.metrics.clone());
        let auth = match &self.client_secret {
            Some(secret) => {
                let secret = Arc::clone(secret);
                Auth::Local(Rc::new(move |password| secret.current().matches(password)))
            }
            None if asks_server => Auth::Server,
            None => Auth::Open,
        };
        let lanes = Lanes::new(Rc::clone(&leases), pool.max_idle_age, logs_in, self.metrics.clone(), Arc::clone(&self.errors));
        Some(Rc::new(Mux {
            verdicts: Verdicts::new(home.clone(), Rc::clone(&leases), Rc::clone(&lanes)),
            lanes,
            listener: Arc::clone(listener),
            shares,
            auth,
            home,
            leases,
            closing: drain.closing.child_token(),
            cut: drain.cut.child_token(),
            metrics: self.metrics.clone(),
            ids: (Cell::new(u64::try_from(worker).unwrap_or(0)), u64::try_from(workers).unwrap_or(1)),
        }))
    }
    /// The same for PostgreSQL.
    pub(super) fn broker(&self, worker: usize, workers: usize, drain: &Drain) -> Option<Rc<Broker>> {
        let (listener, config) = (&self.listener, &self.listener.upstream);
        let shares = match (listener.protocol, listener.pool.mode) {
            (Protocol::Postgres, PoolMode::Session) => false,
            (Protocol::Postgres, PoolMode::Transaction) => true,
            (Protocol::Redis | Protocol::Postgres | Protocol::Tls, _) => return None,
        };
        // Without a name the server takes the user's.
        let user = config.credentials.as_ref().and_then(|login| login.user.as_deref());
        let database = config.database.as_deref().or(user).unwrap_or_default();
        let home = Key { database: database.as_bytes().into() };
        let ready = Some((home.clone(), self.min_idle(worker, workers)));
        let leases = Leases::new(Arc::clone(&self.postgres), Arc::clone(&self.budget), self.lease_limits(), ready, self.metrics.clone());
        Some(Rc::new(Broker {
            listener: Arc::clone(listener),
            shares,
            home,
            leases,
            budget: Arc::clone(&self.budget),
            server: Arc::clone(&self.postgres),
            upstream: Arc::clone(&self.upstream),
            clients: Arc::clone(&self.clients),
            greetings: Greetings::new(self.upstream.moved()),
            statements: RefCell::default(),
            closing: drain.closing.child_token(),
            cut: drain.cut.child_token(),
            metrics: self.metrics.clone(),
            errors: Arc::clone(&self.errors),
        }))
    }

    fn lease_limits(&self) -> LeaseLimits {
        let pool = &self.listener.pool;
        LeaseLimits { max_idle_age: pool.max_idle_age, max_lifetime: pool.max_lifetime, wait_timeout: pool.wait_timeout }
    }
}
