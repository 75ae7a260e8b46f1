//! The one way to the API.

use std::time::Duration;

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Result};

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One token at one API.
pub struct Client {
    base: String,
    token: SecretString,
    http: reqwest::Client,
}

impl Client {
    /// For `https://api.digitalocean.com`, or another place that speaks like it (`http://127.0.0.1:4010`).
    #[must_use]
    pub fn new(base: &str, token: SecretString, http: reqwest::Client) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), token, http }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, None::<&()>).await
    }

    /// All pages of the list in this field.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str, field: &'static str) -> Result<Vec<T>> {
        let mut answer: serde_json::Map<String, serde_json::Value> = self.get(path).await?;
        let items = answer.remove(field).unwrap_or_default();
        serde_json::from_value(items).map_err(|error| Error::malformed(format!("GET {path}"), error.to_string()))
    }

    pub(super) async fn put<B: Serialize>(&self, path: &str, body: &B) -> Result<()> {
        self.send::<_, Option<serde::de::IgnoredAny>>(Method::PUT, path, Some(body)).await.map(|_| ())
    }

    /// Gone already is done.
    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        match self.send::<(), Option<serde::de::IgnoredAny>>(Method::DELETE, path, None).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sent once: [`Error::Lost`] when nobody knows.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// For what may be done twice.
    pub(super) async fn post_again<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// For what may be done twice and answers nothing.
    pub(super) async fn post_empty<B: Serialize>(&self, path: &str, body: &B) -> Result<()> {
        self.send::<_, Option<serde::de::IgnoredAny>>(Method::POST, path, Some(body)).await.map(|_| ())
    }

    async fn send<B: Serialize, T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&B>) -> Result<T> {
        let call = format!("{method} {path}");
        let lost = |error: reqwest::Error| Error::Lost { call: call.clone(), why: error.to_string() };
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).timeout(TIMEOUT);
        request = request.bearer_auth(self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(lost)?;
        let (status, body) = (answer.status(), answer.bytes().await.map_err(lost)?);
        if !status.is_success() {
            let message = String::from_utf8_lossy(&body).into_owned();
            return Err(Error::Refused { call, status: status.as_u16(), id: String::new(), message, request_id: None });
        }
        let body = if body.is_empty() { b"null" } else { &body[..] };
        serde_json::from_slice(body).map_err(|error| Error::malformed(call, error.to_string()))
    }
}
