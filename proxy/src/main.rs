//! redis-tls-proxy.
fn main() {}
