//! How Harbor is reached: one of six ways, and the URL that clients are told.

use serde_json::{Value, json};

use crate::render::yaml::Document;
use crate::spec::{Expose, Spec};

/// `nodePort` for HTTPS, the chart's own default.
const HTTPS_NODE_PORT: u16 = 30003;

/// Where clients find Harbor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The name in the certificate.
    pub host: String,
    /// What Harbor tells clients to come back to.
    pub url: String,
}

/// Where clients will find it.
#[must_use]
pub fn reached(spec: &Spec) -> Reached {
    let service = || format!("{}.{}.svc", spec.harbor.release, spec.namespace);
    let host = spec.harbor.host.clone().unwrap_or_else(service);
    let port = if spec.harbor.expose == Expose::NodePort { format!(":{HTTPS_NODE_PORT}") } else { String::new() };
    Reached { url: format!("https://{host}{port}"), host }
}

pub(super) fn set(document: &mut Document, spec: &Spec) {
    let harbor = &spec.harbor;
    let at = reached(spec);
    document.explain("externalURL", "In every token and every link: clients must reach Harbor by exactly this.", at.url);
    let kind = match harbor.expose {
        Expose::Traefik => Expose::Ingress,
        other => other,
    };
    document.set("expose.type", kind.word());
    if harbor.expose == Expose::Route {
        route(document, spec, &at.host);
        return;
    }
    certificate(document, spec, &at.host);
    match harbor.expose {
        Expose::Ingress | Expose::Traefik => ingress(document, spec, &at.host),
        Expose::ClusterIp => document.set("expose.clusterIP.name", harbor.release.as_str()),
        Expose::NodePort => {
            document.set("expose.nodePort.name", harbor.release.as_str());
            document.set("expose.nodePort.ports.https.nodePort", HTTPS_NODE_PORT);
            document.note("expose.nodePort", "Nodes of DOKS are behind a firewall: open the port there.");
        }
        Expose::LoadBalancer => {
            document.set("expose.loadBalancer.name", harbor.release.as_str());
            document.note(
                "expose.loadBalancer",
                "DigitalOcean's load balancer passes TCP on by default, which is right here: TLS ends at Harbor's nginx. No annotation is needed.",
            );
        }
        Expose::Route => {}
    }
}

fn certificate(document: &mut Document, spec: &Spec, host: &str) {
    document.set("expose.tls.enabled", true);
    match &spec.harbor.tls_secret {
        Some(secret) => {
            document.set("expose.tls.certSource", "secret");
            document.set("expose.tls.secret.secretName", secret.as_str());
        }
        None => {
            let why = "The chart makes a certificate that nobody trusts until `doks-harbor trust`; harbor.tls_secret names a better one.";
            document.explain("expose.tls.certSource", why, "auto");
            // Not asked for by an ingress, needed by everything else.
            document.set("expose.tls.auto.commonName", host);
        }
    }
}

fn ingress(document: &mut Document, spec: &Spec, host: &str) {
    let harbor = &spec.harbor;
    document.set("expose.ingress.hosts.core", host);
    let is_traefik = harbor.expose == Expose::Traefik;
    let class = harbor.ingress_class.as_deref().or_else(|| is_traefik.then_some("traefik"));
    let mut annotations = serde_json::Map::new();
    if is_traefik {
        annotations.insert("traefik.ingress.kubernetes.io/router.entrypoints".to_owned(), "websecure".into());
        annotations.insert("traefik.ingress.kubernetes.io/router.tls".to_owned(), "true".into());
    }
    match class {
        Some(class) if harbor.chart.at_least(9) => document.set("expose.ingress.className", class),
        // Before 1.9 the chart knows the annotation only.
        Some(class) => {
            annotations.insert("kubernetes.io/ingress.class".to_owned(), class.into());
        }
        None => {}
    }
    if !annotations.is_empty() {
        document.set("expose.ingress.annotations", Value::Object(annotations));
    }
    let why = if is_traefik {
        "Traefik limits no body, but since 2.11 it reads a request for 60 seconds at most, and large layers take longer: start it with \
         --entryPoints.websecure.transport.respondingTimeouts.readTimeout=0"
    } else {
        "The chart's own annotations lift ingress-nginx's limit on bodies and redirect to HTTPS; what you add is merged with them."
    };
    document.note("expose.ingress", why);
}

/// The Gateway ends TLS with a certificate of its own; the chart makes an HTTPRoute straight to core and portal.
fn route(document: &mut Document, spec: &Spec, host: &str) {
    document.explain("expose.tls.enabled", "The Gateway's listener has the certificate, and TLS ends there.", false);
    let gateway = spec.harbor.gateway.as_deref().unwrap_or_default();
    let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
    document.set("expose.route.parentRefs", json!([{"name": name, "namespace": namespace}]));
    document.set("expose.route.hosts", json!([host]));
    document.note(
        "expose.route",
        "The Gateway must allow routes from this namespace (allowedRoutes), and set no time limit on requests that large layers would exceed.",
    );
}
