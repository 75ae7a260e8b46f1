//! Secrets that change while Harbor runs: interrupted between any two steps, nobody is locked out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use lab::digitalocean::{At, Fake, Fault, Moment};
use support::Desk;
use support::town::Town;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn key(desk: &Desk) -> String {
    desk.read("doks-harbor.keyring/spaces-access-key")
}

fn is_known(desk: &Desk, wanted: &str) -> bool {
    desk.cloud.api.world(|world| world.keys.iter().any(|key| key.access_key == wanted))
}

/// Puts the keyring into the state that a kill between two of its writes leaves.
fn forget(desk: &Desk, file: &str) {
    std::fs::remove_file(desk.path("doks-harbor.keyring").join(file)).unwrap();
}

fn put(desk: &Desk, file: &str, text: &str) {
    std::fs::write(desk.path("doks-harbor.keyring").join(file), text).unwrap();
}

#[tokio::test]
async fn a_rotation_of_the_buckets_key_can_be_killed_anywhere() {
    // Before it came to a second key: nothing has happened, and --finish must not take the only one.
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let old = key(&desk);
    put(&desk, "spaces-retiring-key", &old);
    let told = desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(1);
    assert!(told.stderr.contains("begin again") && is_known(&desk, &old), "{}", told.stderr);
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    assert_ne!(key(&desk), old);
    desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
    assert!(!is_known(&desk, &old));
    desk.is_finished().await;

    // In the middle of keeping it: the old one, which Harbor uses, outlives the run that makes another.
    let old = key(&desk);
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    forget(&desk, "spaces-access-key");
    let told = desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(1);
    assert!(told.stderr.contains("doks-harbor apply") && is_known(&desk, &old), "{}", told.stderr);
    desk.apply().await.ends_with(0);
    assert!(is_known(&desk, &old) && is_known(&desk, &key(&desk)) && key(&desk) != old);
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 2, "the one that nobody knows is gone");
    desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
    desk.is_finished().await;
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 1);

    // Killed while the API makes it.
    for moment in [Moment::BeforeCommit, Moment::AfterCommit] {
        let old = key(&desk);
        let frozen = desk.cloud.api.freeze(At::call("POST", "/v2/spaces/keys"), moment);
        let mut run = desk.start(&["rotate", "spaces", "--yes"]);
        frozen.reached().await;
        run.kill().await.unwrap();
        desk.cloud.api.thaw();
        assert_eq!(key(&desk), old);
        desk.apply().await.ends_with(0);
        desk.is_finished().await;
        assert!(desk.cloud.api.world(|world| world.keys.len()) == 1 && is_known(&desk, &old));
    }
}

/// At each request to Spaces (the only one to the API that matters is above): the old key, which Harbor uses, lives until `--finish`, and
/// afterwards there is one.
#[tokio::test]
async fn a_rotation_killed_at_every_request_takes_no_key_that_is_used() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let before = desk.cloud.s3.requests().len();
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    let requests = desk.cloud.s3.requests().len() - before;
    assert!(requests > 5, "{requests}");
    for n in 1..=requests {
        let desk = Desk::new().await;
        desk.apply().await.ends_with(0);
        let old = key(&desk);
        let held = desk.cloud.s3.hold_at(desk.cloud.s3.requests().len() + n);
        let mut run = desk.start(&["rotate", "spaces", "--yes"]);
        held.reached().await;
        run.kill().await.unwrap();
        desk.apply().await.ends_with(0);
        assert!(is_known(&desk, &old), "request {n}");
        if key(&desk) == old {
            desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
        }
        desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
        assert!(!is_known(&desk, &old) && is_known(&desk, &key(&desk)), "request {n}");
        assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 1, "request {n}");
        desk.is_finished().await;
    }
}

#[tokio::test]
async fn a_key_whose_halves_do_not_belong_together_is_made_anew() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    put(&desk, "spaces-secret-key", "of another key");
    desk.run(&["plan"]).await.ends_with(2);
    desk.apply().await.ends_with(0);
    desk.is_finished().await;
    assert_eq!(desk.cloud.api.world(|world| world.keys.len()), 1);
}

