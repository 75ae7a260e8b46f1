//! Prepared statements belong to their client, wherever it runs: under its own names, with the texts of its own.

use crate::pg_modes::message::{bind, bind_formats, close, describe, execute, flush, parse, query, run, sync, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    statements_last_as_long_as_the_client,
    a_name_means_what_its_client_said,
    names_of_any_kind,
    what_is_unknown_is_said_in_the_clients_words,
    a_name_is_taken_until_it_is_closed,
    a_name_is_free_after_a_failed_parse,
    what_failed_behind_a_parse_leaves_it,
    a_parse_that_was_skipped_is_not_there,
    closing,
    the_unnamed_statement_lasts,
    the_unnamed_statement_is_replaced,
    a_statement_in_a_transaction_that_fails,
    types_are_part_of_a_statement,
    texts_are_compared_to_the_last_byte,
    binary_values,
    described_before_and_after,
    more_statements_than_anybody_keeps,
    a_pipeline_of_more_statements_than_anybody_keeps,
    changed_tables_reach_whoever_prepares_again,
    prepared_by_sql_and_by_protocol,
);

/// Somebody who uses the connection between, under the same names.
async fn neighbour(bed: &Bed) -> Option<Client> {
    if bed.mode != Mode::Transaction {
        return None;
    }
    let mut other = bed.client().await;
    assert_eq!(other.ask(&[parse("s", "select 'of another'", &[]), sync()]).await, "1 Z(I)");
    Some(other)
}

async fn disturb(other: &mut Option<Client>) {
    if let Some(other) = other {
        let heard = other.ask(&[run("s", &[]), unnamed("select 'unnamed of another'", &[]), sync()]).await;
        assert_eq!(heard, "2 D(of another) C(SELECT 1) 1 2 D(unnamed of another) C(SELECT 1) Z(I)");
    }
}

async fn statements_last_as_long_as_the_client(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut other = neighbour(&bed).await;
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[parse("s", "select $1::int + 1 as a", &[]), describe(b'S', "s"), sync()]).await, "1 t(23) T(a) Z(I)");
    for i in 0..30 {
        disturb(&mut other).await;
        let value = i.to_string();
        assert_eq!(client.ask(&[run("s", &[Some(&value)]), sync()]).await, format!("2 D({}) C(SELECT 1) Z(I)", i + 1));
        disturb(&mut other).await;
        assert_eq!(client.ask(&[describe(b'S', "s"), sync()]).await, "t(23) T(a) Z(I)");
        disturb(&mut other).await;
        let batch = [bind("p", "s", &[Some("6")]), describe(b'P', "p"), execute("p", 0), run("s", &[None]), sync()];
        assert_eq!(client.ask(&batch).await, "2 T(a) D(7) C(SELECT 1) 2 D(null) C(SELECT 1) Z(I)");
    }
    client.leave().await;
    let mut next = bed.client().await;
    assert_eq!(next.ask(&[run("s", &[None]), sync()]).await, "E(26000: prepared statement \"s\" does not exist) Z(I)");
    assert_eq!(next.ask(&[parse("s", "select 'new'", &[]), run("s", &[]), sync()]).await, "1 2 D(new) C(SELECT 1) Z(I)");
}

async fn a_name_means_what_its_client_said(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    if !mode.is_one_to_one() && mode == Mode::Session {
        return; // two connections, two clients: nothing is shared
    }
    let mut clients = Vec::new();
    for i in 0..5 {
        let mut client = bed.client().await;
        // pgx counts up; every one of its programs begins with the same name.
        client.ask(&[parse("lrupsc_1_0", &format!("select 'client {i}', $1::text"), &[]), sync()]).await;
        clients.push(client);
    }
    for round in 0..10 {
        for client in &mut clients {
            client.send(&[run("lrupsc_1_0", &[Some(&round.to_string())]), sync()]).await;
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.ready().await, format!("2 D(client {i},{round}) C(SELECT 1) Z(I)"));
        }
    }
}

