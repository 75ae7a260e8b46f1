//! `--target compose`: the same for Harbor's own docker-compose installer, with one proxy beside Harbor in its network.
//!
//! Harbor's `prepare` makes `docker-compose.yml` from `harbor.yml` anew each time, and leaves `docker-compose.override.yml` alone: that is where the
//! proxy is. `harbor.yml` must hold passwords, since `prepare` takes none from elsewhere; the committed one lacks them, and the whole one
//! ([`secret`]) is for the keyring's folder.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::proxy::{self, Place, database};
use super::yaml::Document;
use super::{Budget, Rendered};
use crate::facts::Facts;
use crate::keyring::Entry;
use crate::spec::Spec;

/// In the keyring's folder: what [`secret`] returns.
pub const SECRET_FILE: &str = "harbor.yml";
/// Of the proxy's container, in Harbor's network.
const SERVICE: &str = "redis-tls-proxy";
/// The proxy's user in the container: nobody's on the host.
const USER: u32 = 65532;
/// What the fragment says instead of the template.
const REPLACED: &[&str] = &["hostname", "https", "harbor_admin_password", "external_database", "external_redis", "storage_service"];
/// `prepare` takes them from `harbor.yml` and from nowhere else.
const PASSWORDS: &[(&str, Entry)] = &[
    ("harbor_admin_password", Entry::HarborAdminPassword),
    ("external_database.harbor.password", Entry::ClientPassword),
    ("external_redis.password", Entry::ClientPassword),
    ("storage_service.s3.accesskey", Entry::SpacesAccessKey),
    ("storage_service.s3.secretkey", Entry::SpacesSecretKey),
];

/// For Harbor's own installer, on one machine.
///
/// # Errors
/// Everything that stands against it, a line each, with the key and the cure.
pub fn compose(spec: &Spec, facts: &Facts) -> Result<Rendered, Vec<String>> {
    let (host, budget) = checked(spec, facts)?;
    let mut harbor = fragment(spec, facts, &budget, &host);
    harbor.head("What this installation changes in harbor.yml, without the passwords: commit it.");
    harbor.head(&format!("The one with them is {SECRET_FILE} in the keyring's folder; install.sh puts that into Harbor's own."));
    let mut rendered = Rendered::default();
    rendered.warnings.extend(budget.warning());
    rendered.add("compose/harbor.yml", harbor.text());
    rendered.add("compose/docker-compose.override.yml", beside(spec).text());
    rendered.add("compose/redis-tls-proxy/proxy.yaml", proxy::configuration(facts, &budget, &place()));
    for (file, pem) in proxy::authorities(facts) {
        rendered.add(&format!("compose/redis-tls-proxy/{file}"), pem);
    }
    rendered.add("compose/install.sh", script());
    rendered.add("NEXT.md", next(spec, &host));
    Ok(rendered)
}

/// The content of [`SECRET_FILE`], for the keyring's folder and for nobody else.
///
/// # Errors
/// The secrets that are missing, by the names of their files, or what [`compose`] refuses.
pub fn secret(spec: &Spec, facts: &Facts, secret: impl Fn(Entry) -> Option<SecretString>) -> Result<SecretString, Vec<String>> {
    let (host, budget) = checked(spec, facts)?;
    let mut document = fragment(spec, facts, &budget, &host);
    document.head("What this installation changes in harbor.yml, with the passwords. Never commit this.");
    let mut missing = Vec::new();
    for (key, entry) in PASSWORDS {
        match secret(*entry) {
            Some(secret) => document.set(key, secret.expose_secret()),
            None => missing.push(format!("{}: is not in the keyring; run `doks-harbor apply`, which makes it", entry.file())),
        }
    }
    if missing.is_empty() { Ok(document.text().into()) } else { Err(missing) }
}

