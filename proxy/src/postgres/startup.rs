//! `[pure]` The first packet of a connection: the only one without a type byte, sent by whoever found the port.
//!
//! PostgreSQL's own limits and words are used, so that a mistaken client reads here what it would read from the server.

use std::fmt;

use bytes::Bytes;

/// The longest first packet, its length field included: PostgreSQL's MAX_STARTUP_PACKET_LENGTH counts what follows the length.
pub const MAX_PACKET_BYTES: usize = 10_000 + LENGTH_BYTES;

/// The length field.
pub const LENGTH_BYTES: usize = 4;

/// Asks the server for TLS.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

const SSL_REQUEST_CODE: u32 = 80_877_103;
const GSSENC_REQUEST_CODE: u32 = 80_877_104;
const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Length, code and process number of a CancelRequest; the secret key follows.
const CANCEL_HEADER_BYTES: usize = 12;
/// The longest secret key of protocol 3.2.
const MAX_CANCEL_KEY_BYTES: usize = 256;
/// Length and version of a StartupMessage; the parameters follow.
const STARTUP_HEADER_BYTES: usize = 8;

/// Why a first packet is not served, in the form in which the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub code: &'static str,
    /// PostgreSQL's words where it has some.
    pub text: String,
}

impl Refusal {
    /// The client broke the protocol.
    #[must_use]
    pub fn protocol(text: &str) -> Self {
        Self { code: "08P01", text: text.to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.text, self.code)
    }
}

/// What a client's first packet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// TLS.
    Ssl,
    /// GSSAPI encryption.
    Gss,
    /// That another connection's query be cancelled; the whole packet, to be passed on as it is.
    Cancel(Bytes),
    /// A session.
    Startup(Startup),
}

/// How many bytes the first packet has, its length field included.
///
/// # Errors
/// The length is negative, too short for a code, or above [`MAX_PACKET_BYTES`].
pub fn packet_bytes(length: [u8; LENGTH_BYTES]) -> Result<usize, Refusal> {
    match usize::try_from(i32::from_be_bytes(length)) {
        Ok(total @ STARTUP_HEADER_BYTES..=MAX_PACKET_BYTES) => Ok(total),
        _ => Err(Refusal::protocol("invalid length of startup packet")),
    }
}

/// Reads one whole first packet.
///
/// # Errors
/// It is not as long as it says, of a protocol other than 3.x, or broken inside.
pub fn parse(packet: Bytes) -> Result<First, Refusal> {
    let header = packet.first_chunk::<STARTUP_HEADER_BYTES>().ok_or_else(|| Refusal::protocol("incomplete startup packet"))?;
    let [a, b, c, d, e, f, g, h] = *header;
    let length = packet_bytes([a, b, c, d])?;
    if length != packet.len() {
        return Err(Refusal::protocol("incomplete startup packet"));
    }
    let code = u32::from_be_bytes([e, f, g, h]);
    let only_a_code = |first| {
        if length == STARTUP_HEADER_BYTES { Ok(first) } else { Err(Refusal::protocol("an encryption request of the wrong length")) }
    };
    match code {
        SSL_REQUEST_CODE => only_a_code(First::Ssl),
        GSSENC_REQUEST_CODE => only_a_code(First::Gss),
        CANCEL_REQUEST_CODE => match length.checked_sub(CANCEL_HEADER_BYTES) {
            Some(1..=MAX_CANCEL_KEY_BYTES) => Ok(First::Cancel(packet)),
            _ => Err(Refusal::protocol("invalid length of query cancel packet")),
        },
        // Every 3.x, known or not, is the server's to judge: it answers NegotiateProtocolVersion to a minor version above its own.
        _ if code >> 16 == 3 => Startup::parse(packet).map(First::Startup),
        _ => Err(Refusal {
            code: "0A000",
            text: format!("unsupported frontend protocol {}.{}: server supports 3.0 and later", code >> 16, code & 0xffff),
        }),
    }
}

/// A CancelRequest.
#[must_use]
pub fn cancel_request(process: u32, secret: &[u8]) -> Vec<u8> {
    let total = u32::try_from(CANCEL_HEADER_BYTES + secret.len()).unwrap_or(u32::MAX);
    let header = [total, CANCEL_REQUEST_CODE, process].map(u32::to_be_bytes).concat();
    [header.as_slice(), secret].concat()
}

/// Process number and secret of a CancelRequest that [`parse`] has found.
#[must_use]
pub fn cancel_key(request: &[u8]) -> Option<(u32, &[u8])> {
    let (process, secret) = request.get(STARTUP_HEADER_BYTES..)?.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*process), secret))
}

/// A StartupMessage: who connects to what, with which settings. Kept as it arrived; the parameters are found in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    // Invariant: header, then pairs of NUL-terminated strings with non-empty names, exactly one `user`, at most one `database`, one NUL.
    raw: Bytes,
}