async fn names_of_any_kind(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let long = "n".repeat(3000);
    let names = ["S", "s", "with space", "\"quoted\"", "ünïcode", "select", "$1", "a.b", &long, "sqlx_s_1", "__pgjdbc"];
    for (i, name) in names.iter().enumerate() {
        assert_eq!(client.ask(&[parse(name, &format!("select {i}"), &[]), sync()]).await, "1 Z(I)", "{name}");
    }
    for (i, name) in names.iter().enumerate() {
        assert_eq!(client.ask(&[run(name, &[]), sync()]).await, format!("2 D({i}) C(SELECT 1) Z(I)"), "{name}");
    }
}

async fn what_is_unknown_is_said_in_the_clients_words(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let mut heard = async |messages: &[Vec<u8>]| client.ask(&[messages, &[sync()]].concat()).await;
    let unknown = "E(26000: prepared statement \"my name\" does not exist) Z(I)";
    assert_eq!(heard(&[bind("", "my name", &[])]).await, unknown);
    assert_eq!(heard(&[describe(b'S', "my name")]).await, unknown);
    assert_eq!(heard(&[bind("", "", &[])]).await, "E(26000: unnamed prepared statement does not exist) Z(I)");
    assert_eq!(heard(&[describe(b'S', "")]).await, "E(26000: unnamed prepared statement does not exist) Z(I)");
    assert_eq!(heard(&[describe(b'P', "my portal")]).await, "E(34000: portal \"my portal\" does not exist) Z(I)");
    assert_eq!(heard(&[execute("my portal", 0)]).await, "E(34000: portal \"my portal\" does not exist) Z(I)");
    assert_eq!(heard(&[execute("", 0)]).await, "E(34000: portal \"\" does not exist) Z(I)");
    let values = heard(&[parse("my name", "select $1::int, $2::int", &[]), bind("", "my name", &[Some("1")])]).await;
    let wrong = "bind message supplies 1 parameters, but prepared statement \"my name\" requires 2";
    assert_eq!(values, format!("1 E(08P01: {wrong}) Z(I)"));
    // In the middle of a batch: what was before it counts, what is behind it is skipped.
    let batch = [run("my name", &[Some("1"), Some("2")]), bind("", "nobody", &[]), execute("", 0), query("select 1")];
    assert_eq!(heard(&batch).await, "2 D(1,2) C(SELECT 1) E(26000: prepared statement \"nobody\" does not exist) Z(I)");
}

async fn a_name_is_taken_until_it_is_closed(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut other = neighbour(&bed).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select 'first'", &[]), sync()]).await;
    let taken = "E(42P05: prepared statement \"s\" already exists) Z(I)";
    for sql in ["select 'second'", "select 'first'", "selec"] {
        disturb(&mut other).await;
        let heard = client.ask(&[parse("s", sql, &[]), run("s", &[]), sync()]).await;
        // A text that cannot be parsed is noticed first.
        assert_eq!(heard, if sql == "selec" { "E(42601: syntax error at or near \"selec\") Z(I)" } else { taken }, "{sql}");
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(first) C(SELECT 1) Z(I)", "after {sql}");
    }
    let within = client.ask(&[close(b'S', "s"), parse("s", "select 'third'", &[]), run("s", &[]), sync()]).await;
    assert_eq!(within, "3 1 2 D(third) C(SELECT 1) Z(I)");
    let twice = client.ask(&[parse("t", "select 1", &[]), parse("t", "select 2", &[]), sync()]).await;
    assert_eq!(twice, "1 E(42P05: prepared statement \"t\" already exists) Z(I)");
    // The first of the two was parsed, and stays.
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "2 D(1) C(SELECT 1) Z(I)");
}

