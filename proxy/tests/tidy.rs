//! The rooms stay apart: who may use whom, how long a file may be, how it begins. A failure prints the rule that is broken.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests say what they expect, like the tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this has to be split; about 300 is the aim.
const MOST_LINES: usize = 400;

/// Files that must not name any of these words: path prefix, words, why.
const FENCES: &[(&str, &[&str], &str)] = &[
    ("redis/frame", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("redis/command.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("redis/boundary.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure state"),
    ("redis/gate.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure decision"),
    ("redis/class.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "plain words"),
    ("redis/head.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("redis/table", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure data, and how it is found"),
    ("postgres/message.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("postgres/options.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("postgres/reply.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("postgres/startup.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("postgres/scram", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure exchange"),
    ("postgres/boundary.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure state"),
    ("postgres/sql", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure scanner"),
    ("postgres/traces.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "plain words"),
    ("broker/params.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure state"),
    ("broker/greet/wishes.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "plain facts"),
    ("broker/console/command.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "plain words"),
    ("broker/exchange", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure state"),
    ("redis/", &["crate::postgres", "crate::pool", "crate::app", "crate::serve"], "a protocol knows neither the other nor its users"),
    ("postgres/", &["crate::redis", "crate::pool", "crate::app", "crate::serve"], "a protocol knows neither the other nor its users"),
    ("pool/", &["crate::redis", "crate::postgres", "crate::tls", "crate::upstream", "crate::app"], "a pool knows no protocol and no TLS"),
    ("pool/quota.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "pure state"),
    ("mux/backend/hello.rs", &["tokio", "tracing", "crate::metrics", "crate::config", "rustls", "Instant"], "a pure codec"),
    ("mux/", &["crate::postgres", "crate::app", "crate::serve"], "an engine of Redis knows neither the other protocol nor its users"),
    (
        "broker/",
        &["crate::redis", "crate::mux", "crate::app", "crate::serve"],
        "an engine of PostgreSQL knows neither the other protocol nor its users",
    ),
    ("relay.rs", &["crate::pool", "crate::upstream", "crate::app", "crate::serve"], "the relay is handed two open streams"),
    ("config/", &["crate::app", "crate::serve", "crate::metrics", "tokio::"], "settings know nobody who reads them"),
    ("error.rs", &["use crate::"], "a leaf"),
    ("drain.rs", &["use crate::"], "a leaf"),
    ("", &["unsafe {", "serde_yaml", "rustls_pemfile"], "forbidden everywhere"),
];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Tests in the same file may do what they like.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("tests/")
}

#[test]
fn every_file_begins_with_its_purpose_and_ends_in_time() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files seen: is the path right?", sources.len());
    for (name, text) in &sources {
        assert!(text.starts_with("//!"), "{name}: the first line must say what the file is for (`//! …`)");
        let lines = without_tests(text).lines().count();
        assert!(lines <= MOST_LINES || is_test(name), "{name}: {lines} lines; split it (at most {MOST_LINES} before its tests)");
    }
}

#[test]
fn nobody_climbs_a_fence() {
    let sources = sources();
    for (prefix, words, why) in FENCES {
        let fenced: Vec<_> = sources.iter().filter(|(name, _)| name.starts_with(prefix) && !is_test(name)).collect();
        assert!(!fenced.is_empty(), "no file begins with `{prefix}`: the fence guards nothing");
        for (name, text) in fenced {
            let code = without_tests(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let broken = words.iter().find(|word| line.contains(**word));
                assert!(broken.is_none(), "{name} must not name `{}`: it is {why}\n  {line}", broken.unwrap());
            }
        }
    }
}
