//! A port of a pod on this machine's loopback, through the Kubernetes API: what `kubectl port-forward` does.
//!
//! ```text
//!   client ──► 127.0.0.1:PORT ──► WebSocket to the API server ──► kubelet ──► a ready pod of the Service
//! ```
//!
//! Each connection is a stream of its own. A Service is only looked at: its selector tells the pods, its port the port of the pod. When a pod
//! goes away its connections end, and the next one takes another pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use tokio::io::{DuplexStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use super::Cluster;

/// Open at one time; a browser keeps six.
const CONNECTIONS: usize = 64;
/// For the API server to open a stream.
const OPEN: Duration = Duration::from_secs(30);
/// When the system has no socket to give (EMFILE), before it is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A forwarded port. Dropped: the listener closes and its connections end.
pub struct Forward {
    address: SocketAddr,
    trouble: watch::Receiver<Option<String>>,
    _task: JoinSet<()>,
}

/// Where the connections go.
struct Target {
    cluster: Cluster,
    to: To,
    /// Where the last one went.
    last: Mutex<Option<(String, u16)>>,
}

enum To {
    Pod(String, u16),
    /// By number or name.
    Service(String, String),
}

impl Forward {
    /// To a port of one pod.
    ///
    /// # Errors
    /// When there is no loopback port to listen on. That there is no such pod shows with the first connection.
    pub async fn to_pod(cluster: &Cluster, pod: &str, port: u16) -> Result<Self> {
        Self::to(cluster, To::Pod(pod.to_owned(), port), 0).await
    }

    /// To a port of a Service, by its number or name, at a local port (0: any that is free).
    ///
    /// # Errors
    /// When there is no such Service, no such port, no ready pod behind it, or when the local port is taken.
    pub async fn to_service(cluster: &Cluster, service: &str, port: &str, local: u16) -> Result<Self> {
        Self::to(cluster, To::Service(service.to_owned(), port.to_owned()), local).await
    }

    async fn to(cluster: &Cluster, to: To, local: u16) -> Result<Self> {
        let target = Arc::new(Target { cluster: cluster.clone(), to, last: Mutex::new(None) });
        // A mistake is told here, not to a client that sees its connection end.
        target.pod(None).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await;
        let listener = listener.with_context(|| format!("127.0.0.1:{local} cannot be listened on"))?;
        let address = listener.local_addr()?;
        let (tell, trouble) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target, tell));
        Ok(Self { address, trouble, _task: task })
    }

    /// On loopback.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the last connection that failed did; clients only see it end.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

/// One stream to a port of a pod, without a listener. Safe to cancel.
///
/// # Errors
/// When there is no such pod, when we may not (`pods/portforward`), or when its kubelet cannot be reached.
pub async fn stream(cluster: &Cluster, pod: &str, port: u16) -> Result<DuplexStream> {
    let failed = || format!("no port-forward to {pod}:{port}");
    let opened = tokio::time::timeout(OPEN, cluster.api::<Pod>().portforward(pod, &[port])).await;
    let mut forwarder = opened.map_err(|_| anyhow!("the API server takes too long")).with_context(failed)?.with_context(failed)?;
    forwarder.take_stream(port).with_context(failed)
}

