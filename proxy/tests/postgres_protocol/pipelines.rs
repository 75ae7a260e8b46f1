//! Many messages at once: batches, errors in the middle of them, Flush, portals that are read in parts.

use crate::pg_modes::message::{bind, close, describe, execute, flush, function_call, message, parse, query, run, sync, unnamed};
use crate::pg_modes::{Bed, Mode, in_every_mode};

in_every_mode!(
    simple_queries,
    several_statements_in_one_query,
    batches_one_after_the_other,
    an_error_skips_to_sync,
    an_error_skips_a_simple_query_too,
    an_error_in_one_of_many_batches,
    a_batch_is_one_transaction,
    transactions_in_a_pipeline,
    failed_transactions_wait_for_rollback,
    flush_without_sync,
    flush_alone_and_sync_alone,
    an_unfinished_batch_keeps_its_connection,
    a_portal_in_parts_across_flush,
    a_portal_in_parts_within_a_transaction,
    a_portal_does_not_survive_its_transaction,
    notices_come_where_they_belong,
    functions_are_called,
    what_is_no_message_ends_the_connection,
);

async fn simple_queries(mode: Mode) {
    let bed = Bed::one(mode).await;
    let (mut client, mut other) = (bed.client().await, None);
    if mode == Mode::Transaction {
        other = Some(bed.client().await);
    }
    for (sql, wanted) in [
        ("select 1 as a, null as b, 'x y' as c", "T(a,b,c) D(1,null,x y) C(SELECT 1) Z(I)"),
        ("", "I Z(I)"),
        (" ; ", "I Z(I)"),
        ("-- ping", "I Z(I)"),
        ("create table t (i int primary key)", "C(CREATE TABLE) Z(I)"),
        ("insert into t values (1), (2)", "C(INSERT 0 2) Z(I)"),
        ("insert into t values (1)", "E(23505: duplicate key value violates unique constraint \"t_pkey\") Z(I)"),
        ("select * from nothing", "E(42P01: relation \"nothing\" does not exist) Z(I)"),
        ("selec", "E(42601: syntax error at or near \"selec\") Z(I)"),
        ("update t set i = i + 2 returning i", "T(i) D(3) D(4) C(UPDATE 2) Z(I)"),
        ("begin", "C(BEGIN) Z(T)"),
        ("savepoint s", "C(SAVEPOINT) Z(T)"),
        ("select 1/0", "E(22012: division by zero) Z(E)"),
        ("rollback to s", "C(ROLLBACK) Z(T)"),
        ("commit", "C(COMMIT) Z(I)"),
    ] {
        assert_eq!(client.query(sql).await, wanted, "{sql}");
        // Outside a transaction somebody else may come between.
        if let Some(other) = other.as_mut().filter(|_| wanted.ends_with("Z(I)")) {
            assert_eq!(other.query("select 2").await, "T(?column?) D(2) C(SELECT 1) Z(I)", "after {sql}");
        }
    }
    assert!(client.is_quiet());
}

async fn several_statements_in_one_query(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let two = client.query("create table t (i int); insert into t values (1); select i from t;").await;
    assert_eq!(two, "C(CREATE TABLE) C(INSERT 0 1) T(i) D(1) C(SELECT 1) Z(I)");
    // All of it is one transaction, unless it says otherwise.
    let failed = client.query("insert into t values (2); select 1/0; insert into t values (3)").await;
    assert_eq!(failed, "C(INSERT 0 1) E(22012: division by zero) Z(I)");
    assert_eq!(client.value("select count(*) from t").await, "1");
    let apart = client.query("begin; insert into t values (4); commit; select 1/0").await;
    assert_eq!(apart, "C(BEGIN) C(INSERT 0 1) C(COMMIT) E(22012: division by zero) Z(I)");
    assert_eq!(client.value("select count(*) from t").await, "2");
    assert_eq!(client.query("begin; select 1; begin").await.split(' ').next_back(), Some("Z(T)"));
    assert_eq!(client.query("commit; begin; rollback").await, "C(COMMIT) C(BEGIN) C(ROLLBACK) Z(I)");
}

