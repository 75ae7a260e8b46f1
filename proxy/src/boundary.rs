//! Whether a relayed client is owed anything: asked only while draining, so that a client is closed between two requests and not within one.

use crate::config::Protocol;
use crate::error::{Error, Kind};
use crate::{postgres, redis};

/// Follows both directions of one client, by headers alone.
pub enum Boundary {
    /// Requests and replies are counted.
    Redis(redis::Boundary),
    /// Queries, syncs and ReadyForQuery are counted.
    Postgres(postgres::Boundary),
    /// The protocol is not known: only silence tells.
    Unknown,
}

impl Boundary {
    /// For a client that has sent nothing yet.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Redis => Self::Redis(redis::Boundary::default()),
            Protocol::Postgres => Self::Postgres(postgres::Boundary::default()),
            Protocol::Tls => Self::Unknown,
        }
    }

    /// The client has sent these bytes.
    pub fn on_client(&mut self, bytes: &[u8]) {
        match self {
            Self::Redis(redis) => redis.on_client(bytes),
            Self::Postgres(postgres) => postgres.on_client(bytes),
            Self::Unknown => {}
        }
    }

    /// The upstream has sent these bytes.
    pub fn on_upstream(&mut self, bytes: &[u8]) {
        match self {
            Self::Redis(redis) => redis.on_upstream(bytes),
            Self::Postgres(postgres) => postgres.on_upstream(bytes),
            Self::Unknown => {}
        }
    }

    /// Nothing is owed, both directions are between two messages.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.is_idle(),
            Self::Postgres(postgres) => postgres.is_idle(),
            Self::Unknown => false,
        }
    }

    /// What a server would say to an idle client as it shuts down: PostgreSQL's clients know it and reconnect, Redis has nothing to say.
    #[must_use]
    pub fn farewell(&self) -> Vec<u8> {
        match self {
            Self::Postgres(_) => postgres::refuse::for_error(&Error::ours(Kind::Draining, "the process drains")),
            Self::Redis(_) | Self::Unknown => Vec::new(),
        }
    }

    /// What a server would say to a client whose session it ends because nothing has happened in it for too long.
    #[must_use]
    pub fn idle_farewell(&self) -> Vec<u8> {
        match self {
            Self::Postgres(_) => postgres::message::fatal("57P05", "terminating connection due to idle-session timeout"),
            Self::Redis(_) | Self::Unknown => Vec::new(),
        }
    }

    /// Silence is the only sign: an unknown protocol, a lost count, or a client that has not said anything yet. PostgreSQL's is lost for good
    /// reasons (replication, a COPY), and is not silent after the login before the server has said that it is ready.
    #[must_use]
    pub fn can_only_guess(&self, bytes_from_client: u64) -> bool {
        match self {
            Self::Redis(redis) => redis.is_lost() || bytes_from_client == 0,
            Self::Postgres(postgres) => postgres.is_idle() && bytes_from_client == 0,
            Self::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::SqlState;

    #[test]
    fn silence_counts_where_nothing_else_tells() {
        let mut redis = Boundary::new(Protocol::Redis);
        assert!(redis.can_only_guess(0) && !redis.can_only_guess(14));
        redis.on_client(b"*1\r\n$4\r\nPING\r\n");
        assert!(!redis.can_only_guess(14), "it is owed a reply");
        redis.on_upstream(b"no reply of Redis\r\n");
        assert!(redis.can_only_guess(14), "and whether it still is nobody knows");

        let mut postgres = Boundary::new(Protocol::Postgres);
        assert!(!postgres.can_only_guess(0), "ReadyForQuery is owed");
        postgres.on_upstream(b"Z\0\0\0\x05I");
        assert!(postgres.can_only_guess(0));
        postgres.on_client(b"Q\0\0\0\x05\0");
        assert!(!postgres.can_only_guess(6));

        assert!(Boundary::new(Protocol::Tls).can_only_guess(1));
    }

    #[test]
    fn last_words_are_those_of_the_server() {
        let code = |words: &[u8]| words.get(5..).and_then(SqlState::of_error).map(|code| code.to_string());
        let postgres = Boundary::new(Protocol::Postgres);
        assert_eq!(code(&postgres.farewell()).as_deref(), Some("57P01"));
        assert_eq!(code(&postgres.idle_farewell()).as_deref(), Some("57P05"));
        for silent in [Protocol::Redis, Protocol::Tls].map(Boundary::new) {
            assert!(silent.farewell().is_empty() && silent.idle_farewell().is_empty());
        }
    }
}
