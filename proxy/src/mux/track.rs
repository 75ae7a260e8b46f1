//! What a client has left on the connection of its own: whether it may go back to sharing, and what has to be done to the connection then.
//! `[pure]`

use std::collections::VecDeque;

use crate::redis::class::{Class, Local, Pinning, Transaction};

/// Requests of one client that may be on their way before their replies are read. Beyond it nothing more is read from the client.
pub const MAX_EXPECTED: usize = 64 * 1024;
/// Bytes of a reply that [`Track::reply`] needs to see.
pub const REPLY_HEAD: usize = 16;

/// What a reply will decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Plain,
    /// Nothing, and the client has not asked for it.
    Swallow,
    /// Whether the transaction is over indeed, and the watch with it.
    Exec,
    /// The same.
    Discard,
    /// Whether the watch is over indeed.
    Unwatch,
    /// Whether a login was right.
    Login,
    /// That it no longer blocks.
    Blocking,
    /// The client's database from now on.
    Select(u32),
    /// The client's RESP version from now on.
    Hello(bool),
    /// That everything is as on a new connection, but for the login.
    Reset,
}

/// What a reply has changed for the client itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It has selected this database.
    Database(u32),
    /// It speaks RESP3, or RESP2.
    Resp3(bool),
    /// It is as new.
    Reset,
}

/// What to do with the connection when the client no longer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is as it was.
    Reuse,
    /// RESET makes it so.
    Clean,
    /// Nobody knows what would.
    Close,
}

/// Follows one client on its connection.
#[derive(Debug, Default)]
pub struct Track {
    expected: VecDeque<(Expect, usize)>,
    owed: usize,
    watching: bool,
    in_multi: bool,
    /// SELECT or HELLO among the commands of a transaction, or an EXEC that was refused: what the state is is not known.
    unsure: bool,
    /// State that only RESET takes away.
    stays: bool,
    /// It bears the client's name.
    named: bool,
    /// State that not even RESET takes away, or nobody knows.
    indelible: bool,
    /// State that nothing takes away, or nobody knows.
    forever: bool,
    /// It is of no use to others, though the client may go on with it.
    outlived: bool,
    /// Behind the replies that are owed, replies can no longer be told from messages that nobody asked for.
    uncounted: bool,
    /// Blocking commands without a reply.
    blocking: usize,
}

impl Track {
    /// A request of `class` goes to the server, with this meaning where it concerns the client itself.
    pub fn request(&mut self, class: Class, meaning: Option<Expect>) {
        let expect = match class {
            Class::Transaction(Transaction::Multi) => {
                self.in_multi = true;
                Expect::Plain
            }
            Class::Transaction(Transaction::Watch) => {
                self.watching |= !self.in_multi;
                Expect::Plain
            }
            // The next request may follow before the reply: what it finds is decided here, and the reply only has to agree.
            Class::Transaction(end @ (Transaction::Exec | Transaction::Discard)) if self.in_multi => {
                (self.in_multi, self.watching) = (false, false);
                if end == Transaction::Exec { Expect::Exec } else { Expect::Discard }
            }
            Class::Transaction(Transaction::Unwatch) if !self.in_multi => {
                self.watching = false;
                Expect::Unwatch
            }
            Class::Blocking => {
                self.blocking += 1;
                Expect::Blocking
            }
            Class::Pinning(Pinning::Subscribe | Pinning::Monitor | Pinning::Silent) => {
                (self.uncounted, self.forever) = (true, true);
                return;
            }
            Class::Pinning(Pinning::Connection) | Class::Local(Local::SetName) => {
                self.stays = true;
                Expect::Plain
            }
            Class::Pinning(Pinning::Forever) | Class::Unknown => {
                self.indelible = true;
                self.forever = true;
                Expect::Plain
            }
            Class::Local(Local::Select | Local::Hello) if self.in_multi => {
                self.unsure = true;
                Expect::Plain
            }
            Class::Local(Local::Auth) => {
                self.stays = true;
                Expect::Login
            }
            _ => meaning.unwrap_or(Expect::Plain),
        };
        self.expect(expect);
    }

    /// False when RESET makes the connection as good as new.
    #[must_use]
    pub fn is_indelible(&self) -> bool {
        self.indelible
    }

    /// The client has given the connection a name itself.
    pub fn note_name(&mut self) {
        self.named = true;
    }

    /// The connection is given the client's name, by a request of the proxy's own.
    pub fn name(&mut self) {
        self.named = true;
        self.own_request();
    }

    /// A request of the proxy's own, whose reply the client does not see.
    pub fn own_request(&mut self) {
        self.expect(Expect::Swallow);
    }

    fn expect(&mut self, expect: Expect) {
        if self.uncounted {
            return;
        }
        self.owed += 1;
        match self.expected.back_mut() {
            Some((last, count)) if *last == expect => *count += 1,
            _ => self.expected.push_back((expect, 1)),
        }
    }

    /// What the reply in hand is to; `None` when nothing is owed.
    #[must_use]
    pub fn next(&self) -> Option<Expect> {
        self.expected.front().map(|(expect, _)| *expect)
    }

    /// A whole reply has come that begins with `head` (up to [`REPLY_HEAD`] bytes).
    pub fn reply(&mut self, head: &[u8]) -> Change {
        let Some((expect, count)) = self.expected.front_mut() else { return Change::None };
        let expect = *expect;
        *count -= 1;
        if *count == 0 {
            self.expected.pop_front();
        }
        self.owed -= 1;
        let ok = head.starts_with(b"+OK");
        // The connection is to a server that has become a replica, or no longer knows the login: the next client gets another.
        self.outlived |= head.starts_with(b"-READONLY") || head.starts_with(b"-NOAUTH");
        match expect {
            Expect::Plain | Expect::Swallow | Expect::Login => {}
            Expect::Exec if !head.starts_with(b"-") || head.starts_with(b"-EXECABORT") => {}
            Expect::Discard | Expect::Unwatch if ok => {}
            // `-ERR EXEC without MULTI` and its kind: the state is not what we think it is.
            Expect::Exec | Expect::Discard | Expect::Unwatch => self.unsure = true,
            Expect::Blocking => self.blocking -= 1,
            Expect::Select(database) if ok => return Change::Database(database),
            Expect::Hello(resp3) if !head.starts_with(b"-") => return Change::Resp3(resp3),
            Expect::Reset if head.starts_with(b"+RESET") => return Change::Reset,
            Expect::Select(_) | Expect::Hello(_) | Expect::Reset => {}
        }
        Change::None
    }

    /// Requests without a reply.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Inside MULTI.
    #[must_use]
    pub fn in_multi(&self) -> bool {
        self.in_multi
    }

    /// The client may have put a login to the server: who it is on this connection is not who opened it.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// The server has said something that nobody asked for.
    pub fn distrust(&mut self) {
        self.uncounted = true;
        self.forever = true;
    }

    /// False once the replies to requests, behind those that are owed, cannot be told from messages.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        !self.uncounted
    }

    /// True while a command may take something for a client that is waiting for it.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        self.blocking > 0
    }

    /// True when the client may share again: nothing is owed, and nothing that it did is left.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.owed == 0 && !self.watching && !self.in_multi && !self.unsure && !self.stays && !self.forever
    }

    /// What to do with the connection when the client leaves it now. `as_opened`: its database and RESP version are those it was opened with.
    #[must_use]
    pub fn after(&self, as_opened: bool) -> After {
        if self.owed > 0 || self.forever || self.outlived {
            After::Close
        } else if self.is_free() && as_opened && !self.named {
            After::Reuse
        } else {
            After::Clean
        }
    }
}
