//! The program under test: started like a user would, watched through its admin port.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hosts::Hosts;
use crate::ports::free_port;
use crate::process::{Process, Signal};
use crate::usage::Usage;
use crate::wait::until_some;

const START: Duration = Duration::from_secs(10);
const HTTP: Duration = Duration::from_secs(5);

/// How to start the program; made by [`Proxy::builder`].
pub struct Builder<'a> {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    hosts: Option<&'a Hosts>,
}

/// The program, running; killed when dropped.
pub struct Proxy {
    process: Process,
    admin: SocketAddr,
    _dir: TempDir,
}

/// An answer of the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, 503…
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Proxy {
    /// Starts `program` with these arguments and environment plus a free admin port, and waits until `/startup` says yes.
    ///
    /// `program` is `env!("CARGO_BIN_EXE_redis-tls-proxy")` in its own tests. `REDIS_TLS_PROXY_*` of the caller's environment is not passed on.
    ///
    /// # Errors
    /// When it leaves or is not ready within 10 s; the text has its output.
    pub async fn start<A: AsRef<str>>(program: impl AsRef<Path>, arguments: &[A], environment: &[(&str, &str)]) -> Result<Self> {
        Self::builder(program).args(arguments).envs(environment).start().await
    }

    /// For what [`Proxy::start`] has no argument for.
    pub fn builder<'a>(program: impl AsRef<Path>) -> Builder<'a> {
        Builder { program: program.as_ref().to_owned(), arguments: Vec::new(), environment: Vec::new(), hosts: None }
    }

    /// Where the admin port listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// `GET path` on the admin port.
    ///
    /// # Errors
    /// When there is no answer in 5 s.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        request(self.admin, "GET", path, "").await
    }

    /// Any request on the admin port.
    ///
    /// # Errors
    /// When there is no answer in 5 s.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        request(self.admin, method, path, body).await
    }

    /// `/metrics`.
    ///
    /// # Errors
    /// When there is no answer or it is not 200.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await?.ok()
    }

    /// `/status`.
    ///
    /// # Errors
    /// When there is no answer, it is not 200, or not JSON.
    pub async fn status(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.get("/status").await?.ok()?)?)
    }

    /// The sum of all series of a metric that carry these labels (histograms: name the `_count` or `_sum`).
    ///
    /// # Errors
    /// When no such series exists.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let text = self.metrics().await?;
        sum(&text, name, labels).with_context(|| format!("no metric {name} with {labels:?}"))
    }

    /// Waits until a metric satisfies `condition`, and returns it.
    ///
    /// # Errors
    /// When it does not within `limit`; the text has its last value.
    pub async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], limit: Duration, condition: impl Fn(f64) -> bool) -> Result<f64> {
        let last = std::cell::Cell::new(None);
        let probe = async || {
            last.set(self.metric(name, labels).await.ok());
            last.get().filter(|value| condition(*value))
        };
        let met = until_some(&format!("{name} {labels:?}"), limit, probe).await;
        met.with_context(|| format!("it is {:?}\n{}", last.get(), self.stderr()))
    }

    /// Asks it to drain (SIGTERM).
    pub fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has left.
    ///
    /// # Errors
    /// When it has not within `limit`; the text has its log.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait_exit(limit).await
    }

    /// Its exit status, if it has left.
    ///
    /// # Errors
    /// As `waitpid`.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Standard error so far: the log.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// CPU time, memory and descriptors.
    ///
    /// # Errors
    /// When it has left.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl<'a> Builder<'a> {
    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<str>>(mut self, arguments: &[A]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// More environment.
    #[must_use]
    pub fn envs(mut self, environment: &[(&str, &str)]) -> Self {
        self.environment.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self
    }

    /// It sees these names.
    #[must_use]
    pub fn hosts(mut self, hosts: &'a Hosts) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// Starts it and waits until `/startup` says yes.
    ///
    /// # Errors
    /// When it leaves or is not ready within 10 s; the text has its output.
    pub async fn start(self) -> Result<Proxy> {
        let mut proxy = self.spawn()?;
        let admin = proxy.admin;
        let started = async || matches!(request(admin, "GET", "/startup", "").await, Ok(answer) if answer.status == 200);
        proxy.process.ready(START, started).await?;
        Ok(proxy)
    }

    /// Starts it and does not wait; for what must not become ready.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(self) -> Result<Proxy> {
        let dir = tempfile::Builder::new().prefix("lab-proxy-").tempdir()?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--admin").arg(admin.to_string());
        for (key, _) in std::env::vars_os().filter(|(key, _)| is_ours(key)) {
            command.env_remove(key);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        if let Some(hosts) = self.hosts {
            command = hosts.command(&command);
        }
        let process = Process::spawn("redis-tls-proxy", &command, dir.path())?;
        Ok(Proxy { process, admin, _dir: dir })
    }
}

impl Answer {
    /// The body of a 200.
    ///
    /// # Errors
    /// When it is not a 200.
    pub fn ok(self) -> Result<String> {
        if self.status == 200 { Ok(self.body) } else { Err(anyhow!("status {}: {}", self.status, self.body)) }
    }
}

/// One HTTP/1.1 request on a connection of its own.
///
/// # Errors
/// When there is no complete answer in 5 s.
pub async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let exchange = async { request_over(TcpStream::connect(address).await?, method, path, body).await };
    tokio::time::timeout(HTTP, exchange).await.with_context(|| format!("{method} {path}: no answer in {HTTP:?}"))?
}

