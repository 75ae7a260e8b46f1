//! What is rendered, from outside: golden files in which each setting is its own name, the proxy's own judgement, and no secret anywhere.
//! `UPDATE_GOLDEN=1` writes the golden files anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests say what they expect, like the tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use doks_harbor::facts::Facts;
use doks_harbor::keyring::{Entry, Keyring};
use doks_harbor::render::{self, Budget, Rendered, proxy};
use doks_harbor::spec::{ChartVersion, Expose, Spec};
use fixture::{CHARTS, EXPOSURES, chart, facts, spec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

#[path = "golden/fixture.rs"]
mod fixture;

fn helm(spec: &Spec, facts: &Facts) -> Rendered {
    render::helm(spec, facts, None).unwrap()
}

fn values(rendered: &Rendered) -> Value {
    serde_saphyr::from_str(&rendered.files["harbor/values.yaml"]).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// Every rendering whose whole text is kept: all files once, the values of each chart and exposure.
fn golden() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut keep = |folder: String, rendered: Rendered| {
        files.extend(rendered.files.into_iter().map(|(path, text)| (format!("{folder}/{path}"), text)));
    };
    keep("helm".to_owned(), helm(&spec(), &facts()));
    let mut old = spec();
    old.harbor.chart = chart(CHARTS[0]);
    keep("helm-1.8".to_owned(), helm(&old, &facts()));
    keep("compose".to_owned(), render::compose(&spec(), &facts()).unwrap());
    let of_newest = EXPOSURES.map(|expose| (ChartVersion::NEWEST, expose));
    for (version, expose) in of_newest.into_iter().chain(CHARTS.map(|version| (chart(version), Expose::ClusterIp))) {
        let mut spec = spec();
        (spec.harbor.chart, spec.harbor.expose) = (version, expose);
        files.insert(format!("values/{version}-{}.yaml", expose.word()), helm(&spec, &facts()).files["harbor/values.yaml"].clone());
    }
    files
}

#[test]
fn golden_files_are_what_is_rendered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = golden();
    for (path, text) in &files {
        let file = folder.join(path);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}; UPDATE_GOLDEN=1 writes it"));
        assert!(
            kept == *text,
            "{path} has changed; if that is meant, UPDATE_GOLDEN=1 writes it anew.\n--- kept\n{kept}\n--- rendered\n{text}"
        );
    }
    assert_eq!(files.len(), 7 + 7 + 7 + 11, "{:?}", files.keys());
    // And nothing is kept that is rendered no more.
    assert_eq!(count(&folder), files.len() + 1, "the fixture, and one file for each");
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

#[test]
fn every_word_of_spec_and_facts_arrives() {
    let all: String = golden().into_values().collect();
    for word in [
        "spec-namespace",
        "spec-proxy-image:1",
        "spec-node-pool-1",
        "spec-node-pool-2",
        "spec-release",
        "spec-host.example",
        "spec-tls-secret",
        "spec-ingress-class",
        "spec-gateway-namespace",
        "spec-gateway-name",
        "facts-postgres-host.example.:25060/facts-postgres-database",
        "facts-postgres-user",
        "facts-postgres-ca",
        "rediss://facts-valkey-user@facts-valkey-host.example.:25061",
        "facts-valkey-ca",
        "https://facts-spaces-region.example",
        "facts-spaces-bucket",
    ] {
        assert!(all.contains(word), "{word}");
    }
}

/// A keyring whose secrets can be told apart from everything else, and facts with real certificates.
fn keyring(folder: &Path) -> Facts {
    let keyring = Keyring::open(folder).unwrap();
    for entry in Entry::ALL {
        keyring.put(*entry, &format!("K3y0f-{}", entry.file()).into()).unwrap();
    }
    let mut facts = facts();
    facts.postgres.ca = Some(lab::Authority::new().unwrap().ca_pem());
    facts.valkey.ca = Some(lab::Authority::new().unwrap().ca_pem());
    facts
}

