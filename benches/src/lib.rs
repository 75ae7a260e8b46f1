//! The *lab*: real TLS servers, a fault gate and certificates on loopback, for tests, the demo and the benchmarks.
//!
//! | module | what it gives |
//! |---|---|
//! | [`certs`] | a certificate authority made at run time, and certificates with every fault |
//! | [`redis`], [`postgres`] | the real servers with TLS, on free ports, killed when dropped |
//! | [`s3`] | Ceph's S3 gateway, and a stand-in for it with faults |
//! | [`digitalocean`] | a small DigitalOcean API that keeps state, goes wrong as told, and can be held |
//! | [`kubernetes`] | a real Kubernetes API with scheduler and controllers, and nodes that KWOK plays |
//! | [`harbor`], [`registry`] | a small Harbor with faults, and the real docker-registry behind it |
//! | [`gate`] | a TCP link that can be made slow, frozen, cut, reset or poisoned while it carries traffic |
//! | [`hosts`] | a name that moves from address to address under a running program |
//! | [`netns`], [`dns`] | machines with addresses and routes of their own, in a network that ends with the test; a name server for it |
//! | [`proxy`] | the program under test, with its metrics and status |
//! | [`resp`], [`tls`] | just enough of a Redis client and of a TLS client |
//! | [`process`], [`ports`], [`wait`] | children that never outlive the test, free ports, conditions instead of sleeps |
//!
//! Everything binds loopback only, cleans up when dropped, runs in any tokio runtime (also a current-thread one), and several labs can run
//! side by side in one process or in many. A server that is not installed is an error that names its Debian package.

pub mod certs;
pub mod cloud;
pub mod digitalocean;
pub mod dns;
pub mod gate;
pub mod harbor;
pub mod hosts;
pub mod kubernetes;
pub mod netns;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod registry;
pub mod resp;
pub mod s3;
pub mod tls;
pub mod usage;
pub mod wait;

pub use certs::{Authority, Issued, Leaf};
pub use dns::Dns;
pub use gate::{Faults, Gate, Side};
pub use hosts::Hosts;
pub use ports::free_port;
pub use postgres::Postgres;
pub use process::Process;
pub use proxy::Proxy;
pub use redis::Redis;
pub use resp::{Resp, Value};
pub use wait::until;
