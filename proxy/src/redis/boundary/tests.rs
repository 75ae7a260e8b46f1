//! Tables of what both sides send, and whether the client is idle after it.

use super::*;

enum Sent {
    Client(&'static [u8]),
    Upstream(&'static [u8]),
}
use Sent::{Client, Upstream};

/// Feeds each step whole and, in a second tracker, byte by byte; both must agree after each step.
fn check(steps: &[(Sent, bool)]) {
    let (mut whole, mut single) = (Boundary::new(), Boundary::new());
    assert!(whole.is_idle());
    for (at, (sent, idle)) in steps.iter().enumerate() {
        match sent {
            Client(bytes) => {
                whole.on_client(bytes);
                bytes.chunks(1).for_each(|byte| single.on_client(byte));
            }
            Upstream(bytes) => {
                whole.on_upstream(bytes);
                bytes.chunks(1).for_each(|byte| single.on_upstream(byte));
            }
        }
        assert_eq!(whole.is_idle(), *idle, "whole, after step {at}");
        assert_eq!(single.is_idle(), *idle, "byte by byte, after step {at}");
    }
}

#[test]
fn a_client_is_idle_when_nothing_is_owed() {
    check(&[
        (Client(b"*1\r\n$4\r\nPI"), false),
        (Client(b"NG\r\n"), false),
        (Upstream(b"+PO"), false),
        (Upstream(b"NG\r\n"), true),
        (Client(b"GET a\r\nGET b\r\n\r\n*0\r\n"), false),
        (Upstream(b"$1\r\na\r\n"), false),
        (Upstream(b"$-1\r\n"), true),
        (Client(b"\r\n"), true),
        (Client(b"\r"), false),
        (Client(b"\n"), true),
        // A blocked pop owes.
        (Client(b"BLPOP q 0\r\n"), false),
        (Upstream(b"*2\r\n$1\r\nq\r\n"), false),
        (Upstream(b"$1\r\nx\r\n"), true),
    ]);
}

#[test]
fn pushes_answer_nothing_but_a_subscription_does() {
    check(&[
        (Client(b"GET a\r\n"), false),
        (Upstream(b">2\r\n$10\r\ninvalidate\r\n_\r\n"), false),
        (Upstream(b"$1\r\na\r\n"), true),
        (Client(b"SUBSCRIBE a b\r\n"), false),
        (Upstream(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"), true),
        (Upstream(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n"), false),
        (Upstream(b"$1\r\nm\r\n"), true),
        (Client(b"PING\r\n"), false),
        (Upstream(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"), false),
        (Upstream(b"+PONG\r\n"), true),
    ]);
}

#[test]
fn more_replies_than_requests_do_not_count_below_zero() {
    check(&[
        (Client(b"SUBSCRIBE a b\r\n"), false),
        (Upstream(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"), true),
        (Upstream(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"), true),
        (Client(b"PING\r\n"), false),
        (Upstream(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), true),
    ]);
}

#[test]
fn a_broken_side_is_never_idle_again() {
    check(&[
        (Client(b"*x\r\n"), false),
        (Upstream(b"-ERR Protocol error: invalid multibulk length\r\n"), false),
        (Client(b"PING\r\n"), false),
    ]);
    check(&[(Upstream(b"HTTP/1.1 200\r\n"), false), (Client(b"PING\r\n"), false), (Upstream(b"+PONG\r\n"), false)]);
    let mut boundary = Boundary::new();
    boundary.on_upstream(b"?");
    assert!(boundary.is_lost());
}

#[test]
fn it_is_small() {
    assert!(size_of::<Boundary>() <= 120, "{}", size_of::<Boundary>());
}
