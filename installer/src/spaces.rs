//! Spaces: DigitalOcean's S3, which is Ceph's gateway. What the API cannot do to buckets is done here.

use secrecy::SecretString;

/// Both halves of a key.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The public one.
    pub access_key: String,
    /// The other.
    pub secret_key: SecretString,
}
