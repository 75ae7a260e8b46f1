//! Messages on the wire: headers, strings, names, and how they are written.

use bytes::BytesMut;

use super::{Broken, HEADER_BYTES};

/// How all names begin that we give to statements on connections.
pub(super) const OUR_NAME: &[u8] = b"_rtp_";

/// Type and total length of the message at the front, once its header is there.
pub(super) fn header(bytes: &[u8]) -> Option<Result<(u8, usize), Broken>> {
    let ([kind, length @ ..], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes(*length);
    let total = usize::try_from(length).ok().and_then(|length| length.checked_add(1));
    Some(match total {
        Some(total) if (4..=0x7fff_ffff).contains(&length) => Ok((*kind, total)),
        _ => Err(Broken("invalid message length")),
    })
}

/// The string at the front, and what follows its NUL.
pub(super) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

pub(super) fn body(message: &[u8]) -> &[u8] {
    message.get(HEADER_BYTES..).unwrap_or_default()
}

/// Whom a name on the connection means.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// The connection's unnamed statement.
    Unnamed,
    /// One of ours.
    Place(u32),
    /// What the client calls so.
    Theirs,
    /// What cannot be: the client uses a name like ours.
    Nobodys,
}

impl Target {
    pub(super) fn push(self, up: &mut BytesMut, name: &[u8]) {
        match self {
            Self::Unnamed => up.extend_from_slice(b"\0"),
            Self::Place(place) => our_name(up, place),
            Self::Theirs | Self::Nobodys => {
                up.extend_from_slice(name);
                up.extend_from_slice(if matches!(self, Self::Nobodys) { b"?\0" } else { b"\0" });
            }
        }
    }
}

/// A statement's name on the connection, with its NUL.
pub(super) fn our_name(up: &mut BytesMut, place: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = place;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b"0123456789".get(usize::try_from(left % 10).unwrap_or(0)).copied().unwrap_or(b'0');
        left /= 10;
        at = index;
        if left == 0 {
            break;
        }
    }
    up.extend_from_slice(OUR_NAME);
    up.extend_from_slice(digits.get(at..).unwrap_or_default());
    up.extend_from_slice(b"\0");
}

/// A message whose body is what `write` writes and `rest` bytes to come.
pub(super) fn message_with_rest(up: &mut BytesMut, kind: u8, rest: usize, write: impl FnOnce(&mut BytesMut)) {
    up.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let at = up.len();
    write(up);
    // Bounded: what is written is at most as long as a message that was read whole, and names.
    let length = u32::try_from((up.len() - at).saturating_add(rest).saturating_add(4)).unwrap_or(u32::MAX);
    if let Some(field) = up.get_mut(at - 4..at) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
