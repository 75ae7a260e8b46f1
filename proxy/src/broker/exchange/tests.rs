//! Tables of what is sent and what comes back, without a server: the order of things, and what an error takes back.

mod alike;
mod model;
mod names;
mod returns;
mod script;
mod shapes;
mod told;

use std::rc::Rc;

use bytes::BytesMut;

use super::*;
use crate::postgres::reply::message;

/// A message with this body.
fn msg(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    message(&mut out, kind, |out| out.extend_from_slice(body));
    out.to_vec()
}

fn query(text: &str) -> Vec<u8> {
    msg(b'Q', format!("{text}\0").as_bytes())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    msg(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(name: &str) -> Vec<u8> {
    msg(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn describe(name: &str) -> Vec<u8> {
    msg(b'D', format!("S{name}\0").as_bytes())
}

fn close(name: &str) -> Vec<u8> {
    msg(b'C', format!("S{name}\0").as_bytes())
}

fn execute() -> Vec<u8> {
    msg(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    msg(b'S', b"")
}

fn complete(tag: &str) -> Vec<u8> {
    msg(b'C', format!("{tag}\0").as_bytes())
}

fn ready(status: u8) -> Vec<u8> {
    msg(b'Z', &[status])
}

fn error(code: &str, more: &str) -> Vec<u8> {
    msg(b'E', format!("SERROR\0VERROR\0C{code}\0Mtext\0{more}\0").as_bytes())
}

/// A client with a connection.
struct Pair {
    client: Client,
    server: Server,
    statements: Statements,
}

impl Pair {
    fn new() -> Self {
        let base = Rc::new(Params::default().reported(b"TimeZone", b"UTC").reported(b"client_encoding", b"UTF8"));
        Self { client: Client::new(1, Rc::clone(&base), true), server: Server::new(base, 100), statements: Statements::default() }
    }

    /// Another client on the same connection.
    fn next_client(&mut self) {
        assert!(self.server.is_at_rest(), "not at rest");
        assert!(self.server.traces.is_empty(), "{} left", self.server.traces);
        let id = self.client.id + 1;
        self.client = Client::new(id, Rc::clone(&self.server.base), true);
    }

    /// What of these bytes goes to the server, and what is answered at once.
    fn send(&mut self, parts: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let mut down = BytesMut::new();
        let bytes = parts.concat();
        let mut exchange = Exchange { client: &mut self.client, server: &mut self.server, statements: &mut self.statements };
        assert_eq!(exchange.requests(&bytes, &mut down), Ok(bytes.len()));
        (self.server.up.split().to_vec(), down.to_vec())
    }

    /// What of the server's bytes the client gets.
    fn answer(&mut self, parts: &[Vec<u8>]) -> Vec<u8> {
        let bytes = parts.concat();
        let mut down = BytesMut::new();
        let mut exchange = Exchange { client: &mut self.client, server: &mut self.server, statements: &mut self.statements };
        match exchange.answers(&bytes, &mut down).unwrap() {
            Took::AsItIs => {
                assert!(down.is_empty());
                bytes
            }
            Took::Changed => down.to_vec(),
        }
    }
}

fn ok1() -> Vec<u8> {
    msg(b'1', b"")
}

fn ok2() -> Vec<u8> {
    msg(b'2', b"")
}

fn ok3() -> Vec<u8> {
    msg(b'3', b"")
}

#[test]
fn a_statement_is_parsed_once_and_found_by_the_next_client() {
    let mut pair = Pair::new();
    let (up, down) = pair.send(&[parse("mine", "SELECT 1"), bind("mine"), execute(), sync()]);
    assert_eq!(up, [parse("_rtp_1", "SELECT 1"), bind("_rtp_1"), execute(), sync()].concat());
    assert!(down.is_empty());
    let all = [ok1(), ok2(), complete("SELECT 1"), ready(b'I')];
    assert_eq!(pair.answer(&all), all.concat());
    pair.next_client();
    let (up, down) = pair.send(&[parse("other", "SELECT 1"), bind("other"), execute(), sync()]);
    assert_eq!(up, [bind("_rtp_1"), execute(), sync()].concat());
    assert!(down.is_empty(), "in the server's order");
    assert_eq!(pair.answer(&[ok2(), complete("SELECT 1"), ready(b'I')]), all.concat());
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_statement_that_is_not_there_is_prepared_in_passing() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    // The same client on another connection.
    pair.server = Server::new(Rc::clone(&pair.server.base), 100);
    let (up, _) = pair.send(&[bind("a"), execute(), sync()]);
    assert_eq!(up, [parse("_rtp_1", "SELECT 1"), bind("_rtp_1"), execute(), sync()].concat());
    assert_eq!(
        pair.answer(&[ok1(), ok2(), complete("SELECT 1"), ready(b'I')]),
        [ok2(), complete("SELECT 1"), ready(b'I')].concat(),
        "the client has not asked for it to be parsed"
    );
}

#[test]
fn a_parse_that_fails_or_is_skipped_is_taken_back() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELEC 1"), parse("b", "SELECT 2"), bind("a"), execute(), sync()]);
    assert_eq!(pair.answer(&[error("42601", ""), ready(b'I')]), [error("42601", ""), ready(b'I')].concat());
    assert_eq!(pair.server.prepared(), 0);
    let (up, _) = pair.send(&[bind("b"), sync()]);
    assert_eq!(up, [bind("b"), sync()].concat(), "unknown, as the server will say");
    pair.answer(&[error("26000", ""), ready(b'I')]);
    let (up, _) = pair.send(&[parse("a", "SELECT 1"), sync()]);
    assert_eq!(up, [parse("_rtp_3", "SELECT 1"), sync()].concat(), "the name is free again");
}

#[test]
fn a_name_given_twice_is_refused_by_the_server_in_the_clients_words() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    let (up, _) = pair.send(&[parse("a", "SELECT 2"), sync()]);
    assert_eq!(up, [parse("_rtp_1", "SELECT 2"), sync()].concat());
    let taken = msg(b'E', b"SERROR\0VERROR\0C42P05\0Mprepared statement \"_rtp_1\" already exists\0\0");
    let heard = pair.answer(&[taken, ready(b'I')]);
    assert!(String::from_utf8_lossy(&heard).contains("Mprepared statement \"a\" already exists\0"));
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_1"), sync()].concat(), "the first one is still there");
}

#[test]
fn what_the_server_skips_is_not_answered_here_either() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    pair.send(&[bind("nobody"), parse("b", "SELECT 1"), close("a"), query("SELECT 1"), sync()]);
    assert_eq!(pair.answer(&[error("26000", ""), ready(b'I')]), [error("26000", ""), ready(b'I')].concat());
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_1"), sync()].concat(), "not closed");
    assert_eq!(pair.answer(&[ok2(), ready(b'I')]), [ok2(), ready(b'I')].concat());
    assert!(pair.server.is_at_rest());
}

#[test]
fn an_error_before_its_sync_is_sent_keeps_the_connection() {
    let mut pair = Pair::new();
    pair.send(&[bind("nobody"), msg(b'H', b"")]);
    pair.answer(&[error("26000", "")]);
    assert!(!pair.server.is_at_rest());
    assert_eq!(pair.send(&[parse("x", "SELECT 1"), execute()]), (vec![], vec![]), "the server would skip it");
    let (up, _) = pair.send(&[sync()]);
    assert_eq!(up, sync());
    assert_eq!(pair.answer(&[ready(b'I')]), ready(b'I'));
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_query_that_says_nothing_stands_for_deallocate_in_its_place() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    let (up, _) = pair.send(&[query("BEGIN"), query("DEALLOCATE a"), query("SELECT 1")]);
    assert_eq!(up, [query("BEGIN"), query(""), query("SELECT 1")].concat());
    let heard = pair.answer(&[complete("BEGIN"), ready(b'T'), msg(b'I', b""), ready(b'T'), complete("SELECT 1"), ready(b'T')]);
    let expected = [complete("BEGIN"), ready(b'T'), complete("DEALLOCATE"), ready(b'T'), complete("SELECT 1"), ready(b'T')];
    assert_eq!(heard, expected.concat());
    // In a transaction that has failed it fails too, and the name stays.
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ready(b'T')]);
    pair.send(&[query("SELEC"), query("DEALLOCATE a")]);
    let heard = pair.answer(&[error("42601", ""), ready(b'E'), msg(b'I', b""), ready(b'E')]);
    assert!(String::from_utf8_lossy(&heard).contains("C25P02\0"));
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_1"), sync()].concat());
}

