//! Sessions of the proxy's own, against scripted servers that are right, wrong or hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod wire;

use std::num::NonZeroU32;

use redis_tls_proxy::error::{Error, Kind, Result, Side};
use redis_tls_proxy::postgres::scram::{Exchange, KeyCache, Verifier};
use redis_tls_proxy::postgres::{Account, Session, discard_all, message, open_session};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use wire::{OK, expect, next, startup_packet};

const KEY: &[u8] = b"K\0\0\0\x0c\0\0\0\x07\0\0\0\x09";
const ZONE: &[u8] = b"S\0\0\0\x11TimeZone\0UTC\0";
const NOTICE: &[u8] = b"N\0\0\0\x0cSNOTICE\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Opens a session with trust allowed, at a server that says this, after its StartupMessage, and closes.
async fn told(says: &[u8]) -> Result<Session> {
    let (mut near, mut far) = duplex(1 << 20);
    let (keys, password) = (KeyCache::default(), SecretString::from("s3cret".to_owned()));
    let account = Account { user: "doadmin", password: &password, database: None, allow_trust: true, end_point: None, keys: &keys };
    let opened = async { open_session(&mut near, b"registry", &account).await };
    let script = async {
        expect(&mut far, &startup_packet(b"user\0doadmin\0database\0registry\0\0")).await;
        far.write_all(says).await.unwrap();
        drop(far);
    };
    tokio::join!(opened, script).0
}

#[tokio::test]
async fn a_session_is_what_the_server_says_and_every_cut_is_an_error_that_may_pass() {
    let whole = [NOTICE, OK, ZONE, KEY, NOTICE, ZONE, READY].concat();
    let session = told(&whole).await.unwrap();
    let zone: (&[u8], &[u8]) = (b"TimeZone", b"UTC");
    assert_eq!(session.parameters.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), [zone, zone]);
    assert_eq!((session.process, session.secret), (7, 9));
    for cut in 0..whole.len() {
        let error = told(&whole[..cut]).await.err().unwrap();
        assert_eq!((error.side, error.kind, error.kind.may_pass()), (Side::Upstream, Kind::Io, true), "cut at {cut}: {error}");
    }
}

#[tokio::test]
async fn what_does_not_belong_there_is_refused() {
    let endless = [OK, &[b"S\0\0\x3a\x9aa\0", &[b'x'; 14_995][..], b"\0"].concat().repeat(20)].concat();
    for says in [
        &b"Z\0\0\0\x05I"[..],
        &[OK, OK].concat(),
        &[OK, READY].concat(),
        &[OK, KEY, b"Z\0\0\0\x05T"].concat(),
        &[OK, KEY, b"D\0\0\0\x04"].concat(),
        &[OK, b"K\0\0\0\x08\0\0\0\x07"].concat(),
        &[OK, b"S\0\0\0\x06ab"].concat(),
        &[OK, b"S\x7f\xff\xff\xff"].concat(),
        b"v\0\0\0\x0c\0\0\0\0\0\0\0\0",
        &endless,
    ] {
        let error = told(says).await.err().unwrap();
        assert_eq!((error.side, error.kind), (Side::Upstream, Kind::Protocol), "{:?}: {error}", &says[..says.len().min(30)]);
    }
}

/// Before the login, after it, and without a code.
#[tokio::test]
async fn every_refusal_is_somebodys_business() {
    for before in [&b""[..], &[OK, ZONE].concat()] {
        for (code, kind, is_clients) in [
            ("53300", Kind::Unavailable, false),
            ("53200", Kind::Unavailable, false),
            ("57P01", Kind::Unavailable, false),
            ("57P03", Kind::Unavailable, false),
            ("08006", Kind::Unavailable, false),
            ("58030", Kind::Unavailable, false),
            ("XX000", Kind::Unavailable, false),
            ("", Kind::Unavailable, false),
            ("28P01", Kind::Login, false),
            ("28000", Kind::Login, false),
            ("3D000", Kind::Login, true),
            ("42501", Kind::Login, true),
            ("55000", Kind::Login, true),
            ("57P04", Kind::Login, true),
        ] {
            let words = message::fatal(code, "the server's own words about doadmin");
            let error = told(&[before, &words].concat()).await.err().unwrap();
            assert_eq!((error.side, error.kind), (Side::Upstream, kind), "{code}");
            assert_eq!(error.reply.as_deref(), is_clients.then_some(&words[..]), "{code}");
            assert!(!error.why.contains("doadmin") && error.why.contains(code), "{error}");
        }
    }
}

/// A server that does SCRAM and does not offer to bind it: one that has to notice if somebody took the offer away.
async fn scram(server: &mut DuplexStream, header: &str) {
    let verifier = Verifier::new(&"s3cret".to_owned().into(), [3; 16], NonZeroU32::new(16).unwrap());
    server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256"])).await.unwrap();
    let (_, body) = next(server).await;
    let (mechanism, first) = message::parse_sasl_initial_response(&body).unwrap();
    assert_eq!(mechanism, b"SCRAM-SHA-256");
    assert!(first.starts_with(header.as_bytes()), "{}", first.escape_ascii());
    let (exchange, server_first) = Exchange::first(&verifier, first, "server+nonce").unwrap();
    server.write_all(&message::authentication_sasl_continue(server_first.as_bytes())).await.unwrap();
    let last = exchange.finish(&next(server).await.1).unwrap();
    server.write_all(&message::authentication_sasl_final(last.as_bytes())).await.unwrap();
}

