//! The end: only what is ours, only what was named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use doks_harbor::names::Names;
use lab::digitalocean::{At, CLUSTER, Fake, Moment};
use support::Desk;

fn databases(desk: &Desk) -> Vec<String> {
    desk.cloud.api.world(|world| world.databases.iter().map(|database| database.name.clone()).collect())
}

#[tokio::test]
async fn nothing_that_holds_data_dies_unnamed() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let before = desk.cloud.api.snapshot();
    let shown = desk.run(&["destroy"]).await.ends_with(0);
    assert!(shown.stdout.contains("Nothing was deleted"), "{}", shown.stdout);
    desk.run(&["destroy", "--databases"]).await.ends_with(1);
    let one = databases(&desk)[0].clone();
    desk.run(&["destroy", "--databases", "--confirm", &one]).await.ends_with(1);
    desk.run(&["destroy", "--bucket"]).await.ends_with(1);
    assert_eq!(desk.cloud.api.snapshot(), before);
    assert_eq!(desk.cloud.s3.snapshot().buckets.len(), 1);
}

#[tokio::test]
async fn what_is_named_dies_and_its_name_is_free() {
    let desk = Desk::with(Fake::builder().deleting_polls(3), "").await;
    desk.apply().await.ends_with(0);
    let names = databases(&desk);
    let bucket = desk.cloud.s3.snapshot().buckets.into_keys().next().unwrap();
    let mut arguments = vec!["destroy", "--databases", "--bucket", "--poll", "10ms", "--confirm", &bucket];
    names.iter().for_each(|name| arguments.extend(["--confirm", name]));
    desk.run(&arguments).await.ends_with(0);
    assert_eq!(databases(&desk), [""; 0]);
    assert!(desk.cloud.s3.snapshot().buckets.is_empty());
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0);
    desk.apply().await.ends_with(0);
}

#[tokio::test]
async fn the_users_own_are_never_deleted() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let (pg, valkey) = desk.cloud.api.world(|world| {
        // As if the user had made them: no mark of ours.
        world.databases.iter_mut().for_each(|database| database.tags.clear());
        let name = |engine: &str| world.databases.iter().find(|database| database.engine == engine).unwrap().name.clone();
        (name("pg"), name("valkey"))
    });
    let told = desk.run(&["plan"]).await.ends_with(1);
    assert!(told.stdout.contains("not marked"), "{}", told.stdout);
    desk.run(&["destroy", "--databases", "--confirm", &pg, "--confirm", &valkey]).await.ends_with(1);
    desk.spec(&format!("postgres: {{adopt: {pg}}}\nvalkey: {{adopt: {valkey}}}\n"));
    desk.apply().await.ends_with(0);
    desk.run(&["destroy", "--databases", "--confirm", &pg, "--confirm", &valkey]).await.ends_with(0);
    assert_eq!(databases(&desk).len(), 2);
}

/// Everything that is ours, by its name.
async fn destroy_all(desk: &Desk, names: &[String]) -> support::Outcome {
    let bucket = Names::of(CLUSTER).bucket();
    let mut arguments = vec!["destroy", "--databases", "--bucket", "--poll", "10ms", "--confirm", &bucket];
    names.iter().for_each(|name| arguments.extend(["--confirm", name]));
    desk.run(&arguments).await
}

#[tokio::test]
async fn half_made_things_and_things_that_are_gone_can_be_destroyed() {
    let desk = Desk::with(Fake::builder().creating_polls(u32::MAX), "").await;
    desk.run(&["apply", "--yes", "--poll", "10ms", "--timeout", "1s"]).await.ends_with(4);
    let names = databases(&desk);
    destroy_all(&desk, &names).await.ends_with(0);
    assert!(databases(&desk).is_empty() && desk.cloud.s3.snapshot().buckets.is_empty());
    destroy_all(&desk, &names).await.ends_with(0);
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0);

    // Killed in its middle, it goes on.
    desk.cloud.api.world(|world| (world.births.creating_polls, world.births.deleting_polls) = (0, 3));
    desk.apply().await.ends_with(0);
    let bucket = Names::of(CLUSTER).bucket();
    for call in [At::call("DELETE", "/v2/spaces/keys/*"), At::call("DELETE", "/v2/databases/*")] {
        let frozen = desk.cloud.api.freeze(call, Moment::AfterCommit);
        let mut arguments = vec!["destroy", "--databases", "--bucket", "--poll", "10ms", "--confirm", &bucket];
        names.iter().for_each(|name| arguments.extend(["--confirm", name]));
        let mut run = desk.start(&arguments);
        frozen.reached().await;
        run.kill().await.unwrap();
        desk.cloud.api.thaw();
    }
    destroy_all(&desk, &names).await.ends_with(0);
    assert!(desk.cloud.s3.snapshot().buckets.is_empty());
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0);
    desk.apply().await.ends_with(0);
    desk.is_finished().await;
}

#[tokio::test]
async fn who_has_lost_the_keyring_can_still_destroy() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    std::fs::remove_dir_all(desk.path("doks-harbor.keyring")).unwrap();
    let shown = desk.json(&["destroy"], 0).await;
    assert!(shown["stays"].to_string().contains("Spaces key"), "{shown}");
    assert!(!desk.path("doks-harbor.keyring").exists(), "whoever looks makes nothing");
    let names = databases(&desk);
    destroy_all(&desk, &names).await.ends_with(0);
    assert!(databases(&desk).is_empty() && desk.cloud.s3.snapshot().buckets.is_empty());
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0, "also the key that nobody has any more");
}

#[tokio::test]
async fn a_bucket_of_our_name_that_is_not_marked_as_ours_stays() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let bucket = Names::of(CLUSTER).bucket();
    desk.cloud.s3.put(&bucket, ".harbor-proxy/owner.json", br#"{"cluster":"another","keyring":"0123456789ab"}"#);
    let told = desk.run(&["destroy", "--bucket", "--confirm", &bucket]).await.ends_with(1);
    assert!(told.stderr.contains("another cluster (another)"), "{}", told.stderr);
    assert_eq!(desk.cloud.s3.snapshot().buckets.len(), 1);
}

#[tokio::test]
async fn a_secret_is_changed_new_key_first_old_key_last() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let key = || desk.read("doks-harbor.keyring/spaces-access-key");
    let old = key();
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    let new = key();
    assert_ne!(old, new);
    let known = |wanted: &str| desk.cloud.api.world(|world| world.keys.iter().any(|key| key.access_key == wanted));
    assert!(known(&old) && known(&new), "both are valid in between");
    desk.apply().await.ends_with(0);
    assert!(known(&old), "a run in between takes nothing away");
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(1);
    desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
    assert!(!known(&old) && known(&new));

    let password = || desk.read("doks-harbor.keyring/postgres-password");
    let before = password();
    desk.run(&["rotate", "pg", "--yes"]).await.ends_with(0);
    assert_ne!(password(), before);
    let told = desk.run(&["rotate", "valkey"]).await.ends_with(1);
    assert!(told.stderr.contains("control panel"), "{}", told.stderr);
    desk.run(&["plan"]).await.ends_with(0);
}
