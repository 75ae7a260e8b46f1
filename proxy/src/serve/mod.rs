//! One client's life: a place, TLS and login where the listener asks for them, an upstream connection, the relay, one line in the log.

mod guests;
mod postgres;
mod redis;
mod secret;

use std::cell::Cell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

pub use secret::ClientSecret;

use self::guests::Admitted;
use crate::boundary::Boundary;
use crate::broker::{self, Broker};
use crate::config::{Listener, Protocol};
use crate::drain::Drain;
use crate::error::{Error, Kind, Label, Result, Side};
use crate::error_log::ErrorLog;
use crate::listener::Places;
use crate::metrics::{Counted, ListenerMetrics, RejectReason, UpstreamState};
use crate::mux::{self, Mux};
use crate::pool::Stock;
use crate::relay::{Pair, Report, relay};
use crate::reload::Reloaded;
use crate::stream::{Socket, Stream, linger};
use crate::tls::{self, TlsStream};
use crate::upstream::{Connection, Upstream, tune};

/// Refusals that one worker carries out with patience at one time: they can cost a second each. The rest are closed at once.
const MAX_REFUSALS: usize = 64;
/// How long a client that is refused may take to say what it wanted.
const REFUSAL_LIMIT: Duration = Duration::from_secs(2);

/// How long after it was accepted a client may take to log in or to say its first word, though the process drains: it may come out of the
/// emptied accept queue, with its first request on the way.
const FRESH: Duration = Duration::from_secs(1);

/// What all clients of one listener share on one worker.
pub struct Service {
    /// The listener's settings.
    pub listener: Arc<Listener>,
    /// The server behind it.
    pub upstream: Arc<Upstream>,
    /// This worker's ready connections, in `relay`.
    pub stock: Stock<Upstream>,
    /// This worker's shared connections, in the modes that have them.
    pub mux: Option<Rc<Mux>>,
    /// The same for PostgreSQL.
    pub broker: Option<Rc<Broker>>,
    /// Places for clients, over all workers.
    pub places: Arc<Places>,
    /// Present when clients speak TLS.
    pub client_tls: Option<Arc<Reloaded<ServerConfig>>>,
    /// Present when clients need a local password.
    pub client_secret: Option<Arc<Reloaded<ClientSecret>>>,
    /// The end of the process.
    pub drain: Drain,
    /// Where everything is counted.
    pub metrics: ListenerMetrics,
    /// Where errors go.
    pub errors: Arc<ErrorLog>,
    /// Refusals being carried out.
    pub refusing: Cell<usize>,
}

/// An upstream connection in one client's hands.
struct Leased {
    connection: Connection,
    counted: Counted,
}

/// Who a client is, and since when.
#[derive(Clone, Copy)]
struct Caller {
    peer: Option<SocketAddr>,
    accepted: Instant,
}

impl Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.peer {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

impl Service {
    /// Serves one client from its first byte to its last.
    pub async fn serve(self: Rc<Self>, socket: Socket, peer: Option<SocketAddr>) {
        self.metrics.clients_accepted.inc();
        if let Socket::Tcp(tcp) = &socket {
            tune(tcp, self.listener.tcp_keepalive, self.listener.tcp_user_timeout);
        }
        let caller = Caller { peer, accepted: Instant::now() };
        let Some(_place) = self.places.take(&self.metrics.clients_open) else {
            return Box::pin(self.refuse(socket, caller)).await;
        };
        if let Some(mux) = &self.mux {
            match self.unless_cut(Box::pin(self.admit_pooled(socket, caller))).await {
                Ok(Some((client, early))) => self.left(&mux::serve(client, early, mux, caller.accepted).await, caller),
                Ok(None) => {}
                Err(error) => self.turned_away(&error, caller),
            }
            return;
        }
        if let Some(broker) = &self.broker {
            match self.unless_cut(Box::pin(self.admit_guest(socket, caller, broker))).await {
                Ok(Some(Admitted::Guest(client, guest))) => {
                    let report = Box::pin(broker::client::serve(client, guest, broker, caller.accepted)).await;
                    self.left(&report, caller);
                }
                Ok(Some(Admitted::Visitor(client, visitor))) => {
                    self.left(&Box::pin(broker::console::serve(client, visitor, broker)).await, caller);
                }
                Ok(None) => {}
                Err(error) => self.turned_away(&error, caller),
            }
            return;
        }
        // Boxed: logging in takes more memory than relaying, and for a moment only.
        match self.unless_cut(Box::pin(self.admit(socket, caller))).await {
            Ok(Some((pair, _leased))) => {
                // Boxed, or clients of other modes would carry its size about.
                let report = Box::pin(relay(pair, self.listener.idle_timeout, &self.drain, &self.metrics)).await;
                self.left(&report, caller);
            }
            Ok(None) => {}
            Err(error) => self.turned_away(&error, caller),
        }
    }

    async fn unless_cut<T>(&self, admitted: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            admitted = admitted => admitted,
            () = self.drain.cut.cancelled() => Err(Error::ours(Kind::Draining, "the process ended before the client was logged in")),
        }
    }

    /// Everything before the relay. `None`: the client left, or what it wanted is done.
    async fn admit(&self, socket: Socket, caller: Caller) -> Result<Option<(Pair, Counted)>> {
        match self.listener.protocol {
            Protocol::Redis => self.admit_redis(socket, caller).await,
            Protocol::Postgres => self.admit_postgres(socket, caller).await,
            Protocol::Tls => {
                let client = self.client_stream(socket, caller).await?;
                match self.lease(&client).await {
                    Ok(leased) => Ok(Some(self.pair(client, leased, Vec::new()))),
                    Err(error) => {
                        client.reset();
                        Err(error)
                    }
                }
            }
        }
    }

