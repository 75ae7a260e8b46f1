//! DigitalOcean's API: the calls that this program makes, typed, one file for each resource.
//!
//! Every call goes through [`Client`]: it knows the token, deadlines, rate limits, and what may be sent twice. Fields of answers are
//! optional where the API may leave them out; a word that is not known is kept out of the way and never an error.

mod account;
mod client;
mod databases;
mod error;
mod kubernetes;
mod make;
mod places;
mod projects;
mod spaces_keys;
mod tags;

pub use account::{Account, Team};
pub use client::{Client, Patience};
pub use databases::{
    Availability, CacheConfig, Connection, Database, DatabaseCluster, DatabaseStatus, DatabaseUser, Engine, EngineOptions, FirewallRule,
    Layout, MaintenanceWindow, NewDatabase, Options,
};
pub use error::{Error, Result};
pub use kubernetes::{ClusterCredentials, ClusterState, ClusterStatus, ControlPlaneFirewall, KubernetesCluster, NodePool};
pub use places::{Region, Vpc};
pub use projects::{Assigned, Project};
pub use spaces_keys::{Grant, NewSpacesKey, SpacesKey};
