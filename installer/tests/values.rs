//! Harbor's values against its charts: every key that is rendered exists in the chart of that version, with the same type, for each exposure;
//! readers of YAML 1.1, such as Helm, see what was meant; and the user's own values are on top, unless they break what must hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests say what they expect, like the tests"
)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use doks_harbor::render::{self, Rendered};
use doks_harbor::spec::{ChartVersion, Expose, Spec};
use fixture::{CHARTS, EXPOSURES, chart, facts, shared, spec};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "golden/fixture.rs"]
mod fixture;

/// Maps whose keys are the user's own.
const FREE_FORM: [&str; 4] = ["annotations", "labels", "podAnnotations", "affinity"];

fn values(spec: &Spec, user: Option<&Value>) -> Value {
    read(&render::helm(spec, &facts(), user).unwrap())
}

fn read(rendered: &Rendered) -> Value {
    serde_saphyr::from_str(&rendered.files["harbor/values.yaml"]).unwrap()
}

fn spec_for(chart: ChartVersion, expose: Expose) -> Spec {
    let mut spec = spec();
    spec.harbor.chart = chart;
    spec.harbor.expose = expose;
    spec
}

/// The chart's own values. Some keys it names in comments only: all of S3's, and this one of the administrator.
fn referee(chart: ChartVersion) -> Option<Value> {
    let text = fs::read_to_string(shared(&format!("harbor/values-{chart}.yaml"))?).unwrap();
    let mut in_s3 = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        in_s3 = bare == "s3:" || (in_s3 && bare != "swift:");
        let commented = bare.strip_prefix('#').filter(|rest| in_s3 && !rest.starts_with(' '));
        let indentation = &line[..line.len() - bare.len()];
        lines.push(match commented {
            Some(key) => format!("{indentation}{key}"),
            None if bare == "# existingSecretAdminPassword:" => "existingSecretAdminPassword: \"\"".to_owned(),
            None => line.to_owned(),
        });
    }
    Some(serde_saphyr::from_str(&lines.join("\n")).unwrap_or_else(|error| panic!("{chart}: {error}")))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// Walks what we have beside what the chart has. Returns how many keys it saw.
fn compare(ours: &Value, theirs: &Value, path: &str, wrong: &mut Vec<String>) -> usize {
    let Value::Object(map) = ours else { return 0 };
    let mut seen = 0;
    for (key, value) in map {
        seen += 1;
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(default) = theirs.get(key) else {
            wrong.push(format!("{path} does not exist"));
            continue;
        };
        // 1.18 says `{}` and shows a list in the comment above it.
        let is_mistold = path == "expose.route.parentRefs" && *default == json!({});
        if kind(value) != kind(default) && !default.is_null() && !is_mistold {
            wrong.push(format!("{path} is a {}, and the chart has a {}", kind(value), kind(default)));
        }
        if !FREE_FORM.contains(&key.as_str()) && !default.is_null() {
            seen += compare(value, default, &path, wrong);
        }
    }
    seen
}

#[test]
fn every_key_exists_in_its_chart_with_the_same_type() {
    let mut rendered = 0;
    for version in CHARTS.map(chart) {
        let Some(referee) = referee(version) else { return };
        for expose in EXPOSURES {
            let mut spec = spec_for(version, expose);
            if expose == Expose::Route && version.minor < 18 {
                let problems = render::helm(&spec, &facts(), None).unwrap_err();
                assert!(problems.iter().any(|problem| problem.starts_with("harbor.expose")), "{problems:?}");
                continue;
            }
            for tls_secret in [None, Some("tls".to_owned())] {
                spec.harbor.tls_secret = tls_secret;
                let mut wrong = Vec::new();
                let seen = compare(&values(&spec, None), &referee, "", &mut wrong);
                assert!(wrong.is_empty(), "{version} {expose:?}: {wrong:#?}");
                assert!(seen > 60, "{version} {expose:?}: only {seen} keys");
                rendered += 1;
            }
        }
    }
    assert_eq!(rendered, 2 * (6 * 5 + 2));
}

#[test]
fn secrets_as_values_exist_in_their_charts_too() {
    for version in CHARTS.map(chart) {
        let Some(referee) = referee(version) else { return };
        let spec = spec_for(version, Expose::ClusterIp);
        let Some(text) = render::secret_values(&spec, |_| Some("secret".into())).unwrap() else { continue };
        let ours: Value = serde_saphyr::from_str(secrecy_text(&text)).unwrap();
        let mut wrong = Vec::new();
        assert!(compare(&ours, &referee, "", &mut wrong) > 4);
        assert!(wrong.is_empty(), "{version}: {wrong:#?}");
    }
}

fn secrecy_text(secret: &secrecy::SecretString) -> &str {
    use secrecy::ExposeSecret;
    secret.expose_secret()
}

