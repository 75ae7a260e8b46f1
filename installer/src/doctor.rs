//! What is wrong, or will be soon, with its cure. Pure: it judges what was seen.

use serde::Serialize;

use crate::checks::Report;
use crate::cluster::exposure::Exposure;
use crate::cluster::proxies::{Proxies, Proxy};
use crate::harbor::system::Health;
use crate::helm::Release;
use crate::names::Names;
use crate::observe::Observed;
use crate::plan::{ClusterPlan, HarborPlan, Plan, Whole};
use crate::preflight;
use crate::pull_secret::kept::Kept;
use crate::spec::Spec;

/// A certificate with so few days left is worth a word: whoever renews them by themselves does so with 30 left.
const CERTIFICATE_DAYS: i64 = 21;
/// An error of before that is history.
const RECENT_SECONDS: i64 = 15 * 60;
/// So many are named.
const MOST_NAMED: usize = 5;

/// The cure of most.
const APPLY: &str = "`doks-harbor apply` mends it; `doks-harbor plan` shows how";

/// What was asked, or why there is no answer.
pub type Told<T> = Result<T, String>;

/// What the cluster tells.
#[derive(Serialize)]
pub struct Inside {
    /// The proxies.
    pub proxies: Proxies,
    /// How Harbor is to be reached.
    #[serde(skip)]
    pub exposure: Told<Exposure>,
    /// Harbor's release.
    #[serde(serialize_with = "told")]
    pub release: Told<Option<Release>>,
    /// Harbor by its own words.
    #[serde(serialize_with = "told")]
    pub health: Told<Health>,
    /// Days that Harbor's own certificate has left; nothing where it is not in the cluster (a Gateway's).
    #[serde(serialize_with = "told")]
    pub certificate_days: Told<Option<i64>>,
    /// The logins with which pods pull.
    #[serde(skip)]
    pub pull_secrets: Told<Vec<Kept>>,
}

/// What was told, or `{"error": why}`.
pub(crate) fn told<T: Serialize, S: serde::Serializer>(what: &Told<T>, to: S) -> Result<S::Ok, S::Error> {
    match what {
        Ok(what) => what.serialize(to),
        Err(why) => serde_json::json!({ "error": why }).serialize(to),
    }
}

/// All that can be said of an installation.
#[must_use]
pub fn judge(spec: &Spec, cloud: &Observed, whole: &Whole, inside: Option<&Told<Inside>>, now: i64) -> Report {
    let mut report = Report::default();
    drift(&mut report, &whole.cloud);
    leftovers(&mut report, cloud, &cloud.names);
    match inside {
        None => {}
        Some(Err(why)) => report.bad("cluster", why, "mend the way into the cluster, or say --cloud to leave it out"),
        Some(Ok(inside)) => {
            whole.cluster.iter().for_each(|plan| cluster(&mut report, plan));
            proxies(&mut report, &inside.proxies);
            match &inside.exposure {
                Ok(seen) => preflight::exposure::judge(&mut report, spec, seen, now),
                Err(why) => report.warn("exposure", why, "the same as for the cluster"),
            }
            whole.harbor.iter().for_each(|plan| release(&mut report, plan, &inside.release));
            // One of the user's own is judged with the exposure.
            if spec.harbor.tls_secret.is_none() {
                certificate(&mut report, &inside.certificate_days);
            }
            match &inside.health {
                Ok(health) if health.is_healthy() => report.good("harbor", health.to_string()),
                Ok(health) => report.bad("harbor", health.to_string(), cure_of(health, spec)),
                Err(why) => report.bad("harbor", format!("it cannot be asked for its health: {why}"), "`doks-harbor smoke` tells more"),
            }
            pull_secrets(&mut report, &inside.pull_secrets, now);
        }
    }
    report
}

/// What we have put into the cluster, and what has become of it.
fn cluster(report: &mut Report, plan: &ClusterPlan) {
    const GROUP: &str = "cluster";
    plan.refusals.iter().for_each(|why| report.bad(GROUP, why, "nothing else can be mended before"));
    for change in plan.changes.iter().take(MOST_NAMED) {
        let first = change.lines.first().map(|line| format!(" ({})", line.trim())).unwrap_or_default();
        report.bad(GROUP, format!("{} {} is not as it should be{first}", change.kind, change.name), APPLY);
    }
    if plan.changes.len() > MOST_NAMED {
        report.bad(GROUP, format!("and {} more objects", plan.changes.len() - MOST_NAMED), "`doks-harbor plan` shows all");
    }
    if !plan.keyring.is_empty() {
        report.warn(
            GROUP,
            format!("the cluster has not got {} of the keyring", plan.keyring.join(", ")),
            "`doks-harbor apply` puts it there",
        );
    }
    if let Some(job) = &plan.job {
        report.bad(GROUP, format!("the database was not prepared: {job}"), APPLY);
    }
    plan.later.iter().for_each(|what| report.warn(GROUP, format!("not there yet: {what}"), APPLY));
    if plan.is_empty() && plan.refusals.is_empty() {
        report.good(GROUP, format!("what is ours in the namespace {} is as it should be", plan.namespace));
    }
}

