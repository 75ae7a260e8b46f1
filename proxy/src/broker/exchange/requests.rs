//! From the client: what goes on as it is, what under another name, what is answered here.

use std::rc::Rc;

use bytes::BytesMut;

use super::replies::{Expect, Follow, Note, Undo};
use super::statements::Statement;
use super::{Broken, Client, Exchange, HEADER_BYTES, Unit};
use crate::postgres::reply::{self, Status};
use crate::postgres::sql::{self, Command, Verdict};
use crate::postgres::traces::Traces;

/// How all names begin that we give to statements on connections.
pub(super) const OUR_NAME: &[u8] = b"_rtp_";
/// Queries and statements up to this size are kept until they are whole, to be looked at. Longer ones pass, and pin the client.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Other messages up to this size are kept until they are whole, so that a client that leaves within one leaves nothing on the connection.
const MAX_WHOLE_BYTES: usize = 32 * 1024;
/// A batch up to this size can be sent once more.
const MAX_UNIT_BYTES: usize = 16 * 1024;

/// The rest of a message that was not kept until it was whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    left: usize,
    forward: bool,
}

impl Passing {
    pub(super) fn is_within(self) -> bool {
        self.left > 0 && self.forward
    }
}

/// What a client without a connection wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing yet: what it has sent is answered, or not whole.
    Nothing,
    /// A connection for what it has sent.
    Connection,
    /// To leave.
    End,
}

/// What became of the bytes of a client without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// So many are done with.
    pub taken: usize,
    /// What for the others.
    pub wants: Wants,
}

/// Type and total length of the message at the front, once its header is there.
pub(super) fn header(bytes: &[u8]) -> Option<Result<(u8, usize), Broken>> {
    let ([kind, length @ ..], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes(*length);
    let total = usize::try_from(length).ok().and_then(|length| length.checked_add(1));
    Some(match total {
        Some(total) if (4..=0x7fff_ffff).contains(&length) => Ok((*kind, total)),
        _ => Err(Broken("invalid message length")),
    })
}

/// The string at the front, and what follows its NUL.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn body(message: &[u8]) -> &[u8] {
    message.get(HEADER_BYTES..).unwrap_or_default()
}

/// Kept until it is whole up to this size.
fn whole_limit(kind: u8) -> usize {
    if matches!(kind, b'Q' | b'P') { MAX_TEXT_BYTES } else { MAX_WHOLE_BYTES }
}

impl Client {
    /// Looks at what a client without a connection has sent: answers what needs none (into `down`), up to the first that does.
    ///
    /// # Errors
    /// The client broke the protocol.
    pub fn idle_requests(&mut self, input: &[u8], down: &mut BytesMut) -> Result<Idle, Broken> {
        let mut rest = input;
        let wants = loop {
            if self.passing.left > 0 {
                let (gone, left) = rest.split_at(self.passing.left.min(rest.len()));
                self.passing.left -= gone.len();
                rest = left;
                if self.passing.left > 0 {
                    break Wants::Nothing;
                }
            }
            let Some(found) = header(rest) else { break Wants::Nothing };
            let (kind, total) = found?;
            let message = rest.get(..total);
            match kind {
                b'X' => break Wants::End,
                b'S' if message.is_some() => {
                    self.skipping = false;
                    reply::ready_for_query(down, Status::Idle);
                }
                b'H' | b'd' | b'c' | b'f' | b'P' | b'B' | b'D' | b'E' | b'C'
                    if self.skipping || matches!(kind, b'H' | b'd' | b'c' | b'f') =>
                {
                    // Nobody listens: late data of a COPY that has failed, or the rest of a batch that has.
                }
                b'C' if message.is_some_and(|message| self.close_here(message)) => reply::close_complete(down),
                b'Q' if message.is_some_and(|message| self.query_here(message, down)) => {}
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if message.is_some() || total > whole_limit(kind) => {
                    break Wants::Connection;
                }
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'S' => break Wants::Nothing,
                _ => return Err(Broken("invalid frontend message type")),
            }
            match rest.get(total..) {
                Some(behind) => rest = behind,
                None => {
                    self.passing = Passing { left: total - rest.len(), forward: false };
                    rest = &[];
                }
            }
        };
        Ok(Idle { taken: input.len() - rest.len(), wants })
    }

