//! From the client: what goes on as it is, what under another name, what is answered here.

use bytes::BytesMut;

use super::replies::{Expect, Follow, Note, Undo};
use super::wire::{body, header, string};
use super::{Broken, Exchange, Unit};
use crate::postgres::reply;
use crate::postgres::sql::{self, Command, Verdict};
use crate::postgres::traces::Traces;

/// Queries and statements up to this size are kept until they are whole, to be looked at. Longer ones pass, and pin the client.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Other messages up to this size are kept until they are whole, so that a client that leaves within one leaves nothing on the connection.
const MAX_WHOLE_BYTES: usize = 32 * 1024;
/// A batch up to this size can be sent once more.
const MAX_UNIT_BYTES: usize = 16 * 1024;

/// The rest of a message that was not kept until it was whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    pub(super) left: usize,
    pub(super) forward: bool,
}

impl Passing {
    pub(super) fn is_within(self) -> bool {
        self.left > 0 && self.forward
    }
}

/// Kept until it is whole up to this size.
pub(super) fn whole_limit(kind: u8) -> usize {
    if matches!(kind, b'Q' | b'P') { MAX_TEXT_BYTES } else { MAX_WHOLE_BYTES }
}

impl Exchange<'_> {
    /// Takes what it can of the client's bytes: to the server (`server.up`), or answered into `down`. Returns how many are done with; the rest
    /// is the beginning of a message, or begins with Terminate, or has to wait because the server's half [is full](super::Server::is_full). What the connection lacks of the client's settings goes in front.
    ///
    /// # Errors
    /// The client broke the protocol; the message that did is not sent.
    pub fn requests(&mut self, input: &[u8], down: &mut BytesMut) -> Result<usize, Broken> {
        self.take(input, down, true)
    }

    fn take(&mut self, input: &[u8], down: &mut BytesMut, within_bounds: bool) -> Result<usize, Broken> {
        let mut rest = input;
        while !rest.is_empty() && (!within_bounds || !self.server.is_full()) {
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
                    if within_bounds && (self.server.is_full() || kind == b'B' && self.asks_for_columns(message)) {
                        break;
                    }
                    self.whole(kind, message, down)?;
                    self.note_unit(kind, message);
                    rest = behind;
                }
                None if total > whole_limit(kind) => {
                    self.begin_unit();
                    if within_bounds && (self.server.is_full() || kind == b'B' && self.asks_for_columns(rest)) {
                        break;
                    }
                    self.server.used_by(self.client.id);
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
        // What it failed on, among others: here and not with the first message, which comes before the server's ReadyForQuery or behind it.
        self.close_orphans();
        let unit = std::mem::take(&mut self.server.unit);
        // Whole messages that were well formed the first time.
        let again = self.take(&unit, down, false);
        debug_assert_eq!(again, Ok(unit.len()), "a batch that was taken once");
        self.server.unit = unit;
        self.server.unit_state = Unit::Spoilt;
    }

    /// Before the first message of a rested connection.
    fn begin_unit(&mut self) {
        if !self.server.rests_for_client() {
            return;
        }
        self.server.unit.clear();
        self.server.unit_state = if self.client.rewrites { Unit::Open } else { Unit::Spoilt };
        self.server.answered = false;
        self.statements.next_batch();
        self.client.lost = Vec::new();
        // Portals end with their transaction.
        self.client.bound.clear();
        self.server.portals.clear();
        self.close_orphans();
        self.server.doubtful |= std::mem::take(&mut self.server.ask_again);
        self.put_settings_right();
        self.guard_sequences(Traces::NONE);
    }

    fn note_unit(&mut self, kind: u8, message: &[u8]) {
        let server = &mut *self.server;
        server.used_by(self.client.id);
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
        if self.fails_copy(kind) {
            self.pass_on(message);
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
            b'F' => self.function(message),
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

    /// A message that has no place in a COPY fails it. True when it is lost with the Query that the COPY is of.
    fn fails_copy(&mut self, kind: u8) -> bool {
        if !self.server.copying || matches!(kind, b'd' | b'c' | b'f' | b'H' | b'S') {
            return false;
        }
        self.server.copying = false;
        matches!(self.server.replies.first(), Some(Expect::Query(_)))
    }

    /// The beginning of a message that is too long to be kept. Returns how much of it is done with; `None` when more is needed.
    fn begin(&mut self, kind: u8, total: usize, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let mut taken = bytes.len();
        if self.server.skipping && !matches!(kind, b'd' | b'c' | b'f') {
            known(kind)?;
            self.client.passing = Passing { left: total - taken, forward: false };
            return Ok(Some(taken));
        }
        if self.fails_copy(kind) {
            known(kind)?;
            self.pass_on(bytes);
            self.client.passing = Passing { left: total - taken, forward: true };
            return Ok(Some(taken));
        }
        match kind {
            b'Q' => {
                self.leaves(Traces::UNSEEN, true);
                self.before_query();
                self.send(bytes, Expect::Query(None));
            }
            b'F' => self.function(bytes),
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

    pub(super) fn send(&mut self, message: &[u8], expect: Expect) {
        self.pass_on(message);
        self.server.replies.push(expect);
    }

    pub(super) fn pass_on(&mut self, message: &[u8]) {
        self.server.up.extend_from_slice(message);
    }

    /// It is called by its number, and may be one that takes a lock.
    fn function(&mut self, message: &[u8]) {
        self.leaves(Traces::LOCK, true);
        self.send(message, Expect::Function);
    }

    fn query(&mut self, message: &[u8]) -> Result<(), Broken> {
        let (text, _) = string(body(message)).ok_or(Broken("invalid string in message"))?;
        let verdict = sql::scan(text);
        self.guard_sequences(verdict.leaves);
        self.before_query();
        let note = match &verdict.command {
            Some(command) => self.command(command),
            None if verdict.resets => self.command(&Command::ResetAll),
            None => None,
        };
        if let Some(Note { follow: Some(follow), .. }) = &note {
            self.server.returns |= !self.own_defaults(follow).is_empty();
        }
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
        let was = self.client.names.put(b"", None);
        // With nothing due before it, it will not be skipped.
        if was.is_some() && !self.server.replies.is_empty() {
            self.server.replies.push(Expect::Forgets(Undo::Name(Box::default(), was)));
        }
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
    pub(super) fn forget_statements(&mut self) -> Undo {
        self.server.unnamed = None;
        let names = std::mem::take(&mut self.client.names);
        self.client.names.put(b"", names.find(b"").cloned());
        Undo::All(Box::new((names, self.server.prepared.clear())))
    }

    pub(super) fn leaves_by(&mut self, verdict: &Verdict) {
        self.leaves(verdict.leaves, verdict.ends);
    }

    pub(super) fn leaves(&mut self, traces: Traces, ends: bool) {
        if self.client.rewrites {
            self.server.traces |= traces;
            self.server.noted |= !traces.is_empty();
            self.server.doubtful |= ends || !traces.is_empty();
        }
    }

    fn sync(&mut self, message: &[u8]) {
        self.pass_on(message);
        if self.server.copying {
            // The server ignores it: it reads data.
            return;
        }
        self.server.unsynced = false;
        self.server.skipping = false;
        self.server.prepared.next_batch();
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
        while let Some(Expect::Parsed(_) | Expect::Closed(_) | Expect::Forgets(_) | Expect::CopyEnd) = self.server.replies.first() {
            match self.server.replies.pop() {
                Some(Expect::Parsed(_)) => reply::parse_complete(down),
                Some(Expect::Closed(_)) => reply::close_complete(down),
                _ => continue,
            }
            self.server.answered = true;
        }
    }
}

fn known(kind: u8) -> Result<(), Broken> {
    if b"QPBDECSFHdcf".contains(&kind) { Ok(()) } else { Err(Broken("invalid frontend message type")) }
}

pub(super) fn too_long(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    if bytes.len() > MAX_WHOLE_BYTES { Err(Broken("a name without an end")) } else { Ok(None) }
}
