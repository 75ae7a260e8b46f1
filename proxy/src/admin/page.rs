//! The status page: a snapshot in, one HTML document out, with its style and script inside. `[pure]`
//!
//! Strings of a snapshot come from configuration, DNS and error texts, in the end from strangers: all of them pass [`Escaped`]. The page
//! fetches itself every two seconds and swaps its `main` element; without a script it reloads.

use std::fmt::{self, Write as _};

use super::snapshot::{Certificate, ListenerSnapshot, Pooled, Snapshot, State};

/// The page's style sheet, exactly as it stands in the page: the security policy names its hash.
pub(super) const STYLE: &str = include_str!("page.css");
/// The page's script, likewise.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// A certificate with fewer days left than this deserves a look.
const DAYS_SOON: i64 = 14;

/// The whole document.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail.
    let _ = document(&mut out, snapshot);
    out
}

fn document(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>redis-tls-proxy: {}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript><style>{STYLE}</style></head>\n<body>\
         <p class=\"gone\" role=\"alert\">The proxy does not answer any more; these are its last figures.</p>\n<main>",
        snapshot.state.word()
    )?;
    heading(out, snapshot)?;
    for one in &snapshot.listeners {
        listener(out, one, snapshot.now)?;
    }
    write!(
        out,
        "</main>\n<footer><a href=\"/metrics\">metrics</a> · <a href=\"/status\">status as JSON</a> · probes: \
         <a href=\"/startup\">startup</a>, <a href=\"/readiness\">readiness</a>, <a href=\"/liveness\">liveness</a></footer>\
         <script>{SCRIPT}</script></body></html>\n"
    )
}

fn heading(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let colour = match snapshot.state {
        State::Ready if snapshot.not_ready.is_none() => "good",
        State::Ready | State::Starting | State::Draining => "warn",
    };
    write!(
        out,
        "<header><h1>redis-tls-proxy</h1><span class=\"pill {colour}\">{}</span><span class=\"soft\">{}</span>\
         <span class=\"soft push\">version {} · up {} · {} {} · Landlock {} · log level {}</span></header>",
        snapshot.state.word(),
        Escaped(snapshot.not_ready.as_deref().unwrap_or_default()),
        Escaped(&snapshot.version),
        Age(snapshot.uptime_seconds),
        snapshot.workers,
        if snapshot.workers == 1 { "worker" } else { "workers" },
        Escaped(&snapshot.sandbox),
        Escaped(&snapshot.log_level),
    )
}

fn listener(out: &mut String, one: &ListenerSnapshot, now: i64) -> fmt::Result {
    let facts = &one.facts;
    write!(
        out,
        "<section><div class=\"head\"><h2>{}</h2><span class=\"pill accent\">{}</span><span class=\"pill soft\">{}</span></div>\
         <div class=\"path\">clients <span class=\"soft\">→ {} →</span> {} <span class=\"soft\">→ TLS →</span> {}</div>",
        Escaped(&facts.name),
        Escaped(&facts.protocol),
        Escaped(&facts.pool_mode),
        if facts.client_tls { "TLS" } else { "plaintext" },
        Escaped(&facts.listen),
        Escaped(&facts.upstream),
    )?;
    tiles(out, one)?;
    table(out, one, now)?;
    out.write_str("</section>\n")
}

fn tiles(out: &mut String, one: &ListenerSnapshot) -> fmt::Result {
    let connections = &one.upstream_connections;
    let open = connections.idle.saturating_add(connections.leased).saturating_add(connections.lane);
    out.write_str("<div class=\"tiles\">")?;
    tile(out, "", &Count(one.clients.open), "clients open")?;
    tile(out, "", &Count(open), "upstream connections")?;
    match (&one.pooled, one.warm_share) {
        (Some(pooled), _) => pace(out, pooled)?,
        (None, Some(share)) => tile(out, "", &format_args!("{:.1} %", share * 100.0), "served warm")?,
        (None, None) => tile(out, "soft", &"–", "served warm")?,
    }
    if one.pooled.is_none() {
        let relayed = one.bytes.client_to_upstream.saturating_add(one.bytes.upstream_to_client);
        tile(out, "", &Size(relayed), "relayed")?;
    }
    match &one.upstream_certificate {
        Some(certificate) => tile(out, urgency(certificate), &Left(certificate), "upstream certificate")?,
        None => tile(out, "soft", &"–", "upstream certificate")?,
    }
    out.write_str("</div>\n")
}

