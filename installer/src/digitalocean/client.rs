//! The one way to the API: token, deadlines, rate limits, and what may be sent twice.
//!
//! | part | knows |
//! |---|---|
//! | [`words`] | how to read an answer that may be anything, without repeating a secret |
//! | [`limits`] | when a rate limit is free again |
//! | [`retry`] | what is tried again, and when |
//! | [`pages`] | where a list goes on |
//!
//! Every call can be dropped at any moment: nothing is kept between two of them.

mod limits;
mod pages;
mod retry;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

pub use retry::Patience;

use super::{Error, Result};
use retry::{Outcome, Safety, Verdict};

/// Of an answer; the largest list is far below.
const LARGEST: usize = 8 << 20;
/// The most that the API gives of a list at once.
const PAGE: &str = "per_page=200";

/// One token at one API.
pub struct Client {
    base: Result<String, &'static str>,
    token: SecretString,
    http: reqwest::Client,
    patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Client {
    /// For `https://api.digitalocean.com`, or another place that speaks like it (`http://127.0.0.1:4010`). `http` is best made by
    /// [`crate::http::client`]. A base that the token must not go to is told by the first call.
    #[must_use]
    pub fn new(base: &str, token: SecretString, http: reqwest::Client) -> Self {
        Self { base: checked(base), token, http, patience: Patience::default() }
    }

    /// Waits differently; for tests.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Safety::Again, Method::GET, path, None::<&()>).await
    }