async fn batches_one_after_the_other(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let batches: Vec<_> = (0..50).map(|i| [unnamed("select $1::int", &[Some(&i.to_string())]), sync()].concat()).collect();
    client.send(&batches).await;
    for i in 0..50 {
        assert_eq!(client.ready().await, format!("1 2 D({i}) C(SELECT 1) Z(I)"));
    }
    // Simple queries between.
    let mixed = [query("select 'a'"), unnamed("select 'b'", &[]), sync(), query("select 'c'"), query(""), sync()];
    client.send(&mixed).await;
    let wanted = "T(?column?) D(a) C(SELECT 1) Z(I) 1 2 D(b) C(SELECT 1) Z(I) T(?column?) D(c) C(SELECT 1) Z(I) I Z(I) Z(I)";
    assert_eq!(client.ready_times(5).await, wanted);
    assert!(client.is_quiet());
}

async fn an_error_skips_to_sync(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let parsed = client.ask(&[parse("s", "select 10 / ($1::int * i) from generate_series(1, 1) i", &[]), sync()]).await;
    assert_eq!(parsed, "1 Z(I)");
    let batch = [
        run("s", &[Some("2")]),
        run("s", &[Some("0")]),
        run("s", &[Some("5")]),
        parse("skipped", "select 1", &[]),
        describe(b'S', "skipped"),
        close(b'S', "s"),
        flush(),
        sync(),
    ];
    assert_eq!(client.ask(&batch).await, "2 D(5) C(SELECT 1) 2 E(22012: division by zero) Z(I)");
    // Neither was the one closed nor the other parsed.
    assert_eq!(client.ask(&[run("s", &[Some("1")]), sync()]).await, "2 D(10) C(SELECT 1) Z(I)");
    let gone = client.ask(&[run("skipped", &[]), sync()]).await;
    assert_eq!(gone, "E(26000: prepared statement \"skipped\" does not exist) Z(I)");
    assert_eq!(client.ask(&[parse("skipped", "select 2", &[]), run("skipped", &[]), sync()]).await, "1 2 D(2) C(SELECT 1) Z(I)");
    for wrong in [parse("w", "selec", &[]), bind("", "s", &[]), bind("", "s", &[Some("x")]), describe(b'P', "no"), execute("no", 0)] {
        let heard = client.ask(&[wrong, run("s", &[Some("1")]), sync()]).await;
        assert!(heard.starts_with("E(") && heard.ends_with(") Z(I)") && !heard.contains("D("), "{heard}");
    }
    assert!(client.is_quiet());
}

async fn an_error_skips_a_simple_query_too(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let batch = [unnamed("select 1/0", &[]), query("select 'skipped'"), sync(), query("select 'not skipped'")];
    client.send(&batch).await;
    let wanted = "1 E(22012: division by zero) Z(I) T(?column?) D(not skipped) C(SELECT 1) Z(I)";
    assert_eq!(client.ready_times(2).await, wanted);
    client.send(&[bind("", "no", &[]), query("select 1"), query("select 2"), sync()]).await;
    assert_eq!(client.ready().await, "E(26000: prepared statement \"no\" does not exist) Z(I)");
    assert_eq!(client.value("select 3").await, "3");
    assert!(client.is_quiet());
}

async fn an_error_in_one_of_many_batches(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select 10 / ($1::int * i) from generate_series(1, 1) i", &[]), sync()]).await;
    let batches: Vec<_> = (0..20).map(|i| [run("s", &[Some(if i % 3 == 1 { "0" } else { "5" })]), sync()].concat()).collect();
    client.send(&batches).await;
    for i in 0..20 {
        let wanted = if i % 3 == 1 { "2 E(22012: division by zero) Z(I)" } else { "2 D(2) C(SELECT 1) Z(I)" };
        assert_eq!(client.ready().await, wanted, "batch {i}");
    }
}

