//! `[pure]` A session's settings, as far as they are followed.
//!
//! Two kinds: those that the server reports by itself (ParameterStatus) and others that a client asked for, in its StartupMessage or by SET.
//! A connection has them, a client wants them; where the two differ the connection is put right before the client's query.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// Settings by name. Names are kept as first seen and compared without case, as the server compares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// By the name in lower case.
    reported: BTreeMap<Box<[u8]>, Entry>,
    /// Asked for, never reported.
    asked: BTreeMap<Box<[u8]>, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// One setting to be changed; `None`: back to its default.
pub type Change = (Box<[u8]>, Option<Box<[u8]>>);

/// Settings that say nothing about what a query means: statements may be shared by clients that differ in them.
const MEANINGLESS: &[&[u8]] =
    &[b"application_name", b"in_hot_standby", b"statement_timeout", b"lock_timeout", b"idle_in_transaction_session_timeout"];

/// Settings that end statements.
const LIMITS: &[&[u8]] = &[b"lock_timeout", b"statement_timeout", b"transaction_timeout"];

/// Reported, and not to be set.
const READ_ONLY: &[&[u8]] =
    &[b"in_hot_standby", b"integer_datetimes", b"is_superuser", b"server_encoding", b"server_version", b"scram_iterations"];

impl Params {
    /// With what the server has reported. The value replaces an older one.
    #[must_use]
    pub fn reported(mut self, name: &[u8], value: &[u8]) -> Self {
        self.report(name, value);
        self
    }

    /// The server has reported this.
    pub fn report(&mut self, name: &[u8], value: &[u8]) {
        let key: Box<[u8]> = name.to_ascii_lowercase().into();
        self.asked.remove(&key);
        self.reported.insert(key, Entry { name: name.into(), value: value.into() });
    }

    /// The client wants this; `None`: the default. Of a reported setting the value stays what was reported.
    pub fn ask(&mut self, name: &[u8], value: Option<&[u8]>) {
        let key: Box<[u8]> = name.to_ascii_lowercase().into();
        if self.reported.contains_key(&key) {
            return;
        }
        match value {
            Some(value) => drop(self.asked.insert(key, Entry { name: name.into(), value: value.into() })),
            None => drop(self.asked.remove(&key)),
        }
    }

    /// The value of a setting, whatever the case of its name.
    #[must_use]
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let key = name.to_ascii_lowercase();
        self.reported.get(key.as_slice()).or_else(|| self.asked.get(key.as_slice())).map(|entry| &*entry.value)
    }

    /// What is asked for is what `others` ask for.
    pub fn ask_as(&mut self, others: &Self) {
        self.asked.clone_from(&others.asked);
    }

    /// Nothing is asked for any more.
    pub fn forget_asked(&mut self) {
        self.asked.clear();
    }

    /// The name as the server spells it, if it reports it.
    #[must_use]
    pub fn proper_name<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        self.reported.get(name.to_ascii_lowercase().as_slice()).map_or(name, |entry| &entry.name)
    }

    /// What the server reports, name and value, in a stable order.
    pub fn all_reported(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.reported.values().map(|entry| (&*entry.name, &*entry.value))
    }

    /// True when the server reports this one.
    #[must_use]
    pub fn is_reported(&self, name: &[u8]) -> bool {
        self.reported.contains_key(name.to_ascii_lowercase().as_slice())
    }

    /// Something may end even a statement of ours before its time.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        LIMITS.iter().any(|name| self.asked.contains_key(*name))
    }

    /// What has to be set on a connection that has these so that it has `wanted`.
    #[must_use]
    pub fn changes_to(&self, wanted: &Self) -> Vec<Change> {
        let reported = wanted
            .reported
            .iter()
            .filter(|(key, entry)| !READ_ONLY.contains(&&***key) && self.reported.get(*key).is_none_or(|mine| mine.value != entry.value));
        let asked = wanted.asked.iter().filter(|(key, entry)| self.asked.get(*key).is_none_or(|mine| mine.value != entry.value));
        let gone = self.asked.iter().filter(|(key, _)| !wanted.asked.contains_key(*key));
        reported
            .chain(asked)
            .map(|(_, entry)| (entry.name.clone(), Some(entry.value.clone())))
            .chain(gone.map(|(_, entry)| (entry.name.clone(), None)))
            .collect()
    }

    /// What of these says how a query is understood, as a number: 128 bits under `keys` that nobody outside knows.
    #[must_use]
    pub fn meaning(&self, keys: &(RandomState, RandomState)) -> u128 {
        let all: Vec<(&[u8], &[u8])> = self
            .reported
            .iter()
            .chain(&self.asked)
            .map(|(key, entry)| (&**key, &*entry.value))
            .filter(|(key, _)| !MEANINGLESS.contains(key))
            .collect();
        u128::from(keys.0.hash_one(&all)) << 64 | u128::from(keys.1.hash_one(&all))
    }
}
