//! From the release that is there to the one that is wanted. Pure.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::Release;
use crate::spec::ChartVersion;

/// Keys that differ are told up to this many.
const SHOWN: usize = 12;

/// What `helm upgrade --install` would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There is none.
    Install,
    /// Another chart.
    Upgrade {
        /// What is there.
        from: String,
        /// What is wanted.
        to: String,
        /// Keys whose values change as well.
        keys: Vec<String>,
    },
    /// The same chart with other values.
    Values {
        /// Dotted: `core.replicas`.
        keys: Vec<String>,
    },
    /// The last attempt failed.
    Again,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install => write!(f, "install"),
            Self::Upgrade { from, to, keys } if keys.is_empty() => write!(f, "upgrade chart {from} to {to}"),
            Self::Upgrade { from, to, keys } => write!(f, "upgrade chart {from} to {to}, with other values: {}", keys.join(", ")),
            Self::Values { keys } => write!(f, "other values: {}", keys.join(", ")),
            Self::Again => write!(f, "once more: the last attempt failed"),
        }
    }
}

/// What is to be done; nothing when the release is as it should be.
///
/// # Errors
/// When helm would refuse or data would suffer: an operation that is under way or was killed, another chart of this name, an older Harbor.
pub fn change(wanted: ChartVersion, values: &Value, there: Option<(&Release, &Value)>) -> Result<Option<Change>> {
    let Some((release, live)) = there else { return Ok(Some(Change::Install)) };
    let (name, revision) = (&release.name, &release.revision);
    let from = release.chart_version();
    let from = from
        .with_context(|| format!("the release {name} is of the chart {}, not of Harbor's; choose another harbor.release", release.chart))?;
    if release.status.starts_with("pending") || release.status == "uninstalling" {
        let cure = if release.status == "pending-install" || release.status == "uninstalling" { "uninstall" } else { "rollback" };
        bail!(
            "the release {name} is {}: helm is at work with it, or was killed. If nobody is at work with it: `helm {cure} {name}`, then run \
             again (revision {revision})",
            release.status
        );
    }
    if service(values).is_some_and(|ours| service(live) != Some(ours)) {
        let keeps = service(live).map_or_else(|| "in a database of its own".to_owned(), |host| format!("at {host}"));
        bail!(
            "the release {name} is a Harbor that doks-harbor has not installed: it keeps its tables {keeps}, and would find empty ones behind the              proxy. Choose another harbor.release or namespace; to move it, adopt its database and bucket in the spec, put its secretKey into the              keyring as harbor-secret-key, and uninstall the release first: its data stays"
        );
    }
    let before = ChartVersion::try_from(from.to_owned()).ok();
    if before.is_some_and(|before| before > wanted) {
        bail!(
            "chart {from} is installed and {wanted} is wanted: Harbor migrates its database forward only. Write harbor.chart: {from}, or go \
             back with a backup of the database of before the upgrade"
        );
    }
    let key = |values: &Value| values.get("secretKey").and_then(Value::as_str).map(str::to_owned);
    if let (Some(before), Some(after)) = (key(live), key(values))
        && before != after
    {
        bail!(
            "the release {name} encrypts with another secretKey than the keyring's harbor-secret-key: with that, Harbor could not read what is in its \
             database. Write the release's (`helm get values {name}`) into the keyring, and run again"
        );
    }
    let keys = differing(live, values);
    Ok(if from != wanted.to_string() {
        Some(Change::Upgrade { from: from.to_owned(), to: wanted.to_string(), keys })
    } else if !keys.is_empty() {
        Some(Change::Values { keys })
    } else if release.status != "deployed" {
        Some(Change::Again)
    } else {
        None
    })
}

/// The Service that leads to the database: the first part of its host.
fn service(values: &Value) -> Option<&str> {
    values.pointer("/database/external/host").and_then(Value::as_str).and_then(|host| host.split('.').next())
}

/// The keys at which two documents of values differ: names alone, for some values are secret.
fn differing(live: &Value, wanted: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    walk("", live, wanted, &mut keys);
    let more = keys.len().saturating_sub(SHOWN);
    keys.truncate(SHOWN);
    if more > 0 {
        keys.push(format!("{more} more"));
    }
    keys
}

