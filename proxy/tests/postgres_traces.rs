//! What the scanner says of a text, against what a real server has left after running it: it may say too much, never too little.
//!
//! Each text runs on a session of its own, straight to the server: with the server's defaults, with `standard_conforming_strings` off, on a
//! session that already has something of every kind (what goes away must have been announced), and in company of another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it expects"
)]

#[path = "../src/postgres/sql/tests/cases.rs"]
mod cases;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use lab::postgres::Auth;
use lab::{Authority, Postgres};
use redis_tls_proxy::postgres::sql::{Command, Verdict, scan};
use redis_tls_proxy::postgres::traces::Traces;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// More that a server accepts, about the objects of [`OBJECTS`].
const TEXTS: &[&str] = &[
    "CREATE TEMP TABLE n AS SELECT 1 AS a",
    "BEGIN; CREATE TEMP TABLE n (a int) ON COMMIT DROP; COMMIT",
    "BEGIN; CREATE TEMP TABLE n (a int); ROLLBACK",
    "CREATE TABLE pg_temp.n (a int)",
    "CREATE TABLE \"pg_temp\".n (a int)",
    "CREATE TABLE U&\"pg\\005ftemp\".n (a int)",
    "CREATE VIEW pg_temp.n AS SELECT 1",
    "CREATE SEQUENCE pg_temp.n",
    "CREATE TYPE pg_temp.n AS (a int)",
    "CREATE FUNCTION pg_temp.n() RETURNS int LANGUAGE sql RETURN 1",
    "SELECT a INTO TEMP n FROM t",
    "SELECT a INTO LOCAL TEMPORARY TABLE n FROM t",
    "EXPLAIN ANALYZE CREATE TEMP TABLE n AS SELECT 1",
    "EXPLAIN (ANALYZE, COSTS off) SELECT pg_advisory_lock(3)",
    "EXPLAIN ANALYZE DECLARE n CURSOR WITH HOLD FOR SELECT 1",
    "BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE n (a int); COMMIT",
    "BEGIN; SET LOCAL search_path = 'pg_temp'; CREATE TABLE n (a int); COMMIT",
    "BEGIN; SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE n (a int); COMMIT",
    "SET search_path = pg_temp; CREATE TABLE n (a int)",
    "CREATE TEMP VIEW n AS SELECT * FROM t; CREATE TABLE m (a int)",
    "DO $$ BEGIN CREATE TEMP TABLE n (a int); END $$",
    "DO $$ BEGIN EXECUTE 'CREATE TEMP' || ' TABLE n (a int)'; END $$",
    "DO 'BEGIN LISTEN n; END'",
    "DO LANGUAGE plpgsql E'BEGIN\\nLISTEN n; END'",
    "DO 'BEGIN LIS'\n'TEN n; END'",
    "DO $$ BEGIN PERFORM pg_advisory_lock(4); END $$",
    "DO $$ BEGIN SET work_mem = '5MB'; END $$",
    "DO $$ BEGIN -- a comment\nSET work_mem = '5MB'; END $$",
    "DO $$ BEGIN IF true THEN SET work_mem TO '5MB'; END IF; END $$",
    "DO $$ << label >> BEGIN EXECUTE 'set work_mem to ''5MB'''; END $$",
    "DO $$ BEGIN EXECUTE 'PREPARE n AS SELECT 1'; END $$",
    "DO $$ BEGIN SET ROLE other; END $$",
    "DO $$ BEGIN LOAD 'auto_explain'; END $$",
    "DO $$ DECLARE n CURSOR FOR SELECT 1; BEGIN UPDATE t SET a = 2; END $$",
    "LOAD 'auto_explain'",
    "LOAD E'auto_explain'",
    "SET ROLE other",
    "SET role TO other",
    "SET SESSION role = 'other'",
    "SELECT set_config('role', 'other', false)",
    "SET SESSION AUTHORIZATION other",
    "SET session_authorization TO other",
    "BEGIN; SET LOCAL ROLE other; COMMIT",
    "SET ROLE other; RESET ROLE",
    "BEGIN; SET LOCAL SESSION AUTHORIZATION other; COMMIT",
    "UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
    "UPDATE pg_catalog.pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
    "WITH n AS (UPDATE \"pg_settings\" SET setting = '5MB' WHERE name = 'work_mem' RETURNING 1) SELECT 1",
    "SELECT set_config('work_mem', '5MB', false)",
    "SELECT set_config('work_mem', '5MB', true)",
    "SELECT set_config('work_mem', '5MB', NOT true)",
    "SELECT pg_catalog.\"set_config\" ('work_mem', '5MB', true AND false)",
    "SELECT set_config('work_mem', set_config('maintenance_work_mem', '5MB', false), true)",
    "SET work_mem = '5MB'",
    "SET work_mem TO 8192",
    "SET SESSION work_mem = +8192",
    "SET work_mem = 08192",
    "SET seq_page_cost = 1.25",
    "SET seq_page_cost = 12.5e-1",
    "SET extra_float_digits = -1",
    "SET enable_seqscan = off",
    "SET enable_seqscan TO FALSE",
    "SET \"Enable_SeqScan\" TO 'off'",
    "SET enable_seqscan = U&'off'",
    "SET search_path = t, \"Public\", 'pg_catalog'",
    "SET search_path TO ''",
    "SET search_path TO 'a, b'",
    "SET search_path TO \"a\"\"b\", public",
    "SET temp_tablespaces = ''",
    "SET SCHEMA 'Some'",
    "SET NAMES 'LATIN1'",
    "SET client_encoding TO DEFAULT",
    "SET TIME ZONE -7",
    "SET TIME ZONE +5.5",
    "SET TIME ZONE 'America/New_York'",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET TIME ZONE LOCAL",
    "SET datestyle TO postgres, dmy",
    "SET datestyle TO 'german'",
    "SET application_name = 'it''s'",
    "SET application_name = $$it's$$",
    "SET application_name = E'a\\tb'",
    "SET application_name = 'a'\n'b'",
    "SET application_name = bare",
    "SET application_name = Bare",
    "SET application_name = \"Bare\"",
    "SET application_name = a\\nb",
    "SET application_name = 'a\\nb'",
    "SET custom.one = 'x'",
    "SET session.user_id = 5",
    "SET local.user_id = '5'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "SET SESSION TRANSACTION READ ONLY",
    "SET transaction_isolation = 'serializable'",
    "SET transaction_read_only = on",
    "SET default_transaction_isolation = serializable",
    "SET XML OPTION DOCUMENT",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SET standard_conforming_strings = off",
    "SET work_mem = '5MB'; RESET work_mem",
    "BEGIN; SET work_mem = '5MB'; ROLLBACK",
    "BEGIN; SET work_mem = '5MB'; COMMIT",
    "BEGIN; SET LOCAL work_mem = '5MB'; COMMIT",
    "SELECT 'a\\'; SET work_mem = '5MB'; --'",
    "SELECT 'a\\', '; SET work_mem = $$5MB$$; --'",
    "SELECT E'a'\n'\\'; LISTEN n; --'; LISTEN m",
    "SELECT 'a\\\\''; LISTEN n; --'",
    "SELECT 'a'';\\'; LISTEN n; --'",
    "SELECT 'x' ; /* ' */ LISTEN n; -- '",
    "SELECT $a$ $b$ $a$; LISTEN n",
    "SELECT 1 AS a$b$; LISTEN n; SELECT 2 AS c$b$",
    "SELECT U&'\\0061;'; LISTEN n",
    "SELECT B'1', X'1F', N'x;', E'\\\\'; LISTEN n",
    "SELECT /*/ */ pg_advisory_lock(5)",
    "SELECT 1 /* /* */ ; LISTEN n */; LISTEN m",
    "SELECT 1 -- x\r; LISTEN n",
    "SELECT 1+--\npg_advisory_lock(5)",
    "SELECT PG_CATALOG . Pg_Try_Advisory_Lock/**/(5)",
    "SELECT U&\"pg!005fadvisory!005flock\" UESCAPE '!' (5)",
    "SELECT pg_advisory_lock(5), pg_advisory_unlock(5)",
    "SELECT pg_advisory_xact_lock(5)",
    "BEGIN; SELECT pg_advisory_lock(5); ROLLBACK",
    "SELECT * FROM pg_advisory_lock(5)",
    "INSERT INTO t SELECT 1 FROM pg_advisory_lock_shared(5)",
    "PREPARE n AS SELECT pg_advisory_lock(5)",
    "PREPARE n (int) AS SELECT $1; EXECUTE n(1); DEALLOCATE n",
    "PREPARE n AS SELECT pg_advisory_lock(5); EXECUTE n",
    "PREPARE transaction AS SELECT 1",
    "BEGIN; PREPARE n AS SELECT 1; ROLLBACK",
    "DECLARE n CURSOR WITH HOLD FOR SELECT 1",
    "BEGIN; DECLARE n INSENSITIVE SCROLL CURSOR WITH/* */HOLD FOR SELECT 1; COMMIT",
    "BEGIN; DECLARE n CURSOR FOR SELECT 1; COMMIT",
    "CREATE OR REPLACE FUNCTION n() RETURNS int BEGIN ATOMIC SELECT pg_advisory_lock(1); SELECT CASE WHEN true THEN 1 END; END; LISTEN n",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1 AS end; SELECT 1 AS case; END; SELECT pg_advisory_lock(5)",
    "CREATE OR REPLACE RULE n AS ON INSERT TO u DO ALSO (NOTIFY n; DELETE FROM t); LISTEN n",
    "UNLISTEN kept",
    "UNLISTEN *",
    "SELECT pg_advisory_unlock(99)",
    "SELECT pg_catalog.pg_advisory_unlock_all()",
    "DO $$ BEGIN PERFORM pg_advisory_unlock(99); END $$",
    "DROP TABLE kept",
    "DROP TABLE IF EXISTS t_none, kept",
    "BEGIN; DROP TABLE kept; COMMIT",
    "DO $$ BEGIN DROP TABLE kept; END $$",
    "DEALLOCATE kept",
    "DEALLOCATE PREPARE ALL",
    "CLOSE kept",
    "CLOSE ALL",
    "DISCARD TEMP",
    "DISCARD ALL",
    "DISCARD PLANS",
    "RESET ALL",
    "RESET search_path",
    "RESET SESSION AUTHORIZATION",
];

