//! A small load generator for what `redis-benchmark` cannot do: a connection per request, large values with their worst latency, and
//! thousands of connected clients of which only a few ask at a time.
//!
//! Closed loops: each client waits for its answer before it asks again. Runs on the thread of the caller, as redis-benchmark does, and
//! spends next to nothing besides system calls, or it would measure itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::load::Figures;

/// What takes longer than planned by this has failed.
const ANSWER: Duration = Duration::from_secs(20);
/// Requests on a new connection before its latencies count: windows open, buffers grow.
const WARM_UP: usize = 5;

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// A request, and how its answer is known to be whole.
#[derive(Clone)]
pub(crate) struct Ask {
    request: Arc<[u8]>,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    /// So many bytes of RESP.
    Resp(usize),
    /// PostgreSQL's messages up to ReadyForQuery.
    Ready,
}

const READY: &[u8] = b"Z\0\0\0\x05I";
/// What PostgreSQL says of itself at a login is less than half of this.
const READY_BYTES: usize = 4096;

/// How long requests took, and how many fit into a second.
pub(crate) struct Times {
    micros: Histogram<u64>,
    span: Duration,
}

/// Times one request after another.
struct Watch {
    times: Times,
    begin: Instant,
    last: Instant,
}

/// Connected clients, of which a few at a time ask.
pub(crate) struct Crowd {
    dial: Dial,
    clients: Vec<Box<dyn Stream>>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// `clients` loops of connect, ask (one after the other), close for `span`.
pub(crate) async fn per_request(dial: &Dial, asks: &[Ask], clients: u8, span: Duration) -> Result<Times> {
    side_by_side((0..clients).map(Sources::new).collect(), span, |mut sources| {
        let (dial, asks) = (dial.clone(), asks.to_vec());
        async move {
            let mut watch = Watch::start()?;
            let mut answers: Vec<_> = asks.iter().map(Ask::buffer).collect();
            while watch.runs_for(span) {
                let mut stream = dial.open_from(&mut sources).await?;
                for (ask, answer) in asks.iter().zip(&mut answers) {
                    ask.once(&mut *stream, answer).await?;
                }
                watch.lap();
            }
            Ok((watch.stop(), ()))
        }
    })
    .await
    .map(|(times, _)| times)
}

/// `clients` connections, each asking for `span`.
pub(crate) async fn per_connection(dial: &Dial, ask: &Ask, clients: usize, span: Duration) -> Result<Times> {
    side_by_side(vec![(); clients], span, |()| {
        let (dial, ask) = (dial.clone(), ask.clone());
        async move {
            let (mut stream, mut answer) = (dial.open().await?, ask.buffer());
            for _ in 0..WARM_UP {
                ask.once(&mut *stream, &mut answer).await?;
            }
            let mut watch = Watch::start()?;
            while watch.runs_for(span) {
                ask.once(&mut *stream, &mut answer).await?;
                watch.lap();
            }
            Ok((watch.stop(), ()))
        }
    })
    .await
    .map(|(times, _)| times)
}

impl Crowd {
    /// Handshakes at a time.
    const OPENING: usize = 10;
    /// For a handshake that is made anew, on a busy machine.
    const HANDSHAKE: Duration = Duration::from_millis(10);

    /// Nobody yet.
    pub(crate) fn new(dial: Dial) -> Self {
        Self { dial, clients: Vec::new() }
    }

    /// Opens connections until there are `wanted`, and asks once on each new one.
    pub(crate) async fn grow(&mut self, wanted: usize, ask: &Ask) -> Result<()> {
        let new = wanted.saturating_sub(self.clients.len());
        let shares: Vec<_> = (0..Self::OPENING).map(|part| (new + part) / Self::OPENING).collect();
        let allowed = Self::HANDSHAKE * u32::try_from(new).unwrap_or(u32::MAX);
        let opened = side_by_side(shares, allowed, |share| {
            let (dial, ask) = (self.dial.clone(), ask.clone());
            async move {
                let (mut opened, mut answer) = (Vec::new(), ask.buffer());
                for _ in 0..share {
                    let mut stream = dial.open().await?;
                    ask.once(&mut *stream, &mut answer).await?;
                    opened.push(stream);
                }
                Ok((Times::new()?, opened))
            }
        });
        self.clients.extend(opened.await?.1.into_iter().flatten());
        Ok(())
    }

    /// For `span`, `in_flight` clients at a time have asked for something, and the turn goes round over all.
    pub(crate) async fn ask_in_turn(&mut self, ask: &Ask, in_flight: usize, span: Duration) -> Result<Times> {
        let mut groups: Vec<Vec<_>> = (0..in_flight).map(|_| Vec::new()).collect();
        while !self.clients.is_empty() {
            groups.iter_mut().for_each(|group| group.extend(self.clients.pop()));
        }
        let asked = side_by_side(groups, span, |mut group| {
            let ask = ask.clone();
            async move {
                let (mut answer, mut watch, mut turn) = (ask.buffer(), Watch::start()?, 0);
                while watch.runs_for(span) {
                    let stream = group.get_mut(turn).context("fewer clients than were to ask at a time")?;
                    ask.once(&mut **stream, &mut answer).await?;
                    watch.lap();
                    turn = (turn + 1) % group.len();
                }
                Ok((watch.stop(), group))
            }
        });
        let (times, groups) = asked.await?;
        self.clients = groups.into_iter().flatten().collect();
        Ok(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }
}

/// A task for each of `parts`, all of them within `span` and a bit; what they return, times together, in no particular order.
async fn side_by_side<P, R: Send + 'static, F>(parts: Vec<P>, span: Duration, task: impl Fn(P) -> F) -> Result<(Times, Vec<R>)>
where
    F: Future<Output = Result<(Times, R)>> + Send + 'static,
{
    let mut running: JoinSet<_> = parts.into_iter().map(task).collect();
    let (mut whole, mut parts) = (Times::new()?, Vec::new());
    let all = async {
        while let Some(done) = running.join_next().await {
            let (times, part) = done??;
            whole.micros.add(times.micros)?;
            whole.span = whole.span.max(times.span);
            parts.push(part);
        }
        anyhow::Ok(())
    };
    // One limit for all, because a timer for each request costs.
    timeout(span + ANSWER, all).await.context("no answer")??;
    Ok((whole, parts))
}

impl Dial {
    async fn open(&self) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        self.secure(stream).await
    }

