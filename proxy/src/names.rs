//! The addresses behind an upstream's name, and noticing when they change.
//!
//! Managed failover is a DNS change: the name stays, the address moves. So every new connection resolves again, and [`Names`] remembers the
//! last answer, so that idle connections to an address that is no longer in it can be retired.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// A host and port, and the addresses it had at the last look.
pub struct Names {
    host: String,
    port: u16,
    literal: Option<SocketAddr>,
    last: Mutex<Vec<SocketAddr>>,
}

impl Names {
    /// `host` is a DNS name or an IP address without brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Self { host: host.to_owned(), port, literal, last: Mutex::new(literal.into_iter().collect()) }
    }

    /// Asks the system's resolver: the addresses (never none) and whether they differ from the last answer, which the first never does.
    /// Cancel-safe: the answer is then lost, nothing else.
    ///
    /// # Errors
    /// What the resolver said.
    pub async fn resolve(&self) -> Result<(Vec<SocketAddr>, bool), String> {
        if let Some(address) = self.literal {
            return Ok((vec![address], false));
        }
        let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("`{}` does not resolve: {error}", self.host))?
            .collect();
        if found.is_empty() {
            return Err(format!("`{}` has no addresses", self.host));
        }
        let moved = self.remember(&found);
        Ok((found, moved))
    }

    /// The addresses of the last answer; empty before the first.
    pub fn last(&self) -> Vec<SocketAddr> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// False once a newer answer no longer contains `address`.
    pub fn still_has(&self, address: SocketAddr) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Resolvers rotate their answers, so the order does not count.
    fn remember(&self, found: &[SocketAddr]) -> bool {
        let mut sorted = found.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = !last.is_empty() && *last != sorted;
        *last = sorted;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_answer_is_no_change_and_a_moved_name_is() {
        let names = Names::new("db.example", 1);
        let [a, b, c]: [SocketAddr; 3] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|a| a.parse().unwrap());
        assert!(!names.remember(&[a, b]), "the first answer is no change");
        assert!(!names.remember(&[b, a]));
        assert!(names.remember(&[c]));
        assert!(names.still_has(c) && !names.still_has(a));
    }
}
