//! How the process ends: one value that everyone watches.
//!
//! ```text
//!  serving ──SIGTERM──► announced ──drain_delay──► closing ──all gone, or drain_timeout──► cut
//!           readiness 503, still accepting     listeners close,               what is left is reset
//!                                              idle clients are closed
//! ```

use tokio_util::sync::CancellationToken;

/// The phases, each a token that is cancelled when the phase begins. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drain {
    /// The end is near: readiness says no, everything else goes on.
    pub announced: CancellationToken,
    /// Listeners close; clients are closed as soon as nothing is owed to them.
    pub closing: CancellationToken,
    /// Whatever is left is cut.
    pub cut: CancellationToken,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