fn checked(spec: &Spec, facts: &Facts) -> Result<(String, Budget), Vec<String>> {
    let budget = Budget::new(spec, facts, 1).map_err(|problem| vec![problem]);
    match (&spec.harbor.host, budget) {
        (Some(host), Ok(budget)) => Ok((host.clone(), budget)),
        (Some(_), Err(problems)) => Err(problems),
        (None, budget) => {
            let mut problems = budget.err().unwrap_or_default();
            problems.push(
                "harbor.host: is needed for --target compose; write the name that docker will use, such as harbor.example.com".to_owned(),
            );
            Err(problems)
        }
    }
}

/// As in the pod, so that one configuration is enough to know.
fn place() -> Place {
    Place { peers: None, ..Place::pod("") }
}

fn fragment(spec: &Spec, facts: &Facts, budget: &Budget, host: &str) -> Document {
    let mut document = Document::new();
    document.set("hostname", host);
    document.explain("https.certificate", "Where you have put the certificate for that name, and its key.", "/etc/harbor/tls.crt");
    document.set("https.private_key", "/etc/harbor/tls.key");
    document.set("https.port", 443);
    document.set(
        "external_database.harbor",
        json!({
            "host": SERVICE, "port": 5432, "db_name": database(&facts.postgres), "username": facts.postgres.user, "ssl_mode": "disable",
            "max_open_conns": budget.open(), "max_idle_conns": budget.idle(),
        }),
    );
    document.note("external_database.harbor.ssl_mode", "Plaintext stays in Harbor's own network; the proxy verifies TLS.");
    document.note("external_database.harbor.max_open_conns", &budget.explain_open("part of Harbor", "beside it"));
    document.explain("external_redis.host", "The proxy, too.", format!("{SERVICE}:6379"));
    document.set("external_redis.registry_db_index", 1);
    document.set("external_redis.jobservice_db_index", 2);
    document.set("external_redis.trivy_db_index", 5);
    document.set("external_redis.idle_timeout_seconds", 30);
    document.set(
        "storage_service.s3",
        json!({
            "region": "us-east-1", "regionendpoint": facts.spaces.endpoint, "bucket": facts.spaces.bucket, "rootdirectory": "/",
            "secure": true, "v4auth": true, "chunksize": 16_777_216, "multipartcopymaxconcurrency": 20,
        }),
    );
    let why = "The word has changed between versions of Harbor: each reads its own.";
    document.explain("storage_service.redirect.disable", why, !spec.harbor.redirect);
    document.set("storage_service.redirect.disabled", !spec.harbor.redirect);
    document
}

fn beside(spec: &Spec) -> Document {
    let mut services = Map::new();
    services.insert(SERVICE.to_owned(), container(spec));
    let mut clients = vec!["core", "jobservice", "registry"];
    clients.extend(spec.harbor.trivy.then_some("trivy-adapter"));
    clients.extend(spec.harbor.metrics.then_some("exporter"));
    for client in clients {
        services.insert(client.to_owned(), json!({"depends_on": {SERVICE: {"condition": "service_healthy"}}}));
    }
    let mut document = Document::of(json!({"services": services}));
    document.head("redis-tls-proxy beside Harbor. docker compose reads this file with the docker-compose.yml that Harbor's prepare makes.");
    document.note(&format!("services.{SERVICE}.networks"), "Harbor's own, and no port of the host: nobody else reaches it.");
    document.note(&format!("services.{SERVICE}.user"), "Whom install.sh gives the secrets to.");
    document.note("services.core", "Harbor's parts start when the proxy has.");
    document
}

fn container(spec: &Spec) -> Value {
    json!({
        "image": spec.proxy.image,
        "command": ["run", "--config", "/etc/redis-tls-proxy/config/proxy.yaml"],
        "restart": "always",
        "user": format!("{USER}:{USER}"),
        "read_only": true,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "networks": ["harbor"],
        "volumes": [
            "./redis-tls-proxy/config:/etc/redis-tls-proxy/config:ro",
            "./redis-tls-proxy/secret:/etc/redis-tls-proxy/secret:ro",
        ],
        "healthcheck": {"test": ["CMD", "redis-tls-proxy", "wait", "--max", "2s"], "interval": "5s", "timeout": "5s", "retries": 12},
        "stop_grace_period": "30s",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    })
}

