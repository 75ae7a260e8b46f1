//! `smoke` against a Harbor that works, and against many that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use lab::harbor::{Collection, Harbor};
use serde_json::Value;

mod visitor;

use visitor::Visitor;

/// The state of each check, by name.
fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"));
    check["state"].as_str().unwrap()
}

fn told(report: &Value, name: &str) -> String {
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
    format!("{} {}", check["told"].as_str().unwrap(), check["cure"].as_str().unwrap_or_default())
}

const ALL: [&str; 11] = ["answers", "health", "login", "project", "robot", "push", "pull", "closed", "database", "queue", "log"];

#[tokio::test]
async fn a_harbor_that_works_passes_and_nothing_is_left() {
    let visitor = Visitor::new().await;
    let report = visitor.json(&["smoke"], 0).await;
    for name in ALL.iter().chain(&["clean-up"]) {
        assert_eq!(state(&report, name), "passed", "{report:#}");
    }
    assert_eq!(report["ok"], true);
    visitor.nothing_is_left();
    let text = visitor.run(&["smoke", "-q"]).await.ends_with(0);
    text.tells("works.");
    assert!(text.stderr.is_empty(), "{}", text.stderr);
}

#[tokio::test]
async fn what_fails_is_named_with_its_cure_and_cleaned_up() {
    // What is done to Harbor, which check notices it, and what it says.
    type Spoil = fn(&mut lab::harbor::World);
    let table: &[(Spoil, &str, &str)] = &[
        (|world| world.ails("redis", "dial tcp: i/o timeout"), "health", "redis (dial tcp: i/o timeout)"),
        (|world| world.closed = true, "project", "only the system administrator can create projects"),
        (|world| world.fault("POST", "/robots", 500, "internal error"), "robot", "internal error"),
        (|world| world.fault("PUT", "/manifests/", 412, "will exceed the configured upper limit"), "push", "upper limit"),
        (|world| world.fault("PUT", "/blobs/", 500, "s3aws: AccessDenied"), "push", "AccessDenied"),
        (|world| world.corrupt = true, "pull", "is not what was asked for"),
        (|world| world.open = true, "closed", "can be pulled without a login"),
        (|world| world.realm = Some("https://evil.example.com/token".to_owned()), "push", "where no login of ours goes"),
        (|world| world.location = Some("http://HOST".to_owned()), "push", "X-Forwarded-Proto"),
        (|world| world.location = Some("https://evil.example.com".to_owned()), "push", "where no login of ours goes"),
        (|world| world.fault("GET", "/artifacts", 404, "repository not found"), "database", "repository not found"),
        (|world| world.collection = Collection::Error, "queue", "Error"),
        (|world| world.collection = Collection::Stuck, "queue", "nobody has taken the job from the queue"),
        (|world| world.collection = Collection::NoLog, "log", "jobLoggers"),
    ];
    for (spoil, name, words) in table {
        let visitor = Visitor::new().await;
        visitor.harbor.world(spoil);
        let report = visitor.json(&["smoke", "--timeout", "2s"], 1).await;
        assert_eq!(state(&report, name), "failed", "{report:#}");
        assert!(told(&report, name).contains(words), "{words} is not in {report:#}");
        assert_eq!(report["ok"], false);
        visitor.nothing_is_left();
    }
}

#[tokio::test]
async fn a_harbor_that_is_busy_or_has_just_started_is_waited_for() {
    let visitor = Visitor::new().await;
    visitor.harbor.world(|world| (world.starting, world.collection, world.bucket) = (2, Collection::Busy, true));
    let report = visitor.json(&["smoke"], 0).await;
    assert!(told(&report, "queue").contains("was running already"), "{report:#}");
    assert!(visitor.harbor.world(|world| world.log.iter().any(|line| line.starts_with("GET /bucket/") && line.ends_with(" 200"))));
}

#[tokio::test]
async fn a_login_that_is_not_accepted_is_said_and_another_can_be_said() {
    let visitor = Visitor::new().await;
    visitor.harbor.world(|world| "Theirs1234".clone_into(&mut world.password));
    let report = visitor.json(&["smoke"], 1).await;
    assert!(told(&report, "login").contains("keyring"), "{report:#}");
    assert_eq!((state(&report, "health"), state(&report, "push")), ("passed", "skipped"));
    std::fs::write(visitor.path("password"), "Theirs1234\n").unwrap();
    visitor.run(&["smoke", "--user", "admin", "--password-file", "password"]).await.ends_with(0);
    visitor.nothing_is_left();
}

