//! Logs in upstream with the proxy's own user and password, for a client that has been accepted.
//!
//! ```text
//!   Asked ──SASL──► Greeted ──continue──► Proved ──final, server's signature checked──► Checked ──Ok──► done
//!     ├────MD5────────────────────────────────────────────────────────────────────────►    │
//!     └────Ok, only where a client certificate has said who we are ────────────────────────────────────► done
//! ```
//!
//! Every other order is refused: a server that asks for the password itself, or for none, is not the one it was yesterday.

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Login;
use super::client_auth::fresh_nonce;
use super::frames::{Frames, send};
use super::message::{self, Authentication, SqlState, authentication_ok, mechanisms};
use super::scram::{self, Challenge, End, KeyCache, ScramError, Start};
use super::startup::Startup;
use super::{md5, refuse};
use crate::error::{Error, Kind, Result, Side};

/// The longest message of a login; libpq takes errors of 30,000 bytes.
const LIMIT_BYTES: usize = 64 * 1024;

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
    /// Where the keys of this account's last login are kept.
    pub keys: &'a KeyCache,
}

/// Logs in upstream as `account`, then tells the client AuthenticationOk. After [`Login::Ready`] both streams stand behind their last whole
/// message and bytes can be copied blindly: the server's parameters, BackendKeyData and ReadyForQuery come next.
///
/// The server gets the client's own StartupMessage with another user. Its database stays if the client chose one, that is, if it is not
/// merely the client's user name, which libpq fills in; else `account.database` is used. Notices and NegotiateProtocolVersion are passed
/// to the client. So are the server's errors (too many connections, starting up…), verbatim, for they are what the client would read without
/// us; except those about our login, which are ours to mend.
///
/// The caller bounds the time. After an error, or when the future is dropped, both connections are of no use; the client has been told.
///
/// # Errors
/// The server refused the account or asked for a login that is not allowed ([`Kind::Login`]), or a side broke the protocol or its connection.
pub async fn log_in<C, U>(client: &mut C, upstream: &mut U, startup: &Startup, account: Account<'_>) -> Result<Login>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let result = converse(client, upstream, startup, account).await;
    if let Err(error) = &result {
        refuse::say(client, &refuse::for_error(error)).await;
    }
    result
}

async fn converse<C, U>(client: &mut C, upstream: &mut U, startup: &Startup, account: Account<'_>) -> Result<Login>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let database = startup.chosen_database().or_else(|| account.database.map(str::as_bytes));
    let packet = startup
        .with_login(account.user.as_bytes(), database)
        .map_err(|refusal| Error::client(Kind::Protocol, format!("cannot log in for it: {refusal}")))?;
    send(upstream, Side::Upstream, &packet).await?;
    let mut frames = Frames::new(Side::Upstream, LIMIT_BYTES);
    let mut stage = Stage::Asked;
    loop {
        let Some(kind) = frames.next(upstream).await? else {
            return Err(Error::upstream(Kind::Io, "closed before the login was over"));
        };
        match kind {
            b'R' => {
                let request = Authentication::parse(frames.body()).map_err(|error| broken(error.0))?;
                let (next, reply) = stage.step(request, account)?;
                stage = next;
                if let Some(reply) = reply {
                    send(upstream, Side::Upstream, &reply).await?;
                }
                if matches!(stage, Stage::Done) {
                    send(client, Side::Client, &authentication_ok()).await?;
                    return Ok(Login::Ready);
                }
            }
            b'E' => {
                let state = SqlState::of_error(frames.body());
                if let Some(code @ ("28P01" | "28000")) = state.as_ref().map(SqlState::as_str) {
                    let why =
                        format!("the server refused the proxy's login (SQLSTATE {code}): check its user and password, and pg_hba.conf");
                    return Err(Error::upstream(Kind::Login, why));
                }
                refuse::say(client, frames.message()).await;
                return Ok(Login::Refused(state));
            }
            b'N' | b'v' => send(client, Side::Client, frames.message()).await?,
            _ => return Err(broken("a message that does not belong in a login")),
        }
    }
}

/// How far the login upstream is.
enum Stage {
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

impl Stage {
    /// What follows from the server's request, and what to answer.
    fn step(self, request: Authentication<'_>, account: Account<'_>) -> Result<(Self, Option<Vec<u8>>)> {
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
                if !mechanisms(list).map_err(|error| broken(error.0))?.contains(&scram::MECHANISM.as_bytes()) {
                    return Err(not_allowed("offers SASL, but not SCRAM-SHA-256"));
                }
                let start = Start::new(&fresh_nonce()?);
                let message = message::sasl_initial_response(scram::MECHANISM, start.message().as_bytes());
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

fn not_allowed(what: &str) -> Error {
    Error::upstream(Kind::Login, format!("the server {what}"))
}

fn broken(what: &str) -> Error {
    Error::upstream(Kind::Protocol, format!("sent {what}"))
}

fn scram_failed(error: ScramError) -> Error {
    let kind = match error {
        ScramError::Malformed(_) => Kind::Protocol,
        ScramError::Refused(_) => Kind::Login,
    };
    Error::upstream(kind, error.to_string())
}