async fn a_batch_is_one_transaction(mode: Mode) {
    let bed = Bed::one(mode).await;
    bed.past(&[]).await.query("create table t (i int)").await;
    let mut client = bed.client().await;
    let insert = |i: &str| unnamed("insert into t values ($1::int)", &[Some(i)]);
    let heard = client.ask(&[insert("1"), insert("2"), insert("x"), insert("4"), sync()]).await;
    let wrong = "E(22P02: invalid input syntax for type integer: \"x\")";
    assert_eq!(heard, format!("1 2 C(INSERT 0 1) 1 2 C(INSERT 0 1) 1 {wrong} Z(I)"));
    assert_eq!(client.value("select count(*) from t").await, "0");
    client.ask(&[insert("1"), insert("2"), sync()]).await;
    assert_eq!(client.value("select count(*) from t").await, "2");
    // A simple query in the middle ends what was before it.
    client.send(&[insert("3"), query("select 1/0"), insert("4"), sync()]).await;
    client.ready_times(2).await;
    assert_eq!(client.value("select string_agg(i::text, ',' order by i) from t").await, "1,2,4");
}

async fn transactions_in_a_pipeline(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.query("create table t (i int)").await;
    let insert = |i: &str| [unnamed("insert into t values ($1::int)", &[Some(i)]), sync()].concat();
    let ask = |sql: &str| [unnamed(sql, &[]), sync()].concat();
    client.send(&[query("begin"), insert("1"), insert("2"), query("commit"), query("begin"), insert("3"), query("rollback")]).await;
    let wanted =
        "C(BEGIN) Z(T) 1 2 C(INSERT 0 1) Z(T) 1 2 C(INSERT 0 1) Z(T) C(COMMIT) Z(I) C(BEGIN) Z(T) 1 2 C(INSERT 0 1) Z(T) C(ROLLBACK) Z(I)";
    assert_eq!(client.ready_times(7).await, wanted);
    client
        .send(&[ask("begin"), insert("4"), ask("savepoint p"), ask("select 1/0"), ask("rollback to p"), insert("5"), ask("commit")])
        .await;
    let wanted = "1 2 C(BEGIN) Z(T) 1 2 C(INSERT 0 1) Z(T) 1 2 C(SAVEPOINT) Z(T) 1 E(22012: division by zero) Z(E) \
                  1 2 C(ROLLBACK) Z(T) 1 2 C(INSERT 0 1) Z(T) 1 2 C(COMMIT) Z(I)";
    assert_eq!(client.ready_times(7).await, wanted);
    // Without a Sync between.
    let one = client.ask(&[unnamed("begin", &[]), unnamed("insert into t values (6)", &[]), unnamed("commit", &[]), sync()]).await;
    assert_eq!(one, "1 2 C(BEGIN) 1 2 C(INSERT 0 1) 1 2 C(COMMIT) Z(I)");
    assert_eq!(client.value("select string_agg(i::text, ',' order by i) from t").await, "1,2,4,5,6");
}

async fn failed_transactions_wait_for_rollback(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select 7", &[]), sync()]).await;
    client.query("begin").await;
    let in_vain = "E(25P02: current transaction is aborted, commands ignored until end of transaction block)";
    assert_eq!(client.query("select 1/0").await, "E(22012: division by zero) Z(E)");
    assert_eq!(client.query("select 1").await, format!("{in_vain} Z(E)"));
    assert_eq!(client.ask(&[parse("t", "select 1", &[]), sync()]).await, format!("{in_vain} Z(E)"));
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, format!("{in_vain} Z(E)"));
    assert_eq!(client.query("commit").await, "C(ROLLBACK) Z(I)");
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(7) C(SELECT 1) Z(I)");
    // What was not parsed there may be parsed now.
    assert_eq!(client.ask(&[parse("t", "select 1", &[]), run("t", &[]), sync()]).await, "1 2 D(1) C(SELECT 1) Z(I)");
}