async fn a_name_is_free_after_a_failed_parse(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let missing = "E(42P01: relation \"later\" does not exist) Z(I)";
    // pgx 5 names a statement after its text: it tries again under the same name.
    for _ in 0..2 {
        assert_eq!(
            client.ask(&[parse("stmtcache_ab12", "select i from later", &[]), describe(b'S', "stmtcache_ab12"), sync()]).await,
            missing
        );
        let heard = client.ask(&[run("stmtcache_ab12", &[]), sync()]).await;
        assert_eq!(heard, "E(26000: prepared statement \"stmtcache_ab12\" does not exist) Z(I)");
    }
    client.query("create table later as select 1 as i").await;
    let heard = client.ask(&[parse("stmtcache_ab12", "select i from later", &[]), run("stmtcache_ab12", &[]), sync()]).await;
    assert_eq!(heard, "1 2 D(1) C(SELECT 1) Z(I)");
}

async fn what_failed_behind_a_parse_leaves_it(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let heard = client.ask(&[parse("s", "select 1 / $1::int", &[]), run("s", &[Some("0")]), sync()]).await;
    assert_eq!(heard, "1 E(22012: division by zero) Z(I)");
    assert_eq!(client.ask(&[run("s", &[Some("1")]), sync()]).await, "2 D(1) C(SELECT 1) Z(I)");
    let heard = client.ask(&[bind("", "no", &[]), parse("t", "select 1", &[]), sync()]).await;
    assert_eq!(heard, "E(26000: prepared statement \"no\" does not exist) Z(I)");
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "E(26000: prepared statement \"t\" does not exist) Z(I)");
    // Closed and then an error: it was closed.
    assert_eq!(client.ask(&[close(b'S', "s"), bind("", "no", &[]), sync()]).await.split(' ').next(), Some("3"));
    assert_eq!(client.ask(&[run("s", &[Some("1")]), sync()]).await, "E(26000: prepared statement \"s\" does not exist) Z(I)");
    // An error and then closed: it was not.
    client.ask(&[parse("u", "select 3", &[]), sync()]).await;
    client.ask(&[bind("", "no", &[]), close(b'S', "u"), sync()]).await;
    assert_eq!(client.ask(&[run("u", &[]), sync()]).await, "2 D(3) C(SELECT 1) Z(I)");
}

/// Also when the next batch is sent before anybody knows that it was.
async fn a_parse_that_was_skipped_is_not_there(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let gone = "E(26000: prepared statement \"no\" does not exist) Z(I)";
    for (name, sql) in [("", "select 'unnamed'"), ("s", "select 'named'")] {
        let batch = [bind("", "no", &[]), parse(name, sql, &[]), sync(), parse(name, sql, &[]), run(name, &[]), sync()];
        client.send(&batch).await;
        let wanted = format!("{gone} 1 2 D({}named) C(SELECT 1) Z(I)", if name.is_empty() { "un" } else { "" });
        assert_eq!(client.ready_times(2).await, wanted);
    }
    // Behind a statement that ends badly, and closed by whom it never was there for.
    let batch = [unnamed("select 1/0", &[]), parse("t", "select 't'", &[]), sync(), run("t", &[]), sync(), close(b'S', "t"), sync()];
    client.send(&batch).await;
    let wanted = "1 E(22012: division by zero) Z(I) E(26000: prepared statement \"t\" does not exist) Z(I) 3 Z(I)";
    assert_eq!(client.ready_times(3).await, wanted);
    assert_eq!(client.ask(&[parse("t", "select 't'", &[]), run("t", &[]), sync()]).await, "1 2 D(t) C(SELECT 1) Z(I)");
}

