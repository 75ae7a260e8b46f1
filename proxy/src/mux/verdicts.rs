//! What the server has said about logins, where it is the judge (`client_auth: upstream`), on one worker.
//!
//! ```text
//!   AUTH ──► right, said less than 30 s ago ──────────────────────────────────────────► right
//!       └──► asked already for another client ──► its verdict ────────────────────────► the same
//!       └──► a new connection with that login (strangers: when it is their turn) ─────► right: idle, for whoever comes │ wrong
//! ```
//!
//! A login that the server no longer takes is noticed at the next AUTH with it, 30 s after the last at most. Redis lets connections live that
//! logged in before; what happens to the clients on them is decided otherwise here, because a lane is nobody's own: its requests come from
//! clients of which none can be told from one that has the login from a leak, and it would end some time later anyway, by age, with all of
//! them on it. So it ends at once: replies that are owed still come, and who asks for more hears the server's refusal and is closed, as if its
//! connection had been killed. A client library then connects and logs in anew, with what is right now. A connection that is one client's own
//! at that moment stays, as it would without a proxy.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::backend::RedisServer;
use super::key::{Identity, Key};
use super::lanes::Lanes;
use crate::error::{Error, Kind, Result};
use crate::metrics::EvictReason;
use crate::pool::Leases;

/// For so long a verdict counts. Long enough that clients that come and go by the hundreds cost two handshakes a minute; short enough that a
/// password that was changed because somebody knew it is of no use to him by the time its new owners have been told.
pub const VERDICT_AGE: Duration = Duration::from_secs(30);
/// How long a wrong password is left without an answer. A guesser on one connection gets five tries a second, a person notices nothing, and a
/// component that tries again in a loop costs next to nothing.
pub const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(200);
/// Logins that were not right before and are verified at one time. Each keeps its place for [`WRONG_PASSWORD_DELAY`] when it was wrong, so all
/// guessers together cause at most twenty handshakes a second.
const MAX_STRANGERS: usize = 4;
/// How long a stranger waits for its turn.
const STRANGERS_WAIT: Duration = Duration::from_secs(10);
/// Logins that are remembered: a user without a password may log in with any, and each is another.
const MAX_REMEMBERED: usize = 1024;
/// For so long a login that was right is no stranger, and is remembered at all.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The verdicts of one worker and listener.
pub struct Verdicts {
    home: Key,
    leases: Rc<Leases<RedisServer>>,
    lanes: Rc<Lanes>,
    /// When the server last said that these are right.
    right: RefCell<HashMap<Identity, Instant>>,
    /// Those who wait for a verdict that has been asked for.
    asking: RefCell<HashMap<Key, Vec<oneshot::Sender<Result<()>>>>>,
    strangers: Arc<Semaphore>,
    anybody: Cell<Anybody>,
}

/// Whether the server serves clients that have not logged in.
#[derive(Clone, Copy)]
enum Anybody {
    /// Not known.
    Unknown,
    /// It did when it was last asked.
    Welcome,
    /// It wants a login. Known since then.
    Unwelcome(Instant),
}

impl Verdicts {
    /// Nothing is known yet. `home`: the key of clients without a login.
    pub fn new(home: Key, leases: Rc<Leases<RedisServer>>, lanes: Rc<Lanes>) -> Rc<Self> {
        Rc::new(Self {
            home,
            leases,
            lanes,
            right: RefCell::default(),
            asking: RefCell::default(),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            anybody: Cell::new(Anybody::Unknown),
        })
    }

