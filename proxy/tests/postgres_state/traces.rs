//! Locks, channels, temporary tables and their like: left by one client, looked for by the next, by the one beside it, and after they are gone.

use crate::pg_modes::message::{describe, flush, parse, query, run, sync, terminate, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    whoever_comes_next_finds_nothing,
    whoever_is_beside_finds_nothing,
    what_is_undone_holds_nobody_up,
    what_is_rolled_back_leaves_nothing,
    locks_for_a_transaction_hold_nobody_up,
    a_migrators_lock_excludes_the_other,
    notifications_reach_who_listens,
    listening_by_the_extended_protocol,
    sequences_remember_their_own_client,
    hidden_in_a_function;
    transaction: traces_of_who_had_to_wait
);

/// Something that outlives a transaction.
struct Trace {
    /// How it comes to be there.
    leave: &'static str,
    /// What shows it, on its session.
    look: &'static str,
    /// What the look finds there, and on a new connection.
    there: &'static str,
    clean: &'static str,
    undo: &'static str,
}

const LOCKS: &str = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
const CHANNELS: &str = "select count(*) from pg_listening_channels()";
const TEMPORARY: &str = "select count(*) from pg_class where relnamespace = pg_my_temp_schema() and relkind in ('r', 'v', 'S')";
const PREPARED: &str = "select count(*) from pg_prepared_statements where from_sql";
const CURSORS: &str = "select count(*) from pg_cursors where is_holdable";

const fn counted(leave: &'static str, look: &'static str, undo: &'static str) -> Trace {
    Trace { leave, look, there: "1", clean: "0", undo }
}

const TRACES: &[Trace] = &[
    counted("select pg_advisory_lock(1)", LOCKS, "select pg_advisory_unlock(1)"),
    counted("select pg_advisory_lock(1, 2)", LOCKS, "select pg_advisory_unlock_all()"),
    counted("SELECT PG_TRY_ADVISORY_LOCK(3)", LOCKS, "select pg_advisory_unlock(3)"),
    counted("select pg_catalog.pg_advisory_lock_shared(1)", LOCKS, "select pg_advisory_unlock_shared(1)"),
    counted("select \"pg_advisory_lock\"(4)", LOCKS, "select pg_advisory_unlock(4)"),
    counted("with l as (select pg_try_advisory_lock_shared(5) as got) select got from l", LOCKS, "select pg_advisory_unlock_shared(5)"),
    counted("listen news", CHANNELS, "unlisten news"),
    counted("LISTEN \"Mixed Case\"", CHANNELS, "unlisten *"),
    counted("create temp table x as select 1 as i", TEMPORARY, "drop table x"),
    counted("create temporary table x (i int)", TEMPORARY, "discard temp"),
    counted("create table pg_temp.x as select 1 as i", TEMPORARY, "drop table x"),
    counted("select 1 as i into temp x", TEMPORARY, "drop table x"),
    counted("create local temporary view x as select 1 as i", TEMPORARY, "drop view x"),
    counted("create temp sequence x", TEMPORARY, "drop sequence x"),
    counted("prepare q as select 1", PREPARED, "deallocate q"),
    counted("/* a comment */ PREPARE q (int) as select $1", PREPARED, "deallocate all"),
    counted("declare c cursor with hold for select 1", CURSORS, "close c"),
    counted("declare c insensitive no scroll cursor with hold for select 1", CURSORS, "close all"),
    Trace { leave: "set role other", look: "select current_user", there: "other", clean: "app", undo: "reset role" },
    Trace { leave: "set session role 'other'", look: "select current_user", there: "other", clean: "app", undo: "set role none" },
];

/// The ways in which a statement may be sent.
#[derive(Clone, Copy, Debug)]
enum How {
    Simple,
    Among,
    Unnamed,
    Named,
    InTransaction,
}

const WAYS: [How; 5] = [How::Simple, How::Among, How::Unnamed, How::Named, How::InTransaction];

async fn send(client: &mut Client, sql: &str, how: How) {
    let messages = match how {
        How::Simple => vec![query(sql)],
        How::Among => vec![query(&format!("select 1; {sql}; select 2"))],
        How::Unnamed => vec![unnamed(sql, &[]), sync()],
        How::Named => vec![parse("leaver", sql, &[]), sync(), run("leaver", &[]), sync(), query("deallocate leaver")],
        How::InTransaction => vec![query("begin"), query(sql), query("commit")],
    };
    let answers = match how {
        How::Simple | How::Among | How::Unnamed => 1,
        How::Named | How::InTransaction => 3,
    };
    client.send(&messages).await;
    let heard = client.ready_times(answers).await;
    assert!(!heard.contains("E("), "{sql}, {how:?}: {heard}");
}

async fn look(client: &mut Client, trace: &Trace, wanted: &str, what: impl std::fmt::Display) {
    assert_eq!(client.value(trace.look).await, wanted, "{what}: {}", trace.leave);
}