async fn accept(listener: TcpListener, target: Arc<Target>, tell: watch::Sender<Option<String>>) {
    let (room, tell) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(tell));
    let mut connections = JoinSet::new();
    loop {
        // Whoever comes beyond that waits in the listener's queue.
        let Ok(seat) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let (target, tell) = (Arc::clone(&target), Arc::clone(&tell));
                connections.spawn(async move {
                    if let Err(error) = target.carry(client).await {
                        tell.send_replace(Some(format!("{error:#}")));
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tell.send_replace(Some(format!("no connection can be accepted: {error}")));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Target {
    async fn carry(&self, mut client: TcpStream) -> Result<()> {
        let _ = client.set_nodelay(true);
        let mut upstream = self.connect().await?;
        // Either side may end as it likes; a pod that went away is found by the next connection.
        let _ = copy_bidirectional(&mut client, &mut upstream).await;
        Ok(())
    }

    async fn connect(&self) -> Result<DuplexStream> {
        let (pod, port) = self.pod(None).await?;
        match stream(&self.cluster, &pod, port).await {
            Err(_) if matches!(self.to, To::Service(..)) => {
                let (pod, port) = self.pod(Some(&pod)).await?;
                stream(&self.cluster, &pod, port).await
            }
            stream => stream,
        }
    }

    /// The pod of the last connection as long as it is ready, else another one.
    async fn pod(&self, failed: Option<&str>) -> Result<(String, u16)> {
        let (service, port) = match &self.to {
            To::Pod(pod, port) => return Ok((pod.clone(), *port)),
            To::Service(service, port) => (service, port),
        };
        let mut last = self.last.lock().await;
        if let Some((pod, port)) = last.as_ref().filter(|(pod, _)| failed.is_none_or(|failed| failed != pod)) {
            let there = self.cluster.api::<Pod>().get_opt(pod).await.map_err(self.cluster.told(&format!("look at the pod {pod}")))?;
            if there.as_ref().is_some_and(is_ready) {
                return Ok((pod.clone(), *port));
            }
        }
        let found = find(&self.cluster, service, port, failed).await?;
        *last = Some(found.clone());
        Ok(found)
    }
}

async fn find(cluster: &Cluster, name: &str, port: &str, but: Option<&str>) -> Result<(String, u16)> {
    let namespace = &cluster.namespace;
    let service = cluster.api::<Service>().get_opt(name).await.map_err(cluster.told(&format!("look at the Service {name}")))?;
    let service =
        service.with_context(|| format!("there is no Service {name} in the namespace {namespace}: is Harbor installed there?"))?;
    let spec = service.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let is_meant = |candidate: &&ServicePort| candidate.port.to_string() == port || candidate.name.as_deref() == Some(port);
    let target = ports.iter().find(is_meant).with_context(|| format!("Service {name} has no port {port}"))?;
    let labels = spec.selector.unwrap_or_default();
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    anyhow::ensure!(!labels.is_empty(), "Service {name} selects no pods");
    let pods = cluster.api::<Pod>().list(&ListParams::default().labels(&labels)).await;
    let pods = pods.map_err(cluster.told(&format!("list the pods behind the Service {name}")))?.items;
    // The one that just failed is taken only where there is no other.
    let mut ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
    ready.sort_by_key(|pod| pod.metadata.name.as_deref() == but);
    let all = pods.len();
    let pod =
        ready.first().with_context(|| format!("no pod behind Service {name} is ready (of {all}): `kubectl get pods -n {namespace}`"))?;
    let number = target_port(target, pod).with_context(|| format!("no container behind Service {name} has its port {port}"))?;
    Ok((pod.metadata.name.clone().unwrap_or_default(), number))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// A Service may call the port of its pods by name, and each pod may have another number for it.
fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|candidate| candidate.name.as_deref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_named_port_is_the_pods_own() {
        let pod = json!({ "metadata": {}, "spec": { "containers": [
            { "name": "a" },
            { "name": "b", "ports": [{ "containerPort": 9090, "name": "admin" }, { "containerPort": 8443, "name": "https" }] },
        ] } });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let port = |target: serde_json::Value| {
            let port = serde_json::from_value(json!({ "port": 443, "targetPort": target })).unwrap();
            target_port(&port, &pod)
        };
        assert_eq!(port(json!("https")), Some(8443));
        assert_eq!(port(json!(8080)), Some(8080));
        assert_eq!(port(json!(null)), Some(443));
        assert_eq!((port(json!("other")), port(json!(-1))), (None, None));
    }

    #[test]
    fn a_pod_that_leaves_is_not_ready() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        let pod = |metadata: serde_json::Value, status: &serde_json::Value| {
            is_ready(&serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap())
        };
        assert!(pod(json!({}), &ready));
        assert!(!pod(json!({ "deletionTimestamp": "2026-11-22T12:00:00Z" }), &ready));
        assert!(!pod(json!({}), &json!({ "conditions": [{ "type": "Ready", "status": "False" }] })));
        assert!(!pod(json!({}), &json!({})));
    }
}
