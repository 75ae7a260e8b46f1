//! Nobody ever gets another's row, and nothing that was committed is lost or done twice: 200 clients with random transactions, killed, cancelled
//! and cut at random.
//!
//! `LAB_CROSSTALK=100000` asks for so many steps (with `--release` and `--nocapture`), `LAB_SEED=…` for the same steps again, `LAB_CUTS=off` for a
//! run without cuts. A failure prints its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "postgres_crosstalk/client.rs"]
mod client;
#[path = "postgres_crosstalk/ledger.rs"]
mod ledger;
mod pg_modes;
mod support;

use std::sync::Arc;
use std::time::Duration;

use client::Visitor;
use lab::Side;
use ledger::Ledger;
use pg_modes::{Bed, Mode};
use tokio::time::sleep;

const CLIENTS: u32 = 200;
const POOL: u32 = 12;

pg_modes::in_every_mode!(two_hundred_clients_and_no_wrong_row);

/// Two hundred clients are enough for one machine.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn two_hundred_clients_and_no_wrong_row(mode: Mode) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let seed = number("LAB_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let target = number("LAB_CROSSTALK").unwrap_or(4_000);
    // A visit is a session there, and the others wait for its end.
    let clients = if mode == Mode::Session { POOL * 2 } else { CLIENTS };
    let bed = Bed::with(mode, POOL, &["--log-level", "warn"]).await;
    bed.past(&[]).await.query("create table ledger (token bigint, client int, note text)").await;
    let ledger = Arc::new(Ledger::new(target));
    eprintln!("{}: {target} steps, LAB_SEED={seed}", mode.name());
    let visitors: Vec<_> = (0..clients)
        .map(|id| Visitor::new(id, seed, bed.address(), &bed.database, Arc::clone(&ledger)))
        .map(|visitor| tokio::spawn(visitor.run()))
        .collect();
    let all = async {
        for visitor in visitors {
            if let Err(error) = visitor.await {
                ledger.fail(format!("a client panicked: {error}"));
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = storms(&bed, &ledger, seed), if std::env::var("LAB_CUTS").as_deref() != Ok("off") => {}
    }
    if let Some(failure) = ledger.failure() {
        panic!("LAB_SEED={seed}, {}\n{failure}\n--- the log ---\n{}", ledger.progress(), bed.log());
    }
    eprintln!("{}: {}", mode.name(), ledger.progress());
    // What clients that died had sent may still be running.
    bed.wait_active(0).await;
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    bed.wait(open, "0").await;
    ledger.settle(&bed.sql("select token, count(*) from ledger group by token").await);
    bed.wait("select count(*) from pg_locks where locktype = 'advisory'", "0").await;
}

/// Cuts and kills server connections in every way, whenever the ledger says that it is time for it.
async fn storms(bed: &Bed, ledger: &Ledger, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        sleep(Duration::from_millis(rng.u64(50..400))).await;
        if !ledger.is_stormy() {
            continue;
        }
        ledger.cut();
        let some: Vec<_> = bed.gate.connections().into_iter().filter(|_| rng.u8(..4) == 0).collect();
        match rng.u8(..7) {
            0 => bed.gate.cut(),
            1 => bed.gate.reset(Side::Client),
            2..4 => {
                let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                            where datname = current_database() and pid <> pg_backend_pid() and random() < 0.3";
                bed.sql(kill).await;
            }
            4 => some.iter().for_each(lab::gate::Connection::reset_both),
            5 => {
                // In the middle of whatever is under way.
                let (up, down) = (rng.u64(..20_000), rng.u64(..20_000));
                for connection in &some {
                    connection.set(|faults| {
                        faults.cut_after_client = Some(connection.bytes(Side::Client) + up);
                        faults.cut_after_server = Some(connection.bytes(Side::Server) + down);
                    });
                }
                sleep(Duration::from_millis(200)).await;
                some.iter().for_each(|connection| connection.set(|faults| *faults = lab::Faults::default()));
            }
            _ => some.iter().for_each(lab::gate::Connection::cut),
        }
        ledger.cut();
    }
}
