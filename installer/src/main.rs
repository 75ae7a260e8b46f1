//! doks-harbor.
fn main() {}
