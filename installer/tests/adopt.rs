//! What the user has already: used as it is, never resized, marked, moved or deleted; and said plainly where it cannot be used.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use lab::digitalocean::{Builder, CLUSTER, Cluster, Database, Fake, Phase, Rule, VPC};
use lab::s3::{Bucket, Grant};
use support::Desk;

const ADOPT: &str = "postgres: {adopt: my-pg}\nvalkey: {adopt: my-cache}\n";

fn mine(name: &str, engine: &str, version: &str) -> Database {
    let mut database = Database::new(name, engine, version);
    (database.size, database.num_nodes) = ("db-s-4vcpu-8gb".to_owned(), 2);
    database.maintenance = ("friday".to_owned(), "11:00:00".to_owned());
    database.rules = vec![Rule::new("ip_addr", "192.0.2.7", Some("office")), Rule::new("droplet", "123", None)];
    database
}

fn account(cache: &str) -> Builder {
    Fake::builder().database(mine("my-pg", "pg", "16")).database(mine("my-cache", cache, "7"))
}

fn database(desk: &Desk, name: &str) -> Database {
    desk.cloud.api.world(|world| world.databases.iter().find(|database| database.name == name).unwrap().clone())
}

#[tokio::test]
async fn databases_are_used_as_they_are() {
    for cache in ["valkey", "redis"] {
        let desk = Desk::with(account(cache), ADOPT).await;
        let before = [database(&desk, "my-pg"), database(&desk, "my-cache")];
        let plan = desk.run(&["plan"]).await.ends_with(2);
        assert!(
            plan.stdout.contains("2 firewall rules of others stay") && !plan.stdout.contains("more each month, and"),
            "{}",
            plan.stdout
        );
        desk.apply().await.ends_with(0);
        for before in before {
            let after = database(&desk, &before.name);
            assert_eq!((&after.size, after.num_nodes, &after.version), (&before.size, before.num_nodes, &before.version));
            assert_eq!((&after.tags, &after.maintenance), (&Vec::new(), &before.maintenance));
            assert_eq!(after.rules[..2], before.rules, "with uuid and description");
            assert_eq!((after.rules.len(), after.rules[2].value.as_str()), (3, CLUSTER));
        }
        let pg = database(&desk, "my-pg");
        assert!(pg.users.iter().any(|user| user.name == "harbor") && pg.dbs.contains(&"registry".to_owned()));
        assert_eq!(database(&desk, "my-cache").eviction_policy, "noeviction");
        assert_eq!(desk.cloud.api.world(|world| world.databases.len()), 2);
        desk.is_finished().await;
        let facts = desk.read("doks-harbor.out/facts.json");
        assert!(facts.contains(&format!("\"engine\": \"{cache}\"")) && facts.contains("BEGIN CERTIFICATE"), "{facts}");

        let shown = desk.json(&["destroy", "--databases", "--confirm", "my-pg", "--confirm", "my-cache"], 0).await;
        assert!(shown["dies"].as_array().unwrap().is_empty(), "{shown}");
        assert_eq!(desk.cloud.api.world(|world| world.databases.len()), 2);
    }
}

#[tokio::test]
async fn an_open_one_is_closed_and_the_plan_says_so() {
    let open = |database: &mut Database| database.rules.clear();
    let desk = Desk::with(account("valkey").world(move |world| world.databases.iter_mut().for_each(open)), ADOPT).await;
    let plan = desk.run(&["plan"]).await.ends_with(2);
    assert!(plan.stdout.contains("open to everybody now; will be open to this cluster only"), "{}", plan.stdout);
    desk.apply().await.ends_with(0);
    assert_eq!(database(&desk, "my-pg").rules.len(), 1);
}

