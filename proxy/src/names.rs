//! The addresses behind an upstream's name, and noticing when it has moved.
//!
//! Managed failover is a DNS change: the name stays, the address moves. So every new connection resolves again, and unused connections to an
//! address that the name no longer has are retired. One answer without an address proves nothing: resolvers rotate, and some names answer
//! with one address at a time. An address is gone when answers have come without it for [`GONE_AFTER`].

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For so long an address may be missing from the answers and still count as the name's.
pub const GONE_AFTER: Duration = Duration::from_secs(10);

/// A host and port, and the addresses it had lately.
pub struct Names {
    host: String,
    port: u16,
    literal: Option<SocketAddr>,
    /// Each with the time of the last answer that had it.
    seen: Mutex<Vec<(SocketAddr, Instant)>>,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// An address that no earlier answer had; the first answer of all is not news.
    pub to_new: bool,
    /// Addresses have been missing for long enough to be gone.
    pub from_old: bool,
}

impl Names {
    /// `host` is a DNS name or an IP address without brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Self { host: host.to_owned(), port, literal, seen: Mutex::default() }
    }

    /// Asks the system's resolver: the addresses (never none) and what they changed. Cancel-safe: the answer is then lost, nothing else.
    ///
    /// # Errors
    /// What the resolver said; what was known stays known.
    pub async fn resolve(&self) -> Result<(Vec<SocketAddr>, Moved), String> {
        if let Some(address) = self.literal {
            return Ok((vec![address], Moved::default()));
        }
        let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("`{}` does not resolve: {error}", self.host))?
            .collect();
        if found.is_empty() {
            return Err(format!("`{}` has no addresses", self.host));
        }
        let moved = self.remember(&found, Instant::now());
        Ok((found, moved))
    }

    /// The addresses that it has; empty before the first answer.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self.literal {
            Some(address) => vec![address],
            None => self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(address, _)| *address).collect(),
        }
    }

    /// False once `address` is gone.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.literal == Some(address) || self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(known, _)| *known == address)
    }

    fn remember(&self, found: &[SocketAddr], now: Instant) -> Moved {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, mut moved) = (seen.is_empty(), Moved::default());
        for address in found {
            match seen.iter_mut().find(|(known, _)| known == address) {
                Some((_, last)) => *last = now,
                None => {
                    seen.push((*address, now));
                    moved.to_new = !first;
                }
            }
        }
        let before = seen.len();
        seen.retain(|(_, last)| now.duration_since(*last) < GONE_AFTER);
        moved.from_old = seen.len() < before;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAYED: Moved = Moved { to_new: false, from_old: false };

    fn addresses() -> [SocketAddr; 2] {
        ["192.0.2.1:1", "192.0.2.2:1"].map(|address| address.parse().unwrap())
    }

    #[test]
    fn a_name_that_moves_is_noticed_and_its_old_address_is_gone_after_a_while() {
        let ([old, new], start) = (addresses(), Instant::now());
        let names = Names::new("db.example", 1);
        assert_eq!(names.remember(&[old], start), STAYED, "the first answer is no news");
        let moved = names.remember(&[new], start + Duration::from_secs(5));
        assert_eq!(moved, Moved { to_new: true, from_old: false });
        assert!(names.has(old) && names.has(new), "one answer without it proves nothing");
        let gone = names.remember(&[new], start + GONE_AFTER);
        assert_eq!(gone, Moved { to_new: false, from_old: true });
        assert!(!names.has(old) && names.has(new));
    }

    #[test]
    fn a_name_that_answers_with_one_address_at_a_time_does_not_move() {
        let ([a, b], start) = (addresses(), Instant::now());
        let names = Names::new("round.robin.example", 1);
        names.remember(&[a], start);
        names.remember(&[b], start);
        for second in 1..100 {
            let answer = if second % 2 == 0 { a } else { b };
            assert_eq!(names.remember(&[answer], start + Duration::from_secs(second)), STAYED);
        }
        assert!(names.has(a) && names.has(b));
    }
}
