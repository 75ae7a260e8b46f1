//! Everything at once, by chance: faults of the API, faults of Spaces, kills. However it went, the end is that of an undisturbed run.
//!
//! `LAB_SEED=…` repeats a case, `LAB_CASES=…` says how many there are, `LAB_SECONDS=…` when no new one is begun.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt;
use lab::digitalocean::{At, Builder, Fake, Fault, Moment};
use lab::s3;
use support::{APPLY, Desk, End, outcome};
use tokio::time::Instant;

/// Runs that are disturbed; the next ones are left alone.
const DISTURBED: u32 = 3;
/// Runs until all is there: what a disturbed run leaves, one that is left alone finishes.
const RUNS: u32 = DISTURBED + 2;
/// Most of a case is waiting.
const AT_ONCE: usize = 6;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[tokio::test]
async fn however_it_went_the_end_is_that_of_an_undisturbed_run() {
    let seed = number("LAB_SEED", fastrand::u64(..1_000_000_000));
    let (cases, seconds) = (number("LAB_CASES", 20), number("LAB_SECONDS", 150));
    println!("LAB_SEED={seed}, {cases} cases");
    let quiet = Desk::new().await;
    quiet.apply().await.ends_with(0);
    let (wanted, begun) = (quiet.end(), Instant::now());
    let seeds = futures_util::stream::iter(seed..seed + cases);
    let cases = seeds.map(async |seed| {
        if begun.elapsed() < Duration::from_secs(seconds) {
            case(seed, &wanted).await;
            return 1;
        }
        0
    });
    let done = cases.buffer_unordered(AT_ONCE).fold(0, async |sum, one| sum + one).await;
    println!("{done} cases in {:?}", begun.elapsed());
    assert!(done > 0);
}

async fn case(seed: u64, wanted: &End) {
    let mut rng = Rng::with_seed(seed);
    let desk = Desk::with(slow(&mut rng), "").await;
    let mut story = format!("LAB_SEED={seed} LAB_CASES=1 repeats it");
    for run in 1..=RUNS {
        let code = if run <= DISTURBED { disturbed(&desk, &mut rng, &mut story).await } else { left_alone(&desk, &mut story).await };
        if code == Some(0) {
            break;
        }
        assert!(run < RUNS, "it never ends: {story}");
        assert!(matches!(code, None | Some(1 | 4)), "{code:?}: {story}");
    }
    assert_eq!(&desk.end(), wanted, "{story}");
    let keys = desk.cloud.api.world(|world| world.keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>());
    assert!(keys.len() == 1 && !keys[0].contains("temporary"), "{keys:?}: {story}");
    desk.is_finished().await;
}

/// An account that takes its time.
fn slow(rng: &mut Rng) -> Builder {
    Fake::builder().creating_polls(rng.u32(..4)).hidden_polls(rng.u32(..4)).unlisted_polls(rng.u32(..3))
}

async fn left_alone(desk: &Desk, story: &mut String) -> Option<i32> {
    let outcome = desk.apply().await;
    story.push_str(&format!("\n- left alone: {:?} {}", outcome.code, outcome.stderr));
    outcome.code
}

async fn disturbed(desk: &Desk, rng: &mut Rng, story: &mut String) -> Option<i32> {
    let (requests, mutations) = (desk.cloud.api.requests(), desk.cloud.api.mutations());
    for _ in 0..rng.usize(..6) {
        let (at, fault) = (at(rng, requests, mutations), fault(rng));
        story.push_str(&format!("\n- {fault:?} at {at:?}"));
        desk.cloud.api.fault(at, fault);
    }
    let faults = s3_faults(rng);
    story.push_str(&format!("\n- {faults:?}"));
    desk.cloud.s3.set_faults(faults);

    let mut child = desk.start(APPLY);
    let moment = if rng.bool() { Moment::BeforeCommit } else { Moment::AfterCommit };
    let ended = match rng.u8(..4) {
        0 => {
            let frozen = desk.cloud.api.freeze(at(rng, requests, mutations), moment);
            tokio::select! { () = frozen.reached() => false, _ = child.wait() => true }
        }
        1 => {
            let held = desk.cloud.s3.hold_at(desk.cloud.s3.requests().len() + rng.usize(1..15));
            tokio::select! { () = held.reached() => false, _ = child.wait() => true }
        }
        _ => true,
    };
    if !ended {
        child.start_kill().unwrap();
    }
    let outcome = outcome(child).await;
    desk.keeps_secrets(&outcome);
    desk.cloud.api.thaw();
    desk.cloud.s3.set_faults(s3::Faults::default());
    story.push_str(&format!("\n- it ended with {:?}: {}", outcome.code, outcome.stderr));
    outcome.code
}

/// Somewhere in the next run.
fn at(rng: &mut Rng, requests: usize, mutations: usize) -> At {
    match rng.u8(..3) {
        0 => At::Request(requests + rng.usize(1..60)),
        1 => At::Mutation(mutations + rng.usize(1..12)),
        _ => {
            let calls =
                [("POST", "/v2/databases"), ("POST", "/v2/spaces/keys"), ("DELETE", "/v2/spaces/keys/*"), ("PUT", "/v2/databases/*/*")];
            let (method, path) = calls[rng.usize(..calls.len())];
            At::call(method, path)
        }
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let status = [500, 502, 503][rng.usize(..3)];
    match rng.u8(..6) {
        0 => Fault::Before(status),
        1 | 2 => Fault::After(status),
        3 => Fault::CutBefore,
        4 => Fault::CutAfter,
        _ => Fault::Burst(rng.u64(..2)),
    }
}

fn s3_faults(rng: &mut Rng) -> s3::Faults {
    let mut some = |most: u32| if rng.bool() { rng.u32(..=most) } else { 0 };
    s3::Faults {
        slow_keys: some(4),
        slow_buckets: some(4),
        aborted: some(2),
        busy: some(3),
        cut: some(3),
        lose: some(3),
        flapping: some(1) == 1,
        ..s3::Faults::default()
    }
}
