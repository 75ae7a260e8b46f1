//! Commands taken apart, and agreement with the scanner on any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::redis::frame::fuzz::requests;
use crate::redis::frame::{RequestKind, RequestScanner};

fn words(frame: &[u8]) -> Vec<Vec<u8>> {
    parse(frame).unwrap().into_iter().map(Cow::into_owned).collect()
}

#[test]
fn commands_come_apart() {
    assert_eq!(words(b"*2\r\n$4\r\nAUTH\r\n$4\r\na\r\nb\r\n"), [&b"AUTH"[..], b"a\r\nb"]);
    assert_eq!(words(b"*1\r\n$0\r\n\r\n"), [b""]);
    assert_eq!(words(b"AUTH  me\tsecret \r\n"), [&b"AUTH"[..], b"me", b"secret"]);
    assert_eq!(words(b"AUTH \"a\\x41\\n\\r\\t\\b\\a\\\"\\q\\xZZ\" 'it\\'s \\n'\n"), [&b"AUTH"[..], b"aA\n\r\t\x08\x07\"qxZZ", b"it's \\n"]);
    assert_eq!(words(b"P\"IN\"\r\n"), [b"PIN"]);
    assert_eq!(words(b"P\rING\r\n"), [&b"P"[..], b"ING"]);
    assert_eq!(words(b"\"\" ''\n"), [b"", b""]);
    for nothing in [&b"\n"[..], b" \r\n", b"*0\r\n", b"*-1\r\n"] {
        assert!(words(nothing).is_empty());
    }
}

#[test]
fn limits_are_those_of_the_login_phase() {
    let array = |count: usize, length: usize| {
        let argument = vec![b'x'; length];
        parse(&encode(&vec![argument.as_slice(); count])).map(|arguments| arguments.len())
    };
    assert_eq!(array(10, 1), Ok(10));
    assert_eq!(array(11, 1), Err(RequestError::UnauthenticatedCount));
    assert_eq!(array(1, 16384), Ok(1));
    assert_eq!(array(1, 16385), Err(RequestError::UnauthenticatedLength));
    assert_eq!(parse(b"1 2 3 4 5 6 7 8 9 0\n").unwrap().len(), 10);
    assert_eq!(parse(b"1 2 3 4 5 6 7 8 9 0 1\n"), Err(RequestError::UnauthenticatedCount));
    assert_eq!(parse(b"*2147483648\r\n"), Err(RequestError::Count));
}

/// What is no complete frame is refused, with nothing allocated for what it announces.
#[test]
fn every_prefix_is_refused() {
    for frame in [encode(&[b"AUTH", b"user", b"pass"]), b"AUTH 'a b' \"c\"\r\n".to_vec()] {
        for end in 0..frame.len() {
            assert!(parse(&frame[..end]).is_err(), "{end}");
        }
        assert!(parse(&[frame.as_slice(), b"x"].concat()).is_err());
    }
}

proptest! {
    #[test]
    fn encoded_arguments_come_back(arguments in vec(vec(any::<u8>(), 0..30), 0..11)) {
        let encoded = encode(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(words(&encoded), arguments);
    }

    /// The scanner and this parser have the same idea of quotes.
    #[test]
    fn the_scanner_agrees_on_quotes(line in vec(prop::sample::select(b"\"\"''\\\\ x4\t\x0b\r".to_vec()), 0..10)) {
        let bytes = [&line, b"\n".as_slice()].concat();
        let (frames, outcome) = requests(RequestScanner::unauthenticated(), [bytes.as_slice()]);
        match parse(&bytes) {
            Ok(arguments) => {
                let kind = if arguments.is_empty() { RequestKind::Nothing } else { RequestKind::Inline };
                prop_assert_eq!(frames, [(bytes.len(), kind)]);
            }
            Err(error) => prop_assert_eq!(outcome, Err(error)),
        }
    }

    /// The scanner and this parser have the same idea of what one frame is.
    #[test]
    fn the_scanner_agrees(
        begin in prop::sample::select(vec!["", "*1\r\n$3\r\n", "*2\r\n$1\r\na\r\n$2\r\n"]),
        middle in vec(prop::sample::select(b"*$-0123\r\n\"'\\ x\t\x0b\0".to_vec()), 0..14),
        end in prop::sample::select(vec!["", "\n", "\r\n"]),
    ) {
        let bytes = [begin.as_bytes(), &middle, end.as_bytes()].concat();
        let (frames, outcome) = requests(RequestScanner::unauthenticated(), [bytes.as_slice()]);
        let one = frames.len() == 1 && frames[0].0 == bytes.len() && outcome == Ok(true);
        match parse(&bytes) {
            Ok(arguments) => {
                prop_assert!(one, "parsed, but {frames:?} {outcome:?}");
                prop_assert_eq!(arguments.is_empty(), frames[0].1 == RequestKind::Nothing);
            }
            Err(error) => {
                prop_assert!(!one, "one frame, but {error:?}");
            }
        }
    }
}
