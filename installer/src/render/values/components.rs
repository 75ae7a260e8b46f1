//! Harbor's pods: how many, where, and the secrets that they share.

use serde_json::json;

use crate::render::manifests::affinity;
use crate::render::secrets::Use;
use crate::render::yaml::Document;
use crate::spec::{Expose, Spec};

/// The scanner keeps a cache of its own on a volume; a third would scan no faster.
const SCANNERS: u8 = 2;

pub(super) fn set(document: &mut Document, spec: &Spec) {
    pods(document, spec);
    jobs(document, spec);
    shared_secrets(document, spec);
    let harbor = &spec.harbor;
    document.set("trivy.enabled", harbor.trivy);
    let why = "The exporter runs with this only.";
    document.explain("metrics.enabled", why, harbor.metrics);
    document.explain("updateStrategy.type", "No volume is shared, so new pods can start before the old ones end.", "RollingUpdate");
    document.explain(
        "proxy.noProxy",
        "Holds only where proxy.httpProxy or httpsProxy is set: what is in the cluster must not go that way.",
        format!("127.0.0.1,localhost,.local,.internal,.svc,{}", super::proxy_address(&spec.namespace)),
    );
}

fn pods(document: &mut Document, spec: &Spec) {
    let (harbor, chart) = (&spec.harbor, spec.harbor.chart);
    let has_nginx = !matches!(harbor.expose, Expose::Ingress | Expose::Traefik | Expose::Route);
    let pods = [
        ("nginx", harbor.replicas, has_nginx),
        ("portal", harbor.replicas, true),
        ("core", harbor.replicas, true),
        ("jobservice", harbor.replicas, true),
        ("registry", harbor.replicas, true),
        ("trivy", harbor.replicas.min(SCANNERS), harbor.trivy),
        ("exporter", 1, harbor.metrics),
    ];
    for (component, replicas, runs) in pods {
        if !runs {
            continue;
        }
        document.set(&format!("{component}.replicas"), replicas);
        if replicas > 1 && chart.at_least(13) {
            let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}]);
            document.set(&format!("{component}.topologySpreadConstraints"), spread);
        }
        if replicas > 1 && chart.at_least(19) {
            document.set(&format!("{component}.podDisruptionBudget"), json!({"enabled": true, "minAvailable": 1}));
        }
        if let Some(affinity) = affinity(&spec.proxy.node_pools) {
            document.set(&format!("{component}.affinity"), affinity);
        }
    }
    if chart.at_least(13) {
        document.note("core.topologySpreadConstraints", "The chart adds the labelSelector.");
    }
    document.note("core.affinity", "Harbor's nodes, each with a proxy: from others its Service leads nowhere.");
    if harbor.trivy && harbor.replicas > 1 {
        document.note("trivy.replicas", "Two: a scan that is announced while no scanner listens is lost.");
    }
}

fn jobs(document: &mut Document, spec: &Spec) {
    document.explain("jobservice.jobLoggers", "Logs in files would need a volume that all replicas can write to.", json!(["database"]));
    if spec.harbor.replicas > 1 {
        document.note("jobservice.replicas", "They take jobs from the same queue in Valkey.");
    }
}

/// What the chart would else make anew with each rendering.
fn shared_secrets(document: &mut Document, spec: &Spec) {
    let (release, chart) = (&spec.harbor.release, spec.harbor.chart);
    let mut refer = |of: Use, keys: &[(&str, Option<(&str, &str)>)]| {
        for (key, named) in keys.iter().filter(|_| of.is_referred_to(chart)) {
            document.set(key, of.name(release));
            if let Some((key, name)) = named {
                document.set(key, *name);
            }
        }
    };
    refer(Use::Admin, &[("existingSecretAdminPassword", Some(("existingSecretAdminPasswordKey", "HARBOR_ADMIN_PASSWORD")))]);
    refer(Use::Encryption, &[("existingSecretSecretKey", None)]);
    refer(Use::RegistryLogin, &[("registry.credentials.existingSecret", None)]);
    refer(Use::Token, &[("core.secretName", None)]);
    refer(
        Use::Components,
        &[
            ("core.existingSecret", None),
            ("core.existingXsrfSecret", Some(("core.existingXsrfSecretKey", "CSRF_KEY"))),
            ("jobservice.existingSecret", Some(("jobservice.existingSecretKey", "JOBSERVICE_SECRET"))),
            ("registry.existingSecret", Some(("registry.existingSecretKey", "REGISTRY_HTTP_SECRET"))),
        ],
    );
    document.set("registry.credentials.username", crate::harbor_secrets::REGISTRY_USER);
    document.note("core.secretName", "Signs tokens. The chart's own would be another one after each upgrade.");
    if Use::Admin.is_referred_to(chart) {
        document.note("existingSecretAdminPassword", "Used at Harbor's very first start only.");
    }
}
