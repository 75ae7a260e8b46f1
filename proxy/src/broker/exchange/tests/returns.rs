//! RESET and DISCARD ALL return to what the client's StartupMessage asked for, whatever else it has sent.

use super::super::settings::{set, set_within};
use super::*;

/// A client that asked for settings of its own.
fn pair() -> Pair {
    let mut pair = Pair::new();
    let mut own = Params::clone(&pair.server.base).reported(b"TimeZone", b"CET");
    own.ask(b"work_mem", Some(b"8MB"));
    pair.client = Client::new(1, Rc::new(own), true);
    pair.server.params = Rc::clone(&pair.client.params);
    pair
}

fn zone(value: &str) -> Vec<u8> {
    msg(b'S', format!("TimeZone\0{value}\0").as_bytes())
}

fn named(portal: &str, name: &str) -> Vec<u8> {
    msg(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn changes(both: bool) -> Vec<crate::broker::params::Change> {
    let memory = (b"work_mem"[..].into(), Some(b"8MB"[..].into()));
    let zone = (b"TimeZone"[..].into(), Some(b"CET"[..].into()));
    if both { vec![zone, memory] } else { vec![memory] }
}

/// What puts the settings right before a client's first message.
fn front(both: bool) -> Vec<u8> {
    let mut up = BytesMut::new();
    set(&mut up, &changes(both));
    up.to_vec()
}

/// What does within a transaction.
fn within(both: bool) -> Vec<u8> {
    let mut up = BytesMut::new();
    set_within(&mut up, &changes(both));
    up.to_vec()
}

/// What the server says to [`within`].
fn set_is_done() -> Vec<u8> {
    [ok3(), ok1(), ok2(), msg(b'D', b"\0\x01\0\0\0\x038MB"), complete("SELECT 1"), ok3(), ok3()].concat()
}

/// Sends what may be sent; the rest waits.
fn send(pair: &mut Pair, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let Pair { client, server, statements } = pair;
    let taken = Exchange { client, server, statements }.requests(bytes, &mut BytesMut::new()).unwrap();
    (pair.server.up.split().to_vec(), bytes[taken..].to_vec())
}

#[test]
fn nothing_runs_behind_a_reset_before_the_settings_are_right() {
    for (text, both) in [("RESET work_mem", false), ("SET work_mem TO DEFAULT", false), ("RESET ALL", true), ("DISCARD ALL", true)] {
        // The Parse is ended by the Query; its Sync comes late.
        let mut pair = pair();
        let behind = [sync(), parse("b", "SELECT 1"), bind("b"), execute(), sync()].concat();
        let (up, rest) = send(&mut pair, &[parse("a", "SELECT 2"), query(text), behind.clone()].concat());
        assert_eq!((up, &rest), ([parse("_rtp_1", "SELECT 2"), query(text)].concat(), &behind), "{text}");
        assert!(send(&mut pair, &rest).0.is_empty(), "{text}");
        let reported = if both { zone("UTC") } else { vec![] };
        let heard = pair.answer(&[ok1(), reported, complete("RESET"), ready(b'I')]);
        assert_eq!(heard, [ok1(), complete("RESET"), ready(b'I')].concat(), "{text}");
        let (up, rest) = send(&mut pair, &rest);
        assert!(up.starts_with(&front(both)), "{text}: {}", up.escape_ascii());
        assert!(rest.is_empty());
    }
}

#[test]
fn a_reset_that_is_skipped_holds_nothing_back() {
    let mut pair = pair();
    let (_, rest) = send(&mut pair, &[bind("nobody"), query("RESET ALL"), sync(), query("SELECT 1")].concat());
    assert_eq!(rest, [sync(), query("SELECT 1")].concat());
    pair.answer(&[error("26000", "")]);
    let (up, rest) = send(&mut pair, &rest);
    let (more, rest) = if rest.is_empty() {
        (vec![], rest)
    } else {
        pair.answer(&[ready(b'I')]);
        send(&mut pair, &rest)
    };
    assert_eq!([up, more].concat(), [sync(), query("SELECT 1")].concat());
    assert!(rest.is_empty());
}

#[test]
fn a_transaction_goes_on_with_the_clients_own_defaults() {
    let mut pair = pair();
    pair.send(&[query("BEGIN")]);
    pair.answer(&[complete("BEGIN"), ready(b'T')]);
    let (up, rest) = send(&mut pair, &[query("RESET work_mem"), query("SELECT 1")].concat());
    assert_eq!((up, &rest), (query("RESET work_mem"), &query("SELECT 1")));
    pair.answer(&[complete("RESET"), ready(b'T')]);
    let (up, rest) = send(&mut pair, &rest);
    assert_eq!(up, [within(false), sync(), query("SELECT 1")].concat());
    assert!(rest.is_empty());
    let heard = pair.answer(&[set_is_done(), ready(b'T'), complete("SELECT 1"), ready(b'T')]);
    assert_eq!(heard, [complete("SELECT 1"), ready(b'T')].concat());
    assert!(pair.server.traces.has(Traces::SETTING));
}

#[test]
fn in_a_batch_a_reset_and_what_follows_have_one_fate() {
    for (text, both) in [("RESET work_mem", false), ("RESET ALL", true), ("DISCARD ALL", true)] {
        let mut pair = pair();
        let (up, _) = pair.send(&[parse("a", text), bind("a"), execute(), bind("a"), sync()]);
        let expected = [parse("_rtp_1", text), bind("_rtp_1"), execute(), within(both)].concat();
        assert!(up.starts_with(&expected), "{text}: {}", up.escape_ascii());
        let heard = pair.answer(&[ok1(), ok2(), complete("RESET"), set_is_done()]);
        assert_eq!(heard, [ok1(), ok2(), complete("RESET")].concat(), "{text}");
        if text == "DISCARD ALL" {
            // What it has done stays done.
            pair.answer(&[error("26000", ""), zone("UTC"), ready(b'I')]);
            let (up, _) = pair.send(&[query("SELECT 1")]);
            assert_eq!(up, [front(both), query("SELECT 1")].concat());
            continue;
        }
        pair.answer(&[ok2(), ready(b'I')]);
        let (up, _) = pair.send(&[query("SELECT 1")]);
        assert_eq!(up, query("SELECT 1"), "{text}: all is right");
    }
}

#[test]
fn a_setting_that_is_rolled_back_in_its_own_batch_is_not_believed() {
    let mut pair = pair();
    pair.send(&[parse("a", "SET work_mem TO '1MB'"), bind("a"), execute(), query("ROLLBACK")]);
    pair.answer(&[ok1(), ok2(), complete("SET"), complete("ROLLBACK"), ready(b'I')]);
    assert_eq!(pair.client.params.value(b"work_mem"), Some(&b"8MB"[..]));
    assert!(pair.server.traces.has(Traces::SETTING));
}

#[test]
fn a_setting_behind_a_reset_in_one_batch_stays() {
    let mut pair = pair();
    pair.send(&[parse("a", "RESET TimeZone"), bind("a"), execute(), parse("b", "SET TimeZone TO 'EST'"), bind("b"), execute(), sync()]);
    let answers = [ok1(), ok2(), complete("RESET"), set_is_done(), ok1(), ok2(), complete("SET"), zone("EST"), ready(b'I')];
    let heard = pair.answer(&answers);
    assert!(heard.ends_with(&[zone("EST"), ready(b'I')].concat()));
    let (up, _) = pair.send(&[query("SELECT 1")]);
    assert_eq!(up, query("SELECT 1"));
}

#[test]
fn a_command_may_be_run_in_a_later_batch_of_its_transaction() {
    let mut pair = pair();
    pair.send(&[query("BEGIN")]);
    pair.answer(&[complete("BEGIN"), ready(b'T')]);
    pair.send(&[parse("a", "RESET work_mem"), named("p", "a"), sync()]);
    pair.answer(&[ok1(), ok2(), ready(b'T')]);
    let run = msg(b'E', b"p\0\0\0\0\0");
    let (up, _) = pair.send(&[run.clone(), sync()]);
    assert_eq!(up, [run, within(false), sync()].concat());
}

#[test]
fn a_copy_behind_a_reset_is_not_held_back() {
    let mut pair = pair();
    pair.send(&[query("RESET ALL; COPY t FROM STDIN")]);
    pair.answer(&[complete("RESET"), msg(b'G', &[0, 0, 0])]);
    let (up, rest) = send(&mut pair, &[msg(b'd', b"1\n"), msg(b'c', b""), query("SELECT 1")].concat());
    assert!(up.starts_with(&[msg(b'd', b"1\n"), msg(b'c', b"")].concat()), "{}", up.escape_ascii());
    pair.answer(&[complete("COPY 1"), ready(b'I')]);
    let (more, rest) = send(&mut pair, &rest);
    assert!([up, more].concat().ends_with(&query("SELECT 1")) && rest.is_empty());
}
