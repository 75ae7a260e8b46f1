//! `[pure]` The client's half: proves that we know the password, and has the server prove the same.

use std::num::NonZeroU32;

use super::ScramError::Malformed;
use super::{Keys, MAX_ITERATIONS, MAX_SALT_BYTES, ScramError, attribute, decode, encode, equal, is_nonce, mac, xor};

/// What the exchange says of the channel that it goes over (RFC 5802, section 6).
#[derive(Clone, Copy, Debug)]
pub enum Binding<'a> {
    /// We cannot bind to it.
    Unable,
    /// We could, but the server did not offer to. One that did learns from this that its offer was taken away, and refuses.
    NotOffered,
    /// `tls-server-end-point` (RFC 5929, section 4): the hash of the server's certificate. Goes with [`super::MECHANISM_PLUS`].
    EndPoint(&'a [u8]),
}

impl Binding<'_> {
    /// What it is in the first message, without another identity.
    fn header(self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The same under the proof.
    fn proved(self) -> String {
        let data = if let Self::EndPoint(hash) = self { hash } else { &[] };
        encode(&[self.header().as_bytes(), data].concat())
    }
}

/// The beginning of an exchange.
pub struct Start {
    nonce: String,
    header: &'static str,
    proved_binding: String,
    first_bare: String,
}

impl Start {
    /// `nonce`: see [`super::nonce`]; never the same twice. The user's name stays out: PostgreSQL takes it from the StartupMessage.
    #[must_use]
    pub fn new(nonce: &str, binding: Binding<'_>) -> Self {
        Self::for_user("", nonce, binding)
    }

    pub(super) fn for_user(user: &str, nonce: &str, binding: Binding<'_>) -> Self {
        let first_bare = format!("n={user},r={nonce}");
        Self { nonce: nonce.to_owned(), header: binding.header(), proved_binding: binding.proved(), first_bare }
    }

    /// client-first-message.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}{}", self.header, self.first_bare)
    }

    /// Reads server-first-message.
    ///
    /// # Errors
    /// It is not one, does not continue our nonce, or its salt or iterations are out of bounds.
    pub fn update(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let text = std::str::from_utf8(server_first).map_err(|_| Malformed("the server's SCRAM message is not text"))?;
        if text.starts_with("e=") {
            return Err(ScramError::Refused("the server ended the SCRAM exchange with an error"));
        }
        let (nonce, rest) = attribute(text, 'r').ok_or(Malformed("the server's SCRAM message has no nonce"))?;
        // A nonce that does not begin with ours belongs to another exchange: a replay.
        if !is_nonce(nonce) || nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Malformed("the server's SCRAM nonce does not continue ours"));
        }
        let (salt, rest) = rest.and_then(|rest| attribute(rest, 's')).ok_or(Malformed("the server's SCRAM message has no salt"))?;
        let salt = decode(salt)
            .filter(|salt| (1..=MAX_SALT_BYTES).contains(&salt.len()))
            .ok_or(Malformed("the server's SCRAM salt is empty, too long or not base64"))?;
        // Extensions may follow the iterations; optional ones are ignored.
        let (iterations, _) =
            rest.and_then(|rest| attribute(rest, 'i')).ok_or(Malformed("the server's SCRAM message has no iterations"))?;
        let iterations = Some(iterations)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|count: &NonZeroU32| count.get() <= MAX_ITERATIONS)
            .ok_or(Malformed("the server's SCRAM iterations are not within 1 to 100000"))?;
        let without_proof = format!("c={},r={nonce}", self.proved_binding);
        let signed = format!("{},{text},{without_proof}", self.first_bare);
        Ok(Challenge { salt, iterations, without_proof, signed })
    }
}

/// The server has answered; the keys for its salt are needed.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    without_proof: String,
    signed: String,
}

impl Challenge {
    /// 1 to 1024 bytes.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// 1 to [`MAX_ITERATIONS`].
    #[must_use]
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// client-final-message, and what is needed to check the server.
    #[must_use]
    pub fn answer(self, keys: &Keys) -> (String, End) {
        let signature = mac(&keys.stored_key(), &[self.signed.as_bytes()]);
        let proof = xor(keys.client_key, signature);
        let server_signature = mac(&keys.server_key, &[self.signed.as_bytes()]);
        (format!("{},p={}", self.without_proof, encode(&proof)), End { server_signature })
    }
}

/// Our proof is sent; the server's is awaited.
pub struct End {
    server_signature: [u8; 32],
}

impl End {
    /// Checks server-final-message.
    ///
    /// # Errors
    /// It reports an error, or the server does not know the password either.
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).map_err(|_| Malformed("the server's SCRAM message is not text"))?;
        if text.starts_with("e=") {
            return Err(ScramError::Refused("the server ended the SCRAM exchange with an error"));
        }
        let signature = attribute(text, 'v').and_then(|(value, _)| decode(value));
        let signature = signature.ok_or(Malformed("the server's SCRAM message has no signature"))?;
        if equal(&signature, &self.server_signature) {
            Ok(())
        } else {
            Err(ScramError::Refused("the server could not prove that it knows the password"))
        }
    }
}
