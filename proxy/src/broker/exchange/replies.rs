//! What the server owes, in order: one entry per message that it will answer, and per answer that we give in its place.

use std::collections::VecDeque;
use std::rc::Rc;

use super::prepared::{Prepared, Slot};
use super::statements::{Given, Names, Statement};

/// One answer that is due.
pub(super) enum Expect {
    /// To a Query: anything up to ReadyForQuery.
    Query(Option<Box<Note>>),
    /// To a FunctionCall: its result or an error, then ReadyForQuery.
    Function,
    /// ReadyForQuery.
    Sync,
    /// ParseComplete.
    Parse {
        /// For the client.
        theirs: bool,
        /// If it is skipped or fails.
        undo: Undo,
    },
    /// BindComplete. With the statement, if it is one of ours.
    Bind(Option<Rc<Given>>, Undo),
    /// As `Bind`, of a statement whose columns are not those that the client counts on: an error, which takes the server's words' place.
    Changed,
    /// ParameterDescription, then RowDescription or NoData. With the statement, if it is one of ours.
    DescribeStatement(Option<Shown>),
    /// RowDescription or NoData. With its statement, if it is one of ours.
    DescribePortal(Option<Shown>),
    /// As `DescribeStatement`, for us: see [`super::shapes`].
    Columns(Place),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended; or a COPY.
    Execute(Option<Box<Note>>),
    /// CloseComplete.
    Close {
        /// For the client.
        theirs: bool,
        /// If it is skipped.
        undo: Undo,
    },
    /// Nothing from the server: ParseComplete is ours to say, for it is prepared already.
    Parsed(Undo),
    /// Nothing from the server: CloseComplete is ours to say.
    Closed(Undo),
    /// Nothing: the end of the data of a COPY.
    CopyEnd,
    /// Nothing: the Query behind it ends the client's unnamed statement, unless it is skipped.
    Forgets(Undo),
    /// All up to ReadyForQuery is for us: the settings were put right.
    Settings,
    /// So many answers, not counting rows, are for us: the client's own defaults behind a RESET, within its batch.
    Return(u8),
    /// All up to ReadyForQuery is for us: what the client has left behind.
    Probe,
    /// What is left of a batch that is sent again: ReadyForQuery.
    Discarded,
}

impl Expect {
    /// The statement that it is about.
    pub(super) fn given(&self) -> Option<&Rc<Given>> {
        match self {
            Self::Bind(given, _) => given.as_ref(),
            Self::DescribeStatement(shown) => shown.as_ref().map(|(given, _)| given),
            _ => None,
        }
    }

    /// The number of the statement that it is about.
    pub(super) fn statement(&self) -> Option<u64> {
        self.given().map(|given| given.number)
    }

    /// What is taken back if the server skips it, where there is anything.
    pub(super) fn undo_mut(&mut self) -> Option<&mut Undo> {
        match self {
            Self::Parse { undo, .. }
            | Self::Forgets(undo)
            | Self::Bind(_, undo)
            | Self::Close { undo, .. }
            | Self::Parsed(undo)
            | Self::Closed(undo) => Some(undo),
            Self::Query(Some(note)) | Self::Execute(Some(note)) => Some(&mut note.undo),
            _ => None,
        }
    }
}

/// What a Query or an Execute does besides being answered.
#[derive(Default)]
pub(super) struct Note {
    /// A command that has to be followed.
    pub follow: Option<Follow>,
    /// An empty Query stands in for a command about the client's own names; this is its tag.
    pub stand_in: Option<&'static str>,
    /// If it is skipped or fails.
    pub undo: Undo,
}

/// A command that changes what a client's settings or names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// SET to this value.
    Set(Box<[u8]>, Box<[u8]>),
    /// Back to the default.
    Default(Box<[u8]>),
    /// RESET ALL.
    ResetAll,
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DISCARD ALL.
    DiscardAll,
}

