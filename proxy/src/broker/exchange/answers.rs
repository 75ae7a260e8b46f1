//! From the server: what goes on to the client, what is ours, what is said in between.

use bytes::BytesMut;

use super::replies::{Done, Expect, Note, Undo};
use super::wire::header;
use super::{Exchange, HEADER_BYTES, Lost, Unit};
use crate::postgres::reply;

/// A message that has to be whole to be understood may have so many bytes; of longer ones the beginning must do.
const MAX_WHOLE_BYTES: usize = 1024 * 1024;

/// What became of a chunk of the server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// All of it is for the client, as it is.
    AsItIs,
    /// What is for the client is in `down`.
    Changed,
}

/// A chunk on its way to the client: as long as nothing is taken out or put in, nothing is copied.
struct Chunk<'a> {
    bytes: &'a [u8],
    /// What is before is in `down`, as far as it is for the client.
    copied: usize,
    is_changed: bool,
}

impl Chunk<'_> {
    /// In place of the bytes from `at` to `end` the client gets what is put into `down` now.
    fn replace(&mut self, at: usize, end: usize, down: &mut BytesMut) {
        down.extend_from_slice(self.bytes.get(self.copied..at).unwrap_or_default());
        self.copied = end;
        self.is_changed = true;
    }
}

/// What is said around a message.
#[derive(Default)]
pub(super) struct Said {
    pub(super) before: BytesMut,
    pub(super) after: BytesMut,
}

