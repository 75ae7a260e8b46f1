//! Opening one verified TLS connection: name, TCP, TLS and, where the proxy has credentials of its own, login; all under one deadline.

mod cancel;
mod detached;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;
use secrecy::SecretString;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

pub use detached::DetachedConnection;

use crate::config::{Listener, Password, Protocol, read_password};
use crate::error::{Error, Kind, Result, Side};
use crate::error_log::ErrorLog;
use crate::metrics::{DialPhase, EvictReason, Handshake, ListenerMetrics, ReloadResult};
use crate::names::Names;
use crate::pool::Backend;
use crate::postgres::scram::KeyCache;
use crate::reload::{Change, Reloaded};
use crate::stream::{Socket, Stream};
use crate::tls::{self, TlsStream};
use crate::{postgres, redis};

/// What a server that speaks first may say before a client has come; more is backpressure's business.
const EARLY_BYTES: usize = 16 * 1024;
/// Registered for PostgreSQL's direct TLS.
const POSTGRES_ALPN: &[u8] = b"postgresql";

/// The server behind a listener: how to reach it, and what was last known of it. Shared by all workers.
pub struct Upstream {
    protocol: Protocol,
    config: crate::config::Upstream,
    tcp_keepalive: Duration,
    tcp_user_timeout: Duration,
    /// The name's addresses.
    pub names: Names,
    server_name: ServerName<'static>,
    tls: Reloaded<ClientConfig>,
    password: Option<Reloaded<SecretString>>,
    /// PostgreSQL: the keys derived from the password, so that 4096 rounds of HMAC are paid once and not per connection.
    pub scram_keys: KeyCache,
    certificate: Mutex<Vec<u8>>,
    /// Grows when files are reloaded; connections of an older generation are retired.
    generation: AtomicU64,
    /// Wakes whoever keeps connections: the name or the files have changed.
    moved: watch::Sender<u64>,
    cancels: Semaphore,
    metrics: ListenerMetrics,
    errors: Arc<ErrorLog>,
}

/// A connection to the upstream that no client has used yet.
pub struct Connection {
    /// TLS complete, logged in where the proxy does that.
    pub stream: Stream,
    /// Bytes that the server sent unasked (`tls://` only: some protocols greet).
    pub early: Vec<u8>,
    address: SocketAddr,
    generation: u64,
}

impl Upstream {
    /// Reads the certificates and the password.
    ///
    /// # Errors
    /// Names the file or the setting and what is wrong with it.
    pub fn new(listener: &Listener, metrics: ListenerMetrics, errors: Arc<ErrorLog>) -> std::result::Result<Self, String> {
        let config = listener.upstream.clone();
        let alpn: &'static [&'static [u8]] = if config.direct_tls { &[POSTGRES_ALPN] } else { &[] };
        let settings = config.tls.clone();
        let mut files: Vec<_> = settings.ca_file.iter().cloned().collect();
        files.extend(settings.client_cert.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        let password = config.credentials.as_ref().map(|login| password(&login.password)).transpose()?;
        Ok(Self {
            protocol: listener.protocol,
            names: Names::new(&config.host, config.port),
            server_name: tls::server_name(&config.tls, &config.host)?,
            tls: Reloaded::new(files, move || tls::client_config(&settings, alpn))?,
            password,
            config,
            tcp_keepalive: listener.tcp_keepalive,
            tcp_user_timeout: listener.tcp_user_timeout,
            scram_keys: KeyCache::default(),
            certificate: Mutex::default(),
            generation: AtomicU64::new(0),
            moved: watch::channel(0).0,
            cancels: Semaphore::new(cancel::MAX_CANCELS),
            metrics,
            errors,
        })
    }

    /// The settings it was made from.
    #[must_use]
    pub fn config(&self) -> &crate::config::Upstream {
        &self.config
    }

    /// The proxy's own password, if it logs in.
    #[must_use]
    pub fn password(&self) -> Option<Arc<SecretString>> {
        self.password.as_ref().map(Reloaded::current)
    }

    /// Looks at the certificate and password files; a change retires the connections made before it.
    pub fn look_at_files(&self, listener: &str) {
        for change in [self.tls.look(), self.password.as_ref().map_or(Change::None, Reloaded::look)] {
            if report_reload(change, listener, "upstream", &self.metrics) {
                self.generation.fetch_add(1, Ordering::Release);
                self.moved.send_modify(|count| *count += 1);
            }
        }
    }

