//! Debian's docker-registry (CNCF distribution), which is what Harbor's registry is, with token authentication.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::require;
use crate::{Process, free_port};

/// This machine stalls for seconds.
const START: Duration = Duration::from_secs(60);

/// Whose tokens it believes.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Where it sends its clients for them.
    pub realm: String,
    /// Who signs them, by name.
    pub issuer: String,
    /// For whom they are.
    pub service: String,
    /// The certificate of the key that signs them, PEM.
    pub certificate: String,
}

/// A running docker-registry, on loopback, in plain HTTP: TLS is Harbor's nginx's.
pub struct Registry {
    port: u16,
    dir: TempDir,
    process: Process,
}

impl Registry {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start(tokens: &Tokens) -> Result<Self> {
        let program = require("docker-registry", "docker-registry")?;
        let dir = tempfile::Builder::new().prefix("lab-registry-").tempdir()?;
        let port = free_port()?;
        let (config, bundle) = (dir.path().join("config.yml"), dir.path().join("tokens.crt"));
        std::fs::write(&bundle, &tokens.certificate)?;
        // JSON is YAML.
        let content = json!({
            "version": 0.1,
            "log": { "level": "info", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": dir.path().join("blobs") }, "delete": { "enabled": true } },
            "http": { "addr": format!("127.0.0.1:{port}"), "relativeurls": true },
            "auth": { "token": {
                "realm": tokens.realm,
                "service": tokens.service,
                "issuer": tokens.issuer,
                "rootcertbundle": bundle,
            } },
        });
        std::fs::write(&config, content.to_string())?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let mut process = Process::spawn("docker-registry", &command, dir.path())?;
        process.ready(START, async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await.context("docker-registry")?;
        Ok(Self { port, dir, process })
    }

    /// Of 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where its blobs are.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}
