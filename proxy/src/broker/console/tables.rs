//! What the console shows. Columns are named and ordered as PgBouncer's are, where they mean the same, so that what reads those reads these.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use humantime::{format_duration, format_rfc3339_seconds};

use super::command::{CHANGES, TOPICS, Topic};
use crate::broker::backend::{LinkFacts, LinkState};
use crate::broker::clients::{Card, State};
use crate::broker::{Broker, console};
use crate::config::ClientAuth;
use crate::config::settings::Key;
use crate::metrics::UpstreamState;
use crate::postgres::reply;

/// Named columns, and rows of as many values.
struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// Appends what `topic` shows: RowDescription, DataRows, CommandComplete.
pub(super) fn show(out: &mut BytesMut, topic: Topic, broker: &Broker) {
    let table = match topic {
        Topic::Help => help(),
        Topic::Pools => pools(broker),
        Topic::Clients => clients(broker),
        Topic::Servers => servers(broker),
        Topic::Stats => stats(broker),
        Topic::Databases => databases(broker),
        Topic::Lists => lists(broker),
        Topic::Config => config(broker),
        Topic::State => state(broker),
        Topic::Version => Table { columns: &["version"], rows: vec![vec![console::version()]] },
    };
    reply::row_description(out, table.columns);
    for row in &table.rows {
        reply::data_row(out, row.iter().map(|value| Some(value.as_bytes())));
    }
    reply::command_complete(out, "SHOW");
}

fn help() -> Table {
    let shows = TOPICS.iter().map(|(word, _, help)| vec![format!("SHOW {word}"), (*help).to_owned()]);
    let changes = CHANGES.iter().map(|(word, _, help)| vec![(*word).to_owned(), (*help).to_owned()]);
    Table { columns: &["command", "what"], rows: shows.chain(changes).collect() }
}

/// Of one database.
#[derive(Default)]
struct Pool {
    clients: Vec<Arc<Card>>,
    links: Vec<Arc<LinkFacts>>,
}

fn by_database(broker: &Broker) -> BTreeMap<Arc<[u8]>, Pool> {
    let mut pools = BTreeMap::from([(Arc::clone(&broker.home.database), Pool::default())]);
    for card in broker.clients.list() {
        pools.entry(Arc::clone(&card.facts.database)).or_default().clients.push(card);
    }
    for link in broker.server.links() {
        pools.entry(Arc::clone(&link.database)).or_default().links.push(link);
    }
    pools
}

fn pools(broker: &Broker) -> Table {
    let rows = by_database(broker).into_iter().map(|(database, pool)| {
        let waiting = pool.clients.iter().filter(|card| card.state() == State::Waiting).count();
        let in_state = |state| pool.links.iter().filter(|link| link.state() == state).count();
        let (cancels, being_cancelled) = pool
            .clients
            .iter()
            .map(|card| card.cancels())
            .fold((0, 0), |sum, (on_their_way, waits)| (sum.0 + on_their_way, sum.1 + usize::from(waits)));
        let longest = pool.clients.iter().map(|card| card.waiting()).max().unwrap_or_default();
        // Which database a connection is being opened for is not counted: nearly always it is the listener's own.
        let opening = if database == broker.home.database { broker.metrics.upstream.of(UpstreamState::Connecting).get() } else { 0 };
        let counts = [pool.clients.len() - waiting, waiting, cancels, 0, in_state(LinkState::Active), cancels, being_cancelled];
        let more = [in_state(LinkState::Idle), 0, in_state(LinkState::Used)];
        let mut row = vec![text(&database), user(broker)];
        row.extend(counts.into_iter().chain(more).map(|count| count.to_string()));
        row.push(opening.max(0).to_string());
        row.extend(seconds(longest));
        row.push(broker.listener.pool.mode.name().to_owned());
        row
    });
    Table {
        columns: &[
            "database",
            "user",
            "cl_active",
            "cl_waiting",
            "cl_active_cancel_req",
            "cl_waiting_cancel_req",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
            "maxwait_us",
            "pool_mode",
        ],
        rows: rows.collect(),
    }
}