/// Somebody who writes the firewall between our looks loses nothing: rules are read again right before they are written.
#[tokio::test]
async fn a_rule_that_was_written_after_the_plan_stays() {
    let desk = Desk::with(account("valkey"), ADOPT).await;
    let frozen =
        desk.cloud.api.freeze(lab::digitalocean::At::call("POST", "/v2/databases/*/users"), lab::digitalocean::Moment::AfterCommit);
    let run = desk.start(support::APPLY);
    frozen.reached().await;
    desk.cloud
        .api
        .world(|world| world.databases.iter_mut().for_each(|database| database.rules.push(Rule::new("tag", "late", Some("theirs")))));
    desk.cloud.api.thaw();
    support::outcome(run).await.ends_with(0);
    assert!(database(&desk, "my-pg").rules.iter().any(|rule| rule.description.as_deref() == Some("theirs")));
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_cure_and_nothing_is_written() {
    type Change = fn(&mut Database);
    let cases: [(&str, &str, Change, &[&str]); 8] = [
        ("another kind", ADOPT, |it| it.engine = "mysql".to_owned(), &["my-pg is no PostgreSQL but other", "adopt another"]),
        ("another region", ADOPT, |it| it.region = "fra1".to_owned(), &["is in fra1, the cluster in nyc3", "adopt another"]),
        ("another network", ADOPT, |it| it.vpc = lab_uuid(), &["in another VPC", "doctl databases migrate"]),
        ("no such name", "postgres: {adopt: my-pq}\n", |_| {}, &["no cluster \"my-pq\" to adopt", "there is my-pg"]),
        ("no such kind", "valkey: {adopt: my-pg}\n", |_| {}, &["my-pg is no Valkey but pg"]),
        ("ours by name alone", "", |it| it.name = "harbor-pg-80868e33".to_owned(), &["not marked as this cluster's", "adopt: harbor-pg-"]),
        (
            "our name, another kind",
            "",
            |it| (it.name, it.engine) = ("harbor-pg-80868e33".to_owned(), "redis".to_owned()),
            &["is no PostgreSQL but redis", "remove it"],
        ),
        ("another Harbor's", ADOPT, |it| it.tags = vec!["harbor-proxy:other".to_owned()], &["Harbor of another DOKS cluster, other"]),
    ];
    for (what, spec, change, words) in cases {
        let desk = Desk::with(account("valkey"), spec).await;
        let ours = doks_harbor::names::Names::of(CLUSTER).postgres();
        desk.cloud.api.world(|world| {
            let pg = world.databases.iter_mut().find(|database| database.engine == "pg").unwrap();
            change(pg);
            if pg.name.starts_with("harbor-pg-") {
                pg.name = ours;
            }
        });
        let plan = desk.run(&["plan"]).await.ends_with(1);
        let preflight = desk.run(&["preflight"]).await.ends_with(3);
        for words in words {
            assert!(plan.stdout.contains(words), "{what}: {words}: {}", plan.stdout);
            assert!(preflight.stdout.contains(words), "{what}: {words}: {}", preflight.stdout);
        }
        desk.apply().await.ends_with(3);
        assert!(desk.json(&["apply", "--yes"], 3).await["checks"].is_array());
        assert!(!desk.json(&["plan"], 1).await["refusals"].as_array().unwrap().is_empty());
        assert_eq!(desk.cloud.api.mutations(), 0, "{what}");
    }
}

fn lab_uuid() -> String {
    "00000000-0000-4000-8000-000000000000".to_owned()
}

#[tokio::test]
async fn a_version_that_ends_is_said() {
    let old = |database: &mut Database| database.end_of_life = Some("2024-11-12T00:00:00Z".to_owned());
    let desk = Desk::with(account("redis").world(move |world| world.databases.iter_mut().for_each(old)), ADOPT).await;
    let told = desk.run(&["preflight"]).await.ends_with(0);
    assert!(told.stdout.contains("has had no fixes for") && told.stdout.contains("update-major-version"), "{}", told.stdout);
    assert!(desk.run(&["plan"]).await.ends_with(2).stdout.contains("2024-11-12"));
}

#[tokio::test]
async fn a_name_that_is_still_dying_is_explained() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    desk.cloud.api.world(|world| world.databases[0].phase = Phase::Deleting(1_000));
    let told = desk.run(&["apply", "--yes", "--poll", "10ms", "--timeout", "1s"]).await.ends_with(4);
    assert!(told.stderr.contains("being destroyed") && told.stderr.contains("same command again"), "{}", told.stderr);
    desk.cloud.api.world(|world| world.databases[0].phase = Phase::Deleting(7));
    desk.apply().await.ends_with(0);
    desk.is_finished().await;
}

fn objects(desk: &Desk, bucket: &str) -> Bucket {
    desk.cloud.s3.snapshot().buckets.remove(bucket).unwrap()
}

/// Made with a key of the account's own, as in the control panel.
async fn make_bucket(desk: &Desk, owner: &str, name: &str) {
    let (access, secret) = (format!("KEY{owner}"), "s".repeat(43));
    desk.cloud.s3.add_key_of(owner, &access, &secret, Grant::Full);
    let keys = doks_harbor::spaces::Keys { access_key: access.clone(), secret_key: secret.into() };
    let spaces = doks_harbor::spaces::Spaces::new(&desk.cloud.s3.endpoint(), keys, doks_harbor::http::client().unwrap()).unwrap();
    spaces.create(name, tokio::time::Instant::now() + std::time::Duration::from_secs(60)).await.unwrap();
    desk.cloud.s3.remove_key(&access);
}

#[tokio::test]
async fn a_bucket_is_used_as_it_is() {
    let desk = Desk::with(Fake::builder(), "spaces: {adopt: my-images}\n").await;
    let told = desk.apply().await.ends_with(1);
    assert!(told.stderr.contains("no bucket my-images to adopt"), "{}", told.stderr);
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0, "no key is left");

    make_bucket(&desk, lab::s3::OWNER, "my-images").await;
    desk.cloud.s3.put("my-images", "theirs", b"1");
    desk.apply().await.ends_with(0);
    assert!(objects(&desk, "my-images").objects.contains_key("theirs"));
    assert_eq!(desk.cloud.s3.snapshot().buckets.len(), 1);
    desk.is_finished().await;
    desk.run(&["destroy", "--bucket", "--confirm", "my-images"]).await.ends_with(1);
    assert!(objects(&desk, "my-images").objects.contains_key("theirs"));
}

