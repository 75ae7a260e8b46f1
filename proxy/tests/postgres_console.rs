//! The console of a pooled PostgreSQL listener, asked with real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]

mod support;

use std::collections::HashMap;

use lab::{Authority, Postgres};
use support::{Front, SOON, front, psql_ok, psql_refused};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A real server with a proxy in front of it.
struct Bench {
    postgres: Postgres,
    front: Front,
}

impl Bench {
    async fn new(arguments: &[&str]) -> Self {
        let authority = Authority::new().unwrap();
        let postgres = Postgres::builder(&authority).user("harbor", "s3cret", "registry").start().await.unwrap();
        let url = format!("postgresql://harbor:s3cret@localhost:{}/registry", postgres.port());
        let front = front(&url, &postgres.ca_file(), arguments).await;
        Self { postgres, front }
    }

    fn connection(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=somebody dbname={database} application_name=looker", self.front.port)
    }

    async fn connect(&self, database: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.connection(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn console(&self) -> Client {
        self.connect("redis_tls_proxy").await
    }
}

/// Columns in order, and rows by column.
async fn ask(console: &Client, text: &str) -> (Vec<String>, Vec<HashMap<String, String>>) {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    for message in console.simple_query(text).await.unwrap() {
        match message {
            SimpleQueryMessage::RowDescription(names) => columns = names.iter().map(|column| column.name().to_owned()).collect(),
            SimpleQueryMessage::Row(row) => {
                let values = columns.iter().map(|name| (name.clone(), row.get(name.as_str()).unwrap().to_owned()));
                rows.push(values.collect());
            }
            _ => {}
        }
    }
    (columns, rows)
}

async fn backend(client: &Client) -> String {
    let messages = client.simple_query("select pg_backend_pid() as pid").await.unwrap();
    messages
        .iter()
        .find_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get("pid").map(str::to_owned) } else { None })
        .unwrap()
}

