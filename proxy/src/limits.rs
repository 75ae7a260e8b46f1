//! File descriptors: raised as far as we may, and counted against what the configuration can need.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, the admin server's clients, the stock of warm connections, files, name resolution.
pub const RESERVE: u64 = 256;

/// A client has its own socket and, in `relay`, one to the upstream.
const PER_CLIENT: u64 = 2;

/// Raises the soft limit of open files to the hard one and returns the limit that is in force then; `u64::MAX` for none.
///
/// # Errors
/// The system refused; the old limit, [`nofile`], stays.
pub fn raise_nofile() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(nofile())
}

/// The limit of open files that is in force; `u64::MAX` for none.
#[must_use]
pub fn nofile() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Descriptors that `max_clients` clients over all listeners can need, with the [`RESERVE`].
#[must_use]
pub fn needed(max_clients: u64) -> u64 {
    max_clients.saturating_mul(PER_CLIENT).saturating_add(RESERVE)
}

/// A warning for the log when `max_clients` (the sum over all listeners) do not fit into `limit`: how many do, and the cure.
#[must_use]
pub fn shortfall(limit: u64, max_clients: u64) -> Option<String> {
    let needed = needed(max_clients);
    (needed > limit).then(|| {
        let fit = limit.saturating_sub(RESERVE) / PER_CLIENT;
        format!(
            "{max_clients} clients can need {needed} file descriptors, but the limit is {limit}: about {fit} clients fit; raise it \
             (`ulimit -Hn`, systemd LimitNOFILE=, the container runtime's nofile) or lower max_clients"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_only_when_it_does_not_fit() {
        assert_eq!(needed(10_000), 20_256);
        assert_eq!(shortfall(20_256, 10_000), None);
        assert_eq!(shortfall(u64::MAX, u64::MAX), None);
        let warning = shortfall(1024, 10_000).unwrap();
        assert!(warning.contains("10000 clients can need 20256") && warning.contains("limit is 1024: about 384 clients"), "{warning}");
        assert!(shortfall(100, 1).unwrap().contains("about 0 clients fit"));
    }

    #[test]
    fn raising_leaves_nothing_to_raise() {
        let raised = raise_nofile().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!((raised, nofile()), (raised, raised));
        assert_eq!(raise_nofile().unwrap(), raised, "twice is harmless");
    }
}