async fn closing(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut other = neighbour(&bed).await;
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[close(b'S', "never there"), close(b'P', "never there"), close(b'S', ""), sync()]).await, "3 3 3 Z(I)");
    // Answered at once, without anything else under way.
    client.send(&[close(b'S', "never there"), flush()]).await;
    assert_eq!(client.take(1).await, "3");
    assert_eq!(client.ask(&[sync()]).await, "Z(I)");
    client.ask(&[parse("s", "select 1", &[]), sync()]).await;
    // A portal of that name is something else.
    assert_eq!(client.ask(&[close(b'P', "s"), run("s", &[]), sync()]).await, "3 2 D(1) C(SELECT 1) Z(I)");
    // A portal outlives its statement.
    let heard = client.ask(&[bind("p", "s", &[]), close(b'S', "s"), execute("p", 0), sync()]).await;
    assert_eq!(heard, "2 3 D(1) C(SELECT 1) Z(I)");
    disturb(&mut other).await;
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "E(26000: prepared statement \"s\" does not exist) Z(I)");
    disturb(&mut other).await;
    // Closing is for ever, also when the transaction is undone.
    client.ask(&[parse("s", "select 2", &[]), sync()]).await;
    client.send(&[query("begin"), close(b'S', "s"), sync(), query("rollback")]).await;
    assert_eq!(client.ready_times(3).await, "C(BEGIN) Z(T) 3 Z(T) C(ROLLBACK) Z(I)");
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "E(26000: prepared statement \"s\" does not exist) Z(I)");
}

async fn the_unnamed_statement_lasts(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut other = neighbour(&bed).await;
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[parse("", "select $1::int * 2 as a", &[]), sync()]).await, "1 Z(I)");
    for i in 0..5 {
        disturb(&mut other).await;
        assert_eq!(client.ask(&[describe(b'S', ""), sync()]).await, "t(23) T(a) Z(I)");
        disturb(&mut other).await;
        let heard = client.ask(&[bind("", "", &[Some(&i.to_string())]), execute("", 0), sync()]).await;
        assert_eq!(heard, format!("2 D({}) C(SELECT 1) Z(I)", 2 * i));
    }
    // In a transaction, and beyond it.
    client.query("begin").await;
    // Directly, a simple query destroys it. Nobody asks for that.
    let heard = client.ask(&[run("", &[Some("1")]), sync()]).await;
    assert!(["E(26000: unnamed prepared statement does not exist) Z(E)", "2 D(2) C(SELECT 1) Z(T)"].contains(&&*heard), "{heard}");
    client.query("rollback").await;
    client.ask(&[unnamed("begin", &[]), parse("", "select 4", &[]), sync()]).await;
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, "2 D(4) C(SELECT 1) Z(T)");
    assert_eq!(client.ask(&[parse("c", "commit", &[]), run("c", &[]), sync()]).await, "1 2 C(COMMIT) Z(I)");
    disturb(&mut other).await;
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, "2 D(4) C(SELECT 1) Z(I)");
}

async fn the_unnamed_statement_is_replaced(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let batch = [unnamed("select 1", &[]), unnamed("select 2", &[]), run("", &[]), sync()];
    assert_eq!(client.ask(&batch).await, "1 2 D(1) C(SELECT 1) 1 2 D(2) C(SELECT 1) 2 D(2) C(SELECT 1) Z(I)");
    // A Parse that fails takes the old one with it.
    assert_eq!(client.ask(&[parse("", "selec", &[]), sync()]).await, "E(42601: syntax error at or near \"selec\") Z(I)");
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, "E(26000: unnamed prepared statement does not exist) Z(I)");
    assert_eq!(client.ask(&[parse("", "select 3", &[]), sync()]).await, "1 Z(I)");
    assert_eq!(client.ask(&[close(b'S', ""), run("", &[]), sync()]).await, "3 E(26000: unnamed prepared statement does not exist) Z(I)");
    // One that is skipped does not.
    assert_eq!(client.ask(&[parse("", "select 5", &[]), sync()]).await, "1 Z(I)");
    client.ask(&[bind("", "no", &[]), parse("", "select 6", &[]), sync()]).await;
    assert_eq!(client.ask(&[run("", &[]), sync()]).await, "2 D(5) C(SELECT 1) Z(I)");
}