fn clients(broker: &Broker) -> Table {
    let links: BTreeMap<u32, u64> =
        broker.server.links().iter().map(|link| (link.client(), link.id)).filter(|(client, _)| *client != 0).collect();
    let rows = broker.clients.list().into_iter().map(|card| {
        let totals = card.tally.totals();
        let mut row = vec!["C".to_owned(), card.facts.user.clone(), text(&card.facts.database), card.state().word().to_owned()];
        row.extend(peer(card.facts.peer));
        row.push(time(card.since));
        row.extend(seconds(card.waiting()));
        row.push(links.get(&card.process()).map(u64::to_string).unwrap_or_default());
        row.push(card.facts.application.clone());
        row.extend([u64::from(card.process()), totals.transactions, totals.queries].map(|number| number.to_string()));
        row
    });
    Table {
        columns: &[
            "type",
            "user",
            "database",
            "state",
            "addr",
            "port",
            "connect_time",
            "wait",
            "wait_us",
            "link",
            "application_name",
            "id",
            "xact_count",
            "query_count",
        ],
        rows: rows.collect(),
    }
}

fn servers(broker: &Broker) -> Table {
    let applications: BTreeMap<u32, String> =
        broker.clients.list().into_iter().map(|card| (card.process(), card.facts.application.clone())).collect();
    let rows = broker.server.links().into_iter().map(|link| {
        let state = match link.state() {
            LinkState::Idle => "idle",
            LinkState::Active => "active",
            LinkState::Used => "tested",
        };
        let (local, remote) = link.addresses.unzip();
        let mut row = vec!["S".to_owned(), user(broker), text(&link.database), state.to_owned()];
        row.extend(peer(remote));
        row.extend(peer(local));
        row.push(time(link.opened));
        row.push(if link.client() == 0 { String::new() } else { link.client().to_string() });
        row.push(link.process.to_string());
        row.push(link.tls.clone());
        row.push(applications.get(&link.client()).cloned().unwrap_or_default());
        row.extend([link.id, link.requests()].map(|number| number.to_string()));
        row
    });
    Table {
        columns: &[
            "type",
            "user",
            "database",
            "state",
            "addr",
            "port",
            "local_addr",
            "local_port",
            "connect_time",
            "link",
            "remote_pid",
            "tls",
            "application_name",
            "id",
            "query_count",
        ],
        rows: rows.collect(),
    }
}

fn stats(broker: &Broker) -> Table {
    let rows = broker.clients.totals().into_iter().map(|(database, totals)| {
        let numbers = [
            totals.transactions,
            totals.queries,
            totals.received_bytes,
            totals.sent_bytes,
            totals.transaction_us,
            totals.query_us,
            totals.wait_us,
        ];
        std::iter::once(text(&database)).chain(numbers.map(|number| number.to_string())).collect()
    });
    Table {
        columns: &[
            "database",
            "total_xact_count",
            "total_query_count",
            "total_received",
            "total_sent",
            "total_xact_time",
            "total_query_time",
            "total_wait_time",
        ],
        rows: rows.collect(),
    }
}

fn databases(broker: &Broker) -> Table {
    let (pool, upstream) = (&broker.listener.pool, broker.upstream.config());
    let paused = u8::from(broker.budget.is_paused()).to_string();
    let rows = by_database(broker).into_iter().filter(|(name, _)| **name != *console::DATABASE.as_bytes()).map(|(name, of)| {
        let ready = if name == broker.home.database { pool.min_idle } else { 0 };
        vec![
            text(&name),
            upstream.host.clone(),
            upstream.port.to_string(),
            text(&name),
            user(broker),
            pool.size.to_string(),
            ready.to_string(),
            "0".to_owned(),
            pool.mode.name().to_owned(),
            pool.size.to_string(),
            of.links.len().to_string(),
            paused.clone(),
            "0".to_owned(),
        ]
    });
    Table {
        columns: &[
            "name",
            "host",
            "port",
            "database",
            "force_user",
            "pool_size",
            "min_pool_size",
            "reserve_pool_size",
            "pool_mode",
            "max_connections",
            "current_connections",
            "paused",
            "disabled",
        ],
        rows: rows.collect(),
    }
}