    /// Plaintext, or the client's TLS terminated.
    async fn client_stream(&self, socket: Socket, caller: Caller) -> Result<Stream> {
        match &self.client_tls {
            None => Ok(Stream::Plain(socket)),
            Some(config) => self.within_login(caller, accept_tls(socket, config.current())).await,
        }
    }

    /// A connection for `client`, unless that has gone when its turn comes. What a client of Redis has asked for is owed to it even behind a
    /// FIN; to PostgreSQL that is the end.
    async fn lease(&self, client: &Stream) -> Result<Leased> {
        let connection = tokio::select! {
            biased;
            () = client.gone(self.listener.protocol == Protocol::Postgres) => {
                return Err(Error::ours(Kind::Io, "the client left before there was an upstream connection for it"));
            }
            // Cancel-safe: the next who waits gets what comes.
            taken = self.stock.take() => taken?,
        };
        Ok(Leased { connection, counted: Counted::new(self.metrics.upstream.of(UpstreamState::Leased)) })
    }

    fn pair(&self, client: Stream, leased: Leased, early_up: Vec<u8>) -> (Pair, Counted) {
        let mut boundary = Boundary::new(self.listener.protocol);
        boundary.on_client(&early_up);
        let Connection { stream: upstream, early: early_down, .. } = leased.connection;
        (Pair { client, upstream, early_up, early_down, boundary }, leased.counted)
    }

    /// A client has `connect_timeout` for its TLS handshake and login: who says nothing does not keep a place for ever.
    async fn within_login<T>(&self, caller: Caller, step: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            outcome = timeout(self.listener.upstream.connect_timeout, step) => outcome.unwrap_or_else(|_| Err(overdue_client())),
            () = self.too_late(caller) => Err(Error::ours(Kind::Draining, "the process drains, and the client had not finished its login")),
        }
    }

    /// Waits until the process drains and the client is no longer [`FRESH`].
    async fn too_late(&self, caller: Caller) {
        self.drain.closing.cancelled().await;
        sleep_until(caller.accepted + FRESH).await;
    }

    /// Says that there are too many clients, in the protocol's own words, where that can be said in plaintext.
    async fn refuse(&self, socket: Socket, caller: Caller) {
        self.metrics.clients_rejected.of(RejectReason::MaxClients).inc();
        let error = Error::ours(Kind::Limit, format!("max_clients ({}) reached", self.listener.max_clients));
        self.errors.report_of(Some(&caller), "client refused", &error);
        if self.refusing.get() >= MAX_REFUSALS {
            if self.listener.protocol == Protocol::Redis && self.client_tls.is_none() {
                socket.part(crate::redis::MAX_CLIENTS);
            }
            return;
        }
        self.refusing.set(self.refusing.get() + 1);
        let words = async {
            match self.listener.protocol {
                Protocol::Redis if self.client_tls.is_none() => {
                    let mut client = Stream::Plain(socket);
                    // A client that has gone again hears nothing.
                    let _ = timeout(REFUSAL_LIMIT, client.write_all(crate::redis::MAX_CLIENTS)).await;
                    linger(&mut client).await;
                }
                Protocol::Postgres => self.refuse_postgres(socket, &error).await,
                Protocol::Redis | Protocol::Tls => Stream::Plain(socket).reset(),
            }
        };
        tokio::select! {
            () = words => {}
            () = self.drain.cut.cancelled() => {}
        }
        self.refusing.set(self.refusing.get() - 1);
    }

    fn left(&self, report: &Report, caller: Caller) {
        self.metrics.clients_closed.of(report.reason).inc();
        if let Some(error) = &report.error {
            self.errors.report_of(Some(&caller), "connection broke", error);
        }
        tracing::info!(
            listener = self.listener.name,
            client = %caller,
            reason = report.reason.label(),
            bytes_up = report.bytes_up,
            bytes_down = report.bytes_down,
            seconds = caller.accepted.elapsed().as_secs_f64(),
            "client left"
        );
    }

    fn turned_away(&self, error: &Error, caller: Caller) {
        let reason = match (error.side, error.kind) {
            (_, Kind::Draining) => RejectReason::Draining,
            (Side::Client, Kind::Login) => RejectReason::Auth,
            (Side::Client, Kind::Timeout) => RejectReason::Timeout,
            (Side::Client, kind) if kind.is_tls() => RejectReason::Tls,
            (Side::Client, _) => RejectReason::Protocol,
            (Side::Upstream | Side::Ours, _) => RejectReason::Upstream,
        };
        self.metrics.clients_rejected.of(reason).inc();
        // The upstream's errors are reported where they happen, client or not.
        if error.side != Side::Upstream {
            self.errors.report_of(Some(&caller), "client turned away", error);
        }
    }
}

fn overdue_client() -> Error {
    Error::client(Kind::Timeout, "the client did not finish its login in time (connect_timeout)")
}

async fn accept_tls(socket: Socket, config: Arc<ServerConfig>) -> Result<Stream> {
    let accepted = TlsAcceptor::from(config).accept(socket).await.map_err(|error| tls::explain(Side::Client, &error))?;
    let (socket, connection) = accepted.into_inner();
    Ok(Stream::Tls(Box::new(TlsStream::new(socket, connection.into()))))
}
