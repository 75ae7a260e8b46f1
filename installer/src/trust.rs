//! What makes docker, containerd and podman trust this registry.
