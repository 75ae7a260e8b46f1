//! Names of what we create: derived from the cluster's id, so that every run, on any machine, finds the same things again.
//!
//! DigitalOcean has no place for our state but names and tags: database names are unique in an account, bucket names are unique among all
//! customers of a region, and a bucket can carry no tag.

use aws_lc_rs::digest::{SHA256, digest};

/// How leftovers of an interrupted run are found.
pub const TEMPORARY_KEY_PREFIX: &str = "harbor-temporary-";

/// What marks a database of some DOKS cluster's Harbor; the cluster's id follows.
pub const TAG_PREFIX: &str = "harbor-proxy:";

/// What we create for one DOKS cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Eight hexadecimal digits.
    hash: String,
    /// The id of the DOKS cluster.
    cluster: String,
}

impl Names {
    /// Of the cluster with this id (a UUID as DigitalOcean writes it).
    #[must_use]
    pub fn of(cluster_id: &str) -> Self {
        let hash = digest(&SHA256, cluster_id.as_bytes());
        let hash = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { hash, cluster: cluster_id.to_owned() }
    }

    /// The PostgreSQL cluster. Letters, digits and hyphens: others are refused (422).
    #[must_use]
    pub fn postgres(&self) -> String {
        format!("harbor-pg-{}", self.hash)
    }

    /// The Valkey cluster.
    #[must_use]
    pub fn valkey(&self) -> String {
        format!("harbor-valkey-{}", self.hash)
    }

    /// The bucket. It stays unusable for a week after it was deleted in the control panel.
    #[must_use]
    pub fn bucket(&self) -> String {
        format!("harbor-{}", self.hash)
    }

    /// The Spaces key that Harbor gets: for its bucket alone. Names of keys are not unique, and a key's secret is told once, so its name says
    /// whose keyring has it: a key of this name that the keyring does not hold was lost on its way there.
    #[must_use]
    pub fn spaces_key(&self, keyring: &str) -> String {
        format!("harbor-{}-{keyring}", self.hash)
    }

    /// A Spaces key that may do everything, for the minute in which the bucket is made.
    #[must_use]
    pub fn temporary_key(&self, keyring: &str) -> String {
        format!("{TEMPORARY_KEY_PREFIX}{}-{keyring}", self.hash)
    }

    /// Whether a key is one of this cluster, whoever's keyring it was made for.
    #[must_use]
    pub fn is_key(&self, name: &str) -> bool {
        name.starts_with(&self.spaces_key("")) || name.starts_with(&self.temporary_key(""))
    }

    /// Marks the databases that are ours to change. `^[a-zA-Z0-9_\-:]+$`, at most 255 characters.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{TAG_PREFIX}{}", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_id_and_keep_to_every_rule() {
        let names = Names::of("bd5f5959-5e1e-4205-a714-a914373942af");
        assert_eq!(names, Names::of("bd5f5959-5e1e-4205-a714-a914373942af"));
        assert_ne!(names, Names::of("bd5f5959-5e1e-4205-a714-a914373942ae"));
        for name in
            [names.postgres(), names.valkey(), names.bucket(), names.spaces_key("0123456789ab"), names.temporary_key("0123456789ab")]
        {
            assert!(name.len() >= 3 && name.len() <= 63, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
        }
        assert_eq!(names.tag(), "harbor-proxy:bd5f5959-5e1e-4205-a714-a914373942af");
    }
}
