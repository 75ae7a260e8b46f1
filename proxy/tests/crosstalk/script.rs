//! Random requests of every class with the replies that must come, from a model of what this client's own keys hold.

use std::collections::HashMap;

use fastrand::Rng;
use lab::resp::encode;

use crate::ledger::{DATABASES, Effect, Place};
use crate::wire::{Check, Expect, show};

/// Own keys of each kind in each database.
const SLOTS: u8 = 6;

/// Requests in one write, and what must come for them.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) bytes: Vec<u8>,
    pub(crate) replies: Vec<(Expect, Effect)>,
    pub(crate) requests: u64,
    /// What another connection does while the replies are awaited.
    pub(crate) meanwhile: Option<Meanwhile>,
}

/// What the partner does, past the proxy.
#[derive(Debug)]
pub(crate) enum Meanwhile {
    Push { database: u8, list: String, value: Vec<u8> },
    Publish { channel: String, payload: Vec<u8> },
}

/// A client's state as the server must have it.
pub(crate) struct Model {
    pub(crate) rng: Rng,
    id: u16,
    /// New key names after every loss, because nobody knows what became of the last requests.
    epoch: u32,
    token: u32,
    database: u8,
    protocol: u8,
    name: Option<String>,
    strings: HashMap<(u8, u8), Vec<u8>>,
    counters: HashMap<(u8, u8), i64>,
    script: String,
}

impl Script {
    pub(crate) fn request<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        self.raw(&encode(arguments));
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.requests += 1;
    }

    pub(crate) fn reply(&mut self, bytes: impl Into<Vec<u8>>) {
        self.replies.push((Expect::Bytes(bytes.into()), Effect::Nothing));
    }

    pub(crate) fn check(&mut self, effect: Effect, check: Check) {
        self.replies.push((Expect::Frame(check), effect));
    }

    /// One request and its exact reply.
    pub(crate) fn ask<A: AsRef<[u8]>>(&mut self, arguments: &[A], reply: impl Into<Vec<u8>>) {
        self.request(arguments);
        self.reply(reply);
    }

    pub(crate) fn end(&mut self) {
        self.replies.push((Expect::End, Effect::Nothing));
    }
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn starts_with(words: &'static str) -> Check {
    Box::new(move |frame| if frame.starts_with(words.as_bytes()) { Ok(()) } else { Err(format!("wanted {words}…, got {}", show(frame))) })
}

fn has(start: &'static str, words: String) -> Check {
    Box::new(move |frame| {
        let is_there = frame.starts_with(start.as_bytes()) && frame.windows(words.len()).any(|window| window == words.as_bytes());
        if is_there { Ok(()) } else { Err(format!("wanted {start}…{words}…, got {}", show(frame))) }
    })
}

