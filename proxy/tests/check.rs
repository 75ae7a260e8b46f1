//! `redis-tls-proxy check` against real servers and every fault that it must name.

#![cfg(test)]

use std::net::SocketAddr;
use std::process::Command;

use lab::{Authority, Gate, Leaf, Postgres, Redis, free_port};
use serde_json::Value;

const PASSWORD: &str = "s3cret-correct-horse";

/// What a run printed, and its exit code.
struct Run {
    stdout: String,
    code: i32,
}

impl Run {
    /// The program as a user would start it; the password of the server in the environment.
    async fn new(arguments: &[&str], password: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-tls-proxy"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REDIS_TLS_PROXY_")) {
            command.env_remove(name);
        }
        command.arg("check").args(arguments);
        if let Some(password) = password {
            command.env("REDIS_TLS_PROXY_PASSWORD", password);
        }
        // Off this thread: gates live on it.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
        for text in [&stdout, &stderr] {
            assert!(password.is_none_or(|password| !text.contains(password)), "a secret was printed:\n{text}");
        }
        let code = output.status.code().unwrap();
        assert!(code != 64, "not started: {stderr}");
        assert_eq!(stderr, "");
        Self { stdout, code }
    }

    async fn json(url: &str, password: Option<&str>) -> Self {
        Self::new(&["-o", "json", url], password).await
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }

    fn step(&self, name: &str) -> Value {
        let report = self.report();
        let steps = report["listeners"][0]["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no step {name}:\n{}", self.stdout)).clone()
    }

    /// Exactly this step failed, those before it passed, none after it was tried.
    fn failed_at(&self, name: &str) -> Value {
        assert_eq!(self.code, 1, "{}", self.stdout);
        let report = self.report();
        assert_eq!((&report["ok"], &report["listeners"][0]["ok"]), (&false.into(), &false.into()));
        let mut before = true;
        for step in report["listeners"][0]["steps"].as_array().unwrap() {
            let status = step["status"].as_str().unwrap();
            if step["step"] == name {
                before = false;
                assert_eq!(status, "fail", "{step}");
            } else {
                assert!(if before { ["ok", "warn"].contains(&status) } else { status == "not_tried" }, "{step}");
            }
        }
        assert!(!before, "no step {name}");
        self.step(name)
    }
}

fn rediss(address: SocketAddr, redis: &Redis, more: &str) -> String {
    format!("rediss://localhost:{}?ca_file={}&connect_timeout=1s{more}", address.port(), redis.ca_file().display())
}

fn assert_says(step: &Value, says: &str, cure: &str) {
    assert!(step["says"].as_str().unwrap().contains(says), "{step}");
    assert!(step["cure"].as_str().unwrap().contains(cure), "{step}");
}