fn walk(path: &str, live: &Value, wanted: &Value, keys: &mut Vec<String>) {
    match (live, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), keys);
            }
        }
        // Helm's way through JSON makes 100 of 100.0.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        // An empty map says no more than none.
        (Value::Null, Value::Object(fields)) | (Value::Object(fields), Value::Null) if fields.is_empty() => {}
        _ if live == wanted => {}
        _ => keys.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WANTED: ChartVersion = ChartVersion { major: 1, minor: 18, patch: 3 };

    fn release(chart: &str, status: &str) -> Release {
        Release { name: "harbor".into(), revision: "4".into(), status: status.into(), chart: chart.into(), app_version: "2.14.3".into() }
    }

    fn of(chart: &str, status: &str, live: &Value) -> Result<Option<Change>> {
        change(WANTED, &json!({"core": {"replicas": 2}, "trivy": {"enabled": true}}), Some((&release(chart, status), live)))
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let same = json!({"core": {"replicas": 2.0}, "trivy": {"enabled": true}, "portal": {}});
        assert_eq!(of("harbor-1.18.3", "deployed", &same).unwrap(), None);
        assert_eq!(of("harbor-1.18.3", "failed", &same).unwrap(), Some(Change::Again));
        assert_eq!(change(WANTED, &same, None).unwrap(), Some(Change::Install));
    }

    #[test]
    fn differences_are_told_by_their_keys_alone() {
        let live = json!({"core": {"replicas": 1, "secret": "hidden"}, "trivy": {"enabled": true}});
        let change = of("harbor-1.18.3", "deployed", &live).unwrap().unwrap();
        assert_eq!(change, Change::Values { keys: vec!["core.replicas".into(), "core.secret".into()] });
        assert!(!change.to_string().contains("hidden"));
        let upgrade = of("harbor-1.17.3", "deployed", &live).unwrap().unwrap().to_string();
        assert_eq!(upgrade, "upgrade chart 1.17.3 to 1.18.3, with other values: core.replicas, core.secret");
        let many: Value = (0..40).map(|number| (format!("key{number}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        assert_eq!(differing(&many, &json!({})).last().unwrap(), "28 more");
    }

    #[test]
    fn a_harbor_of_others_is_not_led_to_empty_tables() {
        let at = |host: &str| json!({"database": {"external": {"host": host}}});
        let ours = at("redis-proxy.harbor.svc.cluster.local");
        let there = release("harbor-1.18.3", "deployed");
        for theirs in [at("private-pg.db.ondigitalocean.com"), json!({"database": {"type": "internal"}}), Value::Null] {
            let refused = change(WANTED, &ours, Some((&there, &theirs))).unwrap_err().to_string();
            assert!(refused.contains("harbor-secret-key"), "{refused}");
        }
        assert!(change(WANTED, &ours, Some((&there, &at("redis-proxy")))).unwrap().is_some(), "an older rendering of ours");
    }

    #[test]
    fn what_would_lose_something_is_refused() {
        let of_an_old_chart = release("harbor-1.9.6", "deployed");
        let wanted = ChartVersion { major: 1, minor: 9, patch: 6 };
        let key = |key: &str| json!({ "secretKey": key });
        let refused = change(wanted, &key("one"), Some((&of_an_old_chart, &key("other")))).unwrap_err().to_string();
        assert!(refused.contains("harbor-secret-key") && !refused.contains("other\""), "{refused}");
        assert_eq!(change(wanted, &key("one"), Some((&of_an_old_chart, &key("one")))).unwrap(), None);
        for (chart, status, word) in [
            ("harbor-1.19.0", "deployed", "forward only"),
            ("harbor-1.18.3", "pending-upgrade", "helm rollback harbor"),
            ("harbor-1.18.3", "pending-install", "helm uninstall harbor"),
            ("nginx-1.18.3", "deployed", "another harbor.release"),
        ] {
            let refused = of(chart, status, &json!({})).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
