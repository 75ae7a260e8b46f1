//! Literal frames, every cut, limits, generated streams, a second parser's opinion, random bytes; and how long a small frame takes.

use std::hint::black_box;

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz::{fuzz_replies, fuzz_requests, replies, requests};
use super::*;

use ReplyKind::{Push, Reply as Answer, Subscription};
use RequestKind::{Inline, Multibulk, Nothing};

/// A stream, and where its frames end.
type Case<K> = (&'static [u8], &'static [(usize, K)]);

/// Scans requests whole, cut once at every place and byte by byte; all must agree.
fn scan_requests(bytes: &[u8]) -> fuzz::Trace<RequestKind, RequestError> {
    let whole = requests(RequestScanner::new(), [bytes]);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(whole, requests(RequestScanner::new(), [a, b]), "cut at {at} of {:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(whole, requests(RequestScanner::new(), bytes.chunks(1)));
    whole
}

fn scan_replies(bytes: &[u8]) -> fuzz::Trace<ReplyKind, ReplyError> {
    let whole = replies([bytes]);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(whole, replies([a, b]), "cut at {at} of {:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(whole, replies(bytes.chunks(1)));
    whole
}

#[test]
fn requests_end_where_redis_ends_them() {
    let cases: &[Case<RequestKind>] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[(14, Multibulk)]),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &[(19, Multibulk)]),
        (b"*1\r\n$2\r\n\r\n\r\n*1\r\n$4\r\nPING\r\n", &[(12, Multibulk), (26, Multibulk)]),
        (b"PING\r\nPING\nping x\r\n", &[(6, Inline), (11, Inline), (19, Inline)]),
        (b"\r\n\nPING\r\n", &[(2, Nothing), (3, Nothing), (9, Inline)]),
        (b" \t\x0b\r\r\n\"\"\r\n", &[(6, Nothing), (10, Inline)]),
        (b"*0\r\n*-1\r\n*-9223372036854775808\r\nPING\n", &[(4, Nothing), (9, Nothing), (32, Nothing), (37, Inline)]),
        (b"\"a\\\"b\" 'c\\'d' e\\\"f\"\r\n", &[(21, Inline)]),
        (b"SET k '\\\\'' \"\\x0\\x41\"\n", &[(22, Inline)]),
        (b"a\"b\" \r\n", &[(7, Inline)]),
        (b" *1\r\n", &[(5, Inline)]),
    ];
    for (bytes, frames) in cases {
        assert_eq!(scan_requests(bytes), (frames.to_vec(), Ok(true)), "{:?}", bytes.escape_ascii().to_string());
    }
    for open in [&b"*"[..], b"*1\r\n", b"*1\r\n$4\r\nPING\r", b"PING", b"\r", b"*2\r\n$1\r\na\r\n"] {
        assert_eq!(scan_requests(open), (vec![], Ok(false)), "{:?}", open.escape_ascii().to_string());
    }
}

#[test]
fn broken_requests_are_named_in_redis_words() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*+1\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*-0\r\n", b"invalid multibulk length"),
        (b"*1 \r\n", b"invalid multibulk length"),
        (b"*2147483648\r\n", b"invalid multibulk length"),
        (b"*-9223372036854775809\r\n", b"invalid multibulk length"),
        (b"*99999999999999999999999\r\n", b"invalid multibulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$\r\n", b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
        (b"*1\r\nx\r\n", b"expected '$', got 'x'"),
        (b"*1\r\n\r\n", b"expected '$', got ' '"),
        (b"*1\r\n\xff4\r\n", b"expected '$', got '\xff'"),
        (b"*1\rX", b"expected CRLF"),
        (b"*1\r\n$1\rX", b"expected CRLF"),
        (b"*1\r\n$1\r\naXX", b"expected CRLF"),
        (b"*1\r\n$1\r\na\rX", b"expected CRLF"),
        (b"\"PI\"NG\r\n", b"unbalanced quotes in request"),
        (b"PING 'a\r\n", b"unbalanced quotes in request"),
        (b"PING \"a\\\"\r\n", b"unbalanced quotes in request"),
        (b"PING\0\r\n", b"zero byte in inline request"),
    ];
    for (bytes, text) in cases {
        let (frames, end) = scan_requests(bytes);
        assert_eq!(frames, []);
        assert_eq!(end.unwrap_err().reply(), [b"-ERR Protocol error: ", *text, b"\r\n"].concat(), "{:?}", bytes.escape_ascii().to_string());
    }
}

