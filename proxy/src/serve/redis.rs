//! Admitting a Redis client.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::{Caller, ClientSecret, Service};
use crate::error::{Result, Side};
use crate::metrics::Counted;
use crate::mux;
use crate::redis::{self, Greeting};
use crate::relay::Pair;
use crate::reload::Reloaded;
use crate::stream::{Socket, Stream, linger};
use crate::tls;

/// First byte of a TLS ClientHello's record. No request of Redis' begins so, and a server would wait for the end of its line.
const TLS_HANDSHAKE: u8 = 0x16;

impl Service {
    /// Everything before the shared connections: the client, and what it has said already.
    pub(super) async fn admit_pooled(&self, socket: Socket, caller: Caller) -> Result<Option<(Stream, BytesMut)>> {
        let mut client = self.client_stream(socket, caller).await?;
        match &self.client_secret {
            Some(secret) => Ok(self.greet(&mut client, caller, secret).await?.map(|early| (client, early.as_slice().into()))),
            None => Ok(Some((client, BytesMut::new()))),
        }
    }

    /// What the client has said behind its login; `None`: it left.
    async fn greet(&self, client: &mut Stream, caller: Caller, secret: &Reloaded<ClientSecret>) -> Result<Option<Vec<u8>>> {
        let secret = secret.current();
        let greeting = async {
            if let Stream::Plain(socket) = &*client {
                first_byte(socket).await?;
            }
            redis::authenticate(client, BytesMut::new(), |password| secret.matches(password)).await
        };
        match self.within_login(caller, greeting).await? {
            Greeting::Welcome { forward } => Ok(Some(forward)),
            Greeting::Left => Ok(None),
        }
    }

    pub(super) async fn admit_redis(&self, socket: Socket, caller: Caller) -> Result<Option<(Pair, Counted)>> {
        let mut client = self.client_stream(socket, caller).await?;
        let early_up = match &self.client_secret {
            Some(secret) => match self.greet(&mut client, caller, secret).await? {
                Some(early_up) => early_up,
                None => return Ok(None),
            },
            None => match self.first_bytes(&mut client, caller).await? {
                Some(early_up) => early_up,
                None => return Ok(None),
            },
        };
        match self.lease(&client).await {
            Ok(leased) => Ok(Some(self.pair(client, leased, early_up))),
            Err(error) => {
                // A client that has gone again hears nothing.
                let _ = client.write_all(&redis::refusal(&error)).await;
                linger(&mut client).await;
                Err(error)
            }
        }
    }

    /// Waits until the client has something to say: a health check that only connects costs no upstream connection, and a client of Redis
    /// always speaks first. Its bytes are left in a plaintext socket and taken out of TLS. `None`: it left without a word, was silent for
    /// `idle_timeout`, or the process drains.
    async fn first_bytes(&self, client: &mut Stream, caller: Caller) -> Result<Option<Vec<u8>>> {
        let mut early_up = Vec::new();
        let spoke = async {
            match client {
                Stream::Plain(socket) => first_byte(socket).await.map(|first| first.is_some()),
                Stream::Tls(tls) => {
                    tls.read_buf(&mut early_up).await.map(|read| read > 0).map_err(|error| tls::explain(Side::Client, &error))
                }
            }
        };
        let limit = self.listener.idle_timeout;
        tokio::select! {
            biased;
            spoke = spoke => Ok(spoke?.then_some(early_up)),
            () = sleep(limit), if !limit.is_zero() => Ok(None),
            () = self.too_late(caller) => {
                if client.has_unread() {
                    return Ok(Some(early_up));
                }
                linger(client).await;
                Ok(None)
            }
        }
    }
}

/// The first byte, left where it is; `None` when the client has gone without one.
async fn first_byte(socket: &Socket) -> Result<Option<u8>> {
    match socket.peek().await {
        Ok(Some(TLS_HANDSHAKE)) => Err(mux::speaks_tls()),
        Ok(first) => Ok(first),
        // A prober may reset instead of closing.
        Err(_) => Ok(None),
    }
}
