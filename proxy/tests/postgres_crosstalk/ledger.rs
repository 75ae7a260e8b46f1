//! What has been written for certain, what may have been, and what may not: compared with the table at the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server said that it is committed.
    Committed,
    /// The server said that it is not.
    Undone,
    /// The connection ended before anybody said.
    Unknown,
}

#[derive(Default)]
pub(crate) struct Ledger {
    target: u64,
    steps: AtomicU64,
    cuts: AtomicU64,
    breaks: AtomicU64,
    cancelled: AtomicU64,
    next: AtomicU64,
    fates: Mutex<HashMap<u64, Fate>>,
    failure: Mutex<Option<String>>,
}

impl Ledger {
    pub(crate) fn new(target: u64) -> Self {
        Self { target, ..Self::default() }
    }

    /// Nobody else has it.
    pub(crate) fn token(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn record(&self, tokens: &[u64], fate: Fate) {
        let mut fates = lock(&self.fates);
        fates.extend(tokens.iter().map(|token| (*token, fate)));
    }

    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= self.target || lock(&self.failure).is_some()
    }

    /// The first and the last tenth are calm.
    pub(crate) fn is_stormy(&self) -> bool {
        let steps = self.steps.load(Ordering::Relaxed);
        steps > self.target / 10 && steps < self.target * 9 / 10
    }

    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Odd while a storm goes on: it is counted when it begins and when it ends.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// There was no storm since `cuts`, and there is none.
    pub(crate) fn is_calm_since(&self, cuts: u64) -> bool {
        cuts.is_multiple_of(2) && self.cuts() == cuts
    }

    pub(crate) fn count_break(&self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    pub(crate) fn progress(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (steps, rows) = (of(&self.steps), lock(&self.fates).len());
        format!("{steps} steps, {rows} rows, {} cuts, {} breaks, {} cancelled", of(&self.cuts), of(&self.breaks), of(&self.cancelled))
    }

    /// `found`: a line for each token, with how often it is there.
    pub(crate) fn settle(&self, found: &str) {
        let found: HashMap<u64, u64> = found
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(token, count)| (token.parse().unwrap(), count.parse().unwrap()))
            .collect();
        let fates = lock(&self.fates);
        let mut committed = 0;
        for (token, fate) in fates.iter() {
            let count = found.get(token).copied().unwrap_or(0);
            let fits = match fate {
                Fate::Committed => count == 1,
                Fate::Undone => count == 0,
                Fate::Unknown => count <= 1,
            };
            assert!(fits, "row {token} is {fate:?} and there {count} times");
            committed += u64::from(*fate == Fate::Committed);
        }
        assert!(found.keys().all(|token| fates.contains_key(token)), "a row that nobody wrote");
        assert!(committed > self.target / 20, "only {committed} rows committed: nothing was tried");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