#[test]
fn syncs_within_a_copy_are_not_waited_for() {
    let mut pair = Pair::new();
    pair.send(&[parse("", "COPY t FROM STDIN"), bind(""), execute(), sync()]);
    let began = [ok1(), ok2(), msg(b'G', &[0, 0, 0])];
    assert_eq!(pair.answer(&began), began.concat());
    pair.send(&[msg(b'd', b"1\n"), sync(), msg(b'c', b""), sync()]);
    assert!(!pair.server.is_at_rest());
    assert_eq!(pair.answer(&[complete("COPY 1"), ready(b'I')]), [complete("COPY 1"), ready(b'I')].concat());
    assert!(pair.server.is_at_rest());
    // Late data of a COPY that is over asks for nothing.
    pair.send(&[msg(b'f', b"late\0")]);
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_stale_statement_is_prepared_anew_and_the_client_hears_nothing_of_it() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT * FROM t"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    pair.next_client();
    pair.send(&[parse("b", "SELECT * FROM t"), bind("b"), execute(), sync()]);
    let heard = pair.answer(&[error("0A000", "RRevalidateCachedQuery\0"), ready(b'I')]);
    assert!(heard.is_empty(), "{:?}", String::from_utf8_lossy(&heard));
    let again = [close("_rtp_1"), parse("_rtp_2", "SELECT * FROM t"), bind("_rtp_2"), execute(), sync()];
    assert_eq!(pair.server.up.split().to_vec(), again.concat());
    let all = [msg(b'3', b""), ok1(), ok2(), complete("SELECT 1"), ready(b'I')];
    assert_eq!(pair.answer(&all), all[1..].concat());
    // Within a transaction nothing may be done twice.
    pair.send(&[query("BEGIN")]);
    pair.answer(&[complete("BEGIN"), ready(b'T')]);
    pair.send(&[bind("b"), execute(), sync()]);
    let all = [error("0A000", "RRevalidateCachedQuery\0"), ready(b'E')];
    assert_eq!(pair.answer(&all), all.concat());
}

