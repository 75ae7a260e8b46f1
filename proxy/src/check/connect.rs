//! Name, TCP, TLS and resumption: what every protocol has in common.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use rustls::{CommonState, Connection, HandshakeKind, ProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::report::{Finding, Name, milliseconds};
use super::table::for_people;
use super::{Outcome, Steps, silence};
use crate::config::{Listener, Protocol};
use crate::error::{Error, Kind, Result, Side};
use crate::stream::Stream;
use crate::tls::{self, Certificate};
use crate::upstream::{Upstream, tune};

/// Time enough to renew a certificate by hand.
const RENEW_DAYS: i64 = 21;
/// Tickets follow the handshake at once; a server that has sent none by then sends none.
const TICKETS: Duration = Duration::from_millis(300);
/// A server that is silent for so long is asked whether it speaks plaintext.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a plaintext server may take to say so.
const PLAINTEXT: Duration = Duration::from_secs(1);
/// A certificate may have hundreds of names.
const SHOWN_NAMES: usize = 6;

/// All of them; the second connection, on which nothing has been said yet.
pub(super) async fn take_steps(listener: &Listener, upstream: &Upstream, steps: &mut Steps) -> Option<Stream> {
    let host = &listener.upstream.host;
    let addresses = steps.take(Name::Dns, "the resolver is silent; see /etc/resolv.conf", dns(host, upstream)).await?;
    let limit = steps.limit;
    // The step bounds each address itself, so that one that is silent does not hide the others.
    steps.limit = limit.saturating_mul(2);
    let tcp = steps.take(Name::Tcp, "", tcp(listener, &addresses, limit)).await;
    steps.limit = limit;
    let (tcp, address) = tcp?;
    let hint = if listener.upstream.tls.post_quantum {
        "the port is open but nobody speaks: is the server stopped or overloaded? Where a middlebox drops large handshakes, try post_quantum=off"
    } else {
        "the port is open but nobody speaks: is the server stopped or overloaded?"
    };
    // Bounds itself as well: in a silence there is one more question to ask.
    steps.limit = limit.saturating_add(PLAINTEXT * 2);
    let first = steps.take(Name::Tls, hint, first_handshake(listener, upstream, tcp, address, (limit, hint))).await;
    steps.limit = limit;
    // Closed before the second, for a server that has one place left.
    close(first?).await;
    steps.take(Name::Resumption, hint, resumption(listener, upstream, address)).await
}

/// Ends a connection as TLS has it, with close_notify; PostgreSQL logs every other end as a connection reset by its peer.
pub(super) async fn close(mut stream: Stream) {
    // Nothing that could fail or stall here says anything about the server.
    let _ = timeout(PLAINTEXT, stream.shutdown()).await;
}

async fn dns(host: &str, upstream: &Upstream) -> Outcome<Vec<SocketAddr>> {
    let addresses = upstream.resolve().await?;
    let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    let says = if is_name { ips.join(", ") } else { format!("{host} is an address, there is nothing to look up") };
    Ok((Finding::ok(says).fact("addresses", ips), addresses))
}

/// Every address, at the same time; the first in the resolver's order that works is used, as when serving.
async fn tcp(listener: &Listener, addresses: &[SocketAddr], limit: Duration) -> Outcome<(TcpStream, SocketAddr)> {
    let tried = join_all(addresses.iter().map(async |address| {
        let started = Instant::now();
        let outcome = timeout(limit, connect(listener, *address)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(tcp_failure(*address, &io::ErrorKind::TimedOut.into())));
        (*address, started.elapsed(), outcome)
    }))
    .await;
    let facts = tried.iter().map(|(address, took, outcome)| {
        let error = outcome.as_ref().err().map(|error| error.why.as_str());
        json!({ "address": address.to_string(), "milliseconds": milliseconds(*took), "error": error })
    });
    let facts = facts.collect::<Vec<_>>();
    let says: Vec<_> = tried
        .iter()
        .filter(|(_, _, outcome)| outcome.is_ok())
        // A single one's time is the step's own.
        .map(|(address, took, _)| if tried.len() == 1 { address.to_string() } else { format!("{address} in {}", for_people(*took)) })
        .collect();
    let mut finding = Finding::ok(says.join(", ")).fact("addresses", facts.clone());
    let mut used = None;
    let mut failed = None;
    for (address, _, outcome) in tried {
        match outcome {
            Ok(tcp) if used.is_none() => used = Some((tcp, address)),
            Ok(_) => {}
            Err(error) => {
                finding = finding.warn("address", error.why.clone());
                failed.get_or_insert(error);
            }
        }
    }
    used.map(|used| (finding, used)).ok_or_else(|| {
        let failure = failed.unwrap_or_else(|| Error::upstream(Kind::Dns, "no addresses"));
        Box::new(Box::<Finding>::from(failure).fact("addresses", facts))
    })
}

