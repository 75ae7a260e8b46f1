//! A client of PostgreSQL that speaks messages: sends exactly what it is told to, and says exactly what came.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use redis_tls_proxy::postgres::scram::{Binding, Keys, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{self, Message};
use crate::support::SOON;

/// A client that is logged in; every wait of it has an end.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What the server reported last.
    pub(crate) parameters: BTreeMap<String, String>,
    /// What cancels its queries: process and secret.
    pub(crate) key: (u32, Vec<u8>),
}

impl Client {
    /// Logs in with protocol 3.0, with the password where it is asked for.
    ///
    /// The error is what the server said instead.
    pub(crate) async fn log_in(address: SocketAddr, parameters: &[(&str, &str)], password: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        Self::log_in_on(stream, &message::startup(0x30000, parameters), password).await
    }

    /// With a first message of the caller's own.
    pub(crate) async fn log_in_on(stream: TcpStream, startup: &[u8], password: &str) -> Result<Self, String> {
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream, buffer: Vec::new(), parameters: BTreeMap::new(), key: (0, Vec::new()) };
        client.stream.write_all(startup).await.map_err(|error| error.to_string())?;
        let (mut first, mut end) = (None, None);
        loop {
            let Some(said) = client.next().await else { return Err("closed during the login".into()) };
            match (said.kind, said.body.get(..4)) {
                (b'R', Some([0, 0, 0, 10])) => {
                    let start = Start::new("a-nonce-that-only-tests-use", Binding::Unable);
                    let first_message = start.message();
                    let length = u32::try_from(first_message.len()).unwrap().to_be_bytes();
                    let answer = message::message(b'p', &[b"SCRAM-SHA-256\0", &length, first_message.as_bytes()]);
                    client.stream.write_all(&answer).await.map_err(|error| error.to_string())?;
                    first = Some(start);
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    let challenge = first.take().unwrap().update(&said.body[4..]).unwrap();
                    let keys = Keys::derive(&password.to_owned().into(), challenge.salt(), challenge.iterations());
                    let (answer, checks) = challenge.answer(&keys);
                    let answer = message::message(b'p', &[answer.as_bytes()]);
                    client.stream.write_all(&answer).await.map_err(|error| error.to_string())?;
                    end = Some(checks);
                }
                (b'R', Some([0, 0, 0, 12])) => end.take().unwrap().finish(&said.body[4..]).unwrap(),
                (b'R', Some([0, 0, 0, 0])) | (b'S' | b'N', _) => {}
                (b'v', _) => {}
                (b'K', Some(process)) => {
                    client.key = (u32::from_be_bytes(process.try_into().unwrap()), said.body[4..].to_vec());
                }
                (b'Z', _) => return Ok(client),
                _ => return Err(said.text()),
            }
        }
    }

    /// All in one write.
    pub(crate) async fn send(&mut self, messages: &[Vec<u8>]) {
        self.raw(&messages.concat()).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        timeout(SOON, self.stream.write_all(bytes)).await.expect("nobody takes what is sent").expect("nobody takes what is sent");
    }

    /// The next message; `None` at the end, which may be a reset.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, length)) = Message::first(&self.buffer) {
                self.buffer.drain(..length);
                self.follow(&message);
                return Some(message);
            }
            let read = timeout(SOON, self.stream.read_buf(&mut self.buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("nothing comes after {:?}", self.buffer.escape_ascii().to_string()));
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn follow(&mut self, message: &Message) {
        if message.kind == b'S' {
            let text = message.text();
            let (name, value) = text[2..text.len() - 1].split_once('=').unwrap();
            self.parameters.insert(name.into(), value.into());
        }
    }

    /// The next messages, up to and including the first of this kind.
    pub(crate) async fn until(&mut self, kind: u8) -> String {
        let mut heard = String::new();
        loop {
            let Some(message) = self.next().await else { panic!("closed after {heard:?}, before {:?}", char::from(kind)) };
            heard.push_str(&message.text());
            if message.kind == kind {
                return heard;
            }
            heard.push(' ');
        }
    }

    /// The next messages, up to and including ReadyForQuery.
    pub(crate) async fn ready(&mut self) -> String {
        self.until(b'Z').await
    }

    /// So many ReadyForQuery, and what comes before them.
    pub(crate) async fn ready_times(&mut self, times: usize) -> String {
        let mut heard = Vec::new();
        for _ in 0..times {
            heard.push(self.ready().await);
        }
        heard.join(" ")
    }

    /// So many messages.
    pub(crate) async fn take(&mut self, messages: usize) -> String {
        let mut heard = Vec::new();
        for _ in 0..messages {
            heard.push(self.next().await.unwrap_or_else(|| panic!("closed after {heard:?}")).text());
        }
        heard.join(" ")
    }

    /// What comes before the end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        while let Some(message) = self.next().await {
            heard.push(message.text());
        }
        heard.join(" ")
    }

    /// Asks, and says what came up to so many ReadyForQuery; where the connection ends before that, what came until then.
    pub(crate) async fn converse(&mut self, messages: &[Vec<u8>], answers: usize) -> Result<String, String> {
        let written = timeout(SOON, self.stream.write_all(&messages.concat())).await.expect("nobody takes what is sent");
        let (mut heard, mut left) = (Vec::new(), answers);
        while left > 0 {
            let Some(message) = self.next().await else { return Err(heard.join(" ")) };
            left -= usize::from(message.kind == b'Z');
            heard.push(message.text());
        }
        written.map(|()| heard.join(" ")).map_err(|error| error.to_string())
    }

    /// Asks, and says what came up to ReadyForQuery.
    pub(crate) async fn ask(&mut self, messages: &[Vec<u8>]) -> String {
        self.send(messages).await;
        self.ready().await
    }

    /// A simple query and what came.
    pub(crate) async fn query(&mut self, sql: &str) -> String {
        self.ask(&[message::query(sql)]).await
    }

    /// The one value of a simple query's one row.
    pub(crate) async fn value(&mut self, sql: &str) -> String {
        self.send(&[message::query(sql)]).await;
        let (mut value, mut heard) = (None, Vec::new());
        loop {
            let Some(message) = self.next().await else { panic!("{sql}: closed after {heard:?}") };
            heard.push(message.text());
            match message.kind {
                b'D' => value = message.values().swap_remove(0),
                b'E' => panic!("{sql}: {heard:?}"),
                b'Z' => return value.map_or_else(|| "null".into(), |value| String::from_utf8_lossy(&value).into()),
                _ => {}
            }
        }
    }

    /// The server process that answers.
    pub(crate) async fn backend(&mut self) -> u32 {
        self.value("select pg_backend_pid()").await.parse().unwrap()
    }

    /// True when nothing more was said.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && self.stream.try_read(&mut byte).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Says goodbye and waits until it is closed.
    pub(crate) async fn leave(mut self) {
        self.send(&[message::terminate()]).await;
        let rest = self.rest().await;
        assert_eq!(rest, "", "after a goodbye");
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
