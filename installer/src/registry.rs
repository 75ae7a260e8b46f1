//! The registry's own protocol (OCI distribution), as far as a small image needs it: what docker speaks with Harbor.
//!
//! ```text
//!   GET /v2/…  ──► 401, WWW-Authenticate: Bearer realm, service, scope
//!   GET realm?service&scope  (with the login) ──► token
//!   GET /v2/…  (with the token) ──► here it is, or 307 to the bucket (without the token)
//! ```
//!
//! The realm is what a server says, and a server may say anything: it is only believed where it names Harbor itself, and the login goes to the
//! address at which Harbor was reached, whatever else the realm says. `challenge` reads what a server demands, [`token`] what it grants;
//! `transfer` moves blobs and manifests; [`image`] makes an image.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::harbor::reach::Reachable;
use crate::harbor::{Login, reach};
use crate::http;

mod challenge;
mod error;
pub mod image;
pub mod token;
mod transfer;

pub use challenge::Challenge;
pub use error::{Error, Result};

/// For one request, whatever its size: images of ours are small.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Of a token and of an error.
const SMALL: usize = 256 << 10;

/// A registry, and who talks to it.
pub struct Registry {
    http: reqwest::Client,
    base: Url,
    /// Host names that are Harbor's own.
    names: Vec<String>,
    login: Option<Login>,
    /// For the scope of the last request.
    token: Mutex<Option<SecretString>>,
}

/// A request that may have to be made twice.
struct Asked<'a> {
    method: Method,
    url: Url,
    headers: &'a [(&'a str, &'a str)],
    body: Option<&'a [u8]>,
}

impl Registry {
    /// Harbor's registry, for this login or for nobody.
    #[must_use]
    pub fn new(at: &Reachable, login: Option<Login>) -> Self {
        let harbor = &at.harbor;
        Self { http: harbor.http().clone(), base: harbor.base().clone(), names: at.names.clone(), login, token: Mutex::new(None) }
    }

    /// A token for these scopes (`repository:project/image:pull`): what docker's login amounts to. Proves the login; what is granted is in the
    /// token ([`token::granted`]).
    ///
    /// # Errors
    /// [`Error::Refused`] when the login is not accepted.
    pub async fn token(&self, scopes: &[String]) -> Result<SecretString> {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        let what = "GET /v2/";
        let answer = self.http.get(url).timeout(TIMEOUT).send().await.map_err(|error| error::silent(what, error))?;
        let mut challenge = challenge(what, answer).await?;
        challenge.scopes = scopes.to_vec();
        self.ask_token(&challenge).await
    }

    /// One request; with a token when the registry demands one. A token that is not enough, or has expired, is refused by Harbor without a word
    /// of where to get another, so then it is asked without one.
    async fn send(&self, asked: &Asked<'_>) -> Result<Response> {
        let what = asked.to_string();
        let held = self.held();
        let mut answer = self.once(asked, &what, held.as_ref()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && held.is_some() {
            answer = self.once(asked, &what, None).await?;
        }
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.ask_token(&challenge(&what, answer).await?).await?;
        let answer = self.once(asked, &what, Some(&token)).await?;
        if let Ok(mut held) = self.token.lock() {
            *held = Some(token);
        }
        Ok(answer)
    }

    fn held(&self) -> Option<SecretString> {
        self.token.lock().ok().and_then(|held| held.clone())
    }

    async fn once(&self, asked: &Asked<'_>, what: &str, token: Option<&SecretString>) -> Result<Response> {
        let mut request = self.http.request(asked.method.clone(), asked.url.clone()).timeout(TIMEOUT);
        for (name, value) in asked.headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = asked.body {
            request = request.body(body.to_vec());
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, bearer(token));
        }
        send(request, what).await
    }

    async fn ask_token(&self, challenge: &Challenge) -> Result<SecretString> {
        #[derive(serde::Deserialize)]
        struct Granted {
            token: Option<SecretString>,
            access_token: Option<SecretString>,
        }
        let what = "the token";
        let mut url = self.at_home("realm", &challenge.realm)?;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &challenge.service {
                query.append_pair("service", service);
            }
            for scope in &challenge.scopes {
                query.append_pair("scope", scope);
            }
        }
        let mut request = self.http.get(url).timeout(TIMEOUT);
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(login.password.expose_secret()));
        }
        let answer = send(request, what).await?;
        let body = succeeded(what, answer, SMALL).await?.1;
        // Without what serde says: it could cite the token.
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| error::strange(what, "there is no token in the answer"))?;
        granted.token.or(granted.access_token).ok_or_else(|| error::strange(what, "there is no token in the answer"))
    }

    /// An address that the server has told (`realm`, `Location`): the same place at the address at which the server was reached. Behind a
    /// port-forward, and behind a proxy that changes ports, the server does not know that one.
    fn at_home(&self, of: &'static str, told: &str) -> Result<Url> {
        let foreign = || Error::Foreign { of, told: told.chars().filter(|c| !c.is_control()).take(200).collect() };
        let url = self.base.join(told).map_err(|_| foreign())?;
        let is_ours = |host: &str| self.base.host_str() == Some(host) || self.names.iter().any(|name| name == host);
        if !url.host_str().is_some_and(is_ours) || !matches!(url.scheme(), "http" | "https") {
            return Err(foreign());
        }
        // Docker would follow it in clear, or not at all.
        if self.base.scheme() == "https" && url.scheme() == "http" {
            return Err(Error::Plain { of, told: format!("{}{}", url.origin().ascii_serialization(), url.path()) });
        }
        let mut home = self.base.clone();
        home.set_path(url.path());
        home.set_query(url.query());
        Ok(home)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// What a redirect leads to: the bucket, by an address that is signed. It gets neither login nor token.
    async fn elsewhere(&self, what: &str, headers: &HeaderMap) -> Result<Response> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let url = location.and_then(|location| self.base.join(location).ok()).filter(reach::is_safe);
        let url = url.ok_or_else(|| error::strange(what, "it leads to no https address"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let answer = self.http.get(url).timeout(TIMEOUT).send().await;
        answer.map_err(|error| Error::Bucket { host, why: http::innermost(&error.without_url()) })
    }
}

/// What is demanded by an answer that refuses. Harbor demands nothing where there is nothing to be had: a project that is not there.
async fn challenge(what: &str, answer: Response) -> Result<Challenge> {
    let demanded = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let found = demanded.into_iter().find_map(Challenge::parse);
    if let Some(found) = found {
        return Ok(found);
    }
    let status = answer.status();
    succeeded(what, answer, SMALL).await?;
    Err(error::strange(what, &format!("{status}, where a registry demands a token")))
}

impl std::fmt::Display for Asked<'_> {
    /// Without the query: there the registry keeps its state, signed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.url.path())
    }
}

fn bearer(token: &SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}

async fn send(request: RequestBuilder, what: &str) -> Result<Response> {
    request.send().await.map_err(|error| error::silent(what, error))
}

/// The headers and the body of an answer that is a success, and is not longer than it may be.
async fn succeeded(what: &str, mut answer: Response, largest: usize) -> Result<(HeaderMap, Vec<u8>)> {
    let status = answer.status();
    let headers = answer.headers().clone();
    let largest = if status.is_success() { largest } else { SMALL };
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error::silent(what, error))? {
        if body.len() + chunk.len() > largest {
            return Err(error::strange(what, &format!("it is longer than {largest} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() { Ok((headers, body)) } else { Err(error::refused(what, status, &body)) }
}

#[cfg(test)]
mod tests;
