//! Clients that vanish, at any point: whoever comes next finds a connection as good as new.

use crate::pg_modes::message::{bind, copy_data, execute, flush, message, parse, query, run, sync, terminate, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};
use crate::support::{SOON, reset_on_close};
use lab::wait::until_some;
use tokio::io::AsyncWriteExt;

in_every_mode!(
    who_leaves_leaves_nothing,
    half_a_message_is_never_finished_by_another,
    what_was_asked_before_half_closing_is_answered,
    a_running_query_ends_with_its_client;
    transaction: the_connection_is_used_again
);

/// Ends what runs without anybody.
const SLEEPERS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
                        where datname = current_database() and query like '%sleep(1000)%' and pid <> pg_backend_pid()";

/// How a client may be when it goes: a name, what it sends, and how many ReadyForQuery it waits for.
fn states() -> Vec<(&'static str, Vec<Vec<u8>>, usize)> {
    let locked = query("begin; insert into t values (7); lock table t");
    let many: Vec<_> = (0..200).map(|_| query("select repeat('x', 10000)")).collect();
    vec![
        ("idle", vec![query("select 1")], 1),
        ("nothing ever asked", vec![], 0),
        ("in a transaction", vec![locked.clone()], 1),
        ("in a failed one", vec![locked, query("select 1/0")], 2),
        ("in a batch without an end", vec![unnamed("insert into t values (8)", &[])], 0),
        ("in a batch that was flushed", vec![unnamed("lock table t", &[]), flush()], 0),
        (
            "with a portal half read",
            vec![query("begin"), parse("", "select generate_series(1, 9)", &[]), bind("p", "", &[]), execute("p", 2), sync()],
            2,
        ),
        (
            "with a portal half read and no Sync",
            vec![parse("", "select generate_series(1, 9)", &[]), bind("p", "", &[]), execute("p", 2), flush()],
            0,
        ),
        ("in a batch that failed", vec![bind("", "unknown", &[]), flush()], 0),
        ("copying in", vec![query("copy t from stdin"), copy_data(b"9\n")], 0),
        ("copying in by a batch", vec![unnamed("copy t from stdin", &[]), sync(), copy_data(b"9\n")], 0),
        ("copying out", vec![query("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout")], 0),
        ("with much unread", many, 0),
        ("with statements", vec![parse("s", "select 'of another'", &[]), sync()], 1),
        ("with a statement just parsed", vec![parse("s", "select 'of another'", &[])], 0),
    ]
}

async fn who_leaves_leaves_nothing(mode: Mode) {
    let bed = Bed::one(mode).await;
    bed.past(&[]).await.query("create table t (i int)").await;
    for (name, messages, answers) in states() {
        for how in ["goodbye", "close", "reset"] {
            let mut client = bed.client().await;
            client.send(&messages).await;
            for _ in 0..answers {
                client.ready().await;
            }
            match how {
                "goodbye" => client.send(&[terminate()]).await,
                "reset" => reset_on_close(client.stream()),
                _ => {}
            }
            drop(client.into_stream());
            is_clean(&bed, &format!("{name}, {how}")).await;
        }
    }
}

/// The next client is the first, as far as it can see.
async fn is_clean(bed: &Bed, after: &str) {
    let mut next = bed.client().await;
    let locks = "select count(*) from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 't' and l.database = \
                    (select oid from pg_database where datname = current_database())";
    // Where it is another connection, the old one may need a moment to end.
    bed.wait(locks, "0").await;
    assert_eq!(next.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)", "after {after}");
    assert_eq!(next.query("begin").await, "C(BEGIN) Z(T)", "after {after}");
    assert_eq!(next.query("lock table t nowait").await, "C(LOCK TABLE) Z(T)", "after {after}");
    assert_eq!(next.value("select count(*) from t").await, "0", "after {after}");
    assert_eq!(next.value("select count(*) from pg_cursors").await, "0", "after {after}");
    assert_eq!(next.query("rollback").await, "C(ROLLBACK) Z(I)", "after {after}");
    let gone = "E(26000: prepared statement \"s\" does not exist) Z(I)";
    assert_eq!(next.ask(&[run("s", &[]), sync()]).await, gone, "after {after}");
    assert_eq!(next.ask(&[run("", &[]), sync()]).await, "E(26000: unnamed prepared statement does not exist) Z(I)", "after {after}");
    assert!(next.is_quiet(), "after {after}");
    next.leave().await;
}

async fn half_a_message_is_never_finished_by_another(mode: Mode) {
    let bed = Bed::one(mode).await;
    bed.past(&[]).await.query("create table t (i int)").await;
    let long = query(&format!("select '{}'", "x".repeat(100_000)));
    let batch = [unnamed("insert into t values ($1::int)", &[Some("8")]), sync()].concat();
    let row = [query("copy t from stdin"), message(b'd', &[&b"9\n".repeat(50_000)])].concat();
    for whole in [query("insert into t values (1)"), long, batch, row] {
        let cuts: Vec<_> = [1, 2, 4, 5, 6, 20, whole.len() / 2, whole.len() - 1].into_iter().filter(|cut| *cut < whole.len()).collect();
        for cut in cuts {
            let mut client = bed.client().await;
            assert_eq!(client.value("select 1").await, "1");
            client.raw(&whole[..cut]).await;
            drop(client.into_stream());
            is_clean(&bed, &format!("{cut} bytes of {}", whole.len())).await;
        }
    }
}

async fn what_was_asked_before_half_closing_is_answered(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client: Client = bed.client().await;
    client.send(&[query("select 1"), unnamed("select 2", &[]), sync()]).await;
    client.stream().shutdown().await.unwrap();
    assert_eq!(client.rest().await, "T(?column?) D(1) C(SELECT 1) Z(I) 1 2 D(2) C(SELECT 1) Z(I)");
    assert_eq!(bed.client().await.value("select 3").await, "3");
}

/// Directly it runs to its end, because the server only notices when it writes; through a pool it may not keep others waiting for ever.
async fn a_running_query_ends_with_its_client(mode: Mode) {
    let bed = Bed::one(mode).await;
    bed.past(&[]).await.query("create table t (i int)").await;
    let locked = query("begin; insert into t values (7); lock table t");
    for messages in [vec![query("select pg_sleep(1000)")], vec![locked, query("select pg_sleep(1000)")]] {
        let mut client = bed.client().await;
        client.send(&messages).await;
        bed.wait_active(1).await;
        drop(client);
        if mode.is_one_to_one() {
            assert_eq!(bed.client().await.value("select 1").await, "1");
            bed.sql(SLEEPERS).await;
        } else {
            until_some("the end of what nobody waits for", 3 * SOON, || async {
                (bed.sql("select count(*) from pg_stat_activity where query like 'select pg_sleep(1000)%' and state = 'active'").await
                    == "0")
                    .then_some(())
            })
            .await
            .unwrap();
        }
        is_clean(&bed, "a query that ran").await;
    }
}

/// Only half a message makes it worthless.
async fn the_connection_is_used_again(mode: Mode) {
    let bed = Bed::with(mode, 1, &["--workers", "1"]).await;
    bed.past(&[]).await.query("create table t (i int)").await;
    let backend = bed.client().await.backend().await;
    for (name, messages, answers) in states() {
        let mut client = bed.client().await;
        client.send(&messages).await;
        for _ in 0..answers {
            client.ready().await;
        }
        drop(client.into_stream());
        assert_eq!(bed.client().await.backend().await, backend, "after {name}");
    }
}
