//! Puts settings on an upstream connection, and hears what the server makes of them: it judges and canonicalises what a statement sets as it
//! does what a StartupMessage asks for.

use tokio::io::{AsyncRead, AsyncWrite};

use super::frames::{Frames, send};
use super::message::{SqlState, parameter_status};
use super::reply;
use crate::error::{Error, Kind, Result, Side};

/// The longest message in answer; an error quotes the value, and that came in a packet of 10,000 bytes at most.
const LIMIT_BYTES: usize = 64 * 1024;

/// What the server made of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are set.
    Done,
    /// Nothing is set: the body of the server's ErrorResponse.
    Refused(Vec<u8>),
}

/// Sends `request`, statements without results of interest that end with the only Sync, on a connection on which nothing is owed and no
/// transaction is open: they are done all, or none. `reported` hears the settings that the server reports. The caller bounds the time. After an
/// error, or when the future is dropped, the connection is of no use.
///
/// # Errors
/// The server broke the protocol or the connection.
pub async fn put<U>(upstream: &mut U, request: &[u8], mut reported: impl FnMut(&[u8], &[u8])) -> Result<Outcome>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    send(upstream, Side::Upstream, request).await?;
    let mut frames = Frames::new(Side::Upstream, LIMIT_BYTES);
    let mut outcome = Outcome::Done;
    loop {
        let kind =
            frames.next(upstream).await?.ok_or_else(|| Error::upstream(Kind::Io, "closed while settings were put on the connection"))?;
        match kind {
            b'S' => {
                let (name, value) = parameter_status(frames.body()).map_err(|error| Error::upstream(Kind::Protocol, error.0))?;
                reported(name, value);
            }
            b'E' if is_fatal(frames.body()) => {
                let code = SqlState::of_error(frames.body());
                let code = code.as_ref().map_or("none", SqlState::as_str);
                return Err(Error::upstream(Kind::Io, format!("the server ended the session (SQLSTATE {code})")));
            }
            b'E' => outcome = Outcome::Refused(frames.body().to_vec()),
            b'Z' if frames.body() == b"I" => return Ok(outcome),
            // What was parsed, bound and executed; what the server has to say besides; what another session tells one that listened.
            b'1' | b'2' | b'D' | b'C' | b'N' | b'A' => {}
            _ => return Err(Error::upstream(Kind::Protocol, "sent something else in answer to settings")),
        }
    }
}

fn is_fatal(error: &[u8]) -> bool {
    matches!(reply::field(error, b'V'), Some(b"FATAL" | b"PANIC"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// The outcome, and what was reported, of a server that answers so.
    async fn answered(answer: &[u8]) -> (Result<Outcome>, Vec<String>) {
        let (mut near, mut far) = duplex(1 << 16);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let mut heard = Vec::new();
        let outcome = put(&mut near, b"request", |name, value| {
            heard.push(format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        })
        .await;
        drop(near);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"request");
        (outcome, heard)
    }

    #[tokio::test]
    async fn what_the_server_reports_is_heard() {
        let done = b"1\0\0\0\x042\0\0\0\x04D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0S\0\0\0\x08a\x002\0Z\0\0\0\x05I";
        let (outcome, heard) = answered(done).await;
        assert_eq!((outcome.unwrap(), heard), (Outcome::Done, vec!["a=2".to_owned()]));
        let (outcome, _) = answered(b"E\0\0\0\x0cC42704\0\0Z\0\0\0\x05I").await;
        assert_eq!(outcome.unwrap(), Outcome::Refused(b"C42704\0\0".to_vec()));
    }

    #[tokio::test]
    async fn a_server_that_goes_or_says_something_else_is_not_believed() {
        for (answer, kind) in [
            (&b""[..], Kind::Io),
            (b"1\0\0\0\x04", Kind::Io),
            (b"E\0\0\0\x13VFATAL\0C57P01\0\0", Kind::Io),
            (b"Z\0\0\0\x05T", Kind::Protocol),
            (b"T\0\0\0\x06\0\0Z\0\0\0\x05I", Kind::Protocol),
        ] {
            let error = answered(answer).await.0.unwrap_err();
            assert_eq!((error.side, error.kind), (Side::Upstream, kind), "{}", answer.escape_ascii());
        }
    }
}
