//! What clients have done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a client has done. Counted by its own task alone.
#[derive(Debug, Default)]
pub struct Tally {
    /// Queries.
    pub queries: Count,
    /// Transactions.
    pub transactions: Count,
    /// Bytes from the client.
    pub received_bytes: Count,
    /// Bytes to the client.
    pub sent_bytes: Count,
    /// Time in transactions, in microseconds.
    pub transaction_us: Count,
    /// Time with a query running, in microseconds.
    pub query_us: Count,
    /// Time without a connection, in microseconds.
    pub wait_us: Count,
}

/// A number that one thread at a time changes and all may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// A [`Tally`], or the sum of several, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in Tally")]
pub struct Totals {
    pub queries: u64,
    pub transactions: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_us: u64,
    pub query_us: u64,
    pub wait_us: u64,
}

impl Count {
    /// Grows. Not atomic as a whole, and so without the cost: nobody else writes.
    pub fn add(&self, more: u64) {
        self.0.store(self.value().wrapping_add(more), Ordering::Relaxed);
    }

    /// Grows by so many microseconds.
    pub fn add_time(&self, more: Duration) {
        self.add(u64::try_from(more.as_micros()).unwrap_or(u64::MAX));
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// As it is now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            queries: self.queries.value(),
            transactions: self.transactions.value(),
            received_bytes: self.received_bytes.value(),
            sent_bytes: self.sent_bytes.value(),
            transaction_us: self.transaction_us.value(),
            query_us: self.query_us.value(),
            wait_us: self.wait_us.value(),
        }
    }
}

impl Totals {
    /// Both together.
    pub fn add(&mut self, more: &Self) {
        self.queries += more.queries;
        self.transactions += more.transactions;
        self.received_bytes += more.received_bytes;
        self.sent_bytes += more.sent_bytes;
        self.transaction_us += more.transaction_us;
        self.query_us += more.query_us;
        self.wait_us += more.wait_us;
    }
}
