//! `[pure]` Messages after the first packet: one type byte, a length that counts itself, a body.
//!
//! Only what a login needs is encoded or decoded here. Everything else in the protocol passes by unread.

use std::fmt;

/// Type byte and length of a message.
pub const HEADER_BYTES: usize = 5;

/// Why bytes are not a message. The text names the mistake and quotes nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How many bytes the whole message has, type byte included.
///
/// # Errors
/// The length field is negative, less than its own 4 bytes, or the message would exceed `limit_bytes`.
pub fn message_bytes(header: [u8; HEADER_BYTES], limit_bytes: usize) -> Result<usize, Malformed> {
    let [_, length @ ..] = header;
    let length = i32::from_be_bytes(length);
    if length < 4 {
        return Err(Malformed("a message's length is less than 4"));
    }
    match usize::try_from(length).ok().and_then(|length| length.checked_add(1)) {
        Some(total) if total <= limit_bytes => Ok(total),
        _ => Err(Malformed("a message is longer than a login needs")),
    }
}

/// What the server wants of a client that logs in: the body of an `R` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The login is over.
    Ok,
    /// The password itself.
    CleartextPassword,
    /// The password hashed with this salt.
    Md5Password([u8; 4]),
    /// A SASL exchange; the list of mechanisms, see [`mechanisms`].
    Sasl(&'a [u8]),
    /// The next step of the SASL exchange.
    SaslContinue(&'a [u8]),
    /// The end of the SASL exchange.
    SaslFinal(&'a [u8]),
    /// Something else: Kerberos, GSSAPI, SSPI…
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of an `R` message.
    ///
    /// # Errors
    /// The body is too short, or has bytes behind its end.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (code, rest) = body.split_first_chunk::<4>().ok_or(Malformed("an authentication request without a code"))?;
        let exact = |request| if rest.is_empty() { Ok(request) } else { Err(Malformed("bytes behind an authentication request")) };
        match u32::from_be_bytes(*code) {
            0 => exact(Self::Ok),
            3 => exact(Self::CleartextPassword),
            5 => rest.try_into().map(Self::Md5Password).map_err(|_| Malformed("an MD5 salt that is not 4 bytes")),
            10 => Ok(Self::Sasl(rest)),
            11 => Ok(Self::SaslContinue(rest)),
            12 => Ok(Self::SaslFinal(rest)),
            other => Ok(Self::Other(other)),
        }
    }

    /// What people call this method.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok => "trust",
            Self::CleartextPassword => "a cleartext password",
            Self::Md5Password(_) => "MD5",
            Self::Sasl(_) | Self::SaslContinue(_) | Self::SaslFinal(_) => "SASL",
            Self::Other(2) => "Kerberos V5",
            Self::Other(6) => "SCM credentials",
            Self::Other(7 | 8) => "GSSAPI",
            Self::Other(9) => "SSPI",
            Self::Other(_) => "an unknown method",
        }
    }
}

/// The names in a list of SASL mechanisms.
///
/// # Errors
/// The list does not end with an empty name, or goes on behind it.
pub fn mechanisms(list: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let names = list.strip_suffix(b"\0").ok_or(Malformed("a list of SASL mechanisms without an end"))?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.strip_suffix(b"\0").ok_or(Malformed("a list of SASL mechanisms without an end"))?;
    let names: Vec<_> = names.split(|byte| *byte == 0).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(Malformed("an empty name among SASL mechanisms"));
    }
    Ok(names)
}

/// What a client answers first in a SASL exchange: the chosen mechanism and its first message.
///
/// # Errors
/// The name or the message does not end where it says, or there is no first message (SCRAM clients always have one).
pub fn parse_sasl_initial_response(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Malformed("a SASL mechanism without an end"))?;
    let (mechanism, rest) = body.split_at_checked(end).ok_or(Malformed("a SASL mechanism without an end"))?;
    let (length, message) = rest.get(1..).and_then(<[u8]>::split_first_chunk::<4>).ok_or(Malformed("a SASL response without a length"))?;
    if usize::try_from(i32::from_be_bytes(*length)) == Ok(message.len()) {
        Ok((mechanism, message))
    } else {
        Err(Malformed("a SASL response of another length than it says"))
    }
}