/// Redis finds a line too long when more than 64 KiB have arrived without its end.
#[test]
fn lines_are_limited_at_64_kib() {
    let long = |before: &[u8], fill: u8, length: usize, after: &[u8]| {
        let bytes = [before, &vec![fill; length], after].concat();
        let whole = requests(RequestScanner::new(), [bytes.as_slice()]);
        assert_eq!(whole, requests(RequestScanner::new(), bytes.chunks(1)));
        whole.1
    };
    assert_eq!(long(b"", b'x', 65536, b"\n"), Ok(true));
    assert_eq!(long(b"", b'x', 65537, b""), Err(RequestError::LongInline));
    assert_eq!(long(b"*", b'1', 65535, b"\r\n"), Err(RequestError::Count));
    assert_eq!(long(b"*", b'1', 65536, b""), Err(RequestError::LongCount));
    assert_eq!(long(b"*1\r\n$", b'1', 65535, b"\r\n"), Err(RequestError::Length));
    assert_eq!(long(b"*1\r\n$", b'1', 65536, b""), Err(RequestError::LongLength));
    assert_eq!(long(b"*1\r\nx", b'1', 65536, b""), Err(RequestError::LongLength));
}

#[test]
fn counts_and_lengths_are_limited() {
    let end = |scanner: RequestScanner, bytes: &[u8]| requests(scanner, [bytes]).1;
    for (bytes, trusted, untrusted) in [
        (&b"*10\r\n"[..], Ok(false), Ok(false)),
        (b"*11\r\n", Ok(false), Err(RequestError::UnauthenticatedCount)),
        (b"*2147483647\r\n", Ok(false), Err(RequestError::UnauthenticatedCount)),
        (b"*2147483648\r\n", Err(RequestError::Count), Err(RequestError::Count)),
        (b"*1\r\n$16384\r\n", Ok(false), Ok(false)),
        (b"*1\r\n$16385\r\n", Ok(false), Err(RequestError::UnauthenticatedLength)),
        (b"*1\r\n$536870912\r\n", Ok(false), Err(RequestError::UnauthenticatedLength)),
        (b"*1\r\n$536870913\r\n", Err(RequestError::Length), Err(RequestError::Length)),
    ] {
        assert_eq!(end(RequestScanner::new(), bytes), trusted);
        assert_eq!(end(RequestScanner::unauthenticated(), bytes), untrusted);
    }
    assert!(size_of::<RequestScanner>() <= 40 && size_of::<ReplyScanner>() <= 56);
}

