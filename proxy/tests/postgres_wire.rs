//! PostgreSQL's conversations before the relay, byte by byte: a scripted client on one side, a scripted server on the other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

use std::future::Future;
use std::num::NonZeroU32;
use std::time::Duration;

use redis_tls_proxy::error::{Kind, Result, Side};
use redis_tls_proxy::postgres::message::{self, SqlState};
use redis_tls_proxy::postgres::scram::{Exchange, KeyCache, Keys, Start, Verifier};
use redis_tls_proxy::postgres::startup::{self, First};
use redis_tls_proxy::postgres::{Account, Login, Startup, authenticate, log_in, pass_through};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

fn startup_packet(strings: &[u8]) -> Vec<u8> {
    let mut out = (u32::try_from(strings.len()).unwrap() + 8).to_be_bytes().to_vec();
    out.extend([0, 3, 0, 0]);
    out.extend(strings);
    out
}

fn startup() -> Startup {
    match startup::parse(startup_packet(b"user\0harbor\0database\0harbor\0timezone\0UTC\0\0").into()).unwrap() {
        First::Startup(startup) => startup,
        other => panic!("{other:?}"),
    }
}

/// Reads as many bytes as are expected, and compares them.
async fn expect<S: AsyncRead + Unpin>(stream: &mut S, bytes: &[u8]) {
    let mut seen = vec![0; bytes.len()];
    timeout(Duration::from_secs(5), stream.read_exact(&mut seen)).await.expect("expected bytes did not come").unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(bytes));
}

/// Reads one message; its type and body.
async fn next<S: AsyncRead + Unpin>(stream: &mut S) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap();
    let mut body = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4];
    stream.read_exact(&mut body).await.unwrap();
    (kind, body)
}

/// Reads to the end, which must be a FATAL error of this code; its text.
async fn expect_fatal<S: AsyncRead + Unpin>(stream: &mut S, code: &str) -> String {
    let (kind, body) = next(stream).await;
    assert_eq!(kind, b'E');
    assert_eq!(SqlState::of_error(&body).unwrap().as_str(), code);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "nothing follows a FATAL error: {rest:?}");
    String::from_utf8(body).unwrap()
}

mod passing_through {
    use super::*;

    /// Runs a login in which client and server do as scripted; the result and the proxy's two streams.
    async fn run<F: Future<Output = ()>>(
        script: impl FnOnce(DuplexStream, DuplexStream) -> F,
    ) -> (Result<Login>, DuplexStream, DuplexStream) {
        let (mut client, far_client) = duplex(64 * 1024);
        let (mut upstream, far_upstream) = duplex(64 * 1024);
        let startup = startup();
        let (result, ()) = tokio::join!(pass_through(&mut client, &mut upstream, &startup), script(far_client, far_upstream));
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
        let (result, ()) = tokio::join!(pass_through(&mut client, &mut upstream, &startup), leaving);
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
}

mod checking_clients {
    use super::*;

    fn verifier() -> Verifier {
        Verifier::new(&"local".to_owned().into(), [9; 16], NonZeroU32::new(16).unwrap())
    }

    /// A client that answers as libpq does; the server's last message.
    async fn libpq(client: &mut DuplexStream, password: &str) -> (u8, Vec<u8>) {
        expect(client, &message::authentication_sasl(&[b"SCRAM-SHA-256"])).await;
        let start = Start::new("client+nonce");
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
}

mod logging_in {
    use super::*;

    const REWRITTEN: &[u8] = b"user\0doadmin\0database\0registry\0timezone\0UTC\0\0";

    /// Runs a login with an account of ours, after the server has had its StartupMessage. The upstream is closed when the login is over.
    async fn run<F: Future<Output = ()>>(allow_trust: bool, script: impl FnOnce(DuplexStream, DuplexStream) -> F) -> Result<Login> {
        let (mut client, far_client) = duplex(64 * 1024);
        let (mut upstream, mut far_upstream) = duplex(64 * 1024);
        let (keys, password) = (KeyCache::default(), SecretString::from("s3cret".to_owned()));
        let login = async {
            let account = Account { user: "doadmin", password: &password, database: Some("registry"), allow_trust, keys: &keys };
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
}