/// Paths, no secret.
fn script() -> String {
    let secrets = proxy::PASSWORDS.map(Entry::file).join(" ");
    let replaced = REPLACED.join("|");
    format!(
        "#!/bin/sh
# Puts the proxy and its configuration into the folder of Harbor's installer:
#   sudo ./install.sh HARBOR FOLDER
# HARBOR is the folder with harbor.yml.tmpl and prepare, FOLDER the keyring of doks-harbor. Run it again after either has changed.
set -eu
harbor=${{1:?the folder of the Harbor installer}}
folder=${{2:?the keyring folder of doks-harbor}}
here=$(dirname \"$0\")
umask 077

# Harbor's own template, with our keys in the place of its own.
awk '/^[a-z_]+:/ {{ skip = /^({replaced}):/ }} !skip' \"$harbor/harbor.yml.tmpl\" >\"$harbor/harbor.yml.new\"
cat \"$folder/{SECRET_FILE}\" >>\"$harbor/harbor.yml.new\"
mv \"$harbor/harbor.yml.new\" \"$harbor/harbor.yml\"

install -d -m 755 \"$harbor/redis-tls-proxy\" \"$harbor/redis-tls-proxy/config\"
install -m 644 \"$here\"/redis-tls-proxy/* \"$harbor/redis-tls-proxy/config/\"
install -d -m 700 -o {USER} -g {USER} \"$harbor/redis-tls-proxy/secret\"
for secret in {secrets}; do
  install -m 400 -o {USER} -g {USER} \"$folder/$secret\" \"$harbor/redis-tls-proxy/secret/$secret\"
done
install -m 644 \"$here/docker-compose.override.yml\" \"$harbor/docker-compose.override.yml\"
"
    )
}

fn next(spec: &Spec, host: &str) -> String {
    let trivy = if spec.harbor.trivy { " --with-trivy" } else { "" };
    let minor = spec.harbor.chart.minor.saturating_sub(4);
    format!(
        "# Next: Harbor with docker compose, on one machine

The files here hold no secret; commit them. `FOLDER` is the keyring, the folder of secrets that doks-harbor has made: never commit that one.
The machine must be in the databases' VPC, and among the trusted sources of both.

1. Harbor's own installer, such as 2.{minor} (<https://github.com/goharbor/harbor/releases>), unpacked into `harbor/`, and a certificate for
   {host} with its key, in `/etc/harbor/tls.crt` and `/etc/harbor/tls.key`.
2. The proxy and the settings, into it:

       sudo sh compose/install.sh harbor FOLDER

3. Start. This makes `docker-compose.yml` from `harbor.yml`, and starts it together with the override that has the proxy:

       cd harbor && sudo ./install.sh{trivy}

| later | in `harbor/` |
|---|---|
| stop | `sudo docker compose down` |
| start | `sudo docker compose up --detach` |
| look | `sudo docker compose ps`, `sudo docker compose logs redis-tls-proxy` |
| after a change of the settings | step 2, then `sudo ./prepare{trivy} && sudo docker compose up --detach` |

Step 2 makes `harbor.yml` from `harbor.yml.tmpl` anew: what you want changed beyond ours belongs into the template.

`prepare` makes `docker-compose.yml` anew and leaves the override alone. With `docker compose --file docker-compose.yml` the override is *not*
read, and Harbor finds no database: leave `--file` out.

Whoever comes to https://{host} signs in as `admin`, with the password in `FOLDER/{admin}`. Harbor reads that at its first start only.
",
        admin = Entry::HarborAdminPassword.file(),
    )
}
