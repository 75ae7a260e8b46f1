//! What goes wrong in a cluster, against a real API server: others at work, runs that die, pods that cannot start, keyrings that are lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use std::time::Duration;

use lab::digitalocean::{At, Fake, Moment, Pool};
use serde_json::{Value, json};
use support::town::{APPLY, Town};

/// `apply` that gives up soon.
const IMPATIENT: &[&str] = &["apply", "--yes", "--poll", "10ms", "--until", "proxy", "--rollout", "3s"];

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_pod_that_cannot_start_is_told_with_the_real_reason() {
    // The one-shot Job comes first and says it, too.
    let town = Town::with("pull", Fake::builder(), "proxy: {image: 'unpullable:1'}\n").await;
    let told = town.desk.run(IMPATIENT).await.ends_with(1);
    assert!(told.stderr.contains("the Job doks-harbor-database-") && told.stderr.contains("ImagePullBackOff"), "{}", told.stderr);
    assert_eq!(town.object("secret", "doks-harbor-database"), Value::Null);
    town.spec("proxy: {image: 'proxy:1'}\n");
    town.apply().await.ends_with(0);

    town.spec("proxy: {image: 'unpullable:1'}\n");
    let told = town.desk.run(IMPATIENT).await.ends_with(1);
    assert!(
        told.stderr.contains("Back-off pulling image \"unpullable:1\": not found") && told.stderr.contains("workers-"),
        "{}",
        told.stderr
    );
    town.spec("proxy: {image: 'crashing:1'}\n");
    let told = town.desk.run(IMPATIENT).await.ends_with(1);
    assert!(told.stderr.contains("exit code 64: configuration: listeners: none"), "{}", told.stderr);
    // What was ready stays so, and the next good image is rolled out.
    town.spec("proxy: {image: 'proxy:2'}\n");
    town.apply().await.ends_with(0);
    town.spec("proxy: {image: 'proxy:2', node_pools: [workers]}\n");
    town.apply().await.ends_with(0);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_job_that_fails_is_shown_removed_and_tried_again() {
    let town = Town::with("job", Fake::builder(), "proxy: {image: 'failing:1'}\n").await;
    let told = town.apply().await.ends_with(1);
    assert!(told.stderr.contains("PostgreSQL refuses the password of doadmin"), "{}", told.stderr);
    assert_eq!(town.object("secret", "doks-harbor-database"), Value::Null);
    let plan = town.plan().await.ends_with(2);
    assert!(plan.stdout.contains("the last one failed: exit code 1: PostgreSQL refuses"), "{}", plan.stdout);
    town.spec("proxy: {image: 'proxy:1'}\n");
    town.apply().await.ends_with(0);
    let plan = town.plan().await.ends_with(0);
    assert!(!plan.stdout.contains("Job"), "{}", plan.stdout);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn no_node_and_no_admission_are_told() {
    let town = Town::new("nowhere").await;
    town.apply().await.ends_with(0);
    // A pool that DigitalOcean knows and that has no node yet.
    town.desk.cloud.api.world(|world| world.clusters[0].pools.push(Pool { name: "empty".to_owned(), count: 1, auto_scale: None }));
    town.spec("proxy: {image: 'proxy:1', node_pools: [empty]}\n");
    let told = town.desk.run(IMPATIENT).await.ends_with(1);
    assert!(
        told.stderr.contains("no node of the cluster takes the DaemonSet") && told.stderr.contains("proxy.node_pools"),
        "{}",
        told.stderr
    );
    town.spec("proxy: {image: 'proxy:1'}\n");
    town.apply().await.ends_with(0);
    // Nobody's namespace admits what it forbids.
    town.kubernetes.kubectl(&["label", "namespace", "nowhere", "pod-security.kubernetes.io/enforce=restricted"], "").unwrap();
    town.apply().await.ends_with(0);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "nowhere"}, "spec": {"hard": {"pods": "0"}}});
    town.kubernetes.kubectl(&["apply", "--server-side", "--filename=-"], &quota.to_string()).unwrap();
    town.kubectl(&["delete", "pods", "--all", "--wait=true"]);
    let told = town.desk.run(IMPATIENT).await.ends_with(1);
    assert!(told.stderr.contains("exceeded quota"), "{}", told.stderr);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn when_only_time_is_missing_the_exit_code_says_so() {
    let town = Town::new("slow").await;
    town.apply().await.ends_with(0);
    let theirs = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "redis-tls-proxy", "namespace": "slow"},
        "spec": {"minReadySeconds": 3600}});
    // A field that is not ours: no conflict, and it stays.
    town.kubernetes.kubectl(&["apply", "--server-side", "--field-manager=somebody", "--filename=-"], &theirs.to_string()).unwrap();
    town.spec("proxy: {image: 'proxy:2'}\n");
    let late = town.desk.json(IMPATIENT, 4).await;
    assert!(late["error"].as_str().unwrap().contains("run again"), "{late}");
    assert_eq!(town.object("daemonset", "redis-tls-proxy")["spec"]["minReadySeconds"], 3600);
    assert_eq!(town.object("lease", "doks-harbor"), Value::Null, "also after a failure the Lease is given back");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn what_a_hand_has_changed_is_shown_and_mended_and_what_another_applies_is_not() {
    let town = Town::new("drift").await;
    town.apply().await.ends_with(0);
    let seconds = || town.object("daemonset", "redis-tls-proxy")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone();
    let good = seconds();
    let path = r#"{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":7}}}}"#;
    town.kubectl(&["patch", "daemonset", "redis-tls-proxy", "--type=merge", "--patch", path]);
    town.kubectl(&["delete", "service", "redis-proxy"]);
    let plan = town.plan().await.ends_with(2);
    for words in [&format!("terminationGracePeriodSeconds: 7 → {good}"), "was changed by kubectl-patch", "+ Service redis-proxy"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    assert_eq!(seconds(), 7, "a plan changes nothing");
    town.apply().await.ends_with(0);
    assert_eq!(seconds(), good);
    town.plan().await.ends_with(0);

    let theirs = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "redis-tls-proxy", "namespace": "drift"},
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 99}}}});
    let apply = ["apply", "--server-side", "--field-manager=argocd", "--force-conflicts", "--filename=-"];
    town.kubernetes.kubectl(&apply, &theirs.to_string()).unwrap();
    let writes = town.writes().len();
    let told = town.plan().await.ends_with(1);
    for words in ["DaemonSet redis-tls-proxy: spec.template.spec.terminationGracePeriodSeconds belongs to \"argocd\"", "--force-conflicts"]
    {
        assert!(told.stdout.contains(words), "{words}: {}", told.stdout);
    }
    town.apply().await.ends_with(1);
    assert_eq!(seconds(), 99, "nothing of others is overridden");
    assert_eq!(town.writes().len(), writes, "and nothing else is done");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn of_two_at_once_the_second_is_told_who_is_at_work() {
    let town = Town::new("two").await;
    let frozen = town.desk.cloud.api.freeze(At::call("POST", "/v2/databases"), Moment::BeforeCommit);
    let first = town.desk.start(APPLY);
    frozen.reached().await;
    let second = town.desk.run(&[APPLY, &["--keyring", "elsewhere"]].concat()).await.ends_with(1);
    assert!(second.stderr.contains("another doks-harbor is at work") && second.stderr.contains("since 20"), "{}", second.stderr);
    town.desk.cloud.api.thaw();
    support::outcome(first).await.ends_with(0);

    // Somebody else's whose run has died: it is silent, and taken over.
    let lease = |renewed: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "doks-harbor", "namespace": "two"},
            "spec": {"holderIdentity": "a-laptop", "leaseDurationSeconds": 30, "acquireTime": renewed, "renewTime": renewed}})
        .to_string()
    };
    town.spec("proxy: {image: 'proxy:2'}\n");
    let put = ["apply", "--server-side", "--field-manager=lab", "--force-conflicts", "--filename=-"];
    town.kubernetes.kubectl(&put, &lease("2036-01-01T00:00:00.000000Z")).unwrap();
    let told = town.apply().await.ends_with(1);
    assert!(told.stderr.contains("a-laptop, since 2036-01-01"), "{}", told.stderr);
    town.kubernetes.kubectl(&put, &lease("2026-01-01T00:00:00.000000Z")).unwrap();
    town.apply().await.ends_with(0);
    assert_eq!(town.object("lease", "doks-harbor"), Value::Null);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_run_that_is_stopped_gives_the_lease_back_and_one_that_loses_it_stops() {
    let town = Town::new("stopped").await;
    let begun = async || {
        let frozen = town.desk.cloud.api.freeze(At::call("POST", "/v2/databases"), Moment::BeforeCommit);
        let run = town.desk.start(APPLY);
        frozen.reached().await;
        assert_ne!(town.object("lease", "doks-harbor"), Value::Null);
        run
    };
    let run = begun().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    support::outcome(run).await.ends_with(130);
    assert_eq!(town.object("lease", "doks-harbor"), Value::Null);
    town.desk.cloud.api.thaw();

    let run = begun().await;
    town.kubectl(&["patch", "lease", "doks-harbor", "--type=merge", "--patch", r#"{"spec":{"holderIdentity":"another"}}"#]);
    let told = support::outcome(run).await.ends_with(1);
    assert!(told.stderr.contains("has taken the Lease doks-harbor over"), "{}", told.stderr);
    assert_eq!(town.object("lease", "doks-harbor")["spec"]["holderIdentity"], "another", "what is not ours is not given back");
    town.desk.cloud.api.thaw();
    town.kubectl(&["delete", "lease", "doks-harbor"]);
    town.apply().await.ends_with(0);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_lease_that_has_moved_on_under_the_same_holder_is_not_lost() {
    let town = Town::new("renewal").await;
    let frozen = town.desk.cloud.api.freeze(At::call("POST", "/v2/databases"), Moment::BeforeCommit);
    let run = town.desk.start(APPLY);
    frozen.reached().await;
    // As after a renewal whose answer was lost: another version than the one that is known.
    town.kubectl(&["annotate", "lease", "doks-harbor", "moved=on"]);
    let renewed = || town.object("lease", "doks-harbor")["metadata"]["annotations"]["moved"].is_null();
    lab::until("it is renewed", Duration::from_secs(60), renewed).await.unwrap();
    town.desk.cloud.api.thaw();
    support::outcome(run).await.ends_with(0);
    assert_eq!(town.object("lease", "doks-harbor"), Value::Null);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_plan_that_is_stopped_leaves_no_secret_behind() {
    let town = Town::new("looks").await;
    town.apply().await.ends_with(0);
    let temporary = town.desk.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    for command in [&["plan", "--until", "proxy"] as &[&str], &["doctor"], APPLY] {
        let frozen = town.desk.cloud.api.freeze(At::call("GET", "/v2/databases/*/firewall"), Moment::BeforeCommit);
        let run = town.desk.command(command).env("TMPDIR", &temporary).spawn().unwrap();
        frozen.reached().await;
        let held = std::fs::read_dir(&temporary).unwrap().count();
        assert!(command == APPLY || held > 0, "a copy of the keyring");
        let pid = rustix::process::Pid::from_raw(i32::try_from(run.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        support::outcome(run).await.ends_with(130);
        town.desk.cloud.api.thaw();
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{command:?}");
    }
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn killed_in_the_middle_the_next_run_goes_on() {
    let town = Town::new("killed").await;
    let exists = |kind: &'static str, name: &'static str| {
        let text = town.kubectl(&["get", kind, "--output=name"]);
        text.lines().any(|line| line.contains(name))
    };
    for (kind, name) in
        [("lease", "doks-harbor"), ("secret", "redis-tls-proxy"), ("job", "doks-harbor-database"), ("daemonset", "redis-tls-proxy")]
    {
        let mut run = town.desk.start(APPLY);
        lab::until(name, Duration::from_secs(60), || exists(kind, name)).await.unwrap();
        run.kill().await.unwrap();
    }
    town.apply().await.ends_with(0);
    assert_eq!(town.object("secret", "doks-harbor-database"), Value::Null);
    assert_eq!(town.object("lease", "doks-harbor"), Value::Null);
    town.plan().await.ends_with(0);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn a_lost_laptop_loses_nothing_and_two_copies_are_not_guessed_between() {
    let town = Town::new("lost").await;
    town.apply().await.ends_with(0);
    let read = |name: &str| town.desk.read(&format!("doks-harbor.keyring/{name}"));
    let (id, key) = (read(".id"), read("harbor-secret-key"));
    std::fs::remove_dir_all(town.desk.path("doks-harbor.keyring")).unwrap();
    town.plan().await.ends_with(0);
    assert!(!town.desk.path("doks-harbor.keyring").exists(), "a plan makes nothing");
    let (before, keys) = (town.versions(), town.desk.cloud.api.world(|world| world.keys.len()));
    let back = town.apply().await.ends_with(0);
    assert!(back.stderr.contains("Taken from the cluster") && back.stderr.contains("harbor-secret-key"), "{}", back.stderr);
    assert_eq!((read(".id"), read("harbor-secret-key")), (id, key.clone()));
    assert_eq!(town.versions(), before);
    assert_eq!(town.desk.cloud.api.world(|world| world.keys.len()), keys);

    // What is lost in one of them comes back from the other: also when all of the folder is, but for what begins with a dot.
    std::fs::remove_file(town.desk.path("doks-harbor.keyring/harbor-secret-key")).unwrap();
    town.apply().await.ends_with(0);
    assert_eq!(read("harbor-secret-key"), key);
    for file in std::fs::read_dir(town.desk.path("doks-harbor.keyring")).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().starts_with('.') {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    town.plan().await.ends_with(0);
    town.apply().await.ends_with(0);
    assert_eq!((read("harbor-secret-key"), town.versions()), (key.clone(), before), "and nothing is made anew");
    let lose = r#"{"data":{"harbor-secret-key":null}}"#;
    town.kubectl(&["patch", "secret", "doks-harbor-keyring", "--type=merge", "--patch", lose]);
    town.apply().await.ends_with(0);
    assert_eq!(read("harbor-secret-key"), key, "the only copy that is left stays");
    assert_ne!(town.object("secret", "doks-harbor-keyring")["data"]["harbor-secret-key"], Value::Null);

    // Another key to encrypt with than the one that Harbor runs with is nobody's wish.
    town.kubectl(&["delete", "secret", "doks-harbor-keyring"]);
    std::fs::write(town.desk.path("doks-harbor.keyring/harbor-secret-key"), "0123456789abcdef").unwrap();
    let told = town.apply().await.ends_with(1);
    assert!(told.stdout.contains("holds another secretKey"), "{}", told.stdout);
    std::fs::write(town.desk.path("doks-harbor.keyring/harbor-secret-key"), &key).unwrap();
    town.apply().await.ends_with(0);

    // Changed there alone: taken. Changed here alone: given. Changed in both: asked.
    let there = |value: &str| {
        let patch = json!({"stringData": {"harbor-core-secret": value}}).to_string();
        town.kubectl(&["patch", "secret", "doks-harbor-keyring", "--type=merge", "--patch", &patch]);
    };
    let here = |value: &str| std::fs::write(town.desk.path("doks-harbor.keyring/harbor-core-secret"), value).unwrap();
    there("theirs");
    town.apply().await.ends_with(0);
    assert_eq!(read("harbor-core-secret"), "theirs");
    here("ours");
    let plan = town.plan().await.ends_with(2);
    assert!(plan.stdout.contains("Secret doks-harbor-keyring: harbor-core-secret"), "{}", plan.stdout);
    assert!(plan.stdout.contains("data.secret: another value") && !plan.stdout.contains("ours"), "{}", plan.stdout);
    town.apply().await.ends_with(0);
    there("theirs again");
    here("ours again");
    let told = town.apply().await.ends_with(1);
    assert!(told.stderr.contains("changed both in") && told.stderr.contains("harbor-core-secret"), "{}", told.stderr);
    // A folder of another installation is not mixed with it.
    std::fs::write(town.desk.path("doks-harbor.keyring/.id"), "0123456789ab").unwrap();
    let told = town.apply().await.ends_with(1);
    assert!(told.stderr.contains("another keyring"), "{}", told.stderr);
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn the_wrong_cluster_and_one_that_is_silent_stop_everything_before_it_begins() {
    let town = Town::new("wrong").await;
    town.desk.cloud.api.world(|world| world.clusters[0].pools[0].name = "others".to_owned());
    let told = town.apply().await.ends_with(3);
    assert!(told.stderr.contains("is not production (bd5f5959") && told.stderr.contains(&town.kubernetes.server()), "{}", told.stderr);
    town.desk.cloud.api.world(|world| {
        world.clusters[0].pools[0].name = "workers".to_owned();
        let access = world.clusters[0].access.as_mut().unwrap();
        access.server = "https://127.0.0.1:1".to_owned();
    });
    let told = town.apply().await.ends_with(3);
    assert!(told.stderr.contains("does not answer") && told.stderr.contains("--until cloud"), "{}", told.stderr);
    let told = town.plan().await.ends_with(1);
    assert!(told.stderr.contains("could not be looked at"), "{}", told.stderr);
    town.desk.cloud.api.world(|world| world.clusters[0].access.as_mut().unwrap().token = Some("another".to_owned()));
    town.desk.cloud.api.world(|world| world.clusters[0].access.as_mut().unwrap().server = town.kubernetes.server());
    let told = town.apply().await.ends_with(3);
    assert!(told.stderr.contains("does not know this login"), "{}", told.stderr);
    assert_eq!(town.desk.cloud.api.mutations(), 0, "nothing was made");
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn who_may_not_write_is_told_what_is_missing() {
    let town = Town::new("weak").await;
    town.kubernetes.kubectl(&["create", "namespace", "weak"], "").unwrap();
    town.kubectl(&["create", "serviceaccount", "reader"]);
    town.kubernetes
        .kubectl(&["create", "clusterrolebinding", "weak-reader", "--clusterrole=view", "--serviceaccount=weak:reader"], "")
        .unwrap();
    let nodes = ["create", "clusterrole", "weak-nodes", "--verb=list", "--resource=nodes"];
    town.kubernetes.kubectl(&nodes, "").unwrap();
    town.kubernetes
        .kubectl(&["create", "clusterrolebinding", "weak-nodes", "--clusterrole=weak-nodes", "--serviceaccount=weak:reader"], "")
        .unwrap();
    let token = town.kubectl(&["create", "token", "reader"]).trim().to_owned();
    town.desk.cloud.api.world(|world| world.clusters[0].access.as_mut().unwrap().token = Some(token));
    let told = town.apply().await.ends_with(3);
    assert!(told.stderr.contains("may not, in the namespace weak: patch secrets"), "{}", told.stderr);
    assert_eq!(town.desk.cloud.api.mutations(), 0, "nothing was made");
}