async fn whoever_comes_next_finds_nothing(mode: Mode) {
    let bed = Bed::one(mode).await;
    for trace in TRACES {
        for how in WAYS {
            let mut client = bed.client().await;
            look(&mut client, trace, trace.clean, format!("before, {how:?}")).await;
            send(&mut client, trace.leave, how).await;
            look(&mut client, trace, trace.there, format!("there, {how:?}")).await;
            if matches!(how, How::Simple | How::Named) {
                client.send(&[terminate()]).await;
            }
            drop(client);
            let mut next = bed.client().await;
            look(&mut next, trace, trace.clean, format!("next, {how:?}")).await;
            assert!(next.is_quiet());
        }
    }
}

async fn whoever_is_beside_finds_nothing(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut beside = bed.client().await;
    for trace in TRACES {
        let mut client = bed.client().await;
        send(&mut client, trace.leave, How::Simple).await;
        for _ in 0..4 {
            look(&mut beside, trace, trace.clean, "beside").await;
            look(&mut client, trace, trace.there, "there").await;
        }
        send(&mut client, trace.undo, How::Simple).await;
        look(&mut client, trace, trace.clean, "undone").await;
        client.leave().await;
        if mode == Mode::Session {
            // A lease that is given back is cleaned before anybody else has it.
            beside.leave().await;
            beside = bed.client().await;
        }
    }
}

async fn what_is_undone_holds_nobody_up(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut beside = if mode == Mode::Session { None } else { Some(bed.client().await) };
    let mut client = bed.client().await;
    for trace in TRACES {
        for how in WAYS {
            send(&mut client, trace.leave, how).await;
            look(&mut client, trace, trace.there, format!("there, {how:?}")).await;
            let how = if ["discard temp", "deallocate all"].contains(&trace.undo) { How::Simple } else { how };
            send(&mut client, trace.undo, how).await;
            if let Some(beside) = &mut beside {
                look(beside, trace, trace.clean, format!("beside, {how:?}")).await;
            }
        }
    }
}

/// Who had to wait for its connection keeps it as well.
async fn traces_of_who_had_to_wait(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut first, mut second, mut client) = (bed.client().await, bed.client().await, bed.client().await);
    for trace in TRACES {
        first.query("begin").await;
        second.query("begin").await;
        client.send(&[query(trace.leave)]).await;
        // Until the proxy has seen it: nobody is told.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        first.query("commit").await;
        assert!(!client.ready().await.contains("E("), "{}", trace.leave);
        second.query("commit").await;
        for _ in 0..4 {
            look(&mut first, trace, trace.clean, "first").await;
            look(&mut second, trace, trace.clean, "second").await;
            look(&mut client, trace, trace.there, "there").await;
        }
        send(&mut client, trace.undo, How::Simple).await;
    }
}

async fn what_is_rolled_back_leaves_nothing(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut beside = if mode == Mode::Session { None } else { Some(bed.client().await) };
    let mut client = bed.client().await;
    for trace in TRACES.iter().filter(|trace| ![LOCKS, PREPARED].contains(&trace.look)) {
        client.send(&[query("begin"), query(trace.leave), query("rollback")]).await;
        assert!(!client.ready_times(3).await.contains("E("), "{}", trace.leave);
        if let Some(beside) = &mut beside {
            look(beside, trace, trace.clean, "beside").await;
        }
        look(&mut client, trace, trace.clean, "rolled back").await;
    }
    // Locks of the session and statements stay, whatever becomes of the transaction.
    client.send(&[query("begin"), query("select pg_advisory_lock(1)"), query("rollback")]).await;
    client.ready_times(3).await;
    assert_eq!(client.value(LOCKS).await, "1");
    client.query("select pg_advisory_unlock(1)").await;
}

async fn locks_for_a_transaction_hold_nobody_up(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut beside) = (bed.client().await, bed.client().await);
    for sql in
        ["select pg_advisory_xact_lock(1)", "select pg_try_advisory_xact_lock_shared(1)", "begin; select pg_advisory_xact_lock(1); commit"]
    {
        client.query(sql).await;
        assert_eq!(beside.value("select pg_try_advisory_xact_lock(1)").await, "t", "after {sql}");
    }
    client.query("create temp table only_here (i int) on commit drop").await;
    client.query("begin; create temp table only_here (i int) on commit drop; commit").await;
    assert_eq!(client.value(TEMPORARY).await, "0");
    assert_eq!(beside.value(TEMPORARY).await, "0");
}

/// As asyncpg does: in two steps, after a query that was cancelled.
async fn listening_by_the_extended_protocol(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut listener, mut other) = (bed.client().await, bed.client().await);
    for round in 0..20 {
        let name = format!("__asyncpg_stmt_{round}__");
        listener.send(&[parse(&name, "LISTEN \"news\"", &[]), describe(b'S', &name), flush()]).await;
        assert_eq!(listener.take(3).await, "1 t() n");
        assert_eq!(listener.ask(&[run(&name, &[]), sync()]).await, "2 C(LISTEN) Z(I)");
        other.send(&[parse("", "select pg_notify($1, 'first')", &[]), describe(b'S', ""), flush()]).await;
        assert_eq!(other.take(3).await, "1 t(25) T(pg_notify)");
        assert_eq!(other.ask(&[run("", &[Some("news")]), sync()]).await, "2 D() C(SELECT 1) Z(I)");
        assert_eq!(listener.take(1).await, "A(news,first)", "round {round}");
        assert_eq!(listener.query("unlisten *").await, "C(UNLISTEN) Z(I)");
    }
}

