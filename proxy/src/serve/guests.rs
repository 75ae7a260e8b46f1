//! Admitting a PostgreSQL client where upstream connections are shared: the proxy itself speaks for the server until there is a query.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_local;

use super::{Caller, Service};
use crate::broker::console::{self, Visitor};
use crate::broker::greet::{enter, greet, wishes};
use crate::broker::{Broker, Guest, Key};
use crate::error::{Error, Kind, Result, Side};
use crate::postgres::startup::cancel_key;
use crate::postgres::{Opening, Startup};
use crate::stream::{Socket, Stream};

/// Who has been let in.
pub(super) enum Admitted {
    /// A client of the database.
    Guest(Stream, Guest),
    /// One of the console.
    Visitor(Stream, Visitor),
}

impl Service {
    /// Everything before the first query. `None`: the client left, or what it wanted is done.
    pub(super) async fn admit_guest(&self, socket: Socket, caller: Caller, broker: &Rc<Broker>) -> Result<Option<Admitted>> {
        match self.within_login(caller, self.open(socket)).await? {
            Opening::Startup(client, startup) => self.welcome(client, &startup, caller, broker).await,
            Opening::Cancel(client, request) => self.cancel(&client, &request).await.map(|()| None),
            Opening::Probe => Ok(None),
        }
    }

    async fn welcome(&self, mut client: Stream, startup: &Startup, caller: Caller, broker: &Rc<Broker>) -> Result<Option<Admitted>> {
        if let Some(words) = wishes::negotiation(startup) {
            // Before any authentication request, as the server does.
            let said = async { client.write_all(&words).await.map_err(|error| Error::io(Side::Client, &error)) };
            self.within_login(caller, said).await?;
        }
        if !self.is_proved(&mut client, startup, caller).await? {
            return Ok(None);
        }
        if console::is_wanted(startup) {
            let badge = enter(startup, &Key { database: console::DATABASE.as_bytes().into() }, caller.peer, broker)?;
            let visitor = Visitor { badge, may_change: console::may_change(caller.peer, self.client_secret.is_some()) };
            return Ok(Some(Admitted::Visitor(client, visitor)));
        }
        let guest = greet(&mut client, startup, caller.peer, broker).await?;
        Ok(guest.map(|guest| Admitted::Guest(client, guest)))
    }

    /// To the connection that the client has just now, if it has one. Whoever does not know the secret is closed without words, as PostgreSQL does.
    pub(super) async fn cancel_for_guest(&self, client: &Stream, request: &Bytes, broker: &Rc<Broker>) -> Result<()> {
        let Some(card) = cancel_key(request).and_then(|(process, secret)| broker.clients.find(process, secret)) else { return Ok(()) };
        let upstream = Arc::clone(&self.upstream);
        // A task of its own: the client may leave, a cancel that is on its way does not come back.
        let carried = spawn_local(async move { card.cancel(&upstream).await });
        tokio::select! {
            carried = carried => carried.unwrap_or_else(|_| Err(Error::ours(Kind::Io, "the task that carried a CancelRequest failed"))),
            () = client.gone(false) => Ok(()),
        }
    }
}
