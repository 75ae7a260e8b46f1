//! A body for a fuzzer: any bytes from either side, cut anywhere, do the same, and end. `[pure]`

use std::rc::Rc;

use bytes::{Buf as _, BytesMut};

use super::wire::header;
use super::{Client, Exchange, Server, Statements, Took, Wants};
use crate::broker::params::Params;

/// What is injected besides what was sent: names, settings, the end of a batch.
const OURS_BYTES: usize = 1024;

/// Longer messages are not kept until they are whole.
const LONG_BYTES: usize = 512 * 1024;

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the server.
    pub up: Vec<u8>,
    /// For the client.
    pub down: Vec<u8>,
    /// Why it ended early.
    pub end: Option<&'static str>,
    /// The server, not the client, broke the protocol.
    pub lost: bool,
    /// At rest, in the end.
    pub rests: bool,
    /// How much is prepared.
    pub prepared: usize,
}

struct Pair {
    client: Client,
    server: Server,
    statements: Statements,
    /// The client has the connection.
    lent: bool,
    input: BytesMut,
    outcome: Outcome,
}

impl Pair {
    fn client_says(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut down = BytesMut::new();
        if !self.lent {
            let idle = self.client.idle_requests(&self.input, &mut down);
            match idle {
                Ok(idle) => {
                    assert!(idle.taken <= self.input.len(), "more than there is");
                    self.input.advance(idle.taken);
                    self.lent = idle.wants == Wants::Connection;
                }
                Err(broken) => self.outcome.end = Some(broken.0),
            }
        }
        if self.lent && self.outcome.end.is_none() {
            let mut exchange = Exchange { client: &mut self.client, server: &mut self.server, statements: &mut self.statements };
            match exchange.requests(&self.input, &mut down) {
                Ok(taken) => {
                    assert!(taken <= self.input.len(), "more than there is");
                    self.input.advance(taken);
                }
                Err(broken) => self.outcome.end = Some(broken.0),
            }
        }
        self.outcome.down.extend_from_slice(&down);
        self.outcome.up.extend_from_slice(&self.server.up.split());
    }

    fn server_says(&mut self, bytes: &[u8]) {
        if !self.lent {
            return;
        }
        let mut down = BytesMut::new();
        let mut exchange = Exchange { client: &mut self.client, server: &mut self.server, statements: &mut self.statements };
        match exchange.answers(bytes, &mut down) {
            Ok(Took::AsItIs) => self.outcome.down.extend_from_slice(bytes),
            Ok(Took::Changed) => self.outcome.down.extend_from_slice(&down),
            Err(lost) => (self.outcome.end, self.outcome.lost) = (Some(lost.0), true),
        }
        let begun = header(&self.server.partial).and_then(Result::ok).map_or(0, |(_, total)| total);
        if self.server.pass.max(begun) > LONG_BYTES {
            // How much of it is there when it begins does matter.
            (self.outcome.end, self.outcome.lost) = (Some("a long message"), true);
        }
        self.outcome.up.extend_from_slice(&self.server.up.split());
    }

    /// Between two of the input's pieces the connection may go back.
    fn rest(&mut self) {
        if self.lent && self.server.is_at_rest() && self.server.traces.is_empty() && !self.client.is_within_message() {
            self.lent = false;
        }
    }
}

/// Plays a conversation: a byte says whose turn it is (the lowest bit: the server's) and how much of what follows it says. `cut` is how much
/// is there at a time; 0: all of it.
#[must_use]
pub fn play(data: &[u8], cut: usize) -> Outcome {
    let (options, mut rest) = data.split_first().unwrap_or((&0, &[]));
    let base = Rc::new(Params::default().reported(b"TimeZone", b"UTC"));
    let zone: &[u8] = if options & 1 == 0 { b"UTC" } else { b"CET" };
    let client = Client::new(1, Rc::new(Params::default().reported(b"TimeZone", zone)), options & 2 == 0);
    let server = Server::new(base, usize::from(options >> 2 & 3));
    let (statements, input) = (Statements::default(), BytesMut::new());
    let mut pair = Pair { client, server, statements, lent: false, input, outcome: Outcome::default() };
    while let Some((turn, behind)) = rest.split_first() {
        let (piece, next) = behind.split_at(usize::from(turn >> 1).min(behind.len()));
        rest = next;
        for some in piece.chunks(if cut == 0 { piece.len().max(1) } else { cut }) {
            if turn & 1 == 0 {
                pair.client_says(some);
            } else {
                pair.server_says(some);
            }
            if pair.outcome.end.is_some() {
                return pair.outcome;
            }
        }
        pair.rest();
    }
    pair.outcome.rests = pair.server.is_at_rest();
    pair.outcome.prepared = pair.server.prepared();
    assert!(!pair.outcome.rests || pair.server.owes_nothing(), "at rest, and something is due");
    pair.server.conclude();
    assert!(!pair.outcome.rests || pair.server.up.is_empty(), "at rest, and something to be concluded");
    pair.outcome
}

/// Any bytes.
///
/// # Panics
/// When a cut changes what comes of them, or more comes of them than can.
pub fn fuzz(data: &[u8]) {
    let whole = play(data, 0);
    // Each message may need its statement prepared first, which was sent once.
    let most = data.len() * (data.len() + OURS_BYTES);
    assert!(whole.up.len() <= most && whole.down.len() <= most, "{} and {} bytes of {}", whole.up.len(), whole.down.len(), data.len());
    for cut in [1, 3, 7] {
        let parts = play(data, cut);
        if whole.lost || parts.lost {
            // What was in one chunk with the message that ends it may or may not have gone on.
            continue;
        }
        assert_eq!(parts, whole, "{cut} bytes at a time, and all at once");
    }
}
