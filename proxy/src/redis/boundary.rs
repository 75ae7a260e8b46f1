//! Is a relayed client idle? Asked once, when the process drains; until then the bytes are only counted.
//!
//! Requests are counted against replies. Nothing is held back and nothing changed: when the count is in doubt the answer is *no*, and the
//! relay falls back to waiting until the connection has been quiet for a while. `[pure]`

use super::frame::{ReplyKind, ReplyScanner, RequestKind, RequestScanner};

/// Follows both directions of one connection from its first byte. 120 bytes, no allocation.
///
/// What it cannot know: a client that turned replies off (CLIENT REPLY OFF) is never idle; a subscriber on RESP2 gets messages that look like
/// replies, so one that has commands under way at that moment may count as idle too early. A client inside MULTI whose commands were all
/// queued counts as idle: the transaction is not lost half-way, it has not begun.
#[derive(Clone, Debug, Default)]
pub struct Boundary {
    requests: RequestScanner,
    replies: ReplyScanner,
    /// Requests without a reply.
    owed: u64,
    /// One side broke the protocol: where frames end is no longer known.
    lost: bool,
}

impl Boundary {
    /// A tracker for a connection on which nothing has been sent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` come from the client. To be called *before* they are written to the upstream, or a quick reply is counted ahead of its request.
    pub fn on_client(&mut self, mut bytes: &[u8]) {
        while !self.lost {
            match self.requests.next(bytes) {
                Ok(Some(request)) => {
                    self.owed = self.owed.saturating_add(u64::from(request.kind != RequestKind::Nothing));
                    bytes = bytes.get(request.end..).unwrap_or_default();
                }
                Ok(None) => return,
                Err(_) => self.lost = true,
            }
        }
    }

    /// `bytes` come from the upstream.
    pub fn on_upstream(&mut self, mut bytes: &[u8]) {
        while !self.lost {
            match self.replies.next(bytes) {
                Ok(Some(reply)) => {
                    let answers = match reply.kind {
                        ReplyKind::Reply | ReplyKind::Subscription => 1,
                        ReplyKind::Push => 0,
                    };
                    // RESP2 messages and the second channel of a SUBSCRIBE answer nothing that is owed.
                    self.owed = self.owed.saturating_sub(answers);
                    bytes = bytes.get(reply.end..).unwrap_or_default();
                }
                Ok(None) => return,
                Err(_) => self.lost = true,
            }
        }
    }

    /// True when every request has its reply and neither side is inside a frame: closing now loses nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.lost && self.owed == 0 && self.requests.at_boundary() && self.replies.at_boundary()
    }

    /// True when one side broke the protocol. It stays so, and the client is never idle.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}

#[cfg(test)]
mod tests;