    /// For one small request.
    async fn open_from(&self, sources: &mut Sources) -> Result<Box<dyn Stream>> {
        let stream = sources.connect(self.address).await.context("no connection")?;
        // A single write has nothing to wait for; a handshake's last one and the request are two.
        if self.tls.is_some() {
            stream.set_nodelay(true)?;
        }
        self.secure(stream).await
    }

    async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Stream>> {
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from("localhost")?;
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await.context("TLS handshake failed")?))
    }
}

/// Source addresses for a client that connects thousands of times a second. The side that closes first keeps the pair of ports in TIME_WAIT,
/// and one source address has too few of them: the kernel would search ever longer for one that is free. So each client has an
/// address of its own (all of 127/8 is loopback) and takes its ports in turn.
struct Sources {
    ip: Ipv4Addr,
    port: u16,
}

impl Sources {
    const LOWEST: u16 = 33_000;
    const HIGHEST: u16 = 60_000;
    /// Ports that another program or an earlier measurement still holds are skipped.
    const ATTEMPTS: usize = 100;

    fn new(client: u8) -> Self {
        Self { ip: Ipv4Addr::new(127, 0, 1, client), port: fastrand::u16(Self::LOWEST..Self::HIGHEST) }
    }

    async fn connect(&mut self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut attempts = Self::ATTEMPTS;
        loop {
            self.port = if self.port < Self::HIGHEST { self.port + 1 } else { Self::LOWEST };
            attempts -= 1;
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            let connected = match socket.bind((self.ip, self.port).into()) {
                Ok(()) => socket.connect(address).await,
                Err(error) => Err(error),
            };
            match connected {
                Err(error) if attempts > 0 && matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
                done => return done,
            }
        }
    }
}

impl Ask {
    pub(crate) fn new(request: Vec<u8>, answer_len: usize) -> Self {
        Self { request: request.into(), answer: Answer::Resp(answer_len) }
    }

    /// Messages of PostgreSQL's protocol, answered by messages that end in ReadyForQuery.
    pub(crate) fn until_ready(request: Vec<u8>) -> Self {
        Self { request: request.into(), answer: Answer::Ready }
    }

    /// Room for the answer.
    fn buffer(&self) -> Vec<u8> {
        match self.answer {
            Answer::Resp(length) => vec![0; length],
            Answer::Ready => vec![0; READY_BYTES],
        }
    }

    async fn once(&self, stream: &mut dyn Stream, answer: &mut [u8]) -> Result<()> {
        stream.write_all(&self.request).await?;
        stream.flush().await?;
        // An error is shorter than the answer: whoever sent it is not waited for.
        let mut filled = 0;
        while let Some(rest) = answer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = stream.read(rest).await?;
            filled += read;
            let so_far = answer.get(..filled).unwrap_or_default();
            let refused = so_far.first() == Some(&b'-') && so_far.ends_with(b"\r\n");
            if matches!(self.answer, Answer::Ready) && so_far.ends_with(READY) && so_far.first() != Some(&b'E') {
                return Ok(());
            }
            if read == 0 || refused {
                break;
            }
        }
        if matches!(self.answer, Answer::Ready)
            || filled < answer.len()
            || !matches!(answer.first(), Some(b'$' | b'+'))
            || !answer.ends_with(b"\r\n")
        {
            let begin = answer.get(..filled.min(80)).unwrap_or_default();
            bail!("an unexpected answer: {:?}", String::from_utf8_lossy(begin));
        }
        Ok(())
    }
}

impl Watch {
    fn start() -> Result<Self> {
        let now = Instant::now();
        Ok(Self { times: Times::new()?, begin: now, last: now })
    }

    fn runs_for(&self, span: Duration) -> bool {
        self.last - self.begin < span
    }

    /// A request ended here, and the next begins.
    fn lap(&mut self) {
        let now = Instant::now();
        let micros = (now - self.last).as_micros();
        self.last = now;
        self.times.micros.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
    }

    fn stop(mut self) -> Times {
        self.times.span = self.last - self.begin;
        self.times
    }
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { micros: Histogram::new_with_bounds(1, 60_000_000, 3)?, span: Duration::ZERO })
    }

    /// Requests answered.
    pub(crate) fn count(&self) -> f64 {
        self.micros.len() as f64
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.span.as_secs_f64().max(1e-3)
    }

    /// `NAME_per_s`, `NAME_p50_us`, `NAME_p99_us`, `NAME_max_us`.
    pub(crate) fn record(&self, name: &str, figures: &mut Figures) {
        figures.insert(format!("{name}_per_s"), self.rate());
        figures.insert(format!("{name}_p50_us"), self.micros.value_at_quantile(0.5) as f64);
        figures.insert(format!("{name}_p99_us"), self.micros.value_at_quantile(0.99) as f64);
        figures.insert(format!("{name}_max_us"), self.micros.max() as f64);
    }
}
