//! Settings put right, commands followed, what is left behind asked for: our own words to the server.

use std::rc::Rc;

use bytes::BytesMut;

use super::idle::AUTHORITY;
use super::replies::{Done, Expect, Follow, Undo};
use super::wire::{OUR_NAME, message_with_rest, our_name};
use super::{Exchange, Server};
use crate::broker::params::Change;
use crate::postgres::reply;
use crate::postgres::sql::Command;
use crate::postgres::traces::Traces;

/// Settings changed by one statement at most; PostgreSQL takes 100 arguments, and there are three dozen settings that anybody follows.
const MAX_CHANGES: usize = 50;

/// So many commands bound to portals are followed at a time.
const MAX_BOUND: usize = 16;

/// What of [`Traces::PROBED`] is there, in the order of [`PROBES`]. Everything is named with its schema, whatever the client's search path.
/// Functions and types can be temporary as tables can: whatever it is depends on its schema.
const PROBE: &[u8] = b"SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()), \
EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
AND refobjid = pg_catalog.pg_my_temp_schema()), \
EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql), \
EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
current_user <> session_user\0";

/// The columns of [`PROBE`].
const PROBES: [Traces; 6] = [Traces::LOCK, Traces::LISTEN, Traces::TEMP, Traces::PREPARE, Traces::HOLD, Traces::ROLE];

