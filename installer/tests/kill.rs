//! Interrupted anywhere, run again: the end is the same. The steps are enumerated: an undisturbed run says how many requests there are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use std::time::Duration;

use lab::digitalocean::{At, Builder, Fake, Moment, Phase};
use rustix::process::Signal;
use support::{APPLY, Desk, End, outcome};
use tokio::process::Child;

fn account() -> Builder {
    Fake::builder().creating_polls(2).hidden_polls(1)
}

/// An undisturbed run: how many requests change something, at the API and at Spaces, and how it ends.
async fn undisturbed() -> (usize, usize, End) {
    let desk = Desk::with(account(), "").await;
    desk.apply().await.ends_with(0);
    (desk.cloud.api.mutations(), desk.cloud.s3.requests().len(), desk.end())
}

/// The next run finishes, and the one after it has nothing to do.
async fn recovers(desk: &Desk, wanted: &End, what: &str) {
    let again = desk.apply().await;
    assert_eq!(again.code, Some(0), "{what}: {}", again.stderr);
    assert_eq!(&desk.end(), wanted, "{what}");
    let mutations = desk.cloud.api.mutations();
    desk.apply().await.ends_with(0);
    assert_eq!(desk.cloud.api.mutations(), mutations, "{what}");
}

#[tokio::test]
async fn killed_at_every_request_to_the_api_the_next_run_ends_alike() {
    let (requests, _, wanted) = undisturbed().await;
    assert!(requests >= 8, "{requests}");
    for n in 1..=requests {
        for moment in [Moment::BeforeCommit, Moment::AfterCommit] {
            let desk = Desk::with(account(), "").await;
            let frozen = desk.cloud.api.freeze_at(n, moment);
            let mut child = desk.start(APPLY);
            tokio::select! {
                () = frozen.reached() => {}
                status = child.wait() => panic!("request {n}: it ended with {status:?} before it came so far"),
            }
            child.kill().await.unwrap();
            desk.cloud.api.thaw();
            recovers(&desk, &wanted, &format!("killed at request {n}, {moment:?}")).await;
        }
    }
}

#[tokio::test]
async fn killed_at_every_request_to_spaces_the_next_run_ends_alike() {
    let (_, requests, wanted) = undisturbed().await;
    assert!(requests >= 10, "{requests}");
    for n in 1..=requests {
        let desk = Desk::with(account(), "").await;
        let held = desk.cloud.s3.hold_at(n);
        let mut child = desk.start(APPLY);
        tokio::select! {
            () = held.reached() => {}
            status = child.wait() => panic!("request {n}: it ended with {status:?} before it came so far"),
        }
        child.kill().await.unwrap();
        recovers(&desk, &wanted, &format!("killed at request {n} to Spaces")).await;
    }
}

/// What a terminal, or an orchestrator, sends.
fn send(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// It ends soon, says what to do, and leaves no key that may do everything.
async fn is_interrupted(desk: &Desk, child: Child) {
    let outcome = outcome(child).await.ends_with(130);
    assert!(outcome.stderr.contains("doks-harbor apply"), "{}", outcome.stderr);
    let keys: Vec<_> = desk.cloud.api.world(|world| world.keys.iter().map(|key| key.name.clone()).collect());
    assert!(keys.iter().all(|name| !name.contains("temporary")), "{keys:?}");
}

#[tokio::test]
async fn a_ctrl_c_leaves_no_key_that_may_do_everything() {
    let (_, requests, wanted) = undisturbed().await;
    for (n, signal) in [(1, Signal::INT), (requests / 2, Signal::TERM), (requests - 1, Signal::INT)] {
        let desk = Desk::with(account(), "").await;
        let held = desk.cloud.s3.hold_at(n);
        let child = desk.start(APPLY);
        held.reached().await;
        send(&child, signal);
        is_interrupted(&desk, child).await;
        recovers(&desk, &wanted, &format!("{signal:?} at request {n} to Spaces")).await;
    }
    // The key is made, and its name is all that is known of it.
    let desk = Desk::with(account(), "").await;
    let frozen = desk.cloud.api.freeze(At::call("POST", "/v2/spaces/keys"), Moment::AfterCommit);
    let child = desk.start(APPLY);
    frozen.reached().await;
    send(&child, Signal::INT);
    is_interrupted(&desk, child).await;
    desk.cloud.api.thaw();
    recovers(&desk, &wanted, "Ctrl-C before a key's answer").await;
}

#[tokio::test]
async fn who_waits_can_be_stopped_and_runs_out_of_patience() {
    let (.., wanted) = undisturbed().await;
    let phase = |desk: &Desk, phase| desk.cloud.api.world(|world| world.databases.iter_mut().for_each(|it| it.phase = phase));
    for signal in [Signal::INT, Signal::TERM] {
        let desk = Desk::with(Fake::builder().creating_polls(u32::MAX), "").await;
        let child = desk.start(APPLY);
        let id = || desk.cloud.api.world(|world| world.databases.first().map(|database| database.id.clone()));
        let is_waiting = || id().is_some_and(|id| desk.cloud.api.calls().contains(&format!("GET /v2/databases/{id}")));
        while !is_waiting() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = desk.run(&["status", "--cloud", "-o", "json"]).await.ends_with(1);
        assert!(status.stdout.contains("\"creating\""), "{}", status.stdout);
        send(&child, signal);
        is_interrupted(&desk, child).await;
        phase(&desk, Phase::Online);
        recovers(&desk, &wanted, &format!("{signal:?} while it waited")).await;
    }
    let desk = Desk::with(Fake::builder().creating_polls(u32::MAX), "").await;
    let late = desk.json(&["apply", "--yes", "--poll", "10ms", "--timeout", "1s"], 4).await;
    assert!(late["error"].as_str().unwrap().contains("run the same command again") && late["exit_code"] == 4, "{late}");
    phase(&desk, Phase::Online);
    recovers(&desk, &wanted, "out of patience").await;
}

#[tokio::test]
async fn two_runs_at_once_double_nothing() {
    let (.., wanted) = undisturbed().await;
    let desk = Desk::with(account(), "").await;
    // On one machine they take turns.
    let frozen = desk.cloud.api.freeze_at(1, Moment::AfterCommit);
    let first = desk.start(APPLY);
    frozen.reached().await;
    let second = desk.apply().await.ends_with(1);
    assert!(second.stderr.contains("another doks-harbor"), "{}", second.stderr);
    desk.cloud.api.thaw();
    outcome(first).await.ends_with(0);
    assert_eq!(desk.end(), wanted);

    // On two machines both make, and one claims.
    let desk = Desk::with(account(), "").await;
    let elsewhere = ["apply", "--yes", "--poll", "10ms", "--keyring", "elsewhere"];
    let (one, other) = (desk.start(APPLY), desk.start(&elsewhere));
    let (one, other) = tokio::join!(outcome(one), outcome(other));
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)], "{}\n{}", one.stderr, other.stderr);
    let loser = if one.code == Some(1) { &one } else { &other };
    assert!(loser.stderr.contains("another keyring"), "{}", loser.stderr);
    let names: Vec<_> = desk.cloud.api.world(|world| world.databases.iter().map(|database| database.name.clone()).collect());
    assert_eq!(names.len(), 2, "{names:?}");
    let keys = desk.cloud.api.world(|world| world.keys.len());
    assert_eq!(keys, 1, "the loser leaves no key");
}
