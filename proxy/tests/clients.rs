//! Real clients through the built program, in front of the real servers: each with its own login, with a local password, and with none.
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

use servers::{Door, PostgresLab, Program, RedisLab};

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

    pub(super) fn go(name: &str) -> Program {
        Program::new(&Program::built_go(name), &[])
    }
}

/// One client of PostgreSQL at every door at the same time.
async fn postgres(name: &str, program: Program) {
    let lab = PostgresLab::shared().await;
    let program = &program;
    tokio::join!(
        lab.run(name, program, Door::OwnLogin),
        lab.run(name, program, Door::LocalPassword),
        lab.run(name, program, Door::NoPassword),
    );
}

/// One client of Redis at every door at the same time.
async fn redis(name: &str, program: Program) {
    let lab = RedisLab::shared().await;
    let program = &program;
    tokio::join!(
        lab.run(name, program, Door::OwnLogin),
        lab.run(name, program, Door::LocalPassword),
        lab.run(name, program, Door::NoPassword),
    );
}

#[tokio::test]
async fn psql() {
    let lab = PostgresLab::shared().await;
    postgres("psql", programs::shell("psql.sh").env("PSQL", &lab.client("psql"))).await;
}

#[tokio::test]
async fn pgbench() {
    let lab = PostgresLab::shared().await;
    postgres("pgbench", programs::shell("pgbench.sh").env("PSQL", &lab.client("psql")).env("PGBENCH", &lab.client("pgbench"))).await;
}

#[tokio::test]
async fn psycopg() {
    postgres("psycopg", programs::python("postgres.py")).await;
}

#[tokio::test]
async fn node_pg() {
    postgres("node_pg", programs::node("postgres.js")).await;
}

#[tokio::test]
async fn pgx_5() {
    postgres("pgx_5", programs::go("pgx5")).await;
}

#[tokio::test]
async fn pgx_4() {
    postgres("pgx_4", programs::go("pgx4")).await;
}

#[tokio::test]
async fn tokio_postgres() {
    let lab = PostgresLab::shared().await;
    for door in Door::ALL {
        tokio_postgres_rs::visit(&lab, door).await.unwrap_or_else(|error| panic!("{door:?}: {error:?}\n{}", lab.log()));
    }
}

#[tokio::test]
async fn redis_cli() {
    redis("redis_cli", programs::shell("redis-cli.sh")).await;
}

#[tokio::test]
async fn redis_py() {
    redis("redis_py", programs::python("redis_py.py")).await;
}

#[tokio::test]
async fn node_redis() {
    redis("node_redis", programs::node("redis.js")).await;
}

#[tokio::test]
async fn go_redis() {
    redis("go_redis", programs::go("goredis")).await;
}

#[tokio::test]
async fn redigo() {
    redis("redigo", programs::go("redigo")).await;
}

#[tokio::test]
async fn redis_rs() {
    let lab = RedisLab::shared().await;
    for door in Door::ALL {
        redis_rs::visit(&lab, door).await.unwrap_or_else(|error| panic!("{door:?}: {error:?}\n{}", lab.log()));
    }
}
