//! `[pure]` What passes between a client and the server, message by message: names rewritten, replies expected, state followed.
//!
//! ```text
//!   client's bytes ──► requests ──► server.up          names of prepared statements are the connection's own
//!                         │ expects
//!                         ▼
//!                      replies (FIFO: pass on, keep to ourselves, say in the server's place)
//!                         ▲ answers
//!   down to client ◄── answers ◄── server's bytes      settings, transaction status, what is prepared
//! ```
//!
//! Five bytes of header are looked at; bodies pass through, but for names, small state and texts of SQL. What was noted when a message was sent
//! is taken back when the server skips it (after an error, up to the next Sync).
//!
//! A connection may be given back when [`Server::is_at_rest`] and no [`Traces`] are left: the one rule, in one place.

mod answers;
mod errors;
pub mod fuzz;
mod idle;
mod leaving;
mod naming;
mod plain;
mod prepared;
mod replies;
mod requests;
mod settings;
mod shapes;
mod statements;
mod wire;

use std::rc::Rc;

use bytes::BytesMut;

pub use answers::Took;
pub use idle::{Idle, Wants};
pub use plain::Plain;
pub(super) use settings::set as set_config;
pub use statements::Statements;

use self::prepared::Prepared;
use self::replies::{Done, Expect, Follow, Replies, Shown};
use self::requests::Passing;
use self::statements::Names;
use super::params::Params;
use crate::postgres::traces::Traces;

/// Type byte and length.
const HEADER_BYTES: usize = 5;

/// No client has this number.
const SEVERAL: u32 = u32::MAX;

/// With so many answers due, nothing more is read from the client.
const MAX_OWED: usize = 16 * 1024;
/// With so many bytes waiting for the server, nothing more is read from the client.
const MAX_UP: usize = 64 * 1024;
/// With so many, what has been read waits too.
const MAX_FULL: usize = 512 * 1024;

/// The client broke the protocol: what it is told before it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// The server broke the protocol: the connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost(pub &'static str);

/// The client's half: stays with the client when connections change.
pub struct Client {
    /// Whose connection it was last: never zero.
    id: u32,
    /// It has asked for what its session got from sequences.
    counts_on_sequences: bool,
    /// `transaction`: its statements go by the connection's names.
    rewrites: bool,
    names: Names,
    /// What its settings are after RESET ALL.
    pub defaults: Rc<Params>,
    /// What its settings are.
    pub params: Rc<Params>,
    /// What settings make of a text, and which settings those were.
    meaning: Option<(Rc<Params>, u128)>,
    /// The rest of a message that is not kept until it is whole.
    passing: Passing,
    /// Up to the next Sync its messages are thrown away: it has been told why.
    skipping: bool,
    /// Names that it had given and that were taken back since the last rest: errors of later batches may still be about them.
    lost: Vec<(u64, Box<[u8]>)>,
    /// The portals that run a command which has to be followed, as long as they may be there.
    bound: Vec<(Box<[u8]>, Follow)>,
}

/// The server's half: what is known of the session on one upstream connection. Stays with the connection when clients change.
pub struct Server {
    /// The settings of a new connection.
    pub base: Rc<Params>,
    /// The settings that the connection has.
    pub params: Rc<Params>,
    /// What its client may have left on it.
    pub traces: Traces,
    /// Bytes for the server that its socket has not taken yet.
    pub up: BytesMut,
    /// Some of them were noted behind the last command that takes traces away.
    noted: bool,
    /// It is worth asking what of `traces` is still there.
    doubtful: bool,
    /// The question has failed: it is worth asking after the next request.
    ask_again: bool,
    /// Who alone has used it since sequences were last discarded; 0: nobody, [`SEVERAL`]: more than one client.
    sole_client: u32,
    /// The last ReadyForQuery's: `I`, `T` or `E`.
    status: u8,
    replies: Replies,
    prepared: Prepared,
    /// The statement that the connection's unnamed one is, and the batch in which it was sent.
    unnamed: Option<(u64, u64)>,
    /// The portals that were bound last, and what of.
    portals: Vec<(Box<[u8]>, Shown)>,
    /// Names of statements that nobody will use: to be closed.
    orphans: Vec<u32>,
    /// The server has said its last word.
    ended: bool,
    /// What is due returns to defaults that are not the client's: nothing is sent behind it before they are put right.
    returns: bool,
    /// Nothing is sent behind settings before they are right.
    is_careful: bool,
    /// Extended messages have been sent since the last Sync: an implicit transaction may be open.
    unsynced: bool,
    /// The server skips everything up to a Sync that has not been sent.
    skipping: bool,
    /// The server takes COPY data, and its end has not been sent.
    copying: bool,
    /// An ErrorResponse came since the last ReadyForQuery.
    failed: bool,
    /// Commands that have succeeded since the last ReadyForQuery.
    done: Vec<Done>,
    /// Something was rolled back since then.
    rolled_back: bool,
    /// A message that has to be whole to be understood, so far.
    partial: BytesMut,
    /// So many bytes of a message from the server pass unread.
    pass: usize,
    /// They are for the client.
    pass_on: bool,
    /// The client's messages since the last rest, as long as they can be sent once more.
    unit: Vec<u8>,
    unit_state: Unit,
    /// A reply has reached the client since the last rest.
    answered: bool,
    /// What has ended since somebody last asked.
    rounds: Rounds,
    /// The unit is to be sent once more.
    replay: bool,
}

/// Whether what the client has sent since the last rest can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Its Sync is still to come.
    Open,
    /// One batch and its Sync, nothing behind it.
    Whole,
    /// No.
    Spoilt,
}

/// What has ended, by ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Queries, or batches up to a Sync.
    pub queries: u32,
    /// Those of them that left no transaction open.
    pub transactions: u32,
}