/// How much is asked, and how long an answer takes: of the class that most requests belong to.
fn pace(out: &mut String, pooled: &Pooled) -> fmt::Result {
    let rates = pooled.recent.as_ref().map(|recent| &recent.requests_per_second);
    match rates {
        Some(rates) => tile(out, "", &Rate(rates.values().sum()), "requests / s")?,
        None => tile(out, "soft", &"–", "requests / s")?,
    }
    let most = rates.and_then(|rates| rates.iter().max_by(|a, b| a.1.total_cmp(b.1)));
    match pooled.recent.as_ref().zip(most).and_then(|(recent, (class, _))| recent.latency.get(class)) {
        Some(latency) => tile(out, "", &Millis(latency.p99), "p99 latency"),
        None => tile(out, "soft", &"–", "p99 latency"),
    }
}

fn tile(out: &mut String, class: &str, value: &dyn fmt::Display, label: &str) -> fmt::Result {
    write!(out, "<div class=\"tile\"><b class=\"{class}\">{value}</b><span>{label}</span></div>")
}

fn table(out: &mut String, one: &ListenerSnapshot, now: i64) -> fmt::Result {
    let (clients, connections) = (&one.clients, &one.upstream_connections);
    out.write_str("<table>")?;
    row(out, "Clients")?;
    write!(
        out,
        "<span>{} open of {}</span><span>{} accepted</span><span>{} rejected</span>",
        Count(clients.open),
        one.facts.max_clients,
        Count(clients.accepted),
        Count(clients.rejected)
    )?;
    row(out, "Rejected")?;
    nonzero(out, &clients.rejected_by)?;
    row(out, "Ended by")?;
    nonzero(out, &clients.closed_by)?;
    row(out, "Bytes")?;
    write!(out, "<span>{} to the server</span>", Size(one.bytes.client_to_upstream))?;
    write!(out, "<span>{} to clients</span>", Size(one.bytes.upstream_to_client))?;
    row(out, "Upstream connections")?;
    write!(
        out,
        "<span>{} idle</span><span>{} leased</span><span>{} connecting</span>",
        Count(connections.idle),
        Count(connections.leased),
        Count(connections.connecting)
    )?;
    if let Some(pooled) = &one.pooled {
        sharing(out, pooled, connections.lane)?;
    }
    row(out, "Leases")?;
    nonzero(out, &one.leases)?;
    row(out, "Opening one takes")?;
    for (phase, seconds) in &one.mean_dial_seconds {
        write!(out, "<span><i>{phase}</i> {:.1} ms</span>", seconds * 1000.0)?;
    }
    row(out, "Handshakes")?;
    nonzero(out, &one.handshakes)?;
    row(out, "Thrown away")?;
    nonzero(out, &one.evictions)?;
    row(out, "Server addresses")?;
    for address in &one.facts.addresses {
        write!(out, "<span>{}</span>", Escaped(address))?;
    }
    write!(out, "<span><i>changed</i> {}×</span>", Count(one.dns_changes))?;
    row(out, "Certificates")?;
    for (whose, certificate) in [("server", &one.upstream_certificate), ("ours", &one.listen_certificate)] {
        if let Some(certificate) = certificate {
            write!(out, "<span class=\"{}\"><i>{whose}</i> {}</span>", urgency(certificate), Left(certificate))?;
        }
    }
    write!(out, "<span><i>reloaded</i> {}×</span><span><i>refused</i> {}×</span>", Count(one.reloads.ok), Count(one.reloads.failed))?;
    row(out, "Errors")?;
    nonzero(out, &one.errors)?;
    if let Some(error) = &one.facts.last_error {
        row(out, "Last error")?;
        let age = u64::try_from(now.saturating_sub(error.at)).unwrap_or(0);
        write!(out, "{}: {} <i>({} ago)</i>", Escaped(&error.side), Escaped(&error.message), Age(age))?;
    }
    out.write_str("</td></tr></table>")
}

