//! Connections that end on the server's side, and waiting that ends.

use std::time::Duration;

use crate::pg_modes::message::{parse, query, run, sync, unnamed};
use crate::pg_modes::{Bed, Mode, in_every_mode};
use tokio::time::{Instant, sleep};

in_every_mode!(
    a_killed_backend_is_told_once;
    transaction: an_idle_connection_that_was_killed_is_not_lent,
    a_restart_is_not_noticed_between_transactions,
    waiting_ends_and_the_next_answer_is_the_right_one,
    who_waits_is_served_in_turn,
    many_clients_few_connections
);

const ALL: &str =
    "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";

async fn a_killed_backend_is_told_once(mode: Mode) {
    let bed = Bed::one(mode).await;
    for messages in [
        vec![query("select pg_sleep(1000)")],
        vec![unnamed("select pg_sleep(1000)", &[]), sync()],
        vec![query("begin; select pg_sleep(1000)")],
    ] {
        let mut client = bed.client().await;
        client.send(&messages).await;
        bed.wait_active(1).await;
        bed.sql(ALL).await;
        let heard = client.rest().await;
        assert!(heard.ends_with("F(57P01: terminating connection due to administrator command)"), "{heard}");
        assert_eq!(heard.matches("F(").count() + heard.matches("E(").count(), 1, "{heard}");
        assert_eq!(bed.client().await.value("select 1").await, "1");
    }
    // In a transaction, between two statements.
    let mut client = bed.client().await;
    client.query("begin").await;
    bed.sql(ALL).await;
    let heard = client.rest().await;
    assert!(heard == "F(57P01: terminating connection due to administrator command)" || heard.starts_with("F(08006"), "{heard}");
    assert_eq!(bed.client().await.value("select 1").await, "1");
}

async fn an_idle_connection_that_was_killed_is_not_lent(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.ask(&[parse("s", "select 'still here'", &[]), sync()]).await;
    client.query("set application_name = 'mine'").await;
    for _ in 0..5 {
        let backend = client.backend().await;
        bed.sql(ALL).await;
        bed.gate.wait_open(0, crate::support::SOON).await.unwrap();
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 D(still here) C(SELECT 1) Z(I)");
        assert_eq!(client.value("show application_name").await, "mine");
        assert_ne!(client.backend().await, backend);
    }
}

async fn a_restart_is_not_noticed_between_transactions(mode: Mode) {
    let bed = Bed::with(mode, 3, &["--pool-wait-timeout", "20s"]).await;
    let mut clients = Vec::new();
    for i in 0..10 {
        let mut client = bed.client().await;
        client.ask(&[parse("s", &format!("select {i}"), &[]), sync()]).await;
        clients.push(client);
    }
    // Refused connections are what a server looks like that is not there.
    bed.gate.refuse().await.unwrap();
    bed.gate.reset_both();
    bed.gate.wait_open(0, crate::support::SOON).await.unwrap();
    sleep(Duration::from_millis(100)).await; // until the proxy has seen it too: what is sent into a reset is lost
    for client in &mut clients {
        client.send(&[run("s", &[]), sync()]).await;
    }
    sleep(Duration::from_millis(500)).await; // nothing to wait for: nothing happens
    bed.gate.clear().await.unwrap();
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ready().await, format!("2 D({i}) C(SELECT 1) Z(I)"), "{}", bed.log());
    }
}

async fn waiting_ends_and_the_next_answer_is_the_right_one(mode: Mode) {
    let bed = Bed::with(mode, 1, &["--pool-wait-timeout", "1500ms"]).await;
    let (mut holder, mut waiter) = (bed.client().await, bed.client().await);
    waiter.ask(&[parse("s", "select 's'", &[]), sync()]).await;
    holder.query("begin").await;
    let started = Instant::now();
    waiter.send(&[query("select 'first'")]).await;
    let heard = waiter.until(b'E').await;
    assert!(heard.contains("53300") || heard.contains("57P03") || heard.contains("08006"), "{heard}");
    assert!(started.elapsed() >= Duration::from_millis(1490), "{:?}", started.elapsed());
    if heard.starts_with("E(") {
        // It lives on: what was asked in vain is forgotten.
        assert_eq!(waiter.ready().await, "Z(I)");
        waiter.send(&[run("s", &[]), sync()]).await;
        holder.query("commit").await;
        assert_eq!(waiter.ready().await, "2 D(s) C(SELECT 1) Z(I)");
    } else {
        assert_eq!(waiter.rest().await, "");
        holder.query("commit").await;
    }
    assert_eq!(bed.client().await.value("select 'second'").await, "second");
}

async fn who_waits_is_served_in_turn(mode: Mode) {
    let bed = Bed::with(mode, 1, &["--workers", "1"]).await;
    bed.past(&[]).await.query("create table turns (id serial, client int)").await;
    let mut holder = bed.client().await;
    let mut waiters = Vec::new();
    for _ in 0..5 {
        waiters.push(bed.client().await);
    }
    holder.query("begin").await;
    for (i, waiter) in waiters.iter_mut().enumerate() {
        waiter.send(&[query(&format!("insert into turns (client) values ({i})"))]).await;
        sleep(Duration::from_millis(50)).await; // the order in which they come is the matter
    }
    holder.query("commit").await;
    for waiter in &mut waiters {
        assert_eq!(waiter.ready().await, "C(INSERT 0 1) Z(I)");
    }
    assert_eq!(holder.value("select string_agg(client::text, ',' order by id) from turns").await, "0,1,2,3,4");
}

async fn many_clients_few_connections(mode: Mode) {
    let bed = Bed::with(mode, 3, &[]).await;
    let mut clients = Vec::new();
    for i in 0..100 {
        let mut client = bed.client().await;
        client.send(&[unnamed("select $1::int", &[Some(&i.to_string())]), sync(), query("select pg_sleep(0.002)")]).await;
        clients.push(client);
    }
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ready_times(2).await, format!("1 2 D({i}) C(SELECT 1) Z(I) T(pg_sleep) D() C(SELECT 1) Z(I)"));
    }
    let servers = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    assert!(bed.sql(servers).await.parse::<u32>().unwrap() <= 3);
}
