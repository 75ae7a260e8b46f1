//! Log lines as they come out, and the throttle's arithmetic.

use super::*;

/// Collects what would go to stderr.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, directive: &str, colours: bool, events: impl FnOnce(&LogControl)) -> Vec<String> {
    let sink = Sink::default();
    let writer = sink.clone();
    let (subscriber, control) = subscriber(format, directive, colours, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || events(&control));
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn text_is_one_readable_line() {
    let lines = logged(LogFormat::Text, "info", false, |_| {
        tracing::info!(listener = "redis-6379", bytes = 12_u64, why = "closed by client", empty = "", ok = true, "client left");
    });
    assert_eq!(lines.len(), 1);
    let (timestamp, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(timestamp.len(), "2026-01-01T00:00:00.000Z".len());
    assert!(timestamp.ends_with('Z'));
    assert_eq!(rest, r#"INFO client left bytes=12 empty="" listener=redis-6379 ok=true why="closed by client""#);
}

#[test]
fn json_is_one_flat_object() {
    let lines = logged(LogFormat::Json, "info", false, |_| {
        let error = std::io::Error::other("bro\nken");
        tracing::warn!(listener = "a", %error, count = -3, share = f64::NAN, peer = ?"x", "no \"luck\"");
    });
    assert_eq!(lines.len(), 1);
    let json: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(json["severity"], "WARN");
    assert_eq!(json["message"], "no \"luck\"");
    assert_eq!((&json["listener"], &json["error"], &json["count"]), (&"a".into(), &"bro\nken".into(), &(-3).into()));
    assert_eq!(json["share"], "NaN");
    assert_eq!(json.as_object().unwrap().len(), 8);
}

#[test]
fn a_peer_cannot_forge_a_line_or_drive_the_terminal() {
    let evil = "x\n2026-01-01T00:00:00.000Z ERROR all is lost\r\x1b[2J";
    for directive in ["info", "trace"] {
        let lines = logged(LogFormat::Text, directive, false, |_| {
            tracing::info!(name = evil, shown = %evil, "{evil}");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains(char::is_control), "{lines:?}");
    }
}

#[test]
fn colours_only_when_asked_for() {
    let event = |_: &LogControl| tracing::error!(a = 1, "b");
    assert!(logged(LogFormat::Text, "info", true, event)[0].contains("\x1b[31mERROR\x1b[0m"));
    assert!(!logged(LogFormat::Json, "info", true, event)[0].contains('\x1b'));
}

#[test]
fn the_filter_can_be_replaced() {
    let lines = logged(LogFormat::Text, "warn", false, |control| {
        tracing::info!("one");
        control.set("info,redis_tls_proxy=debug").unwrap();
        tracing::debug!("two");
        assert_eq!(control.level(), "info,redis_tls_proxy=debug");
        assert!(control.set("nonsense").unwrap_err().contains("nonsense"));
        assert_eq!(control.level(), "info,redis_tls_proxy=debug", "a bad directive changes nothing");
        tracing::debug!("three");
        control.set("off").unwrap();
        tracing::error!("four");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("DEBUG redis_tls_proxy::logging::tests: two"), "{lines:?}");
    assert!(lines[1].ends_with("three"));
}

#[test]
fn misspelt_levels_are_errors_and_not_targets() {
    for good in ["info", "WARN", "off", "redis_tls_proxy=debug,rustls=warn", "info, rustls=error"] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in
        ["", "inof", "verbose", "info,", "=info", "a=", "a=b", "a=info=debug", "[span]=info", "a{x=\"(.*)\"}=info", "a b=info", "a\n=info"]
    {
        let error = parse(bad).unwrap_err();
        assert!(error.starts_with("log level: ") && error.contains("example"), "{bad}: {error}");
    }
}

#[test]
fn a_flood_becomes_one_line_per_interval_with_a_count() {
    let throttle = Throttle::new(Duration::from_secs(10), 100);
    let start = tokio::time::Instant::now().into_std();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(throttle.check_at(&("a", 1), at(0)), Some(0));
    assert_eq!(throttle.check_at(&("a", 1), at(1)), None);
    assert_eq!(throttle.check_at(&("a", 2), at(1)), Some(0), "another kind is another key");
    assert_eq!(throttle.check_at(&("a", 1), at(9)), None);
    assert_eq!(throttle.check_at(&("a", 1), at(10)), Some(2));
    assert_eq!(throttle.check_at(&("a", 1), at(11)), None);
    assert_eq!(throttle.check_at(&("a", 1), at(5)), None, "a clock read earlier on another thread");
    assert_eq!(throttle.check_at(&("a", 1), at(20)), Some(2));
    assert_eq!(throttle.check_at(&("a", 1), at(90)), Some(0));
}

#[test]
fn the_throttle_forgets_the_oldest_key() {
    let throttle = Throttle::new(Duration::from_secs(10), 2);
    let start = tokio::time::Instant::now().into_std();
    let at = |millis| start + Duration::from_millis(millis);
    for (key, when) in [("a", 0), ("b", 1), ("c", 2)] {
        assert_eq!(throttle.check_at(&key, at(when)), Some(0));
    }
    assert_eq!(throttle.seen.lock().unwrap().len(), 2);
    assert_eq!(throttle.check_at(&"b", at(3)), None, "b and c are remembered");
    assert_eq!(throttle.check_at(&"c", at(3)), None);
    assert_eq!(throttle.check_at(&"a", at(4)), Some(0), "a was forgotten");
}
