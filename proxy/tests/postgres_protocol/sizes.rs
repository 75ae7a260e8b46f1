//! Messages of any size, both ways, however they arrive.

use crate::pg_modes::message::{bind, copy_data, copy_done, execute, parse, query, run, sync};
use crate::pg_modes::{Bed, Mode, in_every_mode};
use lab::Side;
use std::time::Duration;

in_every_mode!(
    large_values_both_ways,
    large_texts_of_statements,
    a_large_error_and_a_large_notice,
    many_small_messages,
    a_client_that_reads_late,
    byte_by_byte
);

/// Around every size that a buffer may have.
const SIZES: [usize; 12] = [1, 4096, 8187, 8192, 16_379, 16_384, 65_530, 65_536, 70_000, 262_144, 1_048_576, 3_500_000];

fn text(size: usize) -> String {
    (0..=u8::MAX).map(|i| char::from(b'a' + i % 26)).cycle().take(size).collect()
}

async fn large_values_both_ways(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select $1::text", &[]), sync()]).await;
    for size in SIZES {
        let value = text(size);
        client.send(&[bind("", "s", &[Some(&value)]), execute("", 0), sync()]).await;
        assert_eq!(client.take(1).await, "2", "{size}");
        assert!(client.next().await.unwrap().values() == [Some(value.clone().into_bytes())], "{size}");
        assert_eq!(client.ready().await, "C(SELECT 1) Z(I)", "{size}");
        assert!(client.value(&format!("select '{value}'")).await == value, "{size}");
        // Small ones around, in the same write.
        client.send(&[query("select 1"), run("s", &[Some(&value)]), run("s", &[Some("small")]), sync(), query("select 2")]).await;
        assert_eq!(client.ready().await, "T(?column?) D(1) C(SELECT 1) Z(I)");
        assert_eq!(client.take(1).await, "2");
        assert!(client.next().await.unwrap().values() == [Some(value.into_bytes())], "{size}");
        assert_eq!(client.ready_times(2).await, "C(SELECT 1) 2 D(small) C(SELECT 1) Z(I) T(?column?) D(2) C(SELECT 1) Z(I)");
    }
}

async fn large_texts_of_statements(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    for (i, size) in SIZES.into_iter().enumerate() {
        let sql = format!("select {i} /* {} */", text(size));
        let name = format!("s{i}");
        assert_eq!(client.ask(&[parse(&name, &sql, &[]), sync()]).await, "1 Z(I)", "{size}");
    }
    for i in (0..SIZES.len()).rev() {
        assert_eq!(client.ask(&[run(&format!("s{i}"), &[]), sync()]).await, format!("2 D({i}) C(SELECT 1) Z(I)"));
    }
}

async fn a_large_error_and_a_large_notice(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let long = text(200_000);
    client.send(&[query(&format!("do $$ begin raise notice '{long}'; raise exception '{long}'; end $$"))]).await;
    for kind in *b"NE" {
        let message = client.next().await.unwrap();
        assert_eq!(message.kind, kind);
        assert!(message.field(b'M').unwrap() == long);
    }
    assert_eq!(client.ready().await, "Z(I)");
}

async fn many_small_messages(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select $1::int", &[]), sync()]).await;
    // As one batch, and as a thousand.
    let runs = |with_sync: bool| -> Vec<_> {
        let sync = if with_sync { sync() } else { Vec::new() };
        (0..1000).map(|i| [run("s", &[Some(&i.to_string())]), sync.clone()].concat()).collect()
    };
    client.send(&[runs(false).concat(), sync()]).await;
    for i in 0..1000 {
        assert_eq!(client.take(3).await, format!("2 D({i}) C(SELECT 1)"));
    }
    assert_eq!(client.ready().await, "Z(I)");
    client.send(&runs(true)).await;
    for i in 0..1000 {
        assert_eq!(client.ready().await, format!("2 D({i}) C(SELECT 1) Z(I)"));
    }
}

/// 20 MB for somebody who asks, and is busy elsewhere.
async fn a_client_that_reads_late(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    client.send(&[query("select repeat('x', 1000) from generate_series(1, 20000)"), query("select 'behind'")]).await;
    for _ in 0..50 {
        assert_eq!(other.value("select 1").await, "1");
    }
    assert_eq!(client.take(1).await, "T(repeat)");
    for _ in 0..20_000 {
        assert_eq!(client.next().await.unwrap().body.len(), 1006);
    }
    assert_eq!(client.ready_times(2).await, "C(SELECT 20000) Z(I) T(?column?) D(behind) C(SELECT 1) Z(I)");
    client.query("create table t (i int)").await;
    client.send(&[query("copy t from stdin"), copy_data(&b"1\n".repeat(500_000)), copy_done()]).await;
    assert_eq!(client.ready().await, "G C(COPY 500000) Z(I)");
}

/// A network that carries 700 bytes at a time between proxy and server, so that no message arrives whole.
async fn byte_by_byte(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select $1::text, $2::text", &[]), sync()]).await;
    bed.gate.slow(700, Duration::from_millis(1));
    let before = bed.gate.bytes(Side::Server);
    let value = text(9000);
    for _ in 0..3 {
        client.send(&[run("s", &[Some(&value), Some("b")]), run("s", &[None, Some(&value)]), sync()]).await;
        let heard = client.ready().await;
        assert_eq!(heard, "2 D(abcdefghijklmnopqrst…9000 bytes,b) C(SELECT 1) 2 D(null,abcdefghijklmnopqrst…9000 bytes) C(SELECT 1) Z(I)");
    }
    assert!(bed.gate.bytes(Side::Server) > before + 50_000);
}
