//! The proxy's own login upstream, against scripted servers that are right, wrong or hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod wire;

use std::future::Future;
use std::num::NonZeroU32;

use redis_tls_proxy::error::{Kind, Result, Side};
use redis_tls_proxy::postgres::scram::{Exchange, KeyCache, Verifier};
use redis_tls_proxy::postgres::{Account, Login, log_in, message};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use wire::{OK, expect, expect_fatal, next, startup, startup_packet};

const REWRITTEN: &[u8] = b"user\0doadmin\0database\0registry\0timezone\0UTC\0\0";

/// Runs a login with an account of ours, after the server has had its StartupMessage. The upstream is closed when the login is over.
async fn run<F: Future<Output = ()>>(allow_trust: bool, script: impl FnOnce(DuplexStream, DuplexStream) -> F) -> Result<Login> {
    let (mut client, far_client) = duplex(64 * 1024);
    let (mut upstream, mut far_upstream) = duplex(64 * 1024);
    let (keys, password) = (KeyCache::default(), SecretString::from("s3cret".to_owned()));
    let login = async {
        let account =
            Account { user: "doadmin", password: &password, database: Some("registry"), allow_trust, end_point: None, keys: &keys };
        let result = log_in(&mut client, &mut upstream, &startup(), account).await;
        drop(upstream);
        result
    };
    let script = async {
        expect(&mut far_upstream, &startup_packet(REWRITTEN)).await;
        script(far_client, far_upstream).await;
    };
    tokio::join!(login, script).0
}

/// A server that does SCRAM; `tamper` may change its last message.
async fn scram(server: &mut DuplexStream, password: &str, tamper: impl Fn(String) -> String) {
    let verifier = Verifier::new(&password.to_owned().into(), [3; 16], NonZeroU32::new(16).unwrap());
    server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"])).await.unwrap();
    let (_, body) = next(server).await;
    let (mechanism, first) = message::parse_sasl_initial_response(&body).unwrap();
    assert_eq!(mechanism, b"SCRAM-SHA-256");
    let (exchange, server_first) = Exchange::first(&verifier, first, "server+nonce").unwrap();
    server.write_all(&message::authentication_sasl_continue(server_first.as_bytes())).await.unwrap();
    let (_, body) = next(server).await;
    let last = match exchange.finish(&body) {
        Ok(last) => message::authentication_sasl_final(tamper(last).as_bytes()),
        Err(_) => message::fatal("28P01", "password authentication failed for user \"doadmin\""),
    };
    server.write_all(&last).await.unwrap();
}

#[tokio::test]
async fn scram_ends_with_authentication_ok_for_the_client() {
    let result = run(false, |mut client, mut server| async move {
        let notices = b"v\0\0\0\x0c\0\0\0\0\0\0\0\0N\0\0\0\x08SX\0\0";
        server.write_all(notices).await.unwrap();
        scram(&mut server, "s3cret", |last| last).await;
        server.write_all(OK).await.unwrap();
        expect(&mut client, notices).await;
        expect(&mut client, OK).await;
    });
    assert_eq!(result.await.unwrap(), Login::Ready);
}

#[tokio::test]
async fn md5_is_answered() {
    let result = run(false, |mut client, mut server| async move {
        server.write_all(b"R\0\0\0\x0c\0\0\0\x05salt").await.unwrap();
        let (kind, body) = next(&mut server).await;
        assert_eq!((kind, body.len()), (b'p', 36));
        assert!(body.starts_with(b"md5") && body.ends_with(b"\0"));
        server.write_all(OK).await.unwrap();
        expect(&mut client, OK).await;
    });
    assert_eq!(result.await.unwrap(), Login::Ready);
}

#[tokio::test]
async fn trust_is_taken_only_with_a_client_certificate() {
    let accepted = run(true, |mut client, mut server| async move {
        server.write_all(OK).await.unwrap();
        expect(&mut client, OK).await;
    });
    assert_eq!(accepted.await.unwrap(), Login::Ready);
    let refused = run(false, |mut client, mut server| async move {
        server.write_all(OK).await.unwrap();
        expect_fatal(&mut client, "08006").await;
    });
    assert_eq!(refused.await.unwrap_err().kind, Kind::Login);
}

#[tokio::test]
async fn downgrades_and_steps_out_of_order_are_refused() {
    for (request, word) in [
        (&b"R\0\0\0\x08\0\0\0\x03"[..], "asks for a cleartext password"),
        (b"R\0\0\0\x08\0\0\0\x07", "asks for GSSAPI"),
        (b"R\0\0\0\x08\0\0\0\x09", "asks for SSPI"),
        (b"R\0\0\0\x08\0\0\0\x63", "asks for an unknown method"),
        (b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0", "not SCRAM-SHA-256"),
        (b"R\0\0\0\x16\0\0\0\x0aOAUTHBEARER\0\0\0", "SASL mechanisms"),
        (b"R\0\0\0\x14\0\0\0\x0aOAUTHBEARER\0", "SASL mechanisms"),
        (b"R\0\0\0\x08\0\0\0\x0b", "asks for SASL"),
        (b"D\0\0\0\x04", "does not belong"),
    ] {
        let result = run(true, |mut client, mut server| async move {
            server.write_all(request).await.unwrap();
            let told = expect_fatal(&mut client, "08006").await;
            assert!(!told.contains("doadmin"));
            drop(client);
            let mut sent = Vec::new();
            server.read_to_end(&mut sent).await.unwrap();
            assert!(sent.is_empty(), "nothing is sent to a server that asks wrongly");
        });
        let error = result.await.unwrap_err();
        assert_eq!(error.side, Side::Upstream);
        assert!(error.why.contains(word), "{word}: {error}");
    }
}

#[tokio::test]
async fn a_server_must_prove_itself_before_it_says_ok() {
    let forged = run(false, |mut client, mut server| async move {
        scram(&mut server, "s3cret", |_| format!("v={}=", "A".repeat(43))).await;
        expect_fatal(&mut client, "08006").await;
    });
    let error = forged.await.unwrap_err();
    assert_eq!((error.side, error.kind), (Side::Upstream, Kind::Login));
    let skipped = run(true, |mut client, mut server| async move {
        server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256"])).await.unwrap();
        server.write_all(OK).await.unwrap();
        expect_fatal(&mut client, "08006").await;
    });
    assert!(skipped.await.unwrap_err().why.contains("out of order"));
}

#[tokio::test]
async fn our_wrong_password_is_our_trouble_and_other_errors_are_the_clients() {
    let wrong = run(false, |mut client, mut server| async move {
        scram(&mut server, "other", |last| last).await;
        let told = expect_fatal(&mut client, "08006").await;
        assert!(!told.contains("doadmin"), "{told}");
    });
    let error = wrong.await.unwrap_err();
    assert_eq!((error.side, error.kind), (Side::Upstream, Kind::Login));
    assert!(error.why.contains("28P01"));
    for code in ["53300", "57P03", "3D000"] {
        let forwarded = run(false, |mut client, mut server| async move {
            let words = message::fatal(code, "the server's own words");
            server.write_all(&words).await.unwrap();
            expect(&mut client, &words).await;
        });
        assert!(matches!(forwarded.await, Ok(Login::Refused(Some(seen))) if seen.as_str() == code));
    }
}
