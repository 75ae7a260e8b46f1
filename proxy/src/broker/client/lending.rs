//! How a client comes by a connection, what is noted of its use, and when it goes back.

use std::mem;
use std::task::{Context, Waker};

use bytes::{Buf as _, BytesMut};
use tokio::time::Instant;

use super::Visit;
use super::leaving::End;
use crate::broker::PostgresServer;
use crate::broker::clients::State;
use crate::broker::exchange::{self, Exchange};
use crate::error::Side;
use crate::metrics::{EvictReason, PinReason, RequestClass};
use crate::pool::Lease;
use crate::postgres::reply;
use crate::postgres::traces::Traces;

/// A connection in this client's hands.
pub(super) struct Lent {
    pub(super) lease: Lease<PostgresServer>,
    since: Instant,
    /// Cancels for the client go to it.
    pub(super) has_key: bool,
    /// Nothing has been sent on it.
    pub(super) is_new: bool,
    /// When what is owed to the client was asked for.
    pub(super) asked: Instant,
    /// The client keeps it beyond its transaction.
    pub(super) pinned: bool,
    /// It would have gone back but for a cancel that was on its way: no other is taken for it.
    pub(super) ending: bool,
}

impl Visit {
    /// The connection goes back if it has come to rest and nothing of the client's is left on it.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>) {
        let Some(lent) = self.lease.as_mut().filter(|lent| lent.server().is_at_rest()) else { return };
        let card = self.guest.badge.card();
        // What is held back was to be sent on it.
        if !self.broker.shares || self.held || self.half.is_within_message() {
            card.enter(State::Idle);
            return;
        }
        let server = lent.lease.connection_mut().split().1;
        if !server.traces.is_empty() {
            if !lent.pinned {
                lent.pinned = true;
                self.broker.metrics.pinned.inc();
                self.broker.metrics.pins.of(pin_reason(server.traces)).inc();
            }
            let mut exchange = Exchange { client: &mut self.half, server, statements: &mut self.broker.statements.borrow_mut() };
            if exchange.probe() {
                // Sent by whoever looks next, who is us.
                cx.waker().wake_by_ref();
            }
            card.enter(State::Idle);
            return;
        }
        if !card.take_back(cx.waker()) {
            lent.ending = true;
            return;
        }
        card.enter(State::Idle);
        if let Some(lent) = self.lease.take() {
            self.returned(&lent);
            if self.guest.badge.card().doubts(lent.lease.connection().cancel_key()) {
                lent.lease.close(EvictReason::Unclean);
            } else {
                lent.lease.connection().facts().returned();
                lent.lease.give_back();
            }
        }
    }

    /// The server has ended the connection, and the client need not know.
    pub(super) fn part_with_ended(&mut self) {
        self.note_rounds();
        if let Some(lent) = self.lease.take() {
            let card = self.guest.badge.card();
            // A cancel that is on its way to it hits nobody.
            card.take_back(Waker::noop());
            card.enter(State::Idle);
            self.returned(&lent);
            lent.lease.close(EvictReason::ServerClosed);
        }
    }

    /// From now on cancels for the client go to its connection: not before its settings are right, or one would hit those.
    pub(super) fn hand_out_key(&mut self) {
        if let Some(lent) = self.lease.as_mut().filter(|lent| !lent.has_key && !lent.server().awaits_settings()) {
            lent.has_key = true;
            self.guest.badge.card().lend(lent.lease.connection().cancel_key());
        }
    }

    /// What has ended by what the server has just said.
    pub(super) fn note_rounds(&mut self) {
        let Some(lent) = self.lease.as_mut() else { return };
        let server = &mut lent.lease.connection_mut().server;
        let rounds = server.take_rounds();
        if rounds.queries == 0 {
            return;
        }
        let (is_over, in_transaction) = (server.owes_nothing(), server.is_in_transaction());
        lent.lease.connection().facts().count_requests(rounds.queries);
        let card = self.guest.badge.card();
        card.tally.queries.add(rounds.queries.into());
        card.tally.transactions.add(rounds.transactions.into());
        if is_over {
            card.tally.query_us.add_time(lent.asked.elapsed());
            if in_transaction {
                card.enter(State::IdleInTransaction);
            }
        }
    }

    fn returned(&self, lent: &Lent) {
        let class = if lent.pinned { RequestClass::Pinned } else { RequestClass::Transaction };
        let metrics = &self.broker.metrics;
        metrics.requests.of(class).inc();
        let elapsed = lent.since.elapsed();
        metrics.request_seconds.of(class).observe(elapsed.as_secs_f64());
        self.guest.badge.card().tally.transaction_us.add_time(elapsed);
        if lent.pinned {
            metrics.pinned.dec();
        }
    }

    pub(super) fn lent(&mut self, lease: Lease<PostgresServer>) {
        let card = self.guest.badge.card();
        lease.connection().facts().lent(card.process());
        let pinned = !self.broker.shares;
        if pinned {
            self.broker.metrics.pinned.inc();
            self.broker.metrics.pins.of(PinReason::Session).inc();
        }
        let since = Instant::now();
        self.lease = Some(Box::new(Lent { lease, since, is_new: true, has_key: false, asked: since, pinned, ending: false }));
    }

    /// Waits for a connection. Without one in time the client hears so, and loses the request, not its session.
    pub(super) async fn find_connection(&mut self) -> Result<(), End> {
        self.wants = false;
        let card = self.guest.badge.card();
        card.enter(State::Waiting);
        let since = Instant::now();
        let taken = tokio::select! {
            biased;
            // Cancel-safe: the next who waits gets what comes.
            taken = self.broker.leases.take(&self.guest.key) => taken,
            // One that has merely said all it had to say is owed what it has asked for.
            () = self.stream.gone(false) => return Err(End::Left),
        };
        card.enter(State::Idle);
        card.tally.wait_us.add_time(since.elapsed());
        match taken {
            Ok(lease) => self.lent(lease),
            Err(error) => {
                if let Some(reply) = &error.reply {
                    self.down.extend_from_slice(reply);
                    return Err(End::Refused(error));
                }
                let mut words = BytesMut::new();
                let code = if error.side == Side::Ours { "53300" } else { "08006" };
                reply::error(&mut words, code, error.for_client());
                let input = mem::take(&mut self.input);
                let taken = self.half.refuse(&input, &words, &mut self.down);
                self.input = input;
                self.input.advance(taken);
                self.flush_down()?;
            }
        }
        self.take_input()
    }
}

impl Lent {
    pub(super) fn server(&self) -> &exchange::Server {
        &self.lease.connection().server
    }
}

/// Why the client keeps its connection: the first reason, where there are several.
fn pin_reason(traces: Traces) -> PinReason {
    let reasons = [
        (Traces::LOCK, PinReason::AdvisoryLock),
        (Traces::LISTEN, PinReason::Listen),
        (Traces::TEMP, PinReason::TempTable),
        (Traces::PREPARE, PinReason::Prepare),
        (Traces::HOLD, PinReason::HoldCursor),
        (Traces::ROLE, PinReason::Role),
        (Traces::SETTING, PinReason::Setting),
        (Traces::SEQUENCE, PinReason::Sequence),
        (Traces::LOAD, PinReason::Load),
    ];
    reasons.into_iter().find(|(trace, _)| traces.has(*trace)).map_or(PinReason::BigRequest, |(_, reason)| reason)
}
