//! redis-tls-proxy: the map.

pub mod admin;
pub mod config;
pub mod error;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod pool;
pub mod postgres;
pub mod redis;
pub mod sandbox;
pub mod stream;
pub mod tls;
pub mod wait;