#[test]
fn settings_go_in_front_and_their_replies_to_nobody() {
    let mut pair = Pair::new();
    pair.send(&[query("SET TimeZone = 'Europe/Berlin'")]);
    let status = msg(b'S', b"TimeZone\0Europe/Berlin\0");
    let all = [status, complete("SET"), ready(b'I')];
    assert_eq!(pair.answer(&all), all.concat());
    assert_eq!(pair.client.params.value(b"timezone"), Some(&b"Europe/Berlin"[..]));
    assert!(pair.server.is_at_rest() && pair.server.traces.is_empty());
    pair.next_client();
    let (up, _) = pair.send(&[query("SELECT 1")]);
    let mut front = BytesMut::new();
    settings::set(&mut front, &[(b"TimeZone"[..].into(), Some(b"UTC"[..].into()))]);
    assert_eq!(up, [front.to_vec(), query("SELECT 1")].concat());
    let heard = pair.answer(&[
        ok1(),
        ok2(),
        msg(b'S', b"TimeZone\0UTC\0"),
        msg(b'D', b"\0\x01\0\0\0\x03UTC"),
        complete("SELECT 1"),
        ready(b'I'),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert_eq!(heard, [complete("SELECT 1"), ready(b'I')].concat());
}

#[test]
fn every_cut_of_the_servers_bytes_gives_the_same() {
    let requests = [parse("a", "SELECT 1"), bind("a"), describe("a"), execute(), close("a"), sync(), query("SET TimeZone = 'x'")];
    let answers = [
        ok1(),
        ok2(),
        msg(b't', &[0, 0]),
        msg(b'T', &[0, 0]),
        msg(b'N', b"SNOTICE\0\0"),
        msg(b'D', b"\0\x01\0\0\0\x011"),
        complete("SELECT 1"),
        ready(b'I'),
        msg(b'S', b"TimeZone\0x\0"),
        complete("SET"),
        ready(b'I'),
    ]
    .concat();
    let mut whole = Pair::new();
    whole.send(&requests);
    let expected = whole.answer(std::slice::from_ref(&answers));
    assert!(expected.windows(5).any(|window| window == ok3()));
    for cut in 0..answers.len() {
        let mut pair = Pair::new();
        pair.send(&requests);
        let mut heard = pair.answer(&[answers[..cut].to_vec()]);
        heard.extend(pair.answer(&[answers[cut..].to_vec()]));
        assert_eq!(heard, expected, "cut at {cut}");
        assert!(pair.server.is_at_rest());
    }
}

#[test]
fn a_batch_that_is_sent_again_stays_in_front_of_the_next() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT * FROM t"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    pair.next_client();
    pair.send(&[parse("b", "SELECT * FROM t"), bind("b"), execute(), sync()]);
    // The server flushes an error by itself: its ReadyForQuery may come later than the client's next batch.
    assert!(pair.answer(&[error("0A000", "RRevalidateCachedQuery\0")]).is_empty());
    let again = [close("_rtp_1"), parse("_rtp_2", "SELECT * FROM t"), bind("_rtp_2"), execute(), sync()].concat();
    assert_eq!(pair.server.up.split().to_vec(), again);
    let (up, _) = pair.send(&[query("SELECT 2")]);
    assert_eq!(up, query("SELECT 2"));
    let all = [ok1(), ok2(), complete("SELECT 1"), ready(b'I'), complete("SELECT 2"), ready(b'I')].concat();
    assert_eq!(pair.answer(&[ready(b'I'), ok3(), all.clone()]), all);
    assert!(pair.server.is_at_rest());
}

#[test]
fn a_name_is_free_when_the_parse_before_it_has_failed() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELEC 1"), sync(), parse("a", "SELECT pg_advisory_lock(2)"), sync()]);
    pair.answer(&[error("42601", ""), ready(b'I'), ok1(), ready(b'I')]);
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_1"), sync()].concat());
    pair.answer(&[ok2(), ready(b'I')]);
    assert!(pair.server.traces.has(Traces::LOCK));
}