#[test]
fn replies_of_every_type_end_where_they_should() {
    let cases: &[Case<ReplyKind>] = &[
        (b"+OK\r\n-ERR x\r\n:-1\r\n", &[(5, Answer), (13, Answer), (18, Answer)]),
        (b"+\r\n+a\rb\r\n", &[(3, Answer), (9, Answer)]),
        (b"+a status line that is longer than sixteen bytes\r\n_\r\n", &[(50, Answer), (53, Answer)]),
        (b"$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n", &[(5, Answer), (10, Answer), (14, Answer), (20, Answer)]),
        (b"#t\r\n,1.5\r\n(123\r\n!3\r\nERR\r\n=5\r\ntxt:a\r\n", &[(4, Answer), (10, Answer), (16, Answer), (25, Answer), (36, Answer)]),
        (b"*2\r\n*1\r\n:1\r\n$1\r\n\n\r\n+OK\r\n", &[(19, Answer), (24, Answer)]),
        (b"%1\r\n+a\r\n~1\r\n_\r\n%0\r\n~0\r\n", &[(15, Answer), (19, Answer), (23, Answer)]),
        (b"*2\r\n*-1\r\n$-1\r\n", &[(14, Answer)]),
        // Attributes, of the frame and inside it, belong to what follows.
        (b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n", &[(21, Answer)]),
        (b"|0\r\n|0\r\n+OK\r\n", &[(13, Answer)]),
        (b"*1\r\n|1\r\n+a\r\n*0\r\n:1\r\n+x\r\n", &[(20, Answer), (24, Answer)]),
        // Pushes.
        (b">2\r\n$10\r\ninvalidate\r\n_\r\n+OK\r\n", &[(24, Push), (29, Answer)]),
        (b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$9\r\nsubscribe\r\n", &[(39, Push)]),
        (b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", &[(30, Subscription)]),
        (b">3\r\n$12\r\npunsubscribe\r\n_\r\n:0\r\n", &[(30, Subscription)]),
        (b">0\r\n>2\r\n$-1\r\n$9\r\nsubscribe\r\n>1\r\n+subscribe\r\n", &[(4, Push), (28, Push), (44, Push)]),
        (b"|0\r\n>1\r\n:1\r\n", &[(12, Push)]),
    ];
    for (bytes, frames) in cases {
        assert_eq!(scan_replies(bytes), (frames.to_vec(), Ok(true)), "{:?}", bytes.escape_ascii().to_string());
    }
    for open in [&b"+OK\r"[..], b"*1\r\n", b"|0\r\n", b"|1\r\n+a\r\n+b\r\n", b"$1\r\na", b">1\r\n"] {
        assert_eq!(scan_replies(open), (vec![], Ok(false)), "{:?}", open.escape_ascii().to_string());
    }
}

#[test]
fn broken_replies_are_refused() {
    use ReplyError::{Length, LineEnd, NestedPush, Streamed, Type};
    let cases: &[(&[u8], ReplyError)] = &[
        (b"HTTP/1.1 400\r\n", Type(b'H')),
        (b"\x15\x03\x01", Type(0x15)),
        (b"\r\n", Type(b'\r')),
        (b"+OK\n", LineEnd),
        (b"+a status line that is longer than sixteen bytes\n", LineEnd),
        (b"$1\r\nab\r\n", LineEnd),
        (b"$1\rx", LineEnd),
        (b"$0\r\n\rx", LineEnd),
        (b"$-2\r\n", Length),
        (b"$\r\n", Length),
        (b"$01\r\n", Length),
        (b"*+1\r\n", Length),
        (b"%-1\r\n", Length),
        (b">-1\r\n", Length),
        (b"$4294967296\r\n", Length),
        (b"*4294967296\r\n", Length),
        (b"*?\r\n", Streamed),
        (b"$?\r\n", Streamed),
        (b"*1\r\n>1\r\n+a\r\n", NestedPush),
        (b">1\r\n>1\r\n+a\r\n", NestedPush),
        (b"|1\r\n>0\r\n+a\r\n+b\r\n", NestedPush),
    ];
    for (bytes, error) in cases {
        assert_eq!(scan_replies(bytes), (vec![], Err(*error)), "{:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(replies([b"$4294967295\r\n".as_slice(), b"*4294967295\r\n"]).1, Ok(false));
}

#[test]
fn reply_lines_are_limited() {
    let chunk = vec![b'x'; 1 << 20];
    let full = usize::try_from(MAX_REPLY_LINE).unwrap() / chunk.len();
    let pieces = |end: &'static [u8]| std::iter::once(b"+".as_slice()).chain(std::iter::repeat_n(chunk.as_slice(), full)).chain([end]);
    assert_eq!(replies(pieces(b"\r\n")).1, Ok(true));
    assert_eq!(replies(pieces(b"x\r\n")).1, Err(ReplyError::Line));
}

/// Lengths and counts on both sides of one, two, three and four digits, which take different ways through the scanners.
#[test]
fn lengths_of_every_size_end_alike() {
    for size in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 1001] {
        let payload = b"\r".repeat(size);
        let request = crate::redis::command::encode(&[b"SET", &payload, b"x"]);
        let two = [request.as_slice(), &request].concat();
        assert_eq!(scan_requests(&two), (vec![(request.len(), Multibulk), (two.len(), Multibulk)], Ok(true)));
        let broken = [format!("*1\r\n${size}\r\n").as_bytes(), &payload, b"xx\r\n"].concat();
        assert_eq!(scan_requests(&broken), (vec![], Err(RequestError::LineEnd)));

        let reply = [format!("*2\r\n${size}\r\n").as_bytes(), &payload, b"\r\n:1\r\n"].concat();
        let two = [reply.as_slice(), &reply].concat();
        assert_eq!(scan_replies(&two), (vec![(reply.len(), Answer), (two.len(), Answer)], Ok(true)));
        let broken = [format!("${size}\r\n").as_bytes(), &payload, b"xx\r\n"].concat();
        assert_eq!(scan_replies(&broken), (vec![], Err(ReplyError::LineEnd)));

        if size > 0 {
            let request = crate::redis::command::encode(&vec![b"".as_slice(); size]);
            assert_eq!(scan_requests(&request), (vec![(request.len(), Multibulk)], Ok(true)));
        }
        let reply = [format!("~{size}\r\n").into_bytes(), b"_\r\n".repeat(size)].concat();
        assert_eq!(scan_replies(&reply), (vec![(reply.len(), Answer)], Ok(true)));
    }
}

#[test]
fn nesting_costs_no_memory_and_ends() {
    let deep = [b"*1\r\n".repeat(200_000), b":1\r\n".to_vec()].concat();
    assert_eq!(replies([deep.as_slice()]), (vec![(deep.len(), Answer)], Ok(true)));
}

/// A valid reply that is no push.
fn any_reply() -> impl Strategy<Value = Vec<u8>> {
    fn bulk(kind: char) -> impl Fn(Vec<u8>) -> Vec<u8> {
        move |payload| [format!("{kind}{}\r\n", payload.len()).as_bytes(), payload.as_slice(), b"\r\n"].concat()
    }
    let leaf = prop_oneof![
        "[a-zA-Z0-9 ]{0,40}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        "[A-Z]{1,9} [a-z ]{0,20}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        any::<bool>().prop_map(|yes| format!("#{}\r\n", if yes { 't' } else { 'f' }).into_bytes()),
        (-1000i32..1000).prop_map(|number| format!(",{number}.5\r\n").into_bytes()),
        vec(any::<u8>(), 0..40).prop_map(bulk('$')),
        "[A-Z]{1,9} [a-z]{0,9}".prop_map(|text| bulk('!')(text.into_bytes())),
        "[a-z\r\n]{0,20}".prop_map(|text| bulk('=')(format!("txt:{text}").into_bytes())),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            (prop_oneof![Just('*'), Just('~')], vec(inner.clone(), 0..6)).prop_map(|(kind, items)| [
                format!("{kind}{}\r\n", items.len()).into_bytes(),
                items.concat()
            ]
            .concat()),
            (prop_oneof![Just('%'), Just('|')], vec((inner.clone(), inner.clone()), 0..3), inner).prop_map(|(kind, pairs, after)| {
                let mut out = format!("{kind}{}\r\n", pairs.len()).into_bytes();
                for (key, value) in pairs {
                    out.extend([key, value].concat());
                }
                if kind == '|' {
                    out.extend(after);
                }
                out
            }),
        ]
    })
}

/// A valid request and what it is.
fn any_request() -> impl Strategy<Value = (Vec<u8>, RequestKind)> {
    let multibulk = vec(vec(any::<u8>(), 0..40), 1..8).prop_map(|arguments| {
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        (crate::redis::command::encode(&arguments), Multibulk)
    });
    let inline =
        "[a-z]{1,9}( [a-z0-9]{1,9}| '[^'\n\\\\\0]{0,9}'| \"[^\"\n\\\\\0]{0,9}\"){0,4}\r?\n".prop_map(|line| (line.into_bytes(), Inline));
    let nothing = prop::sample::select(vec!["\r\n", "\n", "*0\r\n", "*-7\r\n", " \r\n"]);
    prop_oneof![4 => multibulk, 2 => inline, 1 => nothing.prop_map(|line| (line.as_bytes().to_vec(), Nothing))]
}

/// Cuts `bytes` at `cuts`, taken modulo its length.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn generated_requests_cut_anywhere((stream, cuts) in (vec(any_request(), 1..8), vec(any::<usize>(), 0..8))) {
        let bytes: Vec<u8> = stream.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut end = 0;
        let frames: Vec<_> = stream.iter().map(|(bytes, kind)| { end += bytes.len(); (end, *kind) }).collect();
        prop_assert_eq!(requests(RequestScanner::new(), pieces(&bytes, &cuts)), (frames, Ok(true)));
    }

    #[test]
    fn generated_replies_cut_anywhere((stream, cuts) in (vec(any_reply(), 1..5), vec(any::<usize>(), 0..8))) {
        let bytes = stream.concat();
        let mut end = 0;
        let frames: Vec<_> = stream.iter().map(|bytes| { end += bytes.len(); (end, Answer) }).collect();
        prop_assert_eq!(replies(pieces(&bytes, &cuts)), (frames, Ok(true)));
    }

    /// The `redis` crate reads the same stream as the same number of values, and no prefix of a reply as a value.
    #[test]
    fn another_parser_agrees(stream in vec(any_reply(), 1..4)) {
        let bytes = stream.concat();
        let mut parser = redis::Parser::new();
        let mut reader = bytes.as_slice();
        let mut values = 0;
        while parser.parse_value(&mut reader).is_ok() {
            values += 1;
        }
        prop_assert_eq!(values, replies([bytes.as_slice()]).0.len());
        let first = &stream[0];
        for end in 1..first.len() {
            prop_assert!(redis::parse_redis_value(&first[..end]).is_err());
            prop_assert_eq!(replies([&first[..end]]), (vec![], Ok(false)));
        }
    }

    #[test]
    fn random_bytes_are_cut_alike(data in vec(any::<u8>(), 0..200)) {
        fuzz_requests(&data);
        fuzz_replies(&data);
    }

    /// Bytes that come near to frames.
    #[test]
    fn nearly_frames_are_cut_alike(data in vec(prop::sample::select(b"*$+-:_#,(!=%~>|0123\r\n\"'\\ x?\0".to_vec()), 0..80)) {
        fuzz_requests(&data);
        fuzz_replies(&data);
    }

    #[test]
    fn mutated_frames_are_cut_alike((request, reply, at, byte) in (any_request(), any_reply(), any::<usize>(), any::<u8>())) {
        for (mut data, fuzz) in [(request.0, fuzz_requests as fn(&[u8])), (reply, fuzz_replies)] {
            let at = at % data.len();
            data[at] = byte;
            fuzz(&[&[byte, 7], data.as_slice()].concat());
        }
    }
}

