//! `render --target local`: the proxy takes what is written, from anywhere, with the keyring's own files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redis_tls_proxy::config::{self, Purpose, Sources};
use support::{Desk, outcome};

mod support;

/// What the proxy says to a file: `NAME: LISTEN` of each listener, or its mistakes.
fn load(file: &Path) -> Result<Vec<String>, String> {
    let sources = Sources {
        urls: Vec::new(),
        file: Some(file.to_owned()),
        flags: BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Serve,
        probe: &|_| Ok(()),
    };
    let loaded = config::load(&sources).map_err(|mistakes| mistakes.to_string())?;
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    Ok(loaded.config.listeners.iter().map(|listener| format!("{}: {:?}", listener.name, listener.listen)).collect())
}

const RENDER: &[&str] =
    &["render", "--target", "local", "--redis-listen", "127.0.0.1:16379", "--postgres-listen", "127.0.0.1:15432", "--out", "some/out"];

#[tokio::test]
async fn the_proxy_takes_what_is_written() {
    let desk = Desk::with(lab::digitalocean::Fake::builder(), "proxy: {reserve_connections: 4}\n").await;
    desk.apply().await.ends_with(0);
    let rendered = desk.run(RENDER).await.ends_with(0);
    let files: Vec<_> = rendered.stdout.lines().collect();
    assert_eq!(files, ["some/out/local/postgres-ca.crt", "some/out/local/proxy.yaml", "some/out/local/valkey-ca.crt"]);
    assert!(rendered.stderr.contains("redis-tls-proxy run --config some/out/local/proxy.yaml"), "{}", rendered.stderr);

    // The working folder of this test is another one: every path in it must be whole.
    let listeners = load(&desk.path("some/out/local/proxy.yaml")).unwrap();
    assert_eq!(listeners.len(), 2, "{listeners:?}");
    assert!(listeners[0].contains("127.0.0.1:16379") && listeners[1].contains("127.0.0.1:15432"), "{listeners:?}");
    let text = desk.read("some/out/local/proxy.yaml");
    assert!(text.contains("pool_size: 4") && !text.contains("pool_budget"), "it takes what the fleet leaves to others: {text}");
    assert!(!text.contains("log_format") && !text.contains("drain_delay"), "somebody sits before it: {text}");
    for entry in ["client-password", "postgres-password", "valkey-password"] {
        assert!(text.contains(&format!("doks-harbor.keyring/{entry}")), "{entry}: {text}");
        assert!(!text.contains(&desk.read(&format!("doks-harbor.keyring/{entry}"))), "{entry} is in the file");
    }

    // Without a token and without DigitalOcean, the same.
    let offline = [RENDER, &["--facts", "doks-harbor.out/facts.json"]].concat();
    let mut offline = desk.command(&offline);
    offline.env_remove("DIGITALOCEAN_TOKEN");
    fs::remove_dir_all(desk.path("some")).unwrap();
    outcome(offline.spawn().unwrap()).await.ends_with(0);
    assert_eq!(desk.read("some/out/local/proxy.yaml"), text);
}

#[tokio::test]
async fn what_cannot_work_is_not_written() {
    let desk = Desk::new().await;
    desk.apply().await.ends_with(0);
    let refused = desk.run(&["render", "--target", "local", "--redis-listen", "nowhere"]).await.ends_with(1);
    assert!(refused.stderr.contains("nothing was written") && refused.stderr.contains("listen"), "{}", refused.stderr);
    let refused = desk.run(&["render", "--redis-listen", "127.0.0.1:1"]).await.ends_with(64);
    assert!(refused.stderr.contains("--target local"), "{}", refused.stderr);
    fs::remove_file(desk.path("doks-harbor.keyring/valkey-password")).unwrap();
    let refused = desk.run(&["render", "--target", "local"]).await.ends_with(1);
    assert!(refused.stderr.contains("valkey-password") && refused.stderr.contains("apply"), "{}", refused.stderr);
    assert!(!desk.path("doks-harbor.out/local").exists());
}
