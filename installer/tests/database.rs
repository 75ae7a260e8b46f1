//! What the one-shot Job runs, against a real PostgreSQL of a version that wants the grant, and a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use doks_harbor::database::Report;
use lab::{Authority, Postgres, Redis};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

const PASSWORD: &str = "harbors-own-password";

/// Both servers, and the folder that a pod would have.
struct Inside {
    folder: TempDir,
    postgres: Postgres,
    _redis: Redis,
}

impl Inside {
    async fn new() -> Self {
        let authority = Authority::new().unwrap();
        let (postgres, redis) =
            (Postgres::start(&authority).await.unwrap(), Redis::builder(&authority).password("valkeys").start().await.unwrap());
        // As DigitalOcean makes them: the database is the administrator's, the user is anybody.
        postgres.sql(&format!("CREATE USER \"har\"\"bor\" PASSWORD '{PASSWORD}'")).await.unwrap();
        postgres.sql("CREATE DATABASE registry").await.unwrap();
        let inside = Self { folder: tempfile::tempdir().unwrap(), postgres, _redis: redis };
        inside.write("ca.pem", &authority.ca_pem());
        inside.write("other.pem", &Authority::new().unwrap().ca_pem());
        inside.write("postgres-password", PASSWORD);
        inside.write("valkey-password", "valkeys");
        inside.write("client-password", "local");
        inside.write("admin-password", inside.postgres.password());
        inside.configure("ca.pem", inside._redis.port());
        inside
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn configure(&self, postgres_ca: &str, redis: u16) {
        let (folder, port) = (self.folder.path().display(), self.postgres.port());
        self.write(
            "proxy.yaml",
            &format!(
                "client_auth: password
client_password_file: {folder}/client-password
listeners:
  - {{url: 'rediss://default@localhost:{redis}', name: valkey, listen: '127.0.0.1:6379', password_file: {folder}/valkey-password, pool: multiplex, \
                 ca_file: {folder}/ca.pem}}
  - {{url: 'postgresql://har%22bor@localhost:{port}/registry', name: postgresql, listen: '127.0.0.1:5432', password_file: \
                 {folder}/postgres-password, pool: transaction, ca_file: {folder}/{postgres_ca}, ca_only: true}}
"
            ),
        );
    }

    /// Exit code, standard output, standard error.
    async fn run(&self, patience: &str) -> (Option<i32>, String, String) {
        let file = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_doks-harbor"));
        command.args(["database", "--admin", "postgres", "--patience", patience]).env_clear();
        command.arg("--config").arg(file("proxy.yaml")).arg("--admin-password-file").arg(file("admin-password"));
        command.arg("--report").arg(file("report"));
        command.stdin(Stdio::null()).current_dir(Path::new("/")).kill_on_drop(true);
        let output = timeout(Duration::from_secs(120), command.output()).await.expect("it does not end").unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        for secret in [PASSWORD, "valkeys", self.postgres.password()] {
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "a secret is told: {stdout}{stderr}");
        }
        (output.status.code(), stdout, stderr)
    }

    async fn is_granted(&self) -> bool {
        let asked = self.postgres.sql_in("registry", "SELECT has_schema_privilege('har\"bor', 'public', 'CREATE')").await;
        asked.unwrap() == "t"
    }
}

#[tokio::test]
async fn the_grant_is_made_once_and_everything_is_proved() {
    let inside = Inside::new().await;
    assert!(!inside.is_granted().await, "this PostgreSQL wants no grant: it is older than 15");
    for _ in 0..2 {
        let (code, stdout, stderr) = inside.run("10s").await;
        assert_eq!(code, Some(0), "{stderr}");
        let report: Report = serde_json::from_str(&stdout).unwrap();
        assert_eq!(std::fs::read_to_string(inside.folder.path().join("report")).unwrap(), stdout.trim_end());
        assert!(report.server.starts_with("PostgreSQL 1") && report.grant.contains("was granted"), "{report:?}");
        assert_eq!(report.servers.len(), 2);
        for server in &report.servers {
            assert!(server.tls == "TLS 1.3" && !server.issuer.is_empty() && server.days_left.is_some(), "{server:?}");
            assert!(server.round_trip_milliseconds.is_some(), "{server:?}");
        }
        assert!(inside.is_granted().await);
    }
    let left = inside.postgres.sql_in("registry", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await.unwrap();
    assert_eq!(left, "0", "the proof leaves nothing");
}

#[tokio::test]
async fn what_fails_is_told_by_name_and_nothing_is_granted() {
    let inside = Inside::new().await;
    inside.configure("other.pem", inside._redis.port());
    let (code, _, stderr) = inside.run("0s").await;
    assert!(code == Some(1) && stderr.contains("postgresql at localhost:") && stderr.contains("tls"), "{stderr}");
    inside.configure("ca.pem", 1);
    let (code, _, stderr) = inside.run("0s").await;
    assert!(code == Some(1) && stderr.contains("valkey at localhost:1") && stderr.contains("refused"), "{stderr}");
    assert_eq!(std::fs::read_to_string(inside.folder.path().join("report")).unwrap(), stderr.trim_end(), "its last words");
    inside.configure("ca.pem", inside._redis.port());
    inside.write("admin-password", "wrong");
    let (code, _, stderr) = inside.run("0s").await;
    assert!(code == Some(1) && stderr.contains("as its administrator postgres") && stderr.contains("28P01"), "{stderr}");
    inside.write("postgres-password", "wrong");
    let (code, _, stderr) = inside.run("0s").await;
    assert!(code == Some(1) && stderr.contains("postgresql at localhost:") && stderr.contains("login"), "{stderr}");
    assert!(!inside.is_granted().await);
}
