//! Which upstream connections are alike: those that a client could use without noticing which of them it got.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret, SecretSlice};

/// What connections to one server differ in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who is logged in.
    pub identity: Identity,
    /// The database that is selected.
    pub database: u32,
    /// RESP3 instead of RESP2.
    pub resp3: bool,
}

/// Who is logged in on an upstream connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The proxy, with its own credentials, or nobody where it has none.
    Proxy,
    /// A client's own login (`client_auth: upstream`).
    Client(Arc<Login>),
}

/// A client's own user and password, as bytes: Redis takes any. Two are equal when both are.
pub struct Login {
    /// `None`: AUTH with a password alone.
    pub user: Option<SecretSlice<u8>>,
    /// The password.
    pub password: SecretSlice<u8>,
    /// What is compared instead of the two.
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl Login {
    /// Keeps both for logging in again.
    #[must_use]
    pub fn new(user: Option<SecretSlice<u8>>, password: SecretSlice<u8>) -> Self {
        // The exact size, so that growing leaves no copy behind.
        let length = |secret: &SecretSlice<u8>| secret.expose_secret().len();
        let mut both = Vec::with_capacity(size_of::<usize>() + user.as_ref().map_or(0, length) + length(&password));
        if let Some(user) = &user {
            // The length in front: `ab` + `c` is not `a` + `bc`.
            both.extend_from_slice(&user.expose_secret().len().to_le_bytes());
            both.extend_from_slice(user.expose_secret());
        }
        both.extend_from_slice(password.expose_secret());
        let mut out = [0; SHA256_OUTPUT_LEN];
        out.copy_from_slice(digest(&SHA256, &both).as_ref());
        both.zeroize();
        Self { user, password, digest: out }
    }
}

impl fmt::Debug for Login {
    /// Not even the digest: short passwords can be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.user.is_some() == other.user.is_some() && self.digest == other.digest
    }
}

impl Eq for Login {}

impl Hash for Login {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}
