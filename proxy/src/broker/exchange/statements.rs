//! Prepared statements: what a text is to all clients of a worker, what a client calls it, and where it is prepared.
//!
//! ```text
//!   client's name ──► Statement (text, parameter types, meaning; one per worker) ──► number ──► name on this connection
//! ```
//!
//! Names on connections are never used twice, so a statement that has vanished without our knowledge can be prepared again.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, DefaultHasher, RandomState};
use std::ops::Deref;
use std::rc::Rc;

use super::super::params::Params;
use super::shapes::Shape;
use crate::postgres::sql::{Verdict, scan};

/// A client may have so many names; beyond it the one that was not used for longest is forgotten, as if it had been deallocated.
const MAX_NAMES: usize = 5_000;
/// Texts longer than this are not looked for among those known.
const MAX_SHARED_BYTES: usize = 64 * 1024;
/// … and so many bytes of names and texts.
const MAX_NAMED_BYTES: usize = 16 * 1024 * 1024;
/// Texts are swept out when so many more are known than after the last sweep, or so many more bytes of them.
const SWEEP_EVERY: usize = 1_024;
const SWEEP_EVERY_BYTES: usize = 4 * 1024 * 1024;

/// A text with parameter types, as its first client meant it.
#[derive(Debug)]
pub(super) struct Statement {
    /// Never used twice on a worker.
    pub number: u64,
    /// A Parse message's body behind the name: the text, its NUL, the parameter types.
    pub body: Box<[u8]>,
    /// What running it may leave behind.
    pub verdict: Verdict,
    /// How often it was parsed without a name.
    pub seen: Cell<u32>,
}

impl Statement {
    fn new(number: u64, body: &[u8], verdict: Verdict) -> Self {
        Self { number, body: body.into(), verdict, seen: Cell::new(0) }
    }
}

/// A statement under one of a client's names, from one Parse of its on. What comes back when later ones are skipped comes back as it was.
pub(super) struct Given {
    statement: Rc<Statement>,
    /// When the client has given it that name: see [`Statements::now`].
    pub at: u64,
    /// What the client has been told of its columns since: see [`super::shapes`].
    pub told: Cell<Option<Shape>>,
}

impl Given {
    pub(super) fn new(statement: Rc<Statement>, at: u64) -> Rc<Self> {
        Rc::new(Self { statement, at, told: Cell::new(None) })
    }
}

impl Deref for Given {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.statement
    }
}

/// Statements that differ in what the settings at their birth make of them.
type Variants = Vec<(u128, Rc<Statement>)>;

/// All statements that clients of one worker know.
#[derive(Default)]
pub struct Statements {
    known: HashMap<Box<[u8]>, Variants>,
    next: u64,
    now: u64,
    sweep_at: usize,
    /// Bytes of texts since the last sweep.
    new_bytes: usize,
    keys: (RandomState, RandomState),
}

impl Statements {
    /// What these settings make of a text, as a number of this worker's.
    pub(super) fn meaning(&self, params: &Params) -> u128 {
        params.meaning(&self.keys)
    }

    /// For what is compared on this worker alone.
    pub(super) fn hasher(&self) -> DefaultHasher {
        self.keys.0.build_hasher()
    }

    /// The statement of this Parse body (behind the name) with this [meaning](Self::meaning): the same as before, or a new one.
    pub(super) fn find(&mut self, body: &[u8], meaning: u128) -> Rc<Statement> {
        if let Some((_, statement)) = self.known.get(body).and_then(|all| all.iter().find(|(of, _)| *of == meaning)) {
            return Rc::clone(statement);
        }
        let number = self.next_number();
        let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let statement = Rc::new(Statement::new(number, body, scan(text)));
        if body.len() <= MAX_SHARED_BYTES {
            self.new_bytes += body.len();
            if self.known.len() >= self.sweep_at || self.new_bytes >= SWEEP_EVERY_BYTES {
                self.sweep();
            }
            self.known.entry(body.into()).or_default().push((meaning, Rc::clone(&statement)));
        }
        statement
    }

    /// A statement whose text was not seen whole: nobody else's.
    pub(super) fn unseen(&mut self, verdict: Verdict) -> Rc<Statement> {
        Rc::new(Statement::new(self.next_number(), &[], verdict))
    }

    /// Grows with every batch of a client, over all connections of the worker.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// A batch begins.
    pub(super) fn next_batch(&mut self) {
        self.now += 1;
    }

    /// A number that no statement has.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Forgets those that no client knows any more. What of them is prepared somewhere is closed there when its place is needed.
    fn sweep(&mut self) {
        for variants in self.known.values_mut() {
            variants.retain(|(_, statement)| Rc::strong_count(statement) > 1);
        }
        self.known.retain(|_, variants| !variants.is_empty());
        self.sweep_at = self.known.len() + SWEEP_EVERY;
        self.new_bytes = 0;
    }
}

/// When it was used last, and what it is.
type Named = (Cell<u64>, Rc<Given>);

/// What one client has prepared, by its own names. Without any it takes no memory beside itself.
#[derive(Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Named>,
    /// Of `named`, names and texts.
    bytes: usize,
    unnamed: Option<Rc<Given>>,
    uses: Cell<u64>,
}

impl Names {
    /// The statement of that name; the empty name is the unnamed one.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Rc<Given>> {
        if name.is_empty() {
            return self.unnamed.as_ref();
        }
        let (used, statement) = self.named.get(name)?;
        used.set(self.tick());
        Some(statement)
    }

    /// What the client calls the statement of this number. Looks at all of them: for errors.
    pub(super) fn name_of(&self, number: u64) -> Option<&[u8]> {
        if self.unnamed.as_ref().is_some_and(|statement| statement.number == number) {
            return Some(b"");
        }
        self.named.iter().find(|(_, (_, statement))| statement.number == number).map(|(name, _)| &**name)
    }

    /// Gives a statement that name, or takes the name away; returns whose it was.
    pub(super) fn put(&mut self, name: &[u8], statement: Option<Rc<Given>>) -> Option<Rc<Given>> {
        if name.is_empty() {
            return std::mem::replace(&mut self.unnamed, statement);
        }
        let was = match statement {
            Some(statement) => {
                let entry = (Cell::new(self.tick()), statement);
                let bytes = entry.1.body.len() + name.len();
                if self.named.len() >= MAX_NAMES || self.bytes + bytes > MAX_NAMED_BYTES {
                    self.forget_oldest();
                }
                self.bytes += bytes;
                self.named.insert(name.into(), entry)
            }
            None => self.named.remove(name),
        };
        let was = was.map(|(_, statement)| statement);
        self.bytes -= was.as_ref().map_or(0, |statement| statement.body.len() + name.len());
        was
    }

    fn tick(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    /// A tenth of them at once, so that the search is paid for seldom.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<_> = self.named.values().map(|(used, ..)| used.get()).collect();
        if uses.is_empty() {
            return;
        }
        let (_, oldest, _) = uses.select_nth_unstable(self.named.len() / 10);
        let oldest = *oldest;
        self.named.retain(|name, (used, statement)| {
            let stays = used.get() > oldest;
            self.bytes -= if stays { 0 } else { statement.body.len() + name.len() };
            stays
        });
    }
}
