//! Rows have the columns that their client was told, whichever connection they come from: or it hears what it would hear on its own.

use fastrand::Rng;

use super::super::*;
use super::model::{Session, Settings, World};
use super::*;

fn settings() -> Settings {
    Settings { zone: "UTC".into(), memory: "0".into() }
}

/// What is heard: types of messages, and what stands for columns.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    kinds: String,
    /// Of a RowDescription, and of a row.
    columns: Option<String>,
    row: Option<String>,
    /// An error, whole.
    error: Option<String>,
}

pub(super) struct Place {
    pub(super) world: World,
    pub(super) wires: Vec<(Server, Session)>,
    statements: Statements,
}

impl Place {
    pub(super) fn new() -> Self {
        let base = Rc::new(Params::default().reported(b"TimeZone", b"UTC"));
        let wires = (0..2).map(|_| (Server::new(Rc::clone(&base), 100), Session::new(settings(), true))).collect();
        Self { world: World::default(), wires, statements: Statements::default() }
    }

    pub(super) fn client(&self, id: u32) -> Client {
        Client::new(id, Rc::clone(&self.wires[0].0.base), true)
    }

    /// One batch over one connection, to its end.
    fn batch(&mut self, client: &mut Client, wire: usize, parts: &[Vec<u8>]) -> Heard {
        heard(&self.batch_raw(client, wire, parts))
    }

    /// As `batch`: the bytes that are heard.
    pub(super) fn batch_raw(&mut self, client: &mut Client, wire: usize, parts: &[Vec<u8>]) -> BytesMut {
        let mut input = BytesMut::from(&parts.concat()[..]);
        let (server, session) = &mut self.wires[wire];
        let mut down = BytesMut::new();
        for _ in 0..30 {
            let mut exchange = Exchange { client: &mut *client, server: &mut *server, statements: &mut self.statements };
            let taken = exchange.requests(&input, &mut down).unwrap();
            let _ = input.split_to(taken);
            session.take(&exchange.server.up.split(), &mut self.world);
            let out = session.out.split();
            if exchange.answers(&out, &mut down).unwrap() == Took::AsItIs {
                down.extend_from_slice(&out);
            }
            if input.is_empty() && server.is_at_rest() {
                assert!(server.traces.is_empty());
                return down;
            }
        }
        panic!("no end: {} left, heard {}", input.escape_ascii(), down.escape_ascii());
    }
}

/// Type, version and body of each message.
pub(super) fn messages(mut rest: &[u8]) -> Vec<(char, Option<String>, String)> {
    let mut all = Vec::new();
    while let Some(head) = rest.first_chunk::<5>() {
        let total = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let body = rest[5..total].escape_ascii().to_string();
        let version = body.split("star-v").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        all.push((char::from(head[0]), version, body));
        rest = &rest[total..];
    }
    all
}

fn heard(bytes: &[u8]) -> Heard {
    let (mut all, mut rest) = (Heard::default(), bytes);
    while let Some(head) = rest.first_chunk::<5>() {
        let total = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let body = rest[5..total].escape_ascii().to_string();
        let version = || body.split("star-v").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        all.kinds.push(head[0].into());
        match head[0] {
            b'T' => all.columns = version(),
            b'D' => all.row = version(),
            b'E' => all.error = Some(body),
            _ => {}
        }
        rest = &rest[total..];
    }
    all
}

fn run(name: &str) -> [Vec<u8>; 3] {
    [bind(name), execute(), sync()]
}

#[test]
fn who_was_told_other_columns_hears_that_they_have_changed() {
    let mut place = Place::new();
    let (mut old, mut new) = (place.client(1), place.client(2));
    assert_eq!(place.batch(&mut old, 0, &[parse("s", "star"), describe("s"), sync()]).columns.as_deref(), Some("0"));
    place.world.version = 1;
    // Not prepared on this connection before, and prepared there by another client since.
    for round in 0..2 {
        let told = place.batch(&mut old, 1, &run("s"));
        assert_eq!(told.kinds, "EZ", "round {round}: {told:?}");
        let error = told.error.unwrap();
        assert!(error.contains("C0A000") && error.contains("RRevalidateCachedQuery") && !error.contains("_rtp_"), "{error}");
        let name = format!("x{round}");
        let batch = [parse(&name, "star"), describe(&name), bind(&name), execute(), sync()];
        assert_eq!(place.batch(&mut new, 1, &batch).row.as_deref(), Some("1"));
    }
    // What it prepares again is what it counts on from then on, wherever.
    assert_eq!(place.batch(&mut old, 1, &[close("s"), parse("s", "star"), describe("s"), sync()]).columns.as_deref(), Some("1"));
    for wire in [0, 1, 0] {
        let told = place.batch(&mut old, wire, &run("s"));
        assert_eq!((told.kinds.as_str(), told.row.as_deref()), ("2DCZ", Some("1")), "{told:?}");
    }
}

