//! Admitting a PostgreSQL client.

use bytes::Bytes;
use tokio::time::timeout;

use super::{Caller, Leased, REFUSAL_LIMIT, Service, accept_tls, overdue_client};
use crate::config::Credentials;
use crate::error::{Error, Kind, Result, Side};
use crate::metrics::{Counted, RejectReason};
use crate::postgres::{self, Account, Login, NoTls, Opening, Startup, TlsStart, refuse};
use crate::relay::Pair;
use crate::stream::{Socket, Stream};

impl Service {
    pub(super) async fn admit_postgres(&self, socket: Socket, caller: Caller) -> Result<Option<(Pair, Counted)>> {
        match self.within_login(caller, self.open(socket)).await? {
            Opening::Startup(client, startup) => self.start(client, &startup, caller).await,
            Opening::Cancel(client, request) => self.cancel(&client, &request).await.map(|()| None),
            Opening::Probe => Ok(None),
        }
    }

    /// Only sessions are refused: who is full of runaway queries needs cancelling most, and PostgreSQL serves it too.
    pub(super) async fn refuse_postgres(&self, socket: Socket, why: &Error) {
        match timeout(REFUSAL_LIMIT, self.open(socket)).await {
            Ok(Ok(Opening::Startup(mut client, _))) => refuse::say(&mut client, &refuse::for_error(why)).await,
            // What goes wrong there is reported there.
            Ok(Ok(Opening::Cancel(client, request))) => drop(self.cancel(&client, &request).await),
            // Whoever cannot even say what it wants is closed without words.
            Ok(Ok(Opening::Probe) | Err(_)) | Err(_) => {}
        }
    }

    pub(super) async fn open(&self, socket: Socket) -> Result<Opening> {
        match &self.client_tls {
            None => postgres::negotiate(socket, None::<NoTls>).await,
            Some(config) => {
                let config = config.current();
                let terminate = |socket: Socket, start: TlsStart| async move {
                    let stream = accept_tls(socket, config).await?;
                    // ALPN is a must only where TLS came unasked: otherwise another protocol's client could be led here (ALPACA).
                    match (&stream, start) {
                        (Stream::Tls(tls), TlsStart::Direct) if tls.connection().alpn_protocol() != Some(b"postgresql") => {
                            Err(Error::client(Kind::Protocol, "direct TLS without ALPN `postgresql`"))
                        }
                        _ => Ok(stream),
                    }
                };
                postgres::negotiate(socket, Some(terminate)).await
            }
        }
    }

    /// Has the client prove itself where the listener wants that. False: it has left.
    pub(super) async fn is_proved(&self, client: &mut Stream, startup: &Startup, caller: Caller) -> Result<bool> {
        let Some(secret) = &self.client_secret else { return Ok(true) };
        let secret = secret.current();
        match self.within_login(caller, postgres::authenticate(client, startup, &secret.verifier)).await {
            Ok(login) => Ok(login == Login::Ready),
            Err(error) => {
                if matches!(error.kind, Kind::Timeout | Kind::Draining) {
                    // Interrupted, so it has not been told yet.
                    refuse::say(client, &refuse::for_error(&error)).await;
                }
                Err(error)
            }
        }
    }

    async fn start(&self, mut client: Stream, startup: &Startup, caller: Caller) -> Result<Option<(Pair, Counted)>> {
        if !self.is_proved(&mut client, startup, caller).await? {
            return Ok(None);
        }
        let mut leased = match self.lease(&client).await {
            Ok(leased) => leased,
            Err(error) => {
                refuse::say(&mut client, &refuse::for_error(&error)).await;
                return Err(error);
            }
        };
        match self
            .log_in(&mut client, &mut leased, startup)
            .await
            .inspect_err(|error| self.report_upstream("no login at the server", error))?
        {
            Login::Ready => Ok(Some(self.pair(client, leased, Vec::new()))),
            Login::Refused(code) => {
                self.metrics.clients_rejected.of(RejectReason::Auth).inc();
                let code = code.as_ref().map_or("none", |code| code.as_str());
                tracing::info!(listener = self.listener.name, client = %caller, code, "the server refused a login; its words went to the client");
                Ok(None)
            }
            Login::ClientGone => Ok(None),
        }
    }

    /// With the proxy's own account, or the client's. Who does not say its part within `connect_timeout` is to blame.
    async fn log_in(&self, client: &mut Stream, leased: &mut Leased, startup: &Startup) -> Result<Login> {
        let config = self.upstream.config();
        let mut owing = Side::Upstream;
        let login = self.converse(client, &mut leased.connection.stream, startup, &mut owing);
        if let Ok(login) = timeout(config.connect_timeout, login).await {
            return login;
        }
        let error = match owing {
            Side::Client => overdue_client(),
            Side::Upstream | Side::Ours => overdue_server("the login"),
        };
        refuse::say(client, &refuse::for_error(&error)).await;
        Err(error)
    }

    async fn converse(&self, client: &mut Stream, upstream: &mut Stream, startup: &Startup, owing: &mut Side) -> Result<Login> {
        let config = self.upstream.config();
        let end_point = upstream.end_point();
        match (&config.credentials, self.upstream.password()) {
            (Some(Credentials { user: Some(user), .. }), Some(password)) => {
                let account = Account {
                    user,
                    password: &password,
                    database: config.database.as_deref(),
                    allow_trust: config.tls.client_cert.is_some(),
                    end_point: end_point.as_deref(),
                    keys: &self.upstream.scram_keys,
                };
                postgres::log_in(client, upstream, startup, account).await
            }
            _ => postgres::pass_through(client, upstream, startup, owing).await,
        }
    }

    /// In the modes that share the client has a key of ours; otherwise the server's own, and the request goes on as it is.
    pub(super) async fn cancel(&self, client: &Stream, request: &Bytes) -> Result<()> {
        match &self.broker {
            Some(broker) => self.cancel_for_guest(client, request, broker).await,
            None => self.cancel_verbatim(client, request).await,
        }
    }

    /// On a connection of its own, as the protocol wants; the client's is closed when the server has closed that one.
    ///
    /// A client that resets the connection gives up; one that closes it does not, for some drivers do so as soon as they have asked.
    async fn cancel_verbatim(&self, client: &Stream, request: &Bytes) -> Result<()> {
        tokio::select! {
            carried = self.upstream.cancel(request) => carried,
            () = client.gone(false) => Ok(()),
        }
    }

    fn report_upstream(&self, event: &'static str, error: &Error) {
        if error.side == Side::Upstream {
            self.errors.report(event, error);
        }
    }
}

fn overdue_server(what: &str) -> Error {
    Error::upstream(Kind::Timeout, format!("the server did not finish {what} in time (connect_timeout); is it overloaded?"))
}
