//! `[pure]` Is a relayed client idle? Asked only when the process drains, answered from message headers alone.
//!
//! Both directions are framed as they pass, a few instructions per message, nothing kept. Each Query, Sync and FunctionCall is owed one
//! ReadyForQuery; the client is idle when none is owed, the last one said "not in a transaction", no extended message waits for its Sync,
//! and both directions stand between two messages.
//!
//! The odd case is COPY FROM STDIN. While it runs the server ignores Sync, and drivers send one all the same: right behind Execute, before
//! they know that a COPY has begun. So CopyInResponse forgives the Syncs that were sent before the copy's end.
//!
//! Errs on one side only: whatever cannot be known counts as busy, if need be for good (an error in a pipelined batch that skips a Query, a
//! COPY that failed with a Sync somewhere in it, replication, bytes that are not the protocol).

/// Follows one client's two directions from AuthenticationOk on. 48 bytes, no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    client: Side,
    upstream: Side,
    /// ReadyForQuery owed for Query, FunctionCall and for the start of the session.
    queries_owed: u32,
    /// ReadyForQuery owed for Sync.
    syncs_owed: u32,
    /// Of `syncs_owed`, those sent behind the last CopyDone or CopyFail.
    syncs_since_copy_end: u32,
    /// CopyDone and CopyFail whose CopyInResponse has not been seen.
    copy_ends: u32,
    /// Extended-protocol messages were sent since the last Sync.
    batch_open: bool,
    /// The server reads CopyData and the client has not sent the end of it.
    copying: bool,
    /// A Sync was taken as ignored in the copy that is not answered yet.
    sync_ignored: bool,
    /// Queries and Syncs were owed at the same time, so it is not known which of them the last ReadyForQuery answered.
    mixed: bool,
    /// The status of the last ReadyForQuery is `I`.
    outside_transaction: bool,
    /// The count is off and stays off.
    lost: bool,
}

impl Default for Boundary {
    fn default() -> Self {
        Self::new()
    }
}

impl Boundary {
    /// After AuthenticationOk: the server owes its first ReadyForQuery.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: Side::default(),
            upstream: Side::default(),
            queries_owed: 1,
            syncs_owed: 0,
            syncs_since_copy_end: 0,
            copy_ends: 0,
            batch_open: false,
            copying: false,
            sync_ignored: false,
            mixed: false,
            outside_transaction: false,
            lost: false,
        }
    }

    /// True when the connection can be closed without the client missing anything: nothing owed, no transaction, no half message.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.lost
            && self.outside_transaction
            && !self.is_owed()
            && !self.batch_open
            && !self.copying
            && self.client.is_between()
            && self.upstream.is_between()
    }

    /// The next bytes from the client, cut anywhere. Call it before they are sent on, so that an answer is never counted before its question.
    pub fn on_client(&mut self, mut bytes: &[u8]) {
        while !self.lost && !bytes.is_empty() {
            match self.client.take(&mut bytes) {
                Found::Nothing | Found::Body(..) => {}
                Found::Header(kind, _) => self.client_sent(kind),
                Found::Nonsense => self.lost = true,
            }
        }
    }

    /// The next bytes from the upstream, cut anywhere.
    pub fn on_upstream(&mut self, mut bytes: &[u8]) {
        while !self.lost && !bytes.is_empty() {
            match self.upstream.take(&mut bytes) {
                Found::Nothing => {}
                Found::Header(b'Z', body) if body != 1 => self.lost = true,
                Found::Header(kind, _) => self.upstream_sent(kind),
                Found::Body(b'Z', status) => self.ready(status),
                Found::Body(..) => {}
                Found::Nonsense => self.lost = true,
            }
        }
    }

    fn client_sent(&mut self, kind: u8) {
        match kind {
            b'S' if self.copying => self.sync_ignored = true,
            b'c' | b'f' if self.copying => self.copying = false,
            // Anything else ends the copy with an error, and which Sync the server resumes at is its affair.
            _ if self.copying => self.lost |= !matches!(kind, b'd' | b'H' | b'X'),
            b'Q' | b'F' => {
                self.batch_open = false;
                self.mixed |= self.syncs_owed > 0;
                self.queries_owed = self.counted(self.queries_owed);
            }
            b'S' => {
                self.batch_open = false;
                self.mixed |= self.queries_owed > 0;
                self.syncs_owed = self.counted(self.syncs_owed);
                if self.copy_ends > 0 {
                    self.syncs_since_copy_end = self.counted(self.syncs_since_copy_end);
                }
            }
            // Ahead of a CopyInResponse that is still on its way; or a straggler of a copy that failed, which the server ignores.
            b'c' | b'f' if self.batch_open || self.is_owed() => {
                self.copy_ends = self.counted(self.copy_ends);
                self.syncs_since_copy_end = 0;
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => self.batch_open = true,
            _ => {}
        }
    }

    fn upstream_sent(&mut self, kind: u8) {
        match kind {
            b'G' => self.copy_began(),
            // The error may have come before the Sync that was taken as ignored; then that one is answered after all.
            b'E' if self.sync_ignored => self.lost = true,
            b'E' => self.copying = false,
            // CopyBothResponse: a replication stream, which has no idle moment.
            b'W' => self.lost = true,
            _ => {}
        }
    }

    /// CopyInResponse. All that was asked before the copy's own command is answered by now, so every Sync still owed was sent behind it, and
    /// those sent ahead of the copy's end are ignored.
    fn copy_began(&mut self) {
        if self.mixed || self.queries_owed > 1 || self.copy_ends > 1 {
            self.lost = true;
            return;
        }
        let kept = if self.copy_ends == 0 { 0 } else { self.syncs_since_copy_end };
        self.sync_ignored |= self.syncs_owed > kept;
        self.syncs_owed = kept;
        // Begun by Execute, and its Sync ignored: the batch still lacks one.
        self.batch_open |= self.queries_owed == 0 && kept == 0;
        self.copying = self.copy_ends == 0;
        self.copy_ends = 0;
        self.syncs_since_copy_end = 0;
    }

    fn ready(&mut self, status: u8) {
        self.outside_transaction = status == b'I';
        if let Some(rest) = self.queries_owed.checked_sub(1) {
            self.queries_owed = rest;
        } else if let Some(rest) = self.syncs_owed.checked_sub(1) {
            self.syncs_owed = rest;
        } else {
            self.lost = true;
        }
        if !self.is_owed() {
            self.copy_ends = 0;
            self.syncs_since_copy_end = 0;
            self.sync_ignored = false;
            self.mixed = false;
            self.copying = false;
        }
    }

    fn is_owed(&self) -> bool {
        self.queries_owed > 0 || self.syncs_owed > 0
    }

    /// One more; a count that cannot be kept is a count that is lost.
    fn counted(&mut self, count: u32) -> u32 {
        self.lost |= count == u32::MAX;
        count.saturating_add(1)
    }
}

