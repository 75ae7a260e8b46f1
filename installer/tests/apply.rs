//! The program from outside: plan, apply, status, destroy against an account that keeps state.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use lab::digitalocean::{CLUSTER, Fake};
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
    let status = desk.run(&["status", "-o", "json"]).await.ends_with(0);
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
    let status = desk.run(&["status", "-o", "json"]).await.ends_with(1);
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
