//! Where a stream happens to be cut changes nothing: exchanges of PostgreSQL's protocol, the requests and the replies cut at every byte.
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

#[path = "postgres_cuts/exchanges.rs"]
mod exchanges;
mod pg_modes;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exchanges::Exchange;
use lab::certs::write_private;
use lab::{Proxy, free_port};
use pg_modes::message::query;
use pg_modes::{Bed, Client, Mode, PASSWORD, USER};
use support::{PROGRAM, Trust, tls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

pg_modes::in_every_mode!(requests_may_be_cut_anywhere);

/// Without a proxy nobody could cut the replies.
mod replies {
    pg_modes::in_mode!(relay, Relay, [replies_may_be_cut_anywhere]);
    pg_modes::in_mode!(session, Session, [replies_may_be_cut_anywhere]);
    pg_modes::in_mode!(transaction, Transaction, [replies_may_be_cut_anywhere]);

    use super::{pg_modes, replies_may_be_cut_anywhere};
}

/// What the pooled modes say besides is not counted by a client: cuts go on for so many bytes behind its own replies.
const MORE: usize = 60;

async fn requests_may_be_cut_anywhere(mode: Mode) {
    let bench = Bench::start(mode).await;
    let mut cuts = 0;
    for exchange in exchanges::all() {
        let wanted = bench.record(&exchange).await;
        let mut client = bench.connect().await;
        for cut in 1..exchange.requests.len() {
            if exchange.closes && cut > 1 {
                client = bench.connect().await;
            }
            let (first, second) = exchange.requests.split_at(cut);
            client.raw(first).await;
            bench.witness.is_answered().await;
            client.raw(second).await;
            assert_eq!(heard(&mut client, &exchange).await, wanted.0, "{}, the request cut at {cut}", exchange.name);
            cuts += 1;
        }
    }
    assert!(cuts > 1500, "only {cuts} cuts: where are the exchanges?");
}

async fn replies_may_be_cut_anywhere(mode: Mode) {
    let bench = Bench::start(mode).await;
    for exchange in exchanges::all() {
        let wanted = bench.record(&exchange).await;
        let mut client = bench.connect().await;
        // Behind the last one: every byte in a record of its own.
        for cut in (1..=wanted.1 + MORE).chain([DRIP]) {
            if exchange.closes && cut != 1 {
                client = bench.connect().await;
            }
            bench.cut.store(cut, Ordering::SeqCst);
            client.raw(&exchange.requests).await;
            assert_eq!(heard(&mut client, &exchange).await, wanted.0, "{}, the reply cut at {cut}", exchange.name);
            bench.cut.store(WHOLE, Ordering::SeqCst);
        }
    }
}

/// So many answers, or all up to the end.
async fn heard(client: &mut Client, exchange: &Exchange) -> String {
    if exchange.closes { client.rest().await } else { client.ready_times(exchange.answers).await }
}

const WHOLE: usize = usize::MAX;
const DRIP: usize = 0;

/// A server, a TLS server in front of it that cuts what it says, and the way there.
struct Bench {
    bed: Bed,
    /// What is tested.
    address: SocketAddr,
    /// After how many bytes the next reply is cut.
    cut: Arc<AtomicUsize>,
    witness: Arc<Witness>,
    _proxy: Option<Proxy>,
    _trust: Trust,
}

impl Bench {
    async fn start(mode: Mode) -> Self {
        // Its database and its way past everything.
        let bed = Bed::one(Mode::Direct).await;
        bed.past(&[]).await.query("create table t (i int)").await;
        let (trust, cut) = (Trust::new(), Arc::new(AtomicUsize::new(WHOLE)));
        let mut bench =
            Self { address: bed.address(), witness: Arc::new(Witness::at(&bed, bed.address())), bed, cut, _proxy: None, _trust: trust };
        if mode == Mode::Direct {
            return bench;
        }
        // One worker and two listeners, so that one who is answered there tells what the worker has seen here.
        let (port, other) = (free_port().unwrap(), free_port().unwrap());
        bench.address = (Ipv4Addr::LOCALHOST, port).into();
        bench.witness = Arc::new(Witness::at(&bench.bed, (Ipv4Addr::LOCALHOST, other).into()));
        let server = server(&bench).await;
        let trust = &bench._trust;
        let (password, both) = (trust.path("password"), trust.path("both.pem"));
        write_private(&password, PASSWORD).unwrap();
        let authorities = [&trust.ca, &bench.bed.lab.postgres.ca_file()].map(|file| std::fs::read_to_string(file).unwrap());
        std::fs::write(&both, authorities.concat()).unwrap();
        let size = if mode == Mode::Relay { "" } else { "&pool_size=1" };
        let (login, mode) = (format!("password_file={}", password.display()), mode.name());
        let urls = [
            format!(
                "postgresql://{USER}@localhost:{}/{USER}?listen=127.0.0.1:{port}&name=tested&direct_tls=on&pool={mode}{size}&{login}",
                server.port()
            ),
            format!(
                "postgresql://{USER}@localhost:{}/{USER}?listen=127.0.0.1:{other}&name=witness&pool=relay&{login}",
                bench.bed.lab.postgres.port()
            ),
        ];
        let arguments = ["run", "--workers", "1", "--ca-only", "--ca-file", both.to_str().unwrap(), &urls[0], &urls[1]];
        bench._proxy = Some(Proxy::start(PROGRAM, &arguments, &[]).await.unwrap());
        bench
    }

    async fn connect(&self) -> Client {
        let parameters = [("user", USER), ("database", &self.bed.database)];
        Client::log_in(self.address, &parameters, PASSWORD).await.unwrap()
    }

    /// What comes on a direct connection, and how many bytes of it.
    async fn record(&self, exchange: &Exchange) -> (String, usize) {
        let mut client = self.bed.past(&[]).await;
        client.raw(&exchange.requests).await;
        let (mut texts, mut bytes, mut answers) = (Vec::new(), 0, 0);
        while exchange.closes || answers < exchange.answers {
            let Some(message) = client.next().await else { break };
            bytes += message.body.len() + 5;
            answers += usize::from(message.kind == b'Z');
            texts.push(message.text());
        }
        assert_eq!(answers, exchange.answers, "{}: {texts:?}", exchange.name);
        (texts.join(" "), bytes)
    }
}

/// Another client of the same worker. Once it is answered, the worker has seen what was there before it asked.
struct Witness {
    address: SocketAddr,
    database: String,
    client: Mutex<Option<Client>>,
}

impl Witness {
    fn at(bed: &Bed, address: SocketAddr) -> Self {
        Self { address, database: bed.database.clone(), client: Mutex::default() }
    }

    async fn is_answered(&self) {
        let mut client = self.client.lock().await;
        if client.is_none() {
            let parameters = [("user", USER), ("database", &self.database)];
            *client = Some(Client::log_in(self.address, &parameters, PASSWORD).await.unwrap());
        }
        assert_eq!(client.as_mut().unwrap().ask(&[query("")]).await, "I Z(I)");
    }
}

/// PostgreSQL with TLS from the first byte, whose replies are cut.
async fn server(bench: &Bench) -> SocketAddr {
    let mut config = bench._trust.server_config();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let (postgres, cut, witness) = (bench.bed.lab.postgres.address(), Arc::clone(&bench.cut), Arc::clone(&bench.witness));
    tls_server(config, move |stream| {
        let (cut, witness) = (Arc::clone(&cut), Arc::clone(&witness));
        async move {
            let server = TcpStream::connect(postgres).await.unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from_server, mut to_server) = server.into_split();
            let (mut from_proxy, mut to_proxy) = tokio::io::split(stream);
            let down = async {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
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
                let _ = tokio::io::copy(&mut from_proxy, &mut to_server).await;
                let _ = to_server.shutdown().await;
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
