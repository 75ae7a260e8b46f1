//! COPY: rows that are messages of their own, and clients that say more or less than they should while it goes on.

use crate::pg_modes::message::{copy_data, copy_done, copy_fail, flush, parse, query, run, sync, terminate, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    rows_in_and_out,
    sync_within_a_copy_is_ignored,
    a_copy_that_its_client_gives_up,
    what_comes_after_a_copy_is_ignored,
    late_rows_after_an_error,
    late_rows_after_an_error_in_a_batch,
    a_copy_among_other_statements,
    a_copy_within_a_transaction,
    others_while_a_copy_waits,
    a_query_within_a_copy,
    a_goodbye_within_a_copy,
    megabytes_in_and_out,
);

async fn table(bed: &Bed) -> Client {
    let mut client = bed.client().await;
    assert_eq!(client.query("create table t (i int primary key, v text)").await, "C(CREATE TABLE) Z(I)");
    client
}

async fn rows_in_and_out(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    client.send(&[query("copy t from stdin"), copy_data(b"1\tone\n2\t"), copy_data(b"two\n"), copy_data(b""), copy_done()]).await;
    assert_eq!(client.ready().await, "G C(COPY 2) Z(I)");
    assert_eq!(client.query("copy t to stdout").await, "H d(1\\tone\\n) d(2\\ttwo\\n) c C(COPY 2) Z(I)");
    // Message after message, each answered before the next.
    client.send(&[query("copy t from stdin with (format csv)")]).await;
    assert_eq!(client.take(1).await, "G");
    client.send(&[copy_data(b"3,three\n"), flush()]).await;
    client.send(&[copy_data(b"4,four\n")]).await;
    client.send(&[copy_done()]).await;
    assert_eq!(client.ready().await, "C(COPY 2) Z(I)");
    let batch = [unnamed("copy (select i from t order by i) to stdout", &[]), sync()];
    assert_eq!(client.ask(&batch).await, "1 2 H d(1\\n) d(2\\n) d(3\\n) d(4\\n) c C(COPY 4) Z(I)");
    assert_eq!(client.query("copy (select 1/0) to stdout").await, "E(22012: division by zero) Z(I)");
    assert_eq!(client.value("select count(*) from t").await, "4");
}

/// The clients of Rust send it all at once: Parse, Bind, Execute, Sync, and then the rows.
async fn sync_within_a_copy_is_ignored(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    client.ask(&[parse("c", "copy t (i) from stdin", &[]), sync()]).await;
    for i in 0..5 {
        let row = format!("{i}\n");
        client.send(&[run("c", &[]), sync()]).await;
        assert_eq!(client.take(2).await, "2 G");
        client.send(&[copy_data(row.as_bytes()), sync(), flush(), copy_done(), sync()]).await;
        assert_eq!(client.ready().await, "C(COPY 1) Z(I)");
        let row = format!("{}\n", i + 100);
        client.send(&[run("c", &[]), sync(), copy_data(row.as_bytes()), copy_done(), sync()]).await;
        assert_eq!(client.ready().await, "2 G C(COPY 1) Z(I)");
    }
    assert_eq!(client.value("select count(*) from t").await, "10");
    assert!(client.is_quiet());
    if mode == Mode::Transaction {
        assert_eq!(bed.client().await.value("select count(*) from t").await, "10", "the connection is free again");
    }
}

async fn a_copy_that_its_client_gives_up(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    let failed = "E(57014: COPY from stdin failed: no more)";
    client.send(&[query("copy t from stdin"), copy_data(b"1\tone\n"), copy_fail("no more")]).await;
    assert_eq!(client.ready().await, format!("G {failed} Z(I)"));
    client.send(&[unnamed("copy t from stdin", &[]), copy_data(b"1\tone\n"), copy_fail("no more"), unnamed("select 1", &[]), sync()]).await;
    assert_eq!(client.ready().await, format!("1 2 G {failed} Z(I)"));
    assert_eq!(client.value("select count(*) from t").await, "0");
}

/// postgres.js says CopyFail after every COPY.
async fn what_comes_after_a_copy_is_ignored(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    for i in 0..5 {
        client.send(&[query("copy t (i) from stdin"), copy_data(format!("{i}\n").as_bytes()), copy_done()]).await;
        assert_eq!(client.ready().await, "G C(COPY 1) Z(I)");
        client.send(&[copy_fail("late"), copy_done(), copy_data(b"late")]).await;
        assert_eq!(client.value("select 'next'").await, "next");
        if mode == Mode::Transaction {
            assert_eq!(bed.client().await.value("select 1").await, "1");
        }
    }
    client.send(&[copy_fail("never was one")]).await;
    assert_eq!(client.value("select count(*) from t").await, "5");
}

async fn late_rows_after_an_error(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    let wrong = "E(22P02: invalid input syntax for type integer: \"x\")";
    for _ in 0..3 {
        client.send(&[query("copy t (i) from stdin"), copy_data(b"x\n")]).await;
        assert_eq!(client.take(1).await, "G");
        // The server notices when its buffer is full, or at the end.
        let rows = copy_data(&b"7\n".repeat(40_000));
        client.send(&[rows.clone(), rows.clone()]).await;
        assert_eq!(client.ready().await, format!("{wrong} Z(I)"));
        if mode == Mode::Transaction {
            assert_eq!(bed.client().await.value("select 1").await, "1");
        }
        client.send(&[rows.clone(), copy_data(b"8\n"), copy_done()]).await;
        assert_eq!(client.value("select count(*) from t").await, "0");
    }
    assert!(client.is_quiet());
}

