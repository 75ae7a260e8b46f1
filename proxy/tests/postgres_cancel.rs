//! A cancel request ends the query of the client whose key it has, or nothing at all: never another's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod pg_modes;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pg_modes::message::{cancel, parse, query, run, sync, unnamed};
use pg_modes::{Bed, Mode};
use support::SOON;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

pg_modes::in_every_mode!(
    a_running_query_is_cancelled,
    a_cancelled_transaction_waits_for_rollback,
    what_is_cancelled_too_late_is_not_cancelled,
    keys_that_fit_nobody_do_nothing,
    many_at_random;
    transaction: who_waits_for_a_connection_may_cancel,
    a_cancel_never_meets_the_next
);

const CANCELLED: &str = "E(57014: canceling statement due to user request)";

/// Sends the request and waits until it is over, as clients do: nothing comes, and it is closed.
async fn send(address: SocketAddr, key: &(u32, Vec<u8>)) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&cancel(key.0, &key.1)).await.unwrap();
    let mut said = Vec::new();
    // It may be closed by a reset.
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("the cancel request is not over");
    assert_eq!(said, b"", "a cancel request is never answered");
}

async fn a_running_query_is_cancelled(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    client.ask(&[parse("s", "select pg_sleep($1::float)", &[]), sync()]).await;
    other.send(&[query("select pg_sleep(1.5), 'other'")]).await;
    for messages in [
        vec![query("select pg_sleep(1000)")],
        vec![unnamed("select pg_sleep(1000)", &[]), sync()],
        vec![run("s", &[Some("1000")]), sync()],
        vec![query("select 1; select pg_sleep(1000); select 2")],
    ] {
        client.send(&messages).await;
        bed.wait_active(if other.is_quiet() { 2 } else { 1 }).await;
        send(bed.address(), &client.key.clone()).await;
        let heard = client.ready().await;
        assert!(heard.ends_with(&format!("{CANCELLED} Z(I)")), "{heard}");
        assert_eq!(client.value("select 1").await, "1");
    }
    assert_eq!(other.ready().await, "T(pg_sleep,?column?) D(,other) C(SELECT 1) Z(I)");
}

async fn a_cancelled_transaction_waits_for_rollback(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.query("begin").await;
    client.send(&[query("select pg_sleep(1000)"), query("select 'behind'")]).await;
    bed.wait_active(1).await;
    send(bed.address(), &client.key.clone()).await;
    assert_eq!(client.ready().await, format!("T(pg_sleep) {CANCELLED} Z(E)"));
    assert!(client.ready().await.starts_with("E(25P02: "), "the next in the pipeline");
    assert_eq!(client.query("rollback").await, "C(ROLLBACK) Z(I)");
}

async fn what_is_cancelled_too_late_is_not_cancelled(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    for _ in 0..20 {
        assert_eq!(client.value("select 1").await, "1");
        send(bed.address(), &client.key.clone()).await;
        // Directly, the signal may still meet what comes next; that is between the client and itself.
        let next = client.query("select 2").await;
        assert!(next == "T(?column?) D(2) C(SELECT 1) Z(I)" || mode.is_one_to_one() && next.contains("57014"), "{next}");
    }
    // One who has gone.
    let key = client.key.clone();
    client.leave().await;
    let mut next = bed.client().await;
    next.send(&[query("select pg_sleep(0.3), 'next'")]).await;
    bed.wait_active(1).await;
    send(bed.address(), &key).await;
    assert_eq!(next.ready().await, "T(pg_sleep,?column?) D(,next) C(SELECT 1) Z(I)");
}

