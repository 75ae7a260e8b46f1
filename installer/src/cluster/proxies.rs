//! The proxies, node by node: the pod, and what its own `/status` says of its servers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde::{Deserialize, Serialize};

use super::Cluster;
use super::forward;
use super::rollout::reason::{Reason, is_ready, node, reason};

/// Of the DaemonSet and its pods.
const NAME: &str = "redis-tls-proxy";
const LABEL: &str = "app.kubernetes.io/name=redis-tls-proxy";
const ADMIN_PORT: u16 = 9090;
/// For one answer; all are asked side by side.
const ANSWER: Duration = Duration::from_secs(15);
/// Asked at a time: each is a stream through the API server.
const SIDE_BY_SIDE: usize = 16;
const MOST_BYTES: usize = 1 << 20;

/// What is there of the proxy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Proxies {
    /// Nodes that it is wanted on; `None`: it is not deployed.
    pub wanted: Option<i32>,
    /// By node.
    pub pods: Vec<Proxy>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct Proxy {
    /// Where.
    pub node: String,
    /// Its pod.
    pub pod: String,
    /// Whether clients reach it.
    pub ready: bool,
    /// Why it does not run, or not quite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Told>,
}

/// The part of `/status` that matters here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Told {
    /// Of the program.
    pub version: String,
    /// `starting`, `ready`, `draining`.
    pub state: String,
    /// When it was asked, Unix seconds.
    pub now: i64,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
}

/// A server behind it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listener {
    /// `valkey`, `postgresql`.
    pub name: String,
    /// `multiplex`, `transaction` …
    pub pool_mode: String,
    /// `host:port`.
    pub upstream: String,
    /// Its clients.
    pub clients: Clients,
    /// By what they are doing: `idle`, `leased`, `lane`, `connecting`.
    pub upstream_connections: BTreeMap<String, u64>,
    /// The server's.
    pub upstream_certificate: Option<Certificate>,
    /// The latest.
    pub last_error: Option<LastError>,
}

/// Of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Clients {
    /// Now.
    pub open: u64,
    /// Turned away since it started.
    pub rejected: u64,
}

/// Of a server.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Certificate {
    /// Negative: it has expired.
    pub days_left: i64,
}

/// Fit for a log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LastError {
    /// Who has to act: `client`, `upstream`, `proxy`.
    pub side: String,
    /// The line that was logged.
    pub message: String,
    /// Unix seconds.
    pub at: i64,
}

impl Proxies {
    /// Asks the cluster, and each that is ready.
    ///
    /// # Errors
    /// When the cluster cannot be asked. A proxy that does not answer is a trouble of its own.
    pub async fn look(cluster: &Cluster) -> Result<Self> {
        let set = cluster.api::<DaemonSet>().get_opt(NAME).await.map_err(cluster.told(&format!("read the DaemonSet {NAME}")))?;
        let pods = cluster.api::<Pod>().list(&ListParams::default().labels(LABEL)).await.map_err(cluster.told("list the proxies"))?;
        let wanted = set.and_then(|set| set.status).map(|status| status.desired_number_scheduled);
        let asked = futures_util::stream::iter(pods.items.iter().map(|pod| proxy(cluster, pod)));
        let mut pods: Vec<_> = asked.buffer_unordered(SIDE_BY_SIDE).collect().await;
        pods.sort_by(|a: &Proxy, b: &Proxy| (&a.node, &a.pod).cmp(&(&b.node, &b.pod)));
        Ok(Self { wanted, pods })
    }

    /// The proxies that clients reach.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready).count()
    }
}

async fn proxy(cluster: &Cluster, pod: &Pod) -> Proxy {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let ready = is_ready(pod);
    let mut proxy = Proxy { node: node(pod), pod: name, ready, trouble: None, status: None };
    if !ready {
        proxy.trouble = Some(match reason(pod) {
            Reason::Obstacle(why) => why,
            Reason::NotReady => "it runs and is not ready".to_owned(),
            Reason::Starting => "it is starting".to_owned(),
        });
        return proxy;
    }
    let asked = tokio::time::timeout(ANSWER, status(cluster, &proxy.pod)).await;
    match asked.unwrap_or_else(|_| bail_late()) {
        Ok(told) => proxy.status = Some(told),
        Err(error) => proxy.trouble = Some(format!("its status cannot be read: {error:#}")),
    }
    proxy
}

fn bail_late() -> Result<Told> {
    bail!("no answer within {ANSWER:?}")
}

/// `GET /status`, through the API server to the pod's admin port.
async fn status(cluster: &Cluster, pod: &str) -> Result<Told> {
    let stream = forward::stream(cluster, pod, ADMIN_PORT).await?;
    let (mut ask, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get("/status").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let answered = async {
        let answer = ask.send_request(request).await?;
        if !answer.status().is_success() {
            bail!("it answers {}", answer.status());
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its answer breaks off: {error}"))?;
        serde_json::from_slice(&body.to_bytes()).context("its answer is not what it should be")
    };
    tokio::select! {
        told = answered => told,
        ended = connection => { ended?; bail!("the connection ended before the answer") }
    }
}
