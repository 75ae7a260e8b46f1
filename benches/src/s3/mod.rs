//! S3 servers for what speaks to Spaces: the real gateway ([`Ceph`], which is what Spaces is) and a quick stand-in ([`Fake`]).
//!
//! Both start empty on a free loopback port and know the keys that they are told of. Tests that want to be sure run on both; the stand-in has
//! faults that no real server shows on demand.

mod ceph;
mod fake;

pub use ceph::Ceph;
pub use fake::{Bucket, Fake, Faults, Snapshot};

/// Whose buckets are "ours" in the lab, unless another owner is named.
pub const OWNER: &str = "us";

/// What a key of the [`Fake`] may do, as Spaces has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Everything, on every bucket of its owner.
    Full,
    /// Objects of this bucket; no settings, and not its creation.
    ReadWrite(String),
    /// Only reads, of this bucket.
    Read(String),
}