async fn a_statement_in_a_transaction_that_fails(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.query("begin").await;
    assert_eq!(client.ask(&[parse("s", "select 1", &[]), sync()]).await, "1 Z(T)");
    client.query("select 1/0").await;
    client.query("rollback").await;
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(1) C(SELECT 1) Z(I)");
    // Of a table that is gone with the transaction.
    client
        .send(&[query("begin"), query("create table t as select 2 as i"), parse("t", "select i from t", &[]), sync(), query("rollback")])
        .await;
    client.ready_times(4).await;
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "E(42P01: relation \"t\" does not exist) Z(I)");
    client.query("create table t as select 3 as i").await;
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "2 D(3) C(SELECT 1) Z(I)");
}

async fn types_are_part_of_a_statement(mode: Mode) {
    let bed = Bed::one(mode).await;
    let (mut client, sql) = (bed.client().await, "select $1");
    for (name, types, oid) in [("none", &[][..], 25), ("unknown", &[0], 25), ("int", &[23], 23), ("text", &[25], 25), ("bool", &[16], 16)] {
        assert_eq!(client.ask(&[parse(name, sql, types), describe(b'S', name), sync()]).await, format!("1 t({oid}) T(?column?) Z(I)"));
    }
    let again = client.ask(&[describe(b'S', "int"), describe(b'S', "bool"), describe(b'S', "text"), sync()]).await;
    assert_eq!(again, "t(23) T(?column?) t(16) T(?column?) t(25) T(?column?) Z(I)");
    assert_eq!(
        client.ask(&[run("bool", &[Some("yes")]), run("text", &[Some("yes")]), sync()]).await,
        "2 D(t) C(SELECT 1) 2 D(yes) C(SELECT 1) Z(I)"
    );
}

async fn texts_are_compared_to_the_last_byte(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let base = format!("select 1 {}", "-- padding\n".repeat(1000));
    for i in 0..20 {
        let sql = format!("{base} + {i}");
        assert_eq!(client.ask(&[parse(&format!("s{i}"), &sql, &[]), sync()]).await, "1 Z(I)");
    }
    for i in 0..20 {
        assert_eq!(client.ask(&[run(&format!("s{i}"), &[]), sync()]).await, format!("2 D({}) C(SELECT 1) Z(I)", 1 + i));
    }
}

async fn binary_values(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let all: Vec<u8> = (0..=255).collect();
    client.ask(&[parse("s", "select $1::bytea, $2::int4, $3::text", &[]), sync()]).await;
    let values = [Some(&all[..]), Some(&[0, 0, 1, 0]), None];
    client.send(&[bind_formats("", "s", &[1], &values, &[1]), execute("", 0), sync()]).await;
    assert_eq!(client.take(1).await, "2");
    assert_eq!(client.next().await.unwrap().values(), [Some(all.clone()), Some(vec![0, 0, 1, 0]), None]);
    assert_eq!(client.ready().await, "C(SELECT 1) Z(I)");
    let values = [None, Some(&b"7"[..]), Some(&b"x\\y"[..])];
    client.send(&[bind_formats("", "s", &[1, 0, 1], &values, &[0, 1, 0]), execute("", 0), sync()]).await;
    assert_eq!(client.ready().await, "2 D(null,\\x00\\x00\\x00\\x07,x\\y) C(SELECT 1) Z(I)");
}