#[test]
fn a_described_portal_counts_too() {
    let mut place = Place::new();
    let mut client = place.client(1);
    let portal = msg(b'D', b"P\0");
    let told = place.batch(&mut client, 0, &[parse("s", "star"), bind("s"), portal, execute(), sync()]);
    assert_eq!((told.columns.as_deref(), told.row.as_deref()), (Some("0"), Some("0")));
    place.world.version = 1;
    assert_eq!(place.batch(&mut client, 1, &run("s")).kinds, "EZ");
    // Another was bound in between.
    let (named, portal) = (msg(b'B', b"p\0s\0\0\0\0\0\0\0"), msg(b'D', b"Pp\0"));
    let other = [close("s"), parse("s", "star"), parse("w", "write"), named, bind("w"), portal, execute(), sync()];
    assert_eq!(place.batch(&mut client, 1, &other).columns.as_deref(), Some("1"));
    place.world.version = 2;
    let mut fresh = place.client(2);
    place.batch(&mut fresh, 0, &[parse("s", "star"), bind("s"), execute(), sync()]);
    assert_eq!(place.batch(&mut client, 0, &run("s")).kinds, "EZ");
}

#[test]
fn nothing_of_the_batch_is_done_when_columns_have_changed_and_nothing_is_asked_twice() {
    let mut place = Place::new();
    let mut client = place.client(1);
    place.batch(&mut client, 0, &[parse("s", "star"), describe("s"), parse("w", "write"), sync()]);
    place.world.version = 1;
    let batch = [bind("w"), execute(), bind("s"), execute(), bind("w"), execute(), sync()];
    assert_eq!(place.batch(&mut client, 1, &batch).kinds, "2CEZ");
    assert!(place.world.log.is_empty(), "{:?}", place.world.log);
    // Where the columns are the same they are asked for once.
    let mut other = place.client(2);
    place.batch(&mut other, 0, &[parse("s", "star"), describe("s"), sync()]);
    for _ in 0..3 {
        assert_eq!(place.batch(&mut other, 1, &run("s")).kinds, "2DCZ");
    }
    let names = place.wires[1].1.names().count();
    assert!(names <= 3, "{names} statements");
}

/// `s` on the first connection, told its columns.
fn told(place: &mut Place, id: u32) -> Client {
    let mut client = place.client(id);
    assert_eq!(place.batch(&mut client, 0, &[parse("s", "star"), describe("s"), sync()]).columns.as_deref(), Some("0"));
    client
}

#[test]
fn what_is_told_of_a_text_by_one_name_is_not_told_by_another() {
    for other in ["", "t"] {
        let mut place = Place::new();
        let mut client = told(&mut place, 1);
        place.world.version = 1;
        for _ in 0..2 {
            let batch = [close(other), parse(other, "star"), describe(other), bind(other), execute(), sync()];
            assert_eq!(place.batch(&mut client, 1, &batch).row.as_deref(), Some("1"));
        }
        assert_eq!(place.batch(&mut client, 1, &run("s")).kinds, "EZ", "{other:?}");
        assert_eq!(place.batch(&mut client, 1, &run(other)).row.as_deref(), Some("1"), "{other:?}");
    }
}

#[test]
fn what_was_told_counts_again_when_the_new_parse_is_skipped() {
    for again in [vec![close("s"), parse("s", "star")], vec![close("s")]] {
        let mut place = Place::new();
        let mut client = told(&mut place, 1);
        let skipped = [vec![parse("x", "syntax")], again, vec![sync()]].concat();
        assert_eq!(place.batch(&mut client, 0, &skipped).kinds, "EZ");
        place.world.version = 1;
        assert_eq!(place.batch(&mut client, 1, &run("s")).kinds, "EZ");
    }
}

