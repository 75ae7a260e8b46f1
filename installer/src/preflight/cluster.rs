//! What could go wrong in the cluster itself. `[pure]`

use anyhow::Result;

use crate::checks::Report;
use crate::cluster::check::Sight;
use crate::digitalocean::KubernetesCluster;
use crate::spec::Spec;

const GROUP: &str = "Kubernetes";

/// Judges what was seen of the cluster's own API. `wanted` is the DOKS cluster of the spec, where it was found.
pub fn judge(report: &mut Report, spec: &Spec, wanted: Option<&KubernetesCluster>, sight: &Result<Sight>) {
    let sight = match sight {
        Ok(sight) => sight,
        Err(why) => {
            let cure =
                "without the cluster nothing is made; say --kubeconfig FILE to reach it in another way, or --until cloud to leave it alone";
            return report.bad(GROUP, format!("{why:#}"), cure);
        }
    };
    report.good(GROUP, format!("answers at {}: {}, {} nodes", sight.server, sight.version, sight.nodes));
    if let Some(wanted) = wanted {
        identity(report, wanted, sight);
    }
    if sight.forbidden.is_empty() {
        report.good(GROUP, format!("may write all that is needed in the namespace {}", spec.namespace));
    } else {
        report.bad(
            GROUP,
            format!("may not, in the namespace {}: {}", spec.namespace, sight.forbidden.join(", ")),
            "the login needs the ClusterRole admin there, and to make the namespace the right to; or give another --kubeconfig",
        );
    }
    if !names_registry(&spec.proxy.image) {
        report.warn(
            GROUP,
            format!("proxy.image {} names no registry, so nodes look for it among Docker Hub's", spec.proxy.image),
            "`make image` builds it; push it to a registry that the nodes may pull from, and write proxy.image: REGISTRY/redis-tls-proxy:TAG",
        );
    }
    if let Some(level) = &sight.pod_security {
        report.good(GROUP, format!("the namespace admits pods of the level {level}; the proxy's are of the strictest"));
    }
    report.good(
        GROUP,
        if sight.has_monitoring {
            "Prometheus' operator is there: it is told of the proxy"
        } else {
            "Prometheus' operator is not there: its objects are left out"
        },
    );
}

/// Whether the first part of an image's name is a host (distribution/reference): it has a dot or a port, or is `localhost`.
fn names_registry(image: &str) -> bool {
    image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

fn identity(report: &mut Report, wanted: &KubernetesCluster, sight: &Sight) {
    let pools: Vec<_> = wanted.node_pools.iter().map(|pool| pool.id.as_str()).collect();
    if sight.is_of(&pools) {
        return;
    }
    let (name, id) = (&wanted.name, &wanted.id);
    if sight.nodes == 0 {
        return report.bad(
            GROUP,
            format!("has no nodes, so nobody can tell whether it is {name}, and secrets would go there"),
            "give it a node: the proxy needs one, too",
        );
    }
    report.bad(
        GROUP,
        format!(
            "the cluster at {} is not {name} ({id}): none of its {} nodes is of one of that cluster's node pools",
            sight.server, sight.nodes
        ),
        format!("give the --kubeconfig or --kube-context of {name}, or correct `cluster` in doks-harbor.yaml"),
    );
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::digitalocean::NodePool;

    fn judged(sight: &Result<Sight>) -> Report {
        let wanted = KubernetesCluster {
            name: "production".to_owned(),
            node_pools: vec![NodePool { id: "pool-1".to_owned(), ..NodePool::default() }],
            ..KubernetesCluster::default()
        };
        let mut report = Report::default();
        judge(&mut report, &Spec::read("cluster: production").unwrap(), Some(&wanted), sight);
        report
    }

    #[test]
    fn an_image_that_nodes_would_not_find_is_told() {
        for name in ["registry.digitalocean.com/mine/redis-tls-proxy:1", "localhost/x", "10.0.0.1:5000/x@sha256:00"] {
            assert!(names_registry(name), "{name}");
        }
        for name in ["redis-tls-proxy:0.1.0", "mine/redis-tls-proxy"] {
            assert!(!names_registry(name), "{name}");
        }
    }

    #[test]
    fn another_cluster_and_lacking_rights_are_told_with_both_names() {
        let sight =
            |pool: &str| Sight { nodes: 3, pools: [pool.to_owned()].into(), server: "https://there".to_owned(), ..Sight::default() };
        assert!(judged(&Ok(sight("pool-1"))).passed());
        let other = judged(&Ok(sight("pool-2")));
        assert!(!other.passed() && other.to_string().contains("https://there is not production"), "{other}");
        assert!(!judged(&Ok(Sight::default())).passed(), "an empty cluster may be another");
        let weak = judged(&Ok(Sight { forbidden: vec!["patch secrets".to_owned()], ..sight("pool-1") }));
        assert!(!weak.passed() && weak.to_string().contains("patch secrets"), "{weak}");
        let silent = judged(&Err(anyhow!("does not answer")));
        assert!(!silent.passed() && silent.to_string().contains("--until cloud"), "{silent}");
    }
}
