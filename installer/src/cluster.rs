//! The DOKS cluster by its Kubernetes API: what we put there, and how it is doing. Knows neither spec nor plan.
//!
//! | file | what |
//! |---|---|
//! | `access` | the way in |
//! | `check` | which cluster it is, and what we may do there |
//! | `objects`, `diff` | what would change, and the change: server-side apply under one field manager ([`MANAGER`]) |
//! | `exposure` | ingress classes, and the certificate of Harbor's name |
//! | `lease` | one run at a time |
//! | `vault` | the keyring's home |
//! | `job` | what runs once, inside |
//! | `forward` | a port of a pod on this machine |
//! | `follow`, `rollout` | how pods come up, and why one does not |
//! | `proxies` | the proxy of each node, and what it says of itself |
//! | `problem` | errors, with their cures |
//!
//! Everything is written by server-side apply, so that the API server itself says what is ours, what has drifted, and what belongs to
//! somebody else.

use anyhow::{Context, Result};
use kube::Api;
use kube::core::NamespaceResourceScope;

mod access;
pub mod check;
mod diff;
pub mod exposure;
mod follow;
pub mod forward;
pub mod job;
pub mod lease;
pub mod objects;
mod problem;
pub mod proxies;
pub mod rollout;
pub mod vault;

pub use access::Access;
pub use forward::Forward;

/// Our field manager.
pub const MANAGER: &str = "doks-harbor";

/// A cluster, and the namespace in it that Harbor and the proxy share. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// Logged in.
    pub client: kube::Client,
    /// Harbor's and the proxy's.
    pub namespace: String,
    /// How it was reached: also for helm and kubectl.
    pub access: Access,
}

impl Cluster {
    /// Does not talk to it yet.
    ///
    /// # Errors
    /// When the authority or the address is malformed.
    pub fn new(access: Access, namespace: &str) -> Result<Self> {
        let client = kube::Client::try_from(access.config()?).context("the Kubernetes API cannot be used")?;
        Ok(Self { client, namespace: namespace.to_owned(), access })
    }

    /// Objects of a kind, in our namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