#[tokio::test]
async fn a_certificate_of_nobodys_is_never_accepted() {
    let visitor = Visitor::new().await;
    let other = Harbor::start().await.unwrap();
    std::fs::write(visitor.path("ca.pem"), other.ca_pem()).unwrap();
    let report = visitor.json(&["smoke"], 1).await;
    assert!(told(&report, "answers").contains("certificate"), "{report:#}");
    assert_eq!(state(&report, "login"), "skipped");
    assert!(visitor.harbor.world(|world| world.log.is_empty()), "nothing was sent");
    // Nor a name that is not in it, nor plain HTTP to elsewhere.
    visitor.bare(&["smoke", "--harbor", "http://harbor.example.com"]).output().await.unwrap();
    let told = visitor::outcome(visitor.bare(&["smoke", "--harbor", "http://harbor.example.com"]).spawn().unwrap()).await.ends_with(1);
    told.tells("https only");
}

#[tokio::test]
async fn behind_an_ingress_harbor_calls_itself_by_another_address() {
    let visitor = Visitor::at(Harbor::builder().name("harbor.example.com").plain().start().await.unwrap());
    let here = format!("http://127.0.0.1:{}", visitor.harbor.port());
    let smoke = async || {
        let child = visitor.bare(&["smoke", "-o", "json", "--harbor", &here]).spawn().unwrap();
        visitor::outcome(child).await.json()
    };
    // A realm that nobody has told us of is a stranger's.
    let report = smoke().await;
    assert!(told(&report, "push").contains("https://harbor.example.com/service/token"), "{report:#}");
    std::fs::write(visitor.path("doks-harbor.yaml"), "cluster: x\nharbor: {expose: ingress, host: harbor.example.com}\n").unwrap();
    assert_eq!(smoke().await["ok"], true);
    visitor.nothing_is_left();
}

#[tokio::test]
async fn leftovers_of_killed_runs_are_removed_when_they_are_old() {
    let visitor = Visitor::new().await;
    visitor.harbor.world(|world| {
        world.add_project("doks-harbor-smoke-old", false, "2026-01-01T00:00:00.000Z");
        world.add_project("doks-harbor-smoke-new", false, "2999-01-01T00:00:00.000Z");
        world.add_project("mine-doks-harbor-smoke-", false, "2026-01-01T00:00:00.000Z");
    });
    let report = visitor.json(&["smoke"], 0).await;
    assert!(told(&report, "leftovers").contains("doks-harbor-smoke-old"), "{report:#}");
    let left = visitor.harbor.world(|world| world.projects.iter().map(|project| project.name.clone()).collect::<Vec<_>>());
    assert_eq!(left, ["doks-harbor-smoke-new", "mine-doks-harbor-smoke-"]);
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing() {
    let visitor = Visitor::new().await;
    visitor.harbor.world(|world| world.collection = Collection::Stuck);
    let child = visitor.command(&["smoke"]).spawn().unwrap();
    let pid = child.id().unwrap();
    let is_collecting = || visitor.harbor.world(|world| !world.collections.is_empty());
    lab::until("the collection has begun", std::time::Duration::from_secs(60), is_collecting).await.unwrap();
    visitor.harbor.world(|world| assert!(!world.projects.is_empty() && !world.robots.is_empty()));
    let interrupt = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(interrupt, rustix::process::Signal::INT).unwrap();
    visitor::outcome(child).await.ends_with(130).tells("nothing is left in Harbor");
    visitor.nothing_is_left();
}

#[tokio::test]
async fn what_is_kept_is_named() {
    let visitor = Visitor::new().await;
    let report = visitor.json(&["smoke", "--keep"], 0).await;
    let image = report["kept"]["image"].as_str().unwrap();
    assert!(image.starts_with(&format!("{}/doks-harbor-smoke-", visitor.harbor.host())), "{image}");
    assert_eq!(visitor.harbor.world(|world| world.projects.len()), 1);
}

#[tokio::test]
#[ignore = "needs docker-registry and skopeo: make test-cluster"]
async fn a_real_registry_passes() {
    let visitor = Visitor::at(Harbor::builder().real().start().await.unwrap());
    let report = visitor.json(&["smoke"], 0).await;
    for name in ALL {
        assert_eq!(state(&report, name), "passed", "{report:#}");
    }
    visitor.nothing_is_left();
}
