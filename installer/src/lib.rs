//! From one DigitalOcean token to a Harbor behind redis-tls-proxy.
//!
//! # The life of a run
//!
//! ```text
//!   doks-harbor.yaml ──► spec ─────┐                       ┌──► report: tables, progress, JSON
//!                                  ├──► plan ──► apply ────┤
//!   DigitalOcean ──► observe ──► observed   [pure]   steps └──► keyring: a folder of secrets, for nobody else
//!                                                  │               │ its home is a Secret of the cluster
//!                                                facts ──► render [pure] ──► proxy configuration, manifests, Harbor's values
//!                                                                  │
//!                                       cluster: applied dry, compared, applied; Job, rollout ──► helm: Harbor ──► its health
//! ```
//!
//! There is no state file: names derive from the cluster's id ([`names`]), ownership is a tag, and every run looks again ([`observe`]).
//! [`plan`] says what would change without changing it; [`apply`] goes through its steps, each of which looks before it acts, so that a run
//! that was interrupted anywhere is finished by the next one.
//!
//! # The words
//!
//! - **spec**: what the user wants, from the file.
//! - **observed**: what is there now.
//! - **plan**: the *steps* from one to the other, with what each costs and how long it takes.
//! - **facts**: what rendering has to know of the servers. They hold no secret and can be kept in a file.
//! - **keyring**: the secrets, one file each, readable by their owner alone.
//! - **adopted**: existed before, belongs to the user: never resized, never deleted.
//!
//! The day after: [`smoke`], [`trust`], [`pull_secret`] and [`doctor`], on [`harbor`] (its API), [`registry`] (push and pull) and [`cluster`].
//!
//! # Who may use whom
//!
//! [`names`], [`spec`] and [`facts`] use none of the others. [`digitalocean`], [`spaces`], [`cluster`], [`registry`] and [`helm`] speak to
//! servers and know neither spec nor plan; so does [`harbor`], but for [`harbor::reach`]. [`plan`] and [`render`] are pure. Only the commands
//! ([`commands`]) know all.

pub mod apply;
pub mod checks;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod database;
pub mod digitalocean;
pub mod doctor;
pub mod facts;
pub mod harbor;
pub mod harbor_secrets;
pub mod helm;
pub mod http;
pub mod keyring;
pub mod names;
pub mod observe;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod pull_secret;
pub mod registry;
pub mod render;
pub mod smoke;
pub mod spaces;
pub mod spec;
pub mod token;
pub mod trust;