#[tokio::test]
async fn a_password_is_changed_only_when_the_new_one_can_be_seen() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let password = || desk.read("doks-harbor.keyring/postgres-password");
    let before = password();
    desk.cloud.api.world(|world| world.lacks.insert("database:view_credentials".to_owned()));
    let told = desk.run(&["rotate", "pg", "--yes"]).await.ends_with(1);
    assert!(told.stderr.contains("nothing was changed") && told.stderr.contains("database:view_credentials"), "{}", told.stderr);
    desk.cloud.api.world(|world| world.lacks.clear());
    desk.is_finished().await;
    assert_eq!(password(), before);

    // Lost answers and kills: the next apply keeps what counts.
    desk.cloud.api.fault(At::call("POST", "/v2/databases/*/users/*/reset_auth"), Fault::CutAfter);
    desk.run(&["rotate", "pg", "--yes"]).await.ends_with(0);
    desk.is_finished().await;
    let frozen = desk.cloud.api.freeze(At::call("POST", "/v2/databases/*/users/*/reset_auth"), Moment::AfterCommit);
    let mut run = desk.start(&["rotate", "pg", "--yes"]);
    frozen.reached().await;
    run.kill().await.unwrap();
    desk.cloud.api.thaw();
    desk.run(&["plan"]).await.ends_with(2);
    desk.apply().await.ends_with(0);
    desk.is_finished().await;
    assert_ne!(password(), before);
}

#[tokio::test]
async fn valkeys_password_is_taken_over_from_the_control_panel() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    desk.cloud.api.world(|world| {
        let valkey = world.databases.iter_mut().find(|database| database.engine == "valkey").unwrap();
        valkey.users[0].password = "AVNS_changed_by_hand".to_owned();
    });
    assert_eq!(desk.json(&["rotate", "valkey"], 0).await["rotated"], "valkey");
    assert_eq!(desk.read("doks-harbor.keyring/valkey-password"), "AVNS_changed_by_hand");
    desk.is_finished().await;
}

/// A Harbor that knows one user. `next` is what it does with the next change instead of answering it.
#[derive(Clone)]
struct Harbor {
    address: String,
    state: Arc<Mutex<State>>,
}

struct State {
    password: String,
    next: Trouble,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// Done, and nobody is told.
    Lose,
    /// Another status, nothing done; also for logins.
    Busy,
}

