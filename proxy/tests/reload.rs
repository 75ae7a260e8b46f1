//! Files that change under a running proxy: certificates, CAs and passwords are rotated without a failed request, bad ones change nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lab::certs::write_private;
use lab::{Authority, Leaf, Redis, Resp, Value, until};
use support::{Front, SOON, Trust, front, psql_ok, psql_refused, redis_url};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients that come, ask once and go, until told to stop; every one must be answered.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(front: &Front) -> Self {
        let mut load = Self { stop: Arc::default(), served: Arc::default(), clients: JoinSet::new() };
        for _ in 0..4 {
            let (address, stop, served) = (front.address(), Arc::clone(&load.stop), Arc::clone(&load.served));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = Resp::connect(address).await.unwrap();
                    let answer = timeout(SOON, client.command(&["PING"])).await.expect("no answer").unwrap();
                    assert_eq!(answer.text(), "PONG");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    async fn more(&self) {
        let now = self.served.load(Ordering::Relaxed);
        until("more clients are served", SOON, || self.served.load(Ordering::Relaxed) > now + 40).await.unwrap();
    }

    async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

async fn reloads(front: &Front, result: &str, expected: f64) {
    front.wait("reloads_total", &[("result", result)], |count| count == expected).await;
}

/// As an operator does it: both CAs are trusted first, then the server changes, then the old CA goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_and_ca_are_rotated_under_load() {
    let (old, new) = (Trust::new(), Authority::new().unwrap());
    let redis = Redis::start(&old.authority).await.unwrap();
    let ca = old.path("rotated.pem");
    fs::write(&ca, old.authority.ca_pem()).unwrap();
    let front = front(&redis_url(redis.port()), &ca, &[]).await;
    let load = Load::start(&front);
    load.more().await;

    fs::write(&ca, old.authority.ca_pem() + &new.ca_pem()).unwrap();
    reloads(&front, "ok", 1.0).await;
    front.wait("evictions_total", &[("reason", "reload")], |count| count >= 1.0).await;
    load.more().await;

    let expiry = front.metric("upstream_certificate_expiry_timestamp_seconds", &[]).await;
    redis.set_certificate(&new.issue(&Leaf::server().days_left(30)).unwrap()).await.unwrap();
    load.more().await;
    fs::write(&ca, new.ca_pem()).unwrap();
    reloads(&front, "ok", 2.0).await;
    // Resumed sessions carry the old certificate; the new CA begins without them.
    front.wait("upstream_certificate_expiry_timestamp_seconds", &[], |now| now != expiry).await;
    load.more().await;
    load.finish().await;
    assert_eq!(front.metric("errors_total", &[]).await, 0.0, "{}", front.proxy.stderr());
    assert_eq!(front.metric("clients_rejected_total", &[]).await, 0.0);

    // The old CA is trusted no more.
    redis.set_certificate(&old.authority.issue(&Leaf::server()).unwrap()).await.unwrap();
    fs::write(&ca, new.ca_pem() + "\n").unwrap();
    reloads(&front, "ok", 3.0).await;
    front.wait("errors_total", &[("kind", "tls_issuer")], |errors| errors >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let ca = trust.path("rotated.pem");
    fs::write(&ca, trust.authority.ca_pem()).unwrap();
    let front = front(&redis_url(redis.port()), &ca, &[]).await;
    let load = Load::start(&front);
    let good = trust.authority.ca_pem();
    let broken = ["".to_owned(), "not PEM at all".to_owned(), good.replace("MII", "MIJ"), good[..good.len() / 2].to_owned()];
    let mut failures = 0.0;
    for content in &broken {
        fs::write(&ca, content).unwrap();
        failures += 1.0;
        reloads(&front, "failed", failures).await;
        load.more().await;
    }
    fs::remove_file(&ca).unwrap();
    reloads(&front, "failed", failures + 1.0).await;
    load.more().await;
    assert!(front.proxy.stderr().contains("the previous content stays in use"), "{}", front.proxy.stderr());
    // What comes back is what is in use already: nothing is taken and nobody is evicted. The next change shows that it was looked at.
    fs::write(&ca, &good).unwrap();
    load.more().await;
    fs::write(&ca, good + "\n").unwrap();
    reloads(&front, "ok", 1.0).await;
    load.more().await;
    load.finish().await;
    assert_eq!(front.metric("errors_total", &[]).await, 0.0, "{}", front.proxy.stderr());
}

#[tokio::test]
async fn a_new_upstream_password_is_used_for_new_logins() {
    let trust = Trust::new();
    let redis = Redis::builder(&trust.authority).user("app", "first-pw").start().await.unwrap();
    let file = trust.path("password");
    write_private(&file, "first-pw\n").unwrap();
    let url = format!("rediss://app@localhost:{}", redis.port());
    let front = front(&url, &trust.ca, &["--password-file", file.to_str().unwrap()]).await;
    let mut before = front.resp().await;
    assert_eq!(before.command(&["ACL", "WHOAMI"]).await.unwrap().text(), "app");

    // Both passwords hold for a while, then the old one goes.
    redis.admin(&["ACL", "SETUSER", "app", ">second-pw"]).await.unwrap();
    write_private(&file, "second-pw\n").unwrap();
    reloads(&front, "ok", 1.0).await;
    front.wait("evictions_total", &[("reason", "reload")], |count| count == 8.0).await;
    redis.admin(&["ACL", "SETUSER", "app", "<first-pw"]).await.unwrap();
    front.wait_idle(8.0).await;
    assert_eq!(front.resp().await.command(&["ACL", "WHOAMI"]).await.unwrap().text(), "app");
    assert_eq!(before.command(&["PING"]).await.unwrap().text(), "PONG", "who is connected stays so");
    assert_eq!(front.metric("errors_total", &[]).await, 0.0, "{}", front.proxy.stderr());

    write_private(&file, "").unwrap();
    reloads(&front, "failed", 1.0).await;
    assert_eq!(front.resp().await.command(&["ACL", "WHOAMI"]).await.unwrap().text(), "app");
}

#[tokio::test]
async fn a_new_client_password_holds_for_new_clients() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let file = trust.path("client-password");
    write_private(&file, "first-pw").unwrap();
    let arguments = ["--client-auth", "password", "--client-password-file", file.to_str().unwrap()];
    let front = front(&redis_url(redis.port()), &trust.ca, &arguments).await;
    let mut before = front.resp().await;
    assert_eq!(before.command(&["AUTH", "first-pw"]).await.unwrap(), Value::ok());

    write_private(&file, "second-pw").unwrap();
    reloads(&front, "ok", 1.0).await;
    let mut client = front.resp().await;
    assert!(client.command(&["AUTH", "first-pw"]).await.unwrap().text().starts_with("WRONGPASS"));
    assert_eq!(client.command(&["AUTH", "second-pw"]).await.unwrap(), Value::ok());
    assert_eq!(client.command(&["PING"]).await.unwrap().text(), "PONG");
    assert_eq!(before.command(&["PING"]).await.unwrap().text(), "PONG", "who is connected stays so");
}

#[tokio::test]
async fn postgres_passwords_are_rotated_on_both_sides() {
    let trust = Trust::new();
    let postgres = lab::Postgres::builder(&trust.authority).user("app", "first-pw", "app").start().await.unwrap();
    let (upstream, local) = (trust.path("upstream"), trust.path("local"));
    write_private(&upstream, "first-pw").unwrap();
    write_private(&local, "local-1").unwrap();
    let arguments = ["--password-file", upstream.to_str().unwrap(), "--client-auth", "password", "--client-password-file"];
    let url = format!("postgresql://app@localhost:{}/app", postgres.port());
    let front = front(&url, &trust.ca, &[&arguments[..], &[local.to_str().unwrap()]].concat()).await;
    let connection = format!("host=127.0.0.1 port={} user=any dbname=app sslmode=disable", front.port);
    assert_eq!(psql_ok(&connection, "local-1", "select 1").await, "1");

    write_private(&upstream, "second-pw").unwrap();
    postgres.sql("alter role app password 'second-pw'").await.unwrap();
    reloads(&front, "ok", 1.0).await;
    assert_eq!(psql_ok(&connection, "local-1", "select 2").await, "2");
    write_private(&local, "local-2").unwrap();
    reloads(&front, "ok", 2.0).await;
    assert_eq!(psql_ok(&connection, "local-2", "select 3").await, "3");
    assert!(psql_refused(&connection, "local-1", "select 4").await.contains("password authentication failed"));
}

#[tokio::test]
async fn a_listeners_own_certificate_is_rotated() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let files = trust.authority.issue(&Leaf::server()).unwrap().write(trust.dir.path(), "listen").unwrap();
    let arguments = ["--listen-cert", files.cert.to_str().unwrap(), "--listen-key", files.key.to_str().unwrap()];
    let front = front(&redis_url(redis.port()), &trust.ca, &arguments).await;
    let shown = async || {
        let config = lab::tls::client_config(&trust.authority, None).unwrap();
        let stream = lab::tls::connect(front.address(), "localhost", config).await.unwrap();
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(Resp::new(stream).command(&["PING"]).await.unwrap().text(), "PONG");
        certificate
    };
    let first = shown().await;
    trust.authority.issue(&Leaf::server()).unwrap().write(trust.dir.path(), "listen").unwrap();
    front.wait("reloads_total", &[("result", "ok")], |count| count >= 1.0).await;
    let second = shown().await;
    assert_ne!(first, second);
    // A key that does not belong to the certificate.
    let other = trust.authority.issue(&Leaf::server()).unwrap();
    write_private(&files.key, &other.key_pem).unwrap();
    front.wait("reloads_total", &[("result", "failed")], |count| count >= 1.0).await;
    assert_eq!(shown().await, second);
}
