//! What a person can do by hand.

/// Without this containerd does not look into the folder.
pub const CONFIG_PATH: &str =
    "containerd looks there only when its configuration says so; in /etc/containerd/config.toml, then `systemctl restart containerd`:
  containerd 2.x   [plugins.'io.containerd.cri.v1.images'.registry]
                   config_path = '/etc/containerd/certs.d'
  containerd 1.x   [plugins.\"io.containerd.grpc.v1.cri\".registry]
                   config_path = \"/etc/containerd/certs.d\"";

/// Of the cluster's own nodes.
pub const NODES: &str = "The nodes of DOKS pull through containerd and are replaced with every upgrade, so a file that is written there by hand does not last. \
A DaemonSet that writes the two files through a hostPath would have to run on every node before anything else pulls, with a privileged folder of the host. \
A certificate of a public authority is the better way: cert-manager with Let's Encrypt, and its Secret as harbor.tls_secret in doks-harbor.yaml.";

/// For each program, with the host in it.
pub(super) fn by_hand(registry: &str) -> String {
    format!(
        "`doks-harbor trust --write docker|containerd|podman|all` writes these files on this machine (as root; --user: for you alone).
By hand, with the authority at the end of this text as ca.crt:

docker (at once, no restart)
  install -D -m 644 ca.crt /etc/docker/certs.d/{registry}/ca.crt

podman, skopeo, buildah, CRI-O (at once)
  install -D -m 644 ca.crt /etc/containers/certs.d/{registry}/ca.crt

containerd (nerdctl, Kubernetes)
  install -D -m 644 ca.crt /etc/containerd/certs.d/{registry}/ca.crt
  /etc/containerd/certs.d/{registry}/hosts.toml:
{}
{CONFIG_PATH}

everything on the machine (restart docker and containerd after it)
  Debian, Ubuntu   install -m 644 ca.crt /usr/local/share/ca-certificates/harbor.crt && update-ca-certificates
  Fedora, RHEL     install -m 644 ca.crt /etc/pki/ca-trust/source/anchors/harbor.crt && update-ca-trust

{NODES}
",
        hosts(registry, &format!("/etc/containerd/certs.d/{registry}/ca.crt"))
            .lines()
            .map(|line| format!("{}\n", format!("    {line}").trim_end()))
            .collect::<String>(),
    )
}

/// containerd's file for one registry.
pub(super) fn hosts(registry: &str, ca: &str) -> String {
    format!(
        "server = \"https://{registry}\"\n\n[host.\"https://{registry}\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = \"{ca}\"\n"
    )
}
