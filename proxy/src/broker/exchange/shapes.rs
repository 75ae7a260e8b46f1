//! The columns that a client counts on. A statement that is prepared once more, on another connection, gets the columns that its tables have by then; a
//! server of the client's own would have refused to run it (0A000, "cached plan must not change result type"), and drivers decode rows by what
//! they were told once. So before a Bind goes to where the columns are not known to be those, they are asked for, and the Bind waits for the answer.
//!
//! ```text
//!   Bind ──► told = here: it goes
//!        └─► not known here ──► Parse, Describe, Flush ──► the same: it goes
//!                                                     └─► others: the server fails the batch, the client hears 0A000
//! ```
//!
//! That is one round trip per statement and connection, and only for statements that the client has had described and not prepared since.

use std::hash::Hasher as _;

use super::Exchange;
use super::replies::{Expect, Place};
use super::statements::Given;
use super::wire::{body, message_with_rest, our_name, string};
use crate::postgres::sql;

/// Of the connection's unnamed statement: no name of ours.
pub(super) const NO_PLACE: u32 = 0;

/// How statements begin whose columns the server does not compare either: they are those of another statement, of a cursor, or a setting's name.
const UNCOMPARED: [&[u8]; 3] = [b"execute", b"fetch", b"show"];

/// A number that stands for the names and types of columns, on one worker.
pub(super) type Shape = u64;

/// What the client hears in place of the server's refusal; drivers look at the code, and at the place in the source that says which of its meanings this is.
pub(super) const CHANGED: &[u8] =
    b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0Fplancache.c\0RRevalidateCachedQuery\0\0";

impl Exchange<'_> {
    /// True: this Bind has to wait, until the server has said which columns its statement has here.
    pub(super) fn asks_for_columns(&mut self, bind: &[u8]) -> bool {
        if !self.client.rewrites || self.server.skipping || self.server.copying {
            return false;
        }
        let Some((name, _)) = string(body(bind)).and_then(|(_, rest)| string(rest)) else { return false };
        let Some(statement) = self.client.names.find(name).cloned() else { return false };
        let Some(told) = statement.told.get() else { return false };
        if self.stays(name, &statement)
            || self.server.prepared.shape(statement.number).is_some_and(|(here, is_news)| is_news || here == told)
        {
            return false;
        }
        self.server.unsynced = true;
        if let Some(old) = self.server.prepared.confirmed(statement.number) {
            self.server.orphans.push(old);
        }
        let place = self.prepare(&statement);
        message_with_rest(&mut self.server.up, b'D', 0, |up| {
            up.extend_from_slice(b"S");
            our_name(up, place);
        });
        self.server.replies.push(Expect::Columns((statement.number, place)));
        message_with_rest(&mut self.server.up, b'H', 0, |_| {});
        true
    }

    /// The statement's columns are others here than the client was told; or not known, where a batch is sent again because they have changed.
    pub(super) fn has_changed(&self, name: &[u8], statement: &Given) -> bool {
        let here = || self.server.prepared.shape(statement.number).map(|(here, _)| here);
        statement.told.get().is_some_and(|told| here() != Some(told)) && !self.stays(name, statement)
    }

    /// One whose text is not kept stays where it is, and so does its client. The unnamed one is what it was within its batch.
    fn stays(&self, name: &[u8], statement: &Given) -> bool {
        statement.body.is_empty() || self.is_unnamed(name, statement.number)
    }

    /// RowDescription or NoData (`kind`) about one of our statements, for us or for the client that calls it so. False: it makes no sense.
    pub(super) fn described(&mut self, (number, place): Place, kind: u8, body: &[u8], given: Option<&Given>) -> bool {
        let Some(shape) = self.shape(kind, body) else { return false };
        self.server.prepared.describe(number, place, shape, given.is_none());
        if let Some(given) = given.filter(|given| !sql::begins_with(&given.body, &UNCOMPARED)) {
            given.told.set(Some(shape));
        }
        true
    }

    /// Names, types and type modifiers: what the server compares. Not the tables they come from, nor the formats, which are a portal's.
    fn shape(&self, kind: u8, body: &[u8]) -> Option<Shape> {
        let mut hasher = self.statements.hasher();
        if kind == b'T' {
            let (_, mut columns) = body.split_first_chunk::<2>()?;
            while !columns.is_empty() {
                let (name, rest) = string(columns)?;
                // Table, column number, type, length, modifier, format.
                let (fields, rest) = rest.split_first_chunk::<18>()?;
                hasher.write(name);
                hasher.write_u8(0);
                hasher.write(fields.get(6..16)?);
                columns = rest;
            }
            hasher.write_u8(1);
        }
        Some(hasher.finish())
    }
}
