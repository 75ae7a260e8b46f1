//! Checks a client's local password, before any upstream connection is taken for it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Login;
use super::frames::{Frames, send};
use super::message::{self, authentication_sasl, authentication_sasl_continue, authentication_sasl_final, fatal};
use super::refuse;
use super::scram::{self, Exchange, ScramError, Verifier};
use super::startup::Startup;
use crate::error::{Error, Kind, Result, Side};

/// PostgreSQL takes 1,024 bytes for a SASL message.
const LIMIT_BYTES: usize = 1024 + message::HEADER_BYTES;

/// How long a wrong password takes to be called wrong: a guesser gets four tries a second out of each connection slot.
const THROTTLE: Duration = Duration::from_millis(250);

/// Has the client prove by SCRAM-SHA-256 that it knows the local password; any user name will do. [`Login::Ready`]: it does, and waits for
/// AuthenticationOk, which [`super::log_in`] sends.
///
/// The caller bounds the time. After an error, or when the future is dropped, the connection is of no use; the client has been told.
///
/// # Errors
/// The password is wrong ([`Kind::Login`]), or the client broke the protocol or its connection.
pub async fn authenticate<C: AsyncRead + AsyncWrite + Unpin>(client: &mut C, startup: &Startup, verifier: &Verifier) -> Result<Login> {
    let failure = match exchange(client, verifier).await {
        Ok(login) => return Ok(login),
        Err(failure) => failure,
    };
    let last_words = match (failure.side, failure.kind) {
        (Side::Client, Kind::Login) => {
            tokio::time::sleep(THROTTLE).await;
            fatal("28P01", &format!("password authentication failed for user \"{}\"", startup.user_for_display()))
        }
        (Side::Client, Kind::Protocol) => fatal("08P01", &failure.why),
        _ => refuse::for_error(&failure),
    };
    refuse::say(client, &last_words).await;
    Err(failure)
}

async fn exchange<C: AsyncRead + AsyncWrite + Unpin>(client: &mut C, verifier: &Verifier) -> Result<Login> {
    let mut frames = Frames::new(Side::Client, LIMIT_BYTES);
    send(client, Side::Client, &authentication_sasl(&[scram::MECHANISM.as_bytes()])).await?;
    // A client without a password closes here, to ask for one and come again.
    let Some(body) = answer(&mut frames, client).await? else { return Ok(Login::ClientGone) };
    let (mechanism, first) = message::parse_sasl_initial_response(body).map_err(|error| broken(error.0))?;
    if mechanism != scram::MECHANISM.as_bytes() {
        return Err(broken("the client selected a SASL mechanism that was not offered"));
    }
    let (running, server_first) = Exchange::first(verifier, first, &fresh_nonce()?).map_err(failed)?;
    send(client, Side::Client, &authentication_sasl_continue(server_first.as_bytes())).await?;
    let Some(body) = answer(&mut frames, client).await? else { return Ok(Login::ClientGone) };
    let server_final = running.finish(body).map_err(failed)?;
    send(client, Side::Client, &authentication_sasl_final(server_final.as_bytes())).await?;
    Ok(Login::Ready)
}

/// The body of the client's next password message; `None` when it has closed.
async fn answer<'a, C: AsyncRead + Unpin>(frames: &'a mut Frames, client: &mut C) -> Result<Option<&'a [u8]>> {
    match frames.next(client).await? {
        None => Ok(None),
        Some(b'p') => Ok(Some(frames.body())),
        Some(_) => Err(broken("expected a SASL response from the client")),
    }
}

/// A nonce for one exchange, from the system's randomness.
pub(super) fn fresh_nonce() -> Result<String> {
    let mut random = [0; 18];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::ours(Kind::Io, "the system has no randomness for a SCRAM nonce"))?;
    Ok(scram::nonce(random))
}

fn failed(error: ScramError) -> Error {
    match error {
        ScramError::Malformed(why) => broken(why),
        ScramError::Refused(why) => Error::client(Kind::Login, why),
    }
}

fn broken(why: &str) -> Error {
    Error::client(Kind::Protocol, why)
}