/// A setting that the server reports: name and value, the body of an `S` message.
///
/// # Errors
/// It is not two strings and nothing else, or the name is empty.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut strings = body.strip_suffix(b"\0").unwrap_or_default().split(|byte| *byte == 0);
    match (strings.next(), strings.next(), strings.next()) {
        (Some(name), Some(value), None) if !name.is_empty() => Ok((name, value)),
        _ => Err(Malformed("a setting that is not a name and a value")),
    }
}

/// What cancels a query: process and secret, the body of a `K` message in protocol 3.0.
///
/// # Errors
/// It has another length.
pub fn backend_key(body: &[u8]) -> Result<(u32, u32), Malformed> {
    match body {
        [a, b, c, d, e, f, g, h] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))),
        _ => Err(Malformed("a key for cancelling of another length than 8 bytes")),
    }
}

/// The five characters that classify an error, as in PostgreSQL's documentation, appendix A.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code of an ErrorResponse's body; the only one of its fields that is safe to log. `None` if it has none, as old servers and
    /// some proxies do, or an impossible one.
    #[must_use]
    pub fn of_error(body: &[u8]) -> Option<Self> {
        body.split(|byte| *byte == 0).take_while(|field| !field.is_empty()).find_map(|field| match field {
            [b'C', code @ ..] => <[u8; 5]>::try_from(code).ok().filter(|code| code.iter().all(u8::is_ascii_alphanumeric)).map(Self),
            _ => None,
        })
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `E`, severity FATAL: what it means by its SQLSTATE `code`, in words by `text`. The connection is closed after it.
#[must_use]
pub fn fatal(code: &str, text: &str) -> Vec<u8> {
    message(b'E', |body| {
        // S is for people and may be translated, V never is; both since 9.6.
        for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', text)] {
            body.push(field);
            push_string(body, value.as_bytes());
        }
        body.push(0);
    })
}

/// `R` 0: the login is over.
#[must_use]
pub fn authentication_ok() -> Vec<u8> {
    authentication(0, &[])
}

/// `R` 10: a SASL exchange with one of these mechanisms.
#[must_use]
pub fn authentication_sasl(mechanisms: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in mechanisms {
        push_string(&mut list, name);
    }
    list.push(0);
    authentication(10, &list)
}

/// `R` 11: the server's next message in the SASL exchange.
#[must_use]
pub fn authentication_sasl_continue(data: &[u8]) -> Vec<u8> {
    authentication(11, data)
}

/// `R` 12: the server's last message in the SASL exchange.
#[must_use]
pub fn authentication_sasl_final(data: &[u8]) -> Vec<u8> {
    authentication(12, data)
}

/// `p`: a hashed password.
#[must_use]
pub fn password(hashed: &str) -> Vec<u8> {
    message(b'p', |body| push_string(body, hashed.as_bytes()))
}

/// `p`: the client's first message in a SASL exchange.
#[must_use]
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Vec<u8> {
    message(b'p', |body| {
        push_string(body, mechanism.as_bytes());
        body.extend_from_slice(&length_field(data.len()));
        body.extend_from_slice(data);
    })
}

/// `p`: the client's next message in a SASL exchange.
#[must_use]
pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    message(b'p', |body| body.extend_from_slice(data))
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', |body| {
        body.extend_from_slice(&code.to_be_bytes());
        body.extend_from_slice(data);
    })
}

fn message(kind: u8, write_body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    write_body(&mut body);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.push(kind);
    out.extend_from_slice(&length_field(body.len().saturating_add(4)));
    out.append(&mut body);
    out
}

