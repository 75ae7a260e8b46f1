//! `[pure]` What a server says, for when we say it: each function appends one message to what a client is to receive.

use bytes::{BufMut, BytesMut};

use super::message::HEADER_BYTES;

/// The type of a column or parameter: `text`.
pub const TEXT_OID: u32 = 25;

/// Where a session stands, as ReadyForQuery says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Outside a transaction.
    Idle = b'I',
    /// Inside one.
    InTransaction = b'T',
    /// Inside one that has failed.
    Failed = b'E',
}

/// `S`: a setting's value.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    message(out, b'S', |body| {
        string(body, name);
        string(body, value);
    });
}

/// `K`: what a CancelRequest for this session has to say.
pub fn backend_key_data(out: &mut BytesMut, process: u32, secret: &[u8]) {
    message(out, b'K', |body| {
        body.put_u32(process);
        body.put_slice(secret);
    });
}

/// `Z`: the next query may come.
pub fn ready_for_query(out: &mut BytesMut, status: Status) {
    message(out, b'Z', |body| body.put_u8(status as u8));
}

/// `v`: the newest minor version of protocol 3 that is spoken, and the options of the StartupMessage that are not understood.
pub fn negotiate_protocol_version(out: &mut BytesMut, newest_minor: u16, unknown: &[&[u8]]) {
    message(out, b'v', |body| {
        body.put_u32(3 << 16 | u32::from(newest_minor));
        body.put_u32(length(unknown.len()));
        for name in unknown {
            string(body, name);
        }
    });
}

/// `C`: a command is done; the tag says which.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |body| string(body, tag.as_bytes()));
}

/// `T`: columns of type text, in text format. At most 1,664 columns, as in PostgreSQL.
pub fn row_description(out: &mut BytesMut, columns: &[&str]) {
    message(out, b'T', |body| {
        body.put_u16(count(columns.len()));
        for name in columns {
            string(body, name.as_bytes());
            // No table, no column number; of variable length; no type modifier; text format.
            body.put_u32(0);
            body.put_u16(0);
            body.put_u32(TEXT_OID);
            body.put_i16(-1);
            body.put_i32(-1);
            body.put_u16(0);
        }
    });
}

/// `D`: a row; `None`: NULL.
pub fn data_row<'a>(out: &mut BytesMut, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    message(out, b'D', |body| {
        body.put_u16(count(values.len()));
        for value in values {
            match value {
                Some(value) => {
                    body.put_u32(length(value.len()));
                    body.put_slice(value);
                }
                None => body.put_i32(-1),
            }
        }
    });
}

/// `I`: there was nothing to do in the query.
pub fn empty_query_response(out: &mut BytesMut) {
    message(out, b'I', |_| {});
}

/// `1`: a Parse is done.
pub fn parse_complete(out: &mut BytesMut) {
    message(out, b'1', |_| {});
}

/// `2`: a Bind is done.
pub fn bind_complete(out: &mut BytesMut) {
    message(out, b'2', |_| {});
}

/// `3`: a Close is done.
pub fn close_complete(out: &mut BytesMut) {
    message(out, b'3', |_| {});
}

/// `n`: what was described returns no rows.
pub fn no_data(out: &mut BytesMut) {
    message(out, b'n', |_| {});
}

/// `E`, severity ERROR: the session goes on. `code` is an SQLSTATE.
pub fn error(out: &mut BytesMut, code: &str, text: &str) {
    fields(out, b'E', "ERROR", code, text);
}

/// `E`, severity FATAL: the connection is closed after it. `code` is an SQLSTATE.
pub fn fatal(out: &mut BytesMut, code: &str, text: &str) {
    fields(out, b'E', "FATAL", code, text);
}

/// `N`, severity `severity` (WARNING, NOTICE…): something to know.
pub fn notice(out: &mut BytesMut, severity: &str, code: &str, text: &str) {
    fields(out, b'N', severity, code, text);
}

/// `E`, severity FATAL, with the fields of a server's ErrorResponse `body`: its own words, for a client that is closed because of them.
pub fn as_fatal(out: &mut BytesMut, body: &[u8]) {
    message(out, b'E', |written| {
        for field in body.split(|byte| *byte == 0).take_while(|field| !field.is_empty()) {
            match field {
                [kind @ (b'S' | b'V'), ..] => {
                    written.put_u8(*kind);
                    string(written, b"FATAL");
                }
                // Where in a query of ours it happened, and in which source file of the server's: not the client's business.
                [b'P' | b'p' | b'q' | b'W' | b'F' | b'L' | b'R', ..] => {}
                field => string(written, field),
            }
        }
        written.put_u8(0);
    });
}

