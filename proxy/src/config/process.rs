//! Settings of the process as a whole.

use super::layers::View;
use super::settings::Key;
use super::types::{LogFormat, Process};
use super::value::Value;

/// Fewer and busier workers find more to do at each wake-up and spend less on waking: half of the processors carry as many requests as all of
/// them, for about half of the processor time per request. Beyond four there is no server that one node's clients could keep busy.
const MOST_AUTO_WORKERS: usize = 4;

/// Reads them; every value is valid by itself and they do not depend on each other.
pub(super) fn process(view: &View<'_>) -> Process {
    let admin = match view.find(Key::Admin).map(|found| found.value) {
        Some(Value::Admin(admin)) => admin,
        _ => None,
    };
    let workers = match view.find(Key::Workers).map(|found| found.value) {
        Some(Value::Workers(Some(workers))) => workers,
        _ => (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, MOST_AUTO_WORKERS),
    };
    Process {
        admin,
        workers,
        drain_delay: view.duration(Key::DrainDelay),
        drain_timeout: view.duration(Key::DrainTimeout),
        log_format: if view.word(Key::LogFormat) == "json" { LogFormat::Json } else { LogFormat::Text },
        log_level: view.text(Key::LogLevel).unwrap_or_default(),
        quiet: view.switch(Key::Quiet),
        landlock: view.switch(Key::Landlock),
    }
}
