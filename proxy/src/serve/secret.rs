//! The local password that clients must know, in the forms in which it is checked.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Password, read_password};
use crate::postgres::scram::{DEFAULT_ITERATIONS, Verifier};
use crate::reload::Reloaded;

/// A local password.
pub struct ClientSecret {
    digest: Digest,
    /// For PostgreSQL clients, who never send the password itself.
    pub verifier: Verifier,
}

impl ClientSecret {
    fn new(password: &SecretString) -> Result<Self, String> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "no random numbers from the system".to_owned())?;
        Ok(Self {
            digest: digest(&SHA256, password.expose_secret().as_bytes()),
            verifier: Verifier::new(password, salt, DEFAULT_ITERATIONS),
        })
    }

    /// From its source; follows the file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(source: &Password) -> Result<Reloaded<Self>, String> {
        match source {
            Password::Inline(secret) => {
                let secret = secret.clone();
                Reloaded::new(Vec::new(), move || Self::new(&secret))
            }
            Password::File(path) => {
                let file = path.clone();
                Reloaded::new(vec![path.clone()], move || Self::new(&read_password(&file)?))
            }
        }
    }

    /// In constant time: digests are compared, so that not even the length of the password shows.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        verify_slices_are_equal(self.digest.as_ref(), digest(&SHA256, password).as_ref()).is_ok()
    }
}