async fn connect(listener: &Listener, address: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect(address).await.map_err(|error| tcp_failure(address, &error))?;
    tune(&tcp, listener.tcp_keepalive, listener.tcp_user_timeout);
    Ok(tcp)
}

fn tcp_failure(address: SocketAddr, error: &io::Error) -> Error {
    let (what, cure) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "connection refused".to_owned(),
            "nothing listens on that port, or a firewall rejects it: check the port (managed databases have their own) and that the server runs",
        ),
        io::ErrorKind::TimedOut => (
            "no answer".to_owned(),
            "a firewall drops the packets, or the machine is down: allow this machine at the server (\"trusted sources\")",
        ),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            (error.to_string(), "this machine has no route there: is it a private address of another network, or IPv6 without IPv6?")
        }
        _ => (error.to_string(), "check the network between this machine and the server"),
    };
    Error::upstream(Kind::Tcp, format!("{address}: {what}; {cure}"))
}

async fn first_handshake(
    listener: &Listener,
    upstream: &Upstream,
    tcp: TcpStream,
    address: SocketAddr,
    (limit, hint): (Duration, &str),
) -> Outcome<Stream> {
    let started = Instant::now();
    let mut handshake = pin!(upstream.handshake(tcp));
    let mut done = timeout(limit.min(PATIENCE), &mut handshake).await;
    if done.is_err() {
        // A plaintext Redis takes a ClientHello for the beginning of a long line and waits for the rest, for ever.
        if listener.protocol == Protocol::Redis && timeout(PLAINTEXT, answers_in_plaintext(address)).await.is_ok_and(|answers| answers) {
            let why = "the server answers in plaintext, this is not its TLS port; use the port that speaks TLS (`tls-port` in redis.conf)";
            return Err(Error::upstream(Kind::TlsPlaintext, why).into());
        }
        done = timeout(limit.saturating_sub(started.elapsed()), &mut handshake).await;
    }
    let mut stream = match done {
        Ok(Ok(stream)) => stream,
        // PostgreSQL answers every SSLRequest.
        Ok(Err(error)) if listener.protocol == Protocol::Postgres && error.kind == Kind::Io => {
            let why = format!("{}; is this PostgreSQL? Check the port: other TLS servers hang up on its first message", error.why);
            return Err(Error { why, ..error }.into());
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(silence(limit, hint).into()),
    };
    let took = started.elapsed();
    wait_for_tickets(&mut stream).await?;
    let finding = match connection(&stream) {
        Some(tls) => describe(listener, tls),
        None => Finding::ok("done"),
    };
    Ok((finding.took(took), stream))
}

/// Asks without TLS; nothing secret is in the question.
async fn answers_in_plaintext(address: SocketAddr) -> bool {
    let Ok(mut tcp) = TcpStream::connect(address).await else { return false };
    let mut answer = [0; 1];
    tcp.write_all(b"PING\r\n").await.is_ok() && tcp.read_exact(&mut answer).await.is_ok() && matches!(answer, [b'+' | b'-'])
}

fn connection(stream: &Stream) -> Option<&Connection> {
    match stream {
        Stream::Tls(tls) => Some(tls.connection()),
        Stream::Plain(_) => None,
    }
}

fn describe(listener: &Listener, tls: &CommonState) -> Finding {
    let version = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "unknown version",
    };
    let cipher = tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown cipher");
    let group = tls.negotiated_key_exchange_group().and_then(|group| group.name().as_str()).unwrap_or("unknown group");
    let mut finding =
        Finding::ok(format!("{version}, {cipher}, {group}")).fact("version", version).fact("cipher", cipher).fact("group", group);
    if let Some(alpn) = tls.alpn_protocol() {
        let alpn = String::from_utf8_lossy(alpn);
        finding = finding.fact("alpn", alpn.as_ref()).line("alpn", alpn);
    }
    let verified = listener.upstream.tls.server_name.as_ref().unwrap_or(&listener.upstream.host);
    finding = finding.fact("verified_name", verified.as_str());
    let chain: Vec<_> = tls.peer_certificates().into_iter().flatten().filter_map(|der| Certificate::read(der)).collect();
    let facts: Vec<_> =
        chain.iter().map(|one| json!({ "subject": one.subject, "issuer": one.issuer, "expires": date(one.not_after) })).collect();
    for one in &chain {
        finding = finding.line("chain", format!("{}, issued by {}", one.subject, one.issuer));
    }
    finding = finding.fact("chain", facts);
    match chain.first() {
        Some(leaf) => with_leaf(finding, leaf, verified),
        None => finding,
    }
}

