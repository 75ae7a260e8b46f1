//! The server goes away: who has a reply owed or a state is closed, nobody hangs, nothing is sent twice, and life goes on when it is back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod modes;
mod support;

use std::time::Duration;

use lab::{Side, Value};
use modes::{Bed, Client, Mode};
use support::SOON;
use tokio::time::Instant;

modes::in_every_mode!(
    those_with_replies_owed_are_closed,
    subscribers_are_closed_so_that_they_resubscribe,
    a_client_in_a_transaction_is_closed,
    while_the_server_is_away_everybody_is_told,
    nothing_is_ever_sent_twice,
    a_server_that_starts_again_is_used_again,
    a_connection_that_the_server_kills_is_replaced;
    pooled: many_clients_share_few_connections
);

/// A client that has been answered, so that its way to the server is there.
async fn greeted(bed: &Bed) -> Client {
    let mut client = bed.resp().await;
    assert_eq!(client.say(&["PING"]).await, "PONG", "{}", bed.log());
    client
}

/// Breaks all connections to the server in some way, and waits until the proxy has noticed: a request that crosses the break on its way is lost
/// by rights.
async fn broken(bed: &Bed, how: impl AsyncFnOnce()) {
    let old: Vec<_> = bed.gate.connections().iter().map(lab::gate::Connection::id).collect();
    how().await;
    if bed.mode.is_one_to_one() {
        return; // it is the clients who let go
    }
    let gone = || bed.gate.connections().iter().all(|connection| !old.contains(&connection.id()));
    lab::until("the proxy lets go of the broken connections", SOON, gone).await.unwrap();
}

/// Asks with new connections until one is answered.
async fn recovers(bed: &Bed) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut client = bed.resp().await;
        if client.try_ask(&["PING"]).await.is_ok_and(|reply| reply.text() == "PONG") {
            return;
        }
        assert!(Instant::now() < deadline, "the server is back and nobody notices\n{}", bed.log());
        tokio::time::sleep(Duration::from_millis(20)).await; // a new attempt, as clients make them
    }
}

async fn those_with_replies_owed_are_closed(mode: Mode) {
    // No connections are opened ahead: the bytes that are seen below are the request.
    let bed = Bed::with(mode, |redis| redis, &["--pool-min-idle", "0"]).await;
    let (mut idle, mut blocked, mut owed) = (greeted(&bed).await, greeted(&bed).await, greeted(&bed).await);
    blocked.send(&["BLPOP", "nothing", "0"]).await;
    bed.wait_blocked(1.0).await;
    // The request reaches the server, and no reply comes.
    let before = bed.gate.bytes(Side::Client);
    bed.redis.freeze();
    owed.send(&["GET", "k"]).await;
    lab::until("the request goes on", SOON, || bed.gate.bytes(Side::Client) > before).await.unwrap();
    broken(&bed, async || bed.gate.cut()).await;
    owed.ends().await;
    blocked.ends().await;
    bed.redis.thaw();
    match mode {
        Mode::Direct | Mode::Relay => idle.ends().await,
        // Its lease is gone; whether it is closed or gets another one, it must not hang.
        Mode::Session => drop(idle.try_ask(&["PING"]).await),
        Mode::Multiplex => assert_eq!(idle.say(&["PING"]).await, "PONG", "it was owed nothing\n{}", bed.log()),
    }
    recovers(&bed).await;
}

async fn subscribers_are_closed_so_that_they_resubscribe(mode: Mode) {
    let bed = Bed::start(mode).await;
    for (hello, subscribe) in [("2", "SUBSCRIBE"), ("3", "SUBSCRIBE"), ("2", "PSUBSCRIBE"), ("3", "SSUBSCRIBE")] {
        let mut client = greeted(&bed).await;
        client.ask(&["HELLO", hello]).await;
        assert!(!client.ask(&[subscribe, "ch"]).await.is_error());
        bed.gate.cut();
        client.ends().await;
        recovers(&bed).await;
        let mut again = bed.resp().await;
        assert!(!again.ask(&[subscribe, "ch"]).await.is_error());
    }
}

