//! What the tests of PostgreSQL's conversations share: packets, and reading what is expected.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part")]

use std::time::Duration;

use redis_tls_proxy::postgres::Startup;
use redis_tls_proxy::postgres::message::SqlState;
use redis_tls_proxy::postgres::startup::{self, First};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

pub const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

pub fn startup_packet(strings: &[u8]) -> Vec<u8> {
    let mut out = (u32::try_from(strings.len()).unwrap() + 8).to_be_bytes().to_vec();
    out.extend([0, 3, 0, 0]);
    out.extend(strings);
    out
}

pub fn startup() -> Startup {
    match startup::parse(startup_packet(b"user\0harbor\0database\0harbor\0timezone\0UTC\0\0").into()).unwrap() {
        First::Startup(startup) => startup,
        other => panic!("{other:?}"),
    }
}

/// Reads as many bytes as are expected, and compares them.
pub async fn expect<S: AsyncRead + Unpin>(stream: &mut S, bytes: &[u8]) {
    let mut seen = vec![0; bytes.len()];
    timeout(Duration::from_secs(5), stream.read_exact(&mut seen)).await.expect("expected bytes did not come").unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(bytes));
}

/// Reads one message; its type and body.
pub async fn next<S: AsyncRead + Unpin>(stream: &mut S) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap();
    let mut body = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap() - 4];
    stream.read_exact(&mut body).await.unwrap();
    (kind, body)
}

/// Reads to the end, which must be a FATAL error of this code; its text.
pub async fn expect_fatal<S: AsyncRead + Unpin>(stream: &mut S, code: &str) -> String {
    let (kind, body) = next(stream).await;
    assert_eq!(kind, b'E');
    assert_eq!(SqlState::of_error(&body).unwrap().as_str(), code);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "nothing follows a FATAL error: {rest:?}");
    String::from_utf8(body).unwrap()
}
