//! Both logins over an in-memory pipe, with a paused clock: a test that waits for nothing that comes would fail at once, on its deadline.

use tokio::io::duplex;
use tokio::time::{Instant, timeout};

use super::*;

const LIMIT: Duration = Duration::from_secs(600);

/// Sends `input` in `pieces` and then closes that direction; the outcome and all that was answered.
async fn visit<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Result<Greeting>, Vec<u8>) {
    let (mut client, mut proxy) = duplex(1 << 20);
    for piece in pieces {
        client.write_all(piece).await.unwrap();
    }
    client.shutdown().await.unwrap();
    let outcome = timeout(LIMIT, authenticate(&mut proxy, BytesMut::new(), |password| password == b"sesame")).await.expect("hangs");
    drop(proxy);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (outcome, answer)
}

fn kind(outcome: Result<Greeting>) -> Kind {
    let error = outcome.unwrap_err();
    assert_eq!(error.side, Side::Client);
    assert!(!error.why.contains("sesame"));
    error.kind
}

#[tokio::test(start_paused = true)]
async fn what_follows_the_login_is_not_lost() {
    let auth = encode(&[b"AUTH", b"any", b"sesame"]);
    let input = [b"\r\nPING\r\n".as_slice(), &auth, b"SELECT 1\r\n*1\r\n$4\r\nPI"].concat();
    for at in 0..=input.len() {
        let (a, b) = input.split_at(at);
        let (outcome, answer) = visit([a, b]).await;
        assert_eq!(outcome.unwrap(), Greeting::Welcome { forward: b"SELECT 1\r\n*1\r\n$4\r\nPI".to_vec() });
        assert_eq!(answer, b"-NOAUTH Authentication required.\r\n+OK\r\n");
    }
    let (outcome, answer) = visit([b"HELLO 3 AUTH a sesame SETNAME n\r\nPING\r\n".as_slice()]).await;
    let forward = [encode(&[b"HELLO", b"3", b"SETNAME", b"n"]), b"PING\r\n".to_vec()].concat();
    assert_eq!(outcome.unwrap(), Greeting::Welcome { forward });
    assert_eq!(answer, b"");
}

/// The client waits for each answer, as it would in life, and its bytes come one at a time.
#[tokio::test]
async fn answers_do_not_wait_for_more_input() {
    let (mut client, mut proxy) = duplex(1);
    let talk = async {
        for (ask, answer) in [(b"HELLO 3\r\n".to_vec(), "-NOAUTH HELLO"), (encode(&[b"AUTH", b"sesame"]), "+OK\r\n")] {
            client.write_all(&ask).await.unwrap();
            let mut got = vec![0; answer.len()];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, answer.as_bytes());
            while !got.ends_with(b"\r\n") {
                got.push(client.read_u8().await.unwrap());
            }
        }
    };
    let (outcome, ()) = tokio::join!(authenticate(&mut proxy, BytesMut::new(), |password| password == b"sesame"), talk);
    assert_eq!(outcome.unwrap(), Greeting::Welcome { forward: Vec::new() });
}

