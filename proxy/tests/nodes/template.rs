//! What the manifests say about a pod and about the Service before it, read from the files as they stand.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The DaemonSet's pod.
pub(crate) struct Template {
    pub(crate) args: Vec<String>,
    pub(crate) user: u64,
    pub(crate) fs_group: u64,
    pub(crate) ports: BTreeMap<String, u16>,
    /// Where each volume is mounted, by its name.
    pub(crate) mounts: BTreeMap<String, String>,
    pub(crate) secret_mode: u32,
    pub(crate) startup: Probe,
    pub(crate) readiness: Probe,
    pub(crate) liveness: Probe,
    pub(crate) grace: Duration,
}

/// An HTTP probe.
pub(crate) struct Probe {
    pub(crate) path: String,
    pub(crate) port: u16,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) failures: u64,
}

/// The Service that clients connect to.
pub(crate) struct Service {
    /// From its port to the pod's.
    pub(crate) ports: BTreeMap<u16, u16>,
    pub(crate) local: bool,
}

pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base").join(file)).unwrap()
}

fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(file)).unwrap()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a word: {value}")).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn port(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

impl Template {
    pub(crate) fn read() -> Self {
        let daemon_set = &documents("daemonset.yaml")[0];
        let (rolling, pod) = (&daemon_set["spec"]["updateStrategy"]["rollingUpdate"], &daemon_set["spec"]["template"]["spec"]);
        assert_eq!((&rolling["maxSurge"], &rolling["maxUnavailable"]), (&"10%".into(), &0.into()), "what the tests do in an update");
        let container = &pod["containers"][0];
        // The image's entry point is the program.
        assert_eq!(container["command"], Value::Null);
        let confined = &container["securityContext"];
        assert_eq!((&confined["readOnlyRootFilesystem"], &confined["capabilities"]["drop"][0]), (&true.into(), &"ALL".into()));
        let ports = list(&container["ports"]).iter().map(|named| (word(&named["name"]), port(&named["containerPort"]))).collect();
        let mounts = list(&container["volumeMounts"]).iter().map(|mount| (word(&mount["name"]), word(&mount["mountPath"]))).collect();
        let secret = list(&pod["volumes"]).iter().find(|volume| volume["name"] == "secret").unwrap();
        Self {
            args: list(&container["args"]).iter().map(word).collect(),
            user: pod["securityContext"]["runAsUser"].as_u64().unwrap(),
            fs_group: pod["securityContext"]["fsGroup"].as_u64().unwrap(),
            startup: Probe::read(&container["startupProbe"], &ports),
            readiness: Probe::read(&container["readinessProbe"], &ports),
            liveness: Probe::read(&container["livenessProbe"], &ports),
            ports,
            mounts,
            secret_mode: u32::try_from(secret["secret"]["defaultMode"].as_u64().unwrap()).unwrap(),
            grace: Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap()),
        }
    }
}

impl Probe {
    /// With the API's defaults for what is not said.
    fn read(probe: &Value, ports: &BTreeMap<String, u16>) -> Self {
        let or = |key: &str, default: u64| probe[key].as_u64().unwrap_or(default);
        Self {
            path: word(&probe["httpGet"]["path"]),
            port: ports[&word(&probe["httpGet"]["port"])],
            period: Duration::from_secs(or("periodSeconds", 10)),
            timeout: Duration::from_secs(or("timeoutSeconds", 1)),
            failures: or("failureThreshold", 3),
        }
    }
}

impl Service {
    pub(crate) fn read(template: &Template) -> Self {
        let service = documents("services.yaml").into_iter().find(|service| service["metadata"]["name"] == "redis-proxy").unwrap();
        let ports = list(&service["spec"]["ports"]).iter();
        Self {
            ports: ports.map(|each| (port(&each["port"]), template.ports[&word(&each["targetPort"])])).collect(),
            local: service["spec"]["internalTrafficPolicy"] == "Local",
        }
    }
}
