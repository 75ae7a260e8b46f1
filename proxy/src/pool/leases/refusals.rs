//! Logins that the server has refused for good. Trying again is no use but costs both sides, and some servers lock an account for it; so the
//! clients that wait for the same do not each try for themselves.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::pool::backoff::Backoff;

/// Keys that are remembered at one time; clients may choose them.
const MAX_KEYS: usize = 64;

/// What was refused last, by key.
pub(super) struct Refusals<K> {
    of: HashMap<K, (Backoff, Error)>,
}

impl<K> Default for Refusals<K> {
    fn default() -> Self {
        Self { of: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Refusals<K> {
    /// What the server said, if it is too early to ask again. If not, the next pause begins: only who asks here is to try.
    pub(super) fn before_trying(&mut self, key: &K, now: Instant) -> Option<Error> {
        let (backoff, error) = self.of.get_mut(key)?;
        if !backoff.may_try(now) {
            return Some(error.clone());
        }
        backoff.note(false, now);
        None
    }

    /// What came of a try.
    pub(super) fn note(&mut self, key: &K, error: Option<&Error>, now: Instant) {
        // With a reply it is that client's login, or what it asked for, and nobody else's business.
        let Some(error) = error.filter(|error| error.kind == Kind::Login && error.reply.is_none()) else {
            self.of.remove(key);
            return;
        };
        if self.of.len() >= MAX_KEYS && !self.of.contains_key(key) {
            self.of.retain(|_, (backoff, _)| !backoff.may_try(now));
            if self.of.len() >= MAX_KEYS {
                return;
            }
        }
        let (backoff, last) = self.of.entry(key.clone()).or_insert_with(|| (Backoff::default(), error.clone()));
        // Several that are refused together are one refusal.
        if backoff.may_try(now) {
            backoff.note(false, now);
        }
        last.clone_from(error);
    }

    /// There may be another password now.
    pub(super) fn forget(&mut self) {
        self.of.clear();
    }
}