    /// There is no connection for what the client has sent: it hears `error` (a whole ErrorResponse), and the request at the front of `input`
    /// is thrown away, up to its end or its Sync. Returns how many bytes are.
    pub fn refuse(&mut self, input: &[u8], error: &[u8], down: &mut BytesMut) -> usize {
        down.extend_from_slice(error);
        let Some(Ok((kind, total))) = header(input) else { return 0 };
        if !matches!(kind, b'Q' | b'F') {
            self.skipping = true;
            return 0;
        }
        reply::ready_for_query(down, Status::Idle);
        let gone = total.min(input.len());
        self.passing = Passing { left: total - gone, forward: false };
        gone
    }

    /// Close of a statement: the connection that has it need not hear of it.
    fn close_here(&mut self, message: &[u8]) -> bool {
        match body(message).split_first() {
            Some((b'S', name)) if self.rewrites => {
                if let Some((name, [])) = string(name) {
                    self.names.put(name, None);
                    return true;
                }
                false
            }
            _ => false,
        }
    }

    /// A Query about the client's own names alone.
    fn query_here(&mut self, message: &[u8], down: &mut BytesMut) -> bool {
        // All of them begin with D; whatever begins otherwise need not be looked at twice.
        if !self.rewrites || !matches!(body(message).first(), Some(b'D' | b'd' | b' ' | b'\n' | b'/' | b'-')) {
            return false;
        }
        let Some((text, [])) = string(body(message)) else { return false };
        let tag = match sql::scan(text).command {
            Some(Command::Deallocate(name)) if self.names.find(&name).is_some() && !name.is_empty() => {
                self.names.put(&name, None);
                "DEALLOCATE"
            }
            Some(Command::DeallocateAll) => {
                self.names = super::Names::default();
                "DEALLOCATE ALL"
            }
            Some(Command::DiscardAll) => {
                self.names = super::Names::default();
                self.return_to_defaults(down);
                "DISCARD ALL"
            }
            _ => return false,
        };
        self.names.put(b"", None);
        reply::command_complete(down, tag);
        reply::ready_for_query(down, Status::Idle);
        true
    }

    /// Its settings are its defaults again; it is told of those that change.
    pub(super) fn return_to_defaults(&mut self, down: &mut BytesMut) {
        for (name, value) in self.defaults.all_reported() {
            if self.params.value(name) != Some(value) {
                reply::parameter_status(down, name, value);
            }
        }
        self.params = Rc::clone(&self.defaults);
    }
}

