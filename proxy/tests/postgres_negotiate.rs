//! A client's first packets on a real socket: what is answered, what is refused, what stays unread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use redis_tls_proxy::error::{Kind, Result, Side};
use redis_tls_proxy::postgres::message::SqlState;
use redis_tls_proxy::postgres::startup::SSL_REQUEST;
use redis_tls_proxy::postgres::{NoTls, Opening, TlsStart, negotiate};
use redis_tls_proxy::stream::{Socket, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use wire::{expect, expect_fatal, startup_packet};

const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL: [u8; 16] = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];

fn unix() -> (Socket, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Socket::Unix(near), far)
}

async fn tcp() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(listener.local_addr().unwrap()));
    (Socket::Tcp(near.unwrap().0), far.unwrap())
}

type Noted = Arc<Mutex<Option<TlsStart>>>;

/// A stand-in for a TLS handshake: notes how it was begun, and takes its "ClientHello" off the wire.
fn terminate(noted: &Noted) -> impl FnOnce(Socket, TlsStart) -> Pin<Box<dyn Future<Output = Result<Stream>>>> + use<> {
    let noted = noted.clone();
    move |mut socket, start| {
        Box::pin(async move {
            *noted.lock().unwrap() = Some(start);
            expect(&mut socket, b"\x16tls").await;
            Ok(Stream::Plain(socket))
        })
    }
}

/// What comes of a client that sends all this at once and then closes its half, and what it is told.
async fn sent_at_once(bytes: &[u8]) -> (Result<Opening>, Vec<u8>) {
    let (near, mut far) = unix();
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let result = negotiate(near, None::<NoTls>).await;
    let mut answer = Vec::new();
    if result.is_err() {
        // An error when bytes were left unread.
        let _ = far.read_to_end(&mut answer).await;
    }
    (result, answer)
}

#[tokio::test]
async fn every_cut_of_a_startup_packet() {
    let packet = startup_packet(b"user\0harbor\0\0");
    for cut in 0..=packet.len() {
        match sent_at_once(&packet[..cut]).await.0 {
            Ok(Opening::Probe) => assert_eq!(cut, 0),
            Ok(Opening::Startup(_, startup)) => {
                assert_eq!(cut, packet.len());
                assert_eq!(startup.raw()[..], packet);
            }
            Ok(Opening::Cancel(..)) => panic!("cut at {cut}"),
            Err(error) => assert_eq!((error.side, error.kind), (Side::Client, Kind::Protocol), "cut at {cut}"),
        }
    }
}

#[tokio::test]
async fn encryption_is_declined_once_each_and_what_follows_the_startup_packet_stays() {
    let packet = startup_packet(b"user\0harbor\0\0");
    for requests in [&[][..], &[SSL_REQUEST], &[GSS_REQUEST], &[GSS_REQUEST, SSL_REQUEST], &[SSL_REQUEST, GSS_REQUEST]] {
        let (near, mut far) = tcp().await;
        let client = async {
            for request in requests {
                far.write_all(request).await.unwrap();
                expect(&mut far, b"N").await;
            }
            far.write_all(&packet).await.unwrap();
            far.write_all(b"ahead").await.unwrap();
        };
        let (result, ()) = tokio::join!(negotiate(near, None::<NoTls>), client);
        let Opening::Startup(mut stream, startup) = result.unwrap() else { panic!("not a startup") };
        assert_eq!(startup.raw()[..], packet);
        expect(&mut stream, b"ahead").await;
    }
}

#[tokio::test]
async fn encryption_asked_twice_or_with_bytes_behind_it_is_refused() {
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let (near, mut far) = unix();
        let client = async move {
            far.write_all(&request).await.unwrap();
            expect(&mut far, b"N").await;
            far.write_all(&request).await.unwrap();
            expect_fatal(&mut far, "08P01").await;
        };
        let (result, ()) = tokio::join!(negotiate(near, None::<NoTls>), client);
        assert_eq!(result.err().unwrap().kind, Kind::Protocol);

        for with_tls in [false, true] {
            let (near, mut far) = tcp().await;
            far.write_all(&[&request[..], &startup_packet(b"user\0mallory\0\0")].concat()).await.unwrap();
            // Both parts have arrived, in one segment, before the first is looked at.
            assert_eq!(near.peek().await.unwrap(), Some(0));
            let noted = Noted::default();
            let client = async move { expect_fatal(&mut far, "08P01").await };
            let (result, told) = if with_tls {
                tokio::join!(negotiate(near, Some(terminate(&noted))), client)
            } else {
                tokio::join!(negotiate(near, None::<NoTls>), client)
            };
            assert_eq!(result.err().unwrap().kind, Kind::Protocol);
            assert!(told.contains("unencrypted data"));
            assert_eq!(*noted.lock().unwrap(), None);
        }
    }
}

