//! The wire of one client: requests out in pieces while replies come in, each held against what must come.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::modes::frames::frame_length;
pub(crate) use crate::modes::frames::show;

/// Longer than anything that still makes progress.
const HUNG: Duration = Duration::from_secs(60);

/// What must come.
pub(crate) enum Expect {
    /// Exactly these bytes, one frame or many.
    Bytes(Vec<u8>),
    /// One frame that satisfies this.
    Frame(Check),
    /// The end of the connection.
    End,
}

/// Says what is wrong with a frame.
pub(crate) type Check = Box<dyn FnOnce(&[u8]) -> Result<(), String> + Send>;

/// How a conversation went wrong.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection ended. Fine when the test itself broke something.
    Broken(#[expect(dead_code, reason = "for the text of a failure")] String),
    /// The proxy's own error: the upstream is gone. Fine when the test cut it.
    Refused(#[expect(dead_code, reason = "for the text of a failure")] String),
    /// Never fine.
    Wrong(String),
}

pub(crate) struct Wire {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    buffer: Vec<u8>,
    start: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write, buffer: Vec::with_capacity(16 * 1024), start: 0 }
    }

    /// The socket again, whatever is unread.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.write.reunite(self.read).unwrap()
    }

    /// Writes the pieces and reads the replies at the same time, as a pipeline larger than all buffers demands. `heard` gets each frame.
    pub(crate) async fn converse<T>(
        &mut self,
        pieces: &[&[u8]],
        expected: Vec<(Expect, T)>,
        mut heard: impl FnMut(T, &[u8]) -> Result<(), String>,
    ) -> Result<(), Trouble> {
        let (write, read) = (&mut self.write, &mut self.read);
        let (buffer, start) = (&mut self.buffer, &mut self.start);
        let writing = async {
            for piece in pieces {
                if write.write_all(piece).await.is_err() {
                    return; // the reader learns why
                }
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            let mut inbox = Inbox { read, buffer, start };
            for (expect, tag) in expected {
                let length = inbox.meet(expect).await?;
                heard(tag, &inbox.buffer[*inbox.start..*inbox.start + length]).map_err(Trouble::Wrong)?;
                *inbox.start += length;
            }
            if *inbox.start == inbox.buffer.len() {
                inbox.buffer.clear();
                *inbox.start = 0;
                return Ok(());
            }
            Err(Trouble::Wrong(format!("nobody asked for {}", show(&inbox.buffer[*inbox.start..]))))
        };
        match timeout(HUNG, async { tokio::join!(writing, reading).1 }).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::Wrong(format!("nothing for {HUNG:?}; unread: {}", show(&self.buffer[self.start..])))),
        }
    }
}

struct Inbox<'a> {
    read: &'a mut OwnedReadHalf,
    buffer: &'a mut Vec<u8>,
    start: &'a mut usize,
}

impl Inbox<'_> {
    /// Waits for what must come; how many bytes it is. They stay in the buffer.
    async fn meet(&mut self, expect: Expect) -> Result<usize, Trouble> {
        match expect {
            Expect::Bytes(wanted) => {
                let mut same = 0;
                loop {
                    let got = &self.buffer[*self.start..];
                    let common = got.len().min(wanted.len());
                    if got[same..common] != wanted[same..common] {
                        return Err(self.differs(&wanted).await);
                    }
                    same = common;
                    if same == wanted.len() {
                        return Ok(same);
                    }
                    self.more(|| show(&wanted)).await?;
                }
            }
            Expect::Frame(check) => {
                let length = self.frame(|| "a reply".into()).await?;
                let frame = &self.buffer[*self.start..*self.start + length];
                match check(frame) {
                    Ok(()) => Ok(length),
                    Err(why) if is_refusal(frame) => Err(Trouble::Refused(why)),
                    Err(why) => Err(Trouble::Wrong(why)),
                }
            }
            Expect::End => match self.more(|| "the end".into()).await {
                Err(Trouble::Broken(_)) if *self.start == self.buffer.len() => Ok(0),
                _ => Err(Trouble::Wrong(format!("in place of the end: {}", show(&self.buffer[*self.start..])))),
            },
        }
    }

    /// What came instead, whole where that is possible.
    async fn differs(&mut self, wanted: &[u8]) -> Trouble {
        if let Err(trouble) = self.frame(|| show(wanted)).await {
            return trouble;
        }
        let got = &self.buffer[*self.start..];
        let at = got.iter().zip(wanted).take_while(|(got, wanted)| got == wanted).count();
        let words = format!("byte {at}: wanted {}, got {}", show(wanted), show(got));
        if is_refusal(got) { Trouble::Refused(words) } else { Trouble::Wrong(words) }
    }

    async fn frame(&mut self, wanted: impl Fn() -> String) -> Result<usize, Trouble> {
        loop {
            match frame_length(&self.buffer[*self.start..]) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => self.more(&wanted).await?,
                Err(why) => return Err(Trouble::Wrong(why)),
            }
        }
    }

    async fn more(&mut self, wanted: impl Fn() -> String) -> Result<(), Trouble> {
        if *self.start > 64 * 1024 {
            self.buffer.drain(..*self.start);
            *self.start = 0;
        }
        match self.read.read_buf(self.buffer).await {
            Ok(0) => Err(Trouble::Broken(format!("closed in place of {}", wanted()))),
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Broken(format!("{error} in place of {}", wanted()))),
        }
    }
}

/// The proxy's own words, never the server's.
fn is_refusal(frame: &[u8]) -> bool {
    frame.starts_with(b"-ERR redis-tls-proxy: ")
}