impl Exchange<'_> {
    /// Takes what it can of the client's bytes: to the server (`server.up`), or answered into `down`. Returns how many are done with; the rest
    /// is the beginning of a message, or begins with Terminate. What the connection lacks of the client's settings goes in front.
    ///
    /// # Errors
    /// The client broke the protocol; the message that did is not sent.
    pub fn requests(&mut self, input: &[u8], down: &mut BytesMut) -> Result<usize, Broken> {
        let mut rest = input;
        while !rest.is_empty() {
            let Passing { left, forward } = self.client.passing;
            if left > 0 {
                let (body, behind) = rest.split_at(left.min(rest.len()));
                if forward {
                    self.server.up.extend_from_slice(body);
                }
                self.client.passing.left -= body.len();
                rest = behind;
                continue;
            }
            let Some(found) = header(rest) else { break };
            let (kind, total) = found?;
            if kind == b'X' {
                break;
            }
            match rest.split_at_checked(total) {
                Some((message, behind)) => {
                    self.begin_unit();
                    self.whole(kind, message, down)?;
                    self.note_unit(kind, message);
                    rest = behind;
                }
                None if total > whole_limit(kind) => {
                    self.begin_unit();
                    self.server.last_client = self.client.id;
                    let Some(taken) = self.begin(kind, total, rest)? else { break };
                    self.server.unit_state = Unit::Spoilt;
                    rest = rest.get(taken..).unwrap_or_default();
                }
                None => break,
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Sends the client's last batch once more: it failed for a reason that is gone, and the client has heard nothing of it.
    pub(super) fn again(&mut self, down: &mut BytesMut) {
        let unit = std::mem::take(&mut self.server.unit);
        // Whole messages that were well formed the first time.
        let again = self.requests(&unit, down);
        debug_assert_eq!(again, Ok(unit.len()), "a batch that was taken once");
        self.server.unit = unit;
        self.server.unit_state = Unit::Spoilt;
    }

    /// Before the first message of a rested connection.
    fn begin_unit(&mut self) {
        if !self.server.rests() {
            return;
        }
        self.server.unit.clear();
        self.server.unit_state = if self.client.rewrites { Unit::Open } else { Unit::Spoilt };
        self.server.answered = false;
        self.put_settings_right();
        self.guard_sequences(Traces::NONE);
    }

    fn note_unit(&mut self, kind: u8, message: &[u8]) {
        let server = &mut *self.server;
        server.last_client = self.client.id;
        let fits = server.unit.len() + message.len() <= MAX_UNIT_BYTES && matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'S');
        server.unit_state = match server.unit_state {
            Unit::Open if fits => {
                server.unit.extend_from_slice(message);
                if kind == b'S' { Unit::Whole } else { Unit::Open }
            }
            _ => Unit::Spoilt,
        };
    }

    /// One whole message.
    fn whole(&mut self, kind: u8, message: &[u8], down: &mut BytesMut) -> Result<(), Broken> {
        if self.server.skipping && !matches!(kind, b'S' | b'd' | b'c' | b'f') {
            // The server would skip it too.
            return known(kind);
        }
        match kind {
            b'Q' => self.query(message)?,
            b'P' => self.parse(message, down)?,
            b'B' => self.bind(message)?,
            b'D' => self.describe(message)?,
            b'E' => self.execute(message)?,
            b'C' => self.close(message, down)?,
            b'S' => self.sync(message),
            b'F' => self.send(message, Expect::Function),
            b'H' => {
                self.say_what_is_ours(down);
                self.pass_on(message);
            }
            b'd' => self.pass_on(message),
            b'c' | b'f' => self.copy_end(message),
            _ => return Err(Broken("invalid frontend message type")),
        }
        Ok(())
    }

    /// The beginning of a message that is too long to be kept. Returns how much of it is done with; `None` when more is needed.
    fn begin(&mut self, kind: u8, total: usize, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let mut taken = bytes.len();
        if self.server.skipping && !matches!(kind, b'd' | b'c' | b'f') {
            known(kind)?;
            self.client.passing = Passing { left: total - taken, forward: false };
            return Ok(Some(taken));
        }
        match kind {
            b'Q' => {
                self.leaves(Traces::UNSEEN, true);
                self.before_query();
                self.send(bytes, Expect::Query(None));
            }
            b'F' => self.send(bytes, Expect::Function),
            b'd' => self.pass_on(bytes),
            b'f' => self.copy_end(bytes),
            b'P' if !self.client.rewrites => {
                self.server.unsynced = true;
                self.send(bytes, Expect::Parse { theirs: true, undo: Undo::Nothing });
            }
            b'B' if !self.client.rewrites => {
                self.server.unsynced = true;
                self.send(bytes, Expect::Bind(None, Undo::Nothing));
            }
            b'P' => {
                let Some((name, behind)) = string(body(bytes)) else { return too_long(bytes) };
                taken = bytes.len() - behind.len();
                self.parse_unseen(total, name, taken);
            }
            b'B' => {
                let names = string(body(bytes)).and_then(|(portal, rest)| string(rest).map(|(name, rest)| (portal, name, rest)));
                let Some((portal, name, behind)) = names else { return too_long(bytes) };
                taken = bytes.len() - behind.len();
                self.bind_to(portal, name, total - taken, &[]);
            }
            b'D' | b'E' | b'C' | b'S' | b'H' | b'c' => return Err(Broken("invalid message length")),
            _ => return Err(Broken("invalid frontend message type")),
        }
        self.client.passing = Passing { left: total - taken, forward: true };
        Ok(Some(taken))
    }

    fn send(&mut self, message: &[u8], expect: Expect) {
        self.pass_on(message);
        self.server.replies.push(expect);
    }

    fn pass_on(&mut self, message: &[u8]) {
        self.server.up.extend_from_slice(message);
    }

    fn query(&mut self, message: &[u8]) -> Result<(), Broken> {
        let (text, _) = string(body(message)).ok_or(Broken("invalid string in message"))?;
        let verdict = sql::scan(text);
        self.guard_sequences(verdict.leaves);
        self.before_query();
        let note = verdict.command.as_ref().and_then(|command| self.command(command));
        if note.as_ref().is_some_and(|note| note.stand_in.is_some()) {
            // About names only, which the server does not know: a Query that does nothing takes its place, and its fate.
            self.send(&[b'Q', 0, 0, 0, 5, 0], Expect::Query(note.map(Box::new)));
            return Ok(());
        }
        if matches!(verdict.command, Some(Command::DiscardAll | Command::ResetAll)) {
            self.server.noted = false;
        }
        self.leaves_by(&verdict);
        self.send(message, Expect::Query(note.map(Box::new)));
        Ok(())
    }

    /// A Query ends the implicit transaction of the messages before it, and the unnamed statement.
    fn before_query(&mut self) {
        self.server.unsynced = false;
        self.server.unnamed = None;
        self.client.names.put(b"", None);
    }

    /// What a command in a text of its own needs besides being run.
    pub(super) fn command(&mut self, command: &Command) -> Option<Note> {
        match command {
            Command::Deallocate(_) | Command::DeallocateAll if !self.client.rewrites => None,
            Command::Deallocate(name) if !name.is_empty() && self.client.names.find(name).is_some() => {
                let was = self.client.names.put(name, None);
                Some(Note { stand_in: Some("DEALLOCATE"), undo: Undo::Name(name.clone(), was), ..Note::default() })
            }
            Command::Deallocate(_) => None,
            Command::DeallocateAll if !self.server.traces.has(Traces::PREPARE) => {
                let names = std::mem::take(&mut self.client.names);
                Some(Note { stand_in: Some("DEALLOCATE ALL"), undo: Undo::Names(Box::new(names)), ..Note::default() })
            }
            Command::DeallocateAll => Some(Note { undo: self.forget_statements(), ..Note::default() }),
            Command::DiscardAll => Some(Note { follow: Some(Follow::DiscardAll), undo: self.forget_statements(), ..Note::default() }),
            Command::Set { name, value } => {
                let follow = match value {
                    Some(value) => Follow::Set(name.clone(), value.clone()),
                    None => Follow::Default(name.clone()),
                };
                Some(Note { follow: Some(follow), ..Note::default() })
            }
            Command::ResetAll => Some(Note { follow: Some(Follow::ResetAll), ..Note::default() }),
        }
    }

    /// The server drops all statements that have a name.
    fn forget_statements(&mut self) -> Undo {
        self.server.unnamed = None;
        let names = std::mem::take(&mut self.client.names);
        self.client.names.put(b"", names.find(b"").cloned());
        Undo::All(Box::new((names, self.server.prepared.clear())))
    }

    fn leaves_by(&mut self, verdict: &Verdict) {
        self.leaves(verdict.leaves, verdict.ends);
    }

    pub(super) fn leaves(&mut self, traces: Traces, ends: bool) {
        if self.client.rewrites {
            self.server.traces |= traces;
            self.server.noted |= !traces.is_empty();
            self.server.doubtful |= ends || !traces.is_empty();
        }
    }

    fn parse(&mut self, message: &[u8], down: &mut BytesMut) -> Result<(), Broken> {
        if !self.client.rewrites {
            self.server.unsynced = true;
            self.send(message, Expect::Parse { theirs: true, undo: Undo::Nothing });
            return Ok(());
        }
        let (name, behind) = string(body(message)).ok_or(Broken("invalid string in message"))?;
        let statement = self.statements.find(behind, &self.client.params);
        self.guard_sequences(statement.verdict.leaves);
        self.server.unsynced = true;
        if !name.is_empty()
            && let Some(old) = self.client.names.find(name).cloned()
        {
            // The server's own refusal (42P05), in the transaction's midst: the statement is there under our name for it.
            let place = self.place(&old);
            self.push_parse(place, behind);
            self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::Duplicate(name.into()) });
            return Ok(());
        }
        let was = self.client.names.put(name, Some(Rc::clone(&statement)));
        if self.server.prepared.find(statement.number).is_some() {
            // At once where nothing is due before it, unless it would have to be taken back: see `answers::stale`.
            self.server.replies.push(Expect::Parsed(Undo::Name(name.into(), was)));
            if self.server.unit_state != Unit::Open {
                self.say_what_is_ours(down);
            }
            return Ok(());
        }
        if name.is_empty() && statement.seen.replace(1) == 0 {
            // Seen for the first time, and perhaps the last: not worth a name.
            self.server.unnamed = Some(statement.number);
            self.send(message, Expect::Parse { theirs: true, undo: Undo::Name(name.into(), was) });
            return Ok(());
        }
        let place = self.new_place(statement.number);
        self.push_parse(place, behind);
        self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::NameAndPlace(name.into(), was, statement.number) });
        Ok(())
    }

    /// A statement too long to be looked at: nobody else's, and the client keeps its connection.
    fn parse_unseen(&mut self, total: usize, name: &[u8], taken: usize) {
        self.server.unsynced = true;
        self.leaves(Traces::UNSEEN, true);
        let statement = self.statements.unseen(Verdict { leaves: Traces::UNSEEN, ..Verdict::default() });
        let number = statement.number;
        let was = self.client.names.put(name, Some(statement));
        let place = self.new_place(number);
        let rest = total - taken;
        message_with_rest(&mut self.server.up, b'P', rest, |up| our_name(up, place));
        self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::NameAndPlace(name.into(), was, number) });
    }

    /// Where on the connection a statement is, prepared now if it is not.
    pub(super) fn place(&mut self, statement: &Statement) -> u32 {
        if let Some(place) = self.server.prepared.find(statement.number) {
            return place;
        }
        let place = self.new_place(statement.number);
        self.push_parse(place, &statement.body);
        self.server.replies.push(Expect::Parse { theirs: false, undo: Undo::Place(statement.number) });
        place
    }

    /// A new name on the connection; an old one may have to go for it.
    pub(super) fn new_place(&mut self, number: u64) -> u32 {
        let (place, evicted) = self.server.prepared.add(number);
        if let Some((number, slot)) = evicted {
            message_with_rest(&mut self.server.up, b'C', 0, |up| {
                up.extend_from_slice(b"S");
                our_name(up, slot.name);
            });
            self.server.replies.push(Expect::Close { theirs: false, undo: Undo::Evicted(number, slot) });
        }
        place
    }

    pub(super) fn push_parse(&mut self, place: u32, body: &[u8]) {
        message_with_rest(&mut self.server.up, b'P', 0, |up| {
            our_name(up, place);
            up.extend_from_slice(body);
        });
    }

    fn bind(&mut self, message: &[u8]) -> Result<(), Broken> {
        if !self.client.rewrites {
            self.server.unsynced = true;
            self.send(message, Expect::Bind(None, Undo::Nothing));
            return Ok(());
        }
        let (portal, rest) = string(body(message)).ok_or(Broken("invalid string in message"))?;
        let (name, rest) = string(rest).ok_or(Broken("invalid string in message"))?;
        self.bind_to(portal, name, 0, rest);
        Ok(())
    }

    /// Bind with `rest` behind the names, and `to_come` bytes more.
    fn bind_to(&mut self, portal: &[u8], name: &[u8], to_come: usize, rest: &[u8]) {
        self.server.unsynced = true;
        // Another takes its place.
        drop(self.client.bound.take_if(|(bound, _)| **bound == *portal));
        let mut undo = Undo::Nothing;
        let mut number = None;
        let target = match self.client.names.find(name).cloned() {
            Some(statement) => {
                self.leaves_by(&statement.verdict);
                let mut other = None;
                if let Some(command) = &statement.verdict.command {
                    (other, undo) = self.bind_command(command, portal);
                }
                number = Some(statement.number);
                match other {
                    Some(place) => Target::Place(place),
                    None if name.is_empty() && self.server.unnamed == number => Target::Unnamed,
                    None => Target::Place(self.place(&statement)),
                }
            }
            None => self.unknown(name),
        };
        message_with_rest(&mut self.server.up, b'B', to_come, |up| {
            up.extend_from_slice(portal);
            up.extend_from_slice(b"\0");
            target.push(up, name);
            up.extend_from_slice(rest);
        });
        self.server.replies.push(Expect::Bind(number, undo));
    }

    /// A name that means nothing to us is the server's to refuse, or it was prepared in SQL.
    fn unknown(&mut self, name: &[u8]) -> Target {
        if name.is_empty() {
            // Somebody else's must not be found there, nor our own; `unnamed` does not tell of all that may be.
            self.server.unnamed = None;
            self.server.up.extend_from_slice(&[b'C', 0, 0, 0, 6, b'S', 0]);
            self.server.replies.push(Expect::Close { theirs: false, undo: Undo::Nothing });
        }
        if name.starts_with(OUR_NAME) { Target::Nobodys } else { Target::Theirs }
    }

    fn describe(&mut self, message: &[u8]) -> Result<(), Broken> {
        self.server.unsynced = true;
        let (what, name) = body(message).split_first().ok_or(Broken("insufficient data left in message"))?;
        if *what != b'S' {
            self.send(message, Expect::DescribePortal);
            return Ok(());
        }
        if !self.client.rewrites {
            self.send(message, Expect::DescribeStatement(None));
            return Ok(());
        }
        let (name, _) = string(name).ok_or(Broken("invalid string in message"))?;
        let found = self.client.names.find(name).cloned();
        let number = found.as_ref().map(|statement| statement.number);
        let target = match found {
            Some(_) if name.is_empty() && self.server.unnamed == number => Target::Unnamed,
            Some(statement) => Target::Place(self.place(&statement)),
            None => self.unknown(name),
        };
        message_with_rest(&mut self.server.up, b'D', 0, |up| {
            up.extend_from_slice(b"S");
            target.push(up, name);
        });
        self.server.replies.push(Expect::DescribeStatement(number));
        Ok(())
    }

    fn execute(&mut self, message: &[u8]) -> Result<(), Broken> {
        self.server.unsynced = true;
        let mut note = None;
        if let Some((_, follow)) = self.client.bound.take_if(|(portal, _)| string(body(message)).is_some_and(|(name, _)| *name == **portal))
        {
            if matches!(follow, Follow::ResetAll | Follow::DiscardAll) {
                self.server.noted = false;
            }
            let undo = if matches!(follow, Follow::DeallocateAll | Follow::DiscardAll) { self.forget_statements() } else { Undo::Nothing };
            note = Some(Box::new(Note { follow: Some(follow), undo, ..Note::default() }));
        }
        self.send(message, Expect::Execute(note));
        Ok(())
    }

    fn close(&mut self, message: &[u8], down: &mut BytesMut) -> Result<(), Broken> {
        self.server.unsynced = true;
        let (what, name) = body(message).split_first().ok_or(Broken("insufficient data left in message"))?;
        if *what == b'S' && self.client.rewrites {
            let (name, _) = string(name).ok_or(Broken("invalid string in message"))?;
            if self.client.names.find(name).is_some() {
                // It stays prepared, for whoever asks next.
                let was = self.client.names.put(name, None);
                self.server.replies.push(Expect::Closed(Undo::Name(name.into(), was)));
                if self.server.unit_state != Unit::Open {
                    self.say_what_is_ours(down);
                }
                return Ok(());
            }
            let target = self.unknown(name);
            message_with_rest(&mut self.server.up, b'C', 0, |up| {
                up.extend_from_slice(b"S");
                target.push(up, name);
            });
            self.server.replies.push(Expect::Close { theirs: true, undo: Undo::Nothing });
            return Ok(());
        }
        self.send(message, Expect::Close { theirs: true, undo: Undo::Nothing });
        Ok(())
    }

    fn sync(&mut self, message: &[u8]) {
        self.pass_on(message);
        if self.client.bound.take().is_some() && self.server.status != b'I' {
            // It may still be run, in its transaction.
            self.leaves(Traces::SETTING, true);
        }
        if self.server.copying {
            // The server ignores it: it reads data.
            return;
        }
        self.server.unsynced = false;
        self.server.skipping = false;
        self.server.replies.push(Expect::Sync);
    }

    fn copy_end(&mut self, message: &[u8]) {
        self.pass_on(message);
        self.server.copying = false;
        if !self.server.replies.is_empty() {
            self.server.replies.push(Expect::CopyEnd);
        }
    }

    /// Answers that wait for nothing but us.
    pub(super) fn say_what_is_ours(&mut self, down: &mut BytesMut) {
        while let Some(Expect::Parsed(_) | Expect::Closed(_) | Expect::CopyEnd) = self.server.replies.first() {
            match self.server.replies.pop() {
                Some(Expect::Parsed(_)) => reply::parse_complete(down),
                Some(Expect::Closed(_)) => reply::close_complete(down),
                _ => continue,
            }
            self.server.answered = true;
        }
    }
}

