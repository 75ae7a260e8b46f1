//! The one-shot Job that prepares the database from inside: the proxy's own pod, with another program in it. `[pure]`

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::proxy::{Place, database};
use crate::facts::Facts;
use crate::spec::Spec;

/// The Secret with the administrator's password, while the Job runs.
pub const SECRET: &str = "doks-harbor-database";
/// Its key.
pub const PASSWORD: &str = "admin-password";
/// Where it is mounted.
const FOLDER: &str = "/etc/doks-harbor/admin";
/// Until the cluster ends it. Servers may be out of reach for two minutes of that.
const DEADLINE_SECONDS: u32 = 600;

/// Says for what it was run: another database, user or server is another Job.
#[must_use]
pub fn name(facts: &Facts) -> String {
    let postgres = &facts.postgres;
    let of = format!("{} {} {} {}", postgres.id, postgres.user, database(postgres), facts.valkey.id);
    let hash: String = digest(&SHA256, of.as_bytes()).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{SECRET}-{hash}")
}

/// The Job, with the volumes, the identity and the nodes of the proxy's pods.
///
/// # Errors
/// When the DaemonSet is not what this code knows.
pub fn job(spec: &Spec, facts: &Facts, daemon_set: &Value, admin: &str) -> Result<Value, String> {
    let lacks =
        |what: &str| format!("manifests: the DaemonSet has no {what}; this doks-harbor was built with manifests that it does not know");
    let mut pod = daemon_set.pointer("/spec/template/spec").cloned().ok_or_else(|| lacks("pod"))?;
    let proxy = pod.pointer("/containers/0").cloned().ok_or_else(|| lacks("container"))?;
    let fields = pod.as_object_mut().ok_or_else(|| lacks("pod"))?;
    let mut mounts = proxy.get("volumeMounts").and_then(Value::as_array).cloned().ok_or_else(|| lacks("volumeMounts"))?;
    mounts.push(json!({"name": "admin", "mountPath": FOLDER, "readOnly": true}));
    let config = format!("{}/proxy.yaml", Place::pod(&spec.namespace).config);
    let mut container = json!({
        "name": "database",
        "image": spec.proxy.image,
        "command": ["/doks-harbor", "database"],
        "args": ["--config", config, "--admin", admin, "--admin-password-file", format!("{FOLDER}/{PASSWORD}"), "--report", "/dev/termination-log"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": mounts,
    });
    for same in ["securityContext", "imagePullPolicy"] {
        if let (Some(value), Some(container)) = (proxy.get(same), container.as_object_mut()) {
            container.insert(same.to_owned(), value.clone());
        }
    }
    for of_a_daemon in ["initContainers", "priorityClassName", "terminationGracePeriodSeconds", "hostNetwork"] {
        fields.remove(of_a_daemon);
    }
    fields.insert("containers".to_owned(), json!([container]));
    fields.insert("restartPolicy".to_owned(), "Never".into());
    let volumes = fields.get_mut("volumes").and_then(Value::as_array_mut).ok_or_else(|| lacks("volumes"))?;
    volumes.push(json!({"name": "admin", "secret": {"secretName": SECRET, "defaultMode": 0o440}}));
    // Not the proxy's name: no Service must send clients there.
    let labels = json!({
        "app.kubernetes.io/name": SECRET,
        "app.kubernetes.io/part-of": "harbor",
        "app.kubernetes.io/managed-by": "doks-harbor",
    });
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name(facts), "namespace": spec.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }))
}
