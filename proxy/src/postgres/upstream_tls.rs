//! Asks a server for TLS on a fresh connection.
//!
//! Exactly one byte is read: whatever a man in the middle puts behind it stays in the socket and reaches the TLS handshake, which fails.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::frames::send;
use super::startup::SSL_REQUEST;
use crate::error::{Error, Kind, Result, Side};

/// Sends SSLRequest and waits for `S`; the TLS handshake is next. The caller bounds the time. After an error, or when the future is
/// dropped, the connection is of no use.
///
/// # Errors
/// The server has no TLS, is not PostgreSQL, or the connection broke. There is no way on without TLS.
pub async fn request_tls<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S) -> Result<()> {
    send(upstream, Side::Upstream, &SSL_REQUEST).await?;
    let mut answer = [0; 1];
    let read = upstream.read(&mut answer).await.map_err(|error| Error::io(Side::Upstream, &error))?;
    match answer {
        _ if read == 0 => Err(Error::upstream(Kind::Io, "closed instead of answering SSLRequest; is this PostgreSQL's port?")),
        [b'S'] => Ok(()),
        [b'N'] => Err(Error::upstream(Kind::TlsPlaintext, "the server has no TLS: set ssl=on in its postgresql.conf")),
        // Its text is not authenticated and could be anybody's: it is neither read nor shown (CVE-2024-10977).
        [b'E'] => Err(Error::upstream(Kind::Protocol, "answered SSLRequest with an error; see the server's log")),
        [_] => Err(Error::upstream(Kind::Protocol, "did not answer SSLRequest as PostgreSQL does; is this the right port?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    async fn answered(answer: &[u8]) -> (Result<()>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(answer).await.unwrap();
        let asked = tokio::spawn(async move {
            let mut request = [0; 8];
            far.read_exact(&mut request).await.unwrap();
            request
        });
        let result = request_tls(&mut near).await;
        assert_eq!(asked.await.unwrap(), [0, 0, 0, 8, 4, 210, 22, 47]);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        (result, rest)
    }

    #[tokio::test]
    async fn only_s_goes_on_and_what_follows_stays_in_the_stream() {
        let (result, rest) = answered(b"Sinjected").await;
        result.unwrap();
        assert_eq!(rest, b"injected");
    }

    #[tokio::test]
    async fn anything_else_is_the_end_and_never_quoted() {
        for (answer, kind) in [
            (&b"N"[..], Kind::TlsPlaintext),
            (b"E\0\0\0\x40SFATAL\0MCall 0800-EVIL\0\0", Kind::Protocol),
            (b"-ERR", Kind::Protocol),
            (b"", Kind::Io),
        ] {
            let error = answered(answer).await.0.unwrap_err();
            assert_eq!((error.side, error.kind), (Side::Upstream, kind));
            assert!(!error.to_string().contains("EVIL"));
        }
    }
}
