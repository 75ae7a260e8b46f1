//! A small load generator for what `redis-benchmark` cannot do: a connection per request, and large values with their worst latency.
//!
//! Closed loops: each client waits for its answer before it asks again. Runs on the thread of the caller, as redis-benchmark does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::load::Figures;

/// A request that takes longer has failed.
const ANSWER: Duration = Duration::from_secs(20);
/// Requests on a new connection before its latencies count: windows open, buffers grow.
const WARM_UP: usize = 5;

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// A request whose answer has a known length.
#[derive(Clone)]
pub(crate) struct Ask {
    request: Arc<[u8]>,
    answer_len: usize,
}

/// How long requests took, and how many fit into a second.
pub(crate) struct Times {
    micros: Histogram<u64>,
    span: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// `clients` loops of connect, ask, close for `span`.
pub(crate) async fn per_request(dial: &Dial, ask: &Ask, clients: usize, span: Duration) -> Result<Times> {
    side_by_side(clients, || {
        let (dial, ask) = (dial.clone(), ask.clone());
        async move {
            let (mut times, mut answer) = (Times::new()?, vec![0; ask.answer_len]);
            let begin = Instant::now();
            while begin.elapsed() < span {
                let start = Instant::now();
                ask.once(&mut *dial.open().await?, &mut answer).await?;
                times.add(start.elapsed());
            }
            times.span = begin.elapsed();
            Ok(times)
        }
    })
    .await
}

/// `clients` connections, each asking for `span`.
pub(crate) async fn per_connection(dial: &Dial, ask: &Ask, clients: usize, span: Duration) -> Result<Times> {
    side_by_side(clients, || {
        let (dial, ask) = (dial.clone(), ask.clone());
        async move {
            let (mut times, mut answer) = (Times::new()?, vec![0; ask.answer_len]);
            let mut stream = dial.open().await?;
            for _ in 0..WARM_UP {
                ask.once(&mut *stream, &mut answer).await?;
            }
            let begin = Instant::now();
            while begin.elapsed() < span {
                let start = Instant::now();
                ask.once(&mut *stream, &mut answer).await?;
                times.add(start.elapsed());
            }
            times.span = begin.elapsed();
            Ok(times)
        }
    })
    .await
}

async fn side_by_side<F: Future<Output = Result<Times>> + Send + 'static>(clients: usize, client: impl Fn() -> F) -> Result<Times> {
    let mut running: JoinSet<_> = (0..clients).map(|_| client()).collect();
    let mut whole = Times::new()?;
    while let Some(times) = running.join_next().await {
        let times = times??;
        whole.micros.add(times.micros)?;
        whole.span = whole.span.max(times.span);
    }
    Ok(whole)
}

impl Dial {
    async fn open(&self) -> Result<Box<dyn Stream>> {
        let open = async {
            Ok(match &self.tls {
                Some(config) => Box::new(lab::tls::connect(self.address, "localhost", Arc::clone(config)).await?) as Box<dyn Stream>,
                None => {
                    let stream = TcpStream::connect(self.address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            })
        };
        timeout(ANSWER, open).await.context("no connection")?
    }
}

impl Ask {
    pub(crate) fn new(request: Vec<u8>, answer_len: usize) -> Self {
        Self { request: request.into(), answer_len }
    }

    async fn once(&self, stream: &mut dyn Stream, answer: &mut [u8]) -> Result<()> {
        let exchange = async {
            stream.write_all(&self.request).await?;
            stream.flush().await?;
            stream.read_exact(answer).await
        };
        timeout(ANSWER, exchange).await.context("no answer")??;
        if !matches!(answer.first(), Some(b'$' | b'+')) || !answer.ends_with(b"\r\n") {
            bail!("an unexpected answer: {:?}", String::from_utf8_lossy(answer.get(..40).unwrap_or(answer)));
        }
        Ok(())
    }
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { micros: Histogram::new_with_bounds(1, 60_000_000, 3)?, span: Duration::ZERO })
    }

    fn add(&mut self, time: Duration) {
        self.micros.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Requests answered.
    pub(crate) fn count(&self) -> f64 {
        self.micros.len() as f64
    }

    /// `NAME_per_s`, `NAME_p50_us`, `NAME_p99_us`, `NAME_max_us`.
    pub(crate) fn record(&self, name: &str, figures: &mut Figures) {
        figures.insert(format!("{name}_per_s"), self.count() / self.span.as_secs_f64().max(1e-3));
        figures.insert(format!("{name}_p50_us"), self.micros.value_at_quantile(0.5) as f64);
        figures.insert(format!("{name}_p99_us"), self.micros.value_at_quantile(0.99) as f64);
        figures.insert(format!("{name}_max_us"), self.micros.max() as f64);
    }
}
