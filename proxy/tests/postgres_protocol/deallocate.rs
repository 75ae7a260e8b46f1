//! Statements prepared by protocol and forgotten by SQL, as pgx 4 does, at any place of a pipeline.

use crate::pg_modes::message::{parse, query, run, sync, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    by_a_simple_query,
    by_the_extended_protocol,
    in_the_middle_of_a_pipeline,
    all_of_them,
    discarded,
    in_a_transaction,
    names_as_sql_reads_them,
);

const GONE: &str = "E(26000: prepared statement \"s\" does not exist)";

async fn prepared(bed: &Bed) -> Client {
    let mut client = bed.client().await;
    assert_eq!(client.ask(&[parse("s", "select 1", &[]), parse("t", "select 2", &[]), sync()]).await, "1 1 Z(I)");
    client
}

/// `s` is gone and `t` is there.
async fn is_without_s(client: &mut Client, after: &str) {
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, format!("{GONE} Z(I)"), "after {after}");
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "2 D(2) C(SELECT 1) Z(I)", "after {after}");
}

async fn by_a_simple_query(mode: Mode) {
    let bed = Bed::one(mode).await;
    for sql in ["deallocate s", "DEALLOCATE PREPARE s;", " deallocate\n\"s\" ; ", "/* pgx */ deallocate s -- bye"] {
        let mut client = prepared(&bed).await;
        assert_eq!(client.query(sql).await, "C(DEALLOCATE) Z(I)", "{sql}");
        is_without_s(&mut client, sql).await;
        assert_eq!(client.query(sql).await, format!("{GONE} Z(I)"), "{sql} again");
        assert_eq!(client.ask(&[parse("s", "select 3", &[]), run("s", &[]), sync()]).await, "1 2 D(3) C(SELECT 1) Z(I)");
        client.leave().await;
    }
}

async fn by_the_extended_protocol(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = prepared(&bed).await;
    assert_eq!(client.ask(&[unnamed("deallocate s", &[]), sync()]).await, "1 2 C(DEALLOCATE) Z(I)");
    is_without_s(&mut client, "an unnamed one").await;
    assert_eq!(client.ask(&[parse("d", "deallocate t", &[]), run("d", &[]), sync()]).await, "1 2 C(DEALLOCATE) Z(I)");
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "E(26000: prepared statement \"t\" does not exist) Z(I)");
    assert_eq!(client.ask(&[run("d", &[]), sync()]).await, "2 E(26000: prepared statement \"t\" does not exist) Z(I)");
    client.ask(&[parse("t", "select 4", &[]), sync()]).await;
    assert_eq!(
        client.ask(&[run("d", &[]), run("t", &[]), sync()]).await,
        "2 C(DEALLOCATE) E(26000: prepared statement \"t\" does not exist) Z(I)"
    );
}

async fn in_the_middle_of_a_pipeline(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = prepared(&bed).await;
    let s = [run("s", &[]), sync()].concat();
    client.send(&[s.clone(), query("deallocate s"), s.clone(), parse("s", "select 5", &[]), s.clone(), query("select 6"), s.clone()]).await;
    let wanted = format!(
        "2 D(1) C(SELECT 1) Z(I) C(DEALLOCATE) Z(I) {GONE} Z(I) 1 2 D(5) C(SELECT 1) Z(I) T(?column?) D(6) C(SELECT 1) Z(I) 2 D(5) C(SELECT 1) Z(I)"
    );
    assert_eq!(client.ready_times(6).await, wanted);
    // Without a Sync between.
    let batch = [run("s", &[]), unnamed("deallocate s", &[]), parse("s", "select 7", &[]), run("s", &[]), sync()];
    assert_eq!(client.ask(&batch).await, "2 D(5) C(SELECT 1) 1 2 C(DEALLOCATE) 1 2 D(7) C(SELECT 1) Z(I)");
    let batch = [unnamed("deallocate s", &[]), run("s", &[]), parse("s", "select 8", &[]), sync()];
    assert_eq!(client.ask(&batch).await, format!("1 2 C(DEALLOCATE) {GONE} Z(I)"));
    // Skipped behind an error.
    client.ask(&[unnamed("select 1/0", &[]), unnamed("deallocate t", &[]), query("deallocate t"), sync()]).await;
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "2 D(2) C(SELECT 1) Z(I)");
    // Many at once, as a cache that is full.
    let parses: Vec<_> = (0..50).map(|i| parse(&format!("lrupsc_1_{i}"), &format!("select {i}"), &[])).chain([sync()]).collect();
    client.ask(&parses).await;
    let forgotten: Vec<_> = (0..50).step_by(2).map(|i| query(&format!("deallocate lrupsc_1_{i}"))).collect();
    client.send(&forgotten).await;
    assert_eq!(client.ready_times(25).await, ["C(DEALLOCATE) Z(I)"; 25].join(" "));
    for i in 0..50 {
        let heard = client.ask(&[run(&format!("lrupsc_1_{i}"), &[]), sync()]).await;
        let gone = format!("E(26000: prepared statement \"lrupsc_1_{i}\" does not exist) Z(I)");
        assert_eq!(heard, if i % 2 == 0 { gone } else { format!("2 D({i}) C(SELECT 1) Z(I)") });
    }
}

