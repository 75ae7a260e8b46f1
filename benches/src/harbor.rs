//! A small Harbor: the endpoints that the installer talks to, over TLS, on loopback. It keeps state, goes wrong as told, and its images are in
//! memory or in a real docker-registry behind it, whose tokens it signs. To clients it is one Harbor on one host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use crate::{Authority, Leaf, free_port};

mod api;
mod images;
mod server;
mod token;
mod upstream;
mod world;

pub use world::{Artifact, Collection, Fault, Permission, Project, Robot, World};

use crate::registry::{Registry, Tokens};

/// Of `admin`, to begin with.
pub const PASSWORD: &str = "Harbor12345";

/// How to start one.
#[derive(Default)]
pub struct Builder {
    name: Option<String>,
    real: bool,
    plain: bool,
    password: Option<String>,
}

/// A running Harbor; ends when dropped.
pub struct Harbor {
    port: u16,
    url: String,
    ca_pem: String,
    shared: Arc<Shared>,
    registry: Option<Registry>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the test share.
struct Shared {
    world: Mutex<World>,
    signer: token::Signer,
    /// `https://localhost:12345`, no slash.
    url: String,
    /// Of docker-registry.
    upstream: Option<u16>,
}

impl Builder {
    /// Its host name, as in its certificate and its external URL (port 443); without: localhost and its own port.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// With docker-registry behind it.
    #[must_use]
    pub const fn real(mut self) -> Self {
        self.real = true;
        self
    }

    /// Without TLS, as core is behind an ingress: it still calls itself by https.
    #[must_use]
    pub const fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Of `admin`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot listen, or docker-registry does not start.
    pub async fn start(self) -> Result<Harbor> {
        let port = free_port()?;
        let (authority, leaf) = (Authority::new()?, Leaf::server());
        let (url, leaf) = match &self.name {
            Some(name) => (format!("https://{name}"), leaf.names(&[name])),
            None => (format!("https://localhost:{port}"), leaf),
        };
        let signer = token::Signer::new()?;
        let registry = if self.real {
            let tokens = Tokens {
                realm: format!("{url}/service/token"),
                issuer: token::ISSUER.to_owned(),
                service: token::SERVICE.to_owned(),
                certificate: signer.certificate(),
            };
            Some(Registry::start(&tokens).await?)
        } else {
            None
        };
        let world = World::new(self.password.as_deref().unwrap_or(PASSWORD));
        let upstream = registry.as_ref().map(Registry::port);
        let shared = Arc::new(Shared { world: Mutex::new(world), signer, url: url.clone(), upstream });
        let issued = if self.plain { None } else { Some(authority.issue(&leaf)?) };
        let (stop, thread) = server::start(port, issued.as_ref(), Arc::clone(&shared)).context("the fake Harbor")?;
        Ok(Harbor { port, url, ca_pem: authority.ca_pem(), shared, registry, stop: Some(stop), thread: Some(thread) })
    }
}

impl Harbor {
    /// One that is not like the others.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// With images in memory.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What clients call it: `https://localhost:12345`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As in an image's name: `localhost:12345`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    /// Of 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// docker-registry, where there is one.
    #[must_use]
    pub const fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    /// Looks at what is there, or changes it.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.shared.lock())
    }
}

impl Drop for Harbor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
