//! Whole messages off a stream, and not one byte more: what follows a login belongs to the relay.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::message::{self, HEADER_BYTES};
use crate::error::{Error, Kind, Result, Side};
use crate::tls;

/// Reads one message after the other. A read that was given up halfway is resumed by the next call.
pub(super) struct Frames {
    side: Side,
    limit_bytes: usize,
    /// The message so far. Grows with what arrives, not with what a length field promises.
    bytes: Vec<u8>,
    complete: bool,
}

impl Frames {
    /// For the peer on `side`, whose messages may have `limit_bytes` at most.
    pub(super) fn new(side: Side, limit_bytes: usize) -> Self {
        Self { side, limit_bytes, bytes: Vec::new(), complete: false }
    }

    /// The type of the next message, which is then in [`Frames::message`] and [`Frames::body`] until the next call. `None`: the peer has
    /// closed, between two messages. Cancel-safe.
    pub(super) async fn next<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<Option<u8>> {
        if self.complete {
            self.bytes.clear();
            self.complete = false;
        }
        loop {
            let total = match self.bytes.first_chunk::<HEADER_BYTES>() {
                Some(header) => message::message_bytes(*header, self.limit_bytes).map_err(|error| self.error(Kind::Protocol, error.0))?,
                None => HEADER_BYTES,
            };
            let missing = total.saturating_sub(self.bytes.len());
            if missing == 0 {
                self.complete = true;
                return Ok(self.bytes.first().copied());
            }
            let missing = u64::try_from(missing).unwrap_or(u64::MAX);
            let read = (&mut *stream).take(missing).read_buf(&mut self.bytes).await.map_err(|error| tls::explain(self.side, &error))?;
            if read == 0 {
                return if self.bytes.is_empty() { Ok(None) } else { Err(self.error(Kind::Io, "closed in the middle of a message")) };
            }
        }
    }

    /// The message that [`Frames::next`] has read, header included.
    pub(super) fn message(&self) -> &[u8] {
        &self.bytes
    }

    /// Its body.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// True when a part of a message has been taken off the stream and nobody has seen it.
    pub(super) fn is_halfway(&self) -> bool {
        !self.complete && !self.bytes.is_empty()
    }

    fn error(&self, kind: Kind, why: &str) -> Error {
        Error::on(self.side, kind, format!("during login: {why}"))
    }
}

/// Sends all of it now.
pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, side: Side, bytes: &[u8]) -> Result<()> {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| tls::explain(side, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::message::{authentication_ok, fatal};

    #[tokio::test]
    async fn reads_exactly_and_resumes_at_every_cut() {
        let mut bytes = fatal("57P03", "starting up");
        let first = bytes.len();
        bytes.extend(authentication_ok());
        let second = bytes.len();
        bytes.extend(b"rest");
        for cut in 0..bytes.len() {
            let (mut near, mut far) = tokio::io::duplex(1024);
            let mut frames = Frames::new(Side::Upstream, 1024);
            far.write_all(&bytes[..cut]).await.unwrap();
            // The first attempts are given up as soon as they would wait.
            let mut seen = Vec::new();
            for _ in 0..2 {
                tokio::select! {
                    biased;
                    kind = frames.next(&mut near) => { kind.unwrap(); seen.push(frames.message().to_vec()); }
                    () = std::future::ready(()) => {}
                }
            }
            far.write_all(&bytes[cut..]).await.unwrap();
            while seen.len() < 2 {
                frames.next(&mut near).await.unwrap();
                seen.push(frames.message().to_vec());
            }
            assert_eq!(seen, [bytes[..first].to_vec(), bytes[first..second].to_vec()], "cut at {cut}");
            drop(far);
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"rest", "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn an_end_between_messages_is_not_an_end_within_one() {
        let message = authentication_ok();
        for cut in 0..message.len() {
            let mut input = &message[..cut];
            let end = Frames::new(Side::Client, 1024).next(&mut input).await;
            assert_eq!(end.is_ok(), cut == 0, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_promised_length_allocates_nothing() {
        let mut frames = Frames::new(Side::Client, 1 << 30);
        assert!(frames.next(&mut &b"p\x20\0\0\0abc"[..]).await.is_err());
        assert!(frames.bytes.capacity() < 256, "{}", frames.bytes.capacity());
        let error = Frames::new(Side::Client, 1000).next(&mut &b"p\x20\0\0\0abc"[..]).await.unwrap_err();
        assert_eq!((error.side, error.kind), (Side::Client, Kind::Protocol));
    }
}