const OBJECTS: &str =
    "CREATE TABLE t (a int, b text); CREATE TABLE u (a int); CREATE SEQUENCE s; CREATE TABLE temp (a int); CREATE TABLE listen (a int);";

/// Something of every kind, for texts that take away.
const KEPT: &str = "SELECT pg_advisory_lock(99); LISTEN kept; CREATE TEMP TABLE kept (a int); PREPARE kept AS SELECT 1; \
     DECLARE kept CURSOR WITH HOLD FOR SELECT 1";

/// How much of each kind a session has, and its settings as far as they are its own.
const STATE: &str = "SELECT '', 'lock', count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() UNION ALL \
     SELECT '', 'listen', count(*)::text FROM pg_listening_channels() UNION ALL \
     SELECT '', 'temp', ((SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) \
         + (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()))::text UNION ALL \
     SELECT '', 'prepare', count(*)::text FROM pg_prepared_statements WHERE from_sql UNION ALL \
     SELECT '', 'hold', count(*)::text FROM pg_cursors WHERE is_holdable UNION ALL \
     SELECT '', 'role', (current_user <> 'postgres' OR session_user <> 'postgres')::int::text UNION ALL \
     SELECT 'setting', name, setting FROM pg_settings WHERE source NOT IN ('default', 'configuration file', 'command line', 'override') UNION ALL \
     SELECT 'setting', name, setting FROM pg_settings WHERE name LIKE 'auto_explain.%' UNION ALL \
     SELECT 'setting', name, current_setting(name, true) FROM (VALUES ('custom.one'), ('session.user_id'), ('local.user_id'), ('local.x'), \
         ('a.b'), ('a.b.c'), ('myapp.user_id')) AS own (name)";

