//! Harbor by its own API (v2.0): what the day after the installation needs of it.
//!
//! [`reach`]: where Harbor is and whom to trust there. [`system`]: how it is doing. [`projects`], [`robots`], [`collection`]: what `smoke` and
//! `pull-secret` make and look at. [`admin`]: its first user's password. Images go by the registry's protocol: [`crate::registry`].

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub mod admin;
pub mod collection;
mod error;
pub mod projects;
pub mod reach;
pub mod robots;
pub mod system;

pub(crate) use error::said;
pub use error::{Error, Result};

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer, but logs. A page of a hundred artifacts has some hundred KiB.
const LARGEST: usize = 8 << 20;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Login {
    /// `admin`, `robot$project+name` …
    pub user: String,
    /// Or the secret of a robot account.
    pub password: SecretString,
}

/// One Harbor. Cheap to clone. It never follows a redirect, and says its login to nobody but this address.
#[derive(Clone, Debug)]
pub struct Harbor {
    http: reqwest::Client,
    /// `https://harbor.example.com/`.
    base: Url,
    login: Option<Login>,
}

/// What one call is made of.
struct Call<'a> {
    method: Method,
    /// After `/api/v2.0`.
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    body: Option<Value>,
    largest: usize,
}

/// A short answer.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

impl Harbor {
    /// Does not talk to it yet. `base` has no path.
    #[must_use]
    pub const fn new(http: reqwest::Client, base: Url, login: Option<Login>) -> Self {
        Self { http, base, login }
    }

    /// The same one, for somebody else.
    #[must_use]
    pub fn as_user(&self, login: Option<Login>) -> Self {
        Self { login, ..self.clone() }
    }

    /// Where it is called.
    #[must_use]
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// What calls it.
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Who calls.
    #[must_use]
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let call = Call { method: Method::GET, path, query, body: None, largest: LARGEST };
        let answer = self.call(&call).await?;
        serde_json::from_slice(&answer.body).map_err(|error| error::strange(&call.method, path, &error.to_string()))
    }

    async fn change(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        self.call(&Call { method, path, query: &[], body, largest: LARGEST }).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer> {
        let silent = |error: reqwest::Error| error::silent(&call.method, call.path, error);
        let mut url = self.base.clone();
        url.set_path(&format!("/api/v2.0{}", call.path));
        let mut request = self.http.request(call.method.clone(), url).timeout(TIMEOUT);
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(login.password.expose_secret()));
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(silent)?;
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let location = header("location");
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > call.largest {
                return Err(error::strange(&call.method, call.path, &format!("it is longer than {} bytes", call.largest)));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(error::refused(&call.method, call.path, status, location.as_deref(), &body));
        }
        Ok(Answer { status, location, body })
    }
}

/// One part of a path: a name that Harbor has told or a person has said.
fn part(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The number at the end of `Location: /api/v2.0/projects/12`.
fn id_in(answer: &Answer, method: &Method, path: &str) -> Result<i64> {
    let id = answer.location.as_deref().and_then(|location| location.rsplit('/').next()).and_then(|id| id.parse().ok());
    id.ok_or_else(|| error::strange(method, path, "it does not say where the new thing is (Location)"))
}
