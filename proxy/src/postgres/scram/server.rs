//! `[pure]` The server's half: checks a client's proof against a local password.
//!
//! Every user name is accepted: the password alone decides, so there is no name whose existence could be probed.

use std::fmt;
use std::num::NonZeroU32;

use secrecy::SecretString;

use super::ScramError::Malformed;
use super::{Hash, Keys, ScramError, attribute, decode, encode, equal, is_nonce, mac, sha256, xor};

/// What is needed to check proofs of one password. Not the password, and of no use for logging in.
#[derive(Clone)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    stored_key: Hash,
    server_key: Hash,
}

impl Verifier {
    /// From the password itself; `salt` random, 16 bytes as PostgreSQL's. Costs `iterations` hashes: make it once, not per client.
    #[must_use]
    pub fn new(password: &SecretString, salt: [u8; 16], iterations: NonZeroU32) -> Self {
        Self::from_keys(&Keys::derive(password, &salt, iterations), salt.to_vec(), iterations)
    }

    pub(super) fn from_keys(keys: &Keys, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        Self { salt, iterations, stored_key: keys.stored_key(), server_key: keys.server_key }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

/// A client's exchange after its first message.
pub struct Exchange<'a> {
    verifier: &'a Verifier,
    nonce: String,
    /// The client's gs2 header in base64: it must come back.
    binding: String,
    first_bare: String,
    server_first: String,
}

impl<'a> Exchange<'a> {
    /// Reads client-first-message and answers with server-first-message. `nonce`: our part, see [`super::nonce`].
    ///
    /// # Errors
    /// It is not one, or asks for channel binding or another identity.
    pub fn first(verifier: &'a Verifier, client_first: &[u8], nonce: &str) -> Result<(Self, String), ScramError> {
        let text = std::str::from_utf8(client_first).map_err(|_| Malformed("the client's SCRAM message is not text"))?;
        // `y`: the client could bind the channel but was not offered it, which is true.
        let first_bare = match text.split_at_checked(3) {
            Some(("n,," | "y,,", rest)) => rest,
            _ if text.starts_with("p=") => return Err(Malformed("the client asks for channel binding, which was not offered")),
            _ => return Err(Malformed("the client's SCRAM message has an unknown header")),
        };
        let binding = text.get(..3).unwrap_or_default();
        let (_, rest) = attribute(first_bare, 'n').ok_or(Malformed("the client's SCRAM message has no user"))?;
        let (client_nonce, _) = rest.and_then(|rest| attribute(rest, 'r')).ok_or(Malformed("the client's SCRAM message has no nonce"))?;
        if !is_nonce(client_nonce) {
            return Err(Malformed("the client's SCRAM nonce has characters that are not allowed"));
        }
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", encode(&verifier.salt), verifier.iterations);
        let exchange = Self {
            verifier,
            nonce,
            binding: encode(binding.as_bytes()),
            first_bare: first_bare.to_owned(),
            server_first: server_first.clone(),
        };
        Ok((exchange, server_first))
    }

    /// Reads client-final-message; answers with server-final-message if the client knows the password.
    ///
    /// # Errors
    /// [`ScramError::Refused`]: the password is wrong. [`ScramError::Malformed`]: the message is not one, or belongs to another exchange.
    pub fn finish(self, client_final: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(client_final).map_err(|_| Malformed("the client's SCRAM message is not text"))?;
        // The proof is the last attribute and base64 has no comma, so this is its start. Extensions before it are signed and ignored.
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Malformed("the client's SCRAM message has no proof"))?;
        let (binding, rest) = attribute(without_proof, 'c').ok_or(Malformed("the client's SCRAM message has no channel binding"))?;
        let (nonce, _) = rest.and_then(|rest| attribute(rest, 'r')).ok_or(Malformed("the client's SCRAM message has no nonce"))?;
        if binding != self.binding {
            return Err(Malformed("the client's SCRAM channel binding changed"));
        }
        if nonce != self.nonce {
            return Err(Malformed("the client's SCRAM nonce changed"));
        }
        let proof =
            decode(proof).and_then(|proof| Hash::try_from(proof).ok()).ok_or(Malformed("the client's SCRAM proof is not 32 bytes"))?;

        let signed = [self.first_bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let client_key = xor(proof, mac(&self.verifier.stored_key, &signed));
        if equal(&sha256(&client_key), &self.verifier.stored_key) {
            Ok(format!("v={}", encode(&mac(&self.verifier.server_key, &signed))))
        } else {
            Err(ScramError::Refused("the password is wrong"))
        }
    }
}