/// `E` with the fields of a server's ErrorResponse `body`, but for its text.
pub fn with_text(out: &mut BytesMut, body: &[u8], text: &[u8]) {
    message(out, b'E', |written| {
        for field in body.split(|byte| *byte == 0).take_while(|field| !field.is_empty()) {
            match field {
                [b'M', ..] => {
                    written.put_u8(b'M');
                    string(written, text);
                }
                field => string(written, field),
            }
        }
        written.put_u8(0);
    });
}

/// One field of an ErrorResponse's or NoticeResponse's body: `b'M'` the text, `b'C'` the code…
#[must_use]
pub fn field(body: &[u8], kind: u8) -> Option<&[u8]> {
    let mut fields = body.split(|byte| *byte == 0).take_while(|field| !field.is_empty());
    fields.find_map(|field| field.split_first().filter(|(first, _)| **first == kind).map(|(_, value)| value))
}

fn fields(out: &mut BytesMut, kind: u8, severity: &str, code: &str, text: &str) {
    message(out, kind, |body| {
        // S is for people and may be translated, V never is; both since 9.6.
        for (field, value) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', text)] {
            body.put_u8(field);
            string(body, value.as_bytes());
        }
        body.put_u8(0);
    });
}

/// Appends a message of type `kind`; its length is put right when the body is there.
pub fn message(out: &mut BytesMut, kind: u8, write_body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[kind, 0, 0, 0, 0]);
    write_body(out);
    let bytes = length(out.len().saturating_sub(start).saturating_sub(1));
    if let Some([_, field @ ..]) = out.get_mut(start..).and_then(|message| message.first_chunk_mut::<HEADER_BYTES>()) {
        *field = bytes.to_be_bytes();
    }
}

/// A NUL-terminated string. A NUL inside would start a field of its own, so the string ends there.
fn string(out: &mut BytesMut, value: &[u8]) {
    out.put_slice(value.split(|byte| *byte == 0).next().unwrap_or_default());
    out.put_u8(0);
}

/// What we say is made of bounded parts, so it always fits.
fn length(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn count(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::message::{self as messages, SqlState};

    fn said(say: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::from(&b"before"[..]);
        say(&mut out);
        out.split_off(6).to_vec()
    }

    #[test]
    fn messages_as_the_protocol_has_them() {
        assert_eq!(said(|out| parameter_status(out, b"TimeZone", b"UTC")), b"S\0\0\0\x11TimeZone\0UTC\0");
        assert_eq!(said(|out| backend_key_data(out, 7, &[1, 2, 3, 4])), b"K\0\0\0\x0c\0\0\0\x07\x01\x02\x03\x04");
        assert_eq!(said(|out| ready_for_query(out, Status::Failed)), b"Z\0\0\0\x05E");
        assert_eq!(said(|out| negotiate_protocol_version(out, 2, &[b"_pq_.x"])), b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
        assert_eq!(said(|out| command_complete(out, "SELECT 1")), b"C\0\0\0\x0dSELECT 1\0");
        assert_eq!(said(|out| row_description(out, &["a"])), b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        assert_eq!(said(|out| data_row(out, [Some(&b"xy"[..]), None].into_iter())), b"D\0\0\0\x10\0\x02\0\0\0\x02xy\xff\xff\xff\xff");
        for (kind, say) in [(b'I', empty_query_response as fn(&mut BytesMut)), (b'1', parse_complete), (b'2', bind_complete)] {
            assert_eq!(said(say), [kind, 0, 0, 0, 4]);
        }
        assert_eq!((said(close_complete)[0], said(no_data)[0]), (b'3', b'n'));
    }

    #[test]
    fn errors_say_how_bad_they_are_and_are_not_split_by_a_nul() {
        assert_eq!(said(|out| error(out, "0A000", "no\0CXXXXX")), b"E\0\0\0\x1eSERROR\0VERROR\0C0A000\0Mno\0\0");
        assert_eq!(said(|out| fatal(out, "53300", "too\0many")), messages::fatal("53300", "too\0many"));
        assert_eq!(said(|out| notice(out, "WARNING", "01000", "x"))[..13], *b"N\0\0\0\x21SWARNING");
    }

    #[test]
    fn a_servers_error_becomes_the_end_of_a_session() {
        let body = b"SFEHLER\0VERROR\0C42704\0Mno such thing\0Hlook elsewhere\0P8\0Wfunction x\0Fguc.c\0L1\0Rf\0\0";
        let words = said(|out| as_fatal(out, body));
        assert_eq!(words[5..], *b"SFATAL\0VFATAL\0C42704\0Mno such thing\0Hlook elsewhere\0\0");
        assert_eq!(SqlState::of_error(&words[5..]).unwrap().as_str(), "42704");
        assert_eq!(field(&words[5..], b'M'), Some(&b"no such thing"[..]));
        assert_eq!(field(&words[5..], b'D'), None);
    }
}
