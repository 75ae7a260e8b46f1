//! Plaintext Redis and PostgreSQL in, verified TLS connections out.
//!
//! # The life of a connection
//!
//! ```text
//!   client ──► listener ──► serve ───────────────────────► relay ──────────► upstream server
//!              accept,      TLS and login where asked,     bytes both ways,      ▲
//!              one task     take a connection              half-close, RST       │
//!                           from the stock                                       │
//!                              ▲                                                 │
//!                            pool ◄── opens ahead of need ── upstream ───────────┘
//!                            ready connections, checked      name ► TCP ► TLS ► login
//! ```
//!
//! `main` reads the configuration ([`config`], [`cli`]), [`app`] binds and loads everything and starts one thread per worker; a client
//! stays on the worker that accepted it. [`admin`] answers probes and metrics on a thread of its own. [`drain`] is how it all ends.
//!
//! # The words
//!
//! - **client**: the program that connects to us; **upstream**: the server behind us.
//! - **listener**: an address that clients connect to, and its upstream.
//! - **worker**: a thread with its own runtime, listening sockets and stock.
//! - **session**: what a client has on the upstream; **lease**: an upstream connection in one client's hands.
//! - **lane** and **pin**: a connection shared by many clients, and a client that must not share (pooled modes).
//! - **drain**: the orderly end of the process.
//!
//! # Who may use whom
//!
//! Leaves ([`config`], [`error`], [`drain`], [`metrics`]) use none of the others. The two protocols never use each other; their pure files
//! (framing, startup, SCRAM, boundaries) know neither sockets nor clocks. [`pool`] knows no protocol and no TLS. Only [`app`] knows all.

pub mod admin;
pub mod app;
pub mod boundary;
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
