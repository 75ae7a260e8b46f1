//! Keeps a listener's limit at this process's share of the database's connections, as `pool_budget_peers` tells how many proxies there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use crate::config::{Listener, PoolBudget};
use crate::logging::Throttle;
use crate::metrics::ListenerMetrics;
use crate::names::Names;
use crate::pool::Budget;
use crate::pool::quota::{ANSWER, Answer, LOOK, Quota, Ruling};

/// Between two lines in the log about the same trouble.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// A port to name; nothing is sent to it.
const ANY_PORT: u16 = 9;

/// The limit that a listener begins with: none of what is shared with others, until it is known how many they are.
pub(super) fn budget(listener: &Listener, metrics: &ListenerMetrics) -> std::sync::Arc<Budget> {
    let pool = &listener.pool;
    let budget = Budget::new(pool.size);
    let limit = match &pool.budget {
        None => pool.size,
        Some(PoolBudget { peers: Some(_), .. }) => 0,
        Some(PoolBudget { total, reserve, peers: None }) => most(pool.size, total.saturating_sub(*reserve)),
    };
    if pool.budget.is_some() {
        budget.set_limit(limit);
    }
    metrics.pool_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    budget
}

/// `pool_size` is a further bound where it is given.
fn most(size: usize, share: usize) -> usize {
    if size == 0 { share } else { share.min(size) }
}

/// Looks and adjusts, for ever; returns at once where nothing is shared.
pub(super) async fn follow(shared: &Shared) {
    let Some(PoolBudget { total, reserve, peers: Some(name) }) = &shared.listener.pool.budget else { return };
    let (names, started) = (Names::new(name, ANY_PORT), Instant::now());
    let mut quota = Quota::new(total.saturating_sub(*reserve));
    let (mut ruling, said) = (Ruling::default(), Throttle::new(SAY_AGAIN, 1));
    loop {
        let next = Instant::now() + LOOK;
        // A system's resolver cannot be hurried: what it says later is lost.
        let answer = match timeout_at(Instant::now() + ANSWER, names.resolve()).await {
            Ok(Ok((addresses, _))) => Ok(Answer::new(addresses.iter().map(SocketAddr::ip), is_own)),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("`{name}` was not resolved within {} s", ANSWER.as_secs())),
        };
        let answer = answer.inspect_err(|why| say(shared, &said, &format!("{why}; the share stays as it is"))).ok();
        if answer.as_ref().is_some_and(|answer| !answer.has_own()) && started.elapsed() > LOOK * 5 {
            say(shared, &said, &format!("`{name}` does not list this proxy: see publishNotReadyAddresses"));
        }
        let before = ruling;
        ruling = quota.observe(started.elapsed(), answer);
        if (before.limit, before.peers) != (ruling.limit, ruling.peers) {
            apply(shared, ruling);
        }
        if let Some(at) = ruling.recall.map(|at| started + at).filter(|at| *at > Instant::now() && *at <= next) {
            sleep_until(at).await;
            shared.budget.recall();
        }
        sleep_until(next).await;
    }
}

fn apply(shared: &Shared, ruling: Ruling) {
    let limit = most(shared.listener.pool.size, ruling.limit);
    shared.budget.set_limit(limit);
    shared.metrics.pool_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    shared.metrics.pool_peers.set(i64::try_from(ruling.peers).unwrap_or(i64::MAX));
    tracing::info!(listener = shared.listener.name, limit, proxies = ruling.peers, "share of the connection budget");
}

fn say(shared: &Shared, said: &Throttle<()>, what: &str) {
    if said.check(&()).is_some() {
        tracing::warn!(listener = shared.listener.name, "pool_budget_peers: {what}");
    }
}

/// Whether this is an address of this machine, or of this pod: from there a packet to it would come from itself. None is sent.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, ANY_PORT))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{self, Purpose, Sources};
    use crate::metrics::Metrics;

    fn shared(query: &str) -> Shared {
        let urls = vec![format!("postgresql://user:word@127.0.0.1?pool=transaction&{query}")];
        let loaded = config::load(&Sources {
            urls,
            file: None,
            flags: BTreeMap::new(),
            env: &|_| None,
            variables: Vec::new(),
            purpose: Purpose::Check,
            probe: &|_| Ok(()),
        });
        let listener = loaded.unwrap().config.listeners.remove(0);
        Shared::new(listener, &Metrics::new().unwrap()).unwrap()
    }

    fn limit(shared: &Shared) -> i64 {
        shared.metrics.pool_limit.get()
    }

    #[test]
    fn alone_it_has_all_and_with_others_nothing_at_first() {
        for (query, expected) in [
            ("pool_size=7", 7),
            ("pool_budget_total=22", 19),
            ("pool_budget_total=22&pool_budget_reserve=2&pool_size=5", 5),
            ("pool_budget_total=22&pool_budget_peers=peers.example", 0),
        ] {
            let shared = shared(query);
            let permits: Vec<_> = std::iter::from_fn(|| shared.budget.try_acquire()).take(100).collect();
            assert_eq!((limit(&shared), i64::try_from(permits.len()).unwrap()), (expected, expected), "{query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_comes_when_the_others_have_had_time() {
        let shared = shared("pool_budget_total=22&pool_budget_peers=127.0.0.1");
        let soon = tokio::time::timeout(Duration::from_secs(14), follow(&shared)).await;
        assert!(soon.is_err() && limit(&shared) == 0 && shared.metrics.pool_peers.get() == 1);
        let later = tokio::time::timeout(Duration::from_secs(17), follow(&shared)).await;
        assert!(later.is_err() && limit(&shared) == 19);
    }

    #[test]
    fn its_own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()) && !is_own("192.0.2.1".parse().unwrap()));
    }
}