async fn offered(end_point: Option<&[u8]>, script: impl AsyncFnOnce(&mut DuplexStream)) -> Result<Session> {
    let (mut near, mut far) = duplex(1 << 16);
    let (keys, password) = (KeyCache::default(), SecretString::from("s3cret".to_owned()));
    let account = Account { user: "doadmin", password: &password, database: None, allow_trust: false, end_point, keys: &keys };
    let opened = async {
        let opened = open_session(&mut near, b"registry", &account).await;
        drop(near);
        opened
    };
    let script = async {
        next_startup(&mut far).await;
        script(&mut far).await;
    };
    tokio::join!(opened, script).0
}

async fn next_startup(server: &mut DuplexStream) {
    let length = usize::try_from(server.read_u32().await.unwrap()).unwrap();
    server.read_exact(&mut vec![0; length - 4]).await.unwrap();
}

#[tokio::test]
async fn a_login_says_whether_it_could_have_been_bound() {
    for (end_point, header) in [(Some(&[1; 32][..]), "y,,n=,r="), (None, "n,,n=,r=")] {
        let opened = offered(end_point, async |server| {
            scram(server, header).await;
            server.write_all(&[OK, KEY, READY].concat()).await.unwrap();
        });
        assert_eq!(opened.await.unwrap().process, 7);
    }
}

#[tokio::test]
async fn the_offer_to_bind_is_taken_where_it_can_be() {
    for both in [true, false] {
        let names: &[&[u8]] = if both { &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"] } else { &[b"SCRAM-SHA-256-PLUS"] };
        let opened = offered(Some(&[1; 32]), async |server| {
            server.write_all(&message::authentication_sasl(names)).await.unwrap();
            let (_, body) = next(server).await;
            let (mechanism, first) = message::parse_sasl_initial_response(&body).unwrap();
            assert_eq!(mechanism, b"SCRAM-SHA-256-PLUS");
            assert!(first.starts_with(b"p=tls-server-end-point,,n=,r="), "{}", first.escape_ascii());
            server.write_all(&message::fatal("28000", "SCRAM channel binding check failed")).await.unwrap();
        });
        assert_eq!(opened.await.err().unwrap().kind, Kind::Login);
    }
    let cannot = offered(None, async |server| {
        server.write_all(&message::authentication_sasl(&[b"SCRAM-SHA-256-PLUS"])).await.unwrap();
        let mut sent = Vec::new();
        server.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty());
    });
    assert!(cannot.await.err().unwrap().why.contains("certificate"));
}

/// What a server makes of DISCARD ALL: what was reported meanwhile, or the error.
async fn discarded(says: &[u8]) -> std::result::Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let (mut near, mut far) = duplex(1 << 16);
    let script = async {
        expect(&mut far, b"Q\0\0\0\x10DISCARD ALL\0").await;
        far.write_all(says).await.unwrap();
        drop(far);
    };
    let mut reported = Vec::new();
    let done = discard_all(&mut near, |name, value| reported.push((name.to_vec(), value.to_vec())));
    let (done, ()) = tokio::join!(done, script);
    done.map(|()| reported)
}

#[tokio::test]
async fn a_session_is_discarded_only_when_the_server_says_so() {
    const DONE: &[u8] = b"C\0\0\0\x10DISCARD ALL\0";
    const NEWS: &[u8] = b"A\0\0\0\x0b\0\0\0\x01a\0\0";
    let whole = [NEWS, ZONE, NOTICE, DONE, ZONE, READY].concat();
    let zone = (b"TimeZone".to_vec(), b"UTC".to_vec());
    assert_eq!(discarded(&whole).await.unwrap(), [zone.clone(), zone]);
    for cut in 0..whole.len() {
        assert_eq!(discarded(&whole[..cut]).await.unwrap_err().kind, Kind::Io, "cut at {cut}");
    }
    for (says, kind) in [
        (&READY.to_vec(), Kind::Protocol),
        (&[DONE, b"Z\0\0\0\x05T"].concat(), Kind::Protocol),
        (&[DONE, DONE, READY].concat(), Kind::Protocol),
        (&[b"C\0\0\0\x10DISCARD SOM\0", READY].concat(), Kind::Protocol),
        (&[b"C\0\0\0\x0dSELECT 1\0", DONE, READY].concat(), Kind::Protocol),
        (&[b"D\0\0\0\x06\0\0", DONE, READY].concat(), Kind::Protocol),
        (&[&message::fatal("25001", "in a transaction")[..], READY].concat(), Kind::Unavailable),
    ] {
        assert_eq!(discarded(says).await.unwrap_err().kind, kind, "{}", says.escape_ascii());
    }
}
