//! The program from outside: plan, apply, status, destroy against an account that keeps state.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use lab::digitalocean::{At, CLUSTER, Fake, Moment};
use support::Desk;

#[tokio::test]
async fn from_nothing_to_everything_and_then_nothing_to_do() {
    let desk = Desk::with(Fake::builder().creating_polls(3).hidden_polls(2), "").await;
    let plan = desk.run(&["plan"]).await.ends_with(2);
    for words in ["+  PostgreSQL", "+  Valkey", "+  Spaces bucket", "open to this cluster only", "$"] {
        assert!(plan.stdout.contains(words), "{words}:\n{}", plan.stdout);
    }
    assert_eq!(desk.cloud.api.mutations(), 0, "a plan changes nothing");
    assert!(!desk.path("doks-harbor.keyring").exists(), "not even here");

    desk.apply().await.ends_with(0);
    let state = desk.cloud.api.snapshot();
    for engine in ["pg", "valkey"] {
        let database = state["databases"].as_object().unwrap().values().find(|database| database["engine"] == engine).unwrap();
        assert_eq!(database["rules"][0]["value"], CLUSTER, "{database}");
        assert_eq!(database["rules"].as_array().unwrap().len(), 1);
        assert_eq!(database["tags"][0], format!("harbor-proxy:{CLUSTER}"));
        assert!(!database["vpc"].is_null());
    }
    let keys = state["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "the temporary key is gone: {keys:?}");
    let bucket = desk.cloud.s3.snapshot().buckets.into_values().next().unwrap();
    assert!(bucket.lifecycle.is_some_and(|rules| rules.contains("AbortIncompleteMultipartUpload")));
    assert_eq!(bucket.objects.keys().collect::<Vec<_>>(), [".harbor-proxy/owner.json"], "the proof leaves nothing");

    let mutations = desk.cloud.api.mutations();
    desk.run(&["plan"]).await.ends_with(0);
    desk.apply().await.ends_with(0);
    assert_eq!(desk.cloud.api.mutations(), mutations, "the second run writes nothing: {:?}", desk.cloud.api.calls());
    let status = desk.run(&["status", "--cloud", "-o", "json"]).await.ends_with(0);
    assert_eq!(status.json()["drift"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn drift_is_shown_and_mended_and_others_keep_what_is_theirs() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let good = desk.cloud.api.snapshot();
    desk.cloud.api.world(|world| {
        for database in &mut world.databases {
            database.rules.retain(|rule| rule.kind != "k8s");
            database.eviction_policy = "allkeys_lru".to_owned();
        }
    });
    let status = desk.run(&["status", "--cloud", "-o", "json"]).await.ends_with(1);
    assert!(status.json()["drift"].as_array().unwrap().len() >= 3, "{}", status.stdout);
    desk.apply().await.ends_with(0);
    let mended = desk.cloud.api.snapshot();
    for (name, database) in good["databases"].as_object().unwrap() {
        assert_eq!(database["rules"], mended["databases"][name]["rules"]);
    }
    assert!(
        desk.cloud.api.world(|world| world
            .databases
            .iter()
            .filter(|db| db.engine == "valkey")
            .all(|db| db.eviction_policy == "noeviction"))
    );
}

#[tokio::test]
async fn preflight_finds_what_would_fail() {
    let desk = Desk::with(Fake::builder().lacks("database:view_credentials"), "postgres: {version: '9', size: db-none}\n").await;
    let told = desk.run(&["preflight"]).await.ends_with(3);
    assert!(told.stdout.contains("version 9 is not offered") && told.stdout.contains("db-none"), "{}", told.stdout);
    desk.apply().await.ends_with(3);
    assert_eq!(desk.cloud.api.mutations(), 0);
}

#[tokio::test]
async fn who_has_nobody_to_ask_says_yes_before() {
    let desk = Desk::new().await;
    let told = desk.json(&["apply"], 1).await;
    assert!(told["error"].as_str().unwrap().contains("--yes"), "{told}");
    assert_eq!(desk.cloud.api.mutations(), 0);
}

#[tokio::test]
async fn programs_read_one_document_whatever_happens() {
    let desk = Desk::new().await;
    assert_eq!(desk.json(&["plan"], 2).await["items"].as_array().unwrap().len(), 3);
    assert!(desk.json(&["status", "--cloud"], 1).await["drift"].is_array());
    assert!(desk.json(&["preflight"], 0).await["checks"].is_array());
    assert_eq!(desk.json(&["apply", "--yes", "--poll", "10ms"], 0).await["cluster"]["id"], CLUSTER);
    assert_eq!(desk.json(&["status", "--cloud"], 0).await["drift"].as_array().unwrap().len(), 0);
    assert_eq!(desk.json(&["destroy"], 0).await["done"], false);
    assert!(desk.json(&["destroy", "--databases"], 1).await["error"].as_str().unwrap().contains("--confirm"));
    assert_eq!(desk.json(&["rotate", "pg", "--yes"], 0).await["rotated"], "pg");
    assert!(desk.json(&["rotate", "valkey"], 1).await["error"].as_str().unwrap().contains("control panel"));
    assert!(desk.json(&["init"], 1).await["error"].as_str().unwrap().contains("--force"));
    assert_eq!(desk.json(&["init", "--force", "--cluster", "x"], 0).await["cluster"], "x");
    assert!(desk.json(&["plan"], 1).await["error"].as_str().unwrap().contains("no DOKS cluster"));
    desk.spec("postgres: {nodes: 7}\n");
    assert_eq!(desk.json(&["plan"], 64).await["exit_code"], 64);
}

#[tokio::test]
async fn whoever_looks_keeps_nobody_out() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let frozen = desk.cloud.api.freeze(At::call("GET", "/v2/account"), Moment::AfterCommit);
    let run = desk.start(&["rotate", "pg", "--yes"]);
    frozen.reached().await;
    desk.run(&["status", "--cloud"]).await.ends_with(0);
    desk.run(&["plan"]).await.ends_with(0);
    desk.cloud.api.thaw();
    support::outcome(run).await.ends_with(0);
}

/// Only the cloud is left: what to do is said, and doing it ends well.
#[tokio::test]
async fn a_lost_keyring_has_a_way_back() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let wanted = desk.end();
    let id = desk.read("doks-harbor.keyring/.id");
    std::fs::remove_dir_all(desk.path("doks-harbor.keyring")).unwrap();
    let told = desk.apply().await.ends_with(1);
    assert!(
        told.stderr.contains("harbor-secret-key") && told.stderr.contains(&format!("write {id} into doks-harbor.keyring/.id")),
        "{}",
        told.stderr
    );
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 1, "Harbor's key lives");
    std::fs::write(desk.path("doks-harbor.keyring/.id"), format!("{id}\n")).unwrap();
    desk.apply().await.ends_with(0);
    std::fs::write(desk.path("doks-harbor.keyring/.id"), id).unwrap();
    assert_eq!(desk.end(), wanted);
    desk.is_finished().await;
}

#[tokio::test]
async fn a_key_of_a_lost_run_is_told_to_whoever_comes_next() {
    let desk = Desk::new().await;
    let held = desk.cloud.s3.hold_at(2);
    let mut run = desk.start(&["apply", "--yes", "--poll", "10ms", "--keyring", "elsewhere"]);
    held.reached().await;
    run.kill().await.unwrap();
    let plan = desk.run(&["plan"]).await.ends_with(2);
    assert!(plan.stdout.contains("another keyring"), "{}", plan.stdout);
    desk.apply().await.ends_with(0);
    let plan = desk.run(&["plan"]).await.ends_with(0);
    assert!(plan.stdout.contains("another keyring"), "{}", plan.stdout);
}