/// `cargo test --release -p redis-tls-proxy frame -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn nanoseconds_per_frame() {
    const FRAMES: usize = 100;
    const ROUNDS: usize = 20_000;
    let print = |name: &str, frame: &[u8], scan: &mut dyn FnMut(&[u8]) -> usize| {
        let stream = frame.repeat(FRAMES);
        let best = (0..5)
            .map(|_| {
                let begin = tokio::time::Instant::now();
                for _ in 0..ROUNDS {
                    assert_eq!(scan(black_box(&stream)), FRAMES);
                }
                begin.elapsed()
            })
            .min()
            .unwrap();
        println!("{name}: {:.1} ns", best.as_secs_f64() * 1e9 / (FRAMES * ROUNDS) as f64);
    };
    let mut scanner = RequestScanner::new();
    let mut scan = |mut bytes: &[u8]| {
        let mut frames = 0;
        while let Some(request) = scanner.next(bytes).unwrap() {
            bytes = &bytes[request.end..];
            frames += 1;
        }
        frames
    };
    print("GET", b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n", &mut scan);
    print("SET", b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nxxx\r\n", &mut scan);
    let long = crate::redis::command::encode(&[b"x".repeat(60).as_slice(); 102]);
    print("EVALSHA of 102 keys", &long, &mut scan);
    let mut scanner = ReplyScanner::new();
    let mut scan = |mut bytes: &[u8]| {
        let mut frames = 0;
        while let Some(reply) = scanner.next(bytes).unwrap() {
            bytes = &bytes[reply.end..];
            frames += 1;
        }
        frames
    };
    print("+OK", b"+OK\r\n", &mut scan);
    print("bulk", b"$3\r\nxxx\r\n", &mut scan);
    print("array of 10", &[b"*10\r\n".as_slice(), &b"$3\r\nxxx\r\n".repeat(10)].concat(), &mut scan);
}