#[test]
fn a_name_means_what_was_said_last() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    pair.answer(&[ok1(), ready(b'I')]);
    // The Close is skipped. The server would refuse the second Parse; here it has succeeded, and so it counts.
    pair.send(&[bind("nobody"), close("a"), sync(), parse("a", "SELECT 2"), sync()]);
    pair.answer(&[error("26000", ""), ready(b'I'), ok1(), ready(b'I')]);
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_2"), sync()].concat());
    pair.answer(&[ok2(), ready(b'I')]);
    // And if it fails as well, what was before both.
    pair.send(&[bind("nobody"), close("a"), sync(), parse("a", "SELEC 3"), sync()]);
    pair.answer(&[error("26000", ""), ready(b'I'), error("42601", ""), ready(b'I')]);
    let (up, _) = pair.send(&[bind("a"), sync()]);
    assert_eq!(up, [bind("_rtp_2"), sync()].concat());
}

#[test]
fn what_is_called_by_its_number_may_take_a_lock() {
    let mut pair = Pair::new();
    pair.send(&[msg(b'F', &[0, 0, 11, 64, 0, 0, 0, 0, 0, 0])]);
    pair.answer(&[msg(b'V', &[0xff; 4]), ready(b'I')]);
    assert!(pair.server.is_at_rest() && pair.server.traces.has(Traces::LOCK));
}

#[test]
fn a_reset_within_a_transaction_counts_behind_it() {
    let mut pair = Pair::new();
    pair.send(&[query("SET TimeZone = 'CET'")]);
    pair.answer(&[msg(b'S', b"TimeZone\0CET\0"), complete("SET"), ready(b'I')]);
    pair.send(&[query("BEGIN"), query("RESET TimeZone")]);
    let utc = msg(b'S', b"TimeZone\0UTC\0");
    let heard = pair.answer(&[complete("BEGIN"), ready(b'T'), utc.clone(), complete("RESET"), ready(b'T')]);
    assert_eq!(heard, [complete("BEGIN"), ready(b'T'), complete("RESET"), utc, ready(b'T')].concat());
    pair.send(&[query("COMMIT")]);
    pair.answer(&[complete("COMMIT"), ready(b'I')]);
    let (up, _) = pair.send(&[query("SELECT 1")]);
    assert_eq!(up, query("SELECT 1"), "it has what the client wants");
}

