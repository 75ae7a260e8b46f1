//! The keyring's home: a Secret in our namespace. The folder on a machine is a copy, so that a lost laptop loses nothing.
//!
//! [`pull`] brings the folder up to date and writes nothing to the cluster; [`push`] writes what only the folder has. Both go entry by entry
//! ([`crate::keyring::sync`]), and what was changed in both places since they were the same is for a person to decide.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::{Cluster, MANAGER, problem};
use crate::keyring::sync::{Hashes, Sync, compare, hash};
use crate::keyring::{Entry, ID, Keyring};
use crate::render::secrets::encoded;

/// The Secret.
pub const NAME: &str = "doks-harbor-keyring";

/// What is in the cluster.
pub struct Vault {
    /// Of the keyring that it is the home of.
    pub id: String,
    entries: BTreeMap<Entry, SecretString>,
    version: Option<String>,
}

impl Vault {
    /// Reads it; `None` where there is none, or no namespace yet.
    ///
    /// # Errors
    /// When it may not be read, or is damaged.
    pub async fn read(cluster: &Cluster) -> Result<Option<Self>> {
        let found = cluster.api::<Secret>().get_opt(NAME).await.map_err(cluster.told(&format!("read the Secret {NAME}")))?;
        let Some(secret) = found else { return Ok(None) };
        let data = secret.data.unwrap_or_default();
        let text = |file: &str| data.get(file).and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok());
        let Some(id) = text(ID) else {
            bail!(
                "the Secret {NAME} has no {ID:?}: it is not what doks-harbor has written; look at it, and delete it if the folder is whole"
            )
        };
        let entries = Entry::ALL.iter().filter_map(|entry| Some((*entry, text(entry.file())?.into()))).collect();
        Ok(Some(Self { id, entries, version: secret.metadata.resource_version }))
    }

    fn hashes(&self) -> Hashes {
        self.entries.iter().map(|(entry, secret)| (*entry, hash(secret))).collect()
    }
}

/// What has to go which way, before anything does.
///
/// # Errors
/// Another keyring's home; entries that have changed in both places.
pub fn differs(vault: Option<&Vault>, keyring: &Keyring) -> Result<Sync> {
    let here = hashes(keyring)?;
    let Some(vault) = vault else {
        return Ok(Sync { push: here.into_keys().collect(), ..Sync::default() });
    };
    // One that has never held anything is no keyring of its own yet.
    if vault.id != keyring.id() && !here.is_empty() {
        let folder = keyring.folder().display();
        bail!(
            "the cluster holds the secrets of another keyring ({}) than {folder} ({}): move that folder away to take those of the cluster, or use \
             the right one with --keyring",
            vault.id,
            keyring.id()
        );
    }
    let sync = compare(&here, &vault.hashes(), &keyring.synced()?);
    if !sync.conflicts.is_empty() {
        let folder = keyring.folder().display();
        bail!(
            "changed both in {folder} and in the cluster's Secret {NAME} since they were the same: {}; keep those of the cluster by deleting these \
             files in {folder}, or those of the folder by deleting the Secret",
            files(&sync.conflicts)
        );
    }
    Ok(sync)
}

/// Brings the folder up to date with the cluster. Returns what it took.
///
/// # Errors
/// As [`differs`]; when either cannot be read or the folder cannot be written to.
pub async fn pull(cluster: &Cluster, keyring: &mut Keyring) -> Result<Vec<Entry>> {
    let Some(vault) = Vault::read(cluster).await? else { return Ok(Vec::new()) };
    let sync = differs(Some(&vault), keyring)?;
    if vault.id != keyring.id() {
        keyring.take_id(&vault.id)?;
    }
    let mut synced = keyring.synced()?;
    for entry in &sync.take {
        match vault.entries.get(entry) {
            Some(secret) => keyring.put(*entry, secret)?,
            None => keyring.forget(*entry)?,
        }
    }
    let there = vault.hashes();
    // What only the folder has yet stays as it was when they were the same.
    for entry in Entry::ALL.iter().filter(|entry| !sync.push.contains(entry)) {
        match there.get(entry) {
            Some(hash) => synced.insert(*entry, hash.clone()),
            None => synced.remove(entry),
        };
    }
    keyring.note_synced(&synced)?;
    Ok(sync.take)
}

/// Writes to the cluster what only the folder has. Returns what that was; nothing is written where it is nothing.
///
/// # Errors
/// As [`differs`]; when another run has written it in the meantime.
pub async fn push(cluster: &Cluster, keyring: &Keyring) -> Result<Vec<Entry>> {
    let vault = Vault::read(cluster).await?;
    let sync = differs(vault.as_ref(), keyring)?;
    if !sync.take.is_empty() {
        bail!("the cluster's Secret {NAME} was changed by somebody else meanwhile ({}): run again", files(&sync.take));
    }
    let entries = keyring.entries()?;
    let is_known = vault.as_ref().is_some_and(|vault| vault.id == keyring.id());
    if !(is_known && sync.push.is_empty()) {
        let object = secret(cluster, keyring.id(), &entries, vault.and_then(|vault| vault.version));
        // All of it is ours, also what a person has put into it by hand: that has been taken over before.
        let written = cluster.api::<Secret>().patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await;
        match written {
            Err(error) if problem::is_conflict(&error) => bail!("another run has written the Secret {NAME} at this moment: run again"),
            written => written.map_err(cluster.told(&format!("write the Secret {NAME}")))?,
        };
    }
    keyring.note_synced(&hashes(keyring)?)?;
    Ok(sync.push)
}

fn secret(cluster: &Cluster, id: &str, entries: &BTreeMap<Entry, SecretString>, version: Option<String>) -> Value {
    let mut data: Map<String, Value> = entries.iter().map(|(entry, secret)| (entry.file().to_owned(), encoded(secret))).collect();
    data.insert(ID.to_owned(), encoded(&id.into()));
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": cluster.namespace, "labels": {
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/part-of": "harbor",
        }},
        "data": data,
    });
    // Only as it was when it was compared.
    if let (Some(version), Some(metadata)) = (version, object.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    object
}

fn hashes(keyring: &Keyring) -> Result<Hashes> {
    Ok(keyring.entries()?.iter().map(|(entry, secret)| (*entry, hash(secret))).collect())
}

/// For people.
#[must_use]
pub fn files(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.file()).collect::<Vec<_>>().join(", ")
}