#[tokio::test(start_paused = true)]
async fn leaving_is_an_error_only_for_one_who_was_refused() {
    assert_eq!(visit([]).await.0.unwrap(), Greeting::Left);
    assert_eq!(visit([b"\r\n".as_slice()]).await.0.unwrap(), Greeting::Left);
    assert_eq!(visit([b"*2\r\n$4\r\nAU".as_slice()]).await.0.unwrap(), Greeting::Left);
    let (outcome, answer) = visit([b"quit\r\nAUTH sesame\r\n".as_slice()]).await;
    assert_eq!((outcome.unwrap(), answer.as_slice()), (Greeting::Left, &b"+OK\r\n"[..]));
    assert_eq!(kind(visit([b"PING\r\n".as_slice()]).await.0), Kind::Login);
    assert_eq!(kind(visit([b"AUTH x\r\n".as_slice()]).await.0), Kind::Login);
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_are_slowed_down_and_end() {
    let begin = Instant::now();
    let (outcome, answer) = visit([b"AUTH x\r\n".repeat(9).as_slice(), b"AUTH sesame\r\n"]).await;
    assert_eq!(outcome.unwrap(), Greeting::Welcome { forward: Vec::new() });
    assert_eq!(answer, [gate::WRONG_PASSWORD.repeat(9).as_slice(), b"+OK\r\n"].concat());
    assert_eq!(begin.elapsed(), WRONG_PASSWORD_DELAY * 9);
    let (outcome, answer) = visit([b"HELLO 3 AUTH a x\r\n".repeat(10).as_slice(), b"AUTH sesame\r\n"]).await;
    assert_eq!(kind(outcome), Kind::Login);
    assert_eq!(answer, gate::WRONG_PASSWORD.repeat(10));
}

#[tokio::test(start_paused = true)]
async fn protocol_errors_are_answered_and_end() {
    for (input, text) in [
        (&b"*11\r\n"[..], "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"AUTH 'sesame\r\n", "unbalanced quotes in request"),
        (b"1 2 3 4 5 6 7 8 9 0 1\r\n", "unauthenticated multibulk length"),
    ] {
        let (outcome, answer) = visit([b"PING\r\n", input, b"AUTH sesame\r\n"]).await;
        assert_eq!(kind(outcome), Kind::Protocol);
        assert_eq!(
            answer.escape_ascii().to_string(),
            format!("-NOAUTH Authentication required.\\r\\n-ERR Protocol error: {text}\\r\\n").replace('\'', "\\'")
        );
    }
    let (outcome, answer) = visit([b"POST / HTTP/1.1\r\nHost: x\r\n\r\nAUTH sesame\r\n".as_slice()]).await;
    assert_eq!((kind(outcome), answer.as_slice()), (Kind::Protocol, &b""[..]));
    // A TLS client on a plaintext port: 64 KiB without a line end, or a zero byte.
    assert_eq!(kind(visit([b"\x16\x03\x01\x02\x00\x01".as_slice()]).await.0), Kind::Protocol);
}

/// Prefixes and single changed bytes of real logins: an answer, an end, never a panic or a wait.
#[tokio::test(start_paused = true)]
async fn every_prefix_and_mutation_ends() {
    let logins =
        [encode(&[b"AUTH", b"u", b"sesame"]), encode(&[b"HELLO", b"3", b"AUTH", b"u", b"sesame"]), b"AUTH u 'sesame'\r\n".to_vec()];
    for login in logins {
        for at in 0..login.len() {
            let (outcome, _) = visit([&login[..at]]).await;
            assert!(matches!(outcome, Ok(Greeting::Left)), "{at}");
            for byte in [0, b'\r', b'\n', b' ', b'0', b'9', b'-', b'$', b'*', b'"', b'\'', b'\\', 0xff, login[at] ^ 1] {
                let mut changed = login.clone();
                changed[at] = byte;
                let (outcome, answer) = visit([changed.as_slice()]).await;
                let (frames, end) = crate::redis::frame::fuzz::replies([answer.as_slice()]);
                assert!(end == Ok(true), "answers are whole replies");
                match outcome {
                    Ok(Greeting::Left) => {
                        assert!(frames.is_empty() || answer.starts_with(b"-ERR") || answer.starts_with(b"-NOPROTO"));
                    }
                    Ok(Greeting::Welcome { .. }) => assert!(changed.windows(6).any(|window| window == b"sesame")),
                    Err(error) => assert!(matches!(error.kind, Kind::Login | Kind::Protocol)),
                }
            }
        }
    }
}

/// Logs in to a scripted server; the outcome, what the server got, and what is left unread.
async fn log_in(user: Option<&str>, password: Option<&str>, database: Option<u32>, script: &[u8]) -> (Result<()>, Vec<u8>, Vec<u8>) {
    let (mut proxy, mut server) = duplex(1 << 16);
    server.write_all(script).await.unwrap();
    let password = password.map(SecretString::from);
    // The server closes behind its script.
    server.shutdown().await.unwrap();
    let outcome = timeout(LIMIT, login(&mut proxy, user, password.as_ref(), database)).await.expect("hangs");
    let mut left = Vec::new();
    proxy.read_to_end(&mut left).await.unwrap();
    drop(proxy);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    (outcome, got, left)
}

#[tokio::test(start_paused = true)]
async fn login_reads_its_replies_and_no_more() {
    let select = b"*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n";
    let (outcome, got, left) = log_in(Some("u"), Some("p"), Some(12), b"+OK\r\n+OK\r\n>1\r\n").await;
    outcome.unwrap();
    assert_eq!(got, [b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n".as_slice(), select].concat());
    assert_eq!(left, b">1\r\n");
    let (outcome, got, left) = log_in(None, Some("p"), Some(0), b"+OK\r\nx").await;
    outcome.unwrap();
    assert_eq!((got.as_slice(), left.as_slice()), (&b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n"[..], &b"x"[..]));
    let (outcome, got, _) = log_in(None, None, Some(12), b"+OK\r\n").await;
    outcome.unwrap();
    assert_eq!(got, select);
    let (outcome, got, left) = log_in(Some("u"), None, None, b"x").await;
    outcome.unwrap();
    assert_eq!((got.as_slice(), left.as_slice()), (&b""[..], &b"x"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_says_what_to_do_and_not_what_the_server_said() {
    for (script, begin, cure) in [
        ("-WRONGPASS secret-text\r\n", "AUTH answered with WRONGPASS: ", "credentials"),
        ("+OK\r\n-NOAUTH secret-text\r\n", "SELECT answered with NOAUTH: ", "credentials"),
        ("+OK\r\n-NOPERM secret-text\r\n", "SELECT answered with NOPERM: ", "ACL"),
        ("-LOADING secret-text\r\n", "AUTH answered with LOADING: ", "tried again"),
        ("-BUSY secret-text\r\n", "AUTH answered with BUSY: ", "tried again"),
        ("-ERR max number of clients reached\r\n", "AUTH answered with ERR: ", "out of connections"),
        ("+OK\r\n-ERR DB index is out of range\r\n", "SELECT answered with ERR: ", "fewer databases"),
        ("-ERR secret-text\r\n", "AUTH answered with ERR: ", "the server's log"),
        ("-secret-text\r\n", "AUTH answered with an error: ", "the server's log"),
    ] {
        let passing = ["-LOADING", "-BUSY", "-ERR max"].iter().any(|begin| script.starts_with(begin));
        let kind = if passing { Kind::Unavailable } else { Kind::Login };
        let error = log_in(None, Some("sesame"), Some(3), script.as_bytes()).await.0.unwrap_err();
        assert_eq!((error.side, error.kind), (Side::Upstream, kind), "{script}");
        assert!(error.why.starts_with(begin) && error.why.contains(cure), "{error}");
        assert!(!error.why.contains("secret-text") && !error.why.contains("sesame"));
    }
    let long = [b"-ERR ".as_slice(), &[b'x'; MAX_LINE_BYTES]].concat();
    for (script, kind) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], Kind::Protocol),
        (b"$2\r\nOK\r\n", Kind::Protocol),
        (b"+PONG\r\n", Kind::Protocol),
        (&long, Kind::Protocol),
        (b"", Kind::Io),
        (b"+OK\r\n", Kind::Io),
    ] {
        let error = log_in(None, Some("p"), Some(3), script).await.0.unwrap_err();
        assert_eq!((error.side, error.kind), (Side::Upstream, kind));
    }
}

#[tokio::test(start_paused = true)]
async fn ping_is_one_round_trip() {
    for (script, kind) in [(&b"+PONG\r\n"[..], None), (b"-NOAUTH x\r\n", Some(Kind::Login)), (b"+OK\r\n", Some(Kind::Protocol))] {
        let (mut proxy, mut server) = duplex(1024);
        server.write_all(script).await.unwrap();
        assert_eq!(ping(&mut proxy).await.map_err(|error| error.kind).err(), kind);
        let mut got = [0; 14];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"*1\r\n$4\r\nPING\r\n");
    }
}

/// A client's task may move between threads, and this future is part of its memory.
#[tokio::test]
async fn the_futures_are_small_and_can_be_spawned() {
    fn bytes<T: Send>(future: &T) -> usize {
        size_of_val(future)
    }
    let (mut a, mut b) = duplex(1);
    let password = SecretString::from("p");
    assert!(bytes(&authenticate(&mut a, BytesMut::new(), |_| true)) <= 1024);
    assert!(bytes(&login(&mut b, None, Some(&password), None)) <= 1024);
}