    /// The list in this field, where the API's document knows no pages; it may have some nevertheless.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str, field: &'static str) -> Result<Vec<T>> {
        self.follow(path, String::new(), field, pages::items).await
    }

    /// All pages of the list in this field. `query` is more than the pages, or empty.
    pub(super) async fn pages<T: DeserializeOwned>(&self, path: &str, query: &str, field: &'static str) -> Result<Vec<T>> {
        let query = if query.is_empty() { PAGE.to_owned() } else { format!("{query}&{PAGE}") };
        self.follow(path, query, field, pages::items_of_page).await
    }

    async fn follow<T>(&self, path: &str, query: String, field: &'static str, items_of: pages::Items<T>) -> Result<Vec<T>> {
        let malformed = |why: String| Error::malformed(format!("GET {path}"), why);
        let (mut items, mut trail) = (Vec::new(), pages::Trail::from(query));
        loop {
            let query = trail.here();
            let url = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            let mut answer: Map<String, Value> = self.get(&url).await?;
            items.extend(items_of(&mut answer, field).map_err(malformed)?);
            if !trail.go_on(path, &answer).map_err(malformed)? {
                return Ok(items);
            }
        }
    }

    pub(super) async fn put<B: Serialize>(&self, path: &str, body: &B) -> Result<()> {
        self.call::<_, Option<IgnoredAny>>(Safety::Again, Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Sets what is named and leaves the rest, so it may be done twice.
    pub(super) async fn patch<B: Serialize>(&self, path: &str, body: &B) -> Result<()> {
        self.call::<_, Option<IgnoredAny>>(Safety::Again, Method::PATCH, path, Some(body)).await.map(drop)
    }

    /// Gone already is done.
    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        match self.call::<(), Option<IgnoredAny>>(Safety::Again, Method::DELETE, path, None).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sent once, from the moment on when it may have been done: [`Error::Lost`] when nobody knows.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.call(Safety::Once, Method::POST, path, Some(body)).await
    }

    /// For what may be done twice.
    pub(super) async fn post_again<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.call(Safety::Again, Method::POST, path, Some(body)).await
    }

    /// For what may be done twice and answers nothing.
    pub(super) async fn post_empty<B: Serialize>(&self, path: &str, body: &B) -> Result<()> {
        self.call::<_, Option<IgnoredAny>>(Safety::Again, Method::POST, path, Some(body)).await.map(drop)
    }

    /// Before something is tried again that was looked up in between.
    pub(super) async fn pause(&self, tries: u32) {
        tokio::time::sleep(self.patience.backoff(tries)).await;
    }

    async fn call<B: Serialize, T: DeserializeOwned>(&self, safety: Safety, method: Method, path: &str, body: Option<&B>) -> Result<T> {
        let bare = path.split_once('?').map_or(path, |(path, _)| path);
        let call = format!("{method} {bare}");
        let unreachable = |why: String| Error::Unreachable { call: call.clone(), why };
        let base = self.base.as_ref().map_err(|why| unreachable((*why).to_owned()))?;
        let mut request = self.http.request(method.clone(), format!("{base}{path}")).timeout(self.patience.answer);
        request = request.bearer_auth(self.token.expose_secret()).header("accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        let request = request.build().map_err(|error| unreachable(words::of_error(error)))?;
        let mut tries = 0;
        loop {
            tries += 1;
            // A body in memory can always be cloned.
            let Some(attempt) = request.try_clone() else { return Err(unreachable("it cannot be sent twice".to_owned())) };
            let outcome = self.attempt(attempt).await;
            match retry::decide(safety, &outcome, tries, &self.patience) {
                Verdict::Wait(time) => tokio::time::sleep(time).await,
                Verdict::Done => return self.conclude(safety, call, outcome),
            }
        }
    }

    async fn attempt(&self, request: reqwest::Request) -> Outcome {
        let mut response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Outcome::Unreachable(words::of_error(error)),
            Err(error) => return Outcome::Lost(words::of_error(error)),
        };
        let (status, request_id) = (response.status(), words::header(&response, "x-request-id"));
        let free_in = (status == StatusCode::TOO_MANY_REQUESTS).then(|| limits::free_in(response.headers(), now())).flatten();
        match whole(&mut response).await {
            Ok(body) => Outcome::Answer { status, request_id, free_in, body },
            Err(why) => Outcome::Lost(why),
        }
    }

    fn conclude<T: DeserializeOwned>(&self, safety: Safety, call: String, outcome: Outcome) -> Result<T> {
        let (status, request_id, free_in, body) = match outcome {
            Outcome::Answer { status, request_id, free_in, body } => (status, request_id, free_in, body),
            Outcome::Unreachable(why) => return Err(Error::Unreachable { call, why }),
            Outcome::Lost(why) => return Err(Error::Lost { call, why }),
        };
        if status.is_success() {
            let body = if body.is_empty() { b"null" } else { &body[..] };
            return serde_json::from_slice(body).map_err(|error| Error::malformed(call, words::unreadable(&error)));
        }
        let words::Refusal { id, mut message, request_id } = words::refusal(status, &body, request_id, self.token.expose_secret());
        if safety == Safety::Once && retry::is_trouble(status) {
            // Databases have been found made although the answer was 500.
            let request = request_id.map_or_else(String::new, |id| format!(", request {id}"));
            return Err(Error::Lost { call, why: format!("{message} ({} {id}{request})", status.as_u16()) });
        }
        if let Some(wait) = free_in {
            message = limits::explain(&message, wait);
        }
        Err(Error::Refused { call, status: status.as_u16(), id, message, request_id })
    }
}

/// A name as one part of a path, or as a value in a query.
pub(super) fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// The token goes nowhere in clear but to this machine.
fn checked(base: &str) -> Result<String, &'static str> {
    let url = Url::parse(base).map_err(|_| "the address of the API is no URL; expected https://api.digitalocean.com")?;
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address of the API must hold no login: the token is the login");
    }
    match url.scheme() {
        "https" => {}
        "http" if is_here => {}
        _ => return Err("the address of the API must begin with https://, or the token would travel in clear"),
    }
    Ok(base.trim_end_matches('/').to_owned())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The body, as far as it is bearable.
async fn whole(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(words::of_error)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(format!("the answer is larger than {} MiB", LARGEST >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_travels_in_clear_only_to_this_machine() {
        for good in ["https://api.digitalocean.com", "http://127.0.0.1:4010/", "http://localhost:1", "http://[::1]:80"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["http://api.digitalocean.com", "http://127.0.0.1.example.com", "ftp://localhost", "api", "https://a:b@example.com"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(encoded("harbor_2.b~-X"), "harbor_2.b~-X");
        assert_eq!(encoded("../a?b=c&d e/ü"), "..%2Fa%3Fb%3Dc%26d%20e%2F%C3%BC");
    }
}
