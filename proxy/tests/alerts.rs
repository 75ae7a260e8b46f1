//! The alerts of the manifests: they ask for what a proxy really shows, and fire when they should.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::process::{self, Launch};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/components/monitoring")
}

/// The groups of rules, as Prometheus itself takes them.
fn groups() -> Value {
    let alerts: Value = serde_saphyr::from_str(&fs::read_to_string(folder().join("alerts.yaml")).unwrap()).unwrap();
    alerts["spec"].clone()
}

/// Every metric that an alert asks for is one that a proxy shows before its first client.
#[tokio::test]
async fn alerts_ask_for_metrics_that_exist() {
    let proxy = lab::Proxy::start(env!("CARGO_BIN_EXE_redis-tls-proxy"), &["rediss://127.0.0.1:1?listen=127.0.0.1:0"], &[]).await.unwrap();
    let metrics = proxy.metrics().await.unwrap();
    let shown: BTreeSet<_> =
        metrics.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let rules = groups()["groups"][0]["rules"].as_array().unwrap().clone();
    let mut asked = BTreeSet::new();
    for rule in &rules {
        let text = rule.to_string();
        let starts = text.match_indices("redis_tls_proxy_").map(|(at, _)| &text[at..]);
        asked.extend(starts.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap().to_owned()));
        for (key, value) in
            ["kind", "outcome", "reason", "result", "state"].iter().flat_map(|key| label_values(rule["expr"].as_str().unwrap(), key))
        {
            assert!(metrics.contains(&format!("{key}=\"{value}")), "{}: {key}={value}", rule["alert"]);
        }
    }
    assert!(rules.len() >= 10 && asked.len() >= 10, "{asked:?}");
    let missing: Vec<_> = asked.iter().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The values that an expression selects a label by, each alternative by itself.
fn label_values(expression: &str, key: &str) -> Vec<(String, String)> {
    let selectors = expression.split(key).skip(1).filter_map(|rest| {
        let quoted = rest.strip_prefix("=~\"").or_else(|| rest.strip_prefix("!=\"")).or_else(|| rest.strip_prefix("=\""))?;
        Some(quoted.split('"').next().unwrap().to_owned())
    });
    selectors
        .flat_map(|values| values.split('|').map(|value| (key.to_owned(), value.trim_end_matches(".*").to_owned())).collect::<Vec<_>>())
        .collect()
}

/// Prometheus' own tool takes them, and makes of `alerts.test.yaml`'s series what is said there.
#[test]
#[ignore = "needs promtool of Debian's prometheus: make test-cluster"]
fn prometheus_agrees() {
    let promtool = process::require("promtool", "prometheus").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yaml");
    fs::write(&rules, groups().to_string()).unwrap();
    process::run(Command::new(&promtool).args(["check", "rules"]).arg(&rules), Launch::default(), "").unwrap();
    // Their words are not repeated in the expectations.
    let mut groups = groups();
    for rule in groups["groups"][0]["rules"].as_array_mut().unwrap() {
        assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{rule}");
        rule.as_object_mut().unwrap().remove("annotations");
    }
    fs::write(&rules, groups.to_string()).unwrap();
    let tests = dir.path().join("tests.yaml");
    fs::copy(folder().join("alerts.test.yaml"), &tests).unwrap();
    process::run(Command::new(&promtool).args(["test", "rules"]).arg(&tests), Launch::default(), "").unwrap();
}
