//! What is known of a connection, as plain data: so it goes to another worker.

use std::rc::Rc;

use super::Server;
use super::prepared::{Prepared, Taken};
use crate::broker::params::Params;

/// A [`Server`] that can be sent.
pub struct Plain {
    base: Params,
    params: Params,
    prepared: Taken,
    orphans: Vec<u32>,
}

impl Server {
    /// Nothing would be lost on the way: no client is in the middle of anything or has left anything.
    #[must_use]
    pub fn can_move(&self) -> bool {
        self.is_at_rest() && self.traces.is_empty()
    }

    /// Only if it [can move](Server::can_move).
    #[must_use]
    pub fn into_plain(self) -> Plain {
        let (base, params) = (Rc::unwrap_or_clone(self.base), Rc::unwrap_or_clone(self.params));
        Plain { base, params, prepared: self.prepared.into_names(), orphans: self.orphans }
    }
}

impl From<Plain> for Server {
    /// What was prepared by the other worker's clients nobody here can use: it goes as its place is needed.
    fn from(plain: Plain) -> Self {
        let mut server = Self::new(Rc::new(plain.base), 1);
        server.sole_client = super::SEVERAL;
        server.prepared = Prepared::of_strangers(plain.prepared);
        server.orphans = plain.orphans;
        if !plain.params.changes_to(&server.base).is_empty() {
            server.params = Rc::new(plain.params);
        }
        server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_names_arrive() {
        let base = Rc::new(Params::default().reported(b"TimeZone", b"UTC"));
        let mut server = Server::new(Rc::clone(&base), 3);
        let names: Vec<u32> = (1..=3).map(|number| server.prepared.add(number, 1).0).collect();
        // The first is used again.
        assert_eq!(server.prepared.find(1, None), Some(names[0]));
        server.params = Rc::new(Params::default().reported(b"TimeZone", b"CET"));
        server.orphans.push(7);
        assert!(server.can_move());

        let mut moved = Server::from(server.into_plain());
        assert_eq!((moved.params.value(b"TimeZone"), moved.base.value(b"TimeZone")), (Some(&b"CET"[..]), Some(&b"UTC"[..])));
        assert_eq!((moved.prepared(), &moved.orphans[..]), (4, &[7][..]));
        for number in 1..=3 {
            assert_eq!(moved.prepared.find(number, None), None, "a number means something else here");
        }
        // The one that was not used for longest makes room, and no name comes again.
        let (name, evicted) = moved.prepared.add(1, 1);
        assert!(!names.contains(&name));
        assert_eq!(evicted.map(|(_, slot)| slot.name), Some(names[1]));

        let fresh = Server::from(Server::new(base, 3).into_plain());
        assert!(Rc::ptr_eq(&fresh.base, &fresh.params));
    }
}