/// As golang-migrate does, of which two start at once.
async fn a_migrators_lock_excludes_the_other(mode: Mode) {
    let bed = Bed::with(mode, 3, &[]).await;
    bed.past(&[]).await.query("create table log (id serial, line text)").await;
    let migrate = async |name: &str| {
        let mut client = bed.client().await;
        for round in 0..5 {
            let lock = [parse("lrupsc_1_0", "SELECT pg_advisory_lock($1)", &[]), sync(), run("lrupsc_1_0", &[Some("4242")]), sync()];
            client.send(&lock).await;
            client.ready_times(2).await;
            assert_eq!(client.value(LOCKS).await, "1");
            for step in ["in", "out"] {
                let line = format!("insert into log (line) values ('{name}{round} {step}'); select pg_sleep(0.01)");
                assert!(!client.query(&line).await.contains("E("));
            }
            let unlocked = client.ask(&[unnamed("SELECT pg_advisory_unlock($1)", &[Some("4242")]), sync()]).await;
            assert_eq!(unlocked, "1 2 D(t) C(SELECT 1) Z(I)");
            client.query("deallocate lrupsc_1_0").await;
        }
    };
    tokio::join!(migrate("a"), migrate("b"), migrate("c"));
    let mut client = bed.client().await;
    let lines = client.value("select string_agg(line, ',' order by id) from log").await;
    let lines: Vec<_> = lines.split(',').collect();
    assert_eq!(lines.len(), 30);
    for pair in lines.chunks(2) {
        assert_eq!(pair[0].replace("in", "out"), pair[1], "{lines:?}");
    }
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and database = \
                 (select oid from pg_database where datname = current_database())";
    assert_eq!(bed.sql(locks).await, "0");
}

async fn notifications_reach_who_listens(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut listener, mut other) = (bed.client().await, bed.client().await);
    assert_eq!(listener.query("listen news").await, "C(LISTEN) Z(I)");
    for i in 0..5 {
        assert_eq!(other.query(&format!("notify news, 'number {i}'")).await, "C(NOTIFY) Z(I)");
        assert_eq!(listener.take(1).await, format!("A(news,number {i})"));
        assert_eq!(other.value("select 1").await, "1");
    }
    // Its own come before the end of what caused them.
    assert_eq!(listener.query("notify news, 'mine'").await, "C(NOTIFY) A(news,mine) Z(I)");
    listener.query("begin").await;
    other.query("notify news, 'late'").await;
    assert_eq!(listener.query("commit").await, "C(COMMIT) A(news,late) Z(I)");
    assert_eq!(listener.query("unlisten *").await, "C(UNLISTEN) Z(I)");
    other.query("notify news, 'nobody'").await;
    assert_eq!(listener.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
    assert!(other.is_quiet() && listener.is_quiet());
}

async fn sequences_remember_their_own_client(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut beside) = (bed.client().await, bed.client().await);
    client.query("create sequence s").await;
    for _ in 0..3 {
        client.query("begin").await;
        let value = client.value("select nextval('s')").await;
        beside.value("select nextval('s')").await;
        assert_eq!(client.value("select currval('s')").await, value);
        assert_eq!(client.value("select lastval()").await, value);
        client.query("commit").await;
    }
    client.leave().await;
    beside.leave().await;
    let mut next = bed.client().await;
    for sql in ["select currval('s')", "select lastval()"] {
        let heard = next.query(sql).await;
        assert!(heard.contains("E(55000: ") && heard.ends_with("is not yet defined in this session) Z(I)"), "{heard}");
    }
}

/// The text does not show what a function does, but for the body of DO: in `transaction` that is a limit, which the README names.
async fn hidden_in_a_function(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut maker = bed.past(&[]).await;
    for (name, body) in [
        ("lock", "perform pg_advisory_lock(1)"),
        ("temp", "create temp table x (i int)"),
        ("role", "set role other"),
        ("listen", "listen news"),
    ] {
        maker.query(&format!("create function hidden_{name}() returns void language plpgsql as $$ begin {body}; end $$")).await;
        for sql in [format!("do $$ begin {body}; end $$"), format!("select hidden_{name}()")] {
            if mode == Mode::Transaction && sql.starts_with("select") {
                continue;
            }
            let mut client = bed.client().await;
            assert!(!client.query(&sql).await.contains("E("), "{sql}");
            client.leave().await;
            let mut next = bed.client().await;
            for look in [LOCKS, CHANNELS, TEMPORARY] {
                assert_eq!(next.value(look).await, "0", "{sql}: {look}");
            }
            assert_eq!(next.value("select current_user").await, "app", "{sql}");
        }
    }
}