#[test]
fn the_chart_is_told_how_it_is_reached() {
    let of = |expose, host: Option<&str>| {
        let mut spec = spec_for(ChartVersion::NEWEST, expose);
        spec.harbor.host = host.map(str::to_owned);
        spec.harbor.tls_secret = None;
        spec.harbor.ingress_class = None;
        values(&spec, None)
    };
    let inside = of(Expose::ClusterIp, None);
    assert_eq!(inside["externalURL"], "https://spec-release.spec-namespace.svc");
    assert_eq!(inside["expose"]["tls"]["auto"]["commonName"], "spec-release.spec-namespace.svc");
    assert_eq!(inside["expose"]["clusterIP"]["name"], "spec-release");
    let host = Some("harbor.example.com");
    assert_eq!(of(Expose::NodePort, host)["externalURL"], "https://harbor.example.com:30003");
    assert_eq!(of(Expose::Ingress, host)["expose"]["ingress"].get("className"), None, "the cluster's default");
    let traefik = of(Expose::Traefik, host);
    assert_eq!((&traefik["expose"]["type"], &traefik["expose"]["ingress"]["className"]), (&json!("ingress"), &json!("traefik")));
    let route = of(Expose::Route, host);
    let parents = json!([{"name": "spec-gateway-name", "namespace": "spec-gateway-namespace"}]);
    assert_eq!((&route["expose"]["route"]["parentRefs"], &route["expose"]["tls"]["enabled"]), (&parents, &json!(false)));
    for expose in EXPOSURES {
        let has_nginx = !matches!(expose, Expose::Ingress | Expose::Traefik | Expose::Route);
        assert_eq!(of(expose, host).get("nginx").is_some(), has_nginx, "{expose:?}");
    }
}

#[test]
fn helm_reads_what_was_meant() {
    let probe = Command::new("python3").args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 with PyYAML, which reads YAML 1.1, is not here");
        return;
    }
    let words = [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "012",
        "0o17",
        "0x1F",
        "1_000",
        "1:30",
        "1e3",
        ".5",
        ".inf",
        "~",
        "null",
        "2001-01-01",
        "=",
        "<<",
        "",
        " x",
        "#",
        "a: b",
        "&a",
        "*a",
        "!t",
        "%",
        "@",
    ];
    let user = json!({
        "core": {"podAnnotations": words.iter().map(|word| (format!("k-{word}"), json!(word))).collect::<serde_json::Map<_, _>>()},
        "portal": {"podAnnotations": words.iter().map(|word| ((*word).to_owned(), json!(1))).collect::<serde_json::Map<_, _>>()},
        "logLevel": "off",
    });
    // The writer is one: each exposure once, and each chart.
    let of_newest = EXPOSURES.map(|expose| (ChartVersion::NEWEST, expose));
    let mut texts = Vec::new();
    for (version, expose) in of_newest.into_iter().chain(CHARTS.map(|version| (chart(version), Expose::LoadBalancer))) {
        texts.extend(render::helm(&spec_for(version, expose), &facts(), Some(&user)).unwrap().files);
    }
    texts.extend(render::compose(&spec(), &facts()).unwrap().files);
    texts.retain(|(path, _)| path.ends_with(".yaml") || path.ends_with(".yml"));
    assert_eq!(texts.len(), 12 * 5 + 3);
    let read = yaml_1_1(&texts.iter().map(|(_, text)| text.as_str()).collect());
    for ((path, text), read) in texts.iter().zip(read) {
        let ours: Value = serde_saphyr::from_multiple::<Value>(text).unwrap().into();
        assert_eq!(read, ours, "{path}:\n{text}");
    }
}

