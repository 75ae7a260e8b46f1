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

    /// Silence is the only sign: an unknown protocol, or a client that has not said anything yet.
    #[must_use]
    pub fn can_only_guess(&self, bytes_from_client: u64) -> bool {
        matches!(self, Self::Unknown) || bytes_from_client == 0
    }
}
