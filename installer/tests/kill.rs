//! Interrupted anywhere, run again: the end is the same. The steps are enumerated: an undisturbed run says how many requests there are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use lab::digitalocean::{Builder, Fake, Moment};
use support::{APPLY, Desk, End, outcome};

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

#[tokio::test]
async fn a_ctrl_c_leaves_no_key_that_may_do_everything() {
    let (_, requests, wanted) = undisturbed().await;
    for n in [1, requests / 2, requests - 1] {
        let desk = Desk::with(account(), "").await;
        let held = desk.cloud.s3.hold_at(n);
        let child = desk.start(APPLY);
        held.reached().await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let outcome = outcome(child).await.ends_with(130);
        assert!(outcome.stderr.contains("doks-harbor apply"), "{}", outcome.stderr);
        let keys: Vec<_> = desk.cloud.api.world(|world| world.keys.iter().map(|key| key.name.clone()).collect());
        assert!(keys.iter().all(|name| !name.contains("temporary")), "{keys:?}");
        recovers(&desk, &wanted, &format!("Ctrl-C at request {n} to Spaces")).await;
    }
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
