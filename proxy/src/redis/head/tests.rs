//! What the walker sees of whole, cut and broken requests.

use super::*;
use crate::redis::command::encode;

fn seen(frame: &[u8]) -> Vec<Result<Vec<u8>, Missing>> {
    Head::new(frame).map(|argument| argument.map(Cow::into_owned)).collect()
}

fn ok(words: &[&[u8]]) -> Vec<Result<Vec<u8>, Missing>> {
    words.iter().map(|word| Ok(word.to_vec())).collect()
}

#[test]
fn arguments_come_in_turn() {
    let long = b"x".repeat(1000);
    for words in [&[b"GET".as_slice(), b"k"][..], &[b"", b"\r\n", b""], &[b"SET", b"k", &long, b"EX", b"1"], &[b"a".as_slice(); 200]] {
        assert_eq!(seen(&encode(words)), ok(words));
        assert_eq!(seen(&[encode(words), b"*1\r\n".to_vec()].concat()), ok(words), "the next request is another one");
    }
    assert_eq!(seen(b"MGET \"a b\" 'c'  d\r\n"), ok(&[b"MGET", b"a b", b"c", b"d"]));
    let many = "w ".repeat(500);
    assert_eq!(seen(format!("{many}\n").as_bytes()).len(), 500, "no limit of words, unlike before the login");
    for nothing in [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n", b" \n"] {
        assert!(seen(nothing).is_empty(), "{:?}", nothing.escape_ascii().to_string());
    }
}

#[test]
fn what_is_missing_has_a_name() {
    use Missing::{Broken, Header, Payload};
    for (frame, last) in [
        (&b""[..], Header),
        (b"*", Header),
        (b"*2\r", Header),
        (b"*2\r\n", Header),
        (b"*2\r\n$", Header),
        (b"*2\r\n$3\r", Header),
        (b"*2\r\n$3\r\n", Payload(3)),
        (b"*2\r\n$3\r\nGE", Payload(3)),
        (b"*1\r\n$536870912\r\nGET", Payload(536_870_912)),
        (b"GET k", Header),
        (b"*x\r\n", Broken),
        (b"*2\n\n", Header),
        (b"*99999999999999999999999", Broken),
        (b"*2\rx", Broken),
        (b"*2\r\n:3", Broken),
        (b"*2\r\n$-1\r\n", Broken),
        (b"*2\r\n$3\r\nGETxx", Broken),
        (b"'GET\r\n", Broken),
        (b"GET\0\r\n", Broken),
    ] {
        assert_eq!(seen(frame), [Err(last)], "{:?}", frame.escape_ascii().to_string());
    }
    assert_eq!(seen(b"*2\r\n$3\r\nGET"), [Ok(b"GET".to_vec()), Err(Header)]);
    assert_eq!(seen(b"*2\r\n$3\r\nGET\r"), [Ok(b"GET".to_vec()), Err(Header)]);
    assert_eq!(seen(b"GET 'k\r\n"), [Ok(b"GET".to_vec()), Err(Broken)]);
}

#[test]
fn a_cut_request_shows_its_first_arguments() {
    let words: &[&[u8]] = &[b"XREAD", b"COUNT", b"2", b"STREAMS", b"k", b"0"];
    let frame = encode(words);
    for end in 0..frame.len() {
        let seen = seen(&frame[..end]);
        let whole = seen.iter().take_while(|argument| argument.is_ok()).count();
        assert_eq!(seen[..whole], ok(words)[..whole]);
        assert!(whole == words.len() || (seen.len() == whole + 1 && seen[whole] != Err(Missing::Broken)), "cut at {end}: {seen:?}");
    }
}
