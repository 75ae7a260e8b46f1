//! What is prepared on one connection: under which name, since when, and with which columns.

use std::collections::HashMap;

use super::shapes::Shape;

/// What is prepared on one connection.
pub(super) struct Prepared {
    by_number: HashMap<u64, Slot>,
    next: u32,
    uses: u64,
    limit: usize,
    /// Grows with every Sync: an error in one batch says nothing about what is in the next.
    batch: u64,
}

/// What names there are on a connection, longest unused first, and from where on there are none.
pub(super) struct Taken {
    names: Vec<u32>,
    next: u32,
    limit: usize,
}

/// One statement on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What its name there is made of.
    pub name: u32,
    used: u64,
    /// The batch in which it was sent to be prepared, until the server says that it is.
    sent: Option<u64>,
    /// When it was used last, and when before that: see [`Statements::now`](super::Statements::now).
    used_at: (u64, u64),
    /// Its columns, once it has been described. The server refuses to run it when they change.
    shape: Option<Shape>,
    /// The batch in which it was described for us: then that is news.
    asked: Option<u64>,
}

impl Prepared {
    /// Nothing yet; at most `limit` at one time.
    #[must_use]
    pub(super) fn new(limit: usize) -> Self {
        Self { by_number: HashMap::new(), next: 0, uses: 0, limit: limit.max(1), batch: 0 }
    }

    /// A Sync has been sent.
    pub(super) fn next_batch(&mut self) {
        self.batch += 1;
    }

    /// The batch that is being sent.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Where the statement is prepared; with a time it is used, so that the server finds out whether it is still good. Not where an earlier batch has yet to prepare it: it may fail before it does.
    pub(super) fn find(&mut self, number: u64, now: Option<u64>) -> Option<u32> {
        let batch = self.batch;
        let slot = self.by_number.get_mut(&number).filter(|slot| slot.sent.is_none_or(|sent| sent == batch))?;
        self.uses += 1;
        slot.used = self.uses;
        if let Some(now) = now.filter(|now| slot.used_at.0 < *now) {
            slot.used_at = (now, slot.used_at.0);
        }
        Some(slot.name)
    }

    /// When the statement was used here before it was used last.
    pub(super) fn used_before(&self, number: u64) -> Option<u64> {
        self.by_number.get(&number).map(|slot| slot.used_at.1)
    }

    /// A name for the statement, which is now being prepared under it; and one that has to be closed for it.
    pub(super) fn add(&mut self, number: u64, now: u64) -> (u32, Option<(u64, Slot)>) {
        let is_full = self.by_number.len() >= self.limit && !self.by_number.contains_key(&number);
        let evicted = if is_full { self.oldest() } else { None };
        if let Some((number, _)) = evicted {
            self.by_number.remove(&number);
        }
        self.next = self.next.wrapping_add(1);
        self.uses += 1;
        self.by_number.insert(
            number,
            Slot { name: self.next, used: self.uses, sent: Some(self.batch), used_at: (now, now), shape: None, asked: None },
        );
        (self.next, evicted)
    }

    /// The server has prepared it under that name. False: it is not known by that.
    pub(super) fn confirm(&mut self, number: u64, name: u32) -> bool {
        let slot = self.by_number.get_mut(&number).filter(|slot| slot.name == name);
        slot.map(|slot| slot.sent = None).is_some()
    }

    /// The server has described what is prepared under that name; for us, in the batch that is being sent, or for a client.
    pub(super) fn describe(&mut self, number: u64, name: u32, shape: Shape, for_us: bool) {
        if let Some(slot) = self.by_number.get_mut(&number).filter(|slot| slot.name == name) {
            (slot.shape, slot.asked) = (Some(shape), for_us.then_some(self.batch));
        }
    }

    /// Its columns here, if they are known, and whether they have been asked for in this batch.
    pub(super) fn shape(&self, number: u64) -> Option<(Shape, bool)> {
        let slot = self.by_number.get(&number)?;
        slot.shape.map(|shape| (shape, slot.asked == Some(self.batch)))
    }

    /// Its name, once the server has said that it is prepared.
    pub(super) fn confirmed(&self, number: u64) -> Option<u32> {
        self.by_number.get(&number).filter(|slot| slot.sent.is_none()).map(|slot| slot.name)
    }

    /// It is prepared, or about to be.
    pub(super) fn has(&self, number: u64) -> bool {
        self.by_number.contains_key(&number)
    }

    /// It has not been prepared under that name.
    pub(super) fn take_back(&mut self, number: u64, name: u32) {
        if self.by_number.get(&number).is_some_and(|slot| slot.name == name) {
            self.by_number.remove(&number);
        }
    }

    /// It is not prepared (any more). Returns what it was called.
    pub(super) fn remove(&mut self, number: u64) -> Option<Slot> {
        self.by_number.remove(&number)
    }

    /// It is prepared, under this name, whatever was thought. One that it had before is forgotten.
    pub(super) fn put(&mut self, number: u64, name: u32) {
        self.uses += 1;
        self.by_number.insert(number, Slot { name, used: self.uses, sent: None, used_at: (0, 0), shape: None, asked: None });
    }

    /// It is still prepared after all.
    pub(super) fn restore(&mut self, number: u64, slot: Slot) {
        self.by_number.entry(number).or_insert(slot);
    }

    /// Nothing is prepared any more. What was is returned, in case that is not so.
    pub(super) fn clear(&mut self) -> Self {
        let fresh = Self { next: self.next, batch: self.batch, ..Self::new(self.limit) };
        std::mem::replace(self, fresh)
    }

    /// What was cleared is there all the same, and what has been prepared since too.
    pub(super) fn unclear(&mut self, cleared: Self) {
        for (number, slot) in cleared.by_number {
            self.by_number.entry(number).or_insert(slot);
        }
    }

    /// The names alone, for another worker: numbers mean nothing there.
    pub(super) fn into_names(self) -> Taken {
        let mut slots: Vec<_> = self.by_number.into_values().collect();
        slots.sort_unstable_by_key(|slot| slot.used);
        Taken { names: slots.iter().map(|slot| slot.name).collect(), next: self.next, limit: self.limit }
    }

    /// Of a connection that comes from another worker. What is prepared there takes places and is found by nobody.
    #[must_use]
    pub(super) fn of_strangers(names: Taken) -> Self {
        let mut prepared = Self { next: names.next, ..Self::new(names.limit) };
        // Statements are numbered from below.
        for (number, name) in (0..=u64::MAX).rev().zip(names.names) {
            prepared.uses += 1;
            let slot = Slot { name, used: prepared.uses, sent: None, used_at: (0, 0), shape: None, asked: None };
            prepared.by_number.insert(number, slot);
        }
        prepared
    }

    /// How many are prepared.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    fn oldest(&self) -> Option<(u64, Slot)> {
        let confirmed = self.by_number.iter().filter(|(_, slot)| slot.sent.is_none());
        confirmed.min_by_key(|(_, slot)| slot.used).map(|(number, slot)| (*number, *slot))
    }
}
