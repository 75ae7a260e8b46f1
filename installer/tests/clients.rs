//! Programs that others have written, against what ours have made: skopeo, and docker-registry behind the fake Harbor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use lab::harbor::Harbor;

mod visitor;

use visitor::Visitor;

/// Copies an image to a folder, as podman would pull it: with these credentials and this trust, or without.
fn pull(visitor: &Visitor, image: &str, to: &str, credentials: Option<&str>, trust: Option<&Path>) -> Output {
    let mut command = Command::new(lab::process::require("skopeo", "skopeo").unwrap());
    command.args(["--insecure-policy", "copy", "--src-tls-verify=true"]).current_dir(visitor.folder.path());
    if let Some(file) = credentials {
        command.args(["--src-authfile", file]);
    }
    if let Some(folder) = trust {
        command.arg("--src-cert-dir").arg(folder);
    }
    command.arg(format!("docker://{image}")).arg(format!("dir:{to}"));
    command.env("HOME", visitor.folder.path()).env_remove("REGISTRY_AUTH_FILE").env_remove("XDG_RUNTIME_DIR");
    command.output().unwrap()
}

#[tokio::test]
#[ignore = "needs docker-registry and skopeo: make test-cluster"]
async fn skopeo_pulls_what_smoke_pushed() {
    let visitor = Visitor::at(Harbor::builder().real().start().await.unwrap());
    let smoke = visitor.json(&["smoke", "--keep"], 0).await;
    let (image, project) = (smoke["kept"]["image"].as_str().unwrap(), smoke["kept"]["project"].as_str().unwrap());
    visitor.run(&["pull-secret", "--project", project, "--out", "auth.json"]).await.ends_with(0);
    visitor.run(&["trust", "--write", "podman", "--root", "machine"]).await.ends_with(0);
    let trust = visitor.path(&format!("machine/etc/containers/certs.d/{}", visitor.harbor.host()));

    let pulled = pull(&visitor, image, "pulled", Some("auth.json"), Some(&trust));
    assert!(pulled.status.success(), "{pulled:?}\n{}", visitor.harbor.registry().unwrap().log());
    let digest = visitor.harbor.world(|world| world.projects[0].repositories["image"][0].digest.clone());
    let sum = Command::new("sha256sum").arg(visitor.path("pulled/manifest.json")).output().unwrap();
    assert_eq!(format!("sha256:{}", String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap()), digest);
    // The layer is a tar with the file in it.
    let manifest: serde_json::Value = serde_json::from_str(&visitor.read("pulled/manifest.json")).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let listed = Command::new("tar").arg("-tf").arg(visitor.path(&format!("pulled/{layer}"))).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "smoke\n", "{listed:?}");

    // Without either of them, and once the robot is gone.
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let closed = pull(&visitor, image, "a", None, Some(&trust));
    assert!(!closed.status.success() && told(&closed).contains("unauthorized"), "{closed:?}");
    let strange = pull(&visitor, image, "b", Some("auth.json"), None);
    assert!(!strange.status.success() && told(&strange).contains("x509"), "{strange:?}");
    visitor.harbor.world(|world| world.robots.retain(|robot| !robot.name.contains("pull-file")));
    assert!(!pull(&visitor, image, "c", Some("auth.json"), Some(&trust)).status.success());
}
