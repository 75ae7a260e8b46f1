//! The pull secrets that a cluster keeps, and which of them end soon. Only their metadata is asked for, never a login.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::{DAY, Terms, is_late};
use crate::cluster::{Cluster, MANAGER};

/// Marks what is ours.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Which projects it is for: names, no secret.
pub(super) const SCOPE: &str = "doks-harbor/projects";
/// When its robot account ends (RFC 3339), and how many days it was made for; on those that end.
const EXPIRES: &str = "doks-harbor/expires";
const DAYS: &str = "doks-harbor/days";
pub(super) const TYPE: &str = "kubernetes.io/dockerconfigjson";
/// More than anybody has namespaces.
const MOST: u32 = 5_000;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    namespace: String,
    name: String,
    scope: String,
    /// Seconds since 1970, and the days that it was made for.
    ends: Option<(i64, u32)>,
}

impl Kept {
    /// `namespace/name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// When it ends, if `pull-secret` would renew it by now.
    #[must_use]
    pub fn ends_soon(&self, now: i64) -> Option<String> {
        let (at, _) = self.ends.filter(|(at, days)| is_late(*at, *days, now))?;
        Timestamp::from_second(at).ok().map(|time| time.to_string())
    }

    /// The command that renews it.
    #[must_use]
    pub fn renew(&self) -> String {
        let projects = match self.scope.as_str() {
            "*" => " --all-projects".to_owned(),
            names => names.split(',').map(|name| format!(" --project {name}")).collect(),
        };
        let days = self.ends.map(|(_, days)| format!(" --days {days}")).unwrap_or_default();
        format!("doks-harbor pull-secret --namespace {} --name {}{projects}{days}", self.namespace, self.name)
    }
}

/// What is written beside the login.
pub(super) fn annotations(terms: &Terms, expires: Option<i64>) -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::from([(SCOPE, terms.scope())]);
    if let (Some(days), Some(at)) = (terms.days, expires.and_then(|at| Timestamp::from_second(at).ok())) {
        all.extend([(EXPIRES, at.to_string()), (DAYS, days.to_string())]);
    }
    all
}

/// All that are ours, in all namespaces.
///
/// # Errors
/// When the API server refuses: who looks may need the right to list Secrets.
pub async fn all(cluster: &Cluster) -> Result<Vec<Kept>> {
    let which = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}")).fields(&format!("type={TYPE}")).limit(MOST);
    let found = Api::<Secret>::all(cluster.client.clone()).list_metadata(&which).await;
    let found = found.map_err(cluster.told("look for pull secrets in all namespaces"))?;
    let kept = found.items.into_iter().map(|secret| {
        let mut notes = secret.metadata.annotations.unwrap_or_default();
        let at = notes.get(EXPIRES).and_then(|at| at.parse::<Timestamp>().ok()).map(Timestamp::as_second);
        let days = notes.get(DAYS).and_then(|days| days.parse::<u32>().ok()).filter(|days| i64::from(*days) * DAY > 0);
        Kept {
            namespace: secret.metadata.namespace.unwrap_or_default(),
            name: secret.metadata.name.unwrap_or_default(),
            scope: notes.remove(SCOPE).unwrap_or_default(),
            ends: at.zip(days),
        }
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pull_secret_would_renew_is_late_and_told_how() {
        let kept =
            Kept { namespace: "one".to_owned(), name: "pull".to_owned(), scope: "web,tools".to_owned(), ends: Some((1_000_000, 30)) };
        assert_eq!(kept.ends_soon(1_000_000 - 10 * DAY), None);
        assert_eq!(kept.ends_soon(1_000_001 - 10 * DAY).as_deref(), Some("1970-01-12T13:46:40Z"));
        assert_eq!(kept.renew(), "doks-harbor pull-secret --namespace one --name pull --project web --project tools --days 30");
        let kept = Kept { scope: "*".to_owned(), ends: None, ..kept };
        assert_eq!(
            (kept.ends_soon(i64::MAX), kept.renew()),
            (None, "doks-harbor pull-secret --namespace one --name pull --all-projects".to_owned())
        );
    }
}
