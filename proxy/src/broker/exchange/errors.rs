//! An error of the server's: what it skips, what is taken back, what is said instead.

use std::rc::Rc;

use super::answers::Said;
use super::replies::{Expect, Follow, Undo};
use super::shapes::CHANGED;
use super::statements::Given;
use super::wire::OUR_NAME;
use super::{Exchange, Unit};
use crate::postgres::message::SqlState;
use crate::postgres::reply;

impl Exchange<'_> {
    /// An ErrorResponse: the server skips to the next Sync, or ends a Query.
    pub(super) fn error(&mut self, body: &[u8], said: &mut Said) -> bool {
        self.server.failed = true;
        self.server.answered = true;
        // It was committed at once, whatever fails behind it.
        self.server.done.retain_mut(|done| {
            done.in_batch = false;
            done.follow == Follow::DiscardAll
        });
        self.server.copying = false;
        let code = SqlState::of_error(body);
        let code = code.as_ref().map_or("", SqlState::as_str);
        if matches!(self.server.replies.first(), None | Some(Expect::Query(_) | Expect::Function)) {
            return true;
        }
        if let Some(number) = self.server.replies.first().and_then(Expect::statement)
            && (code == "26000" || code == "0A000")
        {
            // It is not what it was, or not there: next time it is prepared anew.
            let old = self.server.prepared.remove(number);
            self.server.orphans.extend(old.map(|slot| slot.name));
            self.server.unnamed = self.server.unnamed.filter(|(unnamed, _)| *unnamed != number);
        }
        let has_changed = code == "26000" && matches!(self.server.replies.first(), Some(Expect::Changed));
        let text = self.in_the_clients_words(code, body);
        let (mut skipped, has_sync) = self.server.replies.skip_to_sync();
        if let Some(Expect::Parse { undo: Undo::Name(name, was) | Undo::NameAndPlace(name, was, _), .. }) = skipped.last_mut()
            && name.is_empty()
        {
            // The server forgets the old unnamed statement before it looks at the new one.
            *was = None;
        }
        for expect in skipped {
            self.take_back_expect(expect);
        }
        self.server.skipping = !has_sync;
        match text {
            _ if has_changed => {
                reply::message(&mut said.before, b'E', |error| error.extend_from_slice(CHANGED));
                false
            }
            Some(text) => {
                reply::with_text(&mut said.before, body, &text);
                false
            }
            None => true,
        }
    }

    /// An error's text with the client's name in place of ours, where it has ours.
    fn in_the_clients_words(&self, code: &str, body: &[u8]) -> Option<Vec<u8>> {
        let name: &[u8] = match self.server.replies.first() {
            Some(Expect::Parse { theirs: true, undo: Undo::Duplicate(refused) }) if code == "42P05" => &refused.0,
            first => {
                let number = first.and_then(Expect::statement)?;
                let lost = || self.client.lost.iter().find(|(lost, _)| *lost == number).map(|(_, name)| &**name);
                self.client.names.name_of(number).or_else(lost)?
            }
        };
        let text = reply::field(body, b'M')?;
        let begin = text.windows(OUR_NAME.len()).position(|window| window == OUR_NAME)?;
        let (before, ours) = text.split_at_checked(begin)?;
        let end = ours.iter().skip(OUR_NAME.len()).position(|byte| !byte.is_ascii_digit())? + OUR_NAME.len();
        Some([before, name, ours.get(end..)?].concat())
    }

    /// All names are about to be forgotten: errors that are on their way may be about some.
    pub(super) fn remember_names_due(&mut self) {
        let mut numbers: Vec<u64> = self.server.replies.iter().filter_map(Expect::statement).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            if let Some(name) = self.client.names.name_of(number).map(Box::from) {
                self.client.lost.push((number, name));
            }
        }
    }

    fn take_back_expect(&mut self, mut expect: Expect) {
        if let Some(undo) = expect.undo_mut() {
            self.take_back(std::mem::take(undo));
        }
    }

    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing | Undo::Duplicate(_) => {}
            Undo::Name(name, was) => {
                if name.is_empty() {
                    self.server.unnamed = None;
                }
                self.put_back(&name, was);
            }
            Undo::NameAndPlace(name, was, (number, place)) => {
                self.server.prepared.take_back(number, place);
                self.client.lost.push((number, name.clone()));
                self.put_back(&name, was);
            }
            Undo::Place((number, place)) => self.server.prepared.take_back(number, place),
            Undo::Evicted(number, slot) => self.server.prepared.restore(number, slot),
            Undo::Names(names) => self.client.names = *names,
            Undo::All(all) => {
                let (names, prepared) = *all;
                self.client.names = names;
                self.server.prepared.unclear(prepared);
            }
        }
    }

    /// What the name meant before. Where the client has given it another meaning since, in a batch of its own, this is what comes back if that
    /// fails too.
    pub(super) fn put_back(&mut self, name: &[u8], was: Option<Rc<Given>>) {
        for undo in self.server.replies.iter_mut().filter_map(Expect::undo_mut) {
            match undo {
                Undo::Name(later, before) | Undo::NameAndPlace(later, before, _) if **later == *name => {
                    *before = was;
                    return;
                }
                Undo::Names(names) => return drop(names.put(name, was)),
                Undo::All(all) => return drop(all.0.put(name, was)),
                _ => {}
            }
        }
        self.client.names.put(name, was);
    }

    /// The first thing that the client's only batch meets is a statement whose tables have changed since it was prepared here, by others
    /// perhaps, or that is gone. The client has heard nothing, and nothing has been done: the batch is sent again, with the statement prepared anew.
    pub(super) fn is_stale(&self, body: &[u8]) -> bool {
        // Only for who has parsed it since it was last known to be good, and was not told its columns since: others must hear that it is not that any more.
        let first = self.server.replies.iter().find(|expect| !matches!(expect, Expect::Parsed(_) | Expect::Closed(_)));
        let Some(given) = first.and_then(Expect::given).filter(|given| given.told.get().is_none()) else { return false };
        let is_fresh = Some(given.at) > self.server.prepared.used_before(given.number);
        // The rest of a batch may wait, with us, for columns that were asked for behind this.
        let is_there = self.server.unit_state == Unit::Whole || self.server.unit_state == Unit::Open && self.server.awaits_columns();
        if !is_there || self.server.answered || self.server.status != b'I' {
            return false;
        }
        match SqlState::of_error(body).as_ref().map(SqlState::as_str) {
            // Other things are not supported too; this one says where it comes from.
            Some("0A000") => is_fresh && body.split(|byte| *byte == 0).any(|field| field == b"RRevalidateCachedQuery"),
            // Somebody's function has deallocated what we had prepared.
            Some("26000") => reply::field(body, b'M').is_some_and(|text| text.windows(OUR_NAME.len()).any(|part| part == OUR_NAME)),
            _ => false,
        }
    }

    pub(super) fn begin_again(&mut self) {
        let (skipped, has_sync) = self.server.replies.skip_to_sync();
        for expect in skipped {
            if let Some(given) = expect.given() {
                // What the client was told of is the server's to compare, which knows it as it was: what is sent again does not wait for columns.
                if given.told.get().is_none() {
                    let old = self.server.prepared.remove(given.number);
                    self.server.orphans.extend(old.map(|slot| slot.name));
                }
                self.server.unnamed = None;
            }
            self.take_back_expect(expect);
        }
        if !has_sync {
            self.server.end_batch();
        }
        if let Some(first) = self.server.replies.first_mut() {
            *first = Expect::Discarded;
            // Now, and not when the rest of the batch is through: what the client sends meanwhile has to come behind it.
            self.server.replay = true;
        }
    }
}