impl Follow {
    /// The server's values are not the client's: its defaults are what its StartupMessage asked for.
    #[must_use]
    pub(super) fn returns_to_defaults(&self) -> bool {
        !matches!(self, Self::Set(..) | Self::DeallocateAll)
    }
}

/// A command that has succeeded, and how it was run.
#[derive(Debug)]
pub(super) struct Done {
    pub follow: Follow,
    /// By an Execute: where it returns to defaults, these are the client's own.
    pub in_batch: bool,
}

/// A statement's number, and what it is to be called on the connection.
pub(super) type Place = (u64, u32);

/// A statement whose columns the client is told, and what it is to be called on the connection.
pub(super) type Shown = (Rc<Given>, u32);

/// How to take back what was noted when a message was sent, if the server skips it.
#[derive(Default)]
pub(super) enum Undo {
    /// Nothing was.
    #[default]
    Nothing,
    /// A name of the client's meant this before.
    Name(Box<[u8]>, Option<Rc<Given>>),
    /// As `Name`, and the statement of this number was noted as prepared on the connection.
    NameAndPlace(Box<[u8]>, Option<Rc<Given>>, Place),
    /// The statement of this number was noted as prepared on the connection.
    Place(Place),
    /// The statement of this number lost its place on the connection.
    Evicted(u64, Slot),
    /// Nothing was: the name is taken, and the server will say so, of our name for it (the number); unless what took it has failed by then.
    Duplicate(Box<(Box<[u8]>, Rc<Statement>, u32)>),
    /// All names were forgotten.
    Names(Box<Names>),
    /// All names, and all that was prepared.
    All(Box<(Names, Prepared)>),
}

/// All that is due, oldest first.
#[derive(Default)]
pub(super) struct Replies {
    due: VecDeque<Expect>,
}

impl Replies {
    /// One more.
    pub(super) fn push(&mut self, expect: Expect) {
        self.due.push_back(expect);
    }

    /// The next.
    #[must_use]
    pub(super) fn first(&self) -> Option<&Expect> {
        self.due.front()
    }

    /// The latest.
    #[must_use]
    pub(super) fn last(&self) -> Option<&Expect> {
        self.due.back()
    }

    /// The next, to be changed.
    pub(super) fn first_mut(&mut self) -> Option<&mut Expect> {
        self.due.front_mut()
    }

    /// All, oldest first, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Expect> {
        self.due.iter_mut()
    }

    /// Takes the next.
    pub(super) fn pop(&mut self) -> Option<Expect> {
        self.due.pop_front()
    }

    /// True when nothing is due.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// How many are due.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// All, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Expect> {
        self.due.iter()
    }

    /// The server skips to the next Sync: takes out what it will not answer, latest first. False when no Sync has been sent yet.
    pub(super) fn skip_to_sync(&mut self) -> (Vec<Expect>, bool) {
        let at = self.due.iter().position(|expect| matches!(expect, Expect::Sync));
        let mut skipped: Vec<_> = self.due.drain(..at.unwrap_or(self.due.len())).collect();
        skipped.reverse();
        (skipped, at.is_some())
    }

    /// A COPY from the client has begun: the server ignores Syncs up to what ends it. True when that has been sent: the end of the data, or a message
    /// that has no place there and fails it. Within a Query such a message is lost with it.
    pub(super) fn begin_copy(&mut self) -> bool {
        let is_ours = |expect: &Expect| matches!(expect, Expect::Sync | Expect::Parsed(_) | Expect::Closed(_) | Expect::Forgets(_));
        let end = self.due.iter().skip(1).position(|expect| !is_ours(expect)).map(|at| at + 1);
        let within_query = matches!(self.due.front(), Some(Expect::Query(_)));
        if let Some(at) = end.filter(|_| within_query)
            && !matches!(self.due.get(at), Some(Expect::CopyEnd))
        {
            self.due.remove(at);
        }
        let (mut at, until) = (0, end.unwrap_or(self.due.len()));
        self.due.retain(|expect| {
            let keep = at >= until || !matches!(expect, Expect::Sync);
            at += 1;
            keep
        });
        end.is_some()
    }
}