async fn a_client_in_a_transaction_is_closed(mode: Mode) {
    let bed = Bed::start(mode).await;
    for begin in [&["MULTI"][..], &["WATCH", "k"], &["CLIENT", "REPLY", "ON"]] {
        let mut client = greeted(&bed).await;
        assert_eq!(client.say(begin).await, "OK");
        bed.gate.cut();
        if begin[0] == "CLIENT" && !mode.is_one_to_one() {
            // No state that could be lost: either is right, as long as it does not hang.
            drop(client.try_ask(&["PING"]).await);
        } else {
            client.ends().await;
        }
        recovers(&bed).await;
    }
    assert_eq!(bed.redis.admin(&["GET", "k"]).await.unwrap(), Value::Null);
}

async fn while_the_server_is_away_everybody_is_told(mode: Mode) {
    let bed = Bed::with(mode, |redis| redis, &["--pool-wait-timeout", "2s", "--connect-timeout", "2s"]).await;
    let mut idle = greeted(&bed).await;
    bed.gate.refuse().await.unwrap();
    bed.gate.cut();
    let started = Instant::now();
    // An error or the end, never silence: Harbor's workers have no timeout of their own.
    let told = idle.try_ask(&["PING"]).await;
    assert!(told.as_ref().map_or(true, Value::is_error), "{told:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "it took {:?}", started.elapsed());
    if mode != Mode::Direct {
        let started = Instant::now();
        let mut fresh = bed.resp().await;
        let told = fresh.try_ask(&["PING"]).await;
        assert!(told.as_ref().map_or(true, Value::is_error), "{told:?}");
        assert!(started.elapsed() < Duration::from_secs(6), "it took {:?}", started.elapsed());
    }
    bed.gate.clear().await.unwrap();
    recovers(&bed).await;
    if mode == Mode::Multiplex {
        // One that was told by an error is not closed, and goes on with the very same connection.
        let deadline = Instant::now() + SOON;
        while told.is_ok() && idle.say(&["PING"]).await != "PONG" {
            assert!(Instant::now() < deadline, "it is not answered any more\n{}", bed.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn nothing_is_ever_sent_twice(mode: Mode) {
    let bed = Bed::start(mode).await;
    for round in 0..30_u64 {
        let key = format!("n{round}");
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(greeted(&bed).await);
        }
        // The request goes on; the reply never comes back whole.
        for connection in bed.gate.connections() {
            let sent = connection.bytes(Side::Server);
            connection.set(|faults| faults.cut_after_server = Some(sent + round % 3));
        }
        let mut confirmed = 0;
        for client in &mut clients {
            client.send(&["INCR", &key]).await;
        }
        for mut client in clients {
            confirmed += u64::from(matches!(client.try_ask(&["PING"]).await, Ok(Value::Int(_))));
        }
        bed.gate.cut();
        let value = bed.redis.admin(&["GET", &key]).await.unwrap().text().parse().unwrap_or(0_u64);
        assert!(value <= 4 && value >= confirmed, "round {round}: 4 increments made {value}, {confirmed} were confirmed");
        recovers(&bed).await;
    }
}

async fn a_server_that_starts_again_is_used_again(mode: Mode) {
    let mut bed = Bed::start(mode).await;
    let mut idle = greeted(&bed).await;
    bed.redis.crash();
    bed.redis.restart().await.unwrap();
    recovers(&bed).await;
    if mode == Mode::Multiplex {
        assert_eq!(idle.say(&["PING"]).await, "PONG", "it was owed nothing\n{}", bed.log());
    }
}

async fn a_connection_that_the_server_kills_is_replaced(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut idle = greeted(&bed).await;
    for _ in 0..5 {
        broken(&bed, async || drop(bed.redis.admin(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap())).await;
        if mode == Mode::Multiplex {
            assert_eq!(idle.say(&["PING"]).await, "PONG", "{}", bed.log());
        }
        recovers(&bed).await;
    }
}

async fn many_clients_share_few_connections(mode: Mode) {
    if mode == Mode::Session {
        // One after another they share; at the same time each has its own.
        let bed = Bed::with(mode, |redis| redis, &["--pool-size", "4"]).await;
        for _ in 0..50 {
            drop(greeted(&bed).await);
        }
        let total = bed.redis.info("total_connections_received").await.unwrap();
        assert!(total < 30.0, "{total} connections for 50 clients");
        return;
    }
    let bed = Bed::start(mode).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(greeted(&bed).await);
    }
    let open = bed.redis.clients().await.unwrap();
    assert!(open <= 20, "{open} upstream connections for {} idle clients", clients.len());
}
