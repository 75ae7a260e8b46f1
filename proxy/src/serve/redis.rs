//! Admitting a Redis client.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Counted, Service};
use crate::error::{Error, Result, Side};
use crate::redis::{self, Greeting};
use crate::relay::{Pair, linger};
use crate::stream::{Socket, Stream};

/// How long after it was accepted a client may take to say its first word, though the process drains.
const FRESH: Duration = Duration::from_secs(1);

impl Service {
    pub(super) async fn admit_redis(&self, socket: Socket) -> Result<Option<(Pair, Counted)>> {
        let mut client = self.client_stream(socket).await?;
        let early_up = match &self.client_secret {
            Some(secret) => {
                let secret = secret.current();
                let greeting = redis::authenticate(&mut client, |password| secret.matches(password));
                match self.within_login(greeting).await? {
                    Greeting::Welcome { forward } => forward,
                    Greeting::Left { .. } => return Ok(None),
                }
            }
            None => match self.first_bytes(client).await? {
                Some(spoke) => {
                    client = spoke;
                    Vec::new()
                }
                None => return Ok(None),
            },
        };
        match self.lease(&client).await {
            Ok(leased) => Ok(Some(self.pair(client, leased, early_up))),
            Err(error) => {
                // A client that has gone again hears nothing.
                let _ = client.write_all(&redis::refusal(&error)).await;
                linger(client).await;
                Err(error)
            }
        }
    }

    /// Waits until the client has something to say: a health check that only connects costs no upstream connection, and a client of Redis
    /// always speaks first. `None`: it left without a word, or the process drains.
    async fn first_bytes(&self, client: Stream) -> Result<Option<Stream>> {
        let Stream::Plain(socket) = &client else { return Ok(Some(client)) };
        let accepted = Instant::now();
        let spoke = async {
            let limit = self.listener.idle_timeout;
            if limit.is_zero() { socket.peek().await } else { timeout(limit, socket.peek()).await.unwrap_or(Ok(None)) }
        };
        tokio::select! {
            first = spoke => match first {
                Ok(Some(_)) => Ok(Some(client)),
                Ok(None) => Ok(None),
                Err(error) => Err(Error::io(Side::Client, &error)),
            },
            () = self.drain.closing.cancelled() => {
                // Whoever connected a moment ago, perhaps out of the emptied accept queue, has its first request on the way.
                if client.has_unread() || matches!(timeout_at(accepted + FRESH, socket.peek()).await, Ok(Ok(Some(_)))) {
                    return Ok(Some(client));
                }
                linger(client).await;
                Ok(None)
            }
        }
    }
}