    /// Whether the server takes this key's login. Cancel-safe: what was asked is answered for the next.
    ///
    /// # Errors
    /// With a reply: the server's refusal. Without: nobody knows, for want of a connection or a turn.
    pub async fn ask(self: &Rc<Self>, key: &Key) -> Result<()> {
        let fresh = |at: &Instant| at.elapsed() < VERDICT_AGE;
        if self.right.borrow().get(&key.identity).is_some_and(fresh) {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        let is_asked = {
            let mut asking = self.asking.borrow_mut();
            let is_asked = asking.contains_key(key);
            let line = asking.entry(key.clone()).or_default();
            line.retain(|waiter| !waiter.is_closed());
            line.push(tell);
            is_asked
        };
        if !is_asked {
            // In a task of its own: who asked first may leave first.
            spawn_local(Rc::clone(self).settle(key.clone()));
        }
        told.await.unwrap_or_else(|_| Err(Error::ours(Kind::Io, "verifying a login failed inside the proxy; please report it")))
    }

    async fn settle(self: Rc<Self>, key: Key) {
        let turn = self.turn(&key.identity).await;
        let outcome = match &turn {
            // All who asked have gone while they waited for the turn.
            Ok(_) if !self.is_awaited(&key) => return drop(self.asking.borrow_mut().remove(&key)),
            Ok(_) => self.leases.prove(&key).await,
            Err(error) => Err(error.clone()),
        };
        self.note(&key.identity, &outcome);
        for waiter in self.asking.borrow_mut().remove(&key).unwrap_or_default() {
            // One that has gone no longer waits.
            let _ = waiter.send(outcome.clone());
        }
        if outcome.is_err() && matches!(turn, Ok(Some(_))) {
            sleep(WRONG_PASSWORD_DELAY).await;
        }
    }

    /// Strangers wait for their turn, so that guessing keeps nobody waiting whose login was right lately.
    async fn turn(&self, identity: &Identity) -> Result<Option<OwnedSemaphorePermit>> {
        if *identity == Identity::Proxy || self.right.borrow().contains_key(identity) {
            return Ok(None);
        }
        match timeout(STRANGERS_WAIT, Arc::clone(&self.strangers).acquire_owned()).await {
            Ok(permit) => Ok(permit.ok()),
            Err(_) => Err(Error::ours(Kind::Timeout, "too many new logins at one time; is somebody guessing passwords?")),
        }
    }

    fn is_awaited(&self, key: &Key) -> bool {
        self.asking.borrow().get(key).is_some_and(|line| line.iter().any(|waiter| !waiter.is_closed()))
    }

    fn note(&self, identity: &Identity, outcome: &Result<()>) {
        match outcome {
            Ok(()) if *identity == Identity::Proxy => self.anybody.set(Anybody::Welcome),
            Ok(()) => self.remember(identity.clone()),
            Err(error) => self.heed(identity, error),
        }
    }

    fn remember(&self, identity: Identity) {
        let mut right = self.right.borrow_mut();
        right.retain(|_, at| at.elapsed() < REMEMBERED);
        if right.len() < MAX_REMEMBERED || right.contains_key(&identity) {
            right.insert(identity, Instant::now());
        }
    }

    /// No connection could be opened for this identity: if it is the login that the server did not take, that is known from now on, and what
    /// was opened with it is retired.
    pub fn heed(&self, identity: &Identity, error: &Error) {
        if !is_refused(error) {
            return;
        }
        if *identity == Identity::Proxy {
            self.anybody.set(Anybody::Unwelcome(Instant::now()));
        }
        self.right.borrow_mut().remove(identity);
        if self.lanes.retire_of(identity) {
            tracing::info!("the server no longer takes a login that clients have used: the connections they shared are retired");
        }
        self.leases.evict_idle_of(|key| key.identity == *identity, EvictReason::Reload);
    }

    /// Whether clients may use the server without a login, as far as it is known without asking.
    #[must_use]
    pub fn welcomes_anybody(&self) -> bool {
        matches!(self.anybody.get(), Anybody::Welcome)
    }

    /// Whether clients may use the server without a login; asks it at most once in [`VERDICT_AGE`].
    ///
    /// # Errors
    /// Nobody knows.
    pub async fn anybody(self: &Rc<Self>) -> Result<bool> {
        match self.anybody.get() {
            Anybody::Welcome => Ok(true),
            Anybody::Unwelcome(since) if since.elapsed() < VERDICT_AGE => Ok(false),
            Anybody::Unknown | Anybody::Unwelcome(_) => match self.ask(&self.home).await {
                Ok(()) => Ok(true),
                Err(error) if is_refused(&error) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// The server has refused the login itself, and not a database or a protocol version.
#[must_use]
pub fn is_refused(error: &Error) -> bool {
    const WORDS: [&[u8]; 5] = [b"-WRONGPASS", b"-NOAUTH", b"-ERR invalid password", b"-ERR AUTH ", b"-ERR Client sent AUTH"];
    error.reply.as_ref().is_some_and(|reply| WORDS.iter().any(|words| reply.starts_with(words)))
}
