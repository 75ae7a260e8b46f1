//! All pooled clients of one listener, over all workers: whom a CancelRequest means, and who there is.
//!
//! A client's key is ours, not the server's: the query that is to be cancelled runs on whatever connection the client has been lent just now.
//! That leaves two races. A cancel must not go out for a connection that has been given to somebody else: so the connection's key is read, and
//! the cancel counted, under the lock under which leases begin and end ([`Card::lend`], [`Card::take_back`]). And a cancel that has gone out must
//! not arrive after the connection has been given to somebody else: so the lease does not end before the server has closed the connection that
//! carried the cancel, which it does when it has sent the signal. Where that fails the connection is not lent again ([`Card::doubts`]).

mod lending;
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;

pub use tally::{Count, Tally, Totals};

use self::lending::Lending;
use crate::error::{Error, Kind, Result};

/// All pooled clients of one listener.
#[derive(Default)]
pub struct Clients {
    present: Mutex<HashMap<u32, Arc<Card>>>,
    /// What those who have left have done, by database.
    past: Mutex<HashMap<Arc<[u8]>, Totals>>,
}

/// What is known of a client when it comes.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its database, as the server knows it.
    pub database: Arc<[u8]>,
    /// The user that it claims to be; for people only.
    pub user: String,
    /// What it calls itself; for people only.
    pub application: String,
    /// Where it connects from; `None`: a unix socket.
    pub peer: Option<SocketAddr>,
    /// How long its secret is: 4 bytes in protocol 3.0, where clients cannot take more; 32 since 3.2.
    pub secret_bytes: usize,
}

/// A client's presence. Dropped when it leaves.
pub struct Badge {
    card: Arc<Card>,
    clients: Arc<Clients>,
}

/// A client, as others see it.
pub struct Card {
    /// What it was when it came.
    pub facts: Facts,
    /// When it came.
    pub since: SystemTime,
    /// What it has done.
    pub tally: Tally,
    process: u32,
    secret: Vec<u8>,
    state: AtomicU8,
    /// When it began to wait, in microseconds since it came.
    waiting_since: AtomicU64,
    lending: Mutex<Lending>,
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing, outside a transaction.
    Idle,
    /// A query.
    Active,
    /// It has asked for something and there is no connection for it yet.
    Waiting,
    /// Nothing, and a connection is kept for it.
    IdleInTransaction,
}

impl Clients {
    /// A client has come. Its key is made here, from the system's randomness.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn enter(self: &Arc<Self>, facts: Facts) -> Result<Badge> {
        let mut secret = vec![0; facts.secret_bytes];
        random(&mut secret)?;
        let mut present = lock(&self.present);
        let process = loop {
            let mut number = [0; 4];
            random(&mut number)?;
            // Positive for those who read it as signed.
            let number = u32::from_be_bytes(number) & 0x7fff_ffff;
            if number != 0 && !present.contains_key(&number) {
                break number;
            }
        };
        let card = Arc::new(Card {
            facts,
            since: SystemTime::now(),
            tally: Tally::default(),
            process,
            secret,
            state: AtomicU8::new(State::Idle as u8),
            waiting_since: AtomicU64::new(0),
            lending: Mutex::default(),
        });
        present.insert(process, Arc::clone(&card));
        drop(present);
        Ok(Badge { card, clients: Arc::clone(self) })
    }

    /// Whom this key means. In constant time where the secret is concerned.
    #[must_use]
    pub fn find(&self, process: u32, secret: &[u8]) -> Option<Arc<Card>> {
        let card = lock(&self.present).get(&process).cloned()?;
        verify_slices_are_equal(&card.secret, secret).ok().map(|()| card)
    }

    /// Everybody, in the order of their process numbers.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Card>> {
        let mut all: Vec<_> = lock(&self.present).values().cloned().collect();
        all.sort_unstable_by_key(|card| card.process);
        all
    }

    /// What has been done in each database, in the order of their names, by those who are here and those who have left.
    #[must_use]
    pub fn totals(&self) -> Vec<(Arc<[u8]>, Totals)> {
        // Under both locks: nobody is counted twice or not at all.
        let present = lock(&self.present);
        let mut totals = lock(&self.past).clone();
        for card in present.values() {
            totals.entry(Arc::clone(&card.facts.database)).or_default().add(&card.tally.totals());
        }
        drop(present);
        let mut totals: Vec<_> = totals.into_iter().collect();
        totals.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        totals
    }
}

impl Badge {
    /// What others see of the client.
    #[must_use]
    pub fn card(&self) -> &Arc<Card> {
        &self.card
    }
}

impl Drop for Badge {
    fn drop(&mut self) {
        let mut present = lock(&self.clients.present);
        present.remove(&self.card.process);
        let totals = self.card.tally.totals();
        lock(&self.clients.past).entry(Arc::clone(&self.card.facts.database)).or_default().add(&totals);
    }
}

impl Card {
    /// The number that stands for the server's process in the client's key.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The secret in the client's key. For its BackendKeyData only.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The client is in this state now. Called by its own task alone.
    pub fn enter(&self, state: State) {
        if state == State::Waiting {
            self.waiting_since.store(micros(self.age()), Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        let state = self.state.load(Ordering::Relaxed);
        [State::Active, State::Waiting, State::IdleInTransaction].into_iter().find(|known| *known as u8 == state).unwrap_or(State::Idle)
    }

    /// How long it has been waiting for a connection; zero if it is not.
    #[must_use]
    pub fn waiting(&self) -> Duration {
        if self.state() != State::Waiting {
            return Duration::ZERO;
        }
        self.age().saturating_sub(Duration::from_micros(self.waiting_since.load(Ordering::Relaxed)))
    }

    fn age(&self) -> Duration {
        self.since.elapsed().unwrap_or_default()
    }
}

impl State {
    /// As it is shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::IdleInTransaction => "idle in transaction",
        }
    }
}

/// A panic of another task leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random(bytes: &mut [u8]) -> Result<()> {
    rand::fill(bytes).map_err(|_| Error::ours(Kind::Io, "the system has no randomness for a cancel key"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