#[tokio::test]
async fn nonsense_is_answered_in_postgresqls_words() {
    for (bytes, code) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "08P01"),
        (b"\0\0\0\x03", "08P01"),
        (b"\x80\0\0\0", "08P01"),
        (b"\0\0\0\x08\0\x02\0\0", "0A000"),
        (b"\0\0\0\x09\0\x03\0\0\0", "28000"),
        (b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x01", "08P01"),
    ] {
        let (result, answer) = sent_at_once(bytes).await;
        assert_eq!(result.err().unwrap().kind, Kind::Protocol);
        assert_eq!(SqlState::of_error(&answer[5..]).unwrap().as_str(), code, "{bytes:?}");
    }
    // A TLS client could not read words.
    let (result, answer) = sent_at_once(b"\x16\x03\x01\x02\0\x01").await;
    assert!(result.err().unwrap().why.contains("plaintext listener"));
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_refusal_arrives_although_the_client_goes_on_talking() {
    let (near, mut far) = tcp().await;
    let client = async move {
        // Unread bytes at the moment of closing make the kernel send RST, which must not overtake the words.
        far.write_all(&[b"GET / HTTP/1.1\r\n".as_slice(), &[b'x'; 8192]].concat()).await.unwrap();
        expect_fatal(&mut far, "08P01").await
    };
    let (result, _) = tokio::join!(negotiate(near, None::<NoTls>), client);
    assert!(result.is_err());
}

#[tokio::test]
async fn the_log_says_why_a_client_that_insists_on_tls_left() {
    let (near, mut far) = unix();
    let client = async move {
        far.write_all(&SSL_REQUEST).await.unwrap();
        expect(&mut far, b"N").await;
    };
    let (result, ()) = tokio::join!(negotiate(near, None::<NoTls>), client);
    assert!(result.err().unwrap().why.contains("sslmode=disable"));
}

#[tokio::test]
async fn cancel_requests_are_taken_on_both_kinds_of_listener() {
    for with_tls in [false, true] {
        let (near, mut far) = unix();
        far.write_all(&CANCEL).await.unwrap();
        let noted = Noted::default();
        let result = if with_tls { negotiate(near, Some(terminate(&noted))).await } else { negotiate(near, None::<NoTls>).await };
        let Ok(Opening::Cancel(_, packet)) = result else { panic!("not a cancel request") };
        assert_eq!(packet[..], CANCEL);
    }
}

#[tokio::test]
async fn tls_is_terminated_after_a_request_and_directly() {
    for start in [TlsStart::Requested, TlsStart::Direct] {
        for over_tcp in [false, true] {
            let noted = Noted::default();
            let (near, mut far) = if over_tcp {
                let (near, far) = tcp().await;
                (near, Socket::Tcp(far))
            } else {
                let (near, far) = unix();
                (near, Socket::Unix(far))
            };
            let client = async {
                if start == TlsStart::Requested {
                    far.write_all(&SSL_REQUEST).await.unwrap();
                    expect(&mut far, b"S").await;
                }
                far.write_all(b"\x16tls").await.unwrap();
                far.write_all(&startup_packet(b"user\0harbor\0\0")).await.unwrap();
            };
            let (result, ()) = tokio::join!(negotiate(near, Some(terminate(&noted))), client);
            assert!(matches!(result, Ok(Opening::Startup(_, startup)) if startup.user() == b"harbor"));
            assert_eq!(*noted.lock().unwrap(), Some(start));
        }
    }
}

#[tokio::test]
async fn inside_tls_encryption_is_not_asked_for_again() {
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let (near, mut far) = unix();
        far.write_all(b"\x16tls").await.unwrap();
        far.write_all(&request).await.unwrap();
        far.shutdown().await.unwrap();
        let noted = Noted::default();
        assert_eq!(negotiate(near, Some(terminate(&noted))).await.err().unwrap().kind, Kind::Protocol);
        expect_fatal(&mut far, "08P01").await;
    }
}

#[tokio::test]
async fn a_plaintext_session_on_a_tls_listener_is_refused() {
    let (near, mut far) = unix();
    far.write_all(&startup_packet(b"user\0harbor\0\0")).await.unwrap();
    far.shutdown().await.unwrap();
    let noted = Noted::default();
    let error = negotiate(near, Some(terminate(&noted))).await.err().unwrap();
    assert_eq!((error.side, error.kind), (Side::Client, Kind::TlsPlaintext));
    assert!(expect_fatal(&mut far, "28000").await.contains("sslmode=require"));
    assert_eq!(*noted.lock().unwrap(), None);
}

#[tokio::test]
async fn connecting_and_closing_is_a_probe_even_with_rst() {
    for with_tls in [false, true] {
        for reset in [false, true] {
            let (near, far) = tcp().await;
            if reset {
                Stream::Plain(Socket::Tcp(far)).reset();
            } else {
                drop(far);
            }
            let noted = Noted::default();
            let result = if with_tls { negotiate(near, Some(terminate(&noted))).await } else { negotiate(near, None::<NoTls>).await };
            assert!(matches!(result, Ok(Opening::Probe)), "TLS {with_tls}, RST {reset}");
        }
    }
}
