//! Each client hears over shared connections what it would hear on one of its own, whatever the order of things and wherever streams are cut.
//!
//! `LAB_FUZZ_SECONDS=1800` for longer than a moment; a failure prints the seed for `LAB_FUZZ_SEED`.

use std::env;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use fastrand::Rng;

use super::super::*;
use super::model::{Session, Settings, World};
use super::script::{Script, hear};
use crate::broker::params::Params;

/// One client over shared connections.
struct Guest {
    half: Client,
    script: Script,
    /// The next step, and how much of it is sent.
    at: usize,
    sent: usize,
    input: BytesMut,
    /// What the proxy has taken, in all.
    taken: Vec<u8>,
    heard: Vec<u8>,
    wants: bool,
    lease: Option<usize>,
    leaves: Leaves,
    /// It had a connection when it left: what it has set is not known from without.
    pinned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaves {
    No,
    /// Its connection is brought to rest.
    Going,
    Gone,
}

/// One connection, with what is on the way in both directions.
struct Wire {
    server: Server,
    session: Session,
    up: BytesMut,
    down: BytesMut,
    lent: bool,
}

/// A worker: clients, connections, and what they share.
struct Worker {
    guests: Vec<Guest>,
    wires: Vec<Wire>,
    statements: Statements,
    world: World,
    rng: Rng,
    trace: Vec<String>,
    quitters: bool,
}

fn params(settings: &Settings, base: &Settings) -> Rc<Params> {
    let mut params = Params::default().reported(b"TimeZone", settings.zone.as_bytes());
    if settings.memory != base.memory {
        params.ask(b"work_mem", Some(settings.memory.as_bytes()));
    }
    Rc::new(params)
}

fn base() -> Settings {
    Settings { zone: "UTC".into(), memory: "0".into() }
}

/// Part of a stream, at least a byte of it.
fn part(rng: &mut Rng, from: &mut BytesMut) -> BytesMut {
    let some = if rng.u8(..3) == 0 { rng.usize(1..=from.len()) } else { from.len() };
    from.split_to(some)
}

impl Worker {
    fn random(seed: u64, most: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let clients = rng.usize(1..=4);
        let wires = rng.usize(1..=2);
        let guests = (0..clients)
            .map(|id| {
                let script = Script::random(&mut rng, id, &base(), most);
                let half = Client::new(u32::try_from(id + 1).unwrap(), params(&script.defaults, &base()), true);
                let (input, taken, heard) = (BytesMut::new(), Vec::new(), Vec::new());
                Guest { half, script, at: 0, sent: 0, input, taken, heard, wants: false, lease: None, leaves: Leaves::No, pinned: false }
            })
            .collect();
        let late = rng.bool();
        let wires = (0..wires)
            .map(|_| {
                let server = Server::new(params(&base(), &base()), rng.usize(1..=3));
                Wire { server, session: Session::new(base(), late), up: BytesMut::new(), down: BytesMut::new(), lent: false }
            })
            .collect();
        let quitters = rng.u8(..3) == 0;
        Self { guests, wires, statements: Statements::default(), world: World::default(), rng, trace: Vec::new(), quitters }
    }

    fn run(&mut self) {
        for _ in 0..20_000 {
            if !self.act() {
                self.check_end();
                return;
            }
        }
        panic!("no end");
    }