async fn flush_without_sync(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.send(&[parse("s", "select $1::int as a", &[]), flush()]).await;
    assert_eq!(client.take(1).await, "1");
    client.send(&[describe(b'S', "s"), flush()]).await;
    assert_eq!(client.take(2).await, "t(23) T(a)");
    client.send(&[bind("", "s", &[Some("5")]), describe(b'P', ""), flush()]).await;
    assert_eq!(client.take(2).await, "2 T(a)");
    client.send(&[execute("", 0), flush()]).await;
    assert_eq!(client.take(2).await, "D(5) C(SELECT 1)");
    client.send(&[close(b'P', ""), close(b'S', "nobody"), flush()]).await;
    assert_eq!(client.take(2).await, "3 3");
    assert_eq!(client.ask(&[sync()]).await, "Z(I)");
    // An error comes at once, and the rest is skipped.
    client.send(&[bind("", "no", &[]), flush()]).await;
    assert_eq!(client.take(1).await, "E(26000: prepared statement \"no\" does not exist)");
    client.send(&[run("s", &[Some("1")]), flush()]).await;
    assert_eq!(client.ask(&[sync()]).await, "Z(I)");
    assert_eq!(client.ask(&[run("s", &[Some("6")]), sync()]).await, "2 D(6) C(SELECT 1) Z(I)");
}

async fn flush_alone_and_sync_alone(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[flush(), sync()]).await, "Z(I)");
    client.send(&[sync(), sync(), flush(), sync()]).await;
    assert_eq!(client.ready_times(3).await, "Z(I) Z(I) Z(I)");
    client.send(&[flush()]).await;
    assert_eq!(client.value("select 1").await, "1");
    // The first thing that a client ever says, too.
    assert_eq!(bed.past(&[]).await.ask(&[sync()]).await, "Z(I)");
    client.leave().await;
    assert_eq!(bed.client().await.ask(&[sync()]).await, "Z(I)");
}

/// What was not followed by a Sync may be followed by more, however late.
async fn an_unfinished_batch_keeps_its_connection(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    client.query("create table t (i int)").await;
    client.send(&[unnamed("insert into t values (1)", &[]), flush()]).await;
    assert_eq!(client.take(3).await, "1 2 C(INSERT 0 1)");
    for _ in 0..20 {
        assert_eq!(other.value("select count(*) from t").await, "0", "nothing is committed");
    }
    client.send(&[unnamed("insert into t values (2)", &[]), sync()]).await;
    assert_eq!(client.ready().await, "1 2 C(INSERT 0 1) Z(I)");
    assert_eq!(other.value("select count(*) from t").await, "2");
}

async fn a_portal_in_parts_across_flush(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    client.send(&[parse("", "select generate_series(1, 5)", &[]), bind("p", "", &[]), execute("p", 2), flush()]).await;
    assert_eq!(client.take(5).await, "1 2 D(1) D(2) s");
    for _ in 0..20 {
        assert_eq!(other.value("select 1").await, "1");
    }
    client.send(&[execute("p", 2), flush()]).await;
    assert_eq!(client.take(3).await, "D(3) D(4) s");
    client.send(&[execute("p", 0), close(b'P', "p"), sync()]).await;
    assert_eq!(client.ready().await, "D(5) C(SELECT 1) 3 Z(I)");
}

async fn a_portal_in_parts_within_a_transaction(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    client.query("begin").await;
    let first = client.ask(&[parse("", "select generate_series(1, 5)", &[]), bind("p", "", &[]), execute("p", 2), sync()]).await;
    assert_eq!(first, "1 2 D(1) D(2) s Z(T)");
    assert_eq!(other.value("select 1").await, "1");
    assert_eq!(client.ask(&[execute("p", 2), sync()]).await, "D(3) D(4) s Z(T)");
    // Also by SQL, and a cursor of SQL by the protocol.
    assert_eq!(client.query("fetch all from p").await, "T(generate_series) D(5) C(FETCH 1) Z(T)");
    assert_eq!(client.query("declare c cursor for select 'x'").await, "C(DECLARE CURSOR) Z(T)");
    assert_eq!(client.ask(&[describe(b'P', "c"), execute("c", 1), sync()]).await, "T(?column?) D(x) s Z(T)");
    assert_eq!(client.query("commit").await, "C(COMMIT) Z(I)");
}

