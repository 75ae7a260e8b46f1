//! The proxy's own account at a server, and proving it: whatever comes before and after, this is the same.
//!
//! ```text
//!   Asked ──SASL──► Greeted ──continue──► Proved ──final, server's signature checked──► Checked ──Ok──► Done
//!     ├────MD5────────────────────────────────────────────────────────────────────────►    │
//!     └────Ok, only where a client certificate has said who we are ────────────────────────────────────► Done
//! ```
//!
//! Every other order is refused: a server that asks for the password itself, or for none, is not the one it was yesterday.

use secrecy::{ExposeSecret, SecretString};

use super::client_auth::fresh_nonce;
use super::md5;
use super::message::{self, Authentication, SqlState, mechanisms};
use super::scram::{self, Binding, Challenge, End, KeyCache, ScramError, Start};
use crate::error::{Error, Kind, Result};

/// Whom the proxy is upstream.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// The role.
    pub user: &'a str,
    /// Its password.
    pub password: &'a SecretString,
    /// The database for clients that name none of their own; without it the server takes the one named like `user`.
    pub database: Option<&'a str>,
    /// A server that asks for no password is believed. Only with a TLS client certificate: otherwise it lets everybody in.
    pub allow_trust: bool,
    /// The server's certificate as the TLS handshake showed it, hashed ([`crate::stream::Stream::end_point`]); `None` where the login cannot
    /// be bound to it.
    pub end_point: Option<&'a [u8]>,
    /// Where the keys of this account's last login are kept.
    pub keys: &'a KeyCache,
}

/// How far the proof is.
pub(super) enum Proof {
    /// The StartupMessage is sent.
    Asked,
    /// Our first SCRAM message is sent.
    Greeted(Start),
    /// Our proof is sent; the server owes its own.
    Proved(End),
    /// Nothing is owed but AuthenticationOk.
    Checked,
    /// Logged in.
    Done,
}

impl Proof {
    /// What follows from the server's request, and what to answer.
    pub(super) fn step(self, request: Authentication<'_>, account: &Account<'_>) -> Result<(Self, Option<Vec<u8>>)> {
        match (self, request) {
            (Self::Checked, Authentication::Ok) => Ok((Self::Done, None)),
            (Self::Asked, Authentication::Ok) if account.allow_trust => Ok((Self::Done, None)),
            (Self::Asked, Authentication::Ok) => {
                Err(not_allowed("lets everybody in without a password; use scram-sha-256 in its pg_hba.conf"))
            }
            (Self::Asked, Authentication::Md5Password(salt)) => {
                let hashed = md5::answer(account.user.as_bytes(), account.password.expose_secret().as_bytes(), salt);
                Ok((Self::Checked, Some(message::password(&hashed))))
            }
            (Self::Asked, Authentication::Sasl(list)) => {
                let offered = mechanisms(list).map_err(|error| broken(error.0))?;
                let (mechanism, binding) = choose(&offered, account.end_point)?;
                let start = Start::new(&fresh_nonce()?, binding);
                let message = message::sasl_initial_response(mechanism, start.message().as_bytes());
                Ok((Self::Greeted(start), Some(message)))
            }
            (Self::Greeted(start), Authentication::SaslContinue(data)) => {
                let challenge: Challenge = start.update(data).map_err(scram_failed)?;
                let keys = account.keys.keys(account.password, challenge.salt(), challenge.iterations());
                let (message, end) = challenge.answer(&keys);
                Ok((Self::Proved(end), Some(message::sasl_response(message.as_bytes()))))
            }
            (Self::Proved(end), Authentication::SaslFinal(data)) => {
                end.finish(data).map_err(scram_failed)?;
                Ok((Self::Checked, None))
            }
            (Self::Asked, other) => Err(not_allowed(&format!("asks for {}; the proxy answers SCRAM-SHA-256 and MD5 only", other.name()))),
            // Among them AuthenticationOk before the server has proved itself.
            (Self::Greeted(_) | Self::Proved(_) | Self::Checked | Self::Done, _) => Err(broken("a step of the login out of order")),
        }
    }
}

/// The mechanism, and what the exchange says of the channel. With a hash of the server's certificate the login is bound to it whenever the
/// server can do that; where it does not offer to, it hears that we could have, and knows if somebody has taken its offer away.
fn choose<'a>(offered: &[&[u8]], end_point: Option<&'a [u8]>) -> Result<(&'static str, Binding<'a>)> {
    let offers = |mechanism: &str| offered.contains(&mechanism.as_bytes());
    match end_point {
        Some(hash) if offers(scram::MECHANISM_PLUS) => Ok((scram::MECHANISM_PLUS, Binding::EndPoint(hash))),
        Some(_) if offers(scram::MECHANISM) => Ok((scram::MECHANISM, Binding::NotOffered)),
        None if offers(scram::MECHANISM) => Ok((scram::MECHANISM, Binding::Unable)),
        None if offers(scram::MECHANISM_PLUS) => {
            Err(not_allowed("wants the login bound to its certificate, whose kind of signature does not allow that; use RSA or ECDSA"))
        }
        Some(_) | None => Err(not_allowed("offers SASL, but not SCRAM-SHA-256")),
    }
}

/// The server does not take the account itself.
pub(super) fn account_refused(state: Option<&SqlState>) -> Option<Error> {
    let code = state.map(SqlState::as_str).filter(|code| matches!(*code, "28P01" | "28000"))?;
    let why = format!("the server refused the proxy's login (SQLSTATE {code}): check its user and password, and pg_hba.conf");
    Some(Error::upstream(Kind::Login, why))
}

fn not_allowed(what: &str) -> Error {
    Error::upstream(Kind::Login, format!("the server {what}"))
}

/// The server broke the protocol.
pub(super) fn broken(what: &str) -> Error {
    Error::upstream(Kind::Protocol, format!("sent {what}"))
}

fn scram_failed(error: ScramError) -> Error {
    let kind = match error {
        ScramError::Malformed(_) => Kind::Protocol,
        ScramError::Refused(_) => Kind::Login,
    };
    Error::upstream(kind, error.to_string())
}