fn with_leaf(finding: Finding, leaf: &Certificate, verified: &str) -> Finding {
    let shown = leaf.names.iter().take(SHOWN_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = leaf.names.len().saturating_sub(SHOWN_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let days = leaf.days_left(now());
    let expires = date(leaf.not_after);
    let finding = finding
        .fact("names", leaf.names.clone())
        .fact("days_left", days)
        .fact("expires", expires.as_str())
        .line("names", format!("{shown}{more}; verified for {verified}"));
    let left = format!("{days} days left, until {expires}");
    if days < RENEW_DAYS { finding.warn("expiry", format!("{left}: renew it soon")) } else { finding.line("expiry", left) }
}

fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // The year 9999 is the end of what certificates and this format can say.
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .filter(|_| seconds < 253_402_300_800)
        .map_or_else(|| "after the year 9999".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// Takes in what follows the handshake, until a ticket is there or none will come.
///
/// Here a TLS 1.3 server also says that it wants a client certificate: for the client the handshake is over by then.
async fn wait_for_tickets(stream: &mut Stream) -> Result<()> {
    let has_ticket = |stream: &Stream| match connection(stream) {
        Some(Connection::Client(client)) => {
            client.protocol_version() == Some(ProtocolVersion::TLSv1_2) || client.tls13_tickets_received() > 0
        }
        _ => true,
    };
    let mut bytes = [0; 1024];
    let arrived = poll_fn(|cx| {
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            // Whatever else the server says on this connection is of no interest.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Poll::Ready(Err(tls::explain(Side::Upstream, &error))),
            Poll::Pending if !has_ticket(stream) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    });
    // Late is as good as never.
    timeout(TICKETS, arrived).await.unwrap_or(Ok(()))
}

async fn resumption(listener: &Listener, upstream: &Upstream, address: SocketAddr) -> Outcome<Stream> {
    let tcp = connect(listener, address).await?;
    let stream = upstream.handshake(tcp).await?;
    let resumed = connection(&stream).and_then(|tls| tls.handshake_kind()) == Some(HandshakeKind::Resumed);
    let says = match (resumed, listener.protocol) {
        (true, _) => "yes: the second handshake was a short one",
        (false, Protocol::Postgres) => "not offered by PostgreSQL, which is normal: every handshake is a whole one",
        (false, _) => "no: every new connection costs the server a whole handshake",
    };
    Ok((Finding::ok(says).fact("resumed", resumed), stream))
}
