//! A session of the proxy's own: opened for whoever comes, and made as good as new after use.

use tokio::io::{AsyncRead, AsyncWrite};

use super::account::{Account, Proof, account_refused, broken};
use super::frames::{Frames, send};
use super::message::{Authentication, SqlState, backend_key, parameter_status};
use super::startup;
use crate::error::{Error, Kind, Result, Side};

/// The longest message of a login or a cleaning; libpq takes errors of 30,000 bytes.
const LIMIT_BYTES: usize = 64 * 1024;
/// All that a server may report of itself; PostgreSQL 18 does it in 600 bytes.
const REPORT_BYTES: usize = 256 * 1024;

/// `DISCARD ALL` as a Query message.
const DISCARD_ALL: &[u8] = b"Q\0\0\0\x10DISCARD ALL\0";

/// A setting's name and value.
pub type Setting = (Box<[u8]>, Box<[u8]>);

/// What a server has told of a new session.
pub struct Session {
    /// The settings that it reports: names and values, in its order.
    pub parameters: Vec<Setting>,
    /// The process that serves it.
    pub process: u32,
    /// With `process`, what cancels its query.
    pub secret: u32,
}

/// Opens a session of `account` in `database`, over a connection whose TLS handshake is complete, and reads up to ReadyForQuery. Settings are
/// the server's own: nothing is asked for. The caller bounds the time. After an error, or when the future is dropped, the connection is of no
/// use.
///
/// # Errors
/// All of side upstream: [`Kind::Login`] where the server refused the account or asked for a login that is not allowed; [`Kind::Unavailable`]
/// where it cannot serve now (too many connections, starting up, shutting down); with the server's whole ErrorResponse as its reply where it
/// refused the database, which is what a client asked for; or the server broke the protocol or the connection.
pub async fn open_session<U>(upstream: &mut U, database: &[u8], account: &Account<'_>) -> Result<Session>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    let packet = startup::plain(account.user.as_bytes(), database)
        .map_err(|refusal| Error::client(Kind::Protocol, format!("cannot log in for it: {refusal}")))?;
    send(upstream, Side::Upstream, &packet).await?;
    let mut frames = Frames::new(Side::Upstream, LIMIT_BYTES);
    prove(upstream, &mut frames, account).await?;
    let (mut parameters, mut key, mut reported_bytes) = (Vec::new(), None, 0);
    loop {
        match next(upstream, &mut frames).await? {
            b'S' => {
                reported_bytes += frames.body().len();
                if reported_bytes > REPORT_BYTES {
                    return Err(broken("settings without end"));
                }
                let (name, value) = parameter_status(frames.body()).map_err(|error| broken(error.0))?;
                parameters.push((name.into(), value.into()));
            }
            b'K' => key = Some(backend_key(frames.body()).map_err(|error| broken(error.0))?),
            b'Z' if frames.body() == b"I" => {
                let (process, secret) = key.ok_or_else(|| broken("no key for cancelling"))?;
                return Ok(Session { parameters, process, secret });
            }
            b'N' => {}
            b'E' => return Err(refused(&frames)),
            _ => return Err(broken("a message that does not belong in a login")),
        }
    }
}

async fn prove<U: AsyncRead + AsyncWrite + Unpin>(upstream: &mut U, frames: &mut Frames, account: &Account<'_>) -> Result<()> {
    let mut proof = Proof::Asked;
    loop {
        match next(upstream, frames).await? {
            b'R' => {
                let request = Authentication::parse(frames.body()).map_err(|error| broken(error.0))?;
                let (step, reply) = proof.step(request, account)?;
                proof = step;
                if let Some(reply) = reply {
                    send(upstream, Side::Upstream, &reply).await?;
                }
                if matches!(proof, Proof::Done) {
                    return Ok(());
                }
            }
            b'N' => {}
            b'E' => return Err(refused(frames)),
            _ => return Err(broken("a message that does not belong in a login")),
        }
    }
}

/// `DISCARD ALL`, one round trip: the session is as a new one when this ends well. Nothing may be owed on the connection, and no transaction
/// open. `reported` hears what the server reports meanwhile. After an error, or when the future is dropped, the connection is of no use.
///
/// # Errors
/// The server did not do it, or broke the protocol or the connection.
pub async fn discard_all<U>(upstream: &mut U, mut reported: impl FnMut(&[u8], &[u8])) -> Result<()>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    send(upstream, Side::Upstream, DISCARD_ALL).await?;
    let mut frames = Frames::new(Side::Upstream, LIMIT_BYTES);
    let mut done = false;
    loop {
        match next(upstream, &mut frames).await? {
            b'S' => {
                let (name, value) = parameter_status(frames.body()).map_err(|error| broken(error.0))?;
                reported(name, value);
            }
            b'C' if !done && frames.body() == b"DISCARD ALL\0" => done = true,
            b'Z' if done && frames.body() == b"I" => return Ok(()),
            // A session that listened may hear something until then.
            b'N' | b'A' => {}
            b'E' => {
                let state = SqlState::of_error(frames.body());
                let code = state.as_ref().map_or("none", SqlState::as_str);
                return Err(Error::upstream(Kind::Unavailable, format!("DISCARD ALL failed (SQLSTATE {code})")));
            }
            _ => return Err(broken("something else in answer to DISCARD ALL")),
        }
    }
}

async fn next<U: AsyncRead + Unpin>(upstream: &mut U, frames: &mut Frames) -> Result<u8> {
    frames.next(upstream).await?.ok_or_else(|| Error::upstream(Kind::Io, "closed before the session was ready"))
}

/// Whose business a refusal is: ours (the account), everybody's (the server cannot now), or the client's that asked for this database.
fn refused(frames: &Frames) -> Error {
    let state = SqlState::of_error(frames.body());
    if let Some(error) = account_refused(state.as_ref()) {
        return error;
    }
    let code = state.as_ref().map_or("none", SqlState::as_str);
    // 57P04, the database was dropped, stands among the shutdowns. An error without a code is not PostgreSQL's own.
    let is_everybodys = code != "57P04" && ["08", "53", "57", "58", "XX", "none"].iter().any(|class| code.starts_with(class));
    if !is_everybodys {
        return Error::upstream(Kind::Login, format!("the server refused the database (SQLSTATE {code})")).replying(frames.message());
    }
    let why = match code {
        "53300" => "the server has no free connection; lower pool_size or raise its max_connections",
        "57P03" => "the server is starting up, shutting down or recovering",
        _ => "the server cannot serve now; see its log",
    };
    Error::upstream(Kind::Unavailable, format!("{why} (SQLSTATE {code})"))
}
