//! redis-tls-proxy: the map.

pub mod admin;
pub mod app;
pub mod boundary;
pub mod config;
pub mod drain;
pub mod error;
pub mod listener;
pub mod metrics;
pub mod names;
pub mod pool;
pub mod postgres;
pub mod redis;
pub mod relay;
pub mod reload;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod upstream;