/// Whom a name on the connection means.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// The connection's unnamed statement.
    Unnamed,
    /// One of ours.
    Place(u32),
    /// What the client calls so.
    Theirs,
    /// What cannot be: the client uses a name like ours.
    Nobodys,
}

impl Target {
    pub(super) fn push(self, up: &mut BytesMut, name: &[u8]) {
        match self {
            Self::Unnamed => up.extend_from_slice(b"\0"),
            Self::Place(place) => our_name(up, place),
            Self::Theirs | Self::Nobodys => {
                up.extend_from_slice(name);
                up.extend_from_slice(if matches!(self, Self::Nobodys) { b"?\0" } else { b"\0" });
            }
        }
    }
}

fn known(kind: u8) -> Result<(), Broken> {
    if b"QPBDECSFHdcf".contains(&kind) { Ok(()) } else { Err(Broken("invalid frontend message type")) }
}

fn too_long(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    if bytes.len() > MAX_WHOLE_BYTES { Err(Broken("a name without an end")) } else { Ok(None) }
}

/// A statement's name on the connection, with its NUL.
pub(super) fn our_name(up: &mut BytesMut, place: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = place;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b"0123456789".get(usize::try_from(left % 10).unwrap_or(0)).copied().unwrap_or(b'0');
        left /= 10;
        at = index;
        if left == 0 {
            break;
        }
    }
    up.extend_from_slice(OUR_NAME);
    up.extend_from_slice(digits.get(at..).unwrap_or_default());
    up.extend_from_slice(b"\0");
}

/// A message whose body is what `write` writes and `rest` bytes to come.
pub(super) fn message_with_rest(up: &mut BytesMut, kind: u8, rest: usize, write: impl FnOnce(&mut BytesMut)) {
    up.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let at = up.len();
    write(up);
    // Bounded: what is written is at most as long as a message that was read whole, and names.
    let length = u32::try_from((up.len() - at).saturating_add(rest).saturating_add(4)).unwrap_or(u32::MAX);
    if let Some(field) = up.get_mut(at - 4..at) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
