//! The registry protocol: push and pull of a small image.
