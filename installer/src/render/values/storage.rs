//! Where Harbor's state is: PostgreSQL and Valkey behind the proxy, images in Spaces. Nothing on a volume that two pods must share.

use crate::facts::Facts;
use crate::render::Budget;
use crate::render::proxy::database;
use crate::render::secrets::Use;
use crate::render::yaml::Document;
use crate::spec::Spec;

/// What S3 clients sign with; Spaces takes it in all of its regions, and creates buckets with nothing else.
const REGION: &str = "us-east-1";
/// 16 MiB: a layer may have 10,000 parts.
const CHUNK: &str = "16777216";
/// From 32 MiB on, a copy is made in parts of that size.
const COPY_CHUNK: &str = "33554432";
/// The registry's default of 100 at one time, for each blob, runs into Spaces' limit of requests.
const COPY_CONCURRENCY: u32 = 20;

pub(super) fn set(document: &mut Document, spec: &Spec, facts: &Facts, budget: &Budget) {
    postgres(document, spec, facts, budget);
    valkey(document, spec);
    spaces(document, spec, facts);
}

fn postgres(document: &mut Document, spec: &Spec, facts: &Facts, budget: &Budget) {
    let release = &spec.harbor.release;
    document.explain("database.type", "The managed PostgreSQL, through the proxy on the pod's own node.", "external");
    document.set("database.external.host", super::proxy_address(&spec.namespace));
    document.set("database.external.port", "5432");
    document.explain("database.external.sslmode", "Plaintext does not leave the node; the proxy verifies TLS.", "disable");
    document.set("database.external.username", facts.postgres.user.as_str());
    document.set("database.external.coreDatabase", database(&facts.postgres));
    if Use::Client.is_referred_to(spec.harbor.chart) {
        document.set("database.external.existingSecret", Use::Client.name(release));
    }
    document.explain("database.maxOpenConns", &budget.explain_open("pod", "on its node"), budget.open());
    document.set("database.maxIdleConns", budget.idle());
}

fn valkey(document: &mut Document, spec: &Spec) {
    document.explain("redis.type", "The managed Valkey, through the proxy on the pod's own node.", "external");
    document.set("redis.external.addr", format!("{}:6379", super::proxy_address(&spec.namespace)));
    if spec.harbor.chart.at_least(17) {
        document.set("redis.external.tlsOptions.enable", false);
    }
    if Use::Client.is_referred_to(spec.harbor.chart) {
        document.explain(
            "redis.external.existingSecret",
            "Opens the proxy and nothing else. The chart looks it up in the cluster while it renders, and writes it into ConfigMaps: `helm \
             template` and Argo CD, which cannot look, find none.",
            Use::Client.name(&spec.harbor.release),
        );
    }
}

fn spaces(document: &mut Document, spec: &Spec, facts: &Facts) {
    let storage = "persistence.imageChartStorage";
    document.explain(&format!("{storage}.type"), "Images in Spaces: the registry has no volume.", "s3");
    let (why, disable) = if spec.harbor.redirect {
        ("Pulls go from Spaces to the client directly. Clients must reach it; else harbor.redirect: false.", false)
    } else {
        ("Pulls go through the registry's pods: harbor.redirect is false.", true)
    };
    document.explain(&format!("{storage}.disableredirect"), why, disable);
    let mut set = |key: &str, value: serde_json::Value| document.set(&format!("{storage}.s3.{key}"), value);
    set("bucket", facts.spaces.bucket.as_str().into());
    set("region", REGION.into());
    set("regionendpoint", facts.spaces.endpoint.as_str().into());
    set("rootdirectory", "/".into());
    set("secure", true.into());
    set("v4auth", true.into());
    set("chunksize", CHUNK.into());
    set("multipartcopychunksize", COPY_CHUNK.into());
    set("multipartcopythresholdsize", COPY_CHUNK.into());
    set("multipartcopymaxconcurrency", COPY_CONCURRENCY.into());
    if Use::Spaces.is_referred_to(spec.harbor.chart) {
        set("existingSecret", Use::Spaces.name(&spec.harbor.release).into());
    }
    document.note(&format!("{storage}.s3.region"), "For signatures; where the bucket is follows from regionendpoint.");
    document.explain("persistence.enabled", "For the scanner's cache alone, a volume of each pod's own.", true);
}
