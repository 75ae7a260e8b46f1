//! Nobody ever gets another's reply: 200 clients with random requests of every class, killed and cut at random, every reply checked.
//!
//! `LAB_CROSSTALK=10000000` asks for so many requests (with `--release` and `--nocapture`; progress is printed), `LAB_SEED=…` for the same
//! requests again, `LAB_CUTS=off` for a run without cuts. A failure prints its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "crosstalk/client.rs"]
mod client;
#[path = "crosstalk/ledger.rs"]
mod ledger;
mod modes;
#[path = "crosstalk/script.rs"]
mod script;
mod support;
#[path = "crosstalk/wire.rs"]
mod wire;

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use lab::Side;
use ledger::Ledger;
use modes::{Bed, Mode};
use script::Model;
use tokio::time::{interval, sleep};

const CLIENTS: u16 = 200;

modes::in_every_mode!(two_hundred_clients_and_no_wrong_reply);

async fn two_hundred_clients_and_no_wrong_reply(mode: Mode) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let long = number("LAB_CROSSTALK");
    let seed = number("LAB_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let target = long.unwrap_or(150_000);
    let mut bed = Bed::with(mode, |redis| redis.line("maxclients 5000"), &["--max-clients", "1000", "--log-level", "warn"]).await;
    let script = bed.redis.admin(&["SCRIPT", "LOAD", "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"]).await;
    let script = script.unwrap().text();
    let ledger = Arc::new(Ledger::new(target));
    eprintln!("{}: {target} requests, LAB_SEED={seed}", mode.name());

    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let model = Model::new(id, seed, script.clone());
            let past = bed.redis.dir().join("redis.sock");
            Client { address: bed.address(), past, ledger: Arc::clone(&ledger), model, mortality: 5 }
        })
        .map(|client| tokio::spawn(client.run()))
        .collect();
    let all = async {
        for client in clients {
            client.await.unwrap();
        }
    };
    tokio::select! {
        () = all => {}
        () = storms(&bed, &ledger, seed), if std::env::var("LAB_CUTS").as_deref() != Ok("off") => {}
        () = report(&ledger, mode), if long.is_some() => {}
    }
    if let Some(failure) = ledger.failure() {
        panic!("LAB_SEED={seed}, {}\n{failure}\n--- {} ---\n{}", ledger.progress(), bed.state(), bed.log());
    }
    eprintln!("{}: {}", mode.name(), ledger.progress());
    // The last requests of clients that died may still be on their way.
    drained(&bed).await;
    ledger.settle(&bed.redis).await;
}

/// Waits until the server has nothing left to do.
async fn drained(bed: &Bed) {
    let mut last = -1.0;
    loop {
        let now = bed.redis.info("total_net_input_bytes").await.unwrap();
        let quiet = now - last < 2000.0; // this very question is input too
        if quiet {
            return;
        }
        last = now;
        sleep(Duration::from_millis(100)).await;
    }
}

/// Cuts upstream connections in every way, whenever the ledger says that it is time for it.
async fn storms(bed: &Bed, ledger: &Ledger, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        sleep(Duration::from_millis(rng.u64(20..250))).await;
        if !ledger.is_stormy() {
            continue;
        }
        ledger.cut();
        let some: Vec<_> = bed.gate.connections().into_iter().filter(|_| rng.u8(..4) == 0).collect();
        match rng.u8(..8) {
            0 => bed.gate.cut(),
            1 => bed.gate.reset(Side::Client),
            2 | 3 => {
                // Those of the network; the partners use the server's own socket.
                let port = bed.redis.plain_port().filter(|_| bed.mode == Mode::Direct).unwrap_or_else(|| bed.redis.port());
                let kind = if rng.bool() { "normal" } else { "pubsub" };
                bed.redis.admin(&["CLIENT", "KILL", "TYPE", kind, "LADDR", &format!("127.0.0.1:{port}")]).await.unwrap();
            }
            4 => some.iter().for_each(lab::gate::Connection::reset_both),
            5 => some.iter().for_each(|connection| connection.reset(Side::Client)),
            6 => {
                // In the middle of whatever is under way.
                let (up, down) = (rng.u64(..50_000), rng.u64(..50_000));
                for connection in &some {
                    connection.set(|faults| {
                        faults.cut_after_client = Some(connection.bytes(Side::Client) + up);
                        faults.cut_after_server = Some(connection.bytes(Side::Server) + down);
                    });
                }
                sleep(Duration::from_millis(200)).await;
                ledger.cut();
                // What has not come so far goes on.
                some.iter().for_each(|connection| connection.set(|faults| *faults = lab::Faults::default()));
            }
            _ => some.iter().for_each(lab::gate::Connection::cut),
        }
    }
}

async fn report(ledger: &Ledger, mode: Mode) {
    let mut tick = interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        eprintln!("{}: {}", mode.name(), ledger.progress());
    }
}