    /// One thing that can happen, whichever. False: nothing can.
    fn act(&mut self) -> bool {
        let mut can: Vec<(u8, usize)> = Vec::new();
        for (id, guest) in self.guests.iter().enumerate() {
            match guest.leaves {
                Leaves::Gone | Leaves::Going => continue,
                Leaves::No => {}
            }
            if guest.wants {
                if self.wires.iter().any(|wire| !wire.lent) {
                    can.push((0, id));
                }
            } else if let Some(step) = guest.script.steps.get(guest.at) {
                if guest.sent > 0 || hear(&guest.heard, &guest.script.defaults).len() >= step.wait {
                    can.push((1, id));
                }
            } else if hear(&guest.heard, &guest.script.defaults).len() == guest.script.heard.len() {
                can.push((2, id));
            }
            if self.quitters && self.rng.u8(..100) == 0 {
                can.push((2, id));
            }
        }
        for (id, wire) in self.wires.iter().enumerate() {
            if !wire.server.up.is_empty() {
                can.push((3, id));
            }
            if !wire.up.is_empty() {
                can.push((4, id));
            }
            if !wire.down.is_empty() {
                can.push((5, id));
            }
        }
        let Some(&(what, id)) = self.rng.choice(&can) else { return false };
        match what {
            0 => self.lend(id),
            1 => self.client_sends(id),
            2 => self.leaves(id),
            3 => {
                let wire = &mut self.wires[id];
                let some = part(&mut self.rng, &mut wire.server.up);
                wire.up.extend_from_slice(&some);
            }
            4 => {
                let wire = &mut self.wires[id];
                let some = part(&mut self.rng, &mut wire.up);
                self.trace.push(format!("wire {id} <- {}", some.escape_ascii()));
                wire.session.take(&some, &mut self.world);
                let out = wire.session.out.split();
                self.trace.push(format!("wire {id} -> {}", out.escape_ascii()));
                wire.down.extend_from_slice(&out);
            }
            _ => self.server_answers(id),
        }
        for id in 0..self.guests.len() {
            if self.guests[id].leaves == Leaves::Going {
                self.settle(id);
            }
        }
        let idle = self.guests.iter().all(|guest| guest.lease.is_none());
        if idle && self.rng.u8(..10) == 0 {
            self.world.version += 1;
        }
        true
    }

    fn lend(&mut self, id: usize) {
        let free: Vec<usize> = (0..self.wires.len()).filter(|wire| !self.wires[*wire].lent).collect();
        let wire = *self.rng.choice(&free).unwrap();
        self.wires[wire].lent = true;
        self.trace.push(format!("client {id} has wire {wire}"));
        let guest = &mut self.guests[id];
        guest.wants = false;
        guest.lease = Some(wire);
        self.take(id);
    }

    fn client_sends(&mut self, id: usize) {
        let guest = &mut self.guests[id];
        let step = &guest.script.steps[guest.at];
        let mut rest = BytesMut::from(&step.bytes[guest.sent..]);
        let some = if step.whole { rest.split() } else { part(&mut self.rng, &mut rest) };
        guest.sent += some.len();
        if rest.is_empty() {
            (guest.at, guest.sent) = (guest.at + 1, 0);
        }
        self.trace.push(format!("client {id} sends {}", some.escape_ascii()));
        guest.input.extend_from_slice(&some);
        self.take(id);
    }

    /// As `Visit::take` does.
    fn take(&mut self, id: usize) {
        let guest = &mut self.guests[id];
        let mut down = BytesMut::new();
        if guest.lease.is_none() {
            let idle = guest.half.idle_requests(&guest.input, &mut down).unwrap();
            guest.taken.extend_from_slice(&guest.input[..idle.taken]);
            guest.input.advance(idle.taken);
            guest.wants = idle.wants == Wants::Connection;
            assert_ne!(idle.wants, Wants::End);
        }
        if let Some(wire) = guest.lease {
            let server = &mut self.wires[wire].server;
            let mut exchange = Exchange { client: &mut guest.half, server, statements: &mut self.statements };
            let taken = exchange.requests(&guest.input, &mut down).unwrap();
            guest.taken.extend_from_slice(&guest.input[..taken]);
            guest.input.advance(taken);
        }
        if !down.is_empty() {
            self.trace.push(format!("client {id} hears at once {}", down.escape_ascii()));
        }
        guest.heard.extend_from_slice(&down);
        guest.check();
    }

