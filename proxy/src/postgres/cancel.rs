//! Carries a CancelRequest to the server.
//!
//! In `relay` a client holds the key of its own upstream connection, so the packet goes through unchanged: keys of protocol 3.0 and the long
//! ones of 3.2 alike. The server answers nothing and closes when it has sent the signal; only then is the client's connection closed,
//! because drivers take that for the acknowledgement.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::frames::send;
use crate::error::{Error, Kind, Result, Side};

/// More than a server has to say to a CancelRequest, which is nothing.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Sends `request` over a new upstream connection, TLS established, and waits until the server closes it. The caller bounds the time.
///
/// # Errors
/// The connection broke before the server closed it, or the server talks without end. Whether the query was cancelled is then unknown,
/// as it always is.
pub async fn carry<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, request: &[u8]) -> Result<()> {
    send(upstream, Side::Upstream, request).await?;
    let mut answer = upstream.take(ANSWER_BYTES);
    match tokio::io::copy(&mut answer, &mut tokio::io::sink()).await {
        Ok(ANSWER_BYTES) => Err(Error::upstream(Kind::Protocol, "answered a CancelRequest instead of closing")),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io(Side::Upstream, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_done_only_when_the_server_closes() {
        let request = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];
        let (mut near, mut far) = tokio::io::duplex(1024);
        let carried = carry(&mut near, &request);
        tokio::pin!(carried);
        let mut seen = [0; 16];
        tokio::select! {
            biased;
            result = &mut carried => panic!("done before the server closed: {result:?}"),
            read = far.read_exact(&mut seen) => { read.unwrap(); }
        }
        assert_eq!(seen, request);
        drop(far);
        carried.await.unwrap();
    }
}