/// What a reader of YAML 1.1 sees in each of these files: a list of documents each.
fn yaml_1_1(texts: &Value) -> Vec<Value> {
    let read = "import json, sys, yaml; json.dump([list(yaml.safe_load_all(text)) for text in json.load(sys.stdin)], sys.stdout)";
    let mut python = Command::new("python3").args(["-c", read]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(texts.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "PyYAML cannot read it");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(user: &Value) -> Vec<String> {
    render::helm(&spec(), &facts(), Some(user)).err().unwrap_or_default()
}

#[test]
fn what_must_hold_is_refused_by_name() {
    for (user, key) in [
        (json!({"database": {"external": {"host": "elsewhere"}}}), "database.external.host"),
        (json!({"database": {"external": {"sslmode": "require"}}}), "database.external.sslmode"),
        (json!({"database": {"external": {"port": 5433}}}), "database.external.port"),
        (json!({"database": {"external": null}}), "database.external"),
        (json!({"database": {"type": "internal"}}), "database.type"),
        (json!({"redis": {"type": "internal"}}), "redis.type"),
        (json!({"redis": "x"}), "redis"),
        (json!({"redis": {"external": {"addr": "x:1"}}}), "redis.external.addr"),
        (json!({"persistence": {"imageChartStorage": {"type": "filesystem"}}}), "persistence.imageChartStorage.type"),
        (json!({"persistence": {"imageChartStorage": {"s3": {"bucket": "b"}}}}), "persistence.imageChartStorage.s3.bucket"),
        (json!({"persistence": {"imageChartStorage": {"s3": {"regionendpoint": "b"}}}}), "persistence.imageChartStorage.s3.regionendpoint"),
        (json!({"persistence": {"imageChartStorage": {"s3": {"secretkey": "b"}}}}), "persistence.imageChartStorage.s3.secretkey"),
        (json!({"existingSecretSecretKey": "mine"}), "existingSecretSecretKey"),
        (json!({"core": {"existingSecret": "mine"}}), "core.existingSecret"),
        (json!({"core": {"secretName": null}}), "core.secretName"),
        (json!({"core": {"affinity": {"nodeAffinity": null}}}), "core.affinity.nodeAffinity"),
        (json!({"harborAdminPassword": "Harbor12345"}), "harborAdminPassword"),
        (json!({"secretKey": "0123456789abcdef"}), "secretKey"),
        (json!({"database": {"external": {"password": "p"}}}), "database.external.password"),
        (json!({"trivy": {"gitHubToken": "t"}}), "trivy.gitHubToken"),
        (json!({"internalTLS": {"core": {"key": "-----BEGIN PRIVATE KEY-----"}}}), "internalTLS.core.key"),
        (json!(["a"]), "must be a map"),
    ] {
        let problems = refused(&user);
        assert!(problems.iter().any(|problem| problem.starts_with("harbor.values: ") && problem.contains(key)), "{key}: {problems:?}");
        for secret in ["Harbor12345", "0123456789abcdef"] {
            assert!(!problems.concat().contains(secret), "{problems:?}");
        }
    }
    // All at once; what is the same is no conflict, nor is a secret that is empty.
    assert_eq!(refused(&json!({"database": {"type": "internal"}, "redis": {"type": "internal"}})).len(), 2);
    assert!(refused(&json!({"database": {"type": "external", "external": {"password": ""}}, "secretKey": null})).is_empty());
}

#[test]
fn the_users_values_win_elsewhere() {
    let user = json!({"core": {"replicas": 3, "podAnnotations": {"a/b": "c"}}, "trivy": {"resources": null}, "jobservice": {"jobLoggers": ["file"]}});
    let rendered = render::helm(&spec(), &facts(), Some(&user)).unwrap();
    let values = read(&rendered);
    assert_eq!((&values["core"]["replicas"], &values["core"]["podAnnotations"]["a/b"]), (&json!(3), &json!("c")));
    assert_eq!(values["core"]["secretName"], "spec-release-token");
    assert_eq!((&values["jobservice"]["jobLoggers"], values["trivy"].get("resources")), (&json!(["file"]), Some(&Value::Null)));
    assert!(rendered.warnings.iter().any(|warning| warning.contains("jobLoggers")), "{:?}", rendered.warnings);
}

/// The user's values that nothing speaks against, as paths and leaves.
fn allowed() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        Just("core.replicas"),
        Just("core.podAnnotations.a"),
        Just("core"),
        Just("database.maxOpenConns"),
        Just("expose.ingress.annotations"),
        Just("externalURL"),
        Just("logLevel"),
        Just("proxy"),
        Just("registry.affinity.podAntiAffinity"),
        Just("trivy.resources.limits.cpu"),
        Just("x.y"),
    ];
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[ -~]{0,8}".prop_map(Value::from), Just(json!([1, "no"]))];
    prop::collection::vec((path, leaf), 0..6).prop_map(|pairs| {
        let mut user = json!({});
        for (path, leaf) in pairs {
            // All of core cannot be replaced: what it refers to must hold.
            let leaf = if path == "core" { json!({"x": leaf}) } else { leaf };
            lay(&mut user, path, leaf);
        }
        user
    })
}

fn lay(into: &mut Value, path: &str, leaf: Value) {
    if !into.is_object() {
        *into = json!({});
    }
    match path.split_once('.') {
        Some((key, rest)) => lay(into.as_object_mut().unwrap().entry(key).or_insert(json!({})), rest, leaf),
        None => into[path] = leaf,
    }
}

/// Every leaf that the upper one has is there; every other one is the lower one's.
fn is_laid_over(result: Option<&Value>, upper: Option<&Value>, lower: Option<&Value>) -> bool {
    match (upper, result) {
        (None, _) => result == lower,
        (Some(Value::Object(upper)), Some(Value::Object(result))) => {
            let lower = lower.and_then(Value::as_object);
            let is_right = |key: &String| is_laid_over(result.get(key), upper.get(key), lower.and_then(|lower| lower.get(key)));
            upper.keys().chain(lower.into_iter().flat_map(serde_json::Map::keys)).all(is_right)
        }
        _ => result == upper,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn merging_is_what_helm_does(user in allowed()) {
        let rendered = render::helm(&spec(), &facts(), Some(&user)).map_err(|problems| TestCaseError::fail(problems.join("\n")))?;
        let (result, ours) = (read(&rendered), values(&spec(), None));
        prop_assert!(is_laid_over(Some(&result), Some(&user), Some(&ours)), "{user}\n{result}");
        // Given back as the user's own, the result changes nothing.
        let again = render::helm(&spec(), &facts(), Some(&result)).map_err(|problems| TestCaseError::fail(problems.join("\n")))?;
        prop_assert_eq!(read(&again), result);
    }
}
