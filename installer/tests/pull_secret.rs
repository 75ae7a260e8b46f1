//! `pull-secret --out`: a login in a file, kept as long as it works. In a cluster: `pull_secret_cluster.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

mod visitor;

use visitor::Visitor;

const OUT: &[&str] = &["pull-secret", "--project", "web", "--out", "auth.json"];

async fn visitor() -> Visitor {
    let visitor = Visitor::new().await;
    visitor.harbor.world(|world| {
        world.add_project("web", false, "2026-01-01T00:00:00.000Z");
        world.add_project("tools", false, "2026-01-01T00:00:00.000Z");
    });
    visitor
}

/// User and secret in the file.
fn login(visitor: &Visitor) -> (String, String) {
    let config: Value = serde_json::from_str(&visitor.read("auth.json")).unwrap();
    let auth = &config["auths"][visitor.harbor.host()];
    let (user, password) = (auth["username"].as_str().unwrap(), auth["password"].as_str().unwrap());
    assert_eq!(auth["auth"], BASE64_STANDARD.encode(format!("{user}:{password}")));
    (user.to_owned(), password.to_owned())
}

fn outcome(report: &Value) -> &str {
    report["logins"][0]["what"].as_str().unwrap()
}

#[tokio::test]
async fn a_login_is_made_once_and_kept_while_it_works() {
    let visitor = visitor().await;
    let report = visitor.json(OUT, 0).await;
    assert_eq!(outcome(&report), "created");
    let first = login(&visitor);
    assert!(first.0.starts_with("robot$web+pull-file-"), "{first:?}");
    assert_eq!(std::fs::metadata(visitor.path("auth.json")).unwrap().permissions().mode() & 0o777, 0o600);
    let robots = || visitor.harbor.world(|world| world.robots.clone());
    assert_eq!((robots().len(), robots()[0].secret.clone()), (1, first.1.clone()));
    assert_eq!(robots()[0].permissions, [lab::harbor::Permission { project: "web".to_owned(), actions: vec!["pull".to_owned()] }]);

    let report = visitor.json(OUT, 0).await;
    assert_eq!((outcome(&report), login(&visitor)), ("kept", first.clone()));
    // What a run that was killed has left goes with the next one; what is not of this place stays.
    visitor.harbor.world(|world| {
        for (id, name) in [(901, first.0.replace(&first.0[first.0.len() - 6..], "killed")), (902, "robot$web+ci".to_owned())] {
            world.robots.push(lab::harbor::Robot { id, name, ..world.robots[0].clone() });
        }
    });
    assert_eq!(outcome(&visitor.json(OUT, 0).await), "kept");
    assert_eq!(robots().iter().map(|robot| robot.name.clone()).collect::<Vec<_>>(), [first.0.clone(), "robot$web+ci".to_owned()]);
    visitor.harbor.world(|world| world.robots.pop());
    // Each way in which it can stop working.
    let spoil: [fn(&mut lab::harbor::World); 4] = [
        |world| world.robots[0].disabled = true,
        |world| world.robots.clear(),
        |world| "changed in the pages".clone_into(&mut world.robots[0].secret),
        |world| world.robots[0].permissions[0].actions.clear(),
    ];
    for spoil in spoil {
        let before = login(&visitor);
        visitor.harbor.world(spoil);
        let report = visitor.json(OUT, 0).await;
        assert_eq!(outcome(&report), "renewed", "{report:#}");
        assert!(login(&visitor) != before && robots().len() == 1 && robots()[0].secret == login(&visitor).1);
        assert_eq!(outcome(&visitor.json(OUT, 0).await), "kept");
    }
    let before = login(&visitor);
    assert_eq!(outcome(&visitor.json(&[OUT, &["--rotate"]].concat(), 0).await), "renewed");
    assert!(login(&visitor) != before && robots().len() == 1);
    // Another life.
    assert_eq!(outcome(&visitor.json(&[OUT, &["--days", "30"]].concat(), 0).await), "renewed");
    assert!(robots()[0].expires_at > 0);
    assert_eq!(outcome(&visitor.json(&[OUT, &["--days", "30"]].concat(), 0).await), "kept");
}

#[tokio::test]
async fn several_projects_and_all_of_them_are_a_robot_of_the_system() {
    let visitor = visitor().await;
    visitor.run(&["pull-secret", "--project", "web", "--project", "tools", "--out", "auth.json"]).await.ends_with(0).tells("web,tools");
    assert!(login(&visitor).0.starts_with("robot$pull-file-"));
    visitor.run(&["pull-secret", "--all-projects", "--out", "auth.json", "--rotate"]).await.ends_with(0).tells("all projects");
    let permissions = visitor.harbor.world(|world| world.robots[0].permissions.clone());
    assert_eq!((permissions.len(), permissions[0].project.as_str()), (1, "*"));
    visitor.run(&["pull-secret", "--project", "nowhere", "--out", "other.json"]).await.ends_with(1).tells("there is no project nowhere");
}

#[tokio::test]
async fn what_cannot_be_written_down_leaves_no_robot() {
    let visitor = visitor().await;
    visitor.run(&["pull-secret", "--project", "web", "--out", "no/such/folder/auth.json"]).await.ends_with(1).tells("cannot be written");
    assert!(visitor.harbor.world(|world| world.robots.is_empty()));
    // Nor is a file of somebody else's overwritten.
    std::fs::write(visitor.path("auth.json"), r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#).unwrap();
    visitor.run(OUT).await.ends_with(1).tells("name another file");
    assert!(visitor.harbor.world(|world| world.robots.is_empty()));
    // Whether it works is not known: it stays.
    std::fs::remove_file(visitor.path("auth.json")).unwrap();
    visitor.run(OUT).await.ends_with(0);
    let before = login(&visitor);
    visitor.harbor.world(|world| world.fault("GET", "/service/token", 500, "database is down"));
    visitor.run(OUT).await.ends_with(1).tells("nothing was changed");
    assert_eq!(login(&visitor), before);
}

#[tokio::test]
async fn it_is_printed_only_when_asked() {
    let visitor = visitor().await;
    let child = visitor.command(&["pull-secret", "--project", "web", "--out", "-"]).spawn().unwrap();
    let printed = visitor::outcome(child).await.ends_with(0);
    let secret = visitor.harbor.world(|world| world.robots[0].secret.clone());
    assert_eq!(printed.json()["auths"][visitor.harbor.host()]["password"], secret);
    assert!(!printed.stderr.contains(&secret));
}

#[tokio::test]
async fn arguments_that_say_too_little_are_refused() {
    let visitor = visitor().await;
    for arguments in [&["pull-secret"][..], &["pull-secret", "--project", "web"], &["pull-secret", "--namespace", "a"]] {
        visitor.run(arguments).await.ends_with(64);
    }
    visitor.run(&[OUT, &["--days", "0"]].concat()).await.ends_with(64);
}