#[test]
fn the_proxy_itself_takes_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let (facts, pod) = (keyring(&keys), proxy::Place::pod("harbor"));
    for (nodes, connections, with_ca) in [(4, Some(97), true), (1, Some(22), false), (3, None, true)] {
        let mut facts = facts.clone();
        facts.postgres.connections = connections;
        if !with_ca {
            (facts.postgres.ca, facts.valkey.ca) = (None, None);
        }
        let scratch = tempfile::tempdir().unwrap();
        let budget = Budget::new(&spec(), &facts, nodes).unwrap();
        let warnings = proxy::check(&facts, &budget, &pod, Some(&keys), scratch.path()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    let (budget, scratch) = (Budget::new(&spec(), &facts, 4).unwrap(), tempfile::tempdir().unwrap());
    assert!(proxy::check(&facts, &budget, &pod, None, scratch.path()).unwrap().is_empty(), "offline");
    // What it says no to is told in its words: the judgement is real.
    let mut wrong = facts;
    wrong.postgres.ca = Some("no certificate".to_owned());
    let budget = Budget::new(&spec(), &wrong, 1).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mistakes = proxy::check(&wrong, &budget, &pod, Some(&keys), scratch.path()).unwrap_err();
    assert!(mistakes.iter().any(|line| line.contains("ca_file") || line.contains("postgres-ca.crt")), "{mistakes:?}");
    fs::remove_file(keys.join(Entry::ValkeyPassword.file())).unwrap();
    let mistakes = proxy::check(&wrong, &budget, &pod, Some(&keys), scratch.path()).unwrap_err();
    assert!(mistakes.iter().any(|line| line.contains("valkey-password")), "{mistakes:?}");
}

#[test]
fn the_configuration_in_the_config_map_is_the_one_that_was_judged() {
    let rendered = helm(&spec(), &facts());
    let objects = documents(&rendered.files["kubernetes/redis-tls-proxy.yaml"]);
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "PriorityClass", "DaemonSet", "Service", "Service", "NetworkPolicy"]);
    for object in &objects {
        let expected = if object["kind"] == "PriorityClass" { Value::Null } else { json!("spec-namespace") };
        assert_eq!(object["metadata"]["namespace"], expected, "{object}");
    }
    assert_eq!(objects[0]["data"]["proxy.yaml"], *rendered.files["proxy/proxy.yaml"]);
    let pod = &objects[2]["spec"]["template"]["spec"];
    let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let pools = json!({"key": "doks.digitalocean.com/node-pool", "operator": "In", "values": ["spec-node-pool-1", "spec-node-pool-2"]});
    assert_eq!(terms[0]["matchExpressions"][0], pools);
    assert_eq!(values(&rendered)["core"]["affinity"], pod["affinity"], "Harbor runs where the proxy does");
    assert_eq!(pod["containers"][0]["image"], "spec-proxy-image:1");
    // The name that the proxies count each other by is that of the headless Service.
    let configuration: Value = serde_saphyr::from_str(&rendered.files["proxy/proxy.yaml"]).unwrap();
    let peers = configuration["listeners"][1]["pool_budget_peers"].as_str().unwrap();
    let named = format!("{}.spec-namespace.svc.cluster.local.", objects[4]["metadata"]["name"].as_str().unwrap());
    assert_eq!((peers, &objects[4]["spec"]["clusterIP"]), (named.as_str(), &json!("None")));
    // Every Secret that is referred to is one that the script makes.
    let script = &rendered.files["secrets.sh"];
    let mounted = pod["volumes"][1]["secret"]["secretName"].as_str().unwrap();
    assert!(script.contains(&format!("secret {mounted} \\")));

    let mut everywhere = spec();
    everywhere.proxy.node_pools = Vec::new();
    let rendered = helm(&everywhere, &facts());
    assert!(!rendered.files["kubernetes/redis-tls-proxy.yaml"].contains("affinity"));
    assert!(!rendered.files["harbor/values.yaml"].contains("affinity"));
}