/// What a session has.
#[derive(Clone, Debug, PartialEq)]
struct State {
    things: BTreeMap<String, u64>,
    settings: BTreeMap<String, Option<String>>,
}

/// The names of settings that differ; role and user go by other ways, and the transaction's follow their defaults.
fn changed(one: &State, other: &State) -> BTreeSet<String> {
    const DERIVED: [&str; 6] =
        ["role", "session_authorization", "is_superuser", "transaction_isolation", "transaction_read_only", "transaction_deferrable"];
    let names: BTreeSet<_> = one.settings.keys().chain(other.settings.keys()).collect();
    let differ = names.into_iter().filter(|name| one.settings.get(*name) != other.settings.get(*name));
    differ.filter(|name| !DERIVED.contains(&name.as_str())).cloned().collect()
}

/// A session straight to the server.
struct Session(Client);

impl Session {
    async fn open(port: u16, database: &str, begin: &str) -> Self {
        let config =
            format!("host=127.0.0.1 port={port} user=postgres dbname={database} sslmode=disable options='-c statement_timeout=20s'");
        let (sql, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        sql.batch_execute(begin).await.unwrap();
        Self(sql)
    }

    async fn state(&self) -> State {
        let (mut things, mut settings) = (BTreeMap::new(), BTreeMap::new());
        for message in self.0.simple_query(STATE).await.unwrap() {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let (kind, name, value) = (row.get(0).unwrap(), row.get(1).unwrap().to_owned(), row.get(2));
            match kind {
                "setting" => drop(settings.insert(name, value.map(str::to_owned))),
                _ => drop(things.insert(name, value.unwrap().parse().unwrap())),
            }
        }
        State { things, settings }
    }

    /// Runs a text to the end of its transaction; whether it succeeded.
    async fn run(&self, text: &str) -> bool {
        let done = self.0.simple_query(text).await.is_ok();
        // A transaction that it left open may end either way; this way it leaves more.
        self.0.batch_execute("COMMIT").await.unwrap();
        done
    }

    /// The next session may want the same locks before the server has noticed that this one is gone.
    async fn end(self) {
        self.0.batch_execute("SELECT pg_catalog.pg_advisory_unlock_all()").await.unwrap();
    }
}

/// What the verdict lacks of what a session has more than before.
fn unsaid(verdict: &Verdict, before: &State, after: &State) -> Vec<String> {
    let kinds = [
        ("lock", Traces::LOCK),
        ("listen", Traces::LISTEN),
        ("temp", Traces::TEMP),
        ("prepare", Traces::PREPARE),
        ("hold", Traces::HOLD),
        ("role", Traces::ROLE),
    ];
    // Of a text that cannot be looked at nothing else need be said.
    let all = verdict.leaves.has(Traces::UNSEEN);
    let mut lacks = Vec::new();
    for (kind, trace) in kinds {
        if after.things[kind] > before.things[kind] && !verdict.leaves.has(trace) && !all {
            // The role is a setting, too, for those who set it as one.
            if !(kind == "role" && verdict.leaves.has(Traces::SETTING)) {
                lacks.push(kind.to_owned());
            }
        }
        if after.things[kind] < before.things[kind] && !verdict.ends {
            lacks.push(format!("the end of {kind}"));
        }
    }
    for name in changed(before, after) {
        let followed = match &verdict.command {
            Some(Command::Set { name: set, .. }) => **set == *name.to_ascii_lowercase().as_bytes(),
            Some(Command::ResetAll | Command::DiscardAll) => true,
            _ => verdict.resets,
        };
        let loaded = name.starts_with("auto_explain.") && verdict.leaves.has(Traces::LOAD);
        if !followed && !loaded && !verdict.leaves.has(Traces::SETTING) && !all {
            lacks.push(format!("the setting {name}"));
        }
    }
    lacks
}

/// What the verdict says and the session has not got.
fn needless(verdict: &Verdict, before: &State, after: &State) -> bool {
    let kinds =
        [("lock", Traces::LOCK), ("listen", Traces::LISTEN), ("temp", Traces::TEMP), ("prepare", Traces::PREPARE), ("hold", Traces::HOLD)];
    kinds.iter().any(|(kind, trace)| verdict.leaves.has(*trace) && after.things[*kind] <= before.things[*kind])
        || verdict.leaves.has(Traces::SETTING) && changed(before, after).is_empty()
}

/// What a followed setting comes to, where the proxy sets it, must be what the client's own SET came to.
async fn set_alike(session: &Session, verdict: &Verdict, after: &State) -> Option<String> {
    let Some(Command::Set { name, value: Some(value) }) = &verdict.command else { return None };
    let (name, value) = (std::str::from_utf8(name).unwrap(), std::str::from_utf8(value).unwrap());
    let row = session.0.query_one("SELECT set_config($1, $2, false)", &[&name, &value]).await.unwrap();
    let (set, state) = (row.get::<_, String>(0), session.state().await);
    let differ = changed(&state, after);
    (!differ.is_empty()).then(|| format!("{name} is {set:?} where the proxy sets it; differ: {differ:?}"))
}

/// Runs each text on a session of its own that begins with `begin`. Returns those that succeeded, and what was wrong.
async fn play(port: u16, database: &'static str, begin: &'static str, texts: Vec<String>) -> (Vec<String>, Vec<String>) {
    let session = Session::open(port, database, begin).await;
    let before = session.state().await;
    session.end().await;
    let (mut succeeded, mut wrong, mut more) = (Vec::new(), Vec::new(), 0);
    for text in texts {
        let session = Session::open(port, database, begin).await;
        let done = session.run(&text).await;
        let (verdict, after) = (scan(text.as_bytes()), session.state().await);
        session.end().await;
        let lacks = unsaid(&verdict, &before, &after);
        if !lacks.is_empty() {
            wrong.push(format!("{text:?} with {begin:?}: {verdict:?} lacks {lacks:?}"));
        }
        if done {
            if matches!(verdict.command, Some(Command::Set { .. })) {
                let session = Session::open(port, database, begin).await;
                wrong.extend(set_alike(&session, &verdict, &after).await.map(|what| format!("{text:?}: {what}")));
                session.end().await;
            }
            more += usize::from(needless(&verdict, &before, &after));
            succeeded.push(text);
        }
    }
    println!("{database}: {} texts ran, {more} verdicts said more than was left", succeeded.len());
    (succeeded, wrong)
}

#[tokio::test]
async fn nothing_is_left_that_the_scanner_did_not_say() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).auth(Auth::Trust).start().await.unwrap();
    let port = postgres.port();
    postgres.sql("CREATE ROLE other SUPERUSER").await.unwrap();
    for database in ["defaults", "escapes", "kept", "pairs"] {
        postgres.sql(&format!("CREATE DATABASE {database}")).await.unwrap();
        postgres.sql_in(database, OBJECTS).await.unwrap();
    }
    let listed = cases::PLAIN.iter().chain(cases::SAID.iter().chain(cases::COMMANDS).map(|(text, _)| text)).chain(TEXTS);
    // This client cannot copy, and no client can send a NUL.
    let texts: Vec<_> = listed.filter(|text| !text.contains(" STD") && !text.contains('\0')).map(|text| (*text).to_owned()).collect();

    let (defaults, escapes, kept) = tokio::join!(
        play(port, "defaults", "", texts.clone()),
        play(port, "escapes", "SET standard_conforming_strings = off", texts.clone()),
        play(port, "kept", KEPT, texts),
    );
    let mut rng = Rng::with_seed(1996);
    let pairs: Vec<_> = (0..150).map(|_| [0, 1].map(|_| rng.choice(&defaults.0).unwrap().as_str()).join("\n;")).collect();
    let pairs = play(port, "pairs", "", pairs).await;

    let wrong: Vec<_> = [&defaults, &escapes, &kept, &pairs].into_iter().flat_map(|(_, wrong)| wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(defaults.0.len() > 250 && pairs.0.len() > 50, "{} and {} texts ran", defaults.0.len(), pairs.0.len());
}
