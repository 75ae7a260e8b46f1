//! A login that is the client's own: the server judges, we only carry.
//!
//! One thing is changed. A server that is reached by TLS offers SCRAM-SHA-256-PLUS, which binds the login to the certificate that the client
//! sees. Ours is not the server's, and a client on a plaintext socket aborts at the mere offer; so it is taken out of the list. The server
//! does not mind: a client that cannot bind says so in the exchange.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Login;
use super::frames::{Frames, send};
use super::message::{Authentication, Malformed, SqlState, authentication_sasl, mechanisms};
use super::refuse;
use super::startup::Startup;
use crate::error::{Error, Kind, Result, Side};

/// The longest message of a login, either way: PostgreSQL takes tokens of 65,535 bytes.
const LIMIT_BYTES: usize = 64 * 1024 + 256;

/// Carries the client's login to the server and back until the server says AuthenticationOk, which has then been passed on. After
/// [`Login::Ready`] both streams stand behind their last whole message and bytes can be copied blindly.
///
/// `owing` tells at any time who has to speak next: whom to blame if the caller, who bounds the time, gives up. After an error, or when the future is dropped, both connections are of no use; the client has been told.
///
/// # Errors
/// Either side broke the protocol or its connection, or the server offers only logins that need channel binding.
pub async fn pass_through<C, U>(client: &mut C, upstream: &mut U, startup: &Startup, owing: &mut Side) -> Result<Login>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let result = carry(client, upstream, startup, owing).await;
    if let Err(error) = &result {
        refuse::say(client, &refuse::for_error(error)).await;
    }
    result
}

async fn carry<C, U>(client: &mut C, upstream: &mut U, startup: &Startup, owing: &mut Side) -> Result<Login>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    send(upstream, Side::Upstream, startup.raw()).await?;
    let mut from_upstream = Frames::new(Side::Upstream, LIMIT_BYTES);
    let mut from_client = Frames::new(Side::Client, LIMIT_BYTES);
    // The client is listened to only while the server waits for it, so that bytes it sends ahead stay where the relay will find them.
    *owing = Side::Upstream;
    loop {
        // Frames::next is cancel-safe: what it has read of a message stays in it for the next round.
        tokio::select! {
            kind = from_upstream.next(upstream) => {
                let Some(kind) = kind? else {
                    return Err(Error::upstream(Kind::Io, "closed before the login was over"));
                };
                match kind {
                    b'R' => {
                        let authentication = Authentication::parse(from_upstream.body()).map_err(upstream_broke)?;
                        if authentication == Authentication::Ok && from_client.is_halfway() {
                            return Err(Error::client(Kind::Protocol, "sent half a password message and was logged in without it"));
                        }
                        *owing = match authentication {
                            Authentication::Sasl(list) => {
                                send(client, Side::Client, &without_channel_binding(list)?).await?;
                                Side::Client
                            }
                            other => {
                                send(client, Side::Client, from_upstream.message()).await?;
                                if matches!(other, Authentication::Ok | Authentication::SaslFinal(_)) { Side::Upstream } else { Side::Client }
                            }
                        };
                        if authentication == Authentication::Ok {
                            return Ok(Login::Ready);
                        }
                    }
                    b'E' => {
                        refuse::say(client, from_upstream.message()).await;
                        return Ok(Login::Refused(SqlState::of_error(from_upstream.body())));
                    }
                    b'N' | b'v' => send(client, Side::Client, from_upstream.message()).await?,
                    _ => return Err(Error::upstream(Kind::Protocol, "sent a message that does not belong in a login")),
                }
            }
            kind = from_client.next(client), if *owing == Side::Client => match kind? {
                // psql does this: it learns that a password is needed, asks for it, and connects again.
                None => return Ok(Login::ClientGone),
                Some(b'p') => {
                    *owing = Side::Upstream;
                    send(upstream, Side::Upstream, from_client.message()).await?;
                }
                Some(_) => return Err(Error::client(Kind::Protocol, "answered the server's login request with something else")),
            },
        }
    }
}

/// The server's list of mechanisms, as a new message, without those that bind to the channel.
fn without_channel_binding(list: &[u8]) -> Result<Vec<u8>> {
    let mut names = mechanisms(list).map_err(upstream_broke)?;
    names.retain(|name| !name.ends_with(b"-PLUS"));
    if names.is_empty() {
        return Err(Error::upstream(
            Kind::Login,
            "the server offers no login without channel binding, which ends at a proxy; allow SCRAM-SHA-256",
        ));
    }
    Ok(authentication_sasl(&names))
}

fn upstream_broke(error: Malformed) -> Error {
    Error::upstream(Kind::Protocol, format!("sent {error}"))
}
