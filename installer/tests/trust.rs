//! `trust`: where the authority comes from, what is told, what is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use lab::harbor::Harbor;

mod visitor;

use visitor::Visitor;

#[tokio::test]
async fn it_tells_how_with_the_authority_to_compare() {
    let visitor = Visitor::new().await;
    let host = visitor.harbor.host();
    let text = visitor.run(&["trust"]).await.ends_with(0);
    for words in [
        "CN=Lab Root CA",
        "SHA-256",
        "expires",
        &format!("/etc/docker/certs.d/{host}/ca.crt"),
        "hosts.toml",
        "update-ca-certificates",
        "cert-manager",
    ] {
        text.tells(words);
    }
    text.tells(visitor.harbor.ca_pem().replace("\r\n", "\n").trim());
    let json = visitor.json(&["trust"], 0).await;
    assert_eq!((&json["public"], &json["registry"]), (&false.into(), &host.into()));
    assert_eq!(json["certificates"][0]["sha256"].as_str().unwrap().len(), 32 * 3 - 1);
}

#[tokio::test]
async fn files_are_written_where_they_are_read() {
    let visitor = Visitor::new().await;
    let host = visitor.harbor.host().to_owned();
    let first = visitor.json(&["trust", "--write", "--root", "machine"], 0).await;
    assert_eq!(first["written"].as_array().unwrap().len(), 4, "{first:#}");
    assert!(first["notes"].to_string().contains("config_path"), "{first:#}");
    let hosts = visitor.read(&format!("machine/etc/containerd/certs.d/{host}/hosts.toml"));
    assert!(hosts.contains(&format!("server = \"https://{host}\"")) && !hosts.contains("machine"), "{hosts}");
    for folder in ["docker", "containers", "containerd"] {
        let file = format!("machine/etc/{folder}/certs.d/{host}/ca.crt");
        assert!(visitor.read(&file).contains("BEGIN CERTIFICATE"));
        assert_eq!(std::fs::metadata(visitor.path(&file)).unwrap().permissions().mode() & 0o777, 0o644);
    }
    let again = visitor.json(&["trust", "--write", "all", "--root", "machine"], 0).await;
    assert!(again["written"].as_array().unwrap().iter().all(|file| file["outcome"] == "same"), "{again:#}");
    // For one user.
    visitor.run(&["trust", "--write", "podman", "--user"]).await.ends_with(0);
    assert!(visitor.path(&format!(".config/containers/certs.d/{host}/ca.crt")).exists());

    std::fs::write(visitor.path(&format!("machine/etc/docker/certs.d/{host}/ca.crt")), "mine").unwrap();
    visitor.run(&["trust", "--write", "docker", "--root", "machine"]).await.ends_with(1).tells("--force");
    visitor.run(&["trust", "--write", "docker", "--root", "machine", "--force"]).await.ends_with(0);
}

#[tokio::test]
async fn an_authority_that_did_not_sign_is_not_passed_on() {
    let visitor = Visitor::new().await;
    let other = Harbor::start().await.unwrap();
    // What an unverified server tells of itself is not even asked for.
    visitor.harbor.world(|world| world.authority = Some(visitor.harbor.ca_pem().to_owned()));
    std::fs::write(visitor.path("ca.pem"), other.ca_pem()).unwrap();
    visitor.run(&["trust", "--write", "--root", "machine"]).await.ends_with(1).tells("is not the one of this Harbor");
    assert!(!visitor.path("machine").exists());
    let without = visitor::outcome(visitor.bare(&["trust", "--harbor", visitor.harbor.url()]).spawn().unwrap()).await;
    without.ends_with(1).tells("--ca-file");
    assert!(visitor.harbor.world(|world| world.log.is_empty()));
}