/// The rows that only the modes `session` and `multiplex` have.
fn sharing(out: &mut String, pooled: &Pooled, lanes: u64) -> fmt::Result {
    let batch = pooled.recent.as_ref().and_then(|recent| recent.requests_per_write);
    if lanes > 0 || batch.is_some() {
        row(out, "Lanes")?;
        write!(out, "<span>{} open</span><span>{} requests in flight</span>", Count(lanes), Count(pooled.requests_in_flight))?;
        if let Some(mean) = batch {
            write!(out, "<span>{mean:.1} requests a write</span>")?;
        }
    }
    row(out, "Requests")?;
    nonzero(out, &pooled.requests)?;
    if let Some(recent) = &pooled.recent {
        row(out, "Lately")?;
        write!(out, "<span><i>over</i> {:.0} s</span>", recent.seconds)?;
        for (class, rate) in recent.requests_per_second.iter().filter(|(_, rate)| **rate > 0.0) {
            write!(out, "<span><i>{class}</i> {} / s", Rate(*rate))?;
            if let Some(latency) = recent.latency.get(class) {
                write!(out, ", p50 {}, p99 {}", Millis(latency.p50), Millis(latency.p99))?;
            }
            out.write_str("</span>")?;
        }
    }
    row(out, "Pinned clients")?;
    write!(out, "<span>{} now</span>", Count(pooled.pinned_clients))?;
    row(out, "Pinned so far by")?;
    nonzero(out, &pooled.pins)?;
    row(out, "Refused requests")?;
    nonzero(out, &pooled.refusals)
}

/// Ends the row before it, if there is one.
fn row(out: &mut String, name: &str) -> fmt::Result {
    if !out.ends_with("<table>") {
        out.write_str("</td></tr>")?;
    }
    write!(out, "<tr><th scope=\"row\">{name}</th><td>")
}

/// The counts that are not zero, by their labels, which are words of ours.
fn nonzero<'a>(out: &mut String, counts: impl IntoIterator<Item = (&'a &'static str, &'a u64)>) -> fmt::Result {
    let mut any = false;
    for (label, count) in counts.into_iter().filter(|(_, count)| **count > 0) {
        write!(out, "<span><i>{}</i> {}</span>", label.replace(['_', ','], " "), Count(*count))?;
        any = true;
    }
    if any { Ok(()) } else { out.write_str("<span class=\"soft\">none</span>") }
}

fn urgency(certificate: &Certificate) -> &'static str {
    match certificate.days_left {
        ..=0 => "bad",
        1..DAYS_SOON => "warn",
        _ => "",
    }
}

/// Text that a stranger may have chosen, fit for an element and for a quoted attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// `1 234 567`, with thin spaces.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// So many each second: whole ones, but of few the tenths.
struct Rate(f64);

impl fmt::Display for Rate {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^64")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10.0 { write!(f, "{:.1}", self.0) } else { Count(self.0.round() as u64).fmt(f) }
    }
}

/// Seconds, shown as milliseconds with two digits that matter.
struct Millis(f64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 * 1000.0;
        if millis < 9.95 { write!(f, "{millis:.2} ms") } else { write!(f, "{millis:.0} ms") }
    }
}

/// Bytes in a unit that leaves at most four digits.
struct Size(u64);