/// A length on the wire. All our bodies are made of bounded parts, kilobytes at most, so it always fits.
fn length_field(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

/// A NUL-terminated string. A NUL inside would start a field of its own, so the string ends there.
fn push_string(out: &mut Vec<u8>, value: &[u8]) {
    out.extend(value.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

/// For fuzzing: every parser here on the same foreign bytes. Must never panic.
pub fn fuzz(data: &[u8]) {
    if let Some((header, body)) = data.split_first_chunk() {
        if let Ok(total) = message_bytes(*header, 1 << 16) {
            assert!((HEADER_BYTES..=1 << 16).contains(&total));
        }
        let _ = SqlState::of_error(body);
    }
    if let Ok(Authentication::Sasl(list)) = Authentication::parse(data)
        && let Ok(names) = mechanisms(list)
    {
        let again = authentication_sasl(&names);
        assert_eq!(again.get(9..), Some(list), "a list that was understood is encoded as it was");
    }
    let _ = parse_sasl_initial_response(data);
    let _ = backend_key(data);
    if let Ok((name, value)) = parameter_status(data) {
        assert_eq!(name.len().saturating_add(value.len()).saturating_add(2), data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded_on_both_ends() {
        let with = |length: i32| {
            let [a, b, c, d] = length.to_be_bytes();
            message_bytes([b'R', a, b, c, d], 100)
        };
        for bad in [i32::MIN, -1, 0, 3, 100, i32::MAX] {
            assert!(with(bad).is_err(), "{bad}");
        }
        assert_eq!(with(4), Ok(5));
        assert_eq!(with(99), Ok(100));
    }

    #[test]
    fn authentication_requests_are_recognised_and_cut_ones_refused() {
        assert_eq!(Authentication::parse(&authentication_ok()[5..]), Ok(Authentication::Ok));
        assert_eq!(Authentication::parse(&[0, 0, 0, 5, 1, 2, 3, 4]), Ok(Authentication::Md5Password([1, 2, 3, 4])));
        assert_eq!(Authentication::parse(&[0, 0, 0, 7]).unwrap().name(), "GSSAPI");
        for bad in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 0], &[0, 0, 0, 3, 1], &[0, 0, 0, 5, 1, 2, 3], &[0, 0, 0, 5, 1, 2, 3, 4, 5]] {
            assert!(Authentication::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mechanism_lists_survive_a_round_trip_and_no_cut() {
        let names: [&[u8]; 2] = [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];
        let encoded = authentication_sasl(&names);
        let list = &encoded[9..];
        assert_eq!(mechanisms(list).unwrap(), names);
        for cut in 0..list.len() {
            assert!(mechanisms(&list[..cut]).is_err(), "cut at {cut}");
        }
        assert!(mechanisms(b"\0").unwrap().is_empty());
        assert!(mechanisms(b"A\0\0B\0\0").is_err());
    }

    #[test]
    fn a_sasl_response_must_be_as_long_as_it_says() {
        let whole = sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc");
        let body = &whole[5..];
        assert_eq!(parse_sasl_initial_response(body), Ok((&b"SCRAM-SHA-256"[..], &b"n,,n=,r=abc"[..])));
        for cut in 0..body.len() {
            assert!(parse_sasl_initial_response(&body[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse_sasl_initial_response(b"X\0\xff\xff\xff\xff").is_err());
        assert!(parse_sasl_initial_response(b"X\0\x7f\xff\xff\xffabc").is_err());
    }

    #[test]
    fn a_setting_is_two_strings_and_a_key_eight_bytes() {
        assert_eq!(parameter_status(b"TimeZone\0UTC\0"), Ok((&b"TimeZone"[..], &b"UTC"[..])));
        assert_eq!(parameter_status(b"application_name\0\0"), Ok((&b"application_name"[..], &b""[..])));
        for bad in [&b""[..], b"\0", b"\0\0", b"a\0", b"a\0b", b"\0b\0", b"a\0b\0c\0", b"a\0b\0\0"] {
            assert!(parameter_status(bad).is_err(), "{bad:?}");
        }
        assert_eq!(backend_key(&[0, 0, 0, 1, 0xff, 0, 0, 2]), Ok((1, 0xff00_0002)));
        assert!(backend_key(&[0; 7]).is_err() && backend_key(&[0; 36]).is_err());
    }

    #[test]
    fn a_fatal_error_carries_its_code_and_cannot_be_split_by_a_nul() {
        let error = fatal("53300", "too\0CXXXXX\0many");
        assert_eq!(SqlState::of_error(&error[5..]).unwrap().as_str(), "53300");
        assert_eq!(error[5..], *b"SFATAL\0VFATAL\0C53300\0Mtoo\0\0");
        assert_eq!(message_bytes(error[..5].try_into().unwrap(), 1000), Ok(error.len()));
        for no_code in [&b""[..], b"\0", b"C53\0\0", b"C5330\xff\0\0", b"\0C53300\0\0", b"Mtext\0\0"] {
            assert_eq!(SqlState::of_error(no_code), None, "{no_code:?}");
        }
    }

    #[test]
    fn fuzz_body_on_random_bytes() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let mut data: Vec<u8> = (0..random.usize(0..60)).map(|_| *random.choice(b"\0\0\0CSCRAM5330\x0a\xff").unwrap()).collect();
            if random.bool() {
                data.splice(0..0, [0, 0, 0, 10]);
            }
            fuzz(&data);
        }
    }
}
