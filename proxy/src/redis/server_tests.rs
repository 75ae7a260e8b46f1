//! The same bytes to a real redis-server and to us: the answers must be the same, byte for byte. Skipped, and said so, where there is none.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::UnixStream;

use super::command::encode;
use super::{Boundary, Greeting, authenticate, login, ping};
use crate::error::Kind;

/// A redis-server on a unix socket in a directory of its own; both go when this is dropped.
struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    /// `None` when redis-server is not installed.
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("redis.conf");
        std::fs::write(
            &config,
            format!("port 0\nunixsocket {0}/s\nrequirepass sesame\nsave \"\"\ndir {0}\ndatabases 4\n", dir.path().display()),
        )
        .unwrap();
        let started = Command::new("redis-server").arg(&config).stdout(Stdio::null()).stdin(Stdio::null()).spawn();
        let Ok(child) = started else {
            println!("skipped: no redis-server");
            return None;
        };
        let server = Self { child, dir };
        let answers = async {
            while UnixStream::connect(server.dir.path().join("s")).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answers).await.expect("redis-server does not start");
        Some(server)
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("s")).await.unwrap()
    }

    /// All that the server answers to `input`, up to its reply to a QUIT behind it, which is left out, or until it closes.
    async fn answer(&self, input: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(&with_quit(input)).await.unwrap();
        let mut answer = Vec::new();
        // It resets when it closed with input unread; what it said before that counts.
        let _ = stream.read_to_end(&mut answer).await;
        answer.strip_suffix(b"+OK\r\n").map_or_else(|| answer.clone(), <[u8]>::to_vec)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A QUIT behind `input`, unless it is a line without an end: a QUIT would end it.
fn with_quit(input: &[u8]) -> Vec<u8> {
    let quit: &[u8] = if input.ends_with(b"\n") { b"QUIT\r\n" } else { b"" };
    [input, quit].concat()
}

/// The same from us; a login ends it.
async fn our_answer(input: &[u8]) -> Vec<u8> {
    let (mut client, mut proxy) = duplex(1 << 20);
    client.write_all(&with_quit(input)).await.unwrap();
    let outcome = authenticate(&mut proxy, bytes::BytesMut::new(), |password| password == b"sesame").await;
    drop(proxy);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    match outcome {
        Ok(Greeting::Welcome { .. }) => answer,
        _ => answer.strip_suffix(b"+OK\r\n").map_or_else(|| answer.clone(), <[u8]>::to_vec),
    }
}

#[tokio::test]
async fn we_say_what_redis_says() {
    let Some(server) = Server::start().await else { return };
    let lines = "PING|ping|SUBSCRIBE c|MULTI|CLIENT SETNAME x|COMMAND|AUTH|AUTH x|AUTH u x|AUTH sesame|AUTH default sesame|AUTH a b c|AUTH a b c d\
        |HELLO|HELLO 2|HELLO 3|HELLO 4|HELLO 1|HELLO x|HELLO 02|HELLO +2|HELLO \" 2\"|HELLO 99999999999999999999|HELLO 3 AUTH default\
        |HELLO 3 AUTH default x|HELLO AUTH default sesame|HELLO 2 SETNAME joe|HELLO 2 SETNAME \"a b\"|HELLO 2 SETNAME ''|HELLO 2 FOO\
        |HELLO 2 SETNAME \"a b\" AUTH default sesame|HELLO 2 AUTH default sesame SETNAME \"a b\"|HELLO 2 AUTH default sesame FOO\
        |HELLO 4 AUTH default x|HELLO 2 AUTH default x FOO|HELLO 2 AUTH default x AUTH default sesame|hello 3 auth default x|QUIT|quit now\
        |RESET|RESET x|post / HTTP/1.1|Host: x|\"PI\"NG|PING \"a|AUTH 'sesame'|AUTH \"\\x73esame\"|AUTH \"ses\\ame\"|AUTH 'ses\\ame'| |P\rING";
    let mut inputs: Vec<Vec<u8>> =
        lines.split('|').filter(|line| *line != "P\rING").map(|line| format!("{line}\r\n").into_bytes()).collect();
    for raw in [
        &b"\r\n\n*0\r\n*-1\r\n*-5\r\nPING\n"[..],
        b"*11\r\n",
        b"*1\r\n$16385\r\n",
        b"*2147483648\r\n",
        b"*-99999999999999999999\r\n",
        b"*x\r\n",
        b"*\r\n",
        b"*01\r\n",
        b"*-0\r\n",
        b"*1 \r\n",
        b"*1\r\nx\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n\x01\r\n",
        b"*1\r\n\xff\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$04\r\n",
        b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$6\r\nx\r\n+OK\r\n",
        b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$6\r\nx\0y\r\n+\r\n",
        b"PING\r\nAUTH x\r\nHELLO 3\r\nAUTH sesame\r\n",
    ] {
        inputs.push(raw.to_vec());
    }
    inputs.push([b"*".as_slice(), &[b'1'; 65540]].concat());
    inputs.push([b"*1\r\n$".as_slice(), &[b'1'; 65540]].concat());
    inputs.push(encode(&[b"AUTH", &[b'x'; 16384]]));
    let (theirs, ours) = (async |input: &[u8]| server.answer(input).await, our_answer);
    // Together, so that the wait after a wrong password is paid once.
    let answers = futures_util::future::join_all(inputs.iter().map(async |input| (theirs(input).await, ours(input).await))).await;
    for (input, (theirs, ours)) in inputs.iter().zip(answers) {
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string().chars().take(200).collect::<String>();
        assert_eq!(show(&theirs), show(&ours), "to {}", show(input));
    }
}

#[tokio::test]
async fn our_login_works_and_its_refusals_are_recognised() {
    let Some(server) = Server::start().await else { return };
    let right = SecretString::from("sesame");
    let wrong = SecretString::from("open");
    for (user, password, database, error) in [
        (None, Some(&right), None, None),
        (Some("default"), Some(&right), Some(3), None),
        (None, Some(&right), Some(4), Some("fewer databases")),
        (None, Some(&wrong), Some(1), Some("credentials")),
        (Some("nobody"), Some(&right), None, Some("credentials")),
        (None, None, Some(1), Some("NOAUTH")),
    ] {
        let mut stream = server.connect().await;
        match (login(&mut stream, user, password, database).await, error) {
            (Ok(()), None) => ping(&mut stream).await.unwrap(),
            (Err(error), Some(cure)) => assert!(error.kind == Kind::Login && error.why.contains(cure), "{error}"),
            (outcome, _) => panic!("{user:?} {database:?}: {outcome:?}"),
        }
    }
    assert!(ping(&mut server.connect().await).await.unwrap_err().why.contains("NOAUTH"));
}

/// A RESP3 client all the way: its HELLO is answered by the server, and its subscription leaves it idle.
#[tokio::test]
async fn a_rewritten_hello_is_answered_by_the_server() {
    let Some(server) = Server::start().await else { return };
    let (mut client, mut proxy) = duplex(1 << 16);
    client.write_all(b"HELLO 3 AUTH harbor sesame SETNAME joe\r\nCLIENT GETNAME\r\nSUBSCRIBE a\r\nPING\r\n").await.unwrap();
    let Greeting::Welcome { forward } = authenticate(&mut proxy, bytes::BytesMut::new(), |password| password == b"sesame").await.unwrap()
    else {
        panic!("not let in");
    };
    let mut upstream = server.connect().await;
    login(&mut upstream, None, Some(&SecretString::from("sesame")), None).await.unwrap();
    let mut boundary = Boundary::new();
    boundary.on_client(&forward);
    upstream.write_all(&forward).await.unwrap();
    let mut answer = Vec::new();
    while !boundary.is_idle() {
        let begin = answer.len();
        assert_ne!(upstream.read_buf(&mut answer).await.unwrap(), 0);
        boundary.on_upstream(&answer[begin..]);
    }
    let end = b"$3\r\njoe\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n";
    assert!(answer.starts_with(b"%7\r\n") && answer.ends_with(end), "{}", answer.escape_ascii());
}