async fn described_before_and_after(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.query("create table t (i int, j text)").await;
    let batch =
        [parse("s", "insert into t values ($1, $2)", &[]), describe(b'S', "s"), bind("", "s", &[Some("1"), None]), describe(b'P', "")];
    assert_eq!(client.ask(&[&batch[..], &[execute("", 0), sync()]].concat()).await, "1 t(23,25) n 2 n C(INSERT 0 1) Z(I)");
    let batch = [parse("r", "insert into t values ($1, $2) returning *", &[]), describe(b'S', "r"), parse("", "", &[]), describe(b'S', "")];
    assert_eq!(client.ask(&[&batch[..], &[run("", &[]), sync()]].concat()).await, "1 t(23,25) T(i,j) 1 t() n 2 I Z(I)");
    for _ in 0..3 {
        assert_eq!(client.ask(&[describe(b'S', "s"), describe(b'S', "r"), sync()]).await, "t(23,25) n t(23,25) T(i,j) Z(I)");
    }
}

async fn more_statements_than_anybody_keeps(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    for i in 0..1500 {
        assert_eq!(client.ask(&[parse(&format!("s{i}"), &format!("select {i}"), &[]), sync()]).await, "1 Z(I)");
    }
    for i in (0..1500).rev().chain(0..200) {
        assert_eq!(client.ask(&[run(&format!("s{i}"), &[]), sync()]).await, format!("2 D({i}) C(SELECT 1) Z(I)"));
    }
}

async fn a_pipeline_of_more_statements_than_anybody_keeps(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let parses: Vec<_> = (0..700).map(|i| parse(&format!("s{i}"), &format!("select {i}"), &[])).chain([sync()]).collect();
    assert_eq!(client.ask(&parses).await.matches('1').count(), 700);
    // One batch that needs them all, the first of them again at its end.
    let runs: Vec<_> = (0..700).chain(0..3).map(|i| run(&format!("s{i}"), &[])).chain([sync()]).collect();
    client.send(&runs).await;
    for i in (0..700).chain(0..3) {
        assert_eq!(client.take(3).await, format!("2 D({i}) C(SELECT 1)"));
    }
    assert_eq!(client.ready().await, "Z(I)");
}

async fn changed_tables_reach_whoever_prepares_again(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut other = if mode == Mode::Session { None } else { Some(bed.client().await) };
    let mut client = bed.client().await;
    client.query("create table t as select 1 as a").await;
    let sql = "select * from t";
    assert_eq!(client.ask(&[parse("s", sql, &[]), run("s", &[]), sync()]).await, "1 2 D(1) C(SELECT 1) Z(I)");
    client.query("alter table t add b int default 2").await;
    // Who prepared before may be told, as on a connection of its own ...
    let heard = client.ask(&[run("s", &[]), sync()]).await;
    let told = "2 E(0A000: cached plan must not change result type) Z(I)";
    assert!([told, "E(0A000: cached plan must not change result type) Z(I)", "2 D(1,2) C(SELECT 1) Z(I)"].contains(&&*heard), "{heard}");
    // ... who prepares after has nothing to do with it,
    if let Some(other) = &mut other {
        assert_eq!(other.ask(&[parse("s", sql, &[]), run("s", &[]), sync()]).await, "1 2 D(1,2) C(SELECT 1) Z(I)");
    }
    // nor has the same client when it prepares again, under this name or another.
    assert_eq!(client.ask(&[parse("new", sql, &[]), run("new", &[]), sync()]).await, "1 2 D(1,2) C(SELECT 1) Z(I)");
    let again = client.ask(&[close(b'S', "s"), parse("s", sql, &[]), describe(b'S', "s"), run("s", &[]), sync()]).await;
    assert_eq!(again, "3 1 t() T(a,b) 2 D(1,2) C(SELECT 1) Z(I)");
}

async fn prepared_by_sql_and_by_protocol(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    assert_eq!(client.query("prepare q(int) as select $1 * 2").await, "C(PREPARE) Z(I)");
    for _ in 0..3 {
        assert_eq!(client.query("execute q(21)").await, "T(?column?) D(42) C(SELECT 1) Z(I)");
    }
    assert_eq!(client.query("deallocate q").await, "C(DEALLOCATE) Z(I)");
    assert_eq!(client.query("execute q(21)").await, "E(26000: prepared statement \"q\" does not exist) Z(I)");
}