/// The policy lets in Harbor's release, whatever the chart is named, and the proxy out to the two servers, on whatever ports they are.
#[test]
fn the_network_policy_fits_the_configuration() {
    let mut facts = facts();
    (facts.valkey.port, facts.postgres.port) = (6390, 6391);
    let rendered = helm(&spec(), &facts);
    let objects = documents(&rendered.files["kubernetes/redis-tls-proxy.yaml"]);
    let policy = &objects[5]["spec"];
    assert_eq!(policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"], json!({"release": "spec-release"}));
    assert_eq!(policy["egress"][1]["ports"], json!([{"port": 6390}, {"port": 6391}]));
    let configuration = &rendered.files["proxy/proxy.yaml"];
    assert!(configuration.contains(":6390") && configuration.contains(":6391/"), "{configuration}");
}

/// What needs the operator's kinds is a file of its own, and last among what is applied.
#[test]
fn monitoring_is_apart() {
    let rendered = helm(&spec(), &facts());
    let kinds = |file: &str| -> Vec<String> {
        let objects = documents(&rendered.files[file]);
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds("kubernetes/monitoring.yaml"), ["PodMonitor", "PrometheusRule"]);
    let objects = render::objects(&spec(), &facts()).unwrap();
    let all: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(all, [kinds("kubernetes/redis-tls-proxy.yaml"), kinds("kubernetes/monitoring.yaml")].concat());
    let optional: Vec<_> = objects.iter().filter(|object| render::needs_crd(object)).map(|object| &object["kind"]).collect();
    assert_eq!(optional, ["PodMonitor", "PrometheusRule"]);
}

#[test]
fn another_configuration_makes_other_pods() {
    let sum = |facts: &Facts| {
        let objects = documents(&helm(&spec(), facts).files["kubernetes/redis-tls-proxy.yaml"]);
        objects[2]["spec"]["template"]["metadata"]["annotations"]["doks-harbor/configuration"].as_str().unwrap().to_owned()
    };
    let mut other = facts();
    other.postgres.ca = Some("another".to_owned());
    assert!(sum(&facts()) == sum(&facts()) && sum(&facts()) != sum(&other));
}

#[test]
fn the_job_is_the_proxys_pod_with_another_program() {
    let (spec, facts) = (spec(), facts());
    let objects = render::objects(&spec, &facts).unwrap();
    let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let job = render::job::job(&spec, &facts, daemon_set, "doadmin").unwrap();
    let (pod, proxy) = (&job["spec"]["template"]["spec"], &daemon_set["spec"]["template"]["spec"]);
    assert_eq!((&pod["securityContext"], &pod["affinity"]), (&proxy["securityContext"], &proxy["affinity"]));
    let (container, of_proxy) = (&pod["containers"][0], &proxy["containers"][0]);
    assert_eq!((&container["image"], &container["securityContext"]), (&of_proxy["image"], &of_proxy["securityContext"]));
    assert_eq!((&pod["automountServiceAccountToken"], &pod["restartPolicy"]), (&json!(false), &json!("Never")));
    // No Service and no policy of the proxy's is about it.
    assert_ne!(job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], "redis-tls-proxy");
    let mounted: Vec<_> = container["volumeMounts"].as_array().unwrap().iter().map(|mount| &mount["name"]).collect();
    let volumes: Vec<_> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert_eq!(mounted, volumes);
    // The program takes these words.
    let words = container["command"].as_array().unwrap().iter().chain(container["args"].as_array().unwrap());
    let cli = doks_harbor::cli::Cli::try_parse_from(words.map(|word| word.as_str().unwrap())).unwrap();
    let doks_harbor::cli::Command::Database(args) = cli.command else { panic!("another command") };
    let read = container["volumeMounts"].as_array().unwrap().iter().map(|mount| mount["mountPath"].as_str().unwrap());
    assert_eq!(read.filter(|path| args.config.starts_with(path) || args.admin_password_file.starts_with(path)).count(), 2);
    // Another database is another Job.
    let mut other = facts.clone();
    other.postgres.user.push('2');
    assert_ne!(render::job::name(&other), render::job::name(&facts));
    assert_eq!(job["metadata"]["name"], render::job::name(&facts));
}

#[test]
fn values_refer_to_secrets_that_the_script_makes() {
    for version in CHARTS.map(chart) {
        let mut spec = spec();
        spec.harbor.chart = version;
        let rendered = helm(&spec, &facts());
        let (text, script) = (&rendered.files["harbor/values.yaml"], &rendered.files["secrets.sh"]);
        let referred: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(key, _)| {
                key.contains("xisting") && !key.ends_with("Key") || *key == "secretName" || *key == "existingSecretSecretKey"
            })
            .filter(|(_, name)| *name != "spec-tls-secret")
            .collect();
        assert!(!referred.is_empty());
        for (key, name) in referred {
            assert!(script.contains(&format!("secret {name} \\")), "{version}: {key}: {name}\n{script}");
        }
    }
}

#[test]
fn no_secret_is_in_what_may_be_committed() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let facts = keyring(&keys);
    let keyring = Keyring::open(&keys).unwrap();
    let secret = |entry| keyring.get(entry).unwrap();
    for version in CHARTS.map(chart) {
        let mut spec = spec();
        spec.harbor.chart = version;
        let texts = helm(&spec, &facts).files.into_values().chain(render::compose(&spec, &facts).unwrap().files.into_values());
        for text in texts {
            assert!(!text.contains("K3y0f-") && !text.contains("PRIVATE KEY"), "{text}");
        }
        // And in what may not, they are.
        let compose = render::compose_secret(&spec, &facts, secret).unwrap();
        assert_eq!(compose.expose_secret().matches("K3y0f-").count(), 5);
        assert!(!format!("{compose:?}").contains("K3y0f-"));
        if let Some(text) = render::secret_values(&spec, secret).unwrap() {
            assert!(text.expose_secret().contains("K3y0f-harbor-core-secret") && !format!("{text:?}").contains("K3y0f-"));
        }
    }
}