fn lists(broker: &Broker) -> Table {
    let pools = by_database(broker);
    let clients = pools.values().map(|pool| pool.clients.len()).sum::<usize>();
    let free = pools.values().flat_map(|pool| &pool.links).filter(|link| link.state() == LinkState::Idle).count();
    let all = pools.values().map(|pool| pool.links.len()).sum::<usize>();
    let counts = [
        ("databases", pools.len()),
        ("users", 1),
        ("pools", pools.len()),
        ("free_clients", 0),
        ("used_clients", clients),
        ("login_clients", 0),
        ("free_servers", free),
        ("used_servers", all - free),
    ];
    Table { columns: &["list", "items"], rows: counts.into_iter().map(|(name, count)| vec![name.to_owned(), count.to_string()]).collect() }
}

/// No secret, and nothing that may hold one: of passwords and keys not even where they are.
fn config(broker: &Broker) -> Table {
    let (listener, pool, upstream) = (&broker.listener, &broker.listener.pool, broker.upstream.config());
    let duration = |duration: Duration| format_duration(duration).to_string();
    let auth = match listener.client_auth {
        ClientAuth::None => "none",
        ClientAuth::Password(_) => "password",
        ClientAuth::Upstream => "upstream",
    };
    let settings = [
        (Key::Name, listener.name.clone()),
        (Key::Listen, listener.listen.to_string()),
        (Key::Pool, pool.mode.name().to_owned()),
        (Key::PoolSize, pool.size.to_string()),
        (Key::PoolMinIdle, pool.min_idle.to_string()),
        (Key::PoolMaxIdleAge, duration(pool.max_idle_age)),
        (Key::PoolMaxLifetime, duration(pool.max_lifetime)),
        (Key::PoolWaitTimeout, duration(pool.wait_timeout)),
        (Key::PoolBudgetTotal, pool.budget.as_ref().map_or(0, |budget| budget.total).to_string()),
        (Key::PreparedStatements, pool.prepared_statements.to_string()),
        (Key::ClientAuth, auth.to_owned()),
        (Key::MaxClients, listener.max_clients.to_string()),
        (Key::ConnectTimeout, duration(upstream.connect_timeout)),
        (Key::IdleTimeout, duration(listener.idle_timeout)),
        (Key::TcpKeepalive, duration(listener.tcp_keepalive)),
        (Key::TcpUserTimeout, duration(listener.tcp_user_timeout)),
    ];
    let rows = settings.into_iter().map(|(key, value)| {
        let setting = key.setting();
        let default = setting.preset.text(Some(listener.protocol)).unwrap_or_default();
        vec![setting.file_key(), value, default.to_owned(), "no".to_owned()]
    });
    let server = vec!["upstream".to_owned(), format!("{}:{}", upstream.host, upstream.port), String::new(), "no".to_owned()];
    Table { columns: &["key", "value", "default", "changeable"], rows: rows.chain([server]).collect() }
}

fn state(broker: &Broker) -> Table {
    let paused = broker.budget.is_paused();
    let rows = [("active", !paused), ("paused", paused), ("suspended", false)];
    let rows = rows.into_iter().map(|(key, yes)| vec![key.to_owned(), if yes { "yes" } else { "no" }.to_owned()]);
    Table { columns: &["key", "value"], rows: rows.collect() }
}

fn user(broker: &Broker) -> String {
    broker.upstream.config().credentials.as_ref().and_then(|login| login.user.clone()).unwrap_or_default()
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Address and port.
fn peer(address: Option<SocketAddr>) -> [String; 2] {
    match address {
        Some(address) => [address.ip().to_canonical().to_string(), address.port().to_string()],
        None => ["unix".to_owned(), "0".to_owned()],
    }
}

/// Whole seconds, and the microseconds beyond them.
fn seconds(duration: Duration) -> [String; 2] {
    [duration.as_secs().to_string(), duration.subsec_micros().to_string()]
}

fn time(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
}
