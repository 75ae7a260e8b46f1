//! Plaintext Redis and PostgreSQL in, verified TLS connections out.
//!
//! # The life of a connection
//!
//! ```text
//!   client ──► listener ──► serve ────────┬─► relay ────────────────────────────┬──► upstream server
//!              accept,      TLS and login │   bytes both ways, half-close, RST  │        ▲
//!              one task     where asked   └─► mux ──────────────────────────────┘        │
//!                                             requests, to lanes and leases              │
//!                                               ▲                                        │
//!                                             pool ◄── opens ahead of need ── upstream ──┘
//!                                             stock, leases: checked          name ► TCP ► TLS ► login
//! ```
//!
//! In the mode `relay` a client takes a connection that nobody has used from the *stock* and keeps it to the end: [`relay`] copies. In `session`
//! and `multiplex` connections come back ([`pool::Leases`]), and [`mux`] looks at each request: in `multiplex` those that leave nothing on a
//! connection go over a lane, the others over a lease, for as long as they need one; in `session` all of them go over one lease.
//!
//! `main` reads the configuration ([`config`], [`cli`]), [`app`] binds and loads everything and starts one thread per worker; a client
//! stays on the worker that accepted it. [`admin`] answers probes and metrics on a thread of its own. [`drain`] is how it all ends.
//!
//! # The words
//!
//! - **client**: the program that connects to us; **upstream**: the server behind us.
//! - **listener**: an address that clients connect to, and its upstream.
//! - **worker**: a thread with its own runtime, listening sockets, stock, leases and lanes.
//! - **session**: what a client has on the upstream.
//! - **lease**: an upstream connection in one client's hands. From the stock it never comes back, from the leases it does, once it is proved to
//!   be as new.
//! - **lane**: an upstream connection shared by many clients (`multiplex`). Replies come in the order of the requests, and so find their clients.
//! - **pin**: a client is *pinned* while it has a lease in the modes that share, because of what it said (WATCH, BLPOP, SUBSCRIBE) or, in
//!   `session`, always.
//! - **drain**: the orderly end of the process.
//!
//! # Who may use whom
//!
//! Leaves ([`config`], [`error`], [`drain`], [`metrics`]) use none of the others. The two protocols never use each other; their pure files
//! (framing, command table, startup, SCRAM, boundaries) know neither sockets nor clocks. [`pool`] knows no protocol and no TLS. [`mux`] is for
//! Redis alone: it brings the codecs and the table of [`redis`] together with a pool. Only [`app`] knows all.

pub mod admin;
pub mod app;
pub mod boundary;
pub mod broker;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod drain;
pub mod error;
pub mod error_log;
pub mod limits;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod mux;
pub mod names;
pub mod pool;
pub mod postgres;
pub mod redis;
pub mod relay;
pub mod reload;
pub mod sandbox;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod wait;
