//! What would go wrong is found before anything is made, and told with its cure.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use lab::digitalocean::{At, Builder, Cluster, Database, Fake, Fault, Pool, VPC};
use support::Desk;

/// Refused, in these words, and nothing was written.
async fn refused(account: Builder, spec: &str, words: &[&str]) {
    let desk = Desk::with(account, spec).await;
    let report = desk.json(&["preflight"], 3).await;
    assert!(report["checks"].as_array().unwrap().iter().any(|check| check["status"] == "bad" && check["cure"].is_string()), "{report}");
    let told = desk.run(&["preflight"]).await.ends_with(3).stdout;
    for words in words {
        assert!(told.contains(words), "{words}: {told}");
    }
    desk.apply().await.ends_with(3);
    assert_eq!(desk.cloud.api.mutations(), 0);
}

/// Told, in these words, and no reason to stop.
async fn warned(account: Builder, spec: &str, words: &[&str]) {
    let desk = Desk::with(account, spec).await;
    let told = desk.run(&["preflight"]).await.ends_with(0).stdout;
    for words in words {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn each_scope_that_lacks_is_named() {
    for scope in ["account:read", "kubernetes:read", "database:read", "spaces_key:read"] {
        refused(Fake::builder().lacks(scope), "", &[scope]).await;
    }
    refused(Fake::builder().lacks("project:read"), "project: registry\n", &["project:read"]).await;
    // Who needs no project needs no scope for it, and who has a key needs none for keys.
    warned(
        Fake::builder().lacks("project:read").lacks("spaces_key:read"),
        "spaces: {keys: {access_key_file: a, secret_key_file: b}}\n",
        &[],
    )
    .await;
    let seen = Fake::builder().lacks("database:view_credentials").database(Database::new("other", "pg", "16"));
    refused(seen, "", &["database:view_credentials"]).await;
    // Several at once are told at once.
    refused(Fake::builder().lacks("kubernetes:read").lacks("spaces_key:read"), "", &["kubernetes:read", "spaces_key:read"]).await;
}

#[tokio::test]
async fn a_scope_that_only_a_change_shows_is_named_by_that_change() {
    for scope in ["database:create", "database:update", "spaces_key:create_credentials", "database:view_credentials", "spaces_key:delete"] {
        let desk = Desk::with(Fake::builder().lacks(scope), "valkey: {maintenance: {day: monday, hour: '04:00'}}\n").await;
        let told = desk.apply().await.ends_with(1);
        assert!(told.stderr.contains(scope), "{scope}: {}", told.stderr);
        desk.cloud.api.world(|world| world.lacks.clear());
        desk.apply().await.ends_with(0);
        desk.is_finished().await;
        let keys = desk.cloud.api.world(|world| world.keys.len());
        assert_eq!(keys, 1, "{scope}");
    }
}

#[tokio::test]
async fn an_account_that_cannot_is_said_to() {
    refused(Fake::builder().world(|world| world.account_status = "locked".to_owned()), "", &["is locked", "control panel"]).await;

    let desk = Desk::new().await;
    for arguments in [&["preflight"][..], &["plan"], &["apply", "--yes"]] {
        let mut command = desk.command(arguments);
        let told = support::outcome(command.env("DIGITALOCEAN_TOKEN", "dop_v1_wrong").spawn().unwrap()).await;
        let text = format!("{}{}", told.stdout, told.stderr);
        assert!(matches!(told.code, Some(1 | 3)) && !text.contains("dop_v1_wrong"), "{text}");
        assert!(text.contains("is not valid") || text.contains("Unable to authenticate"), "{text}");
    }
    let many = (0..9).fold(Fake::builder(), |account, n| account.database(Database::new(&format!("db-{n}"), "pg", "16")));
    warned(many, "", &["9 database clusters, and 2 are to be made", "ask its support"]).await;
}

#[tokio::test]
async fn a_cluster_that_does_not_suit_is_told() {
    let other = |name: &str| Cluster::new("00000000-0000-4000-8000-00000000000a", name, "nyc3", VPC);
    let both = ["2 DOKS clusters named \"production\"", "00000000-0000-4000-8000-00000000000a"];
    refused(Fake::builder().cluster(other("production")), "", &both).await;
    refused(Fake::builder().world(|world| world.clusters.clear()), "", &["no DOKS cluster \"production\"", "right token and team"]).await;
    refused(Fake::builder().world(|world| world.clusters[0].state = "provisioning".to_owned()), "", &["provisioning", "wait"]).await;
    warned(Fake::builder().world(|world| world.clusters[0].state = "degraded".to_owned()), "", &["degraded"]).await;
    let large = Pool { name: "large".to_owned(), count: 5, auto_scale: Some((1, 60)) };
    let many = Fake::builder().world(|world| world.clusters[0].pools = vec![large]);
    refused(many, "", &["can have 60 nodes", "a database trusts 100 addresses", "0 for each of 60 nodes", "larger plan"]).await;
    refused(Fake::builder(), "proxy: {node_pools: [registry]}\n", &["no node pool \"registry\"", "can name workers"]).await;
    let closed = Fake::builder().world(|world| world.clusters[0].allowed_addresses = Some(vec!["192.0.2.1".to_owned()]));
    warned(closed, "", &["admits only 192.0.2.1"]).await;
}

#[tokio::test]
async fn what_is_not_offered_is_told_with_what_is() {
    let spec = "postgres: {version: '9', size: db-none}\nvalkey: {nodes: 2, size: db-s-9}\n";
    let words = ["version 9 is not offered", "14, 15, 16, 17", "no db-none with 1 nodes", "no db-s-9 with 2 nodes", "db-s-1vcpu-2gb"];
    refused(Fake::builder(), spec, &words).await;
    let desk = Desk::with(Fake::builder(), spec).await;
    let plan = desk.run(&["plan"]).await.ends_with(1);
    assert!(words.iter().all(|words| plan.stdout.contains(words)), "a plan says the same: {}", plan.stdout);
}

#[tokio::test]
async fn an_api_that_is_down_is_told_once() {
    let desk = Desk::new().await;
    let down = format!("http://127.0.0.1:{}", lab::free_port().unwrap());
    let command = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_doks-harbor"));
        command.args(arguments).args(["--api-url", &down]).current_dir(desk.folder.path()).env_clear();
        command.env("DIGITALOCEAN_TOKEN", "dop_v1_x").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let (preflight, plan) = (command(&["preflight"]), command(&["plan", "-o", "json"]));
    let (preflight, plan) = tokio::join!(support::outcome(preflight), support::outcome(plan));
    let (preflight, plan) = (preflight.ends_with(3), plan.ends_with(1));
    assert_eq!(preflight.stdout.matches("DigitalOcean does not answer").count(), 1, "{}", preflight.stdout);
    assert!(preflight.stdout.contains("--api-url"), "{}", preflight.stdout);
    assert!(plan.json()["error"].as_str().unwrap().contains("/v2/"), "{}", plan.stdout);
    desk.cloud.api.faults(At::call("GET", "/v2/account"), 3, Fault::Before(503));
    desk.run(&["plan"]).await.ends_with(2);
}