async fn keys_that_fit_nobody_do_nothing(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    let (process, secret) = client.key.clone();
    client.send(&[query("select pg_sleep(0.5), 'me'")]).await;
    bed.wait_active(1).await;
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    for key in [(process, wrong), (process ^ 1, secret.clone()), (0, vec![0; 4]), (process, vec![0; 4])] {
        send(bed.address(), &key).await;
    }
    // Half of one, and one that is too long.
    for bytes in [&cancel(process, &secret)[..10], &cancel(process, &[7; 300])] {
        let mut stream = TcpStream::connect(bed.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it is not closed");
    }
    assert_eq!(client.ready().await, "T(pg_sleep,?column?) D(,me) C(SELECT 1) Z(I)");
}

/// Twenty clients whose queries take a moment; ten of them are cancelled again and again, at any time.
async fn many_at_random(mode: Mode) {
    const CLIENTS: u64 = 20;
    let bed = Bed::with(mode, if mode == Mode::Session { 20 } else { 4 }, &[]).await;
    let over = Arc::new(AtomicBool::new(false));
    let (mut clients, mut cancellers) = (Vec::new(), Vec::new());
    for id in 0..CLIENTS {
        let mut client = bed.client().await;
        let (sent, address, key) = (Arc::new(AtomicU64::new(0)), bed.address(), client.key.clone());
        client.ask(&[parse("s", "select pg_sleep($1::float), $2::text", &[]), sync()]).await;
        if id % 2 == 0 {
            let (sent, over) = (Arc::clone(&sent), Arc::clone(&over));
            cancellers.push(tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(fastrand::u64(0..40))).await;
                    sent.fetch_add(1, Ordering::SeqCst);
                    send(address, &key).await;
                }
            }));
        }
        clients.push(tokio::spawn(async move {
            let (mut cancelled, mut done) = (0, 0);
            for round in 0..60 {
                let (name, seconds) = (format!("client {id} round {round}"), fastrand::u32(0..12).to_string());
                let messages = match fastrand::u8(..3) {
                    0 => vec![query(&format!("select pg_sleep({seconds} * 0.001), '{name}'"))],
                    1 => vec![run("s", &[Some(&format!("0.00{}", seconds.len())), Some(&name)]), sync()],
                    _ => vec![query(&format!("begin; select pg_sleep({seconds} * 0.001), '{name}'; commit"))],
                };
                let heard = client.ask(&messages).await;
                if heard.contains(CANCELLED) {
                    cancelled += 1;
                    assert!(id % 2 == 0, "{name}: nobody cancelled it: {heard}");
                    assert!(sent.load(Ordering::SeqCst) > 0, "{name}: not yet: {heard}");
                    if heard.ends_with("Z(E)") {
                        let undone = client.query("rollback").await;
                        assert!(undone == "C(ROLLBACK) Z(I)" || undone.contains(CANCELLED), "{undone}");
                        if !undone.ends_with("Z(I)") {
                            client.query("rollback").await;
                        }
                    }
                } else {
                    assert!(heard.contains(&format!("D(,{name})")) && heard.ends_with("Z(I)"), "{name}: {heard}");
                    done += 1;
                }
            }
            // The server sends the signal to its process and to the process's group: late, the second meets another query of the same client.
            assert!(cancelled <= 2 * sent.load(Ordering::SeqCst), "{cancelled} of {sent:?}");
            (cancelled, done)
        }));
    }
    let (mut cancelled, mut done) = (0, 0);
    for client in clients {
        let counts = client.await.unwrap();
        cancelled += counts.0;
        done += counts.1;
    }
    over.store(true, Ordering::SeqCst);
    for canceller in cancellers {
        canceller.await.unwrap();
    }
    assert!(cancelled > 0 && done > 600, "{cancelled} cancelled, {done} done: nothing was tried");
}

async fn who_waits_for_a_connection_may_cancel(mode: Mode) {
    let bed = Bed::one(mode).await;
    let (mut holder, mut waiter) = (bed.client().await, bed.client().await);
    holder.send(&[query("begin; select pg_sleep(0.6), 'holder'")]).await;
    bed.wait_active(1).await;
    waiter.send(&[query("select 'waiter'")]).await;
    send(bed.address(), &waiter.key.clone()).await;
    assert_eq!(holder.ready().await, "C(BEGIN) T(pg_sleep,?column?) D(,holder) C(SELECT 1) Z(T)");
    holder.query("commit").await;
    let heard = waiter.ready().await;
    assert!(heard.contains("57014") || heard == "T(?column?) D(waiter) C(SELECT 1) Z(I)", "{heard}");
    assert_eq!(waiter.value("select 'again'").await, "again");
}

/// Both on one connection: the cancel of what is over comes while the other's query is there.
async fn a_cancel_never_meets_the_next(mode: Mode) {
    let bed = Bed::one(mode).await;
    let (mut victim, mut other) = (bed.client().await, bed.client().await);
    for round in 0..40 {
        // Over at about the time when the cancel comes.
        victim.send(&[query("select pg_sleep(0.004)")]).await;
        let (address, key) = (bed.address(), victim.key.clone());
        let canceller = tokio::spawn(async move {
            sleep(Duration::from_micros(fastrand::u64(2000..7000))).await;
            send(address, &key).await;
        });
        other.send(&[query(&format!("select pg_sleep(0.01), 'round {round}'"))]).await;
        assert_eq!(other.ready().await, format!("T(pg_sleep,?column?) D(,round {round}) C(SELECT 1) Z(I)"));
        victim.ready().await;
        canceller.await.unwrap();
    }
}
