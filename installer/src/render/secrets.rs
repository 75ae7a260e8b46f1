//! Which Secret of the cluster holds what: the one table that the values refer to, `secrets.sh` makes, and `apply` applies.
//!
//! Charts before 1.14 cannot take all of Harbor's secrets from Secrets. Those few are values, in a file of their own in the keyring's folder
//! ([`values`]); everything else that is rendered may be committed.

use base64::Engine as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::yaml::Document;
use crate::keyring::Entry;
use crate::spec::{ChartVersion, Spec};

/// The proxy's own Secret, as `manifests/base/daemonset.yaml` mounts it.
pub const PROXY: &str = "redis-tls-proxy";
/// The file with what a chart cannot take from Secrets.
pub const VALUES_FILE: &str = "values.secret.yaml";

/// A Secret in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Its keys, and what is in them.
    pub keys: Vec<(&'static str, Entry)>,
}

/// Harbor's Secrets by what needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Harbor at the proxy.
    Client,
    /// The registry at Spaces.
    Spaces,
    /// The user `admin`, once.
    Admin,
    /// What encrypts secrets in the database.
    Encryption,
    /// Harbor's components among each other.
    Components,
    /// Core at the registry.
    RegistryLogin,
    /// Signs tokens.
    Token,
}

/// One secret that the chart takes as a Secret from some version on, and as a value before.
struct Row {
    of: Use,
    /// The oldest minor version of the chart that can be told the Secret's name.
    since: u16,
    /// In the Secret.
    key: &'static str,
    entry: Entry,
    /// Before that.
    value: &'static str,
}

const fn row(of: Use, since: u16, key: &'static str, entry: Entry, value: &'static str) -> Row {
    Row { of, since, key, entry, value }
}

/// The chart's history, told by the keys of its values.
const TABLE: &[Row] = &[
    row(Use::Client, 10, "password", Entry::ClientPassword, "database.external.password"),
    row(Use::Client, 10, "REDIS_PASSWORD", Entry::ClientPassword, "redis.external.password"),
    row(Use::Spaces, 10, "REGISTRY_STORAGE_S3_ACCESSKEY", Entry::SpacesAccessKey, "persistence.imageChartStorage.s3.accesskey"),
    row(Use::Spaces, 10, "REGISTRY_STORAGE_S3_SECRETKEY", Entry::SpacesSecretKey, "persistence.imageChartStorage.s3.secretkey"),
    row(Use::Admin, 14, "HARBOR_ADMIN_PASSWORD", Entry::HarborAdminPassword, "harborAdminPassword"),
    row(Use::Encryption, 10, "secretKey", Entry::HarborSecretKey, "secretKey"),
    row(Use::Components, 14, "secret", Entry::HarborCoreSecret, "core.secret"),
    row(Use::Components, 14, "CSRF_KEY", Entry::HarborXsrfKey, "core.xsrfKey"),
    row(Use::Components, 14, "JOBSERVICE_SECRET", Entry::HarborJobserviceSecret, "jobservice.secret"),
    row(Use::Components, 14, "REGISTRY_HTTP_SECRET", Entry::HarborRegistrySecret, "registry.secret"),
    row(Use::RegistryLogin, 10, "REGISTRY_PASSWD", Entry::HarborRegistryPassword, "registry.credentials.password"),
    // Before 1.10 the chart makes this one from the password by itself.
    row(Use::RegistryLogin, 10, "REGISTRY_HTPASSWD", Entry::HarborRegistryHtpasswd, ""),
    row(Use::Token, 8, "tls.crt", Entry::HarborTokenCertificate, ""),
    row(Use::Token, 8, "tls.key", Entry::HarborTokenKey, ""),
];

/// Values that hold a secret in clear: nobody's values file may set them.
pub const IN_CLEAR: &[&str] = &[
    "harborAdminPassword",
    "secretKey",
    "core.secret",
    "core.xsrfKey",
    "core.tokenKey",
    "jobservice.secret",
    "registry.secret",
    "registry.credentials.password",
    "registry.credentials.htpasswdString",
    "database.external.password",
    "redis.external.password",
    "persistence.imageChartStorage.s3.accesskey",
    "persistence.imageChartStorage.s3.secretkey",
    "trivy.gitHubToken",
    "trace.jaeger.password",
];

impl Use {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Client, Self::Spaces, Self::Admin, Self::Encryption, Self::Components, Self::RegistryLogin, Self::Token];

    /// The Secret's name in this release. None of the chart's own is called so.
    #[must_use]
    pub fn name(self, release: &str) -> String {
        let of = match self {
            Self::Client => "proxy-client",
            Self::Spaces => "spaces",
            Self::Admin => "admin",
            Self::Encryption => "encryption",
            Self::Components => "components",
            Self::RegistryLogin => "registry-login",
            Self::Token => "token",
        };
        format!("{release}-{of}")
    }

    /// Whether the values of this chart refer to it.
    #[must_use]
    pub fn is_referred_to(self, chart: ChartVersion) -> bool {
        TABLE.iter().any(|row| row.of == self && chart.at_least(row.since))
    }
}

