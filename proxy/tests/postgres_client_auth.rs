//! The local password of a client: proved, guessed wrongly, not answered at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod wire;

use std::num::NonZeroU32;
use std::time::Duration;

use redis_tls_proxy::error::{Kind, Side};
use redis_tls_proxy::postgres::message::SqlState;
use redis_tls_proxy::postgres::scram::{Binding, Keys, Start, Verifier};
use redis_tls_proxy::postgres::{Login, authenticate, message};
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use wire::{expect, expect_fatal, next, startup};

fn verifier() -> Verifier {
    Verifier::new(&"local".to_owned().into(), [9; 16], NonZeroU32::new(16).unwrap())
}

/// A client that answers as libpq does; the server's last message.
async fn libpq(client: &mut DuplexStream, password: &str) -> (u8, Vec<u8>) {
    expect(client, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await;
    let start = Start::new("client+nonce", Binding::Unable);
    client.write_all(&message::sasl_initial_response("SCRAM-SHA-256", start.message().as_bytes())).await.unwrap();
    let (kind, body) = next(client).await;
    assert_eq!((kind, &body[..4]), (b'R', &[0, 0, 0, 11][..]));
    let challenge = start.update(&body[4..]).unwrap();
    let keys = Keys::derive(&password.to_owned().into(), challenge.salt(), challenge.iterations());
    let (answer, end) = challenge.answer(&keys);
    client.write_all(&message::sasl_response(answer.as_bytes())).await.unwrap();
    let (kind, body) = next(client).await;
    if kind == b'R' {
        assert_eq!(body[..4], [0, 0, 0, 12]);
        end.finish(&body[4..]).unwrap();
    }
    (kind, body)
}

#[tokio::test]
async fn the_right_password_is_proved_both_ways() {
    let (mut near, mut far) = duplex(4096);
    let (verifier, startup) = (verifier(), startup());
    let (result, (kind, _)) = tokio::join!(authenticate(&mut near, &startup, &verifier), libpq(&mut far, "local"));
    assert_eq!((result.unwrap(), kind), (Login::Ready, b'R'));
}

#[tokio::test(start_paused = true)]
async fn the_wrong_password_is_refused_after_a_while_by_name() {
    let (mut near, mut far) = duplex(4096);
    let (verifier, startup) = (verifier(), startup());
    let began = tokio::time::Instant::now();
    let client = async move {
        let (kind, body) = libpq(&mut far, "guess").await;
        assert_eq!(kind, b'E');
        assert!(began.elapsed() >= Duration::from_millis(250));
        assert_eq!(SqlState::of_error(&body).unwrap().as_str(), "28P01");
        assert!(String::from_utf8_lossy(&body).contains("password authentication failed for user \"harbor\""));
    };
    let (result, ()) = tokio::join!(authenticate(&mut near, &startup, &verifier), client);
    let error = result.unwrap_err();
    assert_eq!((error.side, error.kind), (Side::Client, Kind::Login));
}

#[tokio::test]
async fn other_answers_are_refused_and_leaving_is_not() {
    for answer in [
        message::sasl_initial_response("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=abc"),
        message::sasl_initial_response("SCRAM-SHA-256", b"p=tls-unique,,n=,r=abc"),
        message::sasl_initial_response("SCRAM-SHA-256", b"\xff"),
        message::password("local"),
        b"Q\0\0\0\x05\0".to_vec(),
        b"p\0\0\x10\0aaaa".to_vec(),
        b"p\xff\xff\xff\xff".to_vec(),
    ] {
        let (mut near, mut far) = duplex(4096);
        let (verifier, startup) = (verifier(), startup());
        far.write_all(&answer).await.unwrap();
        let client = async move {
            expect(&mut far, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await;
            expect_fatal(&mut far, "08P01").await;
        };
        let (result, ()) = tokio::join!(authenticate(&mut near, &startup, &verifier), client);
        assert_eq!(result.unwrap_err().kind, Kind::Protocol, "{answer:?}");
    }
    let (mut near, mut far) = duplex(4096);
    let client = async move { expect(&mut far, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await };
    let (verifier, startup) = (verifier(), startup());
    let (result, ()) = tokio::join!(authenticate(&mut near, &startup, &verifier), client);
    assert_eq!(result.unwrap(), Login::ClientGone);
}