#[test]
fn what_is_sent_again_gives_no_rows_of_other_columns() {
    // It has gone without our knowledge.
    let mut place = Place::new();
    let mut client = told(&mut place, 1);
    place.world.version = 1;
    place.wires[0].1.discard();
    let heard = place.batch(&mut client, 0, &run("s"));
    assert_eq!(heard.kinds, "EZ", "{heard:?}");
    // Another statement of the batch is why it is sent again: one of the same text, with another type of parameter.
    let other = msg(b'P', b"o\0star\0\0\x01\0\0\0\x17");
    let mut place = Place::new();
    let (mut client, mut before) = (told(&mut place, 1), place.client(2));
    place.batch(&mut before, 0, &[other.clone(), bind("o"), execute(), sync()]);
    place.world.version = 1;
    let heard = place.batch(&mut client, 0, &[other, bind("o"), execute(), bind("s"), execute(), sync()]);
    assert_eq!(heard.kinds, "12DCEZ", "{heard:?}");
}

#[test]
fn the_unnamed_statement_counts_in_the_batches_behind_its_own() {
    for wire in 0..2 {
        let mut place = Place::new();
        let mut client = place.client(1);
        assert_eq!(place.batch(&mut client, 0, &[parse("", "star"), describe(""), sync()]).columns.as_deref(), Some("0"));
        assert_eq!(place.batch(&mut client, wire, &run("")).kinds, "2DCZ");
        place.world.version = 1;
        assert_eq!(place.batch(&mut client, 1 - wire, &run("")).kinds, "EZ");
    }
}

#[test]
fn a_batch_that_waits_for_columns_can_be_sent_again() {
    let mut place = Place::new();
    let other = msg(b'P', b"o\0star\0\0\x01\0\0\0\x17");
    let (mut client, mut before) = (place.client(1), place.client(2));
    place.batch(&mut before, 1, &[other.clone(), bind("o"), execute(), sync()]);
    place.world.version = 1;
    assert_eq!(place.batch(&mut client, 0, &[parse("s", "star"), describe("s"), sync()]).columns.as_deref(), Some("1"));
    let heard = place.batch(&mut client, 1, &[other, bind("o"), execute(), bind("s"), execute(), sync()]);
    assert_eq!(heard.kinds, "12DC2DCZ", "{heard:?}");
}

#[test]
fn statements_that_were_refused_are_closed() {
    let mut place = Place::new();
    let mut client = place.client(1);
    for version in 0..20 {
        place.world.version = version;
        let batch = [parse("s", "star"), bind("s"), execute(), sync()];
        assert_eq!(place.batch(&mut client, 0, &batch).row, Some(version.to_string()));
        place.batch(&mut client, 0, &[close("s"), sync()]);
    }
    let names = place.wires[0].1.names().count();
    assert!(names <= 2, "{names} statements");
}

#[test]
fn columns_that_make_no_sense_end_the_connection() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), describe("a"), sync()]);
    pair.answer(&[ok1(), msg(b't', &[0, 0]), msg(b'T', &[0, 0]), ready(b'I')]);
    let mut server = Server::new(Rc::clone(&pair.server.base), 100);
    let mut exchange = Exchange { client: &mut pair.client, server: &mut server, statements: &mut pair.statements };
    let mut down = BytesMut::new();
    assert_eq!(exchange.requests(&[bind("a"), execute(), sync()].concat(), &mut down), Ok(0));
    let answers = [ok1(), msg(b't', &[0, 0]), msg(b'T', b"\0\x01half")].concat();
    assert!(exchange.answers(&answers, &mut down).is_err());
}