fn assert_round_trip(step: &Value) {
    let (p50, p99) = (step["facts"]["p50_milliseconds"].as_f64().unwrap(), step["facts"]["p99_milliseconds"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && p99 < 5_000.0, "{step}");
    assert!((1..=100).contains(&step["facts"]["count"].as_u64().unwrap()));
}

#[tokio::test]
async fn a_good_redis_in_json() {
    let authority = Authority::new().unwrap();
    let issued = authority.issue(&Leaf::server().days_left(90).through_intermediate()).unwrap();
    let redis = Redis::builder(&authority).certificate(issued).password(PASSWORD).timeout(300).max_clients(777).start().await.unwrap();
    let run = Run::json(&rediss(redis.address(), &redis, ""), Some(PASSWORD)).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(run.report()["ok"], true);
    for step in run.report()["listeners"][0]["steps"].as_array().unwrap() {
        assert!(step["milliseconds"].as_f64().unwrap() > 0.0, "{step}");
    }
    let ips = &run.step("dns")["facts"]["addresses"];
    assert!(ips.as_array().unwrap().contains(&"127.0.0.1".into()), "{ips}");
    assert!(run.step("tcp")["facts"]["addresses"][0]["milliseconds"].as_f64().unwrap() > 0.0);
    let tls = &run.step("tls")["facts"];
    assert!(["TLS 1.3", "TLS 1.2"].contains(&tls["version"].as_str().unwrap()));
    assert!(tls["cipher"].as_str().unwrap().starts_with("TLS"), "{tls}");
    assert!(tls["group"].as_str().unwrap().to_lowercase().contains("25519"), "{tls}");
    assert_eq!((&tls["days_left"], &tls["names"][0], &tls["verified_name"]), (&90.into(), &"localhost".into(), &"localhost".into()));
    assert_eq!(tls["chain"].as_array().unwrap().len(), 2);
    assert!(tls["chain"][0]["issuer"].as_str().unwrap().contains("Lab Intermediate CA"));
    assert_eq!(run.step("resumption")["facts"]["resumed"], true);
    assert_eq!(run.step("login")["facts"]["user"], "default");
    let server = run.step("server");
    assert_eq!(
        (&server["status"], &server["facts"]["max_clients"], &server["facts"]["timeout_seconds"]),
        (&"ok".into(), &777.into(), &300.into())
    );
    assert!((1..10).contains(&server["facts"]["clients"].as_u64().unwrap()), "{server}");
    assert!(server["facts"]["version"].as_str().unwrap().split('.').count() >= 2, "{server}");
    assert_round_trip(&run.step("round_trip"));
}

#[tokio::test]
async fn warnings_do_not_fail() {
    let authority = Authority::new().unwrap();
    let issued = authority.issue(&Leaf::server().days_left(20)).unwrap();
    let redis = Redis::builder(&authority).certificate(issued).timeout(100).start().await.unwrap();
    let url = rediss(redis.address(), &redis, "");
    let run = Run::json(&url, None).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.step("tls")["warnings"][0].as_str().unwrap().contains("20 days left"));
    let server = run.step("server");
    assert_eq!(server["status"], "warn");
    assert!(server["warnings"][0].as_str().unwrap().contains("pool_max_idle_age"), "{server}");

    let text = Run::new(&[&url], None).await;
    assert_eq!(text.code, 0);
    assert!(text.stdout.ends_with("All steps passed, with warnings.\n"), "{}", text.stdout);
    assert!(!text.stdout.contains('\x1b'), "no colours into a pipe");
    // A row for each step, and the labels below one another.
    let columns: Vec<_> = ["dns", "tcp", "tls", "resumption", "login", "server", "round trip"]
        .iter()
        .map(|name| {
            let row = text.stdout.lines().find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(name)));
            row.unwrap_or_else(|| panic!("no row {name}:\n{}", text.stdout)).find(" ms").unwrap()
        })
        .collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{columns:?}:\n{}", text.stdout);
}

#[tokio::test]
async fn without_credentials_the_servers_wish_for_a_password_is_fine() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).password(PASSWORD).start().await.unwrap();
    let run = Run::json(&rediss(redis.address(), &redis, ""), None).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(run.step("login")["facts"]["credentials"], false);
    assert!(run.step("login")["says"].as_str().unwrap().contains("passes through"));
    assert_eq!(run.step("server")["status"], "not_tried");
    assert_round_trip(&run.step("round_trip"));
}

#[tokio::test]
async fn what_an_acl_forbids_is_shown_as_not_allowed() {
    let authority = Authority::new().unwrap();
    let line = format!("user app on >{PASSWORD} ~* &* +@all -config");
    let redis = Redis::builder(&authority).line(line).start().await.unwrap();
    let url = rediss(redis.address(), &redis, "").replace("rediss://", "rediss://app@");
    let run = Run::new(&[&url], Some(PASSWORD)).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("as app") && run.stdout.contains("CONFIG GET: not allowed, NOPERM"), "{}", run.stdout);
}

