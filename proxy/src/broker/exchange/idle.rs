//! From a client that has no connection: what is answered here, and when it needs one.

use std::rc::Rc;

use bytes::BytesMut;

use super::requests::{Passing, whole_limit};
use super::statements::Names;
use super::wire::{body, header, string};
use super::{Broken, Client};
use crate::broker::params::Params;
use crate::postgres::reply::{self, Status};
use crate::postgres::sql::{self, Command};

/// What SET SESSION AUTHORIZATION changes.
pub(super) const AUTHORITY: [&[u8]; 2] = [b"session_authorization", b"is_superuser"];

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
                b'H' | b'd' | b'c' | b'f' | b'P' | b'B' | b'D' | b'E' | b'C' | b'Q' | b'F'
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
                self.names = Names::default();
                "DEALLOCATE ALL"
            }
            Some(Command::DiscardAll) => {
                self.names = Names::default();
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

    /// As `return_to_defaults`, but for whose authority it has: that is not a setting to RESET ALL.
    pub(super) fn reset_all(&mut self, down: &mut BytesMut) {
        let before = Rc::clone(&self.params);
        let kept = AUTHORITY.map(|name| (name, before.value(name).filter(|value| self.defaults.value(name) != Some(value))));
        if kept.iter().all(|(_, value)| value.is_none()) {
            return self.return_to_defaults(down);
        }
        let mut params = Params::clone(&self.defaults);
        for (name, value) in kept.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            params.report(name, value);
        }
        for (name, value) in params.all_reported() {
            if before.value(name) != Some(value) {
                reply::parameter_status(down, name, value);
            }
        }
        self.params = Rc::new(params);
    }
}