/// Whatever is prepared, described and run, where and by whom, while the table changes.
#[test]
fn rows_have_the_columns_that_the_client_was_told() {
    let mut all = (0, 0);
    for seed in 0..2_000 {
        let mut rng = Rng::with_seed(seed);
        let mut place = Place::new();
        // The client, what it was told, and whether it has prepared since.
        let mut clients: Vec<(Client, Option<String>, bool)> = (1..=3).map(|id| (place.client(id), None, false)).collect();
        let (mut rows, mut refused) = (0, 0);
        for step in 0..40 {
            let wire = rng.usize(..2);
            let (client, told, has) = rng.choice(&mut clients).unwrap();
            let (mut parts, mut prepares) = (Vec::new(), false);
            match rng.u8(..10) {
                0 => {
                    place.world.version += 1;
                    continue;
                }
                1..3 => {
                    // A Close of what is not there is the server's to answer, and then nothing can be sent again.
                    parts.extend(has.then(|| close("s")));
                    parts.push(parse("s", "star"));
                    prepares = true;
                }
                _ => {}
            }
            if !*has && !prepares {
                continue;
            }
            if prepares {
                (*told, *has) = (None, true);
            }
            if rng.u8(..3) == 0 {
                parts.push(describe("s"));
            }
            parts.push(bind("s"));
            if rng.u8(..3) == 0 {
                parts.push(msg(b'D', b"P\0"));
            }
            parts.extend([execute(), sync()]);
            let heard = place.batch(client, wire, &parts);
            let what = format!("seed {seed}, step {step}: told {told:?}, heard {heard:?}");
            if heard.columns.is_some() {
                told.clone_from(&heard.columns);
            }
            match (&heard.row, &heard.error) {
                (Some(row), None) => {
                    assert!(told.as_ref().is_none_or(|told| told == row), "{what}");
                    rows += 1;
                }
                (None, Some(error)) => {
                    assert!(error.contains("C0A000") && !prepares, "{what}");
                    refused += 1;
                    // As drivers do.
                    let again = place.batch(client, wire, &[close("s"), parse("s", "star"), describe("s"), bind("s"), execute(), sync()]);
                    assert!(again.row.is_some() && again.columns == again.row, "{what}, then {again:?}");
                    *told = again.columns;
                }
                _ => panic!("{what}"),
            }
        }
        all = (all.0 + rows, all.1 + refused);
    }
    assert!(all.0 > 10_000 && all.1 > 100, "{all:?}");
}

/// A client whose Bind of so many bytes waits for columns on the second connection.
fn waiting(place: &mut Place, bytes: usize) -> (Client, Vec<u8>) {
    let mut client = told(place, 1);
    let bind =
        msg(b'B', &[b"\0s\0\0\0\0\x01".as_slice(), &u32::try_from(bytes).unwrap().to_be_bytes(), &vec![b'x'; bytes], &[0, 0]].concat());
    let (server, _) = &mut place.wires[1];
    let mut exchange = Exchange { client: &mut client, server, statements: &mut place.statements };
    let mut down = BytesMut::new();
    // A long one waits when its beginning is there.
    assert_eq!(exchange.requests(&bind[..bind.len().min(40_000)], &mut down), Ok(0));
    assert!(server.owes_much() && server.is_full() && !server.is_at_rest() && down.is_empty());
    (client, bind)
}

#[test]
fn a_long_bind_waits_too_and_a_cancel_ends_the_wait() {
    for bytes in [10, 100_000] {
        let mut place = Place::new();
        let (mut client, bind) = waiting(&mut place, bytes);
        assert_eq!(place.batch(&mut client, 1, &[bind, execute(), sync()]).kinds, "2DCZ");

        let mut place = Place::new();
        let (mut client, bind) = waiting(&mut place, bytes);
        let (server, _) = &mut place.wires[1];
        server.up.clear();
        let mut exchange = Exchange { client: &mut client, server, statements: &mut place.statements };
        let mut down = BytesMut::new();
        assert_eq!(exchange.answers(&[ok1(), error("57014", "")].concat(), &mut down), Ok(Took::Changed));
        assert_eq!(down, error("57014", ""));
        assert!(!server.is_full() && !server.is_at_rest());
        assert_eq!(place.batch(&mut client, 1, &[bind, execute(), sync()]).kinds, "Z");
        assert_eq!(place.batch(&mut client, 1, &run("s")).kinds, "2DCZ");
    }
}

#[test]
fn a_client_that_leaves_while_its_bind_waits_leaves_nothing() {
    let mut place = Place::new();
    let (mut client, _) = waiting(&mut place, 100_000);
    assert!(!client.is_within_message());
    for _ in 0..3 {
        let (server, session) = &mut place.wires[1];
        server.conclude();
        session.take(&server.up.split(), &mut place.world);
        let out = session.out.split();
        let mut exchange = Exchange { client: &mut client, server, statements: &mut place.statements };
        exchange.answers(&out, &mut BytesMut::new()).unwrap();
    }
    assert!(place.wires[1].0.is_at_rest() && place.wires[1].1.is_clean());
    let mut other = place.client(2);
    assert_eq!(place.batch(&mut other, 1, &[parse("s", "star"), bind("s"), execute(), sync()]).kinds, "12DCZ");
}
