//! Logs in upstream with the proxy's own user and password, for a client that has been accepted and has the connection to itself.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Login;
use super::account::{Account, Proof, account_refused, broken};
use super::frames::{Frames, send};
use super::message::{Authentication, SqlState, authentication_ok};
use super::refuse;
use super::startup::Startup;
use crate::error::{Error, Kind, Result, Side};

/// The longest message of a login; libpq takes errors of 30,000 bytes.
const LIMIT_BYTES: usize = 64 * 1024;

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
    let mut proof = Proof::Asked;
    loop {
        let Some(kind) = frames.next(upstream).await? else {
            return Err(Error::upstream(Kind::Io, "closed before the login was over"));
        };
        match kind {
            b'R' => {
                let request = Authentication::parse(frames.body()).map_err(|error| broken(error.0))?;
                let (next, reply) = proof.step(request, &account)?;
                proof = next;
                if let Some(reply) = reply {
                    send(upstream, Side::Upstream, &reply).await?;
                }
                if matches!(proof, Proof::Done) {
                    send(client, Side::Client, &authentication_ok()).await?;
                    return Ok(Login::Ready);
                }
            }
            b'E' => {
                let state = SqlState::of_error(frames.body());
                if let Some(error) = account_refused(state.as_ref()) {
                    return Err(error);
                }
                refuse::say(client, frames.message()).await;
                return Ok(Login::Refused(state));
            }
            b'N' | b'v' => send(client, Side::Client, frames.message()).await?,
            _ => return Err(broken("a message that does not belong in a login")),
        }
    }
}
