//! How Harbor is doing, by its own words.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::error::{Result, strange};
use super::{Call, Harbor};
use crate::http;

/// Harbor looks at its components every ten seconds; before the first look it knows nothing.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// `GET /health`. Its status code is 200 whatever the body says: only the body counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy` or `unhealthy`.
    pub status: String,
    /// Each of them.
    #[serde(default)]
    pub components: Vec<Component>,
}

/// `core`, `portal`, `jobservice`, `registry`, `registryctl`, `database`, `redis`, `trivy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Which.
    pub name: String,
    /// `healthy` or `unhealthy`.
    pub status: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET /systeminfo`. Most of it is told to those only who are logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemInfo {
    /// `v2.15.1-…`.
    #[serde(default)]
    pub harbor_version: Option<String>,
    /// What it tells clients to come back to.
    #[serde(default)]
    pub external_url: Option<String>,
    /// `harbor.example.com`.
    #[serde(default)]
    pub registry_url: Option<String>,
    /// `db_auth`, `oidc_auth` …
    #[serde(default)]
    pub auth_mode: Option<String>,
    /// `s3`, `filesystem` …
    #[serde(default)]
    pub registry_storage_provider_name: Option<String>,
    /// Whether [`Harbor::authority`] has something to tell.
    #[serde(default)]
    pub has_ca_root: Option<bool>,
}

impl Health {
    /// All of it is well.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status == "healthy" && self.ailing().next().is_none()
    }

    /// Those that are not well.
    pub fn ailing(&self) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(|component| component.status != "healthy")
    }

    /// Nobody has looked yet: Harbor has just been started.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let unknown = |component: &Component| component.error.as_deref().is_some_and(|error| error.contains("unknown status"));
        !self.is_healthy() && self.ailing().all(unknown)
    }
}

/// `redis (failed to …), jobservice`, or `all 8 components are healthy`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_healthy() {
            return write!(f, "all {} components are healthy", self.components.len());
        }
        let ailing: Vec<_> = self
            .ailing()
            .map(|component| {
                component.error.as_ref().map_or_else(|| component.name.clone(), |error| format!("{} ({error})", component.name))
            })
            .collect();
        write!(f, "{}: {}", self.status, if ailing.is_empty() { "no component is named".to_owned() } else { ailing.join(", ") })
    }
}

impl Harbor {
    /// Whether core answers at all; touches neither database nor Redis.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        let call = Call { method: Method::GET, path: "/ping", query: &[], body: None, largest: 1024 };
        let answer = self.as_user(None).call(&call).await?;
        if String::from_utf8_lossy(&answer.body).to_lowercase().contains("pong") {
            return Ok(());
        }
        Err(strange(&call.method, call.path, "there is no pong in it"))
    }

    /// What Harbor says of its components. Needs no login.
    ///
    /// # Errors
    /// When there is no answer; an answer that says `unhealthy` is none.
    pub async fn health(&self) -> Result<Health> {
        self.as_user(None).get("/health", &[]).await
    }

    /// [`Self::health`], and once more as long as Harbor has just been started and has not looked itself. Safe to cancel.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub async fn health_within(&self, patience: Duration) -> Result<Health> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let health = self.health().await?;
            if !health.is_unknown() || tokio::time::Instant::now() >= deadline {
                return Ok(health);
            }
            tokio::time::sleep(FIRST_LOOK).await;
        }
    }

    /// What it says of itself; more of it with a login.
    ///
    /// # Errors
    /// When there is no answer, or the login is not accepted.
    pub async fn systeminfo(&self) -> Result<SystemInfo> {
        self.get("/systeminfo", &[]).await
    }

    /// The authority of Harbor's own certificate, PEM, if it has one to tell. To be believed only as far as the connection is trusted, which
    /// is why nothing here reads it from a server that was not verified.
    ///
    /// # Errors
    /// When there is no answer, or one that is no certificate.
    pub async fn authority(&self) -> Result<Option<(String, Vec<CertificateDer<'static>>)>> {
        let call = Call { method: Method::GET, path: "/systeminfo/getcert", query: &[], body: None, largest: 1 << 20 };
        let answer = match self.as_user(None).call(&call).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(None),
            answer => answer?,
        };
        let certificates = http::certificates(&answer.body).map_err(|error| strange(&call.method, call.path, &error.to_string()))?;
        Ok(Some((String::from_utf8_lossy(&answer.body).into_owned(), certificates)))
    }

    /// Who one is logged in as: proves a login.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn current_user(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct User {
            username: String,
        }
        Ok(self.get::<User>("/users/current", &[]).await?.username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(body: &str) -> Health {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_body_is_judged() {
        let well = health(r#"{"status":"healthy","components":[{"name":"core","status":"healthy"}]}"#);
        assert!(well.is_healthy() && !well.is_unknown());
        assert_eq!(well.to_string(), "all 1 components are healthy");
        let ill = health(
            r#"{"status":"unhealthy","components":[{"name":"redis","status":"unhealthy","error":"i/o timeout"},{"name":"core","status":"healthy"}]}"#,
        );
        assert!(!ill.is_healthy() && !ill.is_unknown());
        assert_eq!(ill.to_string(), "unhealthy: redis (i/o timeout)");
        let new = health(r#"{"status":"unhealthy","components":[{"name":"redis","status":"unhealthy","error":"unknown status"}]}"#);
        assert!(new.is_unknown());
        // A status that contradicts its components is not believed.
        assert!(!health(r#"{"status":"healthy","components":[{"name":"redis","status":"unhealthy"}]}"#).is_healthy());
    }
}