#[tokio::test]
async fn psql_is_shown_everything_but_secrets() {
    let bench = Bench::new(&["--pool", "transaction"]).await;
    let console = bench.connection("redis_tls_proxy");
    let version = format!("redis_tls_proxy {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(psql_ok(&console, "", "show version;").await, version);
    let mut all = String::new();
    for topic in ["help", "pools", "clients", "servers", "stats", "databases", "lists", "config", "state", "version"] {
        let shown = psql_ok(&console, "", &format!("SHOW {topic}")).await;
        assert!(!shown.is_empty() || topic == "servers", "{topic}");
        all += &shown;
    }
    assert!(!all.contains("s3cret"));
    assert_eq!(psql_ok(&console, "", "set x to 1; -- as drivers do").await, "");
    assert_eq!(psql_ok(&console, "", "").await, "");
    for (text, complaint) in [("select 1", "SHOW HELP lists them"), ("PAUSE registry", "all databases"), ("kill x", "not a command")] {
        assert!(psql_refused(&console, "", text).await.contains(complaint), "{text}");
    }
}

#[tokio::test]
async fn tables_have_the_columns_that_tools_look_for_and_the_clients_there_are() {
    let bench = Bench::new(&["--pool", "transaction", "--workers", "1"]).await;
    let (client, console) = (bench.connect("registry").await, bench.console().await);
    let pid = backend(&client).await;
    let (columns, pools) = ask(&console, "show pools").await;
    let expected = "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled \
                    sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode";
    assert_eq!(columns, expected.split(' ').collect::<Vec<_>>());
    let registry = pools.iter().find(|row| row["database"] == "registry").unwrap();
    assert_eq!(
        (&*registry["cl_active"], &*registry["cl_waiting"], &*registry["pool_mode"], &*registry["user"]),
        ("1", "0", "transaction", "harbor")
    );
    let (columns, clients) = ask(&console, "show clients").await;
    assert_eq!(columns[..6], ["type", "user", "database", "state", "addr", "port"]);
    assert_eq!(clients.len(), 2);
    let looker = clients.iter().find(|row| row["database"] == "registry").unwrap();
    assert_eq!((&*looker["user"], &*looker["addr"], &*looker["application_name"]), ("somebody", "127.0.0.1", "looker"));
    let (_, servers) = ask(&console, "show servers").await;
    let mine = servers.iter().find(|row| row["remote_pid"] == pid).unwrap_or_else(|| panic!("{servers:?}"));
    assert_eq!((&*mine["database"], &*mine["port"]), ("registry", &*bench.postgres.port().to_string()));
    assert!(mine["tls"].starts_with("TLSv1.3/"), "{mine:?}");
    let (columns, stats) = ask(&console, "show stats").await;
    assert_eq!(columns[..3], ["database", "total_xact_count", "total_query_count"]);
    let registry = stats.iter().find(|row| row["database"] == "registry").unwrap();
    for total in ["total_xact_count", "total_received", "total_sent", "total_xact_time"] {
        assert_ne!(registry[total], "0", "{total}");
    }
    // In a transaction it has a connection of its own.
    client.simple_query("begin").await.unwrap();
    let (_, clients) = ask(&console, "show clients").await;
    let looker = clients.iter().find(|row| row["database"] == "registry").unwrap();
    let (_, servers) = ask(&console, "show servers").await;
    let mine = servers.iter().find(|row| row["state"] == "active").unwrap_or_else(|| panic!("{servers:?}"));
    assert_eq!((&mine["id"], &mine["link"], &*mine["application_name"]), (&looker["link"], &looker["id"], "looker"));
    client.simple_query("commit").await.unwrap();
    assert!(ask(&console, "show servers").await.1.iter().all(|row| row["state"] == "idle"));
    // Who leaves is seen no longer.
    drop(client);
    let gone = async { while ask(&console, "show clients").await.1.len() > 1 {} };
    timeout(SOON, gone).await.expect("a client that has left is still shown");
}

#[tokio::test]
async fn extended_queries_are_refused_and_the_console_goes_on() {
    let bench = Bench::new(&["--pool", "session"]).await;
    let console = bench.console().await;
    for _ in 0..2 {
        let error = console.query("show version", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000");
        assert_eq!(ask(&console, "show version").await.1.len(), 1);
    }
    let error = console.simple_query("show version; nonsense").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    assert_eq!(ask(&console, "show version").await.1.len(), 1);
}

#[tokio::test]
async fn a_pause_closes_every_connection_and_holds_until_it_is_ended() {
    let bench = Bench::new(&["--pool", "transaction"]).await;
    let (client, console) = (bench.connect("registry").await, bench.console().await);
    backend(&client).await;
    console.simple_query("pause").await.unwrap();
    assert_eq!(bench.postgres.sql("select count(*) from pg_stat_activity where usename = 'harbor'").await.unwrap(), "0");
    assert!(ask(&console, "show state").await.1.iter().any(|row| row["key"] == "paused" && row["value"] == "yes"));
    let mut asking = tokio::spawn(async move { backend(&client).await });
    let waits = async { while !ask(&console, "show pools").await.1.iter().any(|row| row["cl_waiting"] == "1") {} };
    tokio::select! {
        _ = &mut asking => panic!("served during a pause"),
        waits = timeout(SOON, waits) => waits.expect("nobody waits"),
    }
    console.simple_query("resume").await.unwrap();
    timeout(SOON, asking).await.expect("the pause goes on").unwrap();
}

#[tokio::test]
async fn a_reconnect_replaces_connections() {
    let bench = Bench::new(&["--pool", "transaction", "--workers", "1"]).await;
    let (client, console) = (bench.connect("registry").await, bench.console().await);
    backend(&client).await;
    let before = bench.postgres.sql("select pid from pg_stat_activity where usename = 'harbor'").await.unwrap();
    console.simple_query("reconnect").await.unwrap();
    let after = backend(&client).await;
    assert!(!before.is_empty() && !before.lines().any(|pid| pid == after), "{before} {after}");
}

#[tokio::test]
async fn a_cancel_ends_the_query_of_its_client_alone() {
    for mode in ["session", "transaction"] {
        let bench = Bench::new(&["--pool", mode]).await;
        let (one, other) = (bench.connect("registry").await, bench.connect("registry").await);
        let (cancel_one, cancel_other) = (one.cancel_token(), other.cancel_token());
        let ask = |client: Client| tokio::spawn(async move { (client.simple_query("select pg_sleep(120)").await.map(drop), client) });
        let (one, other) = (ask(one), ask(other));
        let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep%' and usename = 'harbor'";
        let both = async { while bench.postgres.sql(running).await.unwrap() != "2" {} };
        timeout(SOON, both).await.expect("two queries are running");
        cancel_one.cancel_query(NoTls).await.unwrap();
        let (outcome, one) = timeout(SOON, one).await.expect("cancelled").unwrap();
        assert_eq!(outcome.unwrap_err().code().unwrap().code(), "57014");
        assert_eq!(bench.postgres.sql(running).await.unwrap(), "1");
        // One that comes too late hits nobody.
        cancel_one.cancel_query(NoTls).await.unwrap();
        backend(&one).await;
        assert!(!other.is_finished());
        cancel_other.cancel_query(NoTls).await.unwrap();
        timeout(SOON, other).await.expect("cancelled").unwrap().0.unwrap_err();
    }
}