#[tokio::test]
async fn names_and_ports() {
    let run = Run::json("rediss://no-such-name.invalid", None).await;
    assert_says(&run.failed_at("dns"), "`no-such-name.invalid` does not resolve", "check the name");

    let run = Run::json(&format!("rediss://127.0.0.1:{}", free_port().unwrap()), None).await;
    assert_says(&run.failed_at("tcp"), "connection refused", "nothing listens on that port");

    let run = Run::new(&["rediss://no-such-name.invalid"], None).await;
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("  FAIL  dns") && run.stdout.contains("  -     tls"), "{}", run.stdout);
    assert!(run.stdout.ends_with("FAILED: redis-6379 at dns\n"), "{}", run.stdout);
}

#[tokio::test]
async fn a_frozen_server_and_a_plaintext_port() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).plain().start().await.unwrap();
    let gate = Gate::start(redis.address()).await.unwrap();
    gate.freeze();
    let run = Run::json(&rediss(gate.address(), &redis, "").replace("localhost", "127.0.0.1"), None).await;
    assert_says(&run.failed_at("tls"), "no answer within 1s", "the port is open but nobody speaks");

    let plain = SocketAddr::from(([127, 0, 0, 1], redis.plain_port().unwrap()));
    let run = Run::json(&rediss(plain, &redis, "").replace("connect_timeout=1s", "connect_timeout=30s"), None).await;
    let tls = run.failed_at("tls");
    assert_says(&tls, "in plaintext", "tls-port");
    assert!(tls["milliseconds"].as_f64().unwrap() < 10_000.0, "{tls}");
}

#[tokio::test]
async fn every_bad_certificate_has_its_cure() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let url = rediss(redis.address(), &redis, "&ca_only=on");
    for (leaf, says, cure) in [
        (Leaf::server().expired(), "has expired", "renew it"),
        (Leaf::server().not_yet_valid(), "not valid yet", "clock"),
        (Leaf::server().wrong_name(), "elsewhere.test", "server_name"),
        (Leaf::server().without_intermediate(), "issuer is not trusted", "ca_file"),
    ] {
        redis.set_certificate(&authority.issue(&leaf).unwrap()).await.unwrap();
        let run = Run::json(&url, None).await;
        assert_says(&run.failed_at("tls"), says, cure);
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).require_client_certificate().start().await.unwrap();
    let url = rediss(redis.address(), &redis, "");
    assert_says(&Run::json(&url, None).await.failed_at("tls"), "refused the handshake", "client_cert");

    let files = authority.issue(&Leaf::client("app")).unwrap().write(redis.dir(), "app").unwrap();
    let run = Run::json(&format!("{url}&client_cert={}&client_key={}", files.cert.display(), files.key.display()), None).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
}

#[tokio::test]
async fn a_wrong_redis_password() {
    let authority = Authority::new().unwrap();
    let redis = Redis::builder(&authority).password("another").start().await.unwrap();
    let run = Run::json(&rediss(redis.address(), &redis, ""), Some(PASSWORD)).await;
    assert_says(&run.failed_at("login"), "WRONGPASS", "check the credentials");
}

#[tokio::test]
async fn a_file_with_two_listeners_of_which_one_fails() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    let ca = redis.ca_file();
    let (good, bad) = (redis.port(), free_port().unwrap());
    let yaml = format!(
        "ca_file: {}\nlisteners:\n- name: good\n  url: rediss://localhost:{good}\n  listen: 127.0.0.1:{}\n\
         - name: bad\n  url: tls://127.0.0.1:{bad}\n  listen: 127.0.0.1:{}\n",
        ca.display(),
        free_port().unwrap(),
        free_port().unwrap(),
    );
    std::fs::write(&file, yaml).unwrap();
    let run = Run::new(&["--config", file.to_str().unwrap(), "-o", "json"], None).await;
    let report = run.report();
    assert_eq!((run.code, &report["ok"]), (1, &false.into()));
    let listeners = report["listeners"].as_array().unwrap();
    assert_eq!((&listeners[0]["name"], &listeners[0]["ok"]), (&"good".into(), &true.into()), "{}", run.stdout);
    assert_eq!((&listeners[1]["name"], &listeners[1]["ok"]), (&"bad".into(), &false.into()));
    let steps: Vec<_> = listeners[1]["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["dns", "tcp", "tls", "resumption"], "nothing is asked of an unknown protocol");
}

