//! TLS and HTTP: a request comes in, its fault happens, the world changes, the answer goes out.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::images::{self, Place};
use super::world::Caller;
use super::{Shared, api, upstream};
use crate::certs::Issued;

/// Of a request.
const LARGEST_BODY: usize = 16 << 20;

/// A request, whole.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) raw_query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) login: Option<(String, String)>,
    pub(super) bearer: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    pub(super) fn query(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.raw_query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(super) const fn is_logged_in(&self) -> bool {
        self.login.is_some() || self.bearer.is_some()
    }
}

impl Reply {
    pub(super) fn new(status: u16, body: &str) -> Self {
        Self::bytes(status, body.as_bytes().to_vec())
    }

    pub(super) const fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, &body.to_string()).header("content-type", "application/json; charset=utf-8")
    }

    /// As Harbor says it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// In a thread of its own.
pub(super) fn start(port: u16, issued: Option<&Issued>, shared: Arc<Shared>) -> Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let tls = issued.map(acceptor).transpose()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("it cannot listen")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("harbor".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, tls, shared) => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok((stop, thread))
}

fn acceptor(issued: &Issued) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let _ = connection.set_nodelay(true);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(connection) = tls.accept(connection).await {
                        shared.converse(connection).await;
                    }
                }
                None => shared.converse(connection).await,
            }
        });
    }
}

impl Shared {
    async fn converse(self: Arc<Self>, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| Arc::clone(&self).serve(request));
        // A client that leaves ends in an error here.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let reply = match read(request).await {
            Some(asked) => {
                let reply = self.answer(&asked).await;
                self.lock().log.push(format!("{} {} {}", asked.method, asked.path, reply.status));
                reply
            }
            None => Reply::error(400, "BAD_REQUEST", "half a request"),
        };
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap_or_default())
    }

    async fn answer(&self, asked: &Asked) -> Reply {
        if let Some(fault) = self.lock().take_fault(&asked.method, &asked.path) {
            return Reply::error(fault.status, "FAULT", &fault.message);
        }
        if asked.path == "/service/token" {
            return self.token(asked);
        }
        if asked.path.starts_with("/bucket/") {
            return images::bucket(&self.lock(), asked);
        }
        if !asked.path.starts_with("/v2/") {
            return api::answer(&mut self.lock(), asked, &self.url);
        }
        let reply = match self.upstream {
            Some(port) => match upstream::pass(port, asked).await {
                // Core says it in front of the registry.
                Ok(reply) if reply.status == 401 && asked.is_logged_in() => {
                    Reply::error(401, "UNAUTHORIZED", "unauthorized to access repository").header("www-authenticate", images::BASIC)
                }
                Ok(reply) => reply,
                Err(error) => Reply::error(502, "BAD_GATEWAY", &format!("{error:#}")),
            },
            None => images::serve(&mut self.lock(), asked, &self.url),
        };
        if let (201, "PUT", Some(Place::Manifest(repository, reference))) = (reply.status, asked.method.as_str(), Place::of(&asked.path)) {
            self.lock().note_manifest(repository, reference, &asked.body);
        }
        reply
    }

    fn token(&self, asked: &Asked) -> Reply {
        let now = now();
        let mut world = self.lock();
        let login = asked.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        let caller = world.caller(login, now);
        // As Harbor does: a login that is wrong gets a token, too, but one that is good for nothing.
        let is_login = !asked.raw_query.contains("scope=");
        if is_login && matches!(caller, Caller::Stranger | Caller::Nobody) {
            return Reply::error(401, "UNAUTHORIZED", "unauthorized");
        }
        let mut grants = Vec::new();
        let mut access = Vec::new();
        let scopes = form_urlencoded::parse(asked.raw_query.as_bytes()).filter(|(name, _)| name == "scope");
        for (_, scope) in scopes {
            let parts: Vec<&str> = scope.split(':').collect();
            let [kind, name, actions] = parts.as_slice() else { continue };
            let may = world.may(&caller, name, &actions.split(',').collect::<Vec<_>>());
            grants.extend(may.iter().map(|action| ((*name).to_owned(), action.clone())));
            access.push(json!({ "type": kind, "name": name, "actions": may }));
        }
        let id = world.number();
        let subject = login.map_or("", |(user, _)| user);
        let Ok(token) = self.signer.sign(subject, &access.into(), now, id) else {
            return Reply::error(500, "INTERNAL_SERVER_ERROR", "no token");
        };
        world.images.tokens.insert(token.clone(), grants);
        Reply::json(200, &json!({ "token": token, "access_token": "", "expires_in": 1800, "issued_at": "2026-01-01T00:00:00Z" }))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

async fn read(request: Request<Incoming>) -> Option<Asked> {
    let (parts, body) = request.into_parts();
    let mut content = Vec::new();
    let body = Limited::new(body, LARGEST_BODY).collect().await.ok()?.to_bytes();
    body.as_ref().read_to_end(&mut content).ok()?;
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = text("authorization").unwrap_or_default();
    let login = authorization.strip_prefix("Basic ").and_then(|login| BASE64_STANDARD.decode(login).ok());
    let login = login.and_then(|login| String::from_utf8(login).ok());
    let login = login.and_then(|login| login.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned())));
    let headers = parts.headers.iter();
    Some(Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect(),
        login,
        bearer: authorization.strip_prefix("Bearer ").map(str::to_owned),
        body: content,
    })
}