fn drift(report: &mut Report, plan: &Plan) {
    for refusal in &plan.refusals {
        report.bad("cloud", refusal, "nothing else can be mended before");
    }
    for item in &plan.items {
        for step in &item.steps {
            report.bad("cloud", format!("{} {}: {step} is to be done", item.kind, item.name), APPLY);
        }
    }
    if plan.refusals.is_empty() && plan.is_empty() {
        report.good("cloud", "databases, firewalls and bucket are as the spec says");
    }
}

/// What a run that was killed, or another keyring, has left.
fn leftovers(report: &mut Report, cloud: &Observed, names: &Names) {
    let spaces = &cloud.spaces;
    for key in &spaces.temporary {
        report.warn(
            "leftovers",
            format!("temporary Spaces key {} of a run that was killed", key.access_key),
            "the next `doks-harbor apply` deletes it",
        );
    }
    for key in &spaces.others {
        let cure = "of another keyring: delete it in the control panel if nobody uses that keyring any more";
        report.warn("leftovers", format!("Spaces key {} ({})", key.access_key, key.name), cure);
    }
    if let Some(key) = &spaces.retiring {
        let cure = "once Harbor's registry runs with the new one: `doks-harbor rotate spaces --finish`";
        report.warn("leftovers", format!("the old Spaces key {key} is still valid"), cure);
    }
    if spaces.temporary.is_empty() && spaces.others.is_empty() && spaces.retiring.is_none() {
        report.good("leftovers", format!("none of {}", names.bucket()));
    }
}

fn proxies(report: &mut Report, proxies: &Proxies) {
    const GROUP: &str = "proxy";
    let Some(wanted) = proxies.wanted else {
        return report.bad(GROUP, "is not deployed", "`doks-harbor apply`");
    };
    let ready = proxies.ready();
    if wanted == 0 {
        report.bad(GROUP, "no node is one that it is wanted on", "proxy.node_pools of the spec must name pools of this cluster");
    } else if usize::try_from(wanted).is_ok_and(|wanted| ready >= wanted) {
        report.good(GROUP, format!("ready on {ready} of {wanted} nodes"));
    }
    let troubled: Vec<_> = proxies.pods.iter().filter_map(|proxy| proxy.trouble.as_ref().map(|why| (proxy, why))).collect();
    for (proxy, why) in troubled.iter().take(MOST_NAMED) {
        let cure =
            format!("Harbor's pods on this node do not reach their databases: `kubectl logs {}` and `kubectl describe pod {0}`", proxy.pod);
        report.bad(GROUP, format!("{} on {}: {why}", proxy.pod, proxy.node), cure);
    }
    if troubled.len() > MOST_NAMED {
        report.bad(GROUP, format!("and {} more", troubled.len() - MOST_NAMED), "`doks-harbor status` shows all");
    }
    let missing = usize::try_from(wanted).unwrap_or(0).saturating_sub(proxies.pods.len());
    if missing > 0 {
        let cure = "`kubectl describe daemonset redis-tls-proxy` tells what keeps its pods away";
        report.bad(GROUP, format!("{missing} of {wanted} nodes have no pod of it"), cure);
    }
    upstreams(report, proxies);
}

/// What the proxies know of their servers: the worst certificate of each, and what went wrong a moment ago.
fn upstreams(report: &mut Report, proxies: &Proxies) {
    const GROUP: &str = "upstreams";
    let told = || proxies.pods.iter().filter_map(|proxy| proxy.status.as_ref().map(|status| (proxy, status)));
    let mut certificates: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
    for (_, status) in told() {
        for listener in &status.listeners {
            if let Some(certificate) = listener.upstream_certificate {
                let least = certificates.entry(&listener.upstream).or_insert(certificate.days_left);
                *least = certificate.days_left.min(*least);
            }
        }
    }
    for (upstream, days) in certificates {
        if days < CERTIFICATE_DAYS {
            let cure = "DigitalOcean renews it in the maintenance window; start one in the control panel, or ask its support";
            report.bad(GROUP, format!("the certificate of {upstream} ends in {days} days"), cure);
        } else {
            report.good(GROUP, format!("{upstream}: certificate good for {days} days"));
        }
    }
    let recent = told().flat_map(|(proxy, status)| {
        let errors = status.listeners.iter().filter_map(|listener| Some((listener, listener.last_error.as_ref()?)));
        errors.filter(|(_, error)| status.now - error.at < RECENT_SECONDS && error.side != "client").map(move |found| (proxy, found))
    });
    for (proxy, (listener, error)) in recent.take(MOST_NAMED) {
        report.warn(GROUP, format!("{} on {}: {}", listener.name, proxy.node, error.message), said(proxy));
    }
}

