//! PostgreSQL's protocol is what it is on a connection of one's own, message by message: nobody notices that connections are shared.
//!
//! Each test sends messages and compares all that comes, in the notation of `pg_modes/message.rs`. Where others could disturb, they do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "postgres_protocol/columns.rs"]
mod columns;
#[path = "postgres_protocol/copies.rs"]
mod copies;
#[path = "postgres_protocol/deallocate.rs"]
mod deallocate;
#[path = "postgres_protocol/leaving.rs"]
mod leaving;
#[path = "postgres_protocol/losses.rs"]
mod losses;
mod pg_modes;
#[path = "postgres_protocol/pipelines.rs"]
mod pipelines;
#[path = "postgres_protocol/sizes.rs"]
mod sizes;
#[path = "postgres_protocol/startup.rs"]
mod startup;
#[path = "postgres_protocol/statements.rs"]
mod statements;
mod support;
