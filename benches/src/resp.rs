//! Just enough of a Redis client: send a command, read a reply, see every byte of it.

use std::future::Future;
use std::pin::Pin;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, ToSocketAddrs};

/// A reply, RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the dash; also RESP3's bulk errors.
    Error(String),
    /// `:1`
    Int(i64),
    /// `$…`; also RESP3's verbatim strings, with their three-letter format.
    Bulk(Vec<u8>),
    /// `*…`, and RESP3's sets.
    Array(Vec<Self>),
    /// RESP3's maps, keys and values in turn.
    Map(Vec<Self>),
    /// RESP3's out-of-band messages.
    Push(Vec<Self>),
    /// RESP3's doubles, booleans and big numbers, as written.
    Scalar(String),
    /// `$-1`, `*-1`, `_`
    Null,
}

impl Value {
    /// `+OK`.
    #[must_use]
    pub fn ok() -> Self {
        Self::Simple("OK".into())
    }

    /// Bulk and simple strings, errors and scalars as text; empty for anything else.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Scalar(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            Self::Array(_) | Self::Map(_) | Self::Push(_) | Self::Null => String::new(),
        }
    }

    /// True for `-…`.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// A Redis client over any stream.
pub struct Resp<S> {
    stream: BufReader<S>,
}

impl Resp<TcpStream> {
    /// Connects over plaintext TCP.
    ///
    /// # Errors
    /// As the connection fails.
    pub async fn connect(address: impl ToSocketAddrs) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Resp<S> {
    /// Over a stream that is open already.
    pub fn new(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream) }
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    /// When the connection breaks or the reply is not RESP. An error *reply* is a [`Value`]. Not cancel-safe: a dropped call leaves a reply unread.
    pub async fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Value> {
        self.send(arguments).await?;
        self.read().await
    }

    /// Sends one command without waiting for the reply.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<()> {
        self.send_raw(&encode(arguments)).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When the connection ends or the bytes are not RESP.
    pub async fn read(&mut self) -> Result<Value> {
        read_value(&mut self.stream, 0).await
    }

    /// Reads until the server closes, and returns what came before; for "it must have been closed".
    ///
    /// # Errors
    /// When the connection is reset instead.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    /// The stream beneath.
    pub fn stream(&mut self) -> &mut S {
        self.stream.get_mut()
    }
}

/// A command as it goes over the wire.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Deeper or larger than any reply of a real server in a test.
const MAX_DEPTH: usize = 16;
const MAX_BYTES: usize = 512 * 1024 * 1024;
const MAX_ITEMS: usize = 1024 * 1024;

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Value>> + Send + 'a>>;

/// Boxed because it calls itself for arrays.
fn read_value<S: AsyncRead + Unpin + Send>(stream: &mut BufReader<S>, depth: usize) -> Reading<'_> {
    Box::pin(async move {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\r\n") else { bail!("the connection ended in place of a reply") };
        let (kind, rest) = line.split_first().context("an empty line in place of a reply")?;
        let text = String::from_utf8_lossy(rest).into_owned();
        Ok(match kind {
            b'+' => Value::Simple(text),
            b'-' => Value::Error(text),
            b':' => Value::Int(text.parse()?),
            b'_' => Value::Null,
            b',' | b'#' | b'(' => Value::Scalar(text),
            b'$' | b'=' if text != "-1" => Value::Bulk(read_bulk(stream, &text).await?),
            b'!' => Value::Error(String::from_utf8_lossy(&read_bulk(stream, &text).await?).into_owned()),
            b'*' | b'~' if text != "-1" => Value::Array(read_items(stream, &text, 1, depth).await?),
            b'%' => Value::Map(read_items(stream, &text, 2, depth).await?),
            b'>' => Value::Push(read_items(stream, &text, 1, depth).await?),
            b'$' | b'*' => Value::Null,
            _ => bail!("not RESP: {:?}", String::from_utf8_lossy(line)),
        })
    })
}

async fn read_bulk<S: AsyncRead + Unpin + Send>(stream: &mut BufReader<S>, length: &str) -> Result<Vec<u8>> {
    let length: usize = length.parse()?;
    if length > MAX_BYTES {
        bail!("a bulk string of {length} bytes");
    }
    let mut bytes = Vec::new();
    // Grows as bytes arrive, so a lying length costs nothing.
    (&mut *stream).take(length as u64 + 2).read_to_end(&mut bytes).await?;
    if bytes.len() != length + 2 || !bytes.ends_with(b"\r\n") {
        bail!("a bulk string was cut short");
    }
    bytes.truncate(length);
    Ok(bytes)
}

async fn read_items<S: AsyncRead + Unpin + Send>(stream: &mut BufReader<S>, count: &str, per: usize, depth: usize) -> Result<Vec<Value>> {
    let count: usize = count.parse()?;
    if count > MAX_ITEMS || depth >= MAX_DEPTH {
        bail!("a reply of {count} items at depth {depth}");
    }
    let mut items = Vec::new();
    for _ in 0..count * per {
        items.push(read_value(stream, depth + 1).await?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Value> {
        let mut stream = BufReader::new(bytes);
        read_value(&mut stream, 0).await
    }

    #[tokio::test]
    async fn every_kind_of_reply_is_read() {
        let array = read(b"*3\r\n$2\r\na\n\r\n$-1\r\n*1\r\n:-7\r\n").await.unwrap();
        assert_eq!(array, Value::Array(vec![Value::Bulk(b"a\n".to_vec()), Value::Null, Value::Array(vec![Value::Int(-7)])]));
        assert_eq!(read(b"-ERR no\r\n").await.unwrap(), Value::Error("ERR no".into()));
        assert_eq!(read(b"%1\r\n+k\r\n#t\r\n").await.unwrap(), Value::Map(vec![Value::Simple("k".into()), Value::Scalar("t".into())]));
        assert_eq!(read(b">1\r\n_\r\n").await.unwrap(), Value::Push(vec![Value::Null]));
        for bad in [&b"+OK"[..], b"hello\r\n", b"$5\r\nabc\r\n", b"*99999999999\r\n", b"\r\n"] {
            read(bad).await.unwrap_err();
        }
        assert_eq!(encode(&["GET", "k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