    /// Grows when the name or the files have changed.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Asks for the name's addresses and notices when they have changed.
    ///
    /// # Errors
    /// `Upstream/Dns`.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let (addresses, moved) = self.names.resolve().await.map_err(|why| Error::upstream(Kind::Dns, why))?;
        if moved.to_new {
            self.metrics.dns_changes.inc();
            tracing::info!(host = self.config.host, ?addresses, "the name has a new address");
        }
        if moved.from_old {
            tracing::info!(host = self.config.host, ?addresses, "the name has lost an address: unused connections to it are retired");
            self.moved.send_modify(|count| *count += 1);
        }
        Ok(addresses)
    }

    /// Name, TCP and TLS, without the login. Cancel-safe: a dropped future closes what it had opened.
    ///
    /// # Errors
    /// Side upstream, kind by the step that failed, within `connect_timeout`.
    pub async fn connect(&self) -> Result<Connection> {
        self.within_deadline(self.steps_to_tls()).await
    }

    /// As [`Upstream::connect`], and then `login`, all under the same deadline. What `login` returns comes with the connection.
    ///
    /// # Errors
    /// As [`Upstream::connect`]; those of `login` unchanged. All are reported, but for those with a reply for a client.
    pub async fn connect_and<T>(&self, login: impl AsyncFnOnce(&mut Stream) -> Result<T>) -> Result<(Connection, T)> {
        self.within_deadline(async {
            let mut connection = self.steps_to_tls().await?;
            let said = self.timed(DialPhase::Login, Box::pin(login(&mut connection.stream))).await?;
            Ok((connection, said))
        })
        .await
    }

    /// Why a connection should be replaced although it works: it was made with other files, or to an address that the name has lost.
    #[must_use]
    pub fn outdated(&self, connection: &Connection) -> Option<EvictReason> {
        if connection.generation != self.generation.load(Ordering::Acquire) {
            return Some(EvictReason::Reload);
        }
        (!self.names.has(connection.address)).then_some(EvictReason::Dns)
    }

    /// Reads what has arrived on a connection that nobody uses; `None` when it has ended, however. Reading also takes in the session tickets
    /// that make the next handshake a resumed one.
    pub fn poll_read_unused(&self, stream: &mut Stream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Option<()>> {
        let read = ready!(std::pin::Pin::new(stream).poll_read(cx, buf));
        if let Err(error) = &read {
            // In TLS 1.3 a server refuses a client (no certificate, not a known one) only after the handshake looked complete.
            let error = tls::explain(Side::Upstream, error);
            if error.kind.is_tls() {
                self.errors.report("unused connection refused", &error);
            }
        }
        Poll::Ready((read.is_ok() && !buf.filled().is_empty()).then_some(()))
    }

    async fn within_deadline<T>(&self, steps: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = match timeout(self.config.connect_timeout, steps).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let limit = humantime::format_duration(self.config.connect_timeout);
                Err(Error::upstream(Kind::Timeout, format!("no connection within {limit} (connect_timeout); is the server reachable?")))
            }
        };
        match &outcome {
            // What a client asked for in vain is between it and the server.
            Err(error) if error.reply.is_none() => self.errors.report("no upstream connection", error),
            Err(_) | Ok(_) => {}
        }
        outcome
    }

    async fn steps_to_tls(&self) -> Result<Connection> {
        let generation = self.generation.load(Ordering::Acquire);
        let addresses = self.timed(DialPhase::Dns, self.resolve()).await?;
        let (tcp, address) = self.timed(DialPhase::Tcp, self.connect_any(&addresses)).await?;
        let stream = self.timed(DialPhase::Tls, Box::pin(self.handshake(tcp))).await?;
        Ok(Connection { stream, early: Vec::new(), address, generation })
    }

    async fn timed<T, E>(&self, phase: DialPhase, step: impl Future<Output = std::result::Result<T, E>>) -> std::result::Result<T, E> {
        let started = Instant::now();
        let outcome = step.await;
        if outcome.is_ok() {
            self.metrics.dial_seconds.of(phase).observe(started.elapsed().as_secs_f64());
        }
        outcome
    }

    /// The addresses in the resolver's order, each with its share of the time, so that one dead address does not use up the deadline.
    async fn connect_any(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr)> {
        let share = self.config.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = None;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    tune(&tcp, self.tcp_keepalive, self.tcp_user_timeout);
                    return Ok((tcp, *address));
                }
                // Our own limit of open files, not the server's doing.
                Ok(Err(error)) if [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {
                    return Err(Error::ours(Kind::Limit, format!("{error}; raise the limit of open files or lower max_clients")));
                }
                Ok(Err(error)) => last = Some(Error::upstream(Kind::Tcp, format!("{address}: {error}"))),
                Err(_) => last = Some(Error::upstream(Kind::Timeout, format!("{address}: no answer to TCP connect"))),
            }
        }
        Err(last.unwrap_or_else(|| Error::upstream(Kind::Dns, "no addresses")))
    }

    /// TLS over a fresh connection, after PostgreSQL's request for it where that is due. The caller bounds the time. Cancel-safe, as
    /// [`Upstream::connect`] is.
    ///
    /// # Errors
    /// Side upstream, the kind by what is wrong.
    pub async fn handshake(&self, mut tcp: TcpStream) -> Result<Stream> {
        if self.protocol == Protocol::Postgres && !self.config.direct_tls {
            postgres::request_tls(&mut tcp).await?;
        }
        let connector = TlsConnector::from(self.tls.current());
        let (tcp, connection) = connector
            .connect(self.server_name.clone(), tcp)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => Error::upstream(
                    Kind::TlsRefused,
                    "the server closed the connection during the handshake; is this its TLS port, and does it allow this address?",
                ),
                _ => tls::explain(Side::Upstream, &error),
            })?
            .into_inner();
        // Without this a client of another protocol's server could be led here (ALPACA); libpq asks for it too.
        if self.config.direct_tls && connection.alpn_protocol() != Some(POSTGRES_ALPN) {
            return Err(Error::upstream(
                Kind::TlsOther,
                "the server did not agree to ALPN `postgresql`: it is older than 17; leave out direct_tls",
            ));
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let handshake = match (connection.protocol_version(), resumed) {
            (Some(ProtocolVersion::TLSv1_2), false) => Handshake::Tls12Full,
            (Some(ProtocolVersion::TLSv1_2), true) => Handshake::Tls12Resumed,
            (_, false) => Handshake::Tls13Full,
            (_, true) => Handshake::Tls13Resumed,
        };
        self.metrics.handshakes.of(handshake).inc();
        if let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) {
            self.note_certificate(leaf);
        }
        Ok(Stream::Tls(Box::new(TlsStream::new(Socket::Tcp(tcp), connection.into()))))
    }

    /// Publishes the expiry of a certificate that was not seen at the last handshake.
    fn note_certificate(&self, der: &[u8]) {
        let mut seen = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen != der {
            der.clone_into(&mut seen);
            if let Some(expiry) = tls::expiry(der) {
                self.metrics.cert_expiry.set(expiry);
            }
        }
    }
}

