//! HTTP: a request comes in, its fault happens, the world changes, the answer goes out.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::oneshot;

use super::answer::{Answer, epoch, uuid};
use super::faults::{Fault, Faults, Happening, Moment, Seen};
use super::routes::{self, Call};
use super::world::{Event, World};

/// Of a request.
const LARGEST_BODY: usize = 1 << 20;

/// A request and what was answered. Passwords and secrets read `REDACTED`.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// From 1.
    pub number: usize,
    /// `GET` …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    /// `Null` where there was none.
    pub body: Value,
    /// What was answered by the world; `None` if it never came to that, or the fault was an answer of the test's own.
    pub answer: Option<(u16, Value)>,
}

/// Somebody who is told of [`Event`]s.
#[derive(Clone)]
pub struct Hook(pub(super) Arc<dyn Fn(&Event) + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What the thread and the test share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    token: String,
    hooks: Vec<Hook>,
}

/// All that changes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) faults: Faults,
    pub(super) log: Vec<Exchange>,
    pub(super) mutations: usize,
}

impl State {
    pub(super) fn new(world: World) -> Self {
        Self { world, ..Self::default() }
    }
}

pub(super) struct Running {
    pub(super) port: u16,
    /// Dropped: it ends.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) thread: JoinHandle<()>,
}

/// In a thread of its own.
pub(super) fn start(shared: Arc<Shared>) -> Result<Running> {
    // The kernel's choice: between a look for a free port and its use somebody else may take it.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the fake DigitalOcean cannot listen")?;
    let port = listener.local_addr()?.port();
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("digitalocean".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, shared) => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(Running { port, stop, thread })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let _ = connection.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| Arc::clone(&shared).serve(request));
            // A client that leaves, and a fault that cuts, end in an error here; both are meant.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

/// The connection is to end without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Shared {
    pub(super) fn new(state: State, token: String, hooks: Vec<Hook>) -> Self {
        Self { state: Mutex::new(state), token, hooks }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        super::lock(&self.state)
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|_| Cut)?.to_bytes();
        let is_ours =
            parts.headers.get("authorization").is_some_and(|value| value.as_bytes() == format!("Bearer {}", self.token).as_bytes());
        let call = Call::new(parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default(), &body);
        let (number, happening) = self.note(&call);
        let fault = happening.as_ref().map(|happening| happening.fault.clone());

        match (&fault, &happening) {
            (Some(Fault::Freeze(Moment::BeforeCommit)), Some(happening)) => happening.clone().hold().await,
            (Some(Fault::CutBefore), _) => return Err(Cut),
            (Some(Fault::Before(status)), _) => return Ok(respond(self.answered(number, Answer::error(*status, "Something went wrong.")))),
            (Some(Fault::Burst(seconds)), _) => return Ok(respond(self.answered(number, Answer::too_many(Some(*seconds))))),
            (Some(Fault::Hour(seconds)), _) => {
                let mut answer = Answer::too_many(None);
                answer.headers.push(("ratelimit-reset", (epoch() + seconds).to_string()));
                return Ok(respond(self.answered(number, answer)));
            }
            (Some(Fault::Answer { status, headers, body }), _) => return Ok(raw(*status, headers, body)),
            _ => {}
        }
        let answer = if is_ours { self.commit(&call).await } else { Answer::unauthorized() };
        let answer = self.answered(number, answer);
        match (fault, happening) {
            (Some(Fault::After(status)), _) => Ok(respond(Answer::error(status, "Something went wrong."))),
            (Some(Fault::CutAfter), _) => Err(Cut),
            (Some(Fault::Slow(time)), _) => {
                tokio::time::sleep(time).await;
                Ok(respond(answer))
            }
            (Some(Fault::Freeze(Moment::AfterCommit)), Some(happening)) => {
                happening.hold().await;
                Ok(respond(answer))
            }
            _ => Ok(respond(answer)),
        }
    }

    /// Its number, and what is to go wrong with it.
    fn note(&self, call: &Call) -> (usize, Option<Happening>) {
        let mut state = self.lock();
        let number = state.log.len() + 1;
        let changes = call.method != "GET";
        state.mutations += usize::from(changes);
        let mutation = changes.then_some(state.mutations);
        state.log.push(Exchange {
            number,
            method: call.method.clone(),
            path: call.path.clone(),
            query: call.query.clone(),
            body: redacted(call.body.clone()),
            answer: None,
        });
        let seen = Seen { request: number, mutation, method: &call.method, path: &call.path };
        (number, state.faults.take(&seen))
    }

    fn answered(&self, number: usize, answer: Answer) -> Answer {
        if let Some(exchange) = self.lock().log.get_mut(number - 1) {
            exchange.answer = Some((answer.status, redacted(answer.body.clone())));
        }
        answer
    }

    /// The change, at once and as a whole; then the hooks, outside of the lock, as they may block.
    async fn commit(&self, call: &Call) -> Answer {
        let (answer, events) = {
            let mut state = self.lock();
            let answer = routes::handle(&mut state.world, call);
            (answer, std::mem::take(&mut state.world.events))
        };
        if !events.is_empty() && !self.hooks.is_empty() {
            let hooks = self.hooks.clone();
            let told = tokio::task::spawn_blocking(move || {
                for event in &events {
                    hooks.iter().for_each(|hook| (hook.0)(event));
                }
            });
            if told.await.is_err() {
                return Answer::error(500, "a hook of the test panicked");
            }
        }
        answer
    }
}

fn redacted(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let is_secret = matches!(name.as_str(), "password" | "secret_key" | "uri") && value.is_string();
                let value = if is_secret { "REDACTED".into() } else { redacted(value) };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        other => other,
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut headers: Vec<(String, String)> = vec![
        ("x-request-id".to_owned(), uuid()),
        ("ratelimit-limit".to_owned(), "5000".to_owned()),
        ("ratelimit-remaining".to_owned(), "4816".to_owned()),
    ];
    if !answer.headers.iter().any(|(name, _)| *name == "ratelimit-reset") {
        headers.push(("ratelimit-reset".to_owned(), (epoch() + 600).to_string()));
    }
    headers.extend(answer.headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let body = if answer.body.is_null() {
        Vec::new()
    } else {
        headers.push(("content-type".to_owned(), "application/json; charset=utf-8".to_owned()));
        answer.body.to_string().into_bytes()
    };
    raw(answer.status, &headers, &body)
}

fn raw(status: u16, headers: &[(String, String)], body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::copy_from_slice(body))).unwrap_or_default()
}
