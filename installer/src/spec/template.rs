//! The file that `init` writes: worth reading by itself, and every line of it true.

use super::{ChartVersion, Harbor, Postgres, Proxy, Valkey};

/// A commented file for this cluster. What is commented out is the default.
#[must_use]
pub fn template(cluster: &str, host: Option<&str>) -> String {
    let (postgres, valkey, harbor, proxy) = (Postgres::default(), Valkey::default(), Harbor::default(), Proxy::default());
    let (pg_size, valkey_size, reserve) = (postgres.size, valkey.size, proxy.reserve_connections);
    let cluster = serde_saphyr::to_string(&cluster).unwrap_or_default();
    let cluster = cluster.trim();
    let exposure = host.map_or_else(
        || "  # host: harbor.example.com\n  # expose: clusterIP\n".to_owned(),
        |host| format!("  host: {host}\n  expose: ingress\n"),
    );
    format!(
        "\
# What doks-harbor makes for this cluster. `doks-harbor plan` shows what that means and costs, `doks-harbor apply` does it.
# A line that begins with `# ` and a key is a default: remove the `# ` to change it. No secret belongs in here: commit the file.

# Name or id of the DOKS cluster.
cluster: {cluster}
# namespace: harbor
# DigitalOcean project for what is created. Without: the account's default one.
# project: registries

# Managed PostgreSQL for Harbor's tables: in the cluster's VPC, open to this cluster only.
postgres:
  # Use a cluster that you have, by name. It is never resized and never deleted.
  # adopt: my-postgres
  # Without: the newest that is offered.
  # version: \"17\"
  # The plan decides how many connections there are: 22 for 1 GB, 47 for 2 GB, 97 for 4 GB.
  # size: {pg_size}
  # Two and more fail over by themselves, and need a plan with 2 GB.
  # nodes: 1
  # database: registry
  # user: harbor
  # UTC.
  # maintenance: {{day: sunday, hour: \"03:00\"}}

# Managed Valkey for sessions, job queue and caches. Nothing is ever evicted from it.
valkey:
  # A Redis of before can be adopted, too.
  # adopt: my-valkey
  # size: {valkey_size}
  # nodes: 1

# A bucket for the images, and a key for that bucket alone.
spaces:
  # adopt: my-bucket
  # Needed where the cluster's region has no Spaces (nyc1, nyc2, ric1).
  # region: nyc3
  # With a token that may not make Spaces keys, bring one:
  # keys: {{access_key_file: access-key, secret_key_file: secret-key}}

# The proxy on each node, between Harbor and the databases.
proxy:
  # Where nodes pull it from: `make image` builds it, you push it.
  # image: {image}
  # Only on the nodes of these pools; Harbor's pods must run there, too.
  # node_pools: [registry]
  # Connections of PostgreSQL that are left for others.
  # reserve_connections: {reserve}

harbor:
  # Harbor's Helm chart, {oldest} to 1.{newest_minor}.x.
  # chart: {newest}
  # The name that docker uses, and how it is reached: clusterIP, ingress, traefik, loadBalancer, nodePort or route.
{exposure}\
  # A Secret with the certificate for that name. Without: one that nobody trusts until `doks-harbor trust`.
  # tls_secret: harbor-tls
  # replicas: {replicas}
  # trivy: true
  # metrics: false
  # Values of your own, merged on top of ours.
  # values: harbor-values.yaml
",
        image = proxy.image,
        oldest = ChartVersion::OLDEST,
        newest = ChartVersion::NEWEST,
        newest_minor = ChartVersion::NEWEST.minor,
        replicas = harbor.replicas,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Expose, Spec};

    #[test]
    fn the_template_is_the_default() {
        let mut plain = Spec::read("cluster: production").unwrap();
        assert_eq!(Spec::read(&template("production", None)).unwrap(), plain);
        plain.harbor.host = Some("harbor.example.com".to_owned());
        plain.harbor.expose = Expose::Ingress;
        assert_eq!(Spec::read(&template("production", Some("harbor.example.com"))).unwrap(), plain);
    }

    #[test]
    fn what_is_commented_out_can_be_used() {
        let text = template("yes", None);
        let lines = text.lines().map(|line| {
            let inner = line.trim_start().strip_prefix("# ").unwrap_or("x y");
            let is_key = inner.split_once(':').is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            if is_key { line.replacen("# ", "", 1) } else { line.to_owned() }
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let spec = Spec::read(&text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        assert_eq!(spec.cluster, "yes");
        assert_eq!(spec.postgres.size, Postgres::default().size);
        assert_eq!(spec.harbor.chart, ChartVersion::NEWEST);
        assert!(spec.spaces.keys.is_some() && spec.project.is_some() && spec.proxy.node_pools == ["registry"]);
    }
}
