//! `[pure]` What a client may have left on a connection: the reasons why nobody else may have it yet.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of things that outlive a transaction. Two bytes, no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces(u16);

impl Traces {
    /// None.
    pub const NONE: Self = Self(0);
    /// A session advisory lock: `pg_advisory_lock` and its kind, without `xact`.
    pub const LOCK: Self = Self(1);
    /// LISTEN.
    pub const LISTEN: Self = Self(1 << 1);
    /// A temporary table, view, sequence, or anything else in `pg_temp`.
    pub const TEMP: Self = Self(1 << 2);
    /// A statement prepared in SQL (PREPARE).
    pub const PREPARE: Self = Self(1 << 3);
    /// A cursor WITH HOLD.
    pub const HOLD: Self = Self(1 << 4);
    /// SET ROLE or SET SESSION AUTHORIZATION.
    pub const ROLE: Self = Self(1 << 5);
    /// A setting that cannot be followed: SET of a list, in a transaction or among other statements; `set_config`.
    pub const SETTING: Self = Self(1 << 6);
    /// `currval`, `lastval`: the client counts on what its session did before.
    pub const SEQUENCE: Self = Self(1 << 7);
    /// What not even DISCARD ALL takes away: LOAD, connections of dblink, backups, temporary replication slots.
    pub const LOAD: Self = Self(1 << 8);
    /// A text too long to be looked at.
    pub const UNSEEN: Self = Self(1 << 9);

    /// Those of which the server itself can tell whether they are there.
    pub const PROBED: Self = Self(Self::LOCK.0 | Self::LISTEN.0 | Self::TEMP.0 | Self::PREPARE.0 | Self::HOLD.0 | Self::ROLE.0);

    /// True when it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when it has any of `others`.
    #[must_use]
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Without `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those that are also in `others`.
    #[must_use]
    pub fn only(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

impl BitOr for Traces {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Traces {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = ["lock", "listen", "temp", "prepare", "hold", "role", "setting", "sequence", "load", "unseen"];
        let mut first = true;
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                f.write_str(if first { "" } else { "," })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}
