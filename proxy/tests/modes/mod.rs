//! One test, every mode: a real Redis behind a fault gate, reached directly or through the proxy in one of its pool modes.
//!
//! A test is a function of a [`Mode`]; [`in_every_mode!`] makes a test of it per mode. What a test claims is proved against the direct
//! connection first: a claim that fails there is wrong about Redis.
//!
//! ```text
//! direct:  client --plaintext--> Gate --plaintext--> Redis
//! others:  client --plaintext--> proxy --TLS--> Gate --TLS--> Redis
//! ```
#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

pub(crate) mod frames;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lab::certs::write_private;
use lab::redis::Builder;
use lab::{Gate, Redis, Resp, Value, until};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{Front, SOON, Trust, front};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Plaintext, without the proxy: what is right.
    Direct,
    Relay,
    Session,
    Multiplex,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Relay, Self::Session, Self::Multiplex];

    /// As `--pool` and `LAB_MODES` name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Session => "session",
            Self::Multiplex => "multiplex",
        }
    }

    /// True where clients and upstream connections are paired for life, so that the end of one is the end of the other.
    pub(crate) fn is_one_to_one(self) -> bool {
        matches!(self, Self::Direct | Self::Relay)
    }
}

/// A test per mode for each of these functions of a [`Mode`]: `direct::name`, `relay::name`… Those behind `pooled:` are claims of `session` and
/// `multiplex` alone.
macro_rules! in_every_mode {
    ($($name:ident),+ $(; pooled: $($pooled:ident),+)? $(,)?) => {
        $crate::modes::in_mode!(direct, Direct, [$($name),+]);
        $crate::modes::in_mode!(relay, Relay, [$($name),+]);
        $crate::modes::in_mode!(session, Session, [$($name),+ $(, $($pooled),+)?]);
        $crate::modes::in_mode!(multiplex, Multiplex, [$($name),+ $(, $($pooled),+)?]);
    };
}

macro_rules! in_mode {
    ($module:ident, $mode:ident, [$($name:ident),+]) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Mode::$mode).await; })+
        }
    };
}

pub(crate) use {in_every_mode, in_mode};

/// The server's own password where [`Bed::locked`] asks for one; no client knows it.
pub(crate) const UPSTREAM_PASSWORD: &str = "Upstream-s3cret-77";
/// What clients say at a locked bed, as the user `redis` or without a user.
pub(crate) const CLIENT_PASSWORD: &str = "Local-s3cret-88";

/// A server, a gate in front of it, and the way to it.
pub(crate) struct Bed {
    pub(crate) mode: Mode,
    pub(crate) redis: Redis,
    /// Between Redis and whoever connects to it.
    pub(crate) gate: Gate,
    front: Option<Front>,
    _trust: Trust,
}

impl Bed {
    pub(crate) async fn start(mode: Mode) -> Self {
        Self::with(mode, |redis| redis, &[]).await
    }

