//! Real clients through the built program, in front of the real servers: each with its own login, with a local password, and with none; also through
//! each way of sharing upstream connections, and directly, where they have to find the very same.
//!
//! The programs in `clients/` do what their users do (values checked, 300 KB and more, pipelines, transactions, cancelled queries,
//! notifications, errors verbatim, wrong passwords) and say `ok`. `.ci/clients` installs what they need; without it these tests fail.

// Always so here; said for the lints, which let tests say what they expect.
#[cfg(test)]
#[path = "clients/rust/redis.rs"]
mod redis_rs;
#[cfg(test)]
#[path = "clients/rust/servers.rs"]
mod servers;
#[cfg(test)]
#[path = "clients/rust/postgres.rs"]
mod tokio_postgres_rs;

use futures_util::future;
use servers::{PostgresLab, Program, RedisLab, Way};

/// What `.ci/clients` installs.
mod programs {
    use super::Program;

    pub(super) fn shell(script: &str) -> Program {
        Program::new("bash", &[&Program::source("shell", script)])
    }

    pub(super) fn python(script: &str) -> Program {
        Program::new(&Program::installed("python", "requirements.txt", "bin/python"), &["-B", &Program::source("python", script)])
    }

    pub(super) fn node(script: &str) -> Program {
        let modules = Program::installed("node", "package.json", "node_modules");
        Program::new("node", &[&Program::source("node", script)]).env("NODE_PATH", &modules)
    }

    /// Compiled when it is started.
    pub(super) fn java(source: &str) -> Program {
        let driver = "/usr/share/java/postgresql.jar";
        assert!(std::path::Path::new(driver).exists(), "{driver} is missing: run .ci/clients first");
        Program::new("java", &["-XX:TieredStopAtLevel=1", "-cp", driver, &Program::source("jdbc", source)])
    }

    pub(super) fn go(name: &str) -> Program {
        Program::new(&Program::built_go(name), &[])
    }
}

/// One client of PostgreSQL on each of these ways at the same time.
async fn postgres(name: &str, program: Program, ways: &[Way]) {
    let lab = PostgresLab::shared().await;
    let program = &program;
    future::join_all(ways.iter().map(|way| lab.run(name, program, *way))).await;
}

/// One client of Redis on each of these ways at the same time.
async fn redis(name: &str, program: Program, ways: &[Way]) {
    let lab = RedisLab::shared().await;
    let program = &program;
    future::join_all(ways.iter().map(|way| lab.run(name, program, *way))).await;
}

/// A subscriber that hears again after all connections were cut. With servers of its own, because others would be cut as well.
async fn resubscribes(name: &str, program: Program, ways: &[Way]) {
    let lab = RedisLab::with_gates().await;
    for way in ways {
        lab.run_with_a_cut(name, &program, *way).await;
    }
}

/// A test of each client of PostgreSQL on the ways of one list.
macro_rules! postgres_clients {
    ($module:ident, $ways:expr) => {
        mod $module {
            use super::{PostgresLab, Way, postgres, programs};

            postgres_clients!(@ $ways;
                psycopg: programs::python("postgres.py");
                asyncpg: programs::python("asyncpg_pool.py");
                node_pg: programs::node("postgres.js");
                postgres_js: programs::node("postgres_js.js");
                pgx_5: programs::go("pgx5");
                pgx_4: programs::go("pgx4");
                harbor_starts: programs::go("harborstart");
                pgjdbc: programs::java("Postgres.java");
            );

            #[tokio::test]
            async fn psql() {
                let lab = PostgresLab::shared().await;
                postgres("psql", programs::shell("psql.sh").env("PSQL", &lab.client("psql")), &$ways).await;
            }

            #[tokio::test]
            async fn pgbench() {
                let lab = PostgresLab::shared().await;
                let program = programs::shell("pgbench.sh").env("PSQL", &lab.client("psql")).env("PGBENCH", &lab.client("pgbench"));
                postgres("pgbench", program, &$ways).await;
            }

            #[tokio::test]
            async fn tokio_postgres() {
                let lab = PostgresLab::shared().await;
                for way in $ways {
                    crate::tokio_postgres_rs::visit(&lab, way).await.unwrap_or_else(|error| panic!("{way:?}: {error:?}\n{}", lab.log()));
                }
            }
        }
    };
    (@ $ways:expr; $($name:ident: $program:expr;)+) => {
        $(#[tokio::test] async fn $name() { postgres(stringify!($name), $program, &$ways).await; })+
    };
}

postgres_clients!(postgres_direct, [Way::Direct]);
postgres_clients!(postgres_relay, Way::RELAY);
postgres_clients!(postgres_session, [Way::Session]);
postgres_clients!(postgres_transaction, [Way::Transaction]);

/// A test of each client of Redis on the ways of one list.
macro_rules! redis_clients {
    ($module:ident, $ways:expr) => {
        mod $module {
            use super::{RedisLab, Way, programs, redis, resubscribes};

            redis_clients!(@ $ways;
                redis_cli: redis, programs::shell("redis-cli.sh");
                redis_py: redis, programs::python("redis_py.py");
                node_redis: redis, programs::node("redis.js");
                ioredis: redis, programs::node("ioredis.js");
                go_redis: redis, programs::go("goredis");
                go_redis_of_harbor: redis, programs::go("goredis-harbor");
                redigo: redis, programs::go("redigo");
                redigo_of_harbor: redis, programs::go("redigo-harbor");
                redis_py_resubscribes: resubscribes, programs::python("redis_py.py");
                node_redis_resubscribes: resubscribes, programs::node("redis.js");
                ioredis_resubscribes: resubscribes, programs::node("ioredis.js");
                go_redis_resubscribes: resubscribes, programs::go("goredis");
                redigo_resubscribes: resubscribes, programs::go("redigo");
            );

            #[tokio::test]
            async fn redis_rs() {
                let lab = RedisLab::shared().await;
                for way in $ways {
                    crate::redis_rs::visit(&lab, way).await.unwrap_or_else(|error| panic!("{way:?}: {error:?}\n{}", lab.log()));
                }
            }
        }
    };
    (@ $ways:expr; $($name:ident: $how:ident, $program:expr;)+) => {
        $(#[tokio::test] async fn $name() { $how(stringify!($name), $program, &$ways).await; })+
    };
}

redis_clients!(direct_and_relay, Way::ALL);
redis_clients!(pooled, Way::POOLED);
