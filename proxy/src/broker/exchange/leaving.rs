//! A client has gone in the middle: what it has begun ends, and nothing of it is done by half.

use super::Server;
use super::replies::{Expect, Undo};
use super::wire::{Target, message_with_rest};

impl Server {
    /// The client has gone between two messages: what it has begun is brought to its end, and not done by half. To be called again
    /// after each of the server's words: a COPY may begin only now.
    pub fn conclude(&mut self) {
        if std::mem::take(&mut self.copying) {
            message_with_rest(&mut self.up, b'f', 0, |up| up.extend_from_slice(b"the client has gone\0"));
            self.replies.push(Expect::CopyEnd);
        }
        if std::mem::take(&mut self.unsynced) && !self.skipping {
            // The Sync alone would commit what the client has not: something that fails goes before it.
            message_with_rest(&mut self.up, b'B', 0, |up| {
                up.extend_from_slice(b"\0");
                Target::Nobodys.push(up, b"_rtp_");
                up.extend_from_slice(&[0; 6]);
            });
            self.replies.push(Expect::Bind(None, Undo::Nothing));
            self.skipping = true;
        }
        if std::mem::take(&mut self.skipping) {
            self.end_batch();
        }
    }

    /// A Sync of ours.
    pub(super) fn end_batch(&mut self) {
        message_with_rest(&mut self.up, b'S', 0, |_| {});
        self.prepared.next_batch();
        self.replies.push(Expect::Sync);
    }

    /// The client has gone and nothing is owed: ends its transaction, if there is one. False: there is none.
    pub fn roll_back(&mut self) -> bool {
        if !self.is_in_transaction() {
            return false;
        }
        message_with_rest(&mut self.up, b'Q', 0, |up| up.extend_from_slice(b"ROLLBACK\0"));
        self.unnamed = None;
        self.replies.push(Expect::Query(None));
        true
    }
}