    fn server_answers(&mut self, id: usize) {
        let wire = &mut self.wires[id];
        let some = part(&mut self.rng, &mut wire.down);
        let who = self.guests.iter().position(|guest| guest.lease == Some(id));
        let who = who.unwrap_or_else(|| panic!("connection {id} speaks to nobody: {}", some.escape_ascii()));
        let guest = &mut self.guests[who];
        let mut down = BytesMut::new();
        let mut exchange = Exchange { client: &mut guest.half, server: &mut wire.server, statements: &mut self.statements };
        let took = exchange.answers(&some, &mut down).unwrap();
        let heard = if took == Took::AsItIs { &some } else { &down };
        assert!(took == Took::Changed || down.is_empty());
        self.trace.push(format!("client {who} hears {}", heard.escape_ascii()));
        if guest.leaves == Leaves::Going {
            return;
        }
        guest.heard.extend_from_slice(heard);
        guest.check();
        self.rest(who);
        if !self.guests[who].input.is_empty() && !self.guests[who].wants {
            // It may have waited for the answer.
            self.take(who);
        }
    }

    /// As `Visit::rest` does.
    fn rest(&mut self, id: usize) {
        let guest = &mut self.guests[id];
        let Some(wire) = guest.lease else { return };
        let server = &mut self.wires[wire].server;
        if !server.is_at_rest() {
            return;
        }
        if server.traces.is_empty() {
            self.give_back(id);
        } else {
            Exchange { client: &mut guest.half, server, statements: &mut self.statements }.probe();
        }
    }

    fn give_back(&mut self, id: usize) {
        let wire = self.guests[id].lease.take().unwrap();
        self.trace.push(format!("client {id} gives wire {wire} back"));
        let Wire { server, session, up, down, lent } = &mut self.wires[wire];
        *lent = false;
        // Late data of a COPY may still be on its way up: nothing comes of it.
        session.take(&up.split(), &mut self.world);
        assert!(down.is_empty() && session.out.is_empty(), "something is on its way");
        assert!(session.is_clean(), "the session is not at rest");
        assert_eq!(session.locks, 0, "a lock is left");
        assert_eq!(server.params.value(b"TimeZone").unwrap(), session.settings.zone.as_bytes(), "zone");
        assert_eq!(server.params.value(b"work_mem").unwrap_or(b"0"), session.settings.memory.as_bytes(), "memory");
        let names: Vec<&str> = session.names().collect();
        // More may be left there of batches that failed, under names that are not used again.
        assert!(server.prepared.len() <= names.len(), "{names:?}, known {}", server.prepared.len());
        assert!(names.iter().all(|name| name.starts_with("_rtp_")), "{names:?}");
        assert!(server.unnamed.is_none() || session.has(""), "no unnamed statement");
    }

    /// As `settle` does.
    fn leaves(&mut self, id: usize) {
        let guest = &mut self.guests[id];
        self.trace.push(format!("client {id} leaves"));
        guest.leaves = Leaves::Gone;
        if let Some(wire) = guest.lease {
            (guest.leaves, guest.pinned) = (Leaves::Going, true);
            self.wires[wire].server.conclude();
        }
    }

    fn settle(&mut self, id: usize) {
        let guest = &mut self.guests[id];
        let wire = guest.lease.unwrap();
        let Wire { server, session, .. } = &mut self.wires[wire];
        if server.is_at_rest() {
            guest.leaves = Leaves::Gone;
            if !server.traces.is_empty() {
                session.discard();
                server.discarded();
            }
            self.give_back(id);
            return;
        }
        server.conclude();
        if server.owes_nothing() {
            server.roll_back();
        }
    }