impl Startup {
    fn parse(raw: Bytes) -> Result<Self, Refusal> {
        let startup = Self { raw };
        let strings = startup.strings();
        // The terminator is an empty name and the last byte. Anything behind it could hide parameters from us that the server would see.
        let body = strings.strip_suffix(b"\0").ok_or_else(|| layout("expected terminator as last byte"))?;
        let (mut users, mut databases) = (0, 0);
        let mut rest = body;
        while !rest.is_empty() {
            let (name, after_name) = split_string(rest).ok_or_else(|| layout("a parameter's name has no end"))?;
            let (_, after) = split_string(after_name).ok_or_else(|| layout("a parameter has no value"))?;
            match name {
                b"" => return Err(layout("expected terminator as last byte")),
                b"user" => users += 1,
                b"database" => databases += 1,
                _ => {}
            }
            rest = after;
        }
        // A client that lets foreign text with a NUL into a value produces a second one.
        if users > 1 || databases > 1 {
            return Err(layout("user or database twice"));
        }
        if startup.user().is_empty() {
            return Err(Refusal { code: "28000", text: "no PostgreSQL user name specified in startup packet".to_owned() });
        }
        Ok(startup)
    }

    /// The packet as the client sent it.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Major and minor version of the protocol; the major one is 3.
    #[must_use]
    pub fn version(&self) -> (u16, u16) {
        match self.raw.get(LENGTH_BYTES..STARTUP_HEADER_BYTES) {
            Some([a, b, c, d]) => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
            _ => (3, 0),
        }
    }

    /// Names and values, in the client's order.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.strings();
        std::iter::from_fn(move || {
            let (name, after_name) = split_string(rest).filter(|(name, _)| !name.is_empty())?;
            let (value, after) = split_string(after_name)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The value of the first parameter of this name.
    #[must_use]
    pub fn parameter(&self, wanted: &str) -> Option<&[u8]> {
        self.parameters().find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| value)
    }

    /// The user; never empty.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.parameters().find(|(name, value)| *name == b"user" && !value.is_empty()).map_or(b"", |(_, value)| value)
    }

    /// The user for people: at most PostgreSQL's 63 bytes of it, and no control characters.
    #[must_use]
    pub fn user_for_display(&self) -> String {
        let user = self.user();
        String::from_utf8_lossy(user.get(..63).unwrap_or(user)).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }

    /// The database that the client names on its own account: none if it names none, or its user's name, which libpq puts there when
    /// nothing was configured.
    #[must_use]
    pub fn chosen_database(&self) -> Option<&[u8]> {
        self.parameter("database").filter(|name| !name.is_empty() && *name != self.user())
    }

    /// The same message for another user and database (`None`: none, so that the server takes the user's name). Version, all other
    /// parameters and their order stay.
    ///
    /// # Errors
    /// `user` or `database` contains a NUL, or the message grows beyond what the server takes.
    pub fn with_login(&self, user: &[u8], database: Option<&[u8]>) -> Result<Bytes, Refusal> {
        let version = self.raw.get(LENGTH_BYTES..STARTUP_HEADER_BYTES).unwrap_or_default();
        encode(version, user, database, self.parameters().filter(|(name, _)| *name != b"user" && *name != b"database"))
    }

    fn strings(&self) -> &[u8] {
        self.raw.get(STARTUP_HEADER_BYTES..).unwrap_or_default()
    }
}

/// A StartupMessage of protocol 3.0 that asks for nothing but a session of `user` in `database`.
///
/// # Errors
/// As [`Startup::with_login`].
pub fn plain(user: &[u8], database: &[u8]) -> Result<Bytes, Refusal> {
    encode(&[0, 3, 0, 0], user, Some(database), std::iter::empty())
}

fn encode<'a>(
    version: &[u8],
    user: &'a [u8],
    database: Option<&'a [u8]>,
    others: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Bytes, Refusal> {
    if user.is_empty() || user.contains(&0) || database.is_some_and(|name| name.contains(&0)) {
        return Err(Refusal::protocol("the configured user or database cannot be sent"));
    }
    let mut out = [&[0; LENGTH_BYTES], version].concat();
    let own = [(&b"user"[..], user)].into_iter().chain(database.map(|name| (&b"database"[..], name)));
    for (name, value) in own.chain(others) {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out.push(0);
    match (i32::try_from(out.len()), out.first_chunk_mut::<LENGTH_BYTES>()) {
        (Ok(total), Some(length)) if packet_bytes(total.to_be_bytes()).is_ok() => *length = total.to_be_bytes(),
        _ => return Err(Refusal::protocol("the startup packet is too long with the configured user and database")),
    }
    Ok(out.into())
}

impl fmt::Debug for Startup {
    /// Names only: values are the client's business (`options` may hold anything).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parameters().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_struct("Startup").field("version", &self.version()).field("names", &names.collect::<Vec<_>>()).finish()
    }
}

/// The bytes before the first NUL and those behind it.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end.checked_add(1)?..)?))
}

fn layout(what: &str) -> Refusal {
    Refusal { code: "08P01", text: format!("invalid startup packet layout: {what}") }
}

/// For fuzzing: foreign bytes as a first packet, as they are and with their length put right. Must never panic.
pub fn fuzz(data: &[u8]) {
    let mut packet = data.to_vec();
    for _ in 0..2 {
        if let Ok(First::Startup(startup)) = parse(Bytes::copy_from_slice(&packet)) {
            assert!(!startup.user().is_empty());
            assert_eq!(startup.version().0, 3);
            if let Ok(other) = startup.with_login(b"someone", startup.chosen_database()) {
                assert!(matches!(parse(other), Ok(First::Startup(again)) if again.user() == b"someone"), "what we write, we read");
            }
        }
        let length = i32::try_from(packet.len()).unwrap_or(i32::MAX).to_be_bytes();
        if let Some(field) = packet.first_chunk_mut() {
            *field = length;
        }
    }
}

#[cfg(test)]
mod tests;
