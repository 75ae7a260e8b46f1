//! A keyring in two places, this folder and the cluster: which entry goes which way. `[pure]`
//!
//! `.synced` in the folder holds the hash of each entry as it was last the same in both. Who differs from that has changed since: if only one
//! side did, the other follows; if both did, nobody here can know which is right.
//!
//! That an entry is missing on one side is a change only where entries are taken away on purpose ([`Entry::may_go`]). Anything else that is
//! missing was lost, by a hand or a half copy, and comes back from the other side: a loss must never reach the last copy.

use std::collections::BTreeMap;

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use super::{Entry, Keyring};

/// The hashes of what both had last.
const FILE: &str = ".synced";

/// Entries with their hashes.
pub type Hashes = BTreeMap<Entry, String>;

/// Which entry goes which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// From the cluster to the folder; those that are gone there go here, too, if they may.
    pub take: Vec<Entry>,
    /// From the folder to the cluster.
    pub push: Vec<Entry>,
    /// Changed in both places.
    pub conflicts: Vec<Entry>,
}

/// Compares entry by entry.
#[must_use]
pub fn compare(here: &Hashes, there: &Hashes, synced: &Hashes) -> Sync {
    let mut sync = Sync::default();
    for entry in Entry::ALL {
        // A folder with nothing in it but `.synced` (`rm folder/*`) has lost all of it.
        let (mine, theirs, last) = (here.get(entry), there.get(entry), synced.get(entry).filter(|_| !here.is_empty()));
        if mine == theirs {
            continue;
        }
        let is_lost = |side: Option<&String>| side.is_none() && !entry.may_go();
        // What was never in both and is missing on one side is new on the other.
        let to = if is_lost(mine) {
            &mut sync.take
        } else if is_lost(theirs) {
            &mut sync.push
        } else if mine == last {
            &mut sync.take
        } else if theirs == last {
            &mut sync.push
        } else {
            &mut sync.conflicts
        };
        to.push(*entry);
    }
    sync
}

/// Of a secret, for comparing.
#[must_use]
pub fn hash(secret: &SecretString) -> String {
    digest(&SHA256, secret.expose_secret().as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Keyring {
    /// All entries.
    ///
    /// # Errors
    /// As [`Keyring::get`].
    pub fn entries(&self) -> Result<BTreeMap<Entry, SecretString>> {
        let mut all = BTreeMap::new();
        for entry in Entry::ALL {
            if let Some(secret) = self.get(*entry)? {
                all.insert(*entry, secret);
            }
        }
        Ok(all)
    }

    /// What was the same in both last; nothing where there never was such a time.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn synced(&self) -> Result<Hashes> {
        let text = self.read_file(FILE)?.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let entry = |file: &str| Entry::ALL.iter().copied().find(|entry| entry.file() == file);
        Ok(pairs.filter_map(|(hash, file)| Some((entry(file)?, hash.to_owned()))).collect())
    }

    /// Notes that this is the same in both now. Writes nothing that is noted already.
    ///
    /// # Errors
    /// As [`Keyring::put`].
    pub fn note_synced(&self, hashes: &Hashes) -> Result<()> {
        if *hashes == self.synced()? {
            return Ok(());
        }
        let text: String = hashes.iter().map(|(entry, hash)| format!("{hash} {}\n", entry.file())).collect();
        self.put_file(FILE, &text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(pairs: &[(Entry, &str)]) -> Hashes {
        pairs.iter().map(|(entry, value)| (*entry, hash(&(*value).into()))).collect()
    }

    #[test]
    fn who_has_changed_alone_is_followed_and_two_are_not_guessed_between() {
        use Entry::{ClientPassword as A, PostgresPassword as B};
        let of = |here: &[(Entry, &str)], there: &[(Entry, &str)], synced: &[(Entry, &str)]| {
            let sync = compare(&hashes(here), &hashes(there), &hashes(synced));
            (sync.take, sync.push, sync.conflicts)
        };
        assert_eq!(of(&[(A, "1")], &[(A, "1")], &[]), (vec![], vec![], vec![]));
        assert_eq!(of(&[], &[(A, "1")], &[]), (vec![A], vec![], vec![]), "a new machine");
        assert_eq!(of(&[(A, "1")], &[], &[]), (vec![], vec![A], vec![]), "a new cluster");
        assert_eq!(of(&[(A, "1")], &[(A, "2")], &[(A, "1")]), (vec![A], vec![], vec![]));
        assert_eq!(of(&[(A, "2")], &[(A, "1")], &[(A, "1")]), (vec![], vec![A], vec![]));
        assert_eq!(of(&[(A, "2"), (B, "1")], &[(A, "3"), (B, "1")], &[(A, "1"), (B, "1")]), (vec![], vec![], vec![A]));
        assert_eq!(of(&[(A, "1")], &[(A, "2")], &[]), (vec![], vec![], vec![A]), "never the same");
    }

    #[test]
    fn what_is_lost_comes_back_and_only_what_may_go_goes() {
        use Entry::{ClientPassword as A, HarborSecretKey as B, SpacesAccessKey as C};
        let of = |here: &[(Entry, &str)], there: &[(Entry, &str)], synced: &[(Entry, &str)]| {
            let sync = compare(&hashes(here), &hashes(there), &hashes(synced));
            (sync.take, sync.push, sync.conflicts)
        };
        let (one, both) = ([(A, "1")], [(A, "1"), (B, "1")]);
        assert_eq!(of(&both, &one, &both), (vec![], vec![B], vec![]), "the only copy that is left stays");
        assert_eq!(of(&one, &both, &both), (vec![B], vec![], vec![]));
        assert_eq!(of(&one, &[(A, "1"), (B, "2")], &both), (vec![B], vec![], vec![]), "nothing is no other opinion");
        let all = [(A, "1"), (C, "1")];
        assert_eq!(of(&all, &one, &all), (vec![C], vec![], vec![]), "gone there, gone here");
        assert_eq!(of(&one, &all, &all), (vec![], vec![C], vec![]), "gone here, gone there");
        assert_eq!(of(&[], &all, &all), (vec![A, C], vec![], vec![]), "`rm folder/*` leaves .synced");
    }

    #[test]
    fn what_was_the_same_is_remembered_without_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(&folder.path().join("keys")).unwrap();
        keyring.put(Entry::ClientPassword, &"s3cret".into()).unwrap();
        let hashes: Hashes = keyring.entries().unwrap().iter().map(|(entry, secret)| (*entry, hash(secret))).collect();
        keyring.note_synced(&hashes).unwrap();
        assert_eq!(keyring.synced().unwrap(), hashes);
        assert!(!std::fs::read_to_string(keyring.folder().join(FILE)).unwrap().contains("s3cret"));
    }
}