async fn a_portal_does_not_survive_its_transaction(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let first = client.ask(&[parse("s", "select generate_series(1, 5)", &[]), bind("p", "s", &[]), execute("p", 2), sync()]).await;
    assert_eq!(first, "1 2 D(1) D(2) s Z(I)");
    assert_eq!(client.ask(&[execute("p", 2), sync()]).await, "E(34000: portal \"p\" does not exist) Z(I)");
    // Its statement does.
    assert_eq!(client.ask(&[bind("p", "s", &[]), execute("p", 1), sync()]).await, "2 D(1) s Z(I)");
}

async fn notices_come_where_they_belong(mode: Mode) {
    let bed = Bed::one(mode).await;
    let (mut client, mut other) = (bed.client().await, None);
    if mode == Mode::Transaction {
        other = Some(bed.client().await);
    }
    for i in 0..5 {
        let say = format!("do $$ begin raise notice 'number {i}'; raise warning 'and {i}'; end $$");
        assert_eq!(client.query(&say).await, format!("N(00000: number {i}) N(01000: and {i}) C(DO) Z(I)"));
        let batch = [unnamed("drop table if exists nothing", &[]), unnamed(&say, &[]), sync()];
        let missing = "N(00000: table \"nothing\" does not exist, skipping)";
        assert_eq!(client.ask(&batch).await, format!("1 2 {missing} C(DROP TABLE) 1 2 N(00000: number {i}) N(01000: and {i}) C(DO) Z(I)"));
        if let Some(other) = &mut other {
            assert_eq!(other.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
        }
    }
    assert_eq!(client.query("commit").await, "N(25P01: there is no transaction in progress) C(COMMIT) Z(I)");
}

async fn functions_are_called(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let oid = |name: &str| format!("select '{name}'::regprocedure::oid");
    let abs: u32 = client.value(&oid("abs(int)")).await.parse().unwrap();
    let divide: u32 = client.value(&oid("int4div(int, int)")).await.parse().unwrap();
    assert_eq!(client.ask(&[function_call(abs, &["-5"])]).await, "V(5) Z(I)");
    assert_eq!(client.ask(&[function_call(divide, &["1", "0"])]).await, "E(22012: division by zero) Z(I)");
    client.send(&[function_call(divide, &["8", "2"]), query("select 1"), function_call(abs, &["-6"])]).await;
    assert_eq!(client.ready_times(3).await, "V(4) Z(I) T(?column?) D(1) C(SELECT 1) Z(I) V(6) Z(I)");
    client.query("begin").await;
    assert_eq!(client.ask(&[function_call(abs, &["-7"])]).await, "V(7) Z(T)");
    assert_eq!(client.query("rollback").await, "C(ROLLBACK) Z(I)");
}

async fn what_is_no_message_ends_the_connection(mode: Mode) {
    let bed = Bed::one(mode).await;
    for wrong in [message(b'm', &[]), b"Q\0\0\0\x03".to_vec(), b"P\xff\xff\xff\xff".to_vec()] {
        let mut client = bed.client().await;
        assert_eq!(client.value("select 1").await, "1");
        client.raw(&wrong).await;
        let heard = client.rest().await;
        // Of a length that cannot be the server says nothing at all.
        assert!(heard.is_empty() || heard.starts_with("F(08P01: ") && heard.matches('(').count() == 1, "{heard}");
        assert_eq!(bed.client().await.value("select 2").await, "2", "whoever comes next");
    }
}