impl Exchange<'_> {
    /// Before the first message of a rested connection: what it lacks of the client's settings goes in front.
    pub(super) fn put_settings_right(&mut self) {
        if Rc::ptr_eq(&self.server.params, &self.client.params) {
            return;
        }
        let changes = self.server.params.changes_to(&self.client.params);
        if changes.is_empty() {
            if self.server.params == self.client.params {
                self.server.params = Rc::clone(&self.client.params);
            }
            return;
        }
        // What goes behind them in the same write would be done even if they failed, under another client's settings. That can only be when the
        // other client's own limits end them (cancels wait until they are done): then they are waited for.
        self.server.is_careful = self.server.params.has_limits();
        for some in changes.chunks(MAX_CHANGES) {
            set(&mut self.server.up, some);
            self.server.replies.push(Expect::Settings);
        }
        self.server.unnamed = None;
        // Said before it is done: if it fails the connection is lost.
        self.server.params = Rc::clone(&self.client.params);
    }

    /// Asks what of the client is still there, if that is worth it. Only at rest. True when there is a question to be sent.
    pub fn probe(&mut self) -> bool {
        let server = &mut *self.server;
        if !server.doubtful || !server.traces.has(Traces::PROBED) {
            return false;
        }
        server.doubtful = false;
        server.unnamed = None;
        server.unit_state = super::Unit::Spoilt;
        message_with_rest(&mut server.up, b'Q', 0, |up| up.extend_from_slice(PROBE));
        server.replies.push(Expect::Probe);
        true
    }

    /// Before a client asks what its session got from sequences (`currval`, `lastval`): what they gave to another client of the connection is
    /// not to be seen. It hears that nothing is there yet, as on any new connection, and from then on keeps this one.
    pub(super) fn guard_sequences(&mut self, leaves: Traces) {
        self.client.counts_on_sequences |= leaves.has(Traces::SEQUENCE);
        let server = &mut *self.server;
        if !self.client.rewrites
            || !self.client.counts_on_sequences
            || [0, self.client.id].contains(&server.sole_client)
            || server.unsynced
            || server.status != b'I'
        {
            return;
        }
        server.sole_client = self.client.id;
        message_with_rest(&mut server.up, b'Q', 0, |up| up.extend_from_slice(b"DISCARD SEQUENCES\0"));
        server.unnamed = None;
        server.replies.push(Expect::Settings);
    }

    /// A command that is bound to a portal: it must be followed when it is run, or something else must be bound in its place.
    pub(super) fn bind_command(&mut self, command: &Command, portal: &[u8]) -> (Option<u32>, Undo) {
        let follow = match command {
            Command::Deallocate(name) if !name.is_empty() && self.client.names.find(name).is_some() => {
                // The server does not know that name. It deallocates one that it knows and nobody uses: same tag, same place, same fate.
                let was = self.client.names.put(name, None);
                let number = self.statements.next_number();
                let decoy = self.new_place(number);
                self.push_parse(decoy, b"\0\0\0");
                self.server.replies.push(Expect::Parse { theirs: false, undo: Undo::Nothing });
                let number = self.statements.next_number();
                let place = self.new_place(number);
                message_with_rest(&mut self.server.up, b'P', 0, |up| {
                    our_name(up, place);
                    up.extend_from_slice(b"DEALLOCATE ");
                    our_name(up, decoy);
                    up.extend_from_slice(b"\0\0");
                });
                self.server.replies.push(Expect::Parse { theirs: false, undo: Undo::Nothing });
                return (Some(place), Undo::Name(name.clone(), was));
            }
            Command::Deallocate(_) => return (None, Undo::Nothing),
            Command::DeallocateAll => Follow::DeallocateAll,
            Command::DiscardAll => Follow::DiscardAll,
            Command::Set { name, value: Some(value) } => Follow::Set(name.clone(), value.clone()),
            Command::Set { name, value: None } => Follow::Default(name.clone()),
            Command::ResetAll => Follow::ResetAll,
        };
        if self.client.bound.len() == MAX_BOUND {
            // Nobody runs so many in one transaction.
            drop(self.client.bound.remove(0));
            self.leaves(Traces::SETTING, true);
        }
        self.client.bound.push((portal.into(), follow));
        (None, Undo::Nothing)
    }

    /// What the server lacks of the client's own defaults when it has returned to its own.
    pub(super) fn own_defaults(&self, follow: &Follow) -> Vec<Change> {
        let is_meant = |name: &[u8]| match follow {
            Follow::Default(one) => one.eq_ignore_ascii_case(name),
            Follow::ResetAll => !AUTHORITY.contains(&name),
            Follow::DiscardAll => true,
            Follow::Set(..) | Follow::DeallocateAll => false,
        };
        if !follow.returns_to_defaults() {
            return Vec::new();
        }
        let all = self.server.base.changes_to(&self.client.defaults);
        all.into_iter().filter(|(name, value)| value.is_some() && is_meant(name)).collect()
    }

    /// Behind an Execute that returns to the server's defaults: to the client's own, within the same transaction and with the same fate.
    pub(super) fn return_in_batch(&mut self, follow: &Follow) {
        let changes = self.own_defaults(follow);
        // It is committed at once, and what is behind it may be taken back.
        self.server.returns |= *follow == Follow::DiscardAll && !changes.is_empty();
        for some in changes.chunks(MAX_CHANGES) {
            set_within(&mut self.server.up, some);
            self.server.replies.push(Expect::Return(6));
        }
    }

    /// True when it is an answer to [what we have put into a batch](Self::return_in_batch).
    pub(super) fn returned(&mut self, kind: u8) -> bool {
        let Some(Expect::Return(left)) = self.server.replies.first_mut() else { return false };
        match kind {
            b'D' => return true,
            b'1' | b'2' | b'3' | b'C' => *left -= 1,
            _ => return false,
        }
        if *left == 0 {
            drop(self.server.replies.pop());
        }
        true
    }

    /// ReadyForQuery has come behind commands that succeeded. `within`: a transaction was open before or is now.
    pub(super) fn follow(&mut self, done: Vec<Done>, within: bool, down: &mut BytesMut) {
        let rolled_back = std::mem::take(&mut self.server.rolled_back);
        for Done { follow, in_batch } in done {
            match follow {
                // The server has said so itself, and will say so too when a transaction takes it back.
                Follow::Set(name, _) if self.server.params.is_reported(&name) => {}
                // What is prepared was forgotten when it was sent.
                Follow::DeallocateAll => {}
                Follow::DiscardAll if in_batch && !rolled_back => {
                    self.server.forget(self.server.traces);
                    self.returned_to_own();
                }
                Follow::DiscardAll => {
                    self.server.reset();
                    self.client.return_to_defaults(down);
                }
                // Whatever transaction was open is over.
                Follow::ResetAll if !in_batch && self.server.status == b'I' => {
                    Rc::make_mut(&mut self.server.params).forget_asked();
                    self.server.forget(Traces::SETTING);
                    self.client.reset_all(down);
                    self.share_params();
                }
                // A transaction that fails would take it back without a word.
                _ if within || rolled_back => {
                    self.server.traces |= Traces::SETTING;
                    if follow.returns_to_defaults() && !in_batch {
                        self.return_reported(&follow, down);
                        self.return_in_transaction(&follow);
                    }
                }
                Follow::Set(name, value) => {
                    Rc::make_mut(&mut self.server.params).ask(&name, Some(&value));
                    Rc::make_mut(&mut self.client.params).ask(&name, Some(&value));
                    self.share_params();
                }
                Follow::Default(name) if in_batch => {
                    let value = self.client.defaults.value(&name).map(<[u8]>::to_vec);
                    Rc::make_mut(&mut self.server.params).ask(&name, value.as_deref());
                    Rc::make_mut(&mut self.client.params).ask(&name, value.as_deref());
                    self.share_params();
                }
                Follow::ResetAll => {
                    self.server.forget(Traces::SETTING);
                    self.returned_to_own();
                }
                Follow::Default(name) => {
                    Rc::make_mut(&mut self.server.params).ask(&name, None);
                    let wanted = self.client.defaults.value(&name).map(<[u8]>::to_vec);
                    let params = Rc::make_mut(&mut self.client.params);
                    match &wanted {
                        Some(value) if self.server.params.is_reported(&name) => {
                            if params.value(&name) != Some(value) {
                                let name = params.proper_name(&name).to_vec();
                                reply::parameter_status(down, &name, value);
                                params.report(&name, value);
                            }
                        }
                        wanted => params.ask(&name, wanted.as_deref()),
                    }
                    self.share_params();
                }
            }
        }
    }

    /// Both have the client's defaults, as far as the server does not say itself what it has.
    fn returned_to_own(&mut self) {
        Rc::make_mut(&mut self.server.params).ask_as(&self.client.defaults);
        Rc::make_mut(&mut self.client.params).ask_as(&self.client.defaults);
        self.share_params();
    }

    /// A Query has returned to the server's defaults, and the transaction goes on: it is to go on under the client's own.
    fn return_in_transaction(&mut self, follow: &Follow) {
        if self.server.status != b'T' {
            return;
        }
        for some in self.own_defaults(follow).chunks(MAX_CHANGES) {
            set_within(&mut self.server.up, some);
            message_with_rest(&mut self.server.up, b'S', 0, |_| {});
            self.server.replies.push(Expect::Settings);
        }
    }

    /// A RESET within a transaction. Reported settings are the client's defaults from now on, and put right when the transaction is over; one that
    /// is rolled back reports what they are then.
    fn return_reported(&mut self, follow: &Follow, down: &mut BytesMut) {
        let client = &mut *self.client;
        let defaults = Rc::clone(&client.defaults);
        for (name, value) in defaults.all_reported() {
            let is_meant = match follow {
                Follow::Default(one) => one.eq_ignore_ascii_case(name),
                _ => !AUTHORITY.contains(&name),
            };
            if is_meant && client.params.value(name) != Some(value) {
                reply::parameter_status(down, name, value);
                Rc::make_mut(&mut client.params).report(name, value);
            }
        }
    }

    /// Equal settings in one place are compared by their place alone.
    pub(super) fn share_params(&mut self) {
        if *self.server.params == *self.client.params {
            self.client.params = Rc::clone(&self.server.params);
        }
    }

    /// The server has reported a setting. True when the client is to hear of it.
    pub(super) fn reported(&mut self, body: &[u8]) -> bool {
        let mut parts = body.split(|byte| *byte == 0);
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return true };
        let shared = Rc::ptr_eq(&self.server.params, &self.client.params);
        if self.server.params.value(name) != Some(value) {
            Rc::make_mut(&mut self.server.params).report(name, value);
        }
        let silent = match self.server.replies.first() {
            Some(Expect::Query(Some(note))) => note.follow.as_ref().is_some_and(Follow::returns_to_defaults),
            _ => false,
        };
        // One that has failed has returned nothing: its transaction is taken back.
        if silent && !self.server.failed || self.client.params.value(name) == Some(value) {
            return false;
        }
        if shared {
            self.client.params = Rc::clone(&self.server.params);
        } else {
            Rc::make_mut(&mut self.client.params).report(name, value);
        }
        true
    }
}

