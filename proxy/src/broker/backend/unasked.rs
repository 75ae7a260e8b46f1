//! What a server says on a connection that nobody uses: settings that were changed under it, notices, that it is closing.

use std::rc::Rc;

use crate::broker::exchange::Server;
use crate::metrics::EvictReason;
use crate::postgres::message::{HEADER_BYTES, message_bytes, parameter_status};

/// The longest message that is taken in; a report of a setting has as many bytes as its value.
const LIMIT_BYTES: usize = 64 * 1024;

/// Takes in the whole messages in `heard`; the beginning of another stays, at most 64 KiB of it.
///
/// # Errors
/// It is something that is not said to an unused connection. Among that are errors, after which the server closes; and notifications: a
/// connection that listens is not as it should be.
pub(super) fn take_in(heard: &mut Vec<u8>, server: &mut Server) -> Result<(), EvictReason> {
    let mut taken = 0;
    while let Some((kind, rest)) = heard.get(taken..).and_then(<[u8]>::split_first) {
        if !matches!(kind, b'S' | b'N') {
            return Err(EvictReason::ServerClosed);
        }
        let Some(&[a, b, c, d]) = rest.first_chunk() else { break };
        let total = message_bytes([*kind, a, b, c, d], LIMIT_BYTES).map_err(|_| EvictReason::ServerClosed)?;
        let Some(message) = heard.get(taken..taken.saturating_add(total)) else { break };
        if *kind == b'S' {
            let body = message.get(HEADER_BYTES..).unwrap_or_default();
            let (name, value) = parameter_status(body).map_err(|_| EvictReason::ServerClosed)?;
            default_changed(server, name, value);
        }
        taken += total;
    }
    heard.drain(..taken);
    if heard.is_empty() {
        // An idle connection owns no buffer.
        *heard = Vec::new();
    }
    Ok(())
}

/// A setting of a session changes by itself only when nobody has set it there: then it is the server's default that has changed, and so it is
/// what a new connection would have.
pub(super) fn default_changed(server: &mut Server, name: &[u8], value: &[u8]) {
    let is_as_new = Rc::ptr_eq(&server.base, &server.params);
    Rc::make_mut(&mut server.base).report(name, value);
    if is_as_new {
        server.params = Rc::clone(&server.base);
    } else {
        Rc::make_mut(&mut server.params).report(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Params;

    fn server() -> Server {
        Server::new(Rc::new(Params::default().reported(b"TimeZone", b"UTC").reported(b"DateStyle", b"ISO")), 10)
    }

    const SETTING: &[u8] = b"S\0\0\0\x12TimeZone\0CET\0\0";
    const TIMEZONE: &[u8] = b"S\0\0\0\x11TimeZone\0CET\0";
    const NOTICE: &[u8] = b"N\0\0\0\x0cSNOTICE\0";

    #[test]
    fn whole_messages_are_taken_in_at_every_cut() {
        let all = [TIMEZONE, NOTICE, TIMEZONE].concat();
        for cut in 0..=all.len() {
            let (mut server, mut heard) = (server(), Vec::new());
            for part in [&all[..cut], &all[cut..]] {
                heard.extend_from_slice(part);
                take_in(&mut heard, &mut server).unwrap();
            }
            assert_eq!((heard.len(), heard.capacity()), (0, 0), "cut at {cut}");
            assert_eq!(server.params.value(b"timezone"), Some(&b"CET"[..]));
            assert!(Rc::ptr_eq(&server.params, &server.base));
        }
    }

    #[test]
    fn a_connection_with_settings_of_its_own_keeps_them() {
        let mut server = server();
        server.params = Rc::new(Params::default().reported(b"TimeZone", b"UTC").reported(b"DateStyle", b"German"));
        take_in(&mut TIMEZONE.to_vec(), &mut server).unwrap();
        assert_eq!(server.base.value(b"DateStyle"), Some(&b"ISO"[..]));
        assert_eq!(server.params.value(b"DateStyle"), Some(&b"German"[..]));
        assert_eq!((server.base.value(b"TimeZone"), server.params.value(b"TimeZone")), (Some(&b"CET"[..]), Some(&b"CET"[..])));
    }

    #[test]
    fn anything_else_is_the_end_at_its_first_byte() {
        for bad in [&b"E"[..], b"A", b"Z", b"D", b"\0", b"S\xff\xff\xff\xff", b"N\0\0\0\x03", b"S\0\x01\0\0", SETTING] {
            for before in [&b""[..], TIMEZONE] {
                let mut heard = [before, bad].concat();
                assert_eq!(take_in(&mut heard, &mut server()), Err(EvictReason::ServerClosed), "{bad:?}");
            }
        }
    }
}
