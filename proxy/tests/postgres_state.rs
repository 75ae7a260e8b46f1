//! What a client leaves on its session is its own: it finds it again, and nobody else ever does.
//!
//! Looked at from inside, by SQL on the connection that the next client is given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "postgres_state/meanings.rs"]
mod meanings;
mod pg_modes;
#[path = "postgres_state/settings.rs"]
mod settings;
mod support;
#[path = "postgres_state/traces.rs"]
mod traces;