    fn check_end(&self) {
        for (id, guest) in self.guests.iter().enumerate() {
            assert!(guest.leaves == Leaves::Gone, "client {id} is stuck");
            // What a server of its own would have done with what it has sent.
            let (mut direct, mut world) = (Session::new(guest.script.defaults.clone(), true), World::default());
            direct.take(&guest.taken, &mut world);
            let mine = |entry: &&String| entry.contains(&format!("c{id}-")) || entry.starts_with("copied COPY");
            let log: Vec<&String> = self.world.log.iter().filter(mine).filter(|entry| !entry.starts_with("copied COPY")).collect();
            let expected: Vec<&String> = world.log.iter().filter(|entry| !entry.starts_with("copied COPY")).collect();
            assert_eq!(log, expected, "what client {id} has committed");
            if guest.at == guest.script.steps.len() && !self.quitters {
                let expected: Vec<&String> = guest.script.log.iter().filter(|entry| !entry.starts_with("copied COPY")).collect();
                assert_eq!(log, expected);
                if !guest.pinned {
                    let settings = &guest.script.settings;
                    assert_eq!(guest.half.params.value(b"TimeZone").unwrap(), settings.zone.as_bytes(), "zone of client {id}");
                    assert_eq!(guest.half.params.value(b"work_mem").unwrap_or(b"0"), settings.memory.as_bytes(), "memory of client {id}");
                }
                assert_eq!(hear(&guest.heard, &guest.script.defaults).len(), guest.script.heard.len(), "client {id} misses an answer");
            }
        }
    }
}

impl Guest {
    fn check(&self) {
        let heard = hear(&self.heard, &self.script.defaults);
        for (at, one) in heard.iter().enumerate() {
            assert_eq!(Some(one), self.script.heard.get(at), "answer {at}: over a shared connection, and on its own");
        }
    }
}

/// Says how it came to that.
struct Witness(u64, Option<Worker>);

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(worker) = self.1.as_ref().filter(|_| std::thread::panicking()) {
            println!("{}\nLAB_FUZZ_SEED={}", worker.trace.join("\n"), self.0);
        }
    }
}

#[test]
fn clients_hear_what_they_would_hear_alone() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let most = number("LAB_STEPS").map_or(12, |most| usize::try_from(most).unwrap());
    if let Some(seed) = number("LAB_FUZZ_SEED") {
        return run(seed, most);
    }
    let limit = Duration::from_secs(number("LAB_FUZZ_SECONDS").unwrap_or(2));
    let begin = tokio::time::Instant::now();
    let mut runs = 0;
    while begin.elapsed() < limit {
        run(fastrand::u64(..), most);
        runs += 1;
    }
    println!("{runs} runs");
}

fn run(seed: u64, most: usize) {
    let mut witness = Witness(seed, Some(Worker::random(seed, most)));
    witness.1.as_mut().unwrap().run();
}

/// What is sent to end a batch meets a COPY that has begun meanwhile: its ReadyForQuery is not to be taken for a later one.
#[test]
fn a_copy_that_begins_behind_a_client_that_has_gone_is_ended_once() {
    for early in [false, true] {
        let (mut session, mut world) = (Session::new(base(), true), World::default());
        let mut half = Client::new(1, params(&base(), &base()), true);
        let (mut server, mut statements) = (Server::new(params(&base(), &base()), 2), Statements::default());
        let mut parts = vec![super::parse("", "COPY t FROM STDIN"), super::bind(""), super::execute()];
        if early {
            parts.push(super::sync());
        }
        let mut down = BytesMut::new();
        let mut exchange = Exchange { client: &mut half, server: &mut server, statements: &mut statements };
        exchange.requests(&parts.concat(), &mut down).unwrap();
        server.conclude();
        let mut sent = server.up.split();
        for _ in 0..100 {
            // The server is slower than we are: it takes a message at a time.
            let total = 1 + sent.get(1..5).map_or(0, |length| u32::from_be_bytes(length.try_into().unwrap()) as usize);
            let one = sent.split_to(total.min(sent.len()));
            session.take(&one, &mut world);
            let heard = session.out.split();
            Exchange { client: &mut half, server: &mut server, statements: &mut statements }.answers(&heard, &mut down).unwrap();
            if server.is_at_rest() {
                break;
            }
            server.conclude();
            sent.extend_from_slice(&server.up.split());
        }
        assert!(server.is_at_rest(), "early {early}");
        session.take(&sent, &mut world);
        assert!(session.out.is_empty() && session.is_clean(), "early {early}: something more comes: {}", session.out.escape_ascii());
        assert!(world.log.is_empty());
    }
}
