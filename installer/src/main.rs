//! doks-harbor: installs Harbor on DigitalOcean Kubernetes behind redis-tls-proxy.
//!
//! Nothing of it is built yet but its name and this message: it does not pretend. Until it is, `manifests/` shows how the proxy is deployed
//! by hand.

use std::process::ExitCode;

use clap::Command;

/// Bad arguments (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let command = Command::new("doks-harbor")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Installs Harbor on DigitalOcean Kubernetes behind redis-tls-proxy. Not built yet: this version can do nothing.")
        .after_help("Until then, manifests/ in the source tree shows how to deploy the proxy by hand.");
    match command.arg_required_else_help(true).try_get_matches() {
        Ok(_) => ExitCode::from(EXIT_USAGE),
        Err(asked_for) => {
            // A reader that has gone is no failure.
            let _ = asked_for.print();
            ExitCode::from(if asked_for.use_stderr() { EXIT_USAGE } else { 0 })
        }
    }
}