/// One HTTP/1.1 request on a connection that is open, which is closed then. Waits for ever: the limit is the caller's.
///
/// # Errors
/// When there is no complete answer.
pub async fn request_over(mut stream: TcpStream, method: &str, path: &str, body: &str) -> Result<Answer> {
    let (host, length) = (stream.peer_addr()?, body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{method} {path}: not HTTP"))
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the headers")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(Answer { status, body: body.to_owned() });
    }
    let (mut rest, mut whole) = (body, String::new());
    loop {
        let (size, after) = rest.split_once("\r\n").context("no chunk size")?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok(Answer { status, body: whole });
        }
        let Some((chunk, next)) = after.split_at_checked(size) else { bail!("a chunk is cut short") };
        whole.push_str(chunk);
        rest = next.strip_prefix("\r\n").context("no end of a chunk")?;
    }
}

/// The sum of the matching series in a Prometheus text; `None` without any.
#[must_use]
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let inside = if series.is_empty() { "" } else { series.strip_prefix('{')?.strip_suffix('}')? };
        let has = |wanted: &String| inside.strip_prefix(wanted.as_str()).is_some() || inside.contains(&format!(",{wanted}"));
        if wanted.iter().all(has) { value.parse::<f64>().ok() } else { None }
    });
    series.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
}

fn is_ours(key: &OsStr) -> bool {
    key.to_string_lossy().starts_with("REDIS_TLS_PROXY_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_chosen_by_whole_labels_and_summed() {
        let text = "# HELP a_total x\na_total{l=\"r\",reason=\"x\"} 2\na_total{l=\"r\",reason=\"y\"} 3\na_total_more{l=\"r\"} 9\nb 0.5\n";
        assert_eq!(sum(text, "a_total", &[]), Some(5.0));
        assert_eq!(sum(text, "a_total", &[("reason", "y")]), Some(3.0));
        assert_eq!(sum(text, "a_total", &[("eason", "y")]), None);
        assert_eq!(sum(text, "b", &[]), Some(0.5));
        assert_eq!(sum(text, "c", &[]), None);
    }

    #[test]
    fn plain_and_chunked_answers_are_read() {
        let plain = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!(plain, Answer { status: 503, body: "no".into() });
        assert!(plain.ok().is_err());
        let chunked = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!(chunked.ok().unwrap(), "abcde");
        assert!(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc").is_err());
    }
}
