//! Proves that Harbor works.
