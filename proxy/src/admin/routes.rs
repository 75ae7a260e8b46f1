//! From a request to an answer: the table of paths and methods, and what each of them says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};

use super::Control;
use super::guard::{Caller, may_control};
use super::page;

/// The longest body of `PUT /log-level`.
const MAX_DIRECTIVE_BYTES: usize = 256;

type Answer = Response<Full<Bytes>>;

/// Answers requests; one for the whole server.
pub(super) struct Routes {
    control: Arc<dyn Control>,
    body_timeout: Duration,
    page_policy: HeaderValue,
}

/// Everything there is.
#[derive(Clone, Copy)]
enum Path {
    Page,
    Status,
    Metrics,
    Startup,
    Readiness,
    Liveness,
    Drain,
    LogLevel,
}

impl Path {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            "/startup" => Self::Startup,
            "/readiness" => Self::Readiness,
            "/liveness" => Self::Liveness,
            "/drain" => Self::Drain,
            "/log-level" => Self::LogLevel,
            _ => return None,
        })
    }

    /// What the `Allow` header of a 405 says.
    fn methods(self) -> &'static str {
        match self {
            Self::Page | Self::Status | Self::Metrics | Self::Startup | Self::Readiness | Self::Liveness => "GET, HEAD",
            Self::Drain => "POST",
            Self::LogLevel => "GET, HEAD, PUT",
        }
    }
}

impl Routes {
    pub(super) fn new(control: Arc<dyn Control>, body_timeout: Duration) -> Self {
        Self { control, body_timeout, page_policy: page_policy() }
    }

    pub(super) fn tick(&self) {
        self.control.tick();
    }

    /// Never fails and never waits for anything but the request's own body. hyper leaves the body out of answers to HEAD.
    pub(super) async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let Some(path) = Path::find(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "not found; there are / /status /metrics /startup /readiness /liveness /log-level /drain");
        };
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, request.method()) {
            (Path::Page, _) if reads => self.page(),
            (Path::Status, _) if reads => self.status(),
            (Path::Metrics, _) if reads => with_type(self.control.metrics(), "text/plain; version=0.0.4; charset=utf-8"),
            (Path::Startup, _) if reads => probe(self.control.started()),
            (Path::Readiness, _) if reads => probe(self.control.ready()),
            (Path::Liveness, _) if reads => probe(self.control.alive()),
            (Path::LogLevel, _) if reads => text(StatusCode::OK, self.control.log_level()),
            (Path::Drain, &Method::POST) => self.drain(peer, request.headers()),
            (Path::LogLevel, &Method::PUT) => self.set_log_level(peer, request).await,
            _ => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {}", path.methods()));
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(path.methods()));
                answer
            }
        }
    }

    fn page(&self) -> Answer {
        let mut answer = with_type(page::render(&self.control.snapshot()), "text/html; charset=utf-8");
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.page_policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        answer
    }

    fn status(&self) -> Answer {
        match serde_json::to_string(&self.control.snapshot()) {
            Ok(json) => with_type(json, "application/json"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the status cannot be written: {error}")),
        }
    }

    fn drain(&self, peer: SocketAddr, headers: &HeaderMap) -> Answer {
        if let Err(why) = may_control(&caller(peer, headers)) {
            return text(StatusCode::FORBIDDEN, why);
        }
        tracing::info!(%peer, "drain asked for");
        self.control.drain();
        text(StatusCode::ACCEPTED, "draining")
    }

    async fn set_log_level(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        if let Err(why) = may_control(&caller(peer, request.headers())) {
            return text(StatusCode::FORBIDDEN, why);
        }
        let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, format!("a filter has at most {MAX_DIRECTIVE_BYTES} bytes"));
        // Said before the body is sent, if the request tells its length.
        if request.body().size_hint().lower() > MAX_DIRECTIVE_BYTES as u64 {
            return too_large();
        }
        let body = Limited::new(request.into_body(), MAX_DIRECTIVE_BYTES);
        let body = match tokio::time::timeout(self.body_timeout, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return too_large(),
            Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the body ended early"),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        };
        let Ok(directive) = std::str::from_utf8(&body) else {
            return text(StatusCode::BAD_REQUEST, "the filter is not UTF-8");
        };
        match self.control.set_log_level(directive.trim()) {
            Ok(()) => text(StatusCode::OK, self.control.log_level()),
            Err(why) => text(StatusCode::BAD_REQUEST, why),
        }
    }
}

/// 200 `ok`, or 503 with the reason.
fn probe(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// One line of text.
fn text(status: StatusCode, line: impl Into<String>) -> Answer {
    let mut line = line.into();
    line.push('\n');
    let mut answer = with_type(line, "text/plain; charset=utf-8");
    *answer.status_mut() = status;
    answer
}

fn with_type(body: String, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// What of the request decides whether it may control the process.
fn caller(peer: SocketAddr, headers: &HeaderMap) -> Caller<'_> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    Caller { peer, host, origin: only(headers, header::ORIGIN) }
}

/// A header's value; several of them, or one that is not text, become a value that matches nothing.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
}

/// The page may run its own script, show its own style and fetch itself: nothing else, not even from the same origin.
fn page_policy() -> HeaderValue {
    let hash = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        base64::engine::general_purpose::STANDARD.encode(digest)
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(page::STYLE),
        hash(page::SCRIPT)
    );
    // Base64 and ASCII words make a valid value; the fallback only forbids more.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}
