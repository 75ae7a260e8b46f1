//! redis-tls-proxy: the map.

pub mod admin;
pub mod cli;
pub mod config;
pub mod error;
pub mod metrics;
pub mod pool;
pub mod postgres;
pub mod redis;
pub mod stream;
pub mod tls;
