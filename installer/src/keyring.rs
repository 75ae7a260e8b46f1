//! The secrets of one installation: a folder of its owner's alone (0700), a file (0600) for each secret.
//!
//! It is what the Secrets in the cluster are made from. It is no state: what it lacks and the API can tell again (database passwords) is
//! asked for again, what nobody can tell again (a Spaces secret) is made anew.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::spaces::Keys;

pub mod sync;

/// The file that tells one keyring from another.
pub const ID: &str = ".id";

/// Each secret, by the name of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// What Harbor uses at the proxy; not known outside the cluster.
    ClientPassword,
    /// Of the PostgreSQL user that the proxy logs in as.
    PostgresPassword,
    /// Of the Valkey user that the proxy logs in as.
    ValkeyPassword,
    /// Of the bucket; no secret by itself, but of no use without its other half.
    SpacesAccessKey,
    /// Told once, when the key is made.
    SpacesSecretKey,
    /// Public half of the key before this one, until nobody uses it any more.
    SpacesRetiringKey,
    /// Of Harbor's user `admin`; used at its first start only.
    HarborAdminPassword,
    /// The one to be, while it is being changed.
    HarborAdminNewPassword,
    /// Encrypts what Harbor keeps in its database. 16 characters; losing it loses those.
    HarborSecretKey,
    /// Among Harbor's components.
    HarborCoreSecret,
    /// 32 characters.
    HarborXsrfKey,
    /// Among Harbor's components.
    HarborJobserviceSecret,
    /// Among Harbor's components.
    HarborRegistrySecret,
    /// What Harbor's core uses at its registry.
    HarborRegistryPassword,
    /// The same, as the registry wants it: `user:bcrypt`.
    HarborRegistryHtpasswd,
    /// Signs the tokens of docker's login: a certificate, PEM.
    HarborTokenCertificate,
    /// Its RSA key, PEM.
    HarborTokenKey,
}

impl Entry {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ClientPassword,
        Self::PostgresPassword,
        Self::ValkeyPassword,
        Self::SpacesAccessKey,
        Self::SpacesSecretKey,
        Self::SpacesRetiringKey,
        Self::HarborAdminPassword,
        Self::HarborAdminNewPassword,
        Self::HarborSecretKey,
        Self::HarborCoreSecret,
        Self::HarborXsrfKey,
        Self::HarborJobserviceSecret,
        Self::HarborRegistrySecret,
        Self::HarborRegistryPassword,
        Self::HarborRegistryHtpasswd,
        Self::HarborTokenCertificate,
        Self::HarborTokenKey,
    ];

    /// There only while a rotation is under way; in none of the Secrets that Harbor and the proxy read.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::SpacesRetiringKey | Self::HarborAdminNewPassword)
    }

    /// Whether it is ever taken away on purpose: when a rotation ends, or with its bucket.
    #[must_use]
    pub const fn may_go(self) -> bool {
        self.is_passing() || matches!(self, Self::SpacesAccessKey | Self::SpacesSecretKey)
    }

    /// Its file in the folder.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::ClientPassword => "client-password",
            Self::PostgresPassword => "postgres-password",
            Self::ValkeyPassword => "valkey-password",
            Self::SpacesAccessKey => "spaces-access-key",
            Self::SpacesSecretKey => "spaces-secret-key",
            Self::SpacesRetiringKey => "spaces-retiring-key",
            Self::HarborAdminPassword => "harbor-admin-password",
            Self::HarborAdminNewPassword => "harbor-admin-new-password",
            Self::HarborSecretKey => "harbor-secret-key",
            Self::HarborCoreSecret => "harbor-core-secret",
            Self::HarborXsrfKey => "harbor-xsrf-key",
            Self::HarborJobserviceSecret => "harbor-jobservice-secret",
            Self::HarborRegistrySecret => "harbor-registry-secret",
            Self::HarborRegistryPassword => "harbor-registry-password",
            Self::HarborRegistryHtpasswd => "harbor-registry-htpasswd",
            Self::HarborTokenCertificate => "harbor-token.crt",
            Self::HarborTokenKey => "harbor-token.key",
        }
    }
}

