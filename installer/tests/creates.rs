//! Creates whose answer is lost: nothing is made twice, nothing is left behind, and what was made is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "client/mod.rs"]
mod shared;

use std::time::Duration;

use doks_harbor::digitalocean::{Client, DatabaseStatus, Error, Grant, NewSpacesKey, Patience};
use lab::digitalocean::{At, Database, Fake, Fault};
use proptest::collection::vec;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;
use shared::{client, count, new_database, patience, with_postgres};

/// Ways to lose an answer, with whether the request was done.
fn losses() -> [(Fault, bool); 8] {
    [
        (Fault::Before(500), false),
        (Fault::After(500), true),
        (Fault::After(503), true),
        (Fault::CutBefore, false),
        (Fault::CutAfter, true),
        (Fault::Slow(Duration::from_secs(600)), true),
        (Fault::body("<html>"), false),
        (Fault::body(r#"{"database":{},"user":{},"db":{},"key":{}}"#), false),
    ]
}

fn impatient() -> Patience {
    Patience { answer: Duration::from_secs(4), ..patience() }
}

#[tokio::test]
async fn a_database_is_made_once() {
    let undisturbed = Fake::builder().creating_polls(9).start().unwrap();
    client(&undisturbed).create_database(&new_database("harbor-pg-1")).await.unwrap();
    for (fault, is_done) in losses() {
        let fake = Fake::builder().creating_polls(9).start().unwrap();
        fake.fault(At::call("POST", "/v2/databases"), fault.clone());
        let made = client(&fake).with_patience(impatient()).create_database(&new_database("harbor-pg-1")).await.unwrap();
        assert_eq!(made.name, "harbor-pg-1");
        assert_eq!(fake.snapshot(), undisturbed.snapshot(), "{fault:?}");
        assert_eq!(count(&fake, "POST /v2/databases"), if is_done { 1 } else { 2 }, "{fault:?}: looked up before it is tried again");
    }
}

#[tokio::test]
async fn a_database_that_is_not_listed_yet_is_not_made_twice() {
    let fake = Fake::builder().unlisted_polls(2).start().unwrap();
    fake.fault(At::call("POST", "/v2/databases"), Fault::After(500));
    client(&fake).create_database(&new_database("harbor-pg-1")).await.unwrap();
    assert_eq!(fake.snapshot()["databases"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn two_runs_at_once_get_the_same_database() {
    let fake = Fake::start().unwrap();
    let (client, new) = (client(&fake), new_database("harbor-pg-1"));
    let (one, two) = tokio::join!(client.create_database(&new), client.create_database(&new));
    assert_eq!(one.unwrap().id, two.unwrap().id);
}

#[tokio::test]
async fn a_name_that_is_still_being_destroyed_is_told_as_taken() {
    let fake = Fake::builder().deleting_polls(100).database(Database::new("harbor-pg-1", "pg", "17")).start().unwrap();
    let id = fake.world(|world| world.databases[0].id.clone());
    client(&fake).delete_database(&id).await.unwrap();
    let error = client(&fake).create_database(&new_database("harbor-pg-1")).await.unwrap_err();
    assert!(error.is_name_taken(), "{error}");
    assert_eq!(count(&fake, "POST /v2/databases"), 1);
}

#[tokio::test]
async fn a_refused_create_keeps_its_reason() {
    let fake = Fake::start().unwrap();
    let mut new = new_database("harbor_pg");
    let error = client(&fake).create_database(&new).await.unwrap_err();
    assert!(!error.is_name_taken() && error.to_string().contains("only letters"), "{error}");
    new.name = "harbor-pg".to_owned();
    new.region = "mars1".to_owned();
    let error = client(&fake).create_database(&new).await.unwrap_err();
    assert!(!error.is_name_taken() && error.to_string().contains("mars1"), "{error}");
}

#[tokio::test]
async fn a_create_that_is_always_lost_ends_and_leaves_at_most_one() {
    let fake = Fake::builder().unlisted_polls(1_000).start().unwrap();
    fake.faults(At::call("POST", "/v2/databases"), 100, Fault::After(500));
    let error = client(&fake).create_database(&new_database("harbor-pg-1")).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
    assert!(error.to_string().contains("Something went wrong. (500"), "{error}");
    assert_eq!(fake.world(|world| world.databases.len()), 1);
}

#[tokio::test]
async fn a_user_and_a_database_in_it_are_made_once() {
    for (fault, is_done) in losses() {
        let (fake, id) = with_postgres();
        let client = client(&fake).with_patience(impatient());
        let (users, dbs) = (format!("/v2/databases/{id}/users"), format!("/v2/databases/{id}/dbs"));
        fake.fault(At::call("POST", &users), fault.clone());
        let user = client.create_database_user(&id, "harbor").await.unwrap();
        let real = fake.world(|world| world.databases[0].users[1].password.clone());
        assert_eq!(user.password.unwrap().expose_secret(), real, "{fault:?}");
        fake.fault(At::call("POST", &dbs), fault.clone());
        client.create_db(&id, "registry").await.unwrap();
        let tries = if is_done { 1 } else { 2 };
        assert_eq!(count(&fake, &format!("POST {users}")), tries, "{fault:?}");
        assert_eq!(count(&fake, &format!("POST {dbs}")), tries, "{fault:?}");
        let database = &fake.snapshot()["databases"]["pg"];
        assert_eq!(database["dbs"], json!(["defaultdb", "registry"]), "{fault:?}");
        assert_eq!(database["users"].as_array().unwrap().len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_user_that_exists_is_given_back_and_a_database_that_exists_is_done() {
    let (fake, id) = with_postgres();
    let client = client(&fake);
    let one = client.create_database_user(&id, "harbor").await.unwrap();
    let two = client.create_database_user(&id, "harbor").await.unwrap();
    assert_eq!(one.password.unwrap().expose_secret(), two.password.unwrap().expose_secret());
    client.create_db(&id, "registry").await.unwrap();
    client.create_db(&id, "registry").await.unwrap();
}

#[tokio::test]
async fn a_reset_password_is_the_one_that_counts_whatever_was_lost() {
    for (fault, _) in losses().into_iter().filter(|(fault, _)| !matches!(fault, Fault::Answer { .. })) {
        let (fake, id) = with_postgres();
        let before = fake.world(|world| world.databases[0].users[0].password.clone());
        fake.fault(At::call("POST", "/v2/databases/*/users/*/reset_auth"), fault.clone());
        let user = client(&fake).with_patience(impatient()).reset_database_user(&id, "doadmin").await.unwrap();
        let after = fake.world(|world| world.databases[0].users[0].password.clone());
        assert_ne!(before, after);
        assert_eq!(user.password.unwrap().expose_secret(), after, "{fault:?}");
    }
}

#[tokio::test]
async fn a_key_whose_secret_was_lost_is_deleted_and_made_anew() {
    let new = NewSpacesKey { name: "harbor-1".to_owned(), grants: vec![Grant::on("harbor-1")] };
    for (fault, is_done) in losses() {
        let fake = Fake::start().unwrap();
        let client = client(&fake).with_patience(impatient());
        // One of the same name that was there before stays.
        let older = client.create_spaces_key(&new).await.unwrap();
        fake.fault(At::call("POST", "/v2/spaces/keys"), fault.clone());
        let key = client.create_spaces_key(&new).await.unwrap();
        let left = fake.world(|world| world.keys.iter().map(|key| (key.access_key.clone(), key.secret_key.clone())).collect::<Vec<_>>());
        let told = |key: &doks_harbor::digitalocean::SpacesKey| {
            (key.access_key.clone(), key.secret_key.as_ref().unwrap().expose_secret().to_owned())
        };
        assert_eq!(left, [told(&key), told(&older)], "{fault:?}");
        let deleted = fake.calls().iter().filter(|call| call.starts_with("DELETE ")).count();
        assert_eq!(deleted, usize::from(is_done), "{fault:?}");
    }
}

#[tokio::test]
async fn keys_that_are_always_lost_end_with_an_error_and_leave_nothing() {
    let fake = Fake::start().unwrap();
    fake.faults(At::call("POST", "/v2/spaces/keys"), 100, Fault::CutAfter);
    let new = NewSpacesKey { name: "harbor-temporary-1".to_owned(), grants: vec![Grant::full()] };
    let error = client(&fake).create_spaces_key(&new).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(fake.world(|world| world.keys.len()), 0);
    assert_eq!(count(&fake, "POST /v2/spaces/keys"), 3);
}

/// What goes wrong with some of the first requests.
fn troubles() -> impl Strategy<Value = Vec<(usize, Fault)>> {
    let fault = prop_oneof![
        Just(Fault::Before(500)),
        Just(Fault::Before(503)),
        Just(Fault::After(500)),
        Just(Fault::After(502)),
        Just(Fault::Burst(0)),
        Just(Fault::Hour(0)),
        Just(Fault::CutBefore),
        Just(Fault::CutAfter),
        Just(Fault::body("<html>")),
    ];
    vec((1..40_usize, fault), 0..14)
}

/// Everything that has to be made, as somebody does who tries again after each error.
async fn make_all(client: &Client) {
    let database = loop {
        if let Ok(made) = client.create_database(&new_database("harbor-pg-1")).await {
            break made;
        }
    };
    while client.database(&database.id).await.ok().flatten().is_none_or(|seen| seen.status != DatabaseStatus::Online) {}
    while client.create_database_user(&database.id, "harbor").await.is_err() {}
    while client.create_db(&database.id, "registry").await.is_err() {}
    let new = NewSpacesKey { name: "harbor-1".to_owned(), grants: vec![Grant::on("harbor-1")] };
    while client.create_spaces_key(&new).await.is_err() {
        // As every run begins: a key whose secret nobody has is worth nothing.
        for key in client.spaces_keys(&new.name).await.unwrap_or_default() {
            let _ = client.delete_spaces_key(&key.access_key).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_goes_wrong_the_end_is_the_same(troubles in troubles()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let make = |troubles: &[(usize, Fault)]| {
            let fake = Fake::builder().hidden_polls(1).unlisted_polls(1).creating_polls(1).start().unwrap();
            for (number, fault) in troubles {
                fake.fault(At::Request(*number), fault.clone());
            }
            runtime.block_on(make_all(&client(&fake)));
            fake.snapshot()
        };
        prop_assert_eq!(make(&troubles), make(&[]));
    }
}