#[tokio::test]
async fn a_bucket_of_others_is_refused() {
    let desk = Desk::with(Fake::builder(), "spaces: {adopt: my-images}\n").await;
    make_bucket(&desk, "somebody", "my-images").await;
    let told = desk.apply().await.ends_with(1);
    assert!(told.stderr.contains("belongs to another account"), "{}", told.stderr);

    // Our own, and another cluster's Harbor is in it.
    let desk = Desk::with(Fake::builder(), "spaces: {adopt: my-images}\n").await;
    make_bucket(&desk, lab::s3::OWNER, "my-images").await;
    desk.cloud.s3.put("my-images", ".harbor-proxy/owner.json", br#"{"cluster":"another","keyring":"0123456789ab"}"#);
    let told = desk.apply().await.ends_with(1);
    assert!(told.stderr.contains("the Harbor of another cluster (another)"), "{}", told.stderr);
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 0, "no key is left");

    // The name that would be ours is somebody's.
    let desk = Desk::new().await;
    make_bucket(&desk, "somebody", &doks_harbor::names::Names::of(CLUSTER).bucket()).await;
    let told = desk.apply().await.ends_with(1);
    assert!(told.stderr.contains("is taken") && told.stderr.contains("spaces.adopt"), "{}", told.stderr);
}

#[tokio::test]
async fn a_region_without_spaces_needs_a_word() {
    let there = Cluster::new("00000000-0000-4000-8000-00000000000a", "elsewhere", "nyc1", "00000000-0000-4000-8000-00000000000b");
    let desk = Desk::with(Fake::builder().cluster(there), "").await;
    std::fs::write(desk.path("doks-harbor.yaml"), "cluster: elsewhere\n").unwrap();
    let told = desk.run(&["plan"]).await.ends_with(1);
    assert!(told.stdout.contains("write spaces.region; nyc3 is the nearest"), "{}", told.stdout);
    let told = desk.run(&["preflight"]).await.ends_with(3);
    assert!(told.stdout.contains("spaces.region: nyc3"), "{}", told.stdout);
    std::fs::write(desk.path("doks-harbor.yaml"), "cluster: elsewhere\nspaces: {region: nyc3}\n").unwrap();
    desk.apply().await.ends_with(0);
    desk.is_finished().await;
    assert!(desk.cloud.api.world(|world| world.databases.iter().all(|database| database.vpc != VPC && database.region == "nyc1")));
}

const OWN: &str = "spaces: {keys: {access_key_file: own/access, secret_key_file: own/secret}}\n";

fn own_key(desk: &Desk, access: &str) {
    let secret = access.repeat(4);
    desk.cloud.s3.add_key(access, &secret, Grant::Full);
    std::fs::create_dir_all(desk.path("own")).unwrap();
    std::fs::write(desk.path("own/access"), format!("{access}\n")).unwrap();
    std::fs::write(desk.path("own/secret"), format!("{secret}\n")).unwrap();
}

#[tokio::test]
async fn a_key_of_ones_own_needs_no_scope_for_keys() {
    let lacking =
        ["read", "create_credentials", "delete"].into_iter().fold(Fake::builder(), |it, word| it.lacks(&format!("spaces_key:{word}")));
    let desk = Desk::with(lacking, OWN).await;
    let told = desk.apply().await.ends_with(1);
    assert!(told.stderr.contains("own/access (of spaces.keys) cannot be read"), "{}", told.stderr);
    own_key(&desk, "FIRST");
    desk.apply().await.ends_with(0);
    assert_eq!(desk.read("doks-harbor.keyring/spaces-access-key"), "FIRST");
    desk.is_finished().await;
    assert_eq!(desk.cloud.api.calls().iter().filter(|call| call.starts_with("POST /v2/spaces")).count(), 0);

    // Another key in the files is taken over.
    own_key(&desk, "SECOND");
    desk.run(&["plan"]).await.ends_with(2);
    desk.apply().await.ends_with(0);
    assert_eq!(desk.read("doks-harbor.keyring/spaces-access-key"), "SECOND");
    desk.is_finished().await;

    let bucket = doks_harbor::names::Names::of(CLUSTER).bucket();
    desk.run(&["destroy", "--bucket", "--confirm", &bucket]).await.ends_with(0);
    assert!(desk.cloud.s3.snapshot().buckets.is_empty());
}

#[tokio::test]
async fn a_key_of_ours_gives_way_to_ones_own_and_dies_last() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let ours = desk.read("doks-harbor.keyring/spaces-access-key");
    own_key(&desk, "FIRST");
    desk.spec(OWN);
    desk.apply().await.ends_with(0);
    assert_eq!(desk.read("doks-harbor.keyring/spaces-access-key"), "FIRST");
    let known = || desk.cloud.api.world(|world| world.keys.iter().any(|key| key.access_key == ours));
    assert!(known(), "Harbor still uses it");
    desk.is_finished().await;
    desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
    assert!(!known());
    desk.is_finished().await;
}
