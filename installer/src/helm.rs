//! The helm program.