#[test]
fn too_few_connections_are_refused_or_told() {
    let of = |connections: Option<u32>, nodes: u32| {
        let mut facts = facts();
        (facts.postgres.connections, facts.cluster.nodes) = (connections, nodes);
        render::helm(&spec(), &facts, None)
    };
    let refused = of(Some(22), 8).unwrap_err();
    assert!(refused[0].starts_with("postgres.size") && refused[0].contains("node_pools"), "{refused:?}");
    assert!(of(Some(6), 1).unwrap_err()[0].starts_with("proxy.reserve_connections"));
    assert!(of(Some(22), 3).unwrap().warnings[0].starts_with("postgres.size: 5 connections for each of 3 nodes"));
    assert_eq!(of(Some(97), 4).unwrap().warnings, Vec::<String>::new());
    let unknown = of(None, 3).unwrap();
    assert!(unknown.warnings[0].contains("not known"));
    assert!(
        unknown.files["proxy/proxy.yaml"].contains("pool_size: 5") && !unknown.files["proxy/proxy.yaml"].contains("pool_budget_reserve")
    );
}

#[test]
fn unknown_charts_are_refused_with_the_reason() {
    for (major, minor) in [(1, 7), (1, 20), (2, 0)] {
        let mut spec = spec();
        spec.harbor.chart = ChartVersion { major, minor, patch: 0 };
        let problems = render::helm(&spec, &facts(), None).unwrap_err();
        assert!(problems[0].starts_with("harbor.chart") && problems[0].contains("1.8.0 to 1.19.x"), "{problems:?}");
    }
}

#[test]
fn compose_runs_the_proxy_beside_harbor() {
    let rendered = render::compose(&spec(), &facts()).unwrap();
    let compose: Value = serde_saphyr::from_str(&rendered.files["compose/docker-compose.override.yml"]).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["core", "exporter", "jobservice", "redis-tls-proxy", "registry", "trivy-adapter"]);
    let harbor: Value = serde_saphyr::from_str(&rendered.files["compose/harbor.yml"]).unwrap();
    assert_eq!(harbor["external_redis"]["host"], "redis-tls-proxy:6379");
    let configuration: Value = serde_saphyr::from_str(&rendered.files["compose/redis-tls-proxy/proxy.yaml"]).unwrap();
    assert_eq!(configuration["listeners"][1].get("pool_budget_peers"), None, "it is alone");
    let mut plain = spec();
    (plain.harbor.trivy, plain.harbor.metrics, plain.harbor.host) = (false, false, None);
    assert!(render::compose(&plain, &facts()).unwrap_err()[0].starts_with("harbor.host"));
    plain.harbor.host = Some("h.example".to_owned());
    let rendered = render::compose(&plain, &facts()).unwrap();
    assert!(!rendered.files["compose/docker-compose.override.yml"].contains("trivy"), "a service that is not there stops compose");
}

#[test]
fn scripts_are_scripts() {
    for text in golden().into_iter().filter(|(path, _)| path.ends_with(".sh")).map(|(_, text)| text) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        fs::write(&file, &text).unwrap();
        let shell = std::process::Command::new("sh").arg("-n").arg(&file).output().unwrap();
        assert!(shell.status.success(), "{}\n{text}", String::from_utf8_lossy(&shell.stderr));
    }
}

#[test]
fn harbors_template_gets_our_keys_in_the_place_of_its_own() {
    let script = &render::compose(&spec(), &facts()).unwrap().files["compose/install.sh"];
    let line = script.lines().find(|line| line.starts_with("awk")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let template = "# Head\nhostname: reg.mydomain.com\nhttp:\n  port: 80\n\nhttps:\n  port: 443\n  # a\n  certificate: /your\nharbor_admin_password: x\n\
                    database:\n  password: root123\n# storage_service:\n#   ca_bundle:\ndata_volume: /data\n";
    fs::write(folder.path().join("harbor.yml.tmpl"), template).unwrap();
    let shell = std::process::Command::new("sh").args(["-c", line]).env("harbor", folder.path()).output().unwrap();
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
    let left: Value = serde_saphyr::from_str(&fs::read_to_string(folder.path().join("harbor.yml.new")).unwrap()).unwrap();
    assert_eq!(left, json!({"http": {"port": 80}, "database": {"password": "root123"}, "data_volume": "/data"}));
    // Together with ours no key is there twice.
    let ours: Value = serde_saphyr::from_str(&render::compose(&spec(), &facts()).unwrap().files["compose/harbor.yml"]).unwrap();
    assert!(ours.as_object().unwrap().keys().all(|key| left.get(key).is_none()));
}
