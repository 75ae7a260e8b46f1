//! One client's life: a place, TLS and login where the listener asks for them, an upstream connection, the relay, one line in the log.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::boundary::Boundary;
use crate::config::Listener;
use crate::drain::Drain;
use crate::error::{Error, Kind, Label, Result, Side};
use crate::listener::Places;
use crate::metrics::{ListenerMetrics, RejectReason, UpstreamState};
use crate::pool::Stock;
use crate::relay::{Pair, Report, linger, relay};
use crate::reload::Reloaded;
use crate::stream::{Socket, Stream};
use crate::tls::{self, TlsStream};
use crate::upstream::{Upstream, tune};

/// What all clients of one listener share on one worker.
pub struct Service {
    /// The listener's settings.
    pub listener: Arc<Listener>,
    /// The server behind it.
    pub upstream: Arc<Upstream>,
    /// This worker's ready connections.
    pub stock: Stock<Upstream>,
    /// Places for clients, over all workers.
    pub places: Arc<Places>,
    /// Present when clients speak TLS.
    pub client_tls: Option<Arc<Reloaded<ServerConfig>>>,
    /// The end of the process.
    pub drain: Drain,
    /// Where everything is counted.
    pub metrics: ListenerMetrics,
}

impl Service {
    /// Serves one client from its first byte to its last.
    pub async fn serve(self: Rc<Self>, socket: Socket, peer: Option<SocketAddr>) {
        self.metrics.clients_accepted.inc();
        if let Socket::Tcp(tcp) = &socket {
            tune(tcp, self.listener.tcp_keepalive, self.listener.tcp_user_timeout);
        }
        let Some(_place) = self.places.take(&self.metrics.clients_open) else {
            return self.refuse(socket).await;
        };
        let started = Instant::now();
        // Boxed: logging in takes more memory than relaying, and for a moment only.
        let admitted = tokio::select! {
            admitted = Box::pin(self.admit(socket)) => admitted,
            () = self.drain.cut.cancelled() => Err(Error::ours(Kind::Draining, "the process is ending")),
        };
        match admitted {
            Ok(Some(pair)) => {
                let leased = self.metrics.upstream.of(UpstreamState::Leased);
                leased.inc();
                let report = relay(pair, self.listener.idle_timeout, &self.drain, &self.metrics).await;
                leased.dec();
                self.log_close(&report, peer, started.elapsed());
            }
            Ok(None) => {}
            Err(error) => self.log_rejection(&error, peer),
        }
    }

    /// Everything before the relay. `None`: the client left, or asked for something that is already done.
    async fn admit(&self, socket: Socket) -> Result<Option<Pair>> {
        let client = match &self.client_tls {
            None => Stream::Plain(socket),
            Some(config) => self.within_login(accept_tls(socket, config.current())).await?,
        };
        self.lease(client).await
    }

    async fn lease(&self, client: Stream) -> Result<Option<Pair>> {
        match self.stock.take().await {
            Ok(connection) => Ok(Some(Pair {
                client,
                upstream: connection.stream,
                early_up: Vec::new(),
                early_down: connection.early,
                boundary: Boundary::new(self.listener.protocol),
            })),
            Err(error) => {
                client.reset();
                Err(error)
            }
        }
    }

    /// A client has `connect_timeout` for its TLS handshake and login: who says nothing does not keep a place for ever.
    async fn within_login<T>(&self, step: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.listener.upstream.connect_timeout, step)
            .await
            .unwrap_or_else(|_| Err(Error::client(Kind::Timeout, "the client did not finish its login in time (connect_timeout)")))
    }

    async fn refuse(&self, socket: Socket) {
        self.metrics.clients_rejected.of(RejectReason::MaxClients).inc();
        linger(Stream::Plain(socket)).await;
    }

    fn log_close(&self, report: &Report, peer: Option<SocketAddr>, lasted: Duration) {
        self.metrics.clients_closed.of(report.reason).inc();
        if let Some(error) = &report.error {
            self.metrics.error(error.kind);
        }
        tracing::info!(
            listener = self.listener.name,
            client = %Peer(peer),
            reason = report.reason.label(),
            error = report.error.as_ref().map(tracing::field::display),
            bytes_up = report.bytes_up,
            bytes_down = report.bytes_down,
            seconds = lasted.as_secs_f64(),
            "client left"
        );
    }

    fn log_rejection(&self, error: &Error, peer: Option<SocketAddr>) {
        let reason = match (error.side, error.kind) {
            (_, Kind::Draining) => RejectReason::Draining,
            (Side::Client, Kind::Login) => RejectReason::Auth,
            (Side::Client, Kind::Timeout) => RejectReason::Timeout,
            (Side::Client, kind) if kind.is_tls() => RejectReason::Tls,
            (Side::Client, _) => RejectReason::Protocol,
            (Side::Upstream | Side::Ours, _) => RejectReason::Upstream,
        };
        self.metrics.clients_rejected.of(reason).inc();
        if error.side == Side::Client {
            self.metrics.error(error.kind);
        }
        tracing::warn!(listener = self.listener.name, client = %Peer(peer), %error, "client turned away");
    }
}

async fn accept_tls(socket: Socket, config: Arc<ServerConfig>) -> Result<Stream> {
    let accepted = TlsAcceptor::from(config).accept(socket).await.map_err(|error| tls::explain(Side::Client, &error))?;
    let (socket, connection) = accepted.into_inner();
    Ok(Stream::Tls(Box::new(TlsStream::new(socket, connection.into()))))
}

struct Peer(Option<SocketAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
