//! This process's share of a database's connections, from how many proxies its peers' DNS name lists. No clock, no resolver: answers in,
//! rulings out.
//!
//! **What holds**: over all proxies, the connections they have never exceed what there is to divide, given that
//! 1. an answer is at most `PROPAGATION` old, and every proxy gets one at least every [`LOOK`] + [`ANSWER`];
//! 2. who is told to shrink has done so within `GIVE_UP`, busy connections included (`Budget::recall`);
//! 3. a proxy is listed for as long as it has connections, or for all but the last `SETTLE - PROPAGATION` of that time (a drain).
//!
//! **Why**: a proxy has nothing until it has seen *itself* listed for [`SETTLE`]. By then every other proxy has seen it too (`PROPAGATION`
//! and a look later at the latest) and has shrunk (`GIVE_UP`): `SETTLE` is the sum of the three. So each of the `n` that have anything has
//! counted at least `n`, and has at most the `n`th part. Being alone in the answer is no reason to begin earlier: two that start together
//! would both be. Who counts fewer than before grows only when that has lasted for [`SETTLE`], for the one that has gone may be draining.
//!
//! **The remainder** of the division goes to the first in the order of addresses, one each. That needs the same list everywhere: it is taken
//! when the list has not changed for [`SETTLE`], which is long enough for all to agree on it, and given up at the first change.
//!
//! A failed lookup changes nothing, and what has to last begins again: what was not seen is not known to have lasted.

use std::net::IpAddr;
use std::time::Duration;

/// How old an answer may be: the time to live of the records, with the time that they take to be made. CoreDNS makes them for 5 s unless its
/// Corefile says otherwise, and that of many Kubernetes clusters says `ttl 30`: there a fleet that grows can exceed the limit by the share of
/// the new one until the last cached answer has gone. Longer here would be longer without a connection at each start.
const PROPAGATION: Duration = Duration::from_secs(5);
/// How often to ask.
pub const LOOK: Duration = Duration::from_secs(4);
/// How long to wait for an answer; none within it is a failure.
pub const ANSWER: Duration = Duration::from_secs(1);
/// Connections in use may go on for so long before they are asked to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// From the ruling to the last connection beyond it being closed: [`PATIENCE`], and the time to end what is under way.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How long something must have been seen before it is built on.
pub const SETTLE: Duration = Duration::from_secs(PROPAGATION.as_secs() + LOOK.as_secs() + ANSWER.as_secs() + GIVE_UP.as_secs());
/// An address that is not in the list after so long never will be: the list has this proxy under one that it does not know as its own, such
/// as a gateway's. It then counts itself in addition, which is one too many.
const UNLISTED: Duration = Duration::from_secs(4 * SETTLE.as_secs());

/// What the name's lookup said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Distinct, in order.
    peers: Vec<IpAddr>,
    /// Which of them this process is.
    own: Option<usize>,
}

/// What this process may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Connections.
    pub limit: usize,
    /// Proxies that share, with this one; 0 before the first answer.
    pub peers: usize,
    /// When connections in use beyond the limit must be asked to end.
    pub recall: Option<Duration>,
}

/// What has been seen of the others. All times count from any one moment, the same for all.
#[derive(Debug)]
pub struct Quota {
    spare: usize,
    /// Since when this process has seen itself listed.
    listed: Option<Duration>,
    /// The first answer of all.
    first: Option<Duration>,
    joined: bool,
    /// The list, and since when it has been this one without a failure.
    list: Vec<IpAddr>,
    same: Option<Duration>,
    /// It was the same for long enough, and is.
    agreed: bool,
    /// Since when there have been fewer than counted, and the most of them since.
    fewer: Option<(Duration, usize)>,
    ruling: Ruling,
}

impl Answer {
    /// From addresses in any order, of which some are this process's own.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, is_own: impl Fn(IpAddr) -> bool) -> Self {
        let mut peers: Vec<IpAddr> = addresses.into_iter().map(|address| address.to_canonical()).collect();
        peers.sort_unstable();
        peers.dedup();
        let own = peers.iter().position(|address| is_own(*address));
        Self { peers, own }
    }

    /// Whether this process is among them.
    #[must_use]
    pub fn has_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Quota {
    /// So many connections are to be divided.
    #[must_use]
    pub fn new(spare: usize) -> Self {
        Self {
            spare,
            listed: None,
            first: None,
            joined: false,
            list: Vec::new(),
            same: None,
            agreed: false,
            fewer: None,
            ruling: Ruling::default(),
        }
    }

    /// Takes in what was seen at `now`, `None` when the lookup failed.
    pub fn observe(&mut self, now: Duration, answer: Option<Answer>) -> Ruling {
        let Some(answer) = answer else {
            self.same = None;
            self.fewer = None;
            return self.ruling;
        };
        let first = *self.first.get_or_insert(now);
        if answer.has_own() {
            let listed = *self.listed.get_or_insert(now);
            self.joined |= now.saturating_sub(listed) >= SETTLE;
        } else {
            self.joined |= now.saturating_sub(first) >= UNLISTED;
        }
        let counted = answer.peers.len() + usize::from(!answer.has_own());
        let peers = self.settle_on(counted, now);
        self.agree_on(&answer, now);
        let first_ones = if self.agreed && peers == counted { self.spare % peers } else { 0 };
        let limit = match answer.own {
            _ if !self.joined => 0,
            Some(own) if own < first_ones => self.spare / peers + 1,
            _ => self.spare / peers,
        };
        if limit < self.ruling.limit {
            let pending = self.ruling.recall.filter(|at| *at > now);
            self.ruling.recall = Some(pending.unwrap_or(now + PATIENCE));
        }
        self.ruling = Ruling { limit, peers, ..self.ruling };
        self.ruling
    }

    /// More count at once, fewer when it has lasted. Never zero: a process counts itself.
    fn settle_on(&mut self, counted: usize, now: Duration) -> usize {
        if counted >= self.ruling.peers {
            self.fewer = None;
            return counted;
        }
        let (since, most) = self.fewer.map_or((now, counted), |(since, most)| (since, most.max(counted)));
        if now.saturating_sub(since) < SETTLE {
            self.fewer = Some((since, most));
            return self.ruling.peers;
        }
        self.fewer = (counted < most).then_some((now, counted));
        most
    }

    fn agree_on(&mut self, answer: &Answer, now: Duration) {
        if answer.peers != self.list {
            self.list.clone_from(&answer.peers);
            self.same = None;
            self.agreed = false;
        }
        let same = *self.same.get_or_insert(now);
        self.agreed |= now.saturating_sub(same) >= SETTLE;
    }
}

#[cfg(test)]
mod tests;