impl Exchange<'_> {
    /// Takes a chunk of the server's bytes. What is for the client is the chunk itself, or is appended to `down`.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn answers(&mut self, bytes: &[u8], down: &mut BytesMut) -> Result<Took, Lost> {
        let mut chunk = Chunk { bytes, copied: 0, is_changed: false };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.server.pass > 0 {
                let taken = self.server.pass.min(rest.len());
                if !self.server.pass_on {
                    chunk.replace(at, at + taken, down);
                }
                self.server.pass -= taken;
                at += taken;
            } else if !self.server.partial.is_empty() {
                let taken = self.fill_partial(rest)?;
                chunk.replace(at, at + taken, down);
                at += taken;
                if let Some(message) = self.take_partial()? {
                    let mut said = Said::default();
                    let pass = self.message(&message, &mut said)?;
                    down.extend_from_slice(&said.before);
                    down.extend_from_slice(if pass { &message } else { &[] });
                    down.extend_from_slice(&said.after);
                }
            } else {
                at = self.next(&mut chunk, at, down)?;
            }
        }
        if self.server.replay {
            self.server.replay = false;
            self.again(down);
        }
        if !chunk.is_changed {
            return Ok(Took::AsItIs);
        }
        chunk.replace(bytes.len(), bytes.len(), down);
        Ok(Took::Changed)
    }

    /// The message that begins at `at`; returns where the next begins.
    fn next(&mut self, chunk: &mut Chunk<'_>, at: usize, down: &mut BytesMut) -> Result<usize, Lost> {
        let rest = chunk.bytes.get(at..).unwrap_or_default();
        let Some(found) = header(rest) else {
            self.server.partial.extend_from_slice(rest);
            chunk.replace(at, chunk.bytes.len(), down);
            return Ok(chunk.bytes.len());
        };
        let (kind, total) = found.map_err(|_| Lost("a message of an impossible length"))?;
        if self.is_plain(kind) {
            self.server.answered = true;
            let here = total.min(rest.len());
            self.server.pass = total - here;
            self.server.pass_on = true;
            return Ok(at + here);
        }
        if total > rest.len() && total <= MAX_WHOLE_BYTES {
            self.server.partial.extend_from_slice(rest);
            chunk.replace(at, chunk.bytes.len(), down);
            return Ok(chunk.bytes.len());
        }
        let message = rest.get(..total).unwrap_or(rest);
        let mut said = Said::default();
        let pass = self.message(message, &mut said)?;
        let end = at + message.len();
        self.server.pass = total - message.len();
        self.server.pass_on = pass;
        if !pass || !said.before.is_empty() || !said.after.is_empty() {
            chunk.replace(at, end, down);
            down.extend_from_slice(&said.before);
            down.extend_from_slice(if pass { message } else { &[] });
            down.extend_from_slice(&said.after);
        }
        Ok(end)
    }

    /// Rows, data of a COPY, notices: they change nothing, and may be long.
    fn is_plain(&self, kind: u8) -> bool {
        match kind {
            b'D' | b'd' | b'V' => match self.server.replies.first() {
                Some(Expect::Query(_) | Expect::Execute(_) | Expect::Function) => true,
                // A COPY ends with CopyDone, whatever is due behind it.
                _ => false,
            },
            b'N' => !matches!(self.server.replies.first(), Some(Expect::Settings | Expect::Probe | Expect::Discarded)),
            // The server says what it has been notified of at the end of whatever runs, so of a question of ours too.
            b'A' => true,
            _ => false,
        }
    }

    /// Up to the end of the message in `partial`, or of `bytes`.
    fn fill_partial(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        let partial = &mut self.server.partial;
        let missing = HEADER_BYTES.saturating_sub(partial.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(missing);
        partial.extend_from_slice(head);
        let Some(found) = header(partial) else { return Ok(missing) };
        let (_, total) = found.map_err(|_| Lost("a message of an impossible length"))?;
        let total = total.min(MAX_WHOLE_BYTES);
        let body = total.saturating_sub(partial.len()).min(rest.len());
        partial.extend_from_slice(rest.get(..body).unwrap_or_default());
        Ok(missing + body)
    }

    /// The message in `partial` once it is whole, or once it is too long or too plain to be kept.
    fn take_partial(&mut self) -> Result<Option<BytesMut>, Lost> {
        let Some(found) = header(&self.server.partial) else { return Ok(None) };
        let (kind, total) = found.map_err(|_| Lost("a message of an impossible length"))?;
        let here = self.server.partial.len();
        let is_plain = self.is_plain(kind);
        if here < total && here < MAX_WHOLE_BYTES && !is_plain {
            return Ok(None);
        }
        self.server.pass = total.saturating_sub(here);
        // As `message` says of the beginning; it keeps nothing of this that it has taken before.
        self.server.pass_on = is_plain || !self.is_ours();
        Ok(Some(std::mem::take(&mut self.server.partial)))
    }

    /// The next answer is for nobody but us.
    fn is_ours(&self) -> bool {
        matches!(self.server.replies.first(), Some(Expect::Settings | Expect::Probe | Expect::Discarded))
    }

    /// One message; a long one may be there with its beginning only. True when it goes on to the client.
    fn message(&mut self, message: &[u8], said: &mut Said) -> Result<bool, Lost> {
        let kind = message.first().copied().unwrap_or(0);
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        if kind == b'S' {
            return Ok(self.reported(body));
        }
        if kind == b'E' && is_fatal(body) {
            self.server.ended = true;
            // The end of a connection that waits with nothing on it is nobody's business.
            return Ok(!self.server.has_ended_at_rest() || !self.client.rewrites);
        }
        if self.is_ours() {
            return self.ours(kind, body, said);
        }
        if kind == b'E' && self.is_stale(body) {
            self.begin_again();
            return Ok(false);
        }
        self.say_what_is_ours(&mut said.before);
        if self.returned(kind) {
            self.say_what_is_ours(&mut said.after);
            return Ok(false);
        }
        let pass = match kind {
            b'E' => return Ok(self.error(body, said)),
            b'Z' => return self.ready(body, said),
            b'1' => match self.server.replies.first() {
                Some(Expect::Parse { theirs, .. }) => Some(*theirs),
                _ => None,
            },
            b'3' => match self.server.replies.first() {
                Some(Expect::Close { theirs, .. }) => Some(*theirs),
                _ => None,
            },
            b'2' => matches!(self.server.replies.first(), Some(Expect::Bind(..))).then_some(true),
            b't' if matches!(self.server.replies.first(), Some(Expect::Columns(_))) => return Ok(false),
            b'n' | b'T' => match self.server.replies.first() {
                Some(Expect::DescribePortal(shown) | Expect::DescribeStatement(shown)) => {
                    if let Some((given, place)) = shown.clone() {
                        self.described((given.number, place), kind, body, Some(&given));
                    }
                    Some(true)
                }
                Some(Expect::Columns(place)) => {
                    // To ask once more would be to ask for ever.
                    self.described(*place, kind, body, None).then_some(false)
                }
                _ => return self.passes(kind),
            },
            b'C' | b'I' | b's' => match self.server.replies.first() {
                Some(Expect::Execute(_)) => Some(true),
                Some(Expect::Query(_)) => return Ok(self.within_query(kind, body)),
                _ => None,
            },
            b'G' => {
                self.server.copying = !self.server.replies.begin_copy();
                // A Sync that came too early does not end the batch: the one behind the data does.
                let ends = self.server.replies.iter().any(|expect| matches!(expect, Expect::Sync | Expect::Query(_)));
                self.server.unsynced |= !ends;
                return self.passes(kind);
            }
            _ => return self.passes(kind),
        };
        let Some(pass) = pass else { return Err(Lost("an answer that nobody has asked for")) };
        match self.server.replies.pop() {
            Some(Expect::Execute(note)) if kind == b'C' => {
                self.completed(body, note.as_deref());
                self.server.done.extend(note.and_then(|note| note.follow).map(|follow| Done { follow, in_batch: true }));
            }
            Some(Expect::Parse { undo: Undo::NameAndPlace(_, _, (number, place)) | Undo::Place((number, place)), .. })
                if !self.server.prepared.confirm(number, place) =>
            {
                self.parsed_elsewhere(number, place);
            }
            Some(Expect::Parse { undo: Undo::Duplicate(taken), .. }) => self.taken_after_all(*taken),
            _ => {}
        }
        self.server.answered |= pass;
        // Behind an answer that is ours alone nothing is said that could not be taken back: see `errors::is_stale`.
        if pass || self.server.unit_state == Unit::Spoilt {
            self.say_what_is_ours(&mut said.after);
        }
        Ok(pass)
    }

    /// Goes on to the client and settles nothing.
    fn passes(&mut self, kind: u8) -> Result<bool, Lost> {
        let knows = matches!(kind, b'A' | b'N' | b'D' | b'T' | b't' | b'n' | b'd' | b'c' | b'G' | b'H' | b'W' | b'V' | b'v');
        if !knows || self.server.replies.is_empty() && !matches!(kind, b'A' | b'N') {
            return Err(Lost("a message that nobody has asked for"));
        }
        self.server.answered = true;
        Ok(true)
    }

    /// CommandComplete or EmptyQueryResponse within a Query.
    fn within_query(&mut self, kind: u8, body: &[u8]) -> bool {
        let Some(Expect::Query(note)) = self.server.replies.first() else { return true };
        if kind == b'C' && note.is_none() {
            self.completed(body, None);
            self.server.answered = true;
            return true;
        }
        match note.as_deref() {
            // Its tag follows with ReadyForQuery, which says whether it may.
            Some(Note { stand_in: Some(_), .. }) => return false,
            Some(Note { follow: Some(follow), .. }) => self.server.done.push(Done { follow: follow.clone(), in_batch: false }),
            _ => {}
        }
        self.server.answered = true;
        true
    }

    /// Statements may have gone by a command that stood among others.
    fn completed(&mut self, tag: &[u8], note: Option<&Note>) {
        self.server.rolled_back |= tag == b"ROLLBACK\0";
        let followed = note.is_some_and(|note| !matches!(note.undo, Undo::Nothing));
        if self.client.rewrites && !followed && (tag == b"DEALLOCATE ALL\0" || tag == b"DISCARD ALL\0") {
            self.remember_names_due();
            drop(self.server.prepared.clear());
            self.server.unnamed = None;
            self.client.names = super::Names::default();
            self.server.traces |= crate::postgres::traces::Traces::SETTING;
        }
    }

    /// ReadyForQuery.
    fn ready(&mut self, body: &[u8], said: &mut Said) -> Result<bool, Lost> {
        let &[status @ (b'I' | b'T' | b'E')] = body else { return Err(Lost("an unknown transaction status")) };
        let before = std::mem::replace(&mut self.server.status, status);
        let failed = std::mem::take(&mut self.server.failed);
        let done = std::mem::take(&mut self.server.done);
        match self.server.replies.pop() {
            Some(Expect::Query(note)) => {
                let Note { stand_in, undo, .. } = note.map(|note| *note).unwrap_or_default();
                match stand_in {
                    _ if failed => self.take_back(undo),
                    Some(_) if status == b'E' => {
                        self.take_back(undo);
                        let why = "current transaction is aborted, commands ignored until end of transaction block";
                        reply::error(&mut said.before, "25P02", why);
                    }
                    Some(tag) => reply::command_complete(&mut said.before, tag),
                    None => {}
                }
            }
            Some(Expect::Sync | Expect::Function) => {}
            _ => return Err(Lost("ReadyForQuery that nobody has asked for")),
        }
        self.server.copying = false;
        self.server.returns &= !self.server.replies.is_empty();
        self.server.rounds.queries += 1;
        self.server.rounds.transactions += u32::from(status == b'I');
        if !done.is_empty() {
            self.follow(done, before != b'I' || status != b'I', &mut said.before);
        }
        self.server.rolled_back = false;
        self.server.answered = true;
        self.say_what_is_ours(&mut said.after);
        Ok(true)
    }

    /// An answer to our own words.
    fn ours(&mut self, kind: u8, body: &[u8], said: &mut Said) -> Result<bool, Lost> {
        match kind {
            b'E' if matches!(self.server.replies.first(), Some(Expect::Discarded)) => Ok(false),
            b'E' if matches!(self.server.replies.first(), Some(Expect::Probe)) => {
                // A cancel that came late, or a short statement_timeout: nothing is known, and asked again behind the next request.
                self.server.ask_again = true;
                Ok(false)
            }
            b'E' => Err(Lost("the server refused settings that it took before")),
            b'D' => {
                if matches!(self.server.replies.first(), Some(Expect::Probe)) {
                    self.server.probed(body);
                }
                Ok(false)
            }
            b'Z' => {
                let &[status @ (b'I' | b'T' | b'E')] = body else { return Err(Lost("an unknown transaction status")) };
                self.server.status = status;
                drop(self.server.replies.pop());
                // A batch may yet have to be sent again: the client hears nothing before the server's first word to it.
                if self.server.unit_state == Unit::Spoilt {
                    self.say_what_is_ours(&mut said.after);
                }
                Ok(false)
            }
            // Seen whole here only when its header came in two parts: see `is_plain`.
            b'A' => Ok(true),
            _ => Ok(false),
        }
    }
}

/// The connection ends with it.
fn is_fatal(body: &[u8]) -> bool {
    body.split(|byte| *byte == 0).any(|field| field == b"VFATAL" || field == b"VPANIC")
}