impl fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter().peekable();
        while let Some(unit) = units.next() {
            if value < 1000.0 || units.peek().is_none() {
                return write!(f, "{value:.1} {unit}");
            }
            value /= 1024.0;
        }
        Ok(())
    }
}

/// Seconds, as the two largest units that matter.
struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes, seconds) = (self.0 / 86_400, self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {seconds} s"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            (_, _, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// What is left of a certificate.
struct Left<'a>(&'a Certificate);

impl fmt::Display for Left<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.days_left {
            ..0 => f.write_str("expired"),
            0 => f.write_str("less than a day left"),
            1 => f.write_str("1 day left"),
            days => write!(f, "{days} days left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::sample;
    use super::*;

    #[test]
    fn every_string_is_escaped() {
        let evil = "<script>alert(1)</script>\"'&\u{7}";
        let mut snapshot = sample();
        let strings = [&mut snapshot.version, &mut snapshot.log_level, &mut snapshot.sandbox];
        strings.into_iter().for_each(|s| *s = evil.into());
        snapshot.not_ready = Some(evil.into());
        let facts = &mut snapshot.listeners[0].facts;
        for s in [&mut facts.name, &mut facts.protocol, &mut facts.listen, &mut facts.upstream, &mut facts.pool_mode] {
            *s = evil.into();
        }
        facts.addresses = vec![evil.into()];
        let error = facts.last_error.as_mut().unwrap();
        error.message = evil.into();
        error.side = evil.into();
        let html = render(&snapshot);
        assert_eq!(html.matches("<script>").count(), 1, "only the page's own");
        assert_eq!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\u{fffd}").count(), 12);
    }

    #[test]
    fn shows_what_the_snapshot_says() {
        let html = render(&sample());
        for expected in [
            "version 0.1.0",
            "up 1 d 2 h",
            "2 workers",
            "127.0.0.1:6379",
            "valkey.example.com:25061",
            "3 open of 10000",
            "1\u{202f}234\u{202f}567 accepted",
            "3 rejected",
            "<i>auth</i> 2",
            "2.0 KiB to the server",
            "4.7 GiB to clients",
            "4 idle",
            "90.0 %",
            "<i>tls</i> 6.0 ms",
            "41 days left",
            "fd00::7",
            "(1 min 15 s ago)",
            "2 open</span><span>17 requests in flight</span><span>6.2 requests a write",
            "<b class=\"\">12\u{202f}346</b><span>requests / s",
            "<b class=\"\">1.40 ms</b>",
            "<i>shared</i> 12\u{202f}346 / s, p50 0.25 ms, p99 1.40 ms",
            "3 now</span>",
            "<i>blocking</i> 60",
            "<i>forbidden</i> 2",
        ] {
            assert!(html.contains(expected), "{expected} is missing in {html}");
        }
    }

    #[test]
    fn needs_nothing_from_elsewhere() {
        let html = render(&sample());
        for outside in ["http://", "https://", "src=", "@import", "url(", "style=", "onclick"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</"), "would end its element");
    }

    #[test]
    fn tables_are_well_formed() {
        let html = render(&sample());
        for (open, close) in [("<tr>", "</tr>"), ("<td>", "</td>"), ("<section>", "</section>"), ("<table>", "</table>")] {
            assert_eq!(html.matches(open).count(), html.matches(close).count(), "{open}");
        }
    }

    #[test]
    fn sizes_and_ages() {
        let size = |bytes| Size(bytes).to_string();
        assert_eq!([size(0), size(1023), size(1024), size(1_048_576)], ["0 B", "1023 B", "1.0 KiB", "1.0 MiB"]);
        assert_eq!(size(u64::MAX), "16.0 EiB");
        let age = |seconds| Age(seconds).to_string();
        assert_eq!([age(0), age(61), age(3_660), age(90_000)], ["0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([Count(999).to_string(), Count(1000).to_string()], ["999", "1\u{202f}000"]);
    }
}
