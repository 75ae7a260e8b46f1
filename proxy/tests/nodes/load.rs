//! Clients of both protocols in a node's pod, which count what they could not do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::netns::Machine;
use lab::{Resp, until};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::cluster::{CLIENT_PASSWORD, Cluster};

/// A connection that is not made in so long has been dropped; a request that waits longer has failed.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(25);

/// Running clients; they end when it is dropped.
pub(crate) struct Load {
    tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// Requests answered as they should be.
    pub(crate) done: AtomicU64,
    /// Connections that were closed between two requests, and made again.
    pub(crate) reconnected: AtomicU64,
    /// Requests that met the close of a connection on their way, and were sent again.
    pub(crate) crossed: AtomicU64,
    /// What went wrong.
    failed: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

impl Load {
    /// On each protocol: clients that connect for each request, as many that keep their connection, all of them through the Service.
    pub(crate) fn start(clients: &Arc<Machine>, each: usize) -> Self {
        let (tally, (stop, stopped)) = (Arc::new(Tally::default()), watch::channel(false));
        let mut running = JoinSet::new();
        for _ in 0..each {
            for keeps in [true, false] {
                let (machine, tally, stopped) = (Arc::clone(clients), Arc::clone(&tally), stopped.clone());
                running.spawn(redis_client(machine, Arc::clone(&tally), stopped.clone(), keeps));
                running.spawn(postgres_client(Arc::clone(clients), tally, stopped, keeps));
            }
        }
        Self { tally, stop, clients: running }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn goes_on(&self, more: u64) {
        let goal = self.tally.done.load(Ordering::Relaxed) + more;
        let reached = until("requests are answered", Duration::from_secs(60), || self.tally.done.load(Ordering::Relaxed) >= goal).await;
        reached.unwrap_or_else(|error| panic!("{error}: {:?}", self.tally.failures()));
    }

    /// Ends the clients after what they are at.
    pub(crate) async fn end(mut self) -> Arc<Tally> {
        self.stop.send(true).unwrap();
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        Arc::clone(&self.tally)
    }
}

impl Tally {
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failed.lock().unwrap().clone()
    }

    /// The longest that a request took, with its connection where that was part of it.
    pub(crate) fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    fn count(&self, since: Instant, outcome: Result<()>) {
        match outcome {
            Ok(()) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failed.lock().unwrap().push(format!("{error:#}")),
        }
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = slowest.max(since.elapsed());
    }
}

/// SET and GET of a key of its own.
async fn redis_client(machine: Arc<Machine>, tally: Arc<Tally>, stopped: watch::Receiver<bool>, keeps: bool) {
    let mut kept: Option<Resp<TcpStream>> = None;
    let key = format!("of-one-client-{:x}", fastrand::u64(..));
    while !*stopped.borrow() {
        let since = Instant::now();
        let exchange = async {
            let (mut fresh, mut connection) = (kept.is_none(), kept.take());
            let value = fastrand::u64(..).to_string();
            for (command, expected) in [(&["SET", &key, &value][..], "OK"), (&["GET", &key], &value)] {
                let reply = loop {
                    // As clients with a pool look at a connection before they use it.
                    if connection.as_mut().is_some_and(|client| is_closed(client.stream())) {
                        tally.reconnected.fetch_add(1, Ordering::Relaxed);
                        connection = None;
                    }
                    let mut client = match connection.take() {
                        Some(client) => client,
                        None => redis_login(&machine).await?,
                    };
                    match client.command(command).await {
                        Ok(reply) => {
                            connection = Some(client);
                            break reply.text();
                        }
                        // And as they try once more on another one when an old one was closed just then. With a new one that must not be.
                        Err(_) if !std::mem::replace(&mut fresh, true) => drop(tally.crossed.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => return Err(error),
                    }
                };
                if reply != expected {
                    bail!("{command:?} got {reply:?}");
                }
            }
            connection.context("no connection")
        };
        let outcome = tokio::time::timeout(ANSWER, exchange).await.context("Redis: no answer").and_then(|client| client).context("Redis");
        tally.count(since, outcome.map(|client| kept = keeps.then_some(client)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn redis_login(machine: &Machine) -> Result<Resp<TcpStream>> {
    let mut client = Resp::new(machine.connect(Cluster::redis_address(), CONNECT).await?);
    let reply = client.command(&["AUTH", "anybody", CLIENT_PASSWORD]).await?.text();
    if reply != "OK" {
        bail!("AUTH got {reply:?}");
    }
    Ok(client)
}

async fn postgres_client(machine: Arc<Machine>, tally: Arc<Tally>, stopped: watch::Receiver<bool>, keeps: bool) {
    let mut kept: Option<tokio_postgres::Client> = None;
    while !*stopped.borrow() {
        let since = Instant::now();
        if kept.as_ref().is_some_and(tokio_postgres::Client::is_closed) {
            tally.reconnected.fetch_add(1, Ordering::Relaxed);
            kept = None;
        }
        let exchange = async {
            let (fresh, mut client) = match kept.take() {
                Some(client) => (false, client),
                None => (true, postgres_login(&machine).await?),
            };
            let value = fastrand::i64(..);
            let row = match client.query_one("select $1::int8", &[&value]).await {
                Err(error) if !fresh && (error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN)) => {
                    tally.crossed.fetch_add(1, Ordering::Relaxed);
                    client = postgres_login(&machine).await?;
                    client.query_one("select $1::int8", &[&value]).await
                }
                row => row,
            };
            let got: i64 = row?.try_get(0)?;
            if got != value {
                bail!("{value} came back as {got}");
            }
            Ok(client)
        };
        let outcome = tokio::time::timeout(ANSWER, exchange).await.context("PostgreSQL: no answer").and_then(|client| client);
        tally.count(since, outcome.context("PostgreSQL").map(|client| kept = keeps.then_some(client)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn postgres_login(machine: &Machine) -> Result<tokio_postgres::Client> {
    let stream = machine.connect(Cluster::postgres_address(), CONNECT).await?;
    let mut config = tokio_postgres::Config::new();
    config.user("anybody").password(CLIENT_PASSWORD).dbname("registry");
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