async fn all_of_them(mode: Mode) {
    let bed = Bed::one(mode).await;
    for sql in ["deallocate all", "DEALLOCATE PREPARE ALL;", "deallocate all -- of them"] {
        let mut client = prepared(&bed).await;
        assert_eq!(client.query(sql).await, "C(DEALLOCATE ALL) Z(I)");
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, format!("{GONE} Z(I)"), "{sql}");
        assert_eq!(client.query(sql).await, "C(DEALLOCATE ALL) Z(I)");
        client
            .send(&[
                parse("s", "select 3", &[]),
                sync(),
                query(sql),
                run("s", &[]),
                sync(),
                parse("s", "select 4", &[]),
                run("s", &[]),
                sync(),
            ])
            .await;
        let wanted = format!("1 Z(I) C(DEALLOCATE ALL) Z(I) {GONE} Z(I) 1 2 D(4) C(SELECT 1) Z(I)");
        assert_eq!(client.ready_times(4).await, wanted);
        let batch = [unnamed("deallocate all", &[]), parse("s", "select 5", &[]), run("s", &[]), sync()];
        assert_eq!(client.ask(&batch).await, "1 2 C(DEALLOCATE ALL) 1 2 D(5) C(SELECT 1) Z(I)");
        client.leave().await;
    }
}

async fn discarded(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = prepared(&bed).await;
    client.query("set application_name = 'somebody'").await;
    client.query("create temp table x (i int)").await;
    let heard = client.query("discard all").await;
    assert!(heard.contains("C(DISCARD ALL)") && heard.ends_with(" Z(I)") && !heard.contains("E("), "{heard}");
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, format!("{GONE} Z(I)"));
    assert_eq!(client.query("select 1 from x").await, "E(42P01: relation \"x\" does not exist) Z(I)");
    assert_eq!(client.value("show application_name").await, "");
    client.send(&[parse("s", "select 3", &[]), sync(), query("discard all"), parse("s", "select 4", &[]), run("s", &[]), sync()]).await;
    assert_eq!(client.ready_times(3).await, "1 Z(I) C(DISCARD ALL) Z(I) 1 2 D(4) C(SELECT 1) Z(I)");
    client.query("begin").await;
    assert_eq!(client.query("discard all").await, "E(25001: DISCARD ALL cannot run inside a transaction block) Z(E)");
    client.query("rollback").await;
    assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(4) C(SELECT 1) Z(I)");
}

async fn in_a_transaction(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = prepared(&bed).await;
    client.send(&[query("begin"), query("deallocate s"), query("rollback")]).await;
    assert_eq!(client.ready_times(3).await, "C(BEGIN) Z(T) C(DEALLOCATE) Z(T) C(ROLLBACK) Z(I)");
    is_without_s(&mut client, "a transaction that was undone").await;
    client.send(&[query("begin"), query("select 1/0"), query("deallocate t"), query("rollback")]).await;
    assert!(client.ready_times(4).await.contains("E(25P02"));
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "2 D(2) C(SELECT 1) Z(I)");
    client.send(&[query("begin"), query("deallocate unknown"), query("rollback")]).await;
    let wanted = "C(BEGIN) Z(T) E(26000: prepared statement \"unknown\" does not exist) Z(E) C(ROLLBACK) Z(I)";
    assert_eq!(client.ready_times(3).await, wanted);
    if mode == Mode::Transaction {
        // Among other statements the name is the server's to find, and it knows another.
        assert!(client.query("select 1; deallocate t; select 2").await.contains("E(26000: "));
        return;
    }
    // Among other statements.
    assert_eq!(client.query("select 1; deallocate t; select 2").await.matches("C(").count(), 3);
    assert_eq!(client.ask(&[run("t", &[]), sync()]).await, "E(26000: prepared statement \"t\" does not exist) Z(I)");
}

async fn names_as_sql_reads_them(mode: Mode) {
    let bed = Bed::one(mode).await;
    for (name, sql) in [
        ("with space", "deallocate \"with space\""),
        ("Mixed", "deallocate \"Mixed\""),
        ("lower", "deallocate LOWER"),
        ("say \"hi\"", "deallocate \"say \"\"hi\"\"\""),
        ("all", "deallocate \"all\""),
        ("ünïcode", "deallocate ünïcode"),
    ] {
        let mut client = prepared(&bed).await;
        client.ask(&[parse(name, "select 9", &[]), sync()]).await;
        assert_eq!(client.query(sql).await, "C(DEALLOCATE) Z(I)", "{sql}");
        let heard = client.ask(&[run(name, &[]), sync()]).await;
        assert_eq!(heard, format!("E(26000: prepared statement \"{name}\" does not exist) Z(I)"));
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(1) C(SELECT 1) Z(I)");
        client.leave().await;
    }
    let mut client = prepared(&bed).await;
    client.ask(&[parse("Mixed", "select 9", &[]), sync()]).await;
    assert_eq!(client.query("deallocate Mixed").await, "E(26000: prepared statement \"mixed\" does not exist) Z(I)");
    assert_eq!(client.query("deallocate").await.split(':').next(), Some("E(42601"));
}
