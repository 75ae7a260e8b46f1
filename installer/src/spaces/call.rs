//! One call: signed, sent, tried again, its refusal understood.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, Response, Url};
use rusty_s3::actions::{DeleteObject, DeleteObjects, GetObject, HeadObject, ObjectIdentifier, PutObject};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use secrecy::ExposeSecret;

use super::xml::Element;
use super::{Error, Result, Spaces};

/// The gateway does not look at it, Amazon's rules for new buckets want this one.
const REGION: &str = "us-east-1";
/// How long a signature holds: for one attempt, and for a clock that is not quite right.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// About 15 s in all with the pauses below, which is what a gateway needs to be replaced.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A page of a thousand names, each of them a kilobyte that is written as three.
const ANSWER_LIMIT: usize = 8 << 20;

/// What to ask of a bucket or of an object in it.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    bucket: &'a str,
    object: &'a str,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    limit: usize,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, bucket: &'a str) -> Self {
        Self { method, bucket, object: "", query: Vec::new(), headers: Vec::new(), body: Vec::new(), limit: ANSWER_LIMIT }
    }

    pub(super) fn object(mut self, object: &'a str) -> Self {
        self.object = object;
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// A longer answer is an error.
    pub(super) fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The URL with everything in it, signature included: for the wire alone.
    fn signed(&self, endpoint: &Url, credentials: &Credentials) -> Result<Url> {
        // URLs resolve these, at the latest in the client: the call would reach another object, or another bucket.
        if self.object.split('/').any(|part| part == "." || part == "..") {
            return Err(Error::Name { bucket: self.bucket.to_owned(), object: self.object.to_owned() });
        }
        let bucket = Bucket::new(endpoint.clone(), UrlStyle::Path, self.bucket.to_owned(), REGION)
            .map_err(|_| Error::Endpoint { endpoint: endpoint.to_string() })?;
        let credentials = Some(credentials);
        // Without an object's name, a call on an object is one on the bucket.
        Ok(match self.method {
            Method::GET => self.url(GetObject::new(&bucket, credentials, self.object)),
            Method::HEAD => self.url(HeadObject::new(&bucket, credentials, self.object)),
            Method::PUT => self.url(PutObject::new(&bucket, credentials, self.object)),
            Method::DELETE => self.url(DeleteObject::new(&bucket, credentials, self.object)),
            _ => self.url(DeleteObjects::new(&bucket, credentials, std::iter::empty::<&ObjectIdentifier>())),
        })
    }

    fn url<'s: 'q, 'q>(&'s self, mut action: impl S3Action<'q>) -> Url {
        for (name, value) in &self.query {
            action.query_mut().insert(*name, value.as_str());
        }
        action.sign(SIGNED_FOR)
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.bucket)?;
        if !self.object.is_empty() {
            write!(f, "/{}", self.object)?;
        }
        Ok(())
    }
}

impl Answer {
    /// The document in it.
    pub(super) fn xml(&self, call: &Call<'_>) -> Result<Element> {
        let text = std::str::from_utf8(&self.body).map_err(|_| Error::malformed(call, "it is not text"))?;
        Element::parse(text).map_err(|why| Error::malformed(call, why))
    }
}

impl Spaces {
    /// Sends it until the server has made up its mind, within bounds.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.send_once(call).await {
                Err(error) if error.is_passing() => {}
                result => return result,
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.send_once(call).await
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Answer> {
        let credentials = Credentials::new(self.keys.access_key.clone(), self.keys.secret_key.expose_secret());
        let url = call.signed(&self.endpoint, &credentials)?;
        let mut request = self.http.request(call.method.clone(), url).timeout(TIMEOUT).body(call.body.clone());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let lost = |error: reqwest::Error| Error::Unreachable { call: call.to_string(), why: causes(&error.without_url()) };
        let mut response = request.send().await.map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > call.limit {
                return Err(Error::malformed(call, format!("it is longer than {} bytes", call.limit)));
            }
            body.extend_from_slice(&chunk);
        }
        if response.status().is_success() { Ok(Answer { body }) } else { Err(refusal(call, &response, &body)) }
    }
}

/// From half to all of it, so that callers who failed together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn refusal(call: &Call<'_>, response: &Response, body: &[u8]) -> Error {
    let document = std::str::from_utf8(body).ok().and_then(|text| Element::parse(text).ok());
    let said = |name| document.as_ref().and_then(|document| document.text_of(name)).filter(|text| !text.is_empty());
    let header = response.headers().get("x-amz-request-id").and_then(|id| id.to_str().ok());
    let status = response.status();
    // Nobody answers a HEAD, or a balancer's own error page, with a code.
    let code = said("Code").or_else(|| status.canonical_reason()).unwrap_or("unknown");
    Error::Refused {
        call: call.to_string(),
        status: status.as_u16(),
        code: code.to_owned(),
        request_id: said("RequestId").or(header).map(str::to_owned),
    }
}

/// An error and what is behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