async fn late_rows_after_an_error_in_a_batch(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    let wrong = "E(22P02: invalid input syntax for type integer: \"x\")";
    for _ in 0..3 {
        client
            .send(&[unnamed("copy t (i) from stdin", &[]), copy_data(&b"x\n".repeat(40_000)), copy_data(b"1\n"), copy_done(), sync()])
            .await;
        assert_eq!(client.ready().await, format!("1 2 G {wrong} Z(I)"));
        assert_eq!(client.value("select count(*) from t").await, "0");
        // Never begun: the rows meet a server that waits for Sync.
        client.send(&[unnamed("copy nothing from stdin", &[]), copy_data(b"1\n"), copy_done(), sync()]).await;
        assert_eq!(client.ready().await, "1 2 E(42P01: relation \"nothing\" does not exist) Z(I)");
    }
}

async fn a_copy_among_other_statements(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    let rows = [copy_data(b"1\tone\n"), copy_done()].concat();
    client.send(&[query("select 1; copy t from stdin; select 2; copy t to stdout"), rows]).await;
    let wanted = "T(?column?) D(1) C(SELECT 1) G C(COPY 1) T(?column?) D(2) C(SELECT 1) H d(1\\tone\\n) c C(COPY 1) Z(I)";
    assert_eq!(client.ready().await, wanted);
    // Two of them, and a pipeline behind.
    let two = [copy_data(b"2\ttwo\n"), copy_done(), copy_data(b"3\tthree\n"), copy_done()].concat();
    client
        .send(&[query("copy t from stdin; copy t from stdin"), two, query("select count(*) from t"), unnamed("select 4", &[]), sync()])
        .await;
    let wanted = "G C(COPY 1) G C(COPY 1) Z(I) T(count) D(3) C(SELECT 1) Z(I) 1 2 D(4) C(SELECT 1) Z(I)";
    assert_eq!(client.ready_times(3).await, wanted);
}

async fn a_copy_within_a_transaction(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    client.send(&[query("begin"), query("copy t from stdin"), copy_data(b"1\tone\n"), copy_done(), query("rollback")]).await;
    assert_eq!(client.ready_times(3).await, "C(BEGIN) Z(T) G C(COPY 1) Z(T) C(ROLLBACK) Z(I)");
    client.send(&[query("begin"), query("copy t from stdin"), copy_data(b"x\n"), copy_done()]).await;
    assert_eq!(client.ready_times(2).await.split(' ').next_back(), Some("Z(E)"));
    client.send(&[copy_data(b"late"), copy_done(), query("commit")]).await;
    assert_eq!(client.ready().await, "C(ROLLBACK) Z(I)");
    assert_eq!(client.value("select count(*) from t").await, "0");
}

async fn others_while_a_copy_waits(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut client = table(&bed).await;
    let mut other = bed.client().await;
    client.send(&[query("copy t from stdin")]).await;
    assert_eq!(client.take(1).await, "G");
    for i in 0..20 {
        client.send(&[copy_data(format!("{i}\trow\n").as_bytes())]).await;
        assert_eq!(other.value("select count(*) from t").await, "0");
    }
    client.send(&[copy_done()]).await;
    assert_eq!(client.ready().await, "C(COPY 20) Z(I)");
    assert_eq!(other.value("select count(*) from t").await, "20");
}

async fn a_query_within_a_copy(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    client.send(&[query("copy t from stdin"), copy_data(b"1\tone\n"), query("select 1")]).await;
    let heard = client.rest().await;
    assert!(heard.starts_with("G E(08P01: unexpected message type 0x51 during COPY from stdin)"), "{heard}");
    assert_eq!(bed.client().await.value("select count(*) from t").await, "0");
}

async fn a_goodbye_within_a_copy(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    client.send(&[query("copy t from stdin"), copy_data(b"1\tone\n")]).await;
    assert_eq!(client.take(1).await, "G");
    client.send(&[terminate()]).await;
    client.rest().await;
    assert_eq!(bed.client().await.value("select count(*) from t").await, "0");
    bed.wait_active(0).await;
}

async fn megabytes_in_and_out(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = table(&bed).await;
    let value = "v".repeat(1000);
    for round in 0..3 {
        client.send(&[query("copy t from stdin")]).await;
        for block in 0..30 {
            let rows: String = (0..100).map(|row| format!("{}\t{value}\n", round * 3000 + block * 100 + row)).collect();
            client.send(&[copy_data(rows.as_bytes())]).await;
        }
        client.send(&[copy_done()]).await;
        assert_eq!(client.ready().await, "G C(COPY 3000) Z(I)");
    }
    client.send(&[query("copy t to stdout")]).await;
    assert_eq!(client.take(1).await, "H");
    let (mut rows, mut bytes) = (0, 0);
    loop {
        let message = client.next().await.unwrap();
        if message.kind != b'd' {
            assert_eq!(message.text(), "c");
            break;
        }
        rows += 1;
        bytes += message.body.len();
    }
    assert_eq!((rows, bytes > 9_000_000), (9000, true));
    assert_eq!(client.ready().await, "C(COPY 9000) Z(I)");
}
