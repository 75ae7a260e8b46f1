//! Whether Harbor will be reached as the spec says. `[pure]`

use crate::checks::Report;
use crate::cluster::exposure::{Exposure, Seen};
use crate::render::reached;
use crate::spec::{Expose, Spec};

const GROUP: &str = "exposure";
const DAY: i64 = 24 * 60 * 60;
/// Whoever renews certificates by themselves does so with 30 days left.
const SOON_DAYS: i64 = 21;

/// Judges what was seen, at Unix second `now`.
pub fn judge(report: &mut Report, spec: &Spec, seen: &Exposure, now: i64) {
    let harbor = &spec.harbor;
    let wanted = match harbor.expose {
        Expose::Ingress => harbor.ingress_class.as_deref(),
        Expose::Traefik => Some(harbor.ingress_class.as_deref().unwrap_or("traefik")),
        Expose::ClusterIp | Expose::LoadBalancer | Expose::NodePort | Expose::Route => return certificate(report, spec, seen, now),
    };
    if let Some(classes) = &seen.classes {
        class(report, wanted, classes);
    }
    certificate(report, spec, seen, now);
}

fn class(report: &mut Report, wanted: Option<&str>, classes: &[(String, bool)]) {
    let names: Vec<_> = classes.iter().map(|(name, _)| name.as_str()).collect();
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
    let cure = "install the controller (for example `helm upgrade --install ingress-nginx ingress-nginx --repo \
                https://kubernetes.github.io/ingress-nginx`), or write harbor.ingress_class";
    let (is_there, says) = match wanted {
        Some(name) if names.contains(&name) => (true, format!("the ingress class {name} is there")),
        Some(name) => (false, format!("there is no ingress class {name} ({there}), so nobody will lead clients to Harbor")),
        None if classes.iter().any(|(_, is_default)| *is_default) => (true, "there is a default ingress class".to_owned()),
        None => (false, format!("no ingress class is the default ({there}), and harbor.ingress_class names none")),
    };
    if is_there {
        report.good(GROUP, says);
    } else {
        report.warn(GROUP, says, cure);
    }
}

fn certificate(report: &mut Report, spec: &Spec, seen: &Exposure, now: i64) {
    let (Some(certificate), Some(secret)) = (&seen.certificate, &spec.harbor.tls_secret) else { return };
    let (host, namespace) = (reached(spec).host, &spec.namespace);
    let make = format!("`kubectl create secret tls {secret} --namespace {namespace} --cert=FILE --key=FILE`, or have cert-manager make it");
    match certificate {
        Seen::Missing => report.warn(GROUP, format!("the Secret {secret} (harbor.tls_secret) is not there yet"), make),
        Seen::Malformed(why) => report.bad(GROUP, format!("the Secret {secret} (harbor.tls_secret): {why}"), make),
        Seen::There { names, .. } if !certificate.is_for(&host) => {
            let says = format!("the certificate in the Secret {secret} is for {}, and not for {host}", names.join(", "));
            report.bad(GROUP, says, "clients would refuse it: take one for this name, or correct harbor.host");
        }
        Seen::There { ends, .. } => {
            let days = (ends - now).div_euclid(DAY);
            let says = format!("the certificate for {host} in the Secret {secret} ends in {days} days");
            if days < 0 {
                report.bad(GROUP, format!("the certificate for {host} in the Secret {secret} has ended"), make);
            } else if days < SOON_DAYS {
                report.warn(GROUP, says, "renew it; whoever renews it by itself should have done so");
            } else {
                report.good(GROUP, says);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn judged(spec: &str, classes: &[(&str, bool)], certificate: Option<Seen>) -> Report {
        let spec = Spec::read(&format!("cluster: x\nharbor: {{host: harbor.example.com, {spec}}}")).unwrap();
        let classes = classes.iter().map(|(name, is_default)| ((*name).to_owned(), *is_default)).collect();
        let mut report = Report::default();
        judge(&mut report, &spec, &Exposure { classes: Some(classes), certificate }, NOW);
        report
    }

    fn there(name: &str, days: i64) -> Option<Seen> {
        Some(Seen::There { names: vec![name.to_owned()], ends: NOW + days * DAY })
    }

    #[test]
    fn a_class_that_nobody_serves_is_told() {
        for (spec, classes, word) in [
            ("expose: ingress", &[][..], "no ingress class is the default"),
            ("expose: ingress", &[("nginx", false)], "there are nginx"),
            ("expose: ingress, ingress_class: other", &[("nginx", true)], "no ingress class other"),
            ("expose: traefik", &[("nginx", true)], "no ingress class traefik"),
        ] {
            let report = judged(spec, classes, None);
            assert!(report.to_string().contains(word) && report.passed(), "{spec}: {report}");
        }
        for (spec, class) in [("expose: ingress", "nginx"), ("expose: traefik", "traefik")] {
            assert!(!judged(spec, &[(class, true)], None).to_string().contains('!'), "{spec}");
        }
        assert!(judged("expose: loadBalancer", &[], None).checks.is_empty());
    }

    #[test]
    fn a_certificate_that_clients_would_refuse_is_told_before_they_do() {
        let spec = "expose: ingress, tls_secret: harbor-tls";
        let with = |certificate| judged(spec, &[("nginx", true)], certificate);
        assert!(with(there("harbor.example.com", 90)).to_string().contains("ends in 90 days"));
        assert!(with(there("*.example.com", 90)).passed());
        for wrong in ["*.harbor.example.com", "example.com", "*.com"] {
            assert!(!with(there(wrong, 90)).passed(), "{wrong}");
        }
        assert!(with(there("harbor.example.com", 5)).to_string().contains("! the certificate"));
        assert!(!with(there("harbor.example.com", -1)).passed());
        assert!(with(Some(Seen::Missing)).to_string().contains("kubectl create secret tls harbor-tls --namespace harbor"));
        assert!(!with(Some(Seen::Malformed("it has no tls.crt".to_owned()))).passed());
    }
}