fn said(proxy: &Proxy) -> String {
    format!("`kubectl logs {}` tells whether it goes on", proxy.pod)
}

fn release(report: &mut Report, plan: &HarborPlan, release: &Told<Option<Release>>) {
    const GROUP: &str = "harbor";
    plan.refusals.iter().for_each(|why| report.bad(GROUP, why, "nothing else of Harbor can be changed before"));
    if let Some(why) = &plan.by_hand {
        report.warn(GROUP, why, "what else is told here is true all the same");
    }
    if let Some(change) = &plan.change {
        report.bad(GROUP, format!("release {}: {change} is to be done", plan.release), APPLY);
    }
    if let (Ok(Some(release)), true) = (release, plan.is_empty() && plan.refusals.is_empty()) {
        report.good(GROUP, format!("{} {} (Harbor {})", release.chart, release.status, release.app_version));
    }
}

/// The one that Harbor's clients see.
fn certificate(report: &mut Report, days: &Told<Option<i64>>) {
    const GROUP: &str = "harbor";
    const CURE: &str = "with harbor.tls_secret: renew it there (cert-manager does). One that the chart made lasts a year and is made anew with each \
                        `helm upgrade`; `doks-harbor trust` then tells the new authority";
    match days {
        Ok(None) => {}
        Ok(Some(days)) if *days < 0 => report.bad(GROUP, "its certificate has expired", CURE),
        Ok(Some(days)) if *days < CERTIFICATE_DAYS => report.bad(GROUP, format!("its certificate ends in {days} days"), CURE),
        Ok(Some(days)) => report.good(GROUP, format!("its certificate is good for {days} days")),
        Err(why) => report.warn(GROUP, format!("its certificate cannot be looked at: {why}"), "`doks-harbor smoke` tells more"),
    }
}

/// Robot accounts that end: then pods do not start on nodes that have not got their image yet.
fn pull_secrets(report: &mut Report, kept: &Told<Vec<Kept>>, now: i64) {
    const GROUP: &str = "pull secrets";
    let kept = match kept {
        Ok(kept) => kept,
        Err(why) => return report.warn(GROUP, why, "who may list Secrets in all namespaces sees them"),
    };
    let ending: Vec<_> = kept.iter().filter_map(|one| Some((one, one.ends_soon(now)?))).collect();
    for (one, when) in ending.iter().take(MOST_NAMED) {
        report.warn(GROUP, format!("the login in {} ends at {when}", one.path()), format!("`{}` renews it", one.renew()));
    }
    if ending.len() > MOST_NAMED {
        report.warn(GROUP, format!("and {} more", ending.len() - MOST_NAMED), "the same for these");
    }
    if ending.is_empty() && !kept.is_empty() {
        report.good(GROUP, format!("{} in the cluster, none ends soon", kept.len()));
    }
}

/// Where to look, by what is not well.
fn cure_of(health: &Health, spec: &Spec) -> String {
    let release = &spec.harbor.release;
    let by_name = |name: &str| health.ailing().any(|component| component.name == name);
    if by_name("database") || by_name("redis") {
        return "the way to the databases: look at the proxies above, then at `kubectl logs` of core".to_owned();
    }
    match health.ailing().next() {
        Some(component) => format!("`kubectl get pods --selector=release={release}` and `kubectl logs` of {}", component.name),
        None => format!("`kubectl get pods --selector=release={release}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_and_what_was_not_done_is_told() {
        let told = |days| {
            let mut report = Report::default();
            certificate(&mut report, &days);
            report
        };
        assert!(told(Ok(None)).passed() && told(Ok(Some(CERTIFICATE_DAYS))).passed());
        assert!(!told(Ok(Some(CERTIFICATE_DAYS - 1))).passed());
        assert!(told(Ok(Some(-3))).to_string().contains("expired"));
        let mut report = Report::default();
        cluster(&mut report, &ClusterPlan { job: Some("the last one failed: exit code 1".to_owned()), ..ClusterPlan::default() });
        assert!(!report.passed() && report.to_string().contains("the last one failed"), "{report}");
    }
}