#[test]
fn reset_all_gives_nobody_his_authority_back() {
    let mut pair = Pair::new();
    let base = Rc::new(Params::clone(&pair.server.base).reported(b"session_authorization", b"root"));
    pair.client = Client::new(1, Rc::clone(&base), true);
    pair.server = Server::new(base, 100);
    pair.send(&[query("SET SESSION AUTHORIZATION guest")]);
    pair.answer(&[msg(b'S', b"session_authorization\0guest\0"), complete("SET"), ready(b'I')]);
    pair.send(&[query("RESET ALL")]);
    assert_eq!(pair.answer(&[complete("RESET"), ready(b'I')]), [complete("RESET"), ready(b'I')].concat());
    let (up, _) = pair.send(&[query("SELECT 1")]);
    assert_eq!(up, query("SELECT 1"));
    pair.answer(&[complete("SELECT 1"), ready(b'I')]);
    pair.server.traces = Traces::NONE;
    pair.next_client();
    let (up, _) = pair.send(&[query("SELECT 1")]);
    let mut front = BytesMut::new();
    settings::set(&mut front, &[(b"session_authorization"[..].into(), Some(b"root"[..].into()))]);
    assert_eq!(up, [front.to_vec(), query("SELECT 1")].concat());
}

#[test]
fn a_question_that_is_cancelled_is_asked_again_later() {
    let mut pair = Pair::new();
    pair.send(&[query("SELECT pg_advisory_lock(1)")]);
    pair.answer(&[complete("SELECT 1"), ready(b'I')]);
    let Pair { client, server, statements } = &mut pair;
    assert!(Exchange { client, server, statements }.probe());
    pair.server.up.clear();
    assert!(pair.answer(&[error("57014", ""), ready(b'I')]).is_empty());
    assert!(pair.server.traces.has(Traces::LOCK));
    let Pair { client, server, statements } = &mut pair;
    assert!(!Exchange { client, server, statements }.probe(), "not at once");
    pair.send(&[query("SELECT 1")]);
    pair.answer(&[complete("SELECT 1"), ready(b'I')]);
    let Pair { client, server, statements } = &mut pair;
    assert!(Exchange { client, server, statements }.probe());
}

#[test]
fn few_bytes_that_become_many_wait() {
    let mut pair = Pair::new();
    let texts: Vec<_> = (0..3).map(|number| format!("SELECT {number} /*{}*/", "x".repeat(200_000))).collect();
    pair.server = Server::new(Rc::clone(&pair.server.base), 2);
    for (number, text) in texts.iter().enumerate() {
        pair.send(&[parse(&number.to_string(), text), sync()]);
        pair.answer(&if number == 2 { vec![ok3(), ok1(), ready(b'I')] } else { vec![ok1(), ready(b'I')] });
    }
    let batch = [describe("0"), describe("1"), describe("2")].concat().repeat(10);
    let (mut rest, mut rounds) = (&batch[..], 0);
    while !rest.is_empty() {
        let Pair { client, server, statements } = &mut pair;
        let taken = Exchange { client, server, statements }.requests(rest, &mut BytesMut::new()).unwrap();
        assert!(taken > 0 && pair.server.up.len() < 800_000, "{}", pair.server.up.len());
        pair.server.up.clear();
        (rest, rounds) = (&rest[taken..], rounds + 1);
    }
    assert!(rounds > 1, "{rounds}");
    // Nor do answers pile up behind one that takes its time.
    pair.send(&[parse("s", "SELECT 1"), sync(), query("SELECT pg_sleep(9)")]);
    let flood = sync().repeat(100_000);
    let Pair { client, server, statements } = &mut pair;
    let taken = Exchange { client, server, statements }.requests(&flood, &mut BytesMut::new()).unwrap();
    assert!(taken < flood.len() / 5);
}

#[test]
fn what_sequences_gave_to_another_is_not_seen_however_often_the_connection_was_used_since() {
    let mut pair = Pair::new();
    let ask = |pair: &mut Pair, text: &str| {
        let up = pair.send(&[query(text)]).0;
        pair.answer(&[complete("SELECT 1"), ready(b'I')]);
        up
    };
    ask(&mut pair, "SELECT nextval('s')");
    pair.next_client();
    assert_eq!(ask(&mut pair, "SELECT 1"), query("SELECT 1"));
    ask(&mut pair, "SELECT 2");
    let (up, _) = pair.send(&[query("SELECT lastval()")]);
    assert_eq!(up, [query("DISCARD SEQUENCES"), query("SELECT lastval()")].concat());
}