    /// With a server to be described, and more arguments for the proxy.
    pub(crate) async fn with(mode: Mode, describe: impl FnOnce(Builder<'_>) -> Builder<'_>, arguments: &[&str]) -> Self {
        let trust = Trust::new();
        let redis = describe(Redis::builder(&trust.authority).plain()).start().await.unwrap();
        Self::around(mode, trust, redis, "", arguments).await
    }

    /// Clients have to say [`CLIENT_PASSWORD`]: to the proxy, which has a password of its own for the server; directly, to the server.
    pub(crate) async fn locked(mode: Mode, arguments: &[&str]) -> Self {
        let trust = Trust::new();
        // Directly, the default user has the clients' password as well: redigo may leave the user's name out.
        let mut builder = Redis::builder(&trust.authority).plain().password(UPSTREAM_PASSWORD).user("redis", CLIENT_PASSWORD);
        if mode == Mode::Direct {
            builder = builder.line(format!("user default on >{UPSTREAM_PASSWORD} >{CLIENT_PASSWORD} ~* &* +@all"));
        }
        let redis = builder.start().await.unwrap();
        let file = trust.path("client-password");
        write_private(&file, CLIENT_PASSWORD).unwrap();
        let password = ["--client-auth", "password", "--client-password-file", file.to_str().unwrap()];
        Self::around(mode, trust, redis, &format!(":{UPSTREAM_PASSWORD}@"), &[&password, arguments].concat()).await
    }

    async fn around(mode: Mode, trust: Trust, redis: Redis, login: &str, arguments: &[&str]) -> Self {
        let port = if mode == Mode::Direct { redis.plain_port().unwrap() } else { redis.port() };
        let gate = Gate::start((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        let front = match mode {
            Mode::Direct => None,
            _ => {
                let url = format!("rediss://{login}localhost:{}", gate.port());
                Some(front(&url, &trust.ca, &[&["--pool", mode.name()], arguments].concat()).await)
            }
        };
        Self { mode, redis, gate, front, _trust: trust }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.front.as_ref().map_or_else(|| self.gate.address(), Front::address)
    }

    /// The proxy, where there is one.
    pub(crate) fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// Whether the proxy still runs, for the text of a failure.
    pub(crate) fn state(&mut self) -> String {
        self.front.as_mut().map_or_else(
            || "no proxy".to_owned(),
            |front| match front.proxy.try_wait() {
                Ok(None) => "the proxy runs; its log".to_owned(),
                left => format!("the proxy has left: {left:?}; its log"),
            },
        )
    }

    /// The proxy's log, for the text of a failure.
    pub(crate) fn log(&self) -> String {
        self.front.as_ref().map(|front| front.proxy.stderr()).unwrap_or_default()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) async fn resp(&self) -> Client {
        Client(Resp::new(self.tcp().await))
    }

    /// A client whose kernel keeps little for it.
    pub(crate) async fn narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client straight to the server, past proxy and gate.
    pub(crate) async fn past(&self) -> Client {
        Client(Resp::connect((Ipv4Addr::LOCALHOST, self.redis.plain_port().unwrap())).await.unwrap())
    }

    /// Waits until the server has so many clients blocked in a pop.
    pub(crate) async fn wait_blocked(&self, count: f64) {
        self.wait_info("blocked_clients", count).await;
    }

    /// Waits until a number of `INFO` is this one.
    pub(crate) async fn wait_info(&self, field: &str, wanted: f64) {
        let mut last = f64::NAN;
        let reached = timeout(SOON, async {
            loop {
                last = self.redis.info(field).await.unwrap();
                #[expect(clippy::float_cmp, reason = "small whole numbers")]
                if last == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(reached.is_ok(), "{field} is {last}, not {wanted}\n{}", self.log());
    }
}

/// A client whose every wait has an end.
pub(crate) struct Client(Resp<TcpStream>);

impl Client {
    pub(crate) fn new(resp: Resp<TcpStream>) -> Self {
        Self(resp)
    }

    /// All that comes up to its end, which may be a reset.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        timeout(SOON, self.0.read_to_end()).await.expect("it is not closed").unwrap_or_default()
    }

    pub(crate) async fn ask<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Value {
        self.send(arguments).await;
        self.read().await
    }

    /// The reply as text.
    pub(crate) async fn say<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> String {
        self.ask(arguments).await.text()
    }

    pub(crate) async fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        self.raw(&lab::resp::encode(arguments)).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        timeout(SOON, self.0.send_raw(bytes)).await.expect("nobody takes what is sent").unwrap();
    }

    pub(crate) async fn read(&mut self) -> Value {
        timeout(SOON, self.0.read()).await.expect("no reply").unwrap()
    }

    pub(crate) async fn try_ask<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> anyhow::Result<Value> {
        timeout(SOON, self.0.command(arguments)).await.expect("neither a reply nor an end")
    }

    /// It is closed and nothing comes before that. A reset is an end too.
    pub(crate) async fn ends(&mut self) {
        if let Ok(rest) = timeout(SOON, self.0.read_to_end()).await.expect("it is not closed") {
            assert_eq!(String::from_utf8_lossy(&rest), "", "before the end");
        }
    }

    /// Nothing comes for a while: the only way to see silence is to wait.
    pub(crate) async fn is_silent(&mut self, limit: Duration) {
        let heard = timeout(limit, self.0.read()).await;
        assert!(heard.is_err(), "something came: {heard:?}");
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.stream()
    }
}