fn postgresql(postgres: &Postgres, user: &str, database: &str) -> String {
    let (port, ca) = (postgres.port(), postgres.ca_file());
    format!("postgresql://{user}localhost:{port}{database}?ca_file={}&connect_timeout=3s", ca.display())
}

#[tokio::test]
async fn postgresql_good_and_bad() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::builder(&authority).user("app", PASSWORD, "harbor").max_connections(30).start().await.unwrap();
    let good = postgresql(&postgres, "app@", "/harbor");
    let run = Run::json(&good, Some(PASSWORD)).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(run.step("resumption")["facts"]["resumed"], false);
    assert!(run.step("resumption")["says"].as_str().unwrap().contains("not offered by PostgreSQL"));
    assert_eq!(run.step("login")["facts"]["user"], "app");
    let server = run.step("server");
    let facts = &server["facts"];
    assert_eq!((&facts["max_connections"], &facts["superuser_reserved_connections"]), (&30.into(), &3.into()), "{server}");
    assert_eq!((&facts["tls"], &facts["standby"], &server["status"]), (&true.into(), &false.into(), &"ok".into()));
    assert!((1..10).contains(&facts["in_use"].as_u64().unwrap()), "{server}");
    assert!(facts["version"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert_round_trip(&run.step("round_trip"));
    let text = Run::new(&[&good], Some(PASSWORD)).await;
    assert!(text.stdout.contains("in use of max_connections 30") && text.stdout.ends_with("All is well.\n"), "{}", text.stdout);
    assert!(!postgres.log().contains("could not receive data"), "every connection ends properly: {}", postgres.log());

    let run = Run::json(&good, Some("wrong-pa55word")).await;
    let login = run.failed_at("login");
    assert_says(&login, "28P01", "check");
    assert!(login["milliseconds"].as_f64().unwrap() < 900.0, "nobody is waited for: {login}");

    let run = Run::json(&postgresql(&postgres, "app@", "/nowhere"), Some(PASSWORD)).await;
    assert_says(&run.failed_at("login"), "no such database", "correct the database");

    let run = Run::json(&postgresql(&postgres, "", "/harbor"), None).await;
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.step("login")["says"].as_str().unwrap().contains("passes through"));
    assert_eq!(run.step("round_trip")["status"], "not_tried");

    postgres.sql("alter role app connection limit 0").await.unwrap();
    let run = Run::json(&good, Some(PASSWORD)).await;
    assert_says(&run.failed_at("login"), "out of connections (SQLSTATE 53300)", "pool sizes");

    postgres.set_certificate(&authority.issue(&Leaf::server().wrong_name()).unwrap()).await.unwrap();
    let run = Run::json(&good, Some(PASSWORD)).await;
    assert_says(&run.failed_at("tls"), "elsewhere.test", "server_name");
}

#[tokio::test]
async fn postgresql_looked_for_at_another_tls_server() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let url = rediss(redis.address(), &redis, "").replace("rediss://", "postgresql://");
    let step = Run::json(&url, None).await.failed_at("tls");
    assert_says(&step, "", "is this PostgreSQL?");
}

#[tokio::test]
async fn a_frozen_postgresql() {
    let authority = Authority::new().unwrap();
    let postgres = Postgres::start(&authority).await.unwrap();
    postgres.freeze();
    let url = postgresql(&postgres, "postgres@", "").replace("connect_timeout=3s", "connect_timeout=1s");
    let run = Run::json(&url, Some(postgres.password())).await;
    assert_says(&run.failed_at("tls"), "no answer within 1s", "stopped or overloaded");
}