/// All Secrets that this installation needs, the proxy's first.
#[must_use]
pub fn table(spec: &Spec) -> Vec<Secret> {
    let proxy = Secret { name: PROXY.to_owned(), keys: super::proxy::PASSWORDS.map(|entry| (entry.file(), entry)).to_vec() };
    let of = |wanted: Use| {
        let rows = TABLE.iter().filter(move |row| row.of == wanted && spec.harbor.chart.at_least(row.since));
        Secret { name: wanted.name(&spec.harbor.release), keys: rows.map(|row| (row.key, row.entry)).collect() }
    };
    let harbor = Use::ALL.iter().filter(|wanted| wanted.is_referred_to(spec.harbor.chart)).map(|wanted| of(*wanted));
    std::iter::once(proxy).chain(harbor).collect()
}

/// The Secrets as objects; those that lack an entry are left out, and named.
#[must_use]
pub fn objects(spec: &Spec, secret: impl Fn(Entry) -> Option<SecretString>) -> (Vec<Value>, Vec<String>) {
    let (mut objects, mut incomplete) = (Vec::new(), Vec::new());
    for Secret { name, keys } in table(spec) {
        let data: Option<serde_json::Map<_, _>> =
            keys.iter().map(|(key, entry)| Some(((*key).to_owned(), encoded(&secret(*entry)?)))).collect();
        let Some(data) = data else {
            incomplete.push(name);
            continue;
        };
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": spec.namespace, "labels": {
                "app.kubernetes.io/managed-by": "doks-harbor",
                "app.kubernetes.io/part-of": "harbor",
            }},
            "type": "Opaque",
            "data": data,
        }));
    }
    (objects, incomplete)
}

/// A secret as Secrets have it.
#[must_use]
pub fn encoded(secret: &SecretString) -> Value {
    base64::engine::general_purpose::STANDARD.encode(secret.expose_secret()).into()
}

/// The keys that this chart takes as values only.
pub fn as_values(chart: ChartVersion) -> impl Iterator<Item = (&'static str, Entry)> {
    TABLE.iter().filter(move |row| !chart.at_least(row.since) && !row.value.is_empty()).map(|row| (row.value, row.entry))
}

/// The content of [`VALUES_FILE`], for the keyring's folder and for nobody else; nothing where the chart needs none.
///
/// # Errors
/// The secrets that are missing, by the names of their files.
pub fn values(spec: &Spec, secret: impl Fn(Entry) -> Option<SecretString>) -> Result<Option<SecretString>, Vec<String>> {
    let mut document = Document::new();
    document.head(&format!(
        "Secrets that Harbor's chart {} cannot take from Kubernetes Secrets. Never commit this; give it to helm with a second --values.",
        spec.harbor.chart
    ));
    let (mut missing, mut any) = (Vec::new(), false);
    for (key, entry) in as_values(spec.harbor.chart) {
        any = true;
        match secret(entry) {
            Some(secret) => document.set(key, Value::from(secret.expose_secret())),
            None => missing.push(format!("{}: is not in the keyring; run `doks-harbor apply`, which makes it", entry.file())),
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok(any.then(|| document.text().into()))
}

/// `secrets.sh`: makes the Secrets from the keyring's folder. It holds paths, no secret.
#[must_use]
pub fn script(spec: &Spec) -> String {
    let namespace = &spec.namespace;
    let mut script = format!(
        "#!/bin/sh
# Makes the Kubernetes Secrets of this installation from the files of the keyring:
#   ./secrets.sh FOLDER
# Run it again after a secret has changed. Files are read by kubectl itself; no secret is an argument of a command.
set -eu
folder=${{1:?the keyring folder of doks-harbor}}

secret() {{
  name=$1
  shift
  # Server-side: else a copy of each secret would be kept in an annotation.
  kubectl create secret generic \"$name\" --type=Opaque --namespace {namespace} \"$@\" --dry-run=client --output=yaml |
    kubectl label --local --filename=- --output=yaml app.kubernetes.io/managed-by=doks-harbor app.kubernetes.io/part-of=harbor |
    kubectl apply --server-side --force-conflicts --field-manager=doks-harbor --filename=-
}}

kubectl create namespace {namespace} --dry-run=client --output=yaml | kubectl apply --server-side --field-manager=doks-harbor --filename=-
"
    );
    for Secret { name, keys } in table(spec) {
        let keys: Vec<_> = keys.iter().map(|(key, entry)| format!("  --from-file={key}=\"$folder/{}\"", entry.file())).collect();
        script.push_str(&format!("secret {name} \\\n{}\n", keys.join(" \\\n")));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_reaches_harbor_in_every_version() {
        for minor in ChartVersion::OLDEST.minor..=ChartVersion::NEWEST.minor {
            let mut spec = Spec::read("cluster: x").unwrap();
            spec.harbor.chart = ChartVersion { major: 1, minor, patch: 0 };
            let by_name: Vec<_> = table(&spec).into_iter().flat_map(|secret| secret.keys).map(|(_, entry)| entry).collect();
            let by_value: Vec<_> = as_values(spec.harbor.chart).map(|(_, entry)| entry).collect();
            for entry in Entry::ALL.iter().filter(|entry| !entry.is_passing()) {
                let made_by_chart = *entry == Entry::HarborRegistryHtpasswd && minor < 10;
                assert!(by_name.contains(entry) || by_value.contains(entry) || made_by_chart, "{entry:?} with 1.{minor}");
            }
            assert_eq!(values(&spec, |_| Some("x".into())).unwrap().is_some(), minor < 14);
        }
        assert!(values(&Spec { ..Spec::read("cluster: x\nharbor: {chart: 1.8.1}").unwrap() }, |_| None).is_err());
        assert!(TABLE.iter().all(|row| row.value.is_empty() || IN_CLEAR.contains(&row.value)));
    }
}
