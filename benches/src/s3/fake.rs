//! A small S3 in this process: enough of Ceph's gateway for tests that must be quick, with faults on demand.

mod operations;
mod signature;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Grant, OWNER};
use crate::wait::Frozen;
use store::{Key, Reply, Store};

/// What goes wrong from now on; counts go down as it happens.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Keys added later are not known for so many requests each.
    pub slow_keys: u32,
    /// Until then, every other request is let in: one gateway knows the key, another does not.
    pub flapping: bool,
    /// Buckets made later are not seen for so many requests each.
    pub slow_buckets: u32,
    /// So many wishes for a bucket are answered with 409 OperationAborted: its former self is still being deleted.
    pub aborted: u32,
    /// So many requests are answered with 503 SlowDown.
    pub busy: u32,
    /// So many requests are cut off unheard.
    pub cut: u32,
    /// So many requests are done, and cut off before they are answered.
    pub lose: u32,
    /// Every answer takes this much longer.
    pub delay: Duration,
    /// `If-None-Match` is ignored.
    pub unconditional: bool,
    /// What begins with this cannot be deleted.
    pub keep: Option<String>,
    /// Lists show nothing.
    pub blind: bool,
    /// Deletes are answered well and not done.
    pub forgetful: bool,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By access key: owner and grant.
    pub keys: BTreeMap<String, (String, Grant)>,
    /// By name.
    pub buckets: BTreeMap<String, Bucket>,
}

/// One bucket of a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Whose.
    pub owner: String,
    /// Current versions, by name.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// All versions and delete markers.
    pub versions: usize,
    /// Unfinished uploads.
    pub uploads: usize,
    /// The document, as it was put.
    pub lifecycle: Option<String>,
}

/// The running stand-in; gone when dropped.
pub struct Fake {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    /// Dropping it ends its connections.
    _server: JoinSet<()>,
}

impl Fake {
    /// An empty one, that knows no key.
    ///
    /// # Errors
    /// When nothing can be bound on loopback.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Mutex::new(Store::default()));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&store)));
        Ok(Self { address, store, _server: server })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a key of ours known.
    pub fn add_key(&self, access: &str, secret: &str, grant: Grant) {
        self.add_key_of(OWNER, access, secret, grant);
    }

    /// Makes a key of somebody known.
    pub fn add_key_of(&self, owner: &str, access: &str, secret: &str, grant: Grant) {
        let mut store = self.store();
        let unknown_for = store.faults.slow_keys;
        store.keys.insert(access.to_owned(), Key { owner: owner.to_owned(), secret: secret.to_owned(), grant, unknown_for });
    }

    /// Forgets a key; false when it was not known.
    pub fn remove_key(&self, access: &str) -> bool {
        self.store().keys.remove(access).is_some()
    }

    /// Puts an object into a bucket that exists, past keys and faults; false when it does not exist.
    pub fn put(&self, bucket: &str, object: &str, bytes: &[u8]) -> bool {
        let mut store = self.store();
        let id = store.id(bucket);
        let Some(bucket) = store.buckets.get_mut(bucket) else { return false };
        bucket.push(object, id, Some(Bytes::copy_from_slice(bytes)));
        true
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.store().faults = faults;
    }

    /// Does request number `n` of those that are signed well (from 1, since the start) and never answers it.
    pub fn hold_at(&self, n: usize) -> Frozen {
        let (told, tells) = watch::channel(false);
        self.store().hold = Some((n, told));
        Frozen::new(tells)
    }

    /// Method, bucket and object of every request that was signed well, in their order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.store().requests.clone()
    }

    /// What there is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.store().snapshot()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }
}

fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, store: Arc<Mutex<Store>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let store = Arc::clone(&store);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &store));
            // The client's business.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error here closes the connection without an answer.
async fn answer(request: Request<Incoming>, store: &Mutex<Store>) -> io::Result<Response<Full<Bytes>>> {
    let cut = || io::Error::other("cut");
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let delay = locked(store).faults.delay;
    tokio::time::sleep(delay).await;

    let (reply, lost, held) = {
        let mut store = locked(store);
        if take(&mut store.faults.cut) {
            return Err(cut());
        }
        let reply =
            if take(&mut store.faults.busy) { Reply::error(503, "SlowDown") } else { operations::perform(&mut store, &head, &body) };
        let held = store.hold.as_ref().is_some_and(|(n, _)| *n == store.requests.len());
        (reply, take(&mut store.faults.lose), held.then(|| store.hold.take()).flatten())
    };
    if let Some((_, told)) = held {
        told.send_replace(true);
        return std::future::pending().await;
    }
    if lost {
        return Err(cut());
    }
    let response = Response::builder().status(reply.status).header("x-amz-request-id", "tx00000fake").body(Full::new(reply.body));
    response.map_err(io::Error::other)
}

/// One fewer; false when there was none left.
fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}
