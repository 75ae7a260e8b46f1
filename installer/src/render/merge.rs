//! The user's values on top of ours, as Helm merges files: maps deeply, everything else replaced, `null` deletes.
//!
//! Some values must hold, or Harbor would go past the proxy or lose its images; and secrets must not be in a file that is committed. Those are
//! refused by name, all at once.

use serde_json::{Map, Value};

use super::secrets::IN_CLEAR;
use super::yaml;

/// Whose values must be ours, and why. A key that we do not set in this chart is not held.
const HELD: &[(&str, &str)] = &[
    ("expose.type", "it follows from harbor.expose of doks-harbor.yaml; change it there"),
    ("database.type", "Harbor's tables are in the managed PostgreSQL"),
    ("database.external.host", "Harbor must reach PostgreSQL through the proxy, which has the password and verifies TLS"),
    ("database.external.port", "Harbor must reach PostgreSQL through the proxy, which has the password and verifies TLS"),
    ("database.external.sslmode", "the proxy on the same node speaks plaintext to Harbor and TLS to PostgreSQL"),
    ("database.external.coreDatabase", "it follows from postgres.database of doks-harbor.yaml; change it there"),
    ("database.external.existingSecret", "it holds the password that the proxy knows"),
    ("redis.type", "Harbor's sessions and jobs are in the managed Valkey"),
    ("redis.external.addr", "Harbor must reach Valkey through the proxy, which has the password and verifies TLS"),
    ("redis.external.existingSecret", "it holds the password that the proxy knows"),
    ("redis.external.tlsOptions.enable", "the proxy on the same node speaks plaintext to Harbor and TLS to Valkey"),
    ("persistence.imageChartStorage.type", "Harbor's images are in Spaces"),
    ("persistence.imageChartStorage.s3.bucket", "it follows from spaces of doks-harbor.yaml; change it there"),
    ("persistence.imageChartStorage.s3.regionendpoint", "it follows from spaces of doks-harbor.yaml; change it there"),
    ("persistence.imageChartStorage.s3.existingSecret", "it holds the key for the bucket"),
    ("existingSecretAdminPassword", "it is made by doks-harbor"),
    ("existingSecretAdminPasswordKey", "it is made by doks-harbor"),
    ("existingSecretSecretKey", "with another key Harbor cannot read what it has encrypted"),
    ("core.existingSecret", "it is made by doks-harbor"),
    ("core.existingXsrfSecret", "it is made by doks-harbor"),
    ("core.existingXsrfSecretKey", "it is made by doks-harbor"),
    ("core.secretName", "it holds the key that signs tokens; without it every upgrade would make another"),
    ("jobservice.existingSecret", "it is made by doks-harbor"),
    ("jobservice.existingSecretKey", "it is made by doks-harbor"),
    ("registry.existingSecret", "it is made by doks-harbor"),
    ("registry.existingSecretKey", "it is made by doks-harbor"),
    ("registry.credentials.existingSecret", "it holds the login of core at the registry"),
    ("registry.credentials.username", "it is part of the login of core at the registry"),
    ("core.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", ON_PROXY_NODES),
    ("jobservice.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", ON_PROXY_NODES),
    ("registry.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", ON_PROXY_NODES),
    ("trivy.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", ON_PROXY_NODES),
    ("exporter.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", ON_PROXY_NODES),
];

const ON_PROXY_NODES: &str = "elsewhere there is no proxy; proxy.node_pools of doks-harbor.yaml names the nodes of both";

/// Merges `user` into `ours`.
///
/// # Errors
/// Every value that cannot be, by its key.
pub(super) fn merge(ours: &mut Value, user: &Value) -> Result<(), Vec<String>> {
    let Value::Object(changes) = user else {
        if user.is_null() {
            return Ok(());
        }
        return Err(vec!["harbor.values: must be a map of keys, as Helm takes it".to_owned()]);
    };
    let mut problems: Vec<_> = HELD.iter().filter_map(|(path, why)| conflict(ours, user, path, why)).collect();
    problems.extend(IN_CLEAR.iter().filter_map(|path| in_clear(user, path)));
    private_keys(user, "", &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    if let Value::Object(into) = ours {
        deep(into, changes);
    }
    Ok(())
}

/// Two files of values as Helm lays the second on the first.
#[must_use]
pub fn layered(mut below: Value, above: &Value) -> Value {
    if let (Value::Object(into), Value::Object(from)) = (&mut below, above) {
        deep(into, from);
    }
    below
}

/// `null` stays: it is how Helm is told to drop the chart's own default.
fn deep(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => deep(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn conflict(ours: &Value, user: &Value, path: &str, why: &str) -> Option<String> {
    let held = yaml::at(ours, path)?;
    let (given, at) = given(user, path)?;
    if at == path && given == held {
        return None;
    }
    Some(if at == path {
        format!("harbor.values: {at}: must stay {held}: {why}; remove it")
    } else {
        format!("harbor.values: {at}: would replace {path}, which must stay {held}: {why}; give the keys below it that you mean")
    })
}

/// What the user's values say about this path: the value itself, or that of the key above it which replaces it whole.
fn given<'a, 'p>(user: &'a Value, path: &'p str) -> Option<(&'a Value, &'p str)> {
    let mut value = user;
    let mut end = 0;
    for key in path.split('.') {
        let Value::Object(map) = value else { break };
        value = map.get(key)?;
        end += key.len() + usize::from(end > 0);
    }
    Some((value, path.get(..end)?))
}

fn in_clear(user: &Value, path: &str) -> Option<String> {
    let is_given = !matches!(yaml::at(user, path)?, Value::Null) && yaml::at(user, path)?.as_str() != Some("");
    is_given.then(|| {
        format!(
            "harbor.values: {path}: is a secret, and these values are written to a file that may be committed; remove it (doks-harbor makes \
             those that Harbor needs), or give it to helm in a --values file of its own"
        )
    })
}

fn private_keys(value: &Value, path: &str, problems: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                private_keys(value, &path, problems);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| private_keys(item, path, problems)),
        Value::String(text) if text.contains("PRIVATE KEY-----") && !IN_CLEAR.contains(&path) => {
            problems.push(format!("harbor.values: {path}: is a private key, and these values may be committed; put it into a Secret"));
        }
        _ => {}
    }
}