/// Both halves, for as long as a connection is lent.
pub struct Exchange<'a> {
    /// The client's.
    pub client: &'a mut Client,
    /// The server's.
    pub server: &'a mut Server,
    /// What texts are to all clients of the worker.
    pub statements: &'a mut Statements,
}

impl Client {
    /// Of a client that has logged in, with these settings. `id` is nobody else's, and not 0. `rewrites`: in `transaction`.
    #[must_use]
    pub fn new(id: u32, defaults: Rc<Params>, rewrites: bool) -> Self {
        Self {
            id,
            counts_on_sequences: false,
            rewrites,
            names: Names::default(),
            params: Rc::clone(&defaults),
            defaults,
            meaning: None,
            passing: Passing::default(),
            skipping: false,
            lost: Vec::new(),
            bound: Vec::new(),
        }
    }

    /// Half of a message has been sent on.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.passing.is_within()
    }
}

impl Server {
    /// Of a new connection; `limit` statements may be prepared on it at one time.
    #[must_use]
    pub fn new(base: Rc<Params>, limit: usize) -> Self {
        Self {
            params: Rc::clone(&base),
            base,
            traces: Traces::NONE,
            up: BytesMut::new(),
            noted: false,
            doubtful: false,
            ask_again: false,
            sole_client: 0,
            status: b'I',
            replies: Replies::default(),
            prepared: Prepared::new(limit),
            unnamed: None,
            portals: Vec::new(),
            orphans: Vec::new(),
            ended: false,
            returns: false,
            is_careful: false,
            unsynced: false,
            skipping: false,
            copying: false,
            failed: false,
            done: Vec::new(),
            rolled_back: false,
            partial: BytesMut::new(),
            pass: 0,
            pass_on: false,
            unit: Vec::new(),
            unit_state: Unit::Spoilt,
            answered: false,
            rounds: Rounds::default(),
            replay: false,
        }
    }

    /// Nothing is owed in either direction and no transaction is open: the one state in which a connection may change hands (if nothing is
    /// left on it) or be cleaned. Whether the client has sent half a message, and whether a cancel request is on its way, others know.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.up.is_empty() && !self.ended && self.rests()
    }

    /// The server has ended the connection, and that is nothing to the client: nothing is owed to it, and nothing of it is there.
    #[must_use]
    pub fn has_ended_at_rest(&self) -> bool {
        self.ended && self.rests() && self.traces.is_empty()
    }

    /// All that the client has asked for is done; a question of ours may be under way.
    fn rests_for_client(&self) -> bool {
        let is_ours = |expect: &Expect| matches!(expect, Expect::Probe | Expect::Settings);
        self.status == b'I' && self.replies.iter().all(is_ours) && !self.unsynced && !self.skipping && !self.copying
    }

    fn rests(&self) -> bool {
        self.status == b'I'
            && self.replies.is_empty()
            && self.partial.is_empty()
            && self.pass == 0
            && !self.unsynced
            && !self.skipping
            && !self.copying
    }

    /// This client uses it.
    fn used_by(&mut self, client: u32) {
        self.sole_client = if [0, client].contains(&self.sole_client) { client } else { SEVERAL };
    }

    /// Nothing is owed to the client; a transaction may be open.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.replies.is_empty() && self.partial.is_empty() && self.pass == 0
    }

    /// So much is owed to the client that no more should be asked for.
    #[must_use]
    pub fn owes_much(&self) -> bool {
        self.replies.len() >= MAX_OWED || self.up.len() >= MAX_UP || self.has_to_settle()
    }

    /// No message more is taken from the client: a few bytes of its can become a long statement that is prepared once more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.replies.len() >= MAX_OWED || self.up.len() >= MAX_FULL || self.has_to_settle()
    }

    /// What is sent now could run under settings that are not the client's, or give rows that are not what it was told.
    fn has_to_settle(&self) -> bool {
        let returns = || self.returns && !self.copying && matches!(self.replies.last(), Some(Expect::Query(_) | Expect::Sync));
        returns() || self.is_careful && self.awaits_settings() || self.awaits_columns()
    }

    /// The settings for the client are still being put right: nothing of its own runs yet.
    #[must_use]
    pub fn awaits_settings(&self) -> bool {
        matches!(self.replies.first(), Some(Expect::Settings))
    }

    /// A Bind waits to hear what columns its statement has here.
    fn awaits_columns(&self) -> bool {
        matches!(self.replies.last(), Some(Expect::Columns(_)))
    }

    /// In a transaction, or a failed one.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// What has ended since this was last asked.
    pub fn take_rounds(&mut self) -> Rounds {
        std::mem::take(&mut self.rounds)
    }

    /// How many statements are prepared on the connection.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.prepared.len() + self.orphans.len()
    }

    /// Something has been parsed without a name, past the exchange.
    pub fn unnamed_is_gone(&mut self) {
        self.unnamed = None;
    }

    /// The server has done DISCARD ALL: no statements, no traces, the settings of a new connection.
    pub fn discarded(&mut self) {
        self.noted = false;
        self.reset();
        self.unnamed = None;
        self.orphans.clear();
        drop(self.prepared.clear());
    }

    /// A command has taken these away. Not if the client has sent more since: that may have left them again.
    fn forget(&mut self, traces: Traces) {
        if self.replies.is_empty() && !self.noted {
            self.traces = self.traces.without(traces);
            self.doubtful &= !self.traces.is_empty();
        }
    }

    /// The settings of a new connection, and no traces but of what was sent since.
    fn reset(&mut self) {
        self.params = Rc::clone(&self.base);
        self.forget(self.traces);
        self.ask_again = false;
    }
}

#[cfg(test)]
mod tests;
