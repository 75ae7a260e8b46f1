//! `NEXT.md`: what to do with the files, command by command.

use serde_json::json;

use super::proxy::{POSTGRES_CA, database};
use super::secrets::{self, VALUES_FILE};
use super::values;
use super::yaml::Document;
use crate::facts::Facts;
use crate::spec::{Expose, Spec};

/// Harbor's own.
pub const CHART_REPOSITORY: &str = "https://helm.goharbor.io";

/// For the Helm chart.
#[must_use]
pub(super) fn helm(spec: &Spec, facts: &Facts) -> String {
    let (namespace, harbor) = (&spec.namespace, &spec.harbor);
    let chart = harbor.chart;
    let command: String = helm_command(spec, ".", "FOLDER").lines().map(|line| format!("       {line}\n")).collect();
    let reached = values::reached(spec);
    format!(
        "# Next: Harbor (chart {chart}) in the namespace {namespace}

The files here hold no secret; commit them. `FOLDER` is the keyring, the folder of secrets that doks-harbor has made: never commit that one.
`doks-harbor apply` does all that follows by itself. By hand:

1. The Secrets, from the keyring's files:

       sh ./secrets.sh FOLDER

2. The proxy, on each node that Harbor runs on. It is ready once it has logged in at both servers:

       kubectl apply --server-side --filename kubernetes/redis-tls-proxy.yaml
       kubectl --namespace {namespace} rollout status daemonset/redis-tls-proxy --timeout 5m

{grant}{harbor_step}. Harbor:

{command}
{reach}
Whoever comes to {url} signs in as `admin`, with the password in `FOLDER/{admin}`. Harbor reads that at its first start only.

| file | what it is |
|---|---|
| `proxy/proxy.yaml` | the proxy's configuration, as it is in the ConfigMap |
| `kubernetes/redis-tls-proxy.yaml` | everything of the proxy but its Secret |
| `kubernetes/monitoring.yaml` | for Prometheus' operator: what to scrape, and alerts. Apply it where the cluster has one |
| `harbor/values.yaml` | Harbor's Helm values; yours (`harbor.values` in doks-harbor.yaml) are merged in |
| `secrets.sh` | makes the Secrets; run it again when one has changed |
",
        grant = grant(spec, facts),
        harbor_step = if needs_grant(facts) { 4 } else { 3 },
        reach = reach(spec, &reached.host),
        url = reached.url,
        admin = crate::keyring::Entry::HarborAdminPassword.file(),
    )
}

/// How Harbor is installed by hand, with the files of the folder `out` and of the keyring.
#[must_use]
pub fn helm_command(spec: &Spec, out: &str, keyring: &str) -> String {
    let (namespace, release, chart) = (&spec.namespace, &spec.harbor.release, spec.harbor.chart);
    let out = out.strip_prefix("./").unwrap_or(out);
    let values = if out == "." { "harbor/values.yaml".to_owned() } else { format!("{out}/harbor/values.yaml") };
    let secret =
        if secrets::as_values(chart).next().is_some() { format!(" \\\n  --values {keyring}/{VALUES_FILE}") } else { String::new() };
    format!(
        "helm upgrade --install {release} harbor --repo {CHART_REPOSITORY} --version {chart} \\
  --namespace {namespace} --values {values}{secret} \\
  --wait --timeout 20m"
    )
}

/// From version 15 on nobody may create tables in `public` but the database's owner; an unknown version is taken for a new one.
fn needs_grant(facts: &Facts) -> bool {
    facts.postgres.version.parse::<u32>().map_or(true, |version| version >= 15)
}

fn grant(spec: &Spec, facts: &Facts) -> String {
    if !needs_grant(facts) {
        return String::new();
    }
    let namespace = &spec.namespace;
    format!(
        "3. Since PostgreSQL 15 a user may create no tables until told so. Once, as `doadmin`, whose password is in the control panel; the
   firewall lets in the cluster and nobody else, so from a pod. Type the password when it has started:

       kubectl apply --filename kubernetes/grant.yaml
       kubectl --namespace {namespace} wait pod/grant --for=condition=Ready
       kubectl --namespace {namespace} attach --stdin --tty pod/grant
       kubectl --namespace {namespace} delete pod/grant

"
    )
}

/// A pod that grants Harbor's user its schema, once it is given the administrator's password; `None` where it is not needed.
pub(super) fn grant_pod(spec: &Spec, facts: &Facts) -> Option<String> {
    let postgres = &facts.postgres;
    // Verified like all else: with the authority that the proxy's ConfigMap has, or with the image's public ones.
    let ca = if postgres.ca.is_some() { format!("/ca/{POSTGRES_CA}") } else { "system".to_owned() };
    let target = format!(
        "host={} port={} user=doadmin dbname={} sslmode=verify-full sslrootcert={ca}",
        postgres.host,
        postgres.port,
        database(postgres)
    );
    let grant = format!("GRANT ALL ON SCHEMA public TO \"{}\"", postgres.user);
    let container = json!({
        "name": "psql",
        "image": format!("postgres:{}", postgres.version),
        "command": ["psql", target, "--command", grant],
        "stdin": true,
        "tty": true,
        "volumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": true}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let mut document = Document::of(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "grant", "namespace": spec.namespace},
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "ca", "configMap": {"name": "redis-tls-proxy"}}],
        },
    }));
    document.head(
        "Grants Harbor's user its schema, which PostgreSQL 15 and newer ask for. It waits for the administrator's password: see NEXT.md.",
    );
    needs_grant(facts).then(|| document.text())
}

fn reach(spec: &Spec, host: &str) -> String {
    let (namespace, release) = (&spec.namespace, &spec.harbor.release);
    match spec.harbor.expose {
        Expose::ClusterIp => format!(
            "Harbor is reached from inside the cluster; from here with\n\n       kubectl --namespace {namespace} port-forward service/{release} \
             8443:443\n"
        ),
        Expose::LoadBalancer => format!(
            "Point {host} to the load balancer's address:\n\n       kubectl --namespace {namespace} get service {release} --output \
             jsonpath='{{.status.loadBalancer.ingress[0].ip}}'\n"
        ),
        Expose::NodePort => format!("Point {host} to the addresses of the nodes, and open the port in their firewall.\n"),
        Expose::Ingress | Expose::Traefik => format!("Point {host} to the address of the ingress controller.\n"),
        Expose::Route => format!("Point {host} to the address of the Gateway.\n"),
    }
}
