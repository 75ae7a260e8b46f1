//! One of the many clients: pipelines and conversations without end, and now and then it dies in the middle.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lab::Resp;
use tokio::net::{TcpStream, UnixStream};

use crate::ledger::{Effect, Ledger, Place, lock};
use crate::script::{Meanwhile, Model, Script, bulk};
use crate::support::{SOON, reset_on_close};
use crate::wire::{Check, Trouble, Wire, show};

pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// The server's own socket, for the partner.
    pub(crate) past: PathBuf,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) model: Model,
    /// How often it dies, in thousandths of its steps.
    pub(crate) mortality: u32,
}

/// How a client dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Everything asked, nothing read.
    Leaves,
    /// In the middle of a request.
    Half,
    /// With RST.
    Reset,
}

impl Client {
    /// Until the ledger says that it is over.
    pub(crate) async fn run(mut self) {
        let (mut wire, mut fine) = (None, 0);
        while !self.ledger.is_over() {
            let cuts = self.ledger.cuts();
            let open = match wire.take() {
                Some(wire) => wire,
                None => match TcpStream::connect(self.address).await.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                    Ok(stream) => {
                        fine = self.ledger.cuts();
                        Wire::new(stream)
                    }
                    // Without a proxy the cut meets those who are just connecting.
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                        if lab::until("a cut that explains the reset", SOON, || self.ledger.cuts() > cuts).await.is_err() {
                            return self.ledger.fail(format!("cannot connect: {error}"));
                        }
                        continue;
                    }
                    Err(error) => return self.ledger.fail(format!("cannot connect: {error}")),
                },
            };
            let cuts = self.ledger.cuts();
            match self.step(open).await {
                Ok(open) => (wire, fine) = (open, cuts),
                Err(Trouble::Broken(_)) if self.ledger.excuses(fine) => {
                    self.ledger.count_break();
                    self.model.lost();
                }
                Err(Trouble::Refused(_)) if self.ledger.excuses(fine) => {
                    self.ledger.count_refusal();
                    self.model.lost();
                }
                Err(trouble) => return self.ledger.fail(format!("{trouble:?}")),
            }
        }
    }

    /// One pipeline or one conversation; the connection if it goes on.
    async fn step(&mut self, wire: Wire) -> Result<Option<Wire>, Trouble> {
        if self.model.rng.u32(..1000) < self.mortality {
            self.die(wire).await;
            return Ok(None);
        }
        match self.model.rng.u32(..40) {
            0 => self.queue_slowly(wire).await.map(Some),
            1 => self.race_for_a_counter(wire).await.map(Some),
            2 => self.wait_for_a_push(wire).await.map(Some),
            3 => self.listen(wire).await.map(Some),
            4 if self.model.rng.u8(..4) == 0 => self.say_goodbye(wire).await.map(|()| None),
            _ => {
                let script = self.pipeline();
                self.play(wire, script).await.map(Some)
            }
        }
    }

    /// Mostly one request, sometimes dozens.
    fn pipeline(&mut self) -> Script {
        let mut script = Script::default();
        let units = match self.model.rng.u8(..8) {
            0..4 => 1,
            4..7 => self.model.rng.u32(2..10),
            _ => self.model.rng.u32(10..60),
        };
        (0..units).for_each(|_| self.model.unit(&mut script));
        script
    }

    async fn play(&mut self, mut wire: Wire, mut script: Script) -> Result<Wire, Trouble> {
        script.replies.iter().for_each(|(_, effect)| self.ledger.will(*effect));
        let partner = script.meanwhile.take().map(|what| tokio::spawn(partner(self.past.clone(), what)));
        let pieces = cut(&script.bytes, &mut self.model.rng);
        let told = wire.converse(&pieces, script.replies, |effect, reply| self.ledger.did(effect, reply)).await;
        self.ledger.add_requests(script.requests);
        if let Some(partner) = partner {
            partner.await.unwrap();
        }
        match told {
            Ok(()) => Ok(wire),
            Err(Trouble::Wrong(why)) => {
                let sent = script.bytes.len().min(6000);
                Err(Trouble::Wrong(format!("{why}\nin RESP{} after {}", self.model.protocol(), script.bytes[..sent].escape_ascii())))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// MULTI in pieces, each reply awaited before the next request, and the last request itself in pieces.
    async fn queue_slowly(&mut self, mut wire: Wire) -> Result<Wire, Trouble> {
        let (slot, value) = (self.model.slot(), self.model.value());
        let key = self.model.key("slow", slot);
        let place = Place::any(self.model.database(), &mut self.model.rng);
        let token = self.model.token();
        let next = |fill: &mut dyn FnMut(&mut Script)| {
            let mut script = Script::default();
            fill(&mut script);
            script
        };
        let scripts = [
            next(&mut |s| s.ask(&["MULTI"], "+OK\r\n")),
            next(&mut |s| s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n")),
            next(&mut |s| s.ask(&["DEL", &key], "+QUEUED\r\n")),
            next(&mut |s| s.ask(&["LPUSH", &place.list(), &token.to_string()], "+QUEUED\r\n")),
        ];
        for script in scripts {
            wire = self.play(wire, script).await?;
        }
        let mut script = Script::default();
        if self.model.rng.u8(..4) == 0 {
            script.ask(&["DISCARD"], "+OK\r\n");
        } else {
            script.request(&["EXEC"]);
            script.check(Effect::Push(place, token), begins("*3\r\n+OK\r\n:1\r\n:"));
        }
        self.model.unit(&mut script);
        self.play(wire, script).await
    }

    /// WATCH, read, increment: either nobody came between, and the value is the next, or nothing happens.
    async fn race_for_a_counter(&mut self, wire: Wire) -> Result<Wire, Trouble> {
        let place = Place::any(self.model.database(), &mut self.model.rng);
        let seen = Arc::new(Mutex::new(0));
        let mut script = Script::default();
        script.ask(&["WATCH", &place.counter()], "+OK\r\n");
        script.request(&["GET", &place.counter()]);
        let (before, null) = (Arc::clone(&seen), self.model.null("$-1\r\n"));
        let remember: Check = Box::new(move |frame| {
            let value = str::from_utf8(frame).ok().and_then(|text| text.lines().nth(1)?.parse::<u64>().ok());
            let value = if frame == null.as_bytes() { Some(0) } else { value };
            *lock(&before) = value.ok_or_else(|| format!("no number: {}", show(frame)))?;
            Ok(())
        });
        script.check(Effect::Nothing, remember);
        let wire = self.play(wire, script).await?;

        let mut script = Script::default();
        script.ask(&["MULTI"], "+OK\r\n");
        script.ask(&["INCR", &place.counter()], "+QUEUED\r\n");
        script.request(&["EXEC"]);
        let null = self.model.null("*-1\r\n");
        let next: Check = Box::new(move |frame| {
            let wanted = format!("*1\r\n:{}\r\n", *lock(&seen) + 1);
            let fits = frame == wanted.as_bytes() || frame == null.as_bytes();
            if fits { Ok(()) } else { Err(format!("wanted {wanted:?} or null, got {}", show(frame))) }
        });
        script.check(Effect::Count(place), next);
        self.play(wire, script).await
    }

    /// A pop that blocks until the partner pushes.
    async fn wait_for_a_push(&mut self, wire: Wire) -> Result<Wire, Trouble> {
        let (database, value) = (self.model.database(), self.model.value());
        let token = self.model.token();
        let (list, to) = (self.model.key("wait", 0) + &token.to_string(), self.model.key("moved", 0));
        let mut script = Script::default();
        if self.model.rng.bool() {
            script.ask(&["BLPOP", &list, "0"], [b"*2\r\n", &bulk(list.as_bytes())[..], &bulk(&value)].concat());
        } else {
            script.ask(&["BRPOPLPUSH", &list, &to, "0"], bulk(&value));
            script.ask(&["RPOP", &to], bulk(&value));
        }
        // Also behind the blocked one, in the same write.
        self.model.unit(&mut script);
        script.meanwhile = Some(Meanwhile::Push { database, list, value });
        self.play(wire, script).await
    }

    /// A subscriber hears what the partner publishes.
    async fn listen(&mut self, wire: Wire) -> Result<Wire, Trouble> {
        let channel = self.model.key("news", 0);
        let mut script = Script::default();
        self.model.subscription(&mut script, "subscribe", &channel, 1);
        let mut wire = self.play(wire, script).await?;
        let kind = if self.model.protocol() == 3 { '>' } else { '*' };
        for _ in 0..self.model.rng.u8(1..4) {
            let payload = self.model.value();
            let mut script = Script::default();
            let head = format!("{kind}3\r\n$7\r\nmessage\r\n");
            script.reply([head.as_bytes(), &bulk(channel.as_bytes()), &bulk(&payload)].concat());
            script.meanwhile = Some(Meanwhile::Publish { channel: channel.clone(), payload });
            wire = self.play(wire, script).await?;
        }
        let mut script = Script::default();
        self.model.subscription(&mut script, "unsubscribe", &channel, 0);
        self.model.unit(&mut script);
        self.play(wire, script).await
    }

    /// QUIT or a protocol error: every reply, the last words, the end.
    async fn say_goodbye(&mut self, wire: Wire) -> Result<(), Trouble> {
        let mut script = self.pipeline();
        let (bytes, words) = match self.model.rng.u8(..6) {
            0 => ("*1\r\nfoo\r\n", "-ERR Protocol error: expected '$', got 'f'\r\n"),
            1 => ("*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
            2 => ("*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
            3 => ("SET a \"b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
            _ => ("*1\r\n$4\r\nQUIT\r\n", "+OK\r\n"),
        };
        script.raw(bytes.as_bytes());
        script.reply(words);
        script.end();
        self.play(wire, script).await?;
        self.model.reconnected();
        Ok(())
    }

    async fn die(&mut self, wire: Wire) {
        let script = self.pipeline();
        script.replies.iter().for_each(|(_, effect)| self.ledger.will(*effect));
        self.ledger.add_requests(script.requests);
        let death = *self.model.rng.choice(&[Death::Leaves, Death::Half, Death::Reset]).unwrap_or(&Death::Leaves);
        let end = if matches!(death, Death::Half) { self.model.rng.usize(..script.bytes.len().max(1)) } else { script.bytes.len() };
        let stream = wire.into_stream();
        // As much as the kernel takes at once: a dying client does not wait.
        let _ = stream.try_write(&script.bytes[..end]);
        if matches!(death, Death::Reset) {
            reset_on_close(&stream);
        }
        drop(stream);
        self.model.lost();
    }
}

fn begins(words: &'static str) -> Check {
    Box::new(move |frame| if frame.starts_with(words.as_bytes()) { Ok(()) } else { Err(format!("wanted {words:?}…, got {}", show(frame))) })
}

/// Mostly whole, sometimes cut at random places.
fn cut<'a>(bytes: &'a [u8], rng: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    if bytes.is_empty() || rng.u8(..8) != 0 {
        return vec![bytes];
    }
    let mut cuts: Vec<_> = (0..rng.usize(1..5)).map(|_| rng.usize(..bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// What another client does at the same time, past the proxy, so that it never fails.
async fn partner(past: PathBuf, what: Meanwhile) {
    let mut server = Resp::new(UnixStream::connect(past).await.unwrap());
    match what {
        Meanwhile::Push { database, list, value } => {
            server.command(&["SELECT", &database.to_string()]).await.unwrap();
            server.command(&[b"RPUSH", list.as_bytes(), &value]).await.unwrap();
        }
        Meanwhile::Publish { channel, payload } => {
            server.command(&[b"PUBLISH", channel.as_bytes(), &payload]).await.unwrap();
        }
    }
}
