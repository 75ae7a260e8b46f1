//! Which figures the report shows, as columns of tables and as panels of charts.

use crate::peers::{POSTGRES, REDIS};

/// A column of a table.
pub(crate) struct Column {
    pub(crate) row: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) heading: &'static str,
    pub(crate) decimals: usize,
}

const fn column(row: &'static str, figure: &'static str, heading: &'static str, decimals: usize) -> Column {
    Column { row, figure, heading, decimals }
}

/// A table: title, peers, columns.
pub(crate) type Table = (&'static str, &'static [&'static str], &'static [Column]);

pub(crate) const TABLES: &[Table] = &[
    (
        "Redis, 50 clients",
        REDIS,
        &[
            column("c50", "set_per_s", "SET/s", 0),
            column("c50", "get_per_s", "GET/s", 0),
            column("c50", "cpu_us", "proxy CPU us/req", 2),
            column("c50", "server_cpu_us", "Redis CPU us/req", 2),
            column("c50", "total_cpu_us", "both", 2),
            column("pipeline", "set_per_s", "pipeline 16: SET/s", 0),
            column("pipeline", "get_per_s", "GET/s", 0),
            column("pipeline", "cpu_us", "proxy CPU us/req", 2),
            column("pipeline", "server_cpu_us", "Redis CPU us/req", 2),
        ],
    ),
    (
        "Redis, one client; and a connection per request (20 clients)",
        REDIS,
        &[
            column("one", "get_avg_us", "1 client: GET avg us", 0),
            column("one", "get_p50_us", "p50 us", 0),
            column("one", "get_p99_us", "p99 us", 0),
            column("connect", "connect_per_s", "connect+GET/s", 0),
            column("connect", "connect_p50_us", "p50 us", 0),
            column("connect", "connect_p99_us", "p99 us", 0),
            column("connect", "cpu_us", "proxy CPU us", 0),
            column("connect", "server_cpu_us", "Redis CPU us", 0),
        ],
    ),
    (
        "Redis, values of 256 KiB (4 clients); and memory",
        REDIS,
        &[
            column("big", "set_per_s", "SET/s", 0),
            column("big", "get_per_s", "GET/s", 0),
            column("big", "set_max_us", "SET max us", 0),
            column("big", "get_max_us", "GET max us", 0),
            column("big", "cpu_us", "proxy CPU us/req", 0),
            column("idle", "clients", "idle clients", 0),
            column("idle", "idle_kib", "KiB per idle client", 1),
            column("idle", "base_mib", "MiB without clients", 1),
        ],
    ),
    (
        "Redis, GET by 50 (10) clients at a time in turn, while so many are connected",
        REDIS,
        &[
            column("scale", "get_per_s_10", "10: GET/s", 0),
            column("scale", "get_per_s_100", "100", 0),
            column("scale", "get_per_s_1000", "1,000", 0),
            column("scale", "get_per_s_10000", "10,000", 0),
            column("scale", "cpu_us_10", "10: proxy CPU us/req", 2),
            column("scale", "cpu_us_100", "100", 2),
            column("scale", "cpu_us_1000", "1,000", 2),
            column("scale", "cpu_us_10000", "10,000", 2),
            column("scale", "growth", "growth", 2),
            column("scale", "calm_growth", "with 10 at a time", 2),
            column("scale", "server_cpu_us_10", "10: Redis CPU us/req", 2),
            column("scale", "server_cpu_us_10000", "10,000", 2),
            column("scale", "clients_10000", "connected at most", 0),
        ],
    ),
    (
        "PostgreSQL, pgbench -S, 16 clients",
        POSTGRES,
        &[
            column("pg-simple", "tps", "simple: tps", 0),
            column("pg-simple", "avg_us", "avg us", 0),
            column("pg-simple", "cpu_us", "proxy CPU us/tx", 2),
            column("pg-extended", "tps", "extended: tps", 0),
            column("pg-extended", "avg_us", "avg us", 0),
            column("pg-extended", "cpu_us", "proxy CPU us/tx", 2),
            column("pg-prepared", "tps", "prepared: tps", 0),
            column("pg-prepared", "avg_us", "avg us", 0),
            column("pg-prepared", "cpu_us", "proxy CPU us/tx", 2),
            column("pg-prepared", "server_cpu_us", "PostgreSQL CPU us/tx", 1),
        ],
    ),
    (
        "PostgreSQL, latency in us at 2,000 transactions per second by so many clients (p50, p95, p99), extended protocol",
        POSTGRES,
        &[
            column("pg-rate-1", "p50_us", "1", 0),
            column("pg-rate-1", "p95_us", "p95", 0),
            column("pg-rate-1", "p99_us", "p99", 0),
            column("pg-rate-20", "p50_us", "20", 0),
            column("pg-rate-20", "p95_us", "p95", 0),
            column("pg-rate-20", "p99_us", "p99", 0),
            column("pg-rate-60", "p50_us", "60", 0),
            column("pg-rate-60", "p95_us", "p95", 0),
            column("pg-rate-60", "p99_us", "p99", 0),
            column("pg-rate-400", "p50_us", "400", 0),
            column("pg-rate-400", "p95_us", "p95", 0),
            column("pg-rate-400", "p99_us", "p99", 0),
            column("pg-rate-60", "cpu_us", "60: proxy CPU us/tx", 1),
        ],
    ),
    (
        "PostgreSQL, a connection per query (20 clients, no password); and memory",
        POSTGRES,
        &[
            column("pg-connect", "connect_per_s", "connect+query/s", 0),
            column("pg-connect", "connect_p50_us", "p50 us", 0),
            column("pg-connect", "connect_p99_us", "p99 us", 0),
            column("pg-connect", "cpu_us", "proxy CPU us", 1),
            column("pg-idle", "clients", "idle clients", 0),
            column("pg-idle", "idle_kib", "KiB per idle client", 1),
            column("pg-idle", "base_mib", "MiB without clients", 1),
        ],
    ),
];

/// A chart's panel.
pub(crate) struct Shown {
    pub(crate) row: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) title: &'static str,
    pub(crate) better: Better,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Better {
    pub(crate) fn of(self, value: f64, other: f64) -> bool {
        match self {
            Self::More => value > other,
            Self::Less => value < other,
        }
    }
}

const fn more(row: &'static str, figure: &'static str, title: &'static str) -> Shown {
    Shown { row, figure, title, better: Better::More }
}

const fn less(row: &'static str, figure: &'static str, title: &'static str) -> Shown {
    Shown { row, figure, title, better: Better::Less }
}

pub(crate) const REDIS_PANELS: &[Shown] = &[
    more("c50", "get_per_s", "GET per second, 50 clients"),
    more("pipeline", "get_per_s", "GET per second, 50 clients, pipeline 16"),
    more("connect", "connect_per_s", "Connect + GET + close per second, 20 clients"),
    more("big", "get_per_s", "GET of 256 KiB per second, 4 clients"),
    less("c50", "cpu_us", "Proxy CPU, microseconds per request, 50 clients"),
    less("c50", "total_cpu_us", "CPU of proxy and Redis together, microseconds per request, 50 clients"),
    less("one", "get_avg_us", "One client, average microseconds"),
    less("idle", "idle_kib", "Memory per idle client, KiB"),
];

pub(crate) const POSTGRES_PANELS: &[Shown] = &[
    more("pg-simple", "tps", "pgbench -S, 16 clients, simple protocol, transactions per second"),
    more("pg-extended", "tps", "The same, extended protocol"),
    more("pg-prepared", "tps", "The same, prepared statements"),
    less("pg-prepared", "cpu_us", "Proxy CPU, microseconds per transaction, prepared statements"),
    less("pg-rate-60", "p99_us", "60 clients, 2,000 transactions per second, p99 microseconds"),
    less("pg-idle", "idle_kib", "Memory per idle client, KiB"),
];
