//! Arguments in, an exit code out. The codes are in [`doks_harbor::commands`].

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use doks_harbor::cli::Cli;
use doks_harbor::commands;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked_for) => {
            // A reader that has gone is no failure.
            let _ = asked_for.print();
            let help = matches!(asked_for.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if help { 0 } else { commands::USAGE });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "doks-harbor: the system gives no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(commands::run(cli))
}