impl Server {
    /// The answer to [`PROBE`]: a DataRow's body.
    pub(super) fn probed(&mut self, row: &[u8]) {
        if self.doubtful {
            // The client has sent more since the question was: it is asked again.
            return;
        }
        let mut left = Traces::NONE;
        let mut rest = row.get(2..).unwrap_or_default();
        for trace in PROBES {
            // Each column is one byte, `t` or `f`, behind its length. Whatever else is there says that we know nothing.
            let Some((column, behind)) = rest.split_at_checked(5) else { return };
            if column != [0, 0, 0, 1, b'f'] {
                left |= trace;
            }
            rest = behind;
        }
        self.traces = self.traces.without(Traces::PROBED) | left;
    }
}

/// `SELECT set_config(…), …` with the values beside the text: nothing of a client's is ever read as SQL. NULL is the default.
pub(in crate::broker) fn set(up: &mut BytesMut, changes: &[Change]) {
    set_by(up, b"", changes);
    message_with_rest(up, b'S', 0, |_| {});
}

/// Without a Sync; `name` is that of the statement and of the portal.
fn set_by(up: &mut BytesMut, name: &[u8], changes: &[Change]) {
    message_with_rest(up, b'P', 0, |up| {
        up.extend_from_slice(name);
        up.extend_from_slice(b"\0SELECT ");
        for index in 0..changes.len() {
            let comma = if index == 0 { "" } else { ", " };
            up.extend_from_slice(format!("{comma}pg_catalog.set_config(${}, ${}, false)", 2 * index + 1, 2 * index + 2).as_bytes());
        }
        up.extend_from_slice(b"\0\0\0");
    });
    message_with_rest(up, b'B', 0, |up| {
        for part in [name, b"\0", name, b"\0\0\0"] {
            up.extend_from_slice(part);
        }
        // At most twice MAX_CHANGES.
        up.extend_from_slice(&u16::try_from(2 * changes.len()).unwrap_or(0).to_be_bytes());
        for (name, value) in changes {
            argument(up, Some(name));
            argument(up, value.as_deref());
        }
        up.extend_from_slice(&[0, 0]);
    });
    message_with_rest(up, b'E', 0, |up| {
        up.extend_from_slice(name);
        up.extend_from_slice(&[0, 0, 0, 0, 0]);
    });
}

/// In the midst of what a client does: its unnamed statement and portal stay.
pub(super) fn set_within(up: &mut BytesMut, changes: &[Change]) {
    // One that failed may have left it there.
    close(up, b"S");
    set_by(up, OUR_NAME, changes);
    close(up, b"S");
    close(up, b"P");
}

/// Close of our own statement or portal.
fn close(up: &mut BytesMut, what: &[u8]) {
    message_with_rest(up, b'C', 0, |up| {
        for part in [what, OUR_NAME, b"\0"] {
            up.extend_from_slice(part);
        }
    });
}

fn argument(up: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            up.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
            up.extend_from_slice(value);
        }
        None => up.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}
