//! Prepared statements on their way to the server: the client's names become the connection's.

use std::rc::Rc;

use bytes::BytesMut;

use super::replies::{Expect, Follow, Note, Undo};
use super::shapes::NO_PLACE;
use super::statements::{Given, Statement};
use super::wire::{OUR_NAME, Target, body, message_with_rest, our_name, string};
use super::{Broken, Exchange, Unit};
use crate::postgres::sql::Verdict;
use crate::postgres::traces::Traces;

/// Portals that are described are among the last so many that were bound.
const MAX_PORTALS: usize = 16;

impl Exchange<'_> {
    pub(super) fn parse(&mut self, message: &[u8], down: &mut BytesMut) -> Result<(), Broken> {
        if !self.client.rewrites {
            self.server.unsynced = true;
            self.send(message, Expect::Parse { theirs: true, undo: Undo::Nothing });
            return Ok(());
        }
        let (name, behind) = string(body(message)).ok_or(Broken("invalid string in message"))?;
        let meaning = self.meaning();
        let statement = self.statements.find(behind, meaning);
        self.guard_sequences(statement.verdict.leaves);
        self.server.unsynced = true;
        if !name.is_empty()
            && let Some(old) = self.client.names.find(name).cloned()
        {
            // The server's own refusal (42P05), in the transaction's midst: the statement is there under our name for it.
            let place = self.place_of(name, &old);
            self.push_parse(place, behind);
            self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::Duplicate(Box::new((name.into(), statement, place))) });
            return Ok(());
        }
        let given = Given::new(Rc::clone(&statement), self.statements.now());
        let was = self.client.names.put(name, Some(given));
        if self.server.prepared.find(statement.number, None).is_some() {
            // At once where nothing is due before it, unless it would have to be taken back: see `answers::stale`.
            self.server.replies.push(Expect::Parsed(Undo::Name(name.into(), was)));
            if self.server.unit_state != Unit::Open {
                self.say_what_is_ours(down);
            }
            return Ok(());
        }
        if name.is_empty() && statement.seen.replace(1) == 0 {
            // Seen for the first time, and perhaps the last: not worth a name.
            self.server.unnamed = Some((statement.number, self.server.prepared.batch()));
            self.send(message, Expect::Parse { theirs: true, undo: Undo::Name(name.into(), was) });
            return Ok(());
        }
        let place = self.new_place(statement.number);
        self.push_parse(place, behind);
        self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::NameAndPlace(name.into(), was, (statement.number, place)) });
        Ok(())
    }

    /// A name that was thought to be taken was not: the Parse before, in an earlier batch, has failed.
    pub(super) fn taken_after_all(&mut self, (name, statement, place): (Box<[u8]>, Rc<Statement>, u32)) {
        self.server.prepared.put(statement.number, place);
        self.leaves_by(&statement.verdict);
        self.put_back(&name, Some(Given::new(statement, 0)));
    }

    /// The server has prepared what is not known by that name (any more).
    pub(super) fn parsed_elsewhere(&mut self, number: u64, place: u32) {
        let mut undos = self.server.replies.iter_mut().filter_map(Expect::undo_mut);
        // What drops all statements has been sent since: it goes with them, or comes back with them.
        let is_dropped = undos.any(|undo| match undo {
            Undo::All(all) => all.1.confirm(number, place),
            _ => false,
        });
        if !is_dropped && self.server.prepared.has(number) {
            self.server.orphans.push(place);
        }
    }

    /// What the client's settings make of a text. Reading them all takes longer than all else here, so it is done when they change.
    fn meaning(&mut self) -> u128 {
        match &self.client.meaning {
            Some((params, meaning)) if Rc::ptr_eq(params, &self.client.params) => *meaning,
            _ => {
                let meaning = self.statements.meaning(&self.client.params);
                self.client.meaning = Some((Rc::clone(&self.client.params), meaning));
                meaning
            }
        }
    }

    /// A statement too long to be looked at: nobody else's, and the client keeps its connection.
    pub(super) fn parse_unseen(&mut self, total: usize, name: &[u8], taken: usize) {
        self.server.unsynced = true;
        self.leaves(Traces::UNSEEN, true);
        let statement = self.statements.unseen(Verdict { leaves: Traces::UNSEEN, ..Verdict::default() });
        let number = statement.number;
        let was = self.client.names.put(name, Some(Given::new(statement, 0)));
        let place = self.new_place(number);
        let rest = total - taken;
        message_with_rest(&mut self.server.up, b'P', rest, |up| our_name(up, place));
        self.server.replies.push(Expect::Parse { theirs: true, undo: Undo::NameAndPlace(name.into(), was, (number, place)) });
    }

    /// Where the statement is that the client calls so: where its own Parse has yet to prepare it, if that is on its way.
    fn place_of(&mut self, name: &[u8], statement: &Statement) -> u32 {
        if self.server.prepared.find(statement.number, None).is_none() {
            let mut own = None;
            for expect in self.server.replies.iter() {
                match expect {
                    Expect::Parse { theirs: true, undo: Undo::NameAndPlace(named, _, (number, place)) }
                        if **named == *name && *number == statement.number =>
                    {
                        own = Some(*place);
                    }
                    // All statements go behind it.
                    Expect::Query(Some(note)) | Expect::Execute(Some(note)) if matches!(note.undo, Undo::All(_)) => own = None,
                    _ => {}
                }
            }
            if let Some(place) = own {
                return place;
            }
        }
        self.place(statement)
    }

    /// The connection's unnamed statement is this one, whatever becomes of the batches before.
    pub(super) fn is_unnamed(&self, name: &[u8], number: u64) -> bool {
        name.is_empty() && self.server.unnamed == Some((number, self.server.prepared.batch()))
    }

    /// Where on the connection a statement is, prepared now if it is not.
    pub(super) fn place(&mut self, statement: &Statement) -> u32 {
        if let Some(place) = self.server.prepared.find(statement.number, Some(self.statements.now())) {
            return place;
        }
        self.prepare(statement)
    }

    /// Prepares the statement on the connection, under a new name.
    pub(super) fn prepare(&mut self, statement: &Statement) -> u32 {
        let place = self.new_place(statement.number);
        self.push_parse(place, &statement.body);
        self.server.replies.push(Expect::Parse { theirs: false, undo: Undo::Place((statement.number, place)) });
        place
    }

    /// A new name on the connection; an old one may have to go for it.
    pub(super) fn new_place(&mut self, number: u64) -> u32 {
        let (place, evicted) = self.server.prepared.add(number, self.statements.now());
        if let Some((number, slot)) = evicted {
            message_with_rest(&mut self.server.up, b'C', 0, |up| {
                up.extend_from_slice(b"S");
                our_name(up, slot.name);
            });
            self.server.replies.push(Expect::Close { theirs: false, undo: Undo::Evicted(number, slot) });
        }
        place
    }

    /// What was prepared twice, because one batch could not count on another.
    pub(super) fn close_orphans(&mut self) {
        for place in std::mem::take(&mut self.server.orphans) {
            message_with_rest(&mut self.server.up, b'C', 0, |up| {
                up.extend_from_slice(b"S");
                our_name(up, place);
            });
            self.server.replies.push(Expect::Close { theirs: false, undo: Undo::Nothing });
        }
    }

    pub(super) fn push_parse(&mut self, place: u32, body: &[u8]) {
        message_with_rest(&mut self.server.up, b'P', 0, |up| {
            our_name(up, place);
            up.extend_from_slice(body);
        });
    }

    pub(super) fn bind(&mut self, message: &[u8]) -> Result<(), Broken> {
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
    pub(super) fn bind_to(&mut self, portal: &[u8], name: &[u8], to_come: usize, rest: &[u8]) {
        self.server.unsynced = true;
        // Another takes its place.
        self.client.bound.retain(|(bound, _)| **bound != *portal);
        let mut undo = Undo::Nothing;
        let mut given = None;
        let mut changed = false;
        let target = match self.client.names.find(name).cloned() {
            Some(statement) if self.has_changed(name, &statement) => {
                changed = true;
                Target::Nobodys
            }
            Some(statement) => {
                self.leaves_by(&statement.verdict);
                let mut other = None;
                if let Some(command) = &statement.verdict.command {
                    (other, undo) = self.bind_command(command, portal);
                }
                let target = match other {
                    Some(place) => Target::Place(place),
                    None if self.is_unnamed(name, statement.number) => Target::Unnamed,
                    None => Target::Place(self.place_of(name, &statement)),
                };
                given = Some(statement);
                target
            }
            None => self.unknown(name),
        };
        message_with_rest(&mut self.server.up, b'B', to_come, |up| {
            up.extend_from_slice(portal);
            up.extend_from_slice(b"\0");
            // One that has changed goes to what cannot be, whatever the client calls it.
            target.push(up, if changed { OUR_NAME } else { name });
            up.extend_from_slice(rest);
        });
        let place = if let Target::Place(place) = target { place } else { NO_PLACE };
        let portals = &mut self.server.portals;
        portals.retain(|(bound, _)| **bound != *portal);
        if portals.len() == MAX_PORTALS {
            drop(portals.remove(0));
        }
        portals.extend(given.clone().map(|given| (portal.into(), (given, place))));
        self.server.replies.push(if changed { Expect::Changed } else { Expect::Bind(given, undo) });
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

    pub(super) fn describe(&mut self, message: &[u8]) -> Result<(), Broken> {
        self.server.unsynced = true;
        let (what, name) = body(message).split_first().ok_or(Broken("insufficient data left in message"))?;
        if *what != b'S' {
            let portal = string(name).map(|(portal, _)| portal);
            let of = self.server.portals.iter().find(|(bound, _)| portal == Some(&**bound)).map(|(_, shown)| shown.clone());
            self.send(message, Expect::DescribePortal(of));
            return Ok(());
        }
        if !self.client.rewrites {
            self.send(message, Expect::DescribeStatement(None));
            return Ok(());
        }
        let (name, _) = string(name).ok_or(Broken("invalid string in message"))?;
        let found = self.client.names.find(name).cloned();
        let mut of = found.clone().map(|statement| (statement, NO_PLACE));
        let target = match found {
            Some(statement) if self.is_unnamed(name, statement.number) => Target::Unnamed,
            Some(statement) => {
                let place = self.place_of(name, &statement);
                of = Some((statement, place));
                Target::Place(place)
            }
            None => self.unknown(name),
        };
        message_with_rest(&mut self.server.up, b'D', 0, |up| {
            up.extend_from_slice(b"S");
            target.push(up, name);
        });
        self.server.replies.push(Expect::DescribeStatement(of));
        Ok(())
    }

    pub(super) fn execute(&mut self, message: &[u8]) -> Result<(), Broken> {
        self.server.unsynced = true;
        let mut note = None;
        let portal = string(body(message)).map(|(portal, _)| portal);
        let bound = self.client.bound.iter().position(|(bound, _)| portal == Some(&**bound));
        if let Some((_, follow)) = bound.map(|at| self.client.bound.remove(at)) {
            if matches!(follow, Follow::ResetAll | Follow::DiscardAll) {
                self.server.noted = false;
            }
            let undo = if matches!(follow, Follow::DeallocateAll | Follow::DiscardAll) { self.forget_statements() } else { Undo::Nothing };
            note = Some(Box::new(Note { follow: Some(follow), undo, ..Note::default() }));
        }
        let follow = note.as_deref().and_then(|note: &Note| note.follow.clone());
        self.send(message, Expect::Execute(note));
        if let Some(follow) = follow {
            self.return_in_batch(&follow);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, message: &[u8], down: &mut BytesMut) -> Result<(), Broken> {
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
}