impl Model {
    pub(crate) fn new(id: u16, seed: u64, script: String) -> Self {
        let rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(id)));
        let (strings, counters) = Default::default();
        Self { rng, id, epoch: 0, token: 0, database: 0, protocol: 2, name: None, strings, counters, script }
    }

    /// The connection is new; the keys are as they were.
    pub(crate) fn reconnected(&mut self) {
        (self.database, self.protocol, self.name) = (0, 2, None);
    }

    /// Nobody knows what became of the last requests.
    pub(crate) fn lost(&mut self) {
        self.reconnected();
        self.epoch += 1;
        self.strings.clear();
        self.counters.clear();
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.token += 1;
        (u64::from(self.id) << 32) | u64::from(self.token)
    }

    /// Bytes that exist once, with a length that is mostly small, and made to confuse who frames by looking for line ends.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let length = match self.rng.u32(..4000) {
            0 => self.rng.usize(..=1024 * 1024),
            1..=40 => self.rng.usize(..20_000),
            41..=400 => self.rng.usize(..1_000),
            _ => self.rng.usize(..40),
        };
        let mut value = format!("v{}.", self.token()).into_bytes();
        let filler = b"\r\n-ERR no\r\n$5\r\n*3\r\n\0\xff:1\r\n+OK\r\n";
        value.extend(filler.iter().cycle().take(length));
        value
    }

    pub(crate) fn key(&mut self, kind: &str, slot: u8) -> String {
        format!("{kind}:{}:{}:{slot}", self.id, self.epoch)
    }

    pub(crate) fn slot(&mut self) -> u8 {
        self.rng.u8(..SLOTS)
    }

    pub(crate) fn database(&self) -> u8 {
        self.database
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.protocol
    }

    /// No bulk string, no array, nothing.
    pub(crate) fn null(&self, resp2: &'static str) -> &'static str {
        if self.protocol == 3 { "_\r\n" } else { resp2 }
    }

    fn stored(&self, database: u8, slot: u8) -> Vec<u8> {
        match self.strings.get(&(database, slot)) {
            Some(value) => bulk(value),
            None => self.null("$-1\r\n").into(),
        }
    }

    /// One request or a few that belong together, for anywhere in a pipeline.
    pub(crate) fn unit(&mut self, s: &mut Script) {
        match self.rng.u32(..100) {
            0..14 => self.set(s),
            14..28 => self.get(s),
            28..32 => self.many(s),
            32..36 => self.number(s),
            36..46 => self.echo(s),
            46..51 => self.inline(s),
            51..55 => self.count(s),
            55..59 => self.push(s),
            59..66 => self.transaction(s),
            66..69 => self.watch(s),
            69..74 => self.evaluate(s),
            74..77 => self.pop(s),
            77..83 => self.select(s),
            83..85 => self.hello(s),
            85..87 => self.reset(s),
            87..91 => self.naming(s),
            91..95 => self.mistake(s),
            95..97 => self.subscribe(s),
            97 => s.ask(&["PUBLISH", &format!("nobody:{}", self.id), "x"], ":0\r\n"),
            98 => s.ask(&["WAIT", "0", "0"], ":0\r\n"),
            _ => self.hash(s),
        }
    }

    fn set(&mut self, s: &mut Script) {
        let (slot, value) = (self.slot(), self.value());
        let key = self.key("s", slot);
        match self.rng.u8(..4) {
            0 if self.strings.contains_key(&(self.database, slot)) => {
                let old = self.stored(self.database, slot);
                s.ask(&[b"SET", key.as_bytes(), &value, b"GET"], old);
            }
            _ => s.ask(&[b"SET", key.as_bytes(), &value], "+OK\r\n"),
        }
        self.strings.insert((self.database, slot), value);
    }

    fn get(&mut self, s: &mut Script) {
        let slot = self.slot();
        let key = self.key("s", slot);
        let stored = self.stored(self.database, slot);
        match self.rng.u8(..8) {
            0 => {
                s.ask(&["GETDEL", &key], stored);
                self.strings.remove(&(self.database, slot));
            }
            1 => {
                let length = self.strings.get(&(self.database, slot)).map_or(0, Vec::len);
                s.ask(&["strlen", &key], format!(":{length}\r\n"));
            }
            2 => {
                let known = self.strings.remove(&(self.database, slot)).is_some();
                s.ask(&["DEL", &key], format!(":{}\r\n", u8::from(known)));
            }
            _ => s.ask(&["GET", &key], stored),
        }
    }

    fn many(&mut self, s: &mut Script) {
        let keys: Vec<_> = (0..SLOTS).map(|slot| self.key("s", slot)).collect();
        let mut reply = format!("*{SLOTS}\r\n").into_bytes();
        (0..SLOTS).for_each(|slot| reply.extend(self.stored(self.database, slot)));
        let mut request = vec!["MGET"];
        request.extend(keys.iter().map(String::as_str));
        s.ask(&request, reply);
    }

    fn number(&mut self, s: &mut Script) {
        let slot = self.slot();
        let key = self.key("n", slot);
        let by = self.rng.i64(-1000..1000);
        let now = self.counters.entry((self.database, slot)).or_default();
        *now += by;
        s.ask(&["INCRBY", &key, &by.to_string()], format!(":{now}\r\n"));
    }

    fn echo(&mut self, s: &mut Script) {
        let value = self.value();
        match self.rng.u8(..6) {
            0 => s.ask(&["PING"], "+PONG\r\n"),
            1 => s.ask(&[b"ping", &value[..]], bulk(&value)),
            _ => s.ask(&[b"ECHO", &value[..]], bulk(&value)),
        }
    }

    fn inline(&mut self, s: &mut Script) {
        let (token, slot) = (self.token().to_string(), self.slot());
        let key = self.key("s", slot);
        match self.rng.u8(..6) {
            0 => s.raw(b"\r\n"),
            1 => s.raw(b"*0\r\n"),
            2 => {
                s.raw(format!("SET {key} \"{token} \\x0d\\n'\"\n").as_bytes());
                s.reply("+OK\r\n");
                self.strings.insert((self.database, slot), format!("{token} \r\n'").into_bytes());
            }
            3 => {
                s.raw(format!("GET {key}\r\n").as_bytes());
                s.reply(self.stored(self.database, slot));
            }
            _ => {
                s.raw(format!("  echo   {token} \r\n").as_bytes());
                s.reply(bulk(token.as_bytes()));
            }
        }
    }

    fn count(&mut self, s: &mut Script) {
        let place = Place::any(self.database, &mut self.rng);
        s.request(&["INCR", &place.counter()]);
        s.check(Effect::Count(place), starts_with(":"));
    }

    fn push(&mut self, s: &mut Script) {
        let place = Place::any(self.database, &mut self.rng);
        let token = self.token();
        s.request(&["LPUSH", &place.list(), &token.to_string()]);
        s.check(Effect::Push(place, token), starts_with(":"));
    }

    fn transaction(&mut self, s: &mut Script) {
        s.ask(&["MULTI"], "+OK\r\n");
        let (slot, value) = (self.slot(), self.value());
        let key = self.key("s", slot);
        match self.rng.u8(..8) {
            0 => {
                s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n");
                s.ask(&["DISCARD"], "+OK\r\n");
            }
            1 => {
                s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n");
                s.ask(&["GET"], "-ERR wrong number of arguments for 'get' command\r\n");
                s.ask(&["EXEC"], "-EXECABORT Transaction discarded because of previous errors.\r\n");
            }
            2 => {
                let place = Place::any(self.database, &mut self.rng);
                s.ask(&["MULTI"], "-ERR MULTI calls can not be nested\r\n");
                s.ask(&["INCR", &place.counter()], "+QUEUED\r\n");
                s.request(&["EXEC"]);
                s.check(Effect::Count(place), starts_with("*1\r\n:"));
            }
            3 => {
                let place = Place::any(self.database, &mut self.rng);
                let token = self.token();
                s.ask(&["LPUSH", &place.list(), &token.to_string()], "+QUEUED\r\n");
                s.request(&["EXEC"]);
                s.check(Effect::Push(place, token), starts_with("*1\r\n:"));
            }
            4 => {
                let other = self.rng.u8(..DATABASES);
                s.ask(&["SELECT", &other.to_string()], "+QUEUED\r\n");
                s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n");
                s.ask(&["EXEC"], "*2\r\n+OK\r\n+OK\r\n");
                self.database = other;
                self.strings.insert((other, slot), value);
            }
            5 => s.ask(&["EXEC"], "*0\r\n"),
            _ => {
                s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n");
                s.ask(&["GET", &key], "+QUEUED\r\n");
                s.ask(&["EXEC"], [b"*2\r\n+OK\r\n", &bulk(&value)[..]].concat());
                self.strings.insert((self.database, slot), value);
            }
        }
    }

    fn watch(&mut self, s: &mut Script) {
        let (slot, value) = (self.slot(), self.value());
        let key = self.key("s", slot);
        s.ask(&["WATCH", &key], "+OK\r\n");
        match self.rng.u8(..4) {
            0 => {
                // A change of one's own is a change too.
                s.ask(&[b"SET", key.as_bytes(), &value], "+OK\r\n");
                s.ask(&["MULTI"], "+OK\r\n");
                s.ask(&["DEL", &key], "+QUEUED\r\n");
                s.ask(&["EXEC"], self.null("*-1\r\n"));
                self.strings.insert((self.database, slot), value);
            }
            1 => s.ask(&["UNWATCH"], "+OK\r\n"),
            _ => {
                s.ask(&["GET", &key], self.stored(self.database, slot));
                s.ask(&["MULTI"], "+OK\r\n");
                s.ask(&[b"SET", key.as_bytes(), &value], "+QUEUED\r\n");
                s.ask(&["EXEC"], "*1\r\n+OK\r\n");
                self.strings.insert((self.database, slot), value);
            }
        }
    }

    fn evaluate(&mut self, s: &mut Script) {
        let (slot, value) = (self.slot(), self.value());
        let key = self.key("s", slot);
        match self.rng.u8(..4) {
            0 => s.ask(&[&b"EVAL"[..], b"return ARGV[1]", b"0", &value], bulk(&value)),
            1 => s.ask(&["EVALSHA", &"f".repeat(40), "0"], "-NOSCRIPT No matching script. Please use EVAL.\r\n"),
            2 => {
                s.ask(&[b"EVALSHA", self.script.as_bytes(), b"1", key.as_bytes(), &value], bulk(&value));
                self.strings.insert((self.database, slot), value);
            }
            _ => s.ask(&["EVAL", "redis.call('SELECT', 7) return redis.call('DBSIZE')", "0"], ":0\r\n"),
        }
    }

    /// Blocking commands that need not block, or not for long.
    fn pop(&mut self, s: &mut Script) {
        let value = self.value();
        let (from, to) = (self.key("from", 0), self.key("to", 0));
        match self.rng.u8(..5) {
            0 => s.ask(&["BLPOP", &from, "0.002"], self.null("*-1\r\n")),
            1 => {
                s.ask(&[b"RPUSH", from.as_bytes(), &value], ":1\r\n");
                s.ask(&["BRPOPLPUSH", &from, &to, "0"], bulk(&value));
                s.ask(&["LPOP", &to], bulk(&value));
            }
            _ => {
                s.ask(&[b"RPUSH", from.as_bytes(), &value], ":1\r\n");
                s.ask(&["BLPOP", &to, &from, "0"], [b"*2\r\n", &bulk(from.as_bytes())[..], &bulk(&value)].concat());
            }
        }
    }

    fn select(&mut self, s: &mut Script) {
        if self.rng.u8(..8) == 0 {
            s.ask(&["SELECT", "99"], "-ERR DB index is out of range\r\n");
            return;
        }
        self.database = self.rng.u8(..DATABASES);
        s.ask(&["SELECT", &self.database.to_string()], "+OK\r\n");
    }

    fn hello(&mut self, s: &mut Script) {
        if self.rng.u8(..8) == 0 {
            s.ask(&["HELLO", "9"], "-NOPROTO unsupported protocol version\r\n");
            return;
        }
        self.protocol = self.rng.u8(2..=3);
        s.request(&["HELLO", &self.protocol.to_string()]);
        s.check(Effect::Nothing, has(if self.protocol == 3 { "%" } else { "*" }, format!("$5\r\nproto\r\n:{}\r\n", self.protocol)));
    }

    fn reset(&mut self, s: &mut Script) {
        s.ask(&["RESET"], "+RESET\r\n");
        self.reconnected();
    }

    fn naming(&mut self, s: &mut Script) {
        if self.rng.bool() {
            let name = format!("client-{}", self.token());
            s.ask(&["CLIENT", "SETNAME", &name], "+OK\r\n");
            self.name = Some(name);
        }
        let name = self.name.as_ref().map_or_else(|| self.null("$-1\r\n").into(), |name| bulk(name.as_bytes()));
        s.ask(&["client", "GetName"], name);
    }

    fn mistake(&mut self, s: &mut Script) {
        let (token, slot) = (self.token().to_string(), self.slot());
        match self.rng.u8(..6) {
            0 => s.ask(&["GET"], "-ERR wrong number of arguments for 'get' command\r\n"),
            1 => s.ask(&["EXEC"], "-ERR EXEC without MULTI\r\n"),
            2 => s.ask(&["DISCARD"], "-ERR DISCARD without MULTI\r\n"),
            3 => {
                let key = self.key("n", slot);
                let now = *self.counters.entry((self.database, slot)).or_default();
                s.ask(&["INCRBY", &key, "0"], format!(":{now}\r\n"));
                s.ask(&["LPUSH", &key, &token], "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
            }
            _ => {
                s.request(&["NOSUCH", &token, "\r\n"]);
                s.check(Effect::Nothing, has("-ERR unknown command 'NOSUCH'", format!("'{token}'")));
            }
        }
    }

    fn subscribe(&mut self, s: &mut Script) {
        let channel = self.key("channel", 1);
        self.subscription(s, "subscribe", &channel, 1);
        match self.protocol {
            3 => s.ask(&["PING"], "+PONG\r\n"),
            _ => {
                s.ask(&["PING"], "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
                s.request(&["GET", &channel]);
                s.check(
                    Effect::Nothing,
                    starts_with("-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"),
                );
            }
        }
        if self.rng.u8(..4) == 0 {
            self.reset(s);
        } else {
            self.subscription(s, "unsubscribe", &channel, 0);
        }
    }

    pub(crate) fn subscription(&mut self, s: &mut Script, verb: &str, channel: &str, count: u8) {
        let kind = if self.protocol == 3 { '>' } else { '*' };
        let (verb_bulk, channel_bulk) = (bulk(verb.as_bytes()), bulk(channel.as_bytes()));
        s.ask(
            &[verb, channel],
            [format!("{kind}3\r\n").as_bytes(), &verb_bulk, &channel_bulk, format!(":{count}\r\n").as_bytes()].concat(),
        );
    }

    fn hash(&mut self, s: &mut Script) {
        let (key, value) = (self.key("h", 0), self.value());
        s.request(&[b"HSET", key.as_bytes(), b"f", &value]);
        s.check(Effect::Nothing, starts_with(":"));
        let header = if self.protocol == 3 { "%1\r\n" } else { "*2\r\n" };
        s.ask(&["HGETALL", &key], [header.as_bytes(), b"$1\r\nf\r\n", &bulk(&value)].concat());
    }
}
