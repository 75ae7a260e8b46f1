//! What `check` found, as a table for people. [pure]

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::report::{Listener, Name, Report, Status, Step, milliseconds};

/// Longer lines are broken within their column.
const WIDTH: u16 = 118;

/// A table for each listener and a last line that sums up.
pub(super) fn text(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    for listener in &report.listeners {
        let heading = printable(&format!("{}: {} at {}", listener.name, listener.protocol, listener.upstream));
        // Writing to a string cannot fail.
        let _ = if colour { writeln!(out, "\x1b[1m{heading}\x1b[0m") } else { writeln!(out, "{heading}") };
        for line in table(listener).trim_fmt().lines() {
            push_line(&mut out, line, colour);
        }
        out.push('\n');
    }
    let failed: Vec<_> = report
        .listeners
        .iter()
        .filter_map(|listener| Some(format!("{} at {}", listener.name, listener.failed_at()?.for_people())))
        .collect();
    let last = match failed.as_slice() {
        [] if report.listeners.iter().any(Listener::warns) => "All steps passed, with warnings.".to_owned(),
        [] => "All is well.".to_owned(),
        failed => format!("FAILED: {}", printable(&failed.join(", "))),
    };
    out.push_str(&last);
    out.push('\n');
    out
}

fn table(listener: &Listener) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for Step { step, milliseconds: took, finding } in &listener.steps {
        let took = took.map(for_people).unwrap_or_default();
        table.add_row([finding.status.mark().to_owned(), step.for_people().to_owned(), took, printable(&finding.says)]);
        let cure = finding.cure.as_ref().map(|cure| (false, "what to do", cure.clone()));
        for (warns, label, text) in finding.lines.iter().chain(&cure) {
            let mark = if *warns { Status::Warn.mark() } else { "" };
            table.add_row([mark.to_owned(), format!("  {label}"), String::new(), printable(text)]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((2, 0));
    }
    if let Some(took) = table.column_mut(2) {
        took.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The mark at the start of the line in its colour.
fn push_line(out: &mut String, line: &str, colour: bool) {
    let marked = [Status::Ok, Status::Warn, Status::Fail, Status::NotTried].into_iter().find_map(|status| {
        let rest = line.strip_prefix("  ")?.strip_prefix(status.mark())?;
        rest.starts_with(' ').then_some((status, rest))
    });
    match marked.filter(|_| colour) {
        Some((status, rest)) => {
            let _ = writeln!(out, "  {}{}\x1b[0m{rest}", status.colour(), status.mark());
        }
        None => {
            out.push_str(line);
            out.push('\n');
        }
    }
}

/// A server's or a certificate's text must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Milliseconds for people.
pub(super) fn for_people(duration: Duration) -> String {
    let precision = if duration < Duration::from_millis(10) { 2 } else { 0 };
    format!("{:.precision$} ms", milliseconds(duration))
}

impl Name {
    fn for_people(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Resumption => "resumption",
            Self::Login => "login",
            Self::Server => "server",
            Self::RoundTrip => "round trip",
        }
    }
}

impl Status {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::NotTried => "-",
        }
    }

    /// Green, yellow, red, grey.
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Fail => "\x1b[1;31m",
            Self::NotTried => "\x1b[2m",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::tests::report;

    #[test]
    fn a_table_is_aligned_and_says_where_it_failed() {
        let expected = "\
redis-6379: redis at db.example:6379
  warn  dns           0.30 ms  192.0.2.1
  warn    note                 one ?[31maddress
  FAIL  tcp             20 ms  192.0.2.1:6379: refused
          what to do           open the port
  -     tls                    not tried

FAILED: redis-6379 at tcp
";
        assert_eq!(text(&report(), false), expected);
        assert!(text(&report(), true).contains("  \x1b[1;31mFAIL\x1b[0m  tcp"));
    }
}
