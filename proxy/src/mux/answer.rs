//! What the proxy answers itself where connections are shared: the commands that are about the client and not about the data. `[pure]`

use crate::redis::gate::is_name;

/// `+OK`.
pub(super) const OK: &[u8] = b"+OK\r\n";
/// To SYNC and its kind.
pub(super) const FORBIDDEN: &[u8] =
    b"-ERR redis-tls-proxy: replication is not possible through a connection pool; connect to the server itself\r\n";
/// To AUTH where the proxy logs in and asks no password of clients: as a server without a password answers.
pub(super) const NO_PASSWORD: &[u8] =
    b"-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n";
/// CLIENT GETNAME.
#[must_use]
pub(super) fn name(name: &[u8], resp3: bool) -> Vec<u8> {
    match (name.is_empty(), resp3) {
        (true, true) => b"_\r\n".to_vec(),
        (true, false) => b"$-1\r\n".to_vec(),
        (false, _) => [format!("${}\r\n", name.len()).as_bytes(), name, b"\r\n"].concat(),
    }
}

/// Whether Redis would take CLIENT SETINFO `attribute` `value`; if not, what it says.
///
/// # Errors
/// The reply.
pub(super) fn set_info(attribute: &[u8], value: &[u8]) -> Result<(), Vec<u8>> {
    let known = attribute.eq_ignore_ascii_case(b"lib-name") || attribute.eq_ignore_ascii_case(b"lib-ver");
    if !known {
        return Err([b"-ERR Unrecognized option '".as_slice(), &printable(attribute), b"'\r\n"].concat());
    }
    if !is_name(value) {
        let which = attribute.to_ascii_lowercase();
        return Err([b"-ERR ".as_slice(), &which, b" cannot contain spaces, newlines or special characters.\r\n"].concat());
    }
    Ok(())
}

/// To a subcommand of CLIENT that only a server without a proxy could promise.
#[must_use]
pub(super) fn unknown_subcommand(subcommand: &[u8]) -> Vec<u8> {
    [b"-ERR unknown subcommand '".as_slice(), &printable(subcommand), b"'. Try CLIENT HELP.\r\n"].concat()
}

/// A reply line must not end early: line ends become blanks, and it is cut at 128 bytes, as Redis does.
fn printable(text: &[u8]) -> Vec<u8> {
    text.iter().take(128).map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { *byte }).collect()
}