impl Backend for Upstream {
    type Connection = Connection;
    type Key = ();

    async fn open(&self, (): &()) -> Result<Connection> {
        // PostgreSQL logs in with the client's own startup parameters, so only when there is a client.
        let database = self.config.database.as_deref().and_then(|number| number.parse().ok());
        let password = self.password();
        if self.protocol != Protocol::Redis || (password.is_none() && database.is_none()) {
            return self.connect().await;
        }
        let user = self.config.credentials.as_ref().and_then(|login| login.user.as_deref());
        let login = async |stream: &mut Stream| redis::login(stream, user, password.as_deref(), database).await;
        Ok(self.connect_and(login).await?.0)
    }

    fn has_unread(&self, connection: &Connection) -> bool {
        connection.stream.has_unread()
    }

    /// With close_notify and FIN, as far as the socket takes them at once: PostgreSQL writes a line into its log for every connection that just
    /// breaks off.
    fn discard(&self, mut connection: Connection) {
        let _ = std::pin::Pin::new(&mut connection.stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    fn poll_unfit(&self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<EvictReason> {
        if let Some(reason) = self.outdated(connection) {
            return Poll::Ready(reason);
        }
        let mut bytes = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            let has_ended = ready!(self.poll_read_unused(&mut connection.stream, cx, &mut buf)).is_none();
            // Neither Redis nor PostgreSQL speaks first, except to say that it is closing.
            if has_ended || self.protocol != Protocol::Tls {
                return Poll::Ready(EvictReason::ServerClosed);
            }
            connection.early.extend_from_slice(buf.filled());
            if connection.early.len() >= EARLY_BYTES {
                return Poll::Pending;
            }
        }
    }
}

/// Nagle off, keepalive and TCP_USER_TIMEOUT on: a peer that vanished is noticed in seconds, not in the kernel's 15 minutes.
pub fn tune(tcp: &TcpStream, keepalive: Duration, user_timeout: Duration) {
    let socket = SockRef::from(tcp);
    // Each fails only on a socket that is already dead, and then the next read says so.
    let _ = socket.set_tcp_nodelay(true);
    if !keepalive.is_zero() {
        // Three unanswered probes, a third of the first wait apart, but never more than one a second.
        let interval = (keepalive / 3).max(Duration::from_secs(1));
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(keepalive).with_interval(interval).with_retries(3));
    }
    if !user_timeout.is_zero() {
        let _ = socket.set_tcp_user_timeout(Some(user_timeout));
    }
}

/// A password that follows its file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn password(source: &Password) -> std::result::Result<Reloaded<SecretString>, String> {
    match source {
        Password::Inline(secret) => {
            let secret = secret.clone();
            Reloaded::new(Vec::new(), move || Ok(secret.clone()))
        }
        Password::File(path) => {
            let file = path.clone();
            Reloaded::new(vec![path.clone()], move || read_password(&file))
        }
    }
}

/// Logs and counts what a look at files found; true when something new is in use.
pub fn report_reload(change: Change, listener: &str, whose: &'static str, metrics: &ListenerMetrics) -> bool {
    match change {
        Change::None => false,
        Change::Taken => {
            metrics.reloads.of(ReloadResult::Ok).inc();
            tracing::info!(listener, side = whose, "files changed: the new content is in use");
            true
        }
        Change::Refused(why) => {
            metrics.reloads.of(ReloadResult::Failed).inc();
            tracing::error!(listener, side = whose, why, "files changed but cannot be used: the previous content stays in use");
            false
        }
    }
}
