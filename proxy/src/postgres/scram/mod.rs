//! `[pure]` SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it: both halves, the client's with channel binding.
//!
//! Bytes in, bytes out: the caller sends the messages, supplies the nonces and keeps the keys.
//!
//! ```text
//!   client                                                       server
//!   Start::message    n,,n=,r=<nonce>                       ──►  Exchange::first
//!   Start::update     r=<nonce+server's>,s=<salt>,i=<n>     ◄──
//!   Challenge::answer c=biws,r=…,p=<proof>                  ──►  Exchange::finish
//!   End::finish       v=<signature>                         ◄──
//! ```
//!
//! Deriving the keys costs thousands of hashes, on purpose, and depends only on password, salt and iterations. A server keeps its salt, so
//! [`KeyCache`] remembers the last result; one login in a row of thousands then pays for it.

mod client;
mod server;

pub use client::{Binding, Challenge, End, Start};
pub use server::{Exchange, Verifier};

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The same, bound to the TLS connection beneath; offered only by the server that TLS ends at.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Iterations for verifiers that we make: PostgreSQL's default.
pub const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// A server that asks for more wants our processor, not our password (RUSTSEC-2026-0179). About 30 ms.
pub const MAX_ITERATIONS: u32 = 100_000;

/// PostgreSQL's salts have 16 bytes.
const MAX_SALT_BYTES: usize = 1024;

type Hash = [u8; 32];

/// Why an exchange failed. Says what was wrong with the peer's message without quoting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// The peer's message is not SCRAM, or breaks its rules.
    Malformed(&'static str),
    /// The peer does not know the password: a wrong proof, a wrong signature, or the server's own `e=`.
    Refused(&'static str),
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// What follows from password, salt and iterations; enough to log in with, but not the password.
#[derive(Clone)]
pub struct Keys {
    client_key: Hash,
    server_key: Hash,
}

impl Keys {
    /// Derives them: `iterations` hashes.
    #[must_use]
    pub fn derive(password: &SecretString, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Hash::default();
        let prepared = prepare(password.expose_secret());
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut salted);
        Self { client_key: mac(&salted, &[b"Client Key"]), server_key: mac(&salted, &[b"Server Key"]) }
    }

    fn stored_key(&self) -> Hash {
        sha256(&self.client_key)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// Remembers the keys that were derived last. One per upstream login, shared by all its connections; 200 bytes.
#[derive(Default)]
pub struct KeyCache {
    last: Mutex<Option<Cached>>,
}

struct Cached {
    // A reload may bring another password while the server's salt stays.
    password: SecretString,
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: Keys,
}

impl KeyCache {
    /// The keys for a server's challenge, derived only if they are not the last ones. Derivation happens outside the lock: two first
    /// logins at once derive twice, and nobody waits for a hash in a lock.
    #[must_use]
    pub fn keys(&self, password: &SecretString, salt: &[u8], iterations: NonZeroU32) -> Keys {
        let cached = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|cached| {
            let same = cached.iterations == iterations
                && cached.salt == salt
                && equal(cached.password.expose_secret().as_bytes(), password.expose_secret().as_bytes());
            same.then(|| cached.keys.clone())
        });
        cached.unwrap_or_else(|| {
            let keys = Keys::derive(password, salt, iterations);
            let entry = Cached { password: password.clone(), salt: salt.to_vec(), iterations, keys: keys.clone() };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
            keys
        })
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCache(***)")
    }
}

/// SASLprep, so that one password typed on different keyboards is one sequence of bytes; as in PostgreSQL, a password that SASLprep
/// forbids is used as it is.
fn prepare(password: &str) -> Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password))
}

/// A nonce in the characters that SCRAM allows, from 18 random bytes (PostgreSQL's own length).
#[must_use]
pub fn nonce(random: [u8; 18]) -> String {
    encode(&random)
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The value of the next attribute, which must be `name`, and what follows its comma (`None` at the end).
fn attribute(text: &str, name: char) -> Option<(&str, Option<&str>)> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    match value.split_once(',') {
        Some((value, rest)) => Some((value, Some(rest))),
        None => Some((value, None)),
    }
}

/// Printable ASCII without a comma, and not empty.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    to_hash(context.sign().as_ref())
}

fn sha256(bytes: &[u8]) -> Hash {
    to_hash(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// SHA-256 always yields 32 bytes; zipping keeps that fact out of the panicking kind of code.
fn to_hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    hash
}

fn xor(a: Hash, b: Hash) -> Hash {
    let mut out = a;
    out.iter_mut().zip(b).for_each(|(to, from)| *to ^= from);
    out
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// For fuzzing: foreign bytes at every place where a peer's message is read. Must never panic, and never succeed.
pub fn fuzz(data: &[u8]) {
    let keys = Keys { client_key: [1; 32], server_key: [2; 32] };
    let _ = Start::new("rOprNGfwEbeRWgbNEkqO", Binding::Unable).update(data);
    if let Ok(challenge) = Start::new("abc", Binding::NotOffered).update(b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096") {
        let (_, end) = challenge.answer(&keys);
        assert!(end.finish(data).is_err(), "nobody guesses a signature");
    }
    let verifier = Verifier::from_keys(&keys, vec![1; 16], DEFAULT_ITERATIONS);
    let _ = Exchange::first(&verifier, data, "3rfcNHYJY1ZVvWVs7j");
    if let Ok((exchange, _)) = Exchange::first(&verifier, b"n,,n=,r=abc", "def") {
        assert!(exchange.finish(data).is_err(), "nobody guesses a proof");
    }
}

#[cfg(test)]
mod tests;