/// One direction: where in a message it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Side {
    header: [u8; 5],
    header_bytes: u8,
    body_left: u32,
}

enum Found {
    /// Part of a header, or a body in passing.
    Nothing,
    /// A whole header: type, length of the body.
    Header(u8, u32),
    /// The end of a body: type, last byte.
    Body(u8, u8),
    /// Not a message.
    Nonsense,
}

impl Side {
    fn is_between(&self) -> bool {
        self.header_bytes == 0 && self.body_left == 0
    }

    /// Takes at least one byte off `bytes`, at most to the end of a header or a body.
    fn take(&mut self, bytes: &mut &[u8]) -> Found {
        let [kind, ..] = self.header;
        if self.body_left > 0 {
            let left = usize::try_from(self.body_left).unwrap_or(usize::MAX);
            let (skipped, rest) = bytes.split_at(left.min(bytes.len()));
            *bytes = rest;
            self.body_left = self.body_left.saturating_sub(u32::try_from(skipped.len()).unwrap_or(u32::MAX));
            return match skipped.last() {
                Some(byte) if self.body_left == 0 => Found::Body(kind, *byte),
                _ => Found::Nothing,
            };
        }
        if let Some((header, rest)) = bytes.split_first_chunk::<5>().filter(|_| self.header_bytes == 0) {
            self.header = *header;
            *bytes = rest;
        } else {
            let Some((first, rest)) = bytes.split_first() else { return Found::Nothing };
            *bytes = rest;
            if let Some(place) = self.header.get_mut(usize::from(self.header_bytes)) {
                *place = *first;
            }
            self.header_bytes = self.header_bytes.saturating_add(1);
            if self.header_bytes < 5 {
                return Found::Nothing;
            }
            self.header_bytes = 0;
        }
        let [kind, length @ ..] = self.header;
        match u32::try_from(i32::from_be_bytes(length)).ok().and_then(|length| length.checked_sub(4)) {
            Some(body) => {
                self.body_left = body;
                Found::Header(kind, body)
            }
            None => Found::Nonsense,
        }
    }
}

/// For fuzzing: foreign bytes on both sides, in chunks; cutting them differently must not matter. Must never panic or loop.
pub fn fuzz(data: &[u8]) {
    let (mut whole, mut bytewise) = (Boundary::new(), Boundary::new());
    for (index, chunk) in data.chunks(23).enumerate() {
        let feed = if index % 2 == 0 { Boundary::on_client } else { Boundary::on_upstream };
        feed(&mut whole, chunk);
        chunk.iter().for_each(|byte| feed(&mut bytewise, std::slice::from_ref(byte)));
    }
    assert_eq!(whole, bytewise);
}

#[cfg(test)]
mod tests;
