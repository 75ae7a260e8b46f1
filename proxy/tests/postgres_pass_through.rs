//! A client's own login through the proxy, byte by byte: a scripted client on one side, a scripted server on the other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod wire;

use std::future::Future;

use redis_tls_proxy::error::{Kind, Result, Side};
use redis_tls_proxy::postgres::{Login, message, pass_through};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use wire::{OK, expect, expect_fatal, startup};

/// Runs a login in which client and server do as scripted; the result and the proxy's two streams.
async fn run<F: Future<Output = ()>>(script: impl FnOnce(DuplexStream, DuplexStream) -> F) -> (Result<Login>, DuplexStream, DuplexStream) {
    let (mut client, far_client) = duplex(64 * 1024);
    let (mut upstream, far_upstream) = duplex(64 * 1024);
    let startup = startup();
    let mut owing = Side::Upstream;
    let (result, ()) = tokio::join!(pass_through(&mut client, &mut upstream, &startup, &mut owing), script(far_client, far_upstream));
    (result, client, upstream)
}

#[tokio::test]
async fn channel_binding_is_taken_out_and_everything_else_is_carried() {
    let notice = b"N\0\0\0\x08SX\0\0";
    let negotiated = b"v\0\0\0\x0c\0\0\0\0\0\0\0\0";
    let (result, mut client, mut upstream) = run(|mut client, mut server| async move {
        expect(&mut server, startup().raw()).await;
        server.write_all(negotiated).await.unwrap();
        server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"])).await.unwrap();
        expect(&mut client, negotiated).await;
        expect(&mut client, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await;
        let first = message::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc");
        // Byte by byte, with the server talking meanwhile: waiting for both sides must not lose a part of either.
        for byte in &first {
            client.write_all(&[*byte]).await.unwrap();
            server.write_all(notice).await.unwrap();
            expect(&mut client, notice).await;
        }
        expect(&mut server, &first).await;
        server.write_all(&message::authentication_sasl_continue(b"r=abcdef")).await.unwrap();
        expect(&mut client, &message::authentication_sasl_continue(b"r=abcdef")).await;
        let second = message::sasl_response(b"c=biws");
        client.write_all(&second).await.unwrap();
        expect(&mut server, &second).await;
        // The client is ahead, and the server sends more than the login in one piece.
        client.write_all(b"Qahead").await.unwrap();
        server.write_all(&message::authentication_sasl_final(b"v=x")).await.unwrap();
        server.write_all(&[OK, b"S....K....Z"].concat()).await.unwrap();
        expect(&mut client, &message::authentication_sasl_final(b"v=x")).await;
        expect(&mut client, OK).await;
    })
    .await;
    assert_eq!(result.unwrap(), Login::Ready);
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "Qahead");
    rest.clear();
    upstream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "S....K....Z");
}

#[tokio::test]
async fn other_methods_pass_and_trust_needs_no_answer() {
    for code in [3, 5, 7, 9] {
        let mut request = vec![b'R', 0, 0, 0, if code == 5 { 12 } else { 8 }, 0, 0, 0, code];
        request.extend(if code == 5 { &b"salt"[..] } else { b"" });
        let (result, ..) = run(|mut client, mut server| async move {
            server.write_all(&request).await.unwrap();
            expect(&mut client, &request).await;
            client.write_all(&message::password("hash")).await.unwrap();
            expect(&mut server, startup().raw()).await;
            expect(&mut server, &message::password("hash")).await;
            server.write_all(OK).await.unwrap();
            expect(&mut client, OK).await;
        })
        .await;
        assert_eq!(result.unwrap(), Login::Ready);
    }
    let (result, ..) = run(|mut client, mut server| async move {
        server.write_all(OK).await.unwrap();
        expect(&mut client, OK).await;
    })
    .await;
    assert_eq!(result.unwrap(), Login::Ready);
}

#[tokio::test]
async fn the_servers_error_reaches_the_client_verbatim() {
    let error = message::fatal("53300", "remaining connection slots are reserved");
    let (result, ..) = run(|mut client, mut server| async move {
        server.write_all(&error).await.unwrap();
        expect(&mut client, &error).await;
        expect(&mut server, startup().raw()).await;
    })
    .await;
    assert!(matches!(result, Ok(Login::Refused(Some(code))) if code.as_str() == "53300"));
}

#[tokio::test]
async fn a_client_that_leaves_to_ask_for_a_password_is_not_an_error() {
    let ((mut client, mut far_client), (mut upstream, mut server)) = (duplex(4096), duplex(4096));
    server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256"])).await.unwrap();
    let leaving = async move { expect(&mut far_client, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await };
    let startup = startup();
    let mut owing = Side::Upstream;
    let (result, ()) = tokio::join!(pass_through(&mut client, &mut upstream, &startup, &mut owing), leaving);
    assert_eq!(result.unwrap(), Login::ClientGone);
}

#[tokio::test]
async fn what_does_not_belong_in_a_login_ends_it() {
    for (from_server, kind) in [
        (message::authentication_sasl(&[b"SCRAM-SHA-256-PLUS"]), Kind::Login),
        (b"R\x7f\xff\xff\xff\0\0\0\0".to_vec(), Kind::Protocol),
        (b"R\0\0\0\x03\0\0\0\0".to_vec(), Kind::Protocol),
        (b"R\0\0\0\x0a\0\0\0\x0aXY".to_vec(), Kind::Protocol),
        (b"D\0\0\0\x04".to_vec(), Kind::Protocol),
        (b"R\0\0".to_vec(), Kind::Io),
        (Vec::new(), Kind::Io),
    ] {
        let (result, ..) = run(|mut client, mut server| async move {
            expect(&mut server, startup().raw()).await;
            server.write_all(&from_server).await.unwrap();
            drop(server);
            expect_fatal(&mut client, "08006").await;
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!((error.side, error.kind), (Side::Upstream, kind));
    }
    let (result, ..) = run(|mut client, mut server| async move {
        server.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
        client.write_all(b"Q\0\0\0\x05\0").await.unwrap();
        expect(&mut client, b"R\0\0\0\x08\0\0\0\x03").await;
        expect_fatal(&mut client, "08P01").await;
        expect(&mut server, startup().raw()).await;
    })
    .await;
    assert_eq!(result.unwrap_err().side, Side::Client);
}