/// The folder. Opened to be changed it is locked for as long as this lives: two runs with one folder take turns.
pub struct Keyring {
    folder: PathBuf,
    /// Twelve hexadecimal digits, made with the folder.
    id: String,
    /// Dropping it unlocks. Whoever only looks has none.
    _lock: Option<fs::File>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Opens the folder, makes it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made, when others can read it, or when another run has it.
    pub fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| format!("{shown} cannot be made"))?;
        closed(folder)?;
        let lock = private(&folder.join(".lock")).with_context(|| format!("{shown} cannot be written to"))?;
        if let Err(error) = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            if error == rustix::io::Errno::WOULDBLOCK {
                bail!("another doks-harbor is at work with {shown}; wait for it to end");
            }
            return Err(error).with_context(|| format!("{shown} cannot be locked"));
        }
        // A folder in a repository must not be committed by accident.
        write(folder, ".gitignore", b"*\n")?;
        let id = match read_id(folder)? {
            Some(id) => id,
            None => {
                let id = random_id()?;
                write(folder, ID, id.as_bytes())?;
                id
            }
        };
        Ok(Self { folder: folder.to_owned(), id, _lock: Some(lock) })
    }

    /// The folder, if it is there: for those who only look. They need not wait for a run that is at work, nor does it wait for them: every file
    /// is written in one go.
    ///
    /// # Errors
    /// When it cannot be read, or when others can read it.
    pub fn look(folder: &Path) -> Result<Option<Self>> {
        if !folder.exists() {
            return Ok(None);
        }
        closed(folder)?;
        Ok(read_id(folder)?.map(|id| Self { folder: folder.to_owned(), id, _lock: None }))
    }

    /// Tells this folder from that of another machine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells copies of one keyring on a machine apart. Each is locked by the one run that uses it, so whoever bears the name of a copy and is
    /// not that run has died.
    #[must_use]
    pub fn copy(&self) -> String {
        let path = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_os_str().as_encoded_bytes());
        let hash: String = hash.as_ref().iter().take(3).map(|byte| format!("{byte:02x}")).collect();
        format!("keyring {}, copy {hash}", self.id)
    }

    /// The key of the bucket, if both halves are there.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn spaces_keys(&self) -> Result<Option<Keys>> {
        let (access_key, secret_key) = (self.get(Entry::SpacesAccessKey)?, self.get(Entry::SpacesSecretKey)?);
        Ok(access_key
            .zip(secret_key)
            .map(|(access_key, secret_key)| Keys { access_key: access_key.expose_secret().to_owned(), secret_key }))
    }

    /// Keeps the key of the bucket: the public half last, so that it never names another secret than its own.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_spaces_keys(&self, keys: &Keys) -> Result<()> {
        self.forget(Entry::SpacesAccessKey)?;
        self.put(Entry::SpacesSecretKey, &keys.secret_key)?;
        self.put(Entry::SpacesAccessKey, &keys.access_key.as_str().into())
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Becomes a copy of the keyring with this id: for a folder that has no secrets of its own yet.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn take_id(&mut self, id: &str) -> Result<()> {
        if !is_id(id) {
            bail!("{id:?} is no keyring's id: it must be twelve digits");
        }
        write(&self.folder, ID, id.as_bytes())?;
        id.clone_into(&mut self.id);
        Ok(())
    }

    /// One secret, if it is there.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is not text.
    pub fn get(&self, entry: Entry) -> Result<Option<SecretString>> {
        Ok(self.read_file(entry.file())?.map(SecretString::from))
    }

    fn read_file(&self, file: &str) -> Result<Option<String>> {
        let path = self.folder.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Writes one secret, in one go: after a crash the file holds the old or the new one.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn put(&self, entry: Entry, secret: &SecretString) -> Result<()> {
        write(&self.folder, entry.file(), secret.expose_secret().as_bytes())
    }

    /// Writes a file that is made of secrets: `values.secret.yaml`.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_file(&self, file: &str, content: &SecretString) -> Result<()> {
        write(&self.folder, file, content.expose_secret().as_bytes())
    }

    /// Removes one secret; that it is not there is no error.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn forget(&self, entry: Entry) -> Result<()> {
        self.remove_file(entry.file())
    }

    /// Removes a file that is made of secrets.
    ///
    /// # Errors
    /// As [`Self::forget`].
    pub fn remove_file(&self, file: &str) -> Result<()> {
        let path = self.folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Its owner's alone.
fn closed(folder: &Path) -> Result<()> {
    let shown = folder.display();
    let mode = fs::metadata(folder).with_context(|| format!("{shown} cannot be read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{shown} holds secrets, and others may read it (mode {:o}); close it with `chmod 700 {shown}`", mode & 0o777);
    }
    Ok(())
}

fn read_id(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(ID);
    match fs::read_to_string(&path) {
        // It may have been written by hand, to take the place of a keyring that was lost.
        Ok(text) if is_id(text.trim()) => Ok(Some(text.trim().to_owned())),
        Ok(_) => bail!("{} is damaged: it must hold the twelve digits it was made with, or be absent", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 6];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file that only its owner can read.
fn private(path: &Path) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)
}

fn write(folder: &Path, file: &str, content: &[u8]) -> Result<()> {
    let path = folder.join(file);
    let save = || {
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(content)?;
        new.as_file().sync_all()?;
        new.persist(&path)?;
        // The name, too, must outlive a crash.
        fs::File::open(folder)?.sync_all()
    };
    save().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keyring = Keyring::open(&path).unwrap();
        assert!(keyring.get(Entry::SpacesSecretKey).unwrap().is_none());
        keyring.put(Entry::SpacesSecretKey, &"s3cret".into()).unwrap();
        assert_eq!(keyring.get(Entry::SpacesSecretKey).unwrap().unwrap().expose_secret(), "s3cret");
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
        }
        assert!(!format!("{keyring:?}").contains("s3cret"));
        keyring.forget(Entry::SpacesSecretKey).unwrap();
        keyring.forget(Entry::SpacesSecretKey).unwrap();
        assert!(keyring.get(Entry::SpacesSecretKey).unwrap().is_none());
    }

    #[test]
    fn a_second_run_and_an_open_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let first = Keyring::open(&path).unwrap();
        assert!(Keyring::open(&path).unwrap_err().to_string().contains("another doks-harbor"));
        assert_eq!(Keyring::look(&path).unwrap().unwrap().id(), first.id(), "whoever looks waits for nobody");
        drop(first);
        drop(Keyring::open(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Keyring::open(&path).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn each_entry_has_a_file_of_its_own() {
        let files: std::collections::BTreeSet<_> = Entry::ALL.iter().map(|entry| entry.file()).collect();
        assert_eq!(files.len(), Entry::ALL.len());
    }
}
