//! Where a stream happens to be cut changes nothing: recorded exchanges, the requests and the replies cut at every byte.
//!
//! What is right is recorded from a direct connection when the test runs. That both parts of a cut are read apart is made sure of, not hoped
//! for: between them another client of the same worker, on a listener of its own, is answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "cuts/exchanges.rs"]
mod exchanges;
mod modes;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exchanges::Exchange;
use lab::{Proxy, Redis, Resp, free_port};
use modes::Mode;
use modes::frames::{frame_length, show};
use support::{PROGRAM, SOON, Trust, tls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

modes::in_every_mode!(requests_may_be_cut_anywhere);

/// Without a proxy nobody could cut the replies.
mod replies {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn relay() {
        super::replies_may_be_cut_anywhere(super::Mode::Relay).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn session() {
        super::replies_may_be_cut_anywhere(super::Mode::Session).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn multiplex() {
        super::replies_may_be_cut_anywhere(super::Mode::Multiplex).await;
    }
}

async fn requests_may_be_cut_anywhere(mode: Mode) {
    let bench = Bench::start(mode).await;
    let mut cuts = 0;
    for exchange in exchanges::all() {
        let wanted = bench.record(&exchange).await;
        let mut stream = bench.connect().await;
        for cut in 1..exchange.requests.len() {
            if wanted.is_closed && cut > 1 {
                stream = bench.connect().await;
            }
            let (first, second) = exchange.requests.split_at(cut);
            stream.write_all(first).await.unwrap();
            bench.witness.is_answered().await;
            stream.write_all(second).await.unwrap();
            wanted.meet(&mut stream, || format!("{}, the request cut at {cut}: {}", exchange.name, show(first))).await;
            cuts += 1;
        }
    }
    assert!(cuts > 3000, "only {cuts} cuts: where are the exchanges?");
}

async fn replies_may_be_cut_anywhere(mode: Mode) {
    let bench = Bench::start(mode).await;
    for exchange in exchanges::all() {
        let wanted = bench.record(&exchange).await;
        let mut stream = bench.connect().await;
        // Behind the last one: every byte in a record of its own.
        for cut in (1..=wanted.bytes).chain([DRIP]) {
            if wanted.is_closed && cut != 1 {
                stream = bench.connect().await;
            }
            bench.cut.store(cut, Ordering::SeqCst);
            stream.write_all(&exchange.requests).await.unwrap();
            wanted.meet(&mut stream, || format!("{}, the reply cut at {cut}", exchange.name)).await;
            bench.cut.store(WHOLE, Ordering::SeqCst);
        }
    }
}

const WHOLE: usize = usize::MAX;
const DRIP: usize = 0;

/// A server, a TLS server in front of it that cuts what it says, and the way there.
struct Bench {
    redis: Redis,
    /// What is tested.
    port: u16,
    /// After how many bytes the next reply is cut.
    cut: Arc<AtomicUsize>,
    witness: Arc<Witness>,
    _proxy: Option<Proxy>,
}

impl Bench {
    async fn start(mode: Mode) -> Self {
        let trust = Trust::new();
        let redis = Redis::builder(&trust.authority).plain().start().await.unwrap();
        let plain = redis.plain_port().unwrap();
        let cut = Arc::new(AtomicUsize::new(WHOLE));
        if mode == Mode::Direct {
            return Self { redis, port: plain, cut, witness: Arc::new(Witness::at(plain)), _proxy: None };
        }
        // One worker and two listeners, so that one who is answered there tells what the worker has seen here.
        let (port, other) = (free_port().unwrap(), free_port().unwrap());
        let witness = Arc::new(Witness::at(other));
        let server = server(&trust, plain, Arc::clone(&cut), Arc::clone(&witness)).await;
        let urls = [
            format!("rediss://localhost:{}?listen=127.0.0.1:{port}&name=tested&pool={}", server.port(), mode.name()),
            format!("rediss://localhost:{}?listen=127.0.0.1:{other}&name=witness&pool=relay", redis.port()),
        ];
        let ca = redis.ca_file();
        let arguments = ["run", "--workers", "1", "--ca-only", "--ca-file", ca.to_str().unwrap(), &urls[0], &urls[1]];
        let proxy = Proxy::start(PROGRAM, &arguments, &[]).await.unwrap();
        Self { redis, port, cut, witness, _proxy: Some(proxy) }
    }

    async fn connect(&self) -> TcpStream {
        connect(self.port).await
    }

    /// What comes on a direct connection: so many replies, or all until the server closes.
    async fn record(&self, exchange: &Exchange) -> Wanted {
        let mut stream = connect(self.redis.plain_port().unwrap()).await;
        stream.write_all(&exchange.requests).await.unwrap();
        let (mut bytes, mut is_closed) = (Vec::new(), false);
        while exchange.closes || frames(&bytes).len() < exchange.replies {
            if timeout(SOON, stream.read_buf(&mut bytes)).await.expect("the server answers").unwrap() == 0 {
                is_closed = true;
                break;
            }
        }
        let wanted = Wanted { frames: frames(&bytes), bytes: bytes.len(), is_closed };
        assert_eq!(wanted.frames.len(), exchange.replies, "{}: {}", exchange.name, show(&bytes));
        assert_eq!(is_closed, exchange.closes, "{}", exchange.name);
        wanted
    }
}

/// What must come for an exchange, frame by frame, without what differs from connection to connection.
struct Wanted {
    frames: Vec<Vec<u8>>,
    bytes: usize,
    is_closed: bool,
}

impl Wanted {
    async fn meet(&self, stream: &mut TcpStream, what: impl Fn() -> String) {
        let mut bytes = Vec::new();
        while frames(&bytes).len() < self.frames.len() || self.is_closed {
            let read = timeout(SOON, stream.read_buf(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("{}: nothing after {}", what(), show(&bytes)));
            // What the peer did not read of a stream that it closes makes the close a reset.
            if read.unwrap_or_else(|error| if self.is_closed { 0 } else { panic!("{}: {error}", what()) }) == 0 {
                assert!(self.is_closed, "{}: closed after {}", what(), show(&bytes));
                break;
            }
        }
        let got = frames(&bytes);
        for (got, wanted) in got.iter().zip(&self.frames) {
            assert_eq!(show(got), show(wanted), "{}", what());
        }
        assert_eq!(got.len(), self.frames.len(), "{}: {}", what(), show(&bytes));
    }
}

/// The whole frames, with `HELLO`'s number of the connection taken out.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let (mut at, mut frames) = (0, Vec::new());
    while let Some(length) = frame_length(&bytes[at..]).unwrap_or_else(|why| panic!("{why}")) {
        let mut frame = bytes[at..at + length].to_vec();
        if let Some(id) = frame.windows(ID.len()).position(|window| window == ID) {
            let id = id + ID.len();
            let digits = frame[id..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            frame.drain(id..id + digits);
        }
        frames.push(frame);
        at += length;
        if at == bytes.len() {
            break;
        }
    }
    frames
}

/// Another client of the same worker. Once it is answered, the worker has seen what was there before it asked.
struct Witness {
    port: u16,
    client: Mutex<Option<Resp<TcpStream>>>,
}

impl Witness {
    fn at(port: u16) -> Self {
        Self { port, client: Mutex::default() }
    }

    async fn is_answered(&self) {
        let mut client = self.client.lock().await;
        if client.is_none() {
            *client = Some(Resp::new(connect(self.port).await));
        }
        let answer = timeout(SOON, client.as_mut().unwrap().command(&["PING"])).await;
        assert_eq!(answer.expect("the worker hangs").unwrap().text(), "PONG");
    }
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Redis with TLS, whose replies are cut.
async fn server(trust: &Trust, redis: u16, cut: Arc<AtomicUsize>, witness: Arc<Witness>) -> SocketAddr {
    tls_server(trust.server_config(), move |stream| {
        let (cut, witness) = (Arc::clone(&cut), Arc::clone(&witness));
        async move {
            let (mut from_redis, mut to_redis) = connect(redis).await.into_split();
            let (mut from_proxy, mut to_proxy) = tokio::io::split(stream);
            let down = async {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_redis.read(&mut buffer).await {
                    for (at, piece) in pieces(&buffer[..read], &cut).into_iter().enumerate() {
                        if at > 0 {
                            witness.is_answered().await;
                        }
                        if to_proxy.write_all(piece).await.is_err() || to_proxy.flush().await.is_err() {
                            return;
                        }
                    }
                }
                let _ = to_proxy.shutdown().await;
            };
            let up = async {
                let _ = tokio::io::copy(&mut from_proxy, &mut to_redis).await;
                let _ = to_redis.shutdown().await;
            };
            tokio::join!(down, up);
        }
    })
    .await
}

/// A reply as it is sent: cut once, at the place that is counted over all replies since it was said, or everywhere.
fn pieces<'a>(reply: &'a [u8], cut: &AtomicUsize) -> Vec<&'a [u8]> {
    match cut.load(Ordering::SeqCst) {
        DRIP => reply.chunks(1).collect(),
        WHOLE => vec![reply],
        at if at < reply.len() => {
            cut.store(WHOLE, Ordering::SeqCst);
            let (first, second) = reply.split_at(at);
            vec![first, second]
        }
        at => {
            // 0 would mean drip.
            cut.store((at - reply.len()).max(1), Ordering::SeqCst);
            vec![reply]
        }
    }
}
