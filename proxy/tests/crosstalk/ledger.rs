//! What all clients share: how much was done, what was broken on purpose, and every increment and push with what became of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lab::{Redis, Value};
use tokio::time::Instant;

/// Databases in use, from 0.
pub(crate) const DATABASES: u8 = 4;
/// Counters, and lists, in each of them.
const SHARED: u8 = 3;
/// How long after a cut its consequences may show.
const GRACE: Duration = Duration::from_secs(4);

/// A counter or a list that all clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    database: u8,
    number: u8,
}

impl Place {
    pub(crate) fn any(database: u8, rng: &mut fastrand::Rng) -> Self {
        Self { database, number: rng.u8(..SHARED) }
    }

    pub(crate) fn counter(self) -> String {
        format!("shared:counter:{}", self.number)
    }

    pub(crate) fn list(self) -> String {
        format!("shared:list:{}", self.number)
    }

    fn index(self) -> usize {
        usize::from(self.database * SHARED + self.number)
    }
}

/// What a reply confirms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    Nothing,
    /// INCR; the reply, or the last integer of EXEC's, is a value that nobody else was given. A null is EXEC's "did not happen".
    Count(Place),
    /// LPUSH of a token; the reply, or the last integer of EXEC's, is its place from the list's end.
    Push(Place, u64),
}

#[derive(Default)]
struct Counter {
    sent: u64,
    values: Vec<bool>,
    confirmed: u64,
}

pub(crate) struct Ledger {
    pub(crate) target: u64,
    requests: AtomicU64,
    breaks: AtomicU64,
    refusals: AtomicU64,
    cuts: AtomicU64,
    started: Instant,
    last_cut: Mutex<Instant>,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
    counters: Vec<Mutex<Counter>>,
    /// Token to its length of the list, once confirmed.
    pushes: Vec<Mutex<HashMap<u64, Option<u64>>>>,
}

impl Ledger {
    pub(crate) fn new(target: u64) -> Self {
        let places = usize::from(DATABASES * SHARED);
        let now = Instant::now();
        Self {
            target,
            requests: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            started: now,
            last_cut: Mutex::new(now.checked_sub(GRACE * 2).unwrap_or(now)),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            counters: std::iter::repeat_with(Mutex::default).take(places).collect(),
            pushes: std::iter::repeat_with(Mutex::default).take(places).collect(),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn add_requests(&self, count: u64) {
        self.requests.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.requests() >= self.target
    }

    /// True in the stretches in which the upstream is cut; the first stretch is calm.
    pub(crate) fn is_stormy(&self) -> bool {
        let stretch = (self.target / 2).clamp(1, 1_000_000);
        (self.requests() / stretch) % 2 == 1
    }

    /// To be called before each cut.
    pub(crate) fn cut(&self) {
        *lock(&self.last_cut) = Instant::now();
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// May a connection break that was fine when there had been `cuts`?
    pub(crate) fn excuses(&self, cuts: u64) -> bool {
        self.cuts() != cuts || lock(&self.last_cut).elapsed() < GRACE
    }

    pub(crate) fn count_break(&self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// The first failure is the one that is told.
    pub(crate) fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    pub(crate) fn progress(&self) -> String {
        let (requests, seconds) = (self.requests(), self.started.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
        let rate = (requests as f64 / seconds) as u64;
        format!(
            "{requests} requests in {seconds:.1} s, {rate}/s; {} cuts, {} connections broke, {} errors while cut",
            self.cuts(),
            self.breaks.load(Ordering::Relaxed),
            self.refusals.load(Ordering::Relaxed)
        )
    }

    /// Before its request goes out.
    pub(crate) fn will(&self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Count(place) => lock(&self.counters[place.index()]).sent += 1,
            Effect::Push(place, token) => {
                let known = lock(&self.pushes[place.index()]).insert(token, None);
                assert!(known.is_none(), "a token is used twice: the test is wrong");
            }
        }
    }

    /// After its reply has come.
    pub(crate) fn did(&self, effect: Effect, reply: &[u8]) -> Result<(), String> {
        match effect {
            Effect::Nothing => {}
            Effect::Count(place) => {
                let mut counter = lock(&self.counters[place.index()]);
                let Some(value) = last_integer(reply) else {
                    counter.sent -= 1;
                    return Ok(());
                };
                counter.confirmed += 1;
                let at = usize::try_from(value).map_err(|_| format!("{place:?} is {value}"))?;
                if at >= counter.values.len() {
                    counter.values.resize(at + 1, false);
                }
                if std::mem::replace(&mut counter.values[at], true) {
                    return Err(format!("two increments of {place:?} were both told {value}"));
                }
            }
            Effect::Push(place, token) => {
                let length = last_integer(reply).ok_or("no length")?;
                lock(&self.pushes[place.index()]).insert(token, Some(length));
            }
        }
        Ok(())
    }

    /// Holds the server's state against what was said and confirmed.
    pub(crate) async fn settle(&self, redis: &Redis) {
        for (database, number) in (0..DATABASES).flat_map(|database| (0..SHARED).map(move |number| (database, number))) {
            let place = Place { database, number };
            let value = look(redis, database, "GET", &place.counter(), &[]).await.text().parse().unwrap_or(0_u64);
            let (sent, confirmed) = {
                let counter = lock(&self.counters[place.index()]);
                (counter.sent, counter.confirmed)
            };
            assert!(confirmed <= value && value <= sent, "{place:?} is {value}: {confirmed} of {sent} increments were confirmed");

            let Value::Array(items) = look(redis, database, "LRANGE", &place.list(), &["0", "-1"]).await else { panic!("no list") };
            let mut pushes = lock(&self.pushes[place.index()]).clone();
            // The oldest is last.
            for (length, item) in (1_u64..).zip(items.iter().rev()) {
                let token = item.text().parse().expect("a number");
                let confirmed = pushes.remove(&token);
                let confirmed = confirmed.unwrap_or_else(|| {
                    let times = items.iter().filter(|one| one.text() == item.text()).count();
                    let meant: Vec<_> = (0_usize..).zip(&self.pushes).filter(|(_, known)| lock(known).contains_key(&token)).collect();
                    let meant: Vec<_> = meant.iter().map(|(index, _)| (index / usize::from(SHARED), index % usize::from(SHARED))).collect();
                    panic!("{place:?} has {token} {times} times; (database, number) it was meant for: {meant:?}")
                });
                assert!(
                    confirmed.is_none_or(|told| told == length),
                    "{token} is number {length} of {place:?}, but its client was told {confirmed:?}"
                );
            }
            pushes.retain(|_, confirmed| confirmed.is_some());
            assert!(pushes.is_empty(), "confirmed, but not in {place:?}: {pushes:?}");
        }
    }
}

/// Reads in a database, past everything.
async fn look(redis: &Redis, database: u8, command: &str, key: &str, more: &[&str]) -> Value {
    let script = "redis.call('SELECT', table.remove(ARGV, 1)) return redis.call(table.remove(ARGV, 1), KEYS[1], unpack(ARGV))";
    let database = database.to_string();
    redis.admin(&[&["EVAL", script, "1", key, &database, command], more].concat()).await.unwrap()
}

/// The last line that is an integer.
fn last_integer(reply: &[u8]) -> Option<u64> {
    let text = str::from_utf8(reply).ok()?;
    text.rsplit("\r\n").find_map(|line| line.strip_prefix(':')).and_then(|number| number.parse().ok())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
