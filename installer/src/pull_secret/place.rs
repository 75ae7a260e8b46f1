//! Where a login is kept: a Secret in a namespace, or a file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams};
use secrecy::ExposeSecret;
use serde_json::json;

use super::kept::{MANAGED_BY, SCOPE, TYPE, annotations};
use super::{Found, Terms, docker, mark};
use crate::cluster::{Cluster, MANAGER};
use crate::harbor::Login;

const KEY: &str = ".dockerconfigjson";
/// Somebody else may change a service account at the same time.
const ATTEMPTS: usize = 5;

/// A Secret in a namespace of a cluster.
pub struct Room {
    cluster: Cluster,
    namespace: String,
    name: String,
    /// Of the cluster.
    mark: String,
}

impl Room {
    /// Namespaces that are there, and in each the service accounts that are to use the Secret: all of them are looked for first.
    ///
    /// # Errors
    /// With all that are not there.
    pub async fn find(cluster: &Cluster, namespaces: &[String], accounts: &[String], name: &str) -> Result<Vec<Self>> {
        let all: Api<Namespace> = Api::all(cluster.client.clone());
        let system = all
            .get("kube-system")
            .await
            .map_err(cluster.told("look at the namespace kube-system, which tells one cluster from another"))?;
        let mark = mark(system.metadata.uid.as_deref().context("the cluster's kube-system has no uid")?);
        let (mut rooms, mut missing) = (Vec::new(), Vec::new());
        for namespace in namespaces.iter().collect::<BTreeSet<_>>() {
            let room = Self { cluster: cluster.clone(), namespace: namespace.clone(), name: name.to_owned(), mark: mark.clone() };
            if all.get_opt(namespace).await.map_err(cluster.told(&format!("look at the namespace {namespace}")))?.is_none() {
                missing.push(format!("the namespace {namespace} (kubectl create namespace {namespace})"));
                continue;
            }
            for account in accounts {
                let found = room.api::<ServiceAccount>().get_opt(account).await;
                if found.map_err(cluster.told(&format!("look at the service account {namespace}/{account}")))?.is_none() {
                    missing.push(format!("the service account {namespace}/{account}"));
                }
            }
            rooms.push(room);
        }
        ensure!(missing.is_empty(), "not there: {}; nothing was done", missing.join(", "));
        Ok(rooms)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What the names of its robots begin with.
    #[must_use]
    pub fn robots(&self) -> String {
        format!("pull-{}-{}-", self.mark, self.namespace)
    }

    /// The login that is there.
    ///
    /// # Errors
    /// When a Secret of this name is somebody else's.
    pub async fn found(&self, registry: &str) -> Result<Option<Found>> {
        let secret = self.api::<Secret>().get_opt(&self.name).await;
        let Some(secret) = secret.map_err(self.cluster.told(&format!("read the Secret {}", self.path())))? else { return Ok(None) };
        let is_ours = secret.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER);
        if !is_ours || secret.type_.as_deref() != Some(TYPE) {
            bail!("the Secret {} is there and not of doks-harbor; say another --name, or delete it", self.path());
        }
        let config = secret.data.as_ref().and_then(|data| data.get(KEY));
        // One that somebody has broken is written anew.
        let login = config.and_then(|config| docker::read(&config.0, registry).ok().flatten());
        let scope = secret.metadata.annotations.and_then(|mut annotations| annotations.remove(SCOPE));
        Ok(login.map(|login| Found { login, scope: Some(scope.unwrap_or_default()) }))
    }

    /// Writes the login, and beside it which projects it is for and when it ends.
    ///
    /// # Errors
    /// When the API server refuses, or another manager owns the Secret.
    pub async fn keep(&self, registry: &str, login: &Login, terms: &Terms, expires: Option<i64>) -> Result<()> {
        let config = BASE64_STANDARD.encode(docker::write(registry, login).expose_secret());
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": self.name, "labels": { MANAGED_BY: MANAGER }, "annotations": annotations(terms, expires) },
            "type": TYPE,
            "data": { KEY: config },
        });
        // A person who has edited what is ours is overruled: `found` has seen whose it is.
        let how = PatchParams::apply(MANAGER).force();
        let applied = self.api::<Secret>().patch(&self.name, &how, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(self.cluster.told(&format!("write the Secret {}", self.path())))
    }

    /// Lets a service account use the Secret beside those that it uses already. Whether anything was changed.
    ///
    /// The list is one value to the API server (atomic), so it is read and written as a whole, and only if nobody else has written it meanwhile.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn use_in(&self, account: &str) -> Result<bool> {
        let (api, what) = (self.api::<ServiceAccount>(), format!("change the service account {}/{account}", self.namespace));
        for _ in 0..ATTEMPTS {
            let there = api.get(account).await.map_err(self.cluster.told(&what))?;
            let mut names: Vec<String> = there.image_pull_secrets.into_iter().flatten().map(|reference| reference.name).collect();
            if names.contains(&self.name) {
                return Ok(false);
            }
            names.push(self.name.clone());
            let names: Vec<_> = names.into_iter().map(|name| json!({ "name": name })).collect();
            let patch = json!({ "metadata": { "resourceVersion": there.metadata.resource_version }, "imagePullSecrets": names });
            let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match api.patch(account, &how, &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.cluster.told(&what)(error)),
            }
        }
        bail!("somebody else keeps changing the service account {}/{account}; run again", self.namespace)
    }
}

/// A file, or standard output.
pub struct File {
    path: PathBuf,
}

impl File {
    /// Not opened yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What the names of its robots begin with: this file of this machine.
    #[must_use]
    pub fn robots(&self) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        format!("pull-file-{}-", mark(&format!("{} {}", host.trim(), path.display())))
    }

    /// The login that is there.
    ///
    /// # Errors
    /// When the file cannot be read, or is something else.
    pub fn found(&self, registry: &str) -> Result<Option<Found>> {
        let shown = self.path.display();
        match fs::read(&self.path) {
            Ok(config) => {
                let login = docker::read(&config, registry).with_context(|| format!("{shown} is there already; name another file"))?;
                let login =
                    login.with_context(|| format!("{shown} is there already and has no login for {registry}; name another file"))?;
                Ok(Some(Found { login, scope: None }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{shown} cannot be read")),
        }
    }

    /// Writes the login in one go, for its owner alone.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn keep(&self, registry: &str, login: &Login) -> Result<()> {
        let shown = self.path.display();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(docker::write(registry, login).expose_secret().as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("{shown} cannot be written"))
    }
}
