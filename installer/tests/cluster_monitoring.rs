//! A cluster that has Prometheus' operator. A program of its own: the others' cluster must not gain kinds while they look at it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

mod support;

use support::town::Town;

#[tokio::test]
#[ignore = "needs Kubernetes' programs, built with Go: make test-cluster"]
async fn where_prometheus_operator_is_it_is_told_of_the_proxy() {
    let town = Town::new("monitored").await;
    for (plural, kind) in [("podmonitors", "PodMonitor"), ("prometheusrules", "PrometheusRule")] {
        let crd = serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        });
        town.kubernetes.kubectl(&["apply", "--server-side", "--filename=-"], &crd.to_string()).unwrap();
        let name = format!("crd/{plural}.monitoring.coreos.com");
        town.kubernetes.kubectl(&["wait", "--for=condition=Established", "--timeout=120s", &name], "").unwrap();
    }
    town.apply().await.ends_with(0);
    let there = town.kubectl(&["get", "podmonitors,prometheusrules", "--output=name"]);
    assert_eq!(there.lines().count(), 2, "{there}");
    let (before, writes) = (town.versions(), town.writes().len());
    town.plan().await.ends_with(0);
    town.apply().await.ends_with(0);
    assert_eq!((town.versions(), town.writes().len()), (before, writes));
}
