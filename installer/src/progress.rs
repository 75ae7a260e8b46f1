//! What a long run shows: a line for each thing under way, with the time that it has taken. On a terminal the lines move; elsewhere each change
//! is a line of its own, and silence is broken now and then. All of it goes to standard error: standard output is for results.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Where there is no terminal, something is said at least so often.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// All lines of a run.
pub struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
}

/// One line. Dropped without [`Task::done`] it stays as it was: whoever dropped it tells why.
pub struct Task {
    name: String,
    begun: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
    /// What was said last, and when.
    last: Mutex<(String, Instant)>,
}

impl Progress {
    /// On standard error, or nowhere.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let moving = !quiet && std::io::stderr().is_terminal();
        Self { bars: moving.then(MultiProgress::new), quiet }
    }

    /// A new line.
    #[must_use]
    pub fn task(&self, name: &str) -> Task {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            // The template is a constant and right.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<34} {msg} {elapsed:>8}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Task { name: name.to_owned(), begun: now, bar, quiet: self.quiet, last: Mutex::new((String::new(), now)) }
    }
}

impl Task {
    /// What is happening now; said again only after a while.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            return;
        }
        let Ok(mut last) = self.last.lock() else { return };
        if last.0 != what || last.1.elapsed() >= HEARTBEAT {
            *last = (what.to_owned(), Instant::now());
            self.line(what);
        }
    }

    /// The end of it.
    pub fn done(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(format!("✓ {what}")),
            None => self.line(&format!("✓ {what}")),
        }
    }

    fn line(&self, what: &str) {
        if !self.quiet {
            // A reader that has gone is no failure.
            let _ = writeln!(std::io::stderr(), "{:<34} {what} ({})", self.name, elapsed(self.begun));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

fn elapsed(begun: Instant) -> String {
    humantime::format_duration(Duration::from_secs(begun.elapsed().as_secs())).to_string()
}