impl Harbor {
    async fn start(password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(Mutex::new(State { password: password.to_owned(), next: Trouble::None }));
        let harbor = Self { address: format!("http://{}", listener.local_addr().unwrap()), state };
        let serving = harbor.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if client.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                if let Some(status) = serving.answer(&String::from_utf8_lossy(&request)) {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            }
        });
        harbor
    }

    fn answer(&self, request: &str) -> Option<u16> {
        let mut state = self.state.lock().unwrap();
        let login = base64::prelude::BASE64_STANDARD.encode(format!("admin:{}", state.password));
        let is_admin = request.contains(&format!("Basic {login}"));
        if state.next == Trouble::Busy {
            return Some(503);
        }
        if !is_admin || !request.starts_with("PUT ") {
            return Some(if is_admin { 200 } else { 401 });
        }
        let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        if body["old_password"] != state.password {
            return Some(403);
        }
        state.password = body["new_password"].as_str().unwrap().to_owned();
        (std::mem::replace(&mut state.next, Trouble::None) != Trouble::Lose).then_some(200)
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

#[tokio::test]
async fn the_admins_password_is_never_lost() {
    let desk = Desk::with(Fake::builder(), "").await;
    desk.apply().await.ends_with(0);
    let kept = || desk.read("doks-harbor.keyring/harbor-admin-password");
    let first = kept();
    let harbor = Harbor::start(&first).await;
    let rotate = async || desk.run(&["rotate", "admin", "--harbor", &harbor.address]).await;
    let password = || harbor.state.lock().unwrap().password.clone();

    rotate().await.ends_with(0);
    assert!(password() == kept() && kept() != first);

    // The answer was lost, and Harbor is not well when it is asked again: the new one is the only one that works.
    harbor.state.lock().unwrap().next = Trouble::Lose;
    rotate().await.ends_with(1);
    assert_ne!(password(), kept());
    harbor.state.lock().unwrap().next = Trouble::Busy;
    rotate().await.ends_with(1);
    harbor.state.lock().unwrap().next = Trouble::None;
    rotate().await.ends_with(0);
    assert_eq!(password(), kept());

    // Somebody has changed it.
    harbor.state.lock().unwrap().password = "Theirs1234".to_owned();
    let told = rotate().await.ends_with(1);
    assert!(told.stderr.contains("write the current one into"), "{}", told.stderr);
    put(&desk, "harbor-admin-password", "Theirs1234");
    let told = rotate().await.ends_with(0);
    assert!(password() == kept() && kept() != "Theirs1234");
    assert!(!told.stdout.contains(&kept()) && !told.stderr.contains(&kept()));
    assert!(!desk.path("doks-harbor.keyring/harbor-admin-new-password").exists());
}

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn the_admins_new_password_and_the_buckets_new_key_are_in_the_cluster_before_the_old_ones_go() {
    let town = Town::new("secrets").await;
    town.apply().await.ends_with(0);
    let kubeconfig = town.kubernetes.kubeconfig().display().to_string();
    let read = |name: &str| town.desk.read(&format!("doks-harbor.keyring/{name}"));
    let there = |secret: &str, key: &str| town.object("secret", secret)["data"][key].clone();
    let harbor = Harbor::start(&read("harbor-admin-password")).await;
    let rotate = async |what: &[&str]| town.desk.run(&[&["rotate"], what, &["--yes", "--kubeconfig", &kubeconfig]].concat()).await;

    let before = there("harbor-admin", "HARBOR_ADMIN_PASSWORD");
    let told = rotate(&["admin", "--harbor", &harbor.address]).await.ends_with(0);
    assert!(told.stdout.contains("and in the cluster. Changed in the cluster: Secret harbor-admin"), "{}", told.stdout);
    let after = there("harbor-admin", "HARBOR_ADMIN_PASSWORD");
    assert_ne!(before, after);
    assert_eq!(there("doks-harbor-keyring", "harbor-admin-password"), after);
    assert_eq!(town.object("lease", "doks-harbor"), serde_json::Value::Null);
    // Lost with its folder, all of it is known elsewhere.
    std::fs::remove_dir_all(town.desk.path("doks-harbor.keyring")).unwrap();
    town.apply().await.ends_with(0);
    assert_eq!(read("harbor-admin-password"), harbor.state.lock().unwrap().password);

    // Who cannot reach the cluster changes nothing that it would have to know.
    let told = town.desk.run(&["rotate", "pg", "--yes", "--kubeconfig", "nowhere"]).await.ends_with(1);
    assert!(told.stderr.contains("nothing was changed") && told.stderr.contains("--cloud-only"), "{}", told.stderr);
    town.plan().await.ends_with(0);

    // A run that left the cluster alone (--cloud-only, as a desk says it): its registry knows the old key only, which stays.
    let old = read("spaces-access-key");
    town.desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    let told = rotate(&["spaces", "--finish"]).await.ends_with(1);
    assert!(told.stderr.contains("the old key stays") && told.stderr.contains("Secret harbor-spaces"), "{}", told.stderr);
    assert!(is_known(&town.desk, &old));
    rotate(&["spaces", "--finish"]).await.ends_with(0);
    assert!(!is_known(&town.desk, &old));
}

#[tokio::test]
async fn what_is_made_of_secrets_is_made_anew() {
    let desk = Desk::with(Fake::builder(), "harbor: {chart: 1.8.1, host: h.example.com}\n").await;
    desk.apply().await.ends_with(0);
    let read = |name: &str| desk.read(&format!("doks-harbor.keyring/{name}"));
    assert!(read("values.secret.yaml").contains(&read("spaces-secret-key")));
    desk.run(&["render", "--target", "compose"]).await.ends_with(0);
    assert!(read("harbor.yml").contains(&read("spaces-secret-key")));
    let told = desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    assert!(read("values.secret.yaml").contains(&read("spaces-secret-key")), "a chart of old gets the new key");
    assert!(!desk.path("doks-harbor.keyring/harbor.yml").exists(), "nobody installs with the old one");
    for words in ["values.secret.yaml", "render --target compose"] {
        assert!(told.stdout.contains(words), "{}", told.stdout);
    }
    // A newer chart takes all of it from Secrets: what is left over would be given to helm, and be in the release in clear.
    desk.spec("harbor: {chart: 1.18.3, host: h.example.com}\n");
    desk.apply().await.ends_with(0);
    assert!(!desk.path("doks-harbor.keyring/values.secret.yaml").exists());
}
