//! What the client and the connection call statements when what was to drop them fails, or is heard late.

use super::*;

fn named(portal: &str, name: &str) -> Vec<u8> {
    msg(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

#[test]
fn what_was_to_be_dropped_and_comes_back_is_no_orphan() {
    let mut pair = Pair::new();
    pair.send(&[
        parse("a", "SELECT 1"),
        parse("b", "DISCARD ALL"),
        bind("b"),
        named("p", "nobody"),
        execute(),
        parse("a", "SELECT 1"),
        sync(),
    ]);
    pair.answer(&[ok1(), ok1(), ok2(), error("26000", ""), ready(b'I')]);
    let (up, _) = pair.send(&[bind("a"), execute(), sync()]);
    assert_eq!(up, [bind("_rtp_1"), execute(), sync()].concat());
}

#[test]
fn an_error_names_a_statement_that_has_just_been_dropped_as_the_client_does() {
    let mut pair = Pair::new();
    pair.send(&[parse("b", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    pair.send(&[query("SELECT 1; DEALLOCATE ALL"), bind("b"), sync()]);
    let gone = msg(b'E', b"SERROR\0VERROR\0C26000\0Mprepared statement \"_rtp_1\" does not exist\0\0");
    let heard = pair.answer(&[complete("SELECT 1"), complete("DEALLOCATE ALL"), ready(b'I'), gone, ready(b'I')]);
    assert!(String::from_utf8_lossy(&heard).contains("Mprepared statement \"b\" does not exist\0"), "{}", heard.escape_ascii());
}

#[test]
fn a_parse_without_a_name_that_fails_leaves_none_behind() {
    let mut pair = Pair::new();
    // The second time a text is worth a name on the connection.
    for round in 0..2 {
        pair.send(&[parse("", "SELECT 1"), sync()]);
        pair.answer(&[ok1(), ready(b'I')]);
        pair.send(&[parse("", "SELEC 1"), sync()]);
        pair.answer(&[error("42601", ""), ready(b'I')]);
        let (up, _) = pair.send(&[bind(""), sync()]);
        assert!(up.ends_with(&[close(""), bind(""), sync()].concat()), "round {round}: {}", up.escape_ascii());
        pair.answer(&[ok3(), error("26000", ""), ready(b'I')]);
    }
}
