//! Rows have the columns that their client was told, from whichever connection they come.

use crate::pg_modes::message::{close, describe, parse, run, sync};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    changed_columns_are_an_error_and_never_other_rows,
    the_same_columns_elsewhere_are_no_matter,
    what_fails_while_columns_are_asked_for_is_said,
    what_runs_something_else_has_its_columns,
    the_unnamed_statement_counts_too,
    what_one_name_is_told_is_nothing_to_another,
);

const CHANGED: &str = "E(0A000: cached plan must not change result type) Z(I)";

/// A client that was told the columns of `s`, on one of two connections.
async fn told(bed: &Bed, sql: &str, columns: &str) -> (Client, String) {
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[parse("s", sql, &[]), describe(b'S', "s"), sync()]).await, format!("1 t() T({columns}) Z(I)"));
    let place = client.value("select pg_backend_pid()").await;
    (client, place)
}

/// Whoever comes next gets the connection that this is not. What is returned keeps the other.
async fn leave_only_the_other(bed: &Bed, place: &str) -> Vec<Client> {
    let mut holders = Vec::new();
    if bed.mode != Mode::Transaction {
        return holders;
    }
    for _ in 0..2 {
        let mut holder = bed.client().await;
        holder.query("begin").await;
        let at = holder.value("select pg_backend_pid()").await;
        if at == place {
            for mut other in holders {
                other.query("commit").await;
            }
            return vec![holder];
        }
        holders.push(holder);
    }
    panic!("two connections, and neither is {place}");
}

async fn changed_columns_are_an_error_and_never_other_rows(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut other = bed.past(&[]).await;
    other.query("create table t as select 1 as a; create table w (i int)").await;
    let (mut client, place) = told(&bed, "select * from t", "a").await;
    assert_eq!(client.ask(&[parse("w", "insert into w values (1)", &[]), sync()]).await, "1 Z(I)");
    // As many as before, of another type: a driver would read them by what it knows.
    other.query("alter table t alter a type bigint").await;
    let _held = leave_only_the_other(&bed, &place).await;
    let batch = [run("w", &[]), run("s", &[]), run("w", &[]), sync()];
    for _ in 0..2 {
        assert_eq!(client.ask(&batch).await, format!("2 C(INSERT 0 1) {CHANGED}"));
    }
    assert_eq!(other.value("select count(*) from w").await, "0");
    // Prepared again, it is what it is now.
    let again = [close(b'S', "s"), parse("s", "select * from t", &[]), describe(b'S', "s"), run("s", &[]), sync()];
    assert_eq!(client.ask(&again).await, "3 1 t() T(a) 2 D(1) C(SELECT 1) Z(I)");
    assert_eq!(client.ask(&batch).await, "2 C(INSERT 0 1) 2 D(1) C(SELECT 1) 2 C(INSERT 0 1) Z(I)");
    assert_eq!(other.value("select count(*) from w").await, "2");
}

async fn the_same_columns_elsewhere_are_no_matter(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    bed.sql("create table public.t as select 1 as a; grant all on public.t to public").await;
    let (mut client, place) = told(&bed, "select * from t", "a").await;
    // Another table of the same columns is the same to the server as well.
    bed.sql("drop table public.t; create table public.t as select 2 as a; grant all on public.t to public").await;
    let _held = leave_only_the_other(&bed, &place).await;
    client.send(&[run("s", &[]), run("s", &[]), sync(), run("s", &[]), sync(), run("s", &[]), sync()]).await;
    let row = "2 D(2) C(SELECT 1)";
    assert_eq!(client.ready_times(3).await, format!("{row} {row} Z(I) {row} Z(I) {row} Z(I)"));
    let here = client.value("select count(*) from pg_prepared_statements where statement = 'select * from t'").await;
    assert_eq!(here, "1");
}

async fn what_fails_while_columns_are_asked_for_is_said(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    bed.sql("create table public.t as select 1 as a; grant all on public.t to public").await;
    let (mut client, place) = told(&bed, "select * from t", "a").await;
    bed.sql("drop table public.t").await;
    let _held = leave_only_the_other(&bed, &place).await;
    for _ in 0..2 {
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "E(42P01: relation \"t\" does not exist) Z(I)");
    }
    bed.sql("create table public.t as select 3 as a; grant all on public.t to public").await;
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(3) C(SELECT 1) Z(I)");
}

/// What runs another statement or portal has its columns: a server of the client's own does not compare them.
async fn what_runs_something_else_has_its_columns(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut client = bed.client().await;
    client.query("begin").await;
    let place = client.value("select pg_backend_pid()").await;
    // Described before there is such a cursor, and while it has one column.
    assert_eq!(client.ask(&[parse("f", "fetch 1 from c", &[]), describe(b'S', "f"), sync()]).await, "1 t() n Z(T)");
    client.query("declare c cursor for select 1 as a").await;
    assert_eq!(client.ask(&[parse("g", "/* all */ FETCH all from c", &[]), describe(b'S', "g"), sync()]).await, "1 t() T(a) Z(T)");
    assert_eq!(client.query("commit").await, "C(COMMIT) Z(I)");
    let _held = leave_only_the_other(&bed, &place).await;
    for name in ["f", "g"] {
        client.query("begin; declare c cursor for select 'x' as b").await;
        assert_eq!(client.ask(&[run(name, &[]), sync()]).await, "2 D(x) C(FETCH 1) Z(T)", "{name}");
        assert_eq!(client.query("commit").await, "C(COMMIT) Z(I)");
    }
}

async fn the_unnamed_statement_counts_too(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    bed.sql("create table public.t as select 1 as a; grant all on public.t to public").await;
    let mut client = bed.client().await;
    client.query("begin").await;
    let place = client.value("select pg_backend_pid()").await;
    assert_eq!(client.query("commit").await, "C(COMMIT) Z(I)");
    assert_eq!(client.ask(&[parse("", "select * from t", &[]), describe(b'S', ""), sync()]).await, "1 t() T(a) Z(I)");
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, "2 D(1) C(SELECT 1) Z(I)");
    bed.sql("alter table public.t alter a type bigint").await;
    let _held = leave_only_the_other(&bed, &place).await;
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, CHANGED);
}

/// One object of a driver's runs the text without a name while another has it prepared.
async fn what_one_name_is_told_is_nothing_to_another(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    bed.sql("create table public.t as select 1 as a; grant all on public.t to public").await;
    let (mut client, place) = told(&bed, "select * from t", "a").await;
    bed.sql("alter table public.t alter a type bigint").await;
    let _held = leave_only_the_other(&bed, &place).await;
    for _ in 0..3 {
        let unnamed = [parse("", "select * from t", &[]), describe(b'S', ""), run("", &[]), sync()];
        assert_eq!(client.ask(&unnamed).await, "1 t() T(a) 2 D(1) C(SELECT 1) Z(I)");
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, CHANGED);
    }
}
