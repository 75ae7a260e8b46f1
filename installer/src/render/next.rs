//! `NEXT.md`: what to do with the files, command by command.

use super::proxy::database;
use super::secrets::{self, VALUES_FILE};
use super::values;
use crate::facts::Facts;
use crate::spec::{Expose, Spec};

/// Harbor's own.
pub const CHART_REPOSITORY: &str = "https://helm.goharbor.io";

/// For the Helm chart.
#[must_use]
pub(super) fn helm(spec: &Spec, facts: &Facts) -> String {
    let (namespace, harbor) = (&spec.namespace, &spec.harbor);
    let (release, chart) = (&harbor.release, harbor.chart);
    let second = if secrets::as_values(chart).next().is_some() { format!(" \\\n  --values FOLDER/{VALUES_FILE}") } else { String::new() };
    let reached = values::reached(spec);
    format!(
        "# Next: Harbor {chart} in the namespace {namespace}

The files here hold no secret; commit them. `FOLDER` is the keyring, the folder of secrets that doks-harbor has made: never commit that one.

1. The Secrets, from the keyring's files:

       sh ./secrets.sh FOLDER

2. The proxy, on each node that Harbor runs on. It is ready once it has logged in at both servers:

       kubectl apply --server-side --filename kubernetes/redis-tls-proxy.yaml
       kubectl --namespace {namespace} rollout status daemonset/redis-tls-proxy --timeout 5m

{grant}
{harbor_step}. Harbor:

       helm upgrade --install {release} harbor --repo {CHART_REPOSITORY} --version {chart} \\
         --namespace {namespace} --values harbor/values.yaml{second} \\
         --wait --timeout 20m

{reach}
Whoever comes to {url} signs in as `admin`, with the password in `FOLDER/{admin}`. Harbor reads that at its first start only.

| file | what it is |
|---|---|
| `proxy/proxy.yaml` | the proxy's configuration, as it is in the ConfigMap |
| `kubernetes/redis-tls-proxy.yaml` | everything of the proxy but its Secret |
| `harbor/values.yaml` | Harbor's Helm values; yours (`harbor.values` in doks-harbor.yaml) are merged in |
| `secrets.sh` | makes the Secrets; run it again when one has changed |
",
        grant = grant(spec, facts),
        harbor_step = if needs_grant(facts) { 4 } else { 3 },
        reach = reach(spec, &reached.host),
        url = reached.url,
        admin = crate::keyring::Entry::HarborAdminPassword.file(),
    )
    .replace(" \\\n  --values", " \\\n         --values")
}

/// From version 15 on nobody may create tables in `public` but the database's owner; an unknown version is taken for a new one.
fn needs_grant(facts: &Facts) -> bool {
    facts.postgres.version.parse::<u32>().map_or(true, |version| version >= 15)
}

fn grant(spec: &Spec, facts: &Facts) -> String {
    if !needs_grant(facts) {
        return String::new();
    }
    let postgres = &facts.postgres;
    format!(
        "3. Since PostgreSQL 15 a user may create no tables until told so. As `doadmin` (its password is in the control panel), once; the \
         firewall lets\n   the cluster in and nobody else, so from a pod:

       kubectl --namespace {namespace} run grant --rm --stdin --tty --restart=Never --image=postgres:{version} -- \\
         psql \"host={host} port={port} user=doadmin dbname={database} sslmode=require\" \\
         --command 'GRANT ALL ON SCHEMA public TO \"{user}\"'
",
        namespace = spec.namespace,
        version = postgres.version,
        host = postgres.host,
        port = postgres.port,
        database = database(postgres),
        user = postgres.user,
    )
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
