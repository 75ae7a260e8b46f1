//! How upstream connections are shared: the mode, its limits, and what a mode leaves unless somebody says otherwise.

use super::layers::View;
use super::mistakes::Mistakes;
use super::settings::Key;
use super::types::{Pool, PoolBudget, PoolMode, Protocol};

/// Ready besides the shared connections. These come back, so a few go round: one for the first client that needs its own, one in place of a
/// lane that is lost. Servers for which this mode is chosen have few connections to give, and every node keeps its own.
const MULTIPLEX_MIN_IDLE: usize = 2;
/// Logged in, each of these takes one of `max_connections`, which the server has few of.
const POSTGRES_MIN_IDLE: usize = 1;
/// A server of 1 GB gives 22, and one with more processors than this can keep busy is rare. Without any limit the first crowd of clients
/// would use up the server's connections, which is what pooling is there to prevent.
const POSTGRES_SIZE: usize = 20;

/// The pooled modes of PostgreSQL open connections for nobody in particular: the proxy itself has to log in.
pub(super) fn logs_in(protocol: Protocol, mode: PoolMode) -> bool {
    protocol == Protocol::Postgres && mode != PoolMode::Relay
}

/// The pool of a listener; what is wrong goes to `mistakes` and is replaced by something harmless.
pub(super) fn pool(view: &View<'_>, protocol: Protocol, mistakes: &mut Mistakes) -> Pool {
    let mode = mode(view, protocol, mistakes);
    let budget = budget(view, protocol, mode, mistakes);
    let size = match &budget {
        _ if view.is_given(Key::PoolSize) || !logs_in(protocol, mode) => view.count(Key::PoolSize),
        Some(_) => 0,
        None => POSTGRES_SIZE,
    };
    let min_idle = match mode {
        _ if view.is_given(Key::PoolMinIdle) => view.count(Key::PoolMinIdle),
        PoolMode::Multiplex => MULTIPLEX_MIN_IDLE,
        PoolMode::Session | PoolMode::Transaction if protocol == Protocol::Postgres => POSTGRES_MIN_IDLE,
        PoolMode::Relay | PoolMode::Session | PoolMode::Transaction => view.count(Key::PoolMinIdle),
    };
    if size > 0 && min_idle > size && view.is_given(Key::PoolMinIdle) {
        view.mistake(mistakes, Key::PoolMinIdle, format!("is {min_idle}, more than pool_size {size}; lower it or raise pool_size"));
    }
    // Given for all listeners it is meant for those that can use it: see `cross::useless`.
    if view.is_own(Key::PreparedStatements) && protocol != Protocol::Postgres {
        view.mistake(mistakes, Key::PreparedStatements, "is for postgresql:// with pool transaction only; remove it");
    }
    Pool {
        mode,
        size,
        budget,
        min_idle: if size > 0 { min_idle.min(size) } else { min_idle },
        max_idle_age: view.duration(Key::PoolMaxIdleAge),
        max_lifetime: view.duration(Key::PoolMaxLifetime),
        wait_timeout: view.duration(Key::PoolWaitTimeout),
        prepared_statements: view.count(Key::PreparedStatements),
    }
}

/// Given for all listeners, a mode holds for those that have it: see `cross::useless`.
fn mode(view: &View<'_>, protocol: Protocol, mistakes: &mut Mistakes) -> PoolMode {
    let mode = match view.word(Key::Pool) {
        "relay" => PoolMode::Relay,
        "session" => PoolMode::Session,
        "multiplex" => PoolMode::Multiplex,
        "transaction" => PoolMode::Transaction,
        other => unreachable!("the table has no mode {other}"),
    };
    let why_not = match (protocol, mode) {
        (_, PoolMode::Relay) | (Protocol::Redis, PoolMode::Session | PoolMode::Multiplex) => return mode,
        (Protocol::Postgres, PoolMode::Session | PoolMode::Transaction) => return mode,
        (Protocol::Redis, PoolMode::Transaction) => "is for postgresql://; use multiplex, session or relay",
        (Protocol::Postgres, PoolMode::Multiplex) => "is for rediss://; use transaction, session or relay",
        (Protocol::Tls, _) => "cannot be had for tls://, whose protocol the proxy does not know; use relay",
    };
    if view.is_own(Key::Pool) {
        view.mistake(mistakes, Key::Pool, format!("`{}` {why_not}", mode.name()));
    }
    PoolMode::Relay
}

/// Only where connections are shared can their number be bounded. A budget that bounds nothing would be taken for one that does.
fn budget(view: &View<'_>, protocol: Protocol, mode: PoolMode, mistakes: &mut Mistakes) -> Option<PoolBudget> {
    let (total, reserve) = (view.count(Key::PoolBudgetTotal), view.count(Key::PoolBudgetReserve));
    let keys = [Key::PoolBudgetTotal, Key::PoolBudgetReserve, Key::PoolBudgetPeers];
    if protocol != Protocol::Postgres {
        // Given for all listeners it is meant for those that can use it.
        for key in keys.into_iter().filter(|key| view.is_own(*key)) {
            view.mistake(mistakes, key, "is for postgresql:// with pool session or transaction only; remove it");
        }
        return None;
    }
    if total == 0 {
        let useless = [Key::PoolBudgetReserve, Key::PoolBudgetPeers].into_iter().find(|key| view.is_own(*key));
        if let Some(key) = useless.filter(|_| !view.is_broken(Key::PoolBudgetTotal)) {
            let cure = view.spell(Key::PoolBudgetTotal, "NUMBER");
            view.mistake(mistakes, key, format!("is of a budget, and there is none; say {cure}, or remove it"));
        }
        return None;
    }
    if !logs_in(protocol, mode) {
        if !view.is_broken(Key::Pool) {
            let cure = view.spell(Key::Pool, "transaction");
            view.mistake(
                mistakes,
                Key::PoolBudgetTotal,
                format!("bounds nothing in relay, where connections follow the clients; say {cure}"),
            );
        }
        return None;
    }
    if reserve >= total {
        let what = format!("is {total}, and pool_budget_reserve {reserve} leaves nothing of it; raise it or lower that");
        view.mistake(mistakes, Key::PoolBudgetTotal, what);
    }
    Some(PoolBudget { total, reserve, peers: view.text(Key::PoolBudgetPeers) })
}
