//! Secrets with which the kubelet pulls.
