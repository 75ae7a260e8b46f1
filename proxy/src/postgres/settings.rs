//! Puts settings on an upstream connection: any name, any value, in one round trip, and nothing of it can be taken for SQL.
//!
//! `set_config` is a function, so names and values are parameters of a query; the server judges and canonicalises them as it does those of a
//! StartupMessage. Several are one implicit transaction: all are set, or none.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frames::{Frames, send};
use super::message::{SqlState, parameter_status};
use super::reply::message;
use crate::error::{Error, Kind, Result, Side};

/// A setting and its value; `None`: back to its default.
type Change = (Box<[u8]>, Option<Box<[u8]>>);

/// Settings in one statement: well below the 1,664 columns of a result.
const AT_ONCE: usize = 100;

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

/// The statements that set these, without a Sync: for each hundred of them Parse, Bind and Execute, all unnamed. The answers are as many
/// ParseComplete, BindComplete, DataRow and CommandComplete.
pub fn push_statements(out: &mut BytesMut, changes: &[Change]) {
    for some in changes.chunks(AT_ONCE) {
        message(out, b'P', |body| {
            // Qualified: whoever has a function of this name earlier in the search_path must not get the call.
            body.put_slice(b"\0SELECT ");
            for number in 0..some.len() {
                let comma = if number == 0 { "" } else { "," };
                let call = format!("{comma}pg_catalog.set_config(${},${},false)", 2 * number + 1, 2 * number + 2);
                body.put_slice(call.as_bytes());
            }
            // Types are the server's to infer.
            body.put_slice(b"\0\0\0");
        });
        message(out, b'B', |body| {
            // Portal, statement, no formats: all text.
            body.put_slice(b"\0\0\0\0");
            body.put_u16(u16::try_from(2 * some.len()).unwrap_or(u16::MAX));
            for (name, value) in some {
                for field in [Some(name), value.as_ref()] {
                    match field {
                        Some(bytes) => {
                            body.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                            body.put_slice(bytes);
                        }
                        None => body.put_i32(-1),
                    }
                }
            }
            body.put_u16(0);
        });
        message(out, b'E', |body| body.put_slice(b"\0\0\0\0\0"));
    }
}

/// Sets these on a connection on which nothing is owed and no transaction is open. `reported` hears the settings that the server reports, as it
/// has understood them. The caller bounds the time. After an error, or when the future is dropped, the connection is of no use.
///
/// # Errors
/// The server broke the protocol or the connection.
pub async fn set<U>(upstream: &mut U, changes: &[Change], mut reported: impl FnMut(&[u8], &[u8])) -> Result<Outcome>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = BytesMut::new();
    push_statements(&mut request, changes);
    message(&mut request, b'S', |_| {});
    send(upstream, Side::Upstream, &request).await?;
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
    matches!(super::reply::field(error, b'V'), Some(b"FATAL" | b"PANIC"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn change(name: &str, value: Option<&str>) -> Change {
        (name.as_bytes().into(), value.map(|value| value.as_bytes().into()))
    }

    #[test]
    fn names_and_values_are_parameters() {
        let mut out = BytesMut::new();
        push_statements(&mut out, &[change("a'b", Some("x')--")), change("c", None)]);
        let parse = b"P\0\0\0\x55\0SELECT pg_catalog.set_config($1,$2,false),pg_catalog.set_config($3,$4,false)\0\0\0";
        let bind = b"B\0\0\0\x25\0\0\0\0\0\x04\0\0\0\x03a'b\0\0\0\x05x')--\0\0\0\x01c\xff\xff\xff\xff\0\0";
        let execute = b"E\0\0\0\x09\0\0\0\0\0";
        assert_eq!(out.escape_ascii().to_string(), [&parse[..], bind, execute].concat().escape_ascii().to_string());
    }

    #[test]
    fn many_are_several_statements() {
        let changes: Vec<_> = (0..201).map(|number| change(&format!("x.n{number}"), Some("1"))).collect();
        let mut out = BytesMut::new();
        push_statements(&mut out, &changes);
        let mut kinds = Vec::new();
        while !out.is_empty() {
            kinds.push(out[0]);
            let length = u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize + 1;
            drop(out.split_to(length));
        }
        assert_eq!(kinds, b"PBEPBEPBE");
    }

    /// The outcome, and what was reported, of a server that answers so.
    async fn answered(answer: &[u8]) -> (Result<Outcome>, Vec<String>) {
        let (mut near, mut far) = duplex(1 << 16);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        let mut heard = Vec::new();
        let outcome = set(&mut near, &[change("a", Some("1"))], |name, value| {
            heard.push(format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        })
        .await;
        drop(near);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert!(sent.ends_with(b"S\0\0\0\x04"));
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
