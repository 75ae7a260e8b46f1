//! `/api/v2.0`, as far as the installer goes.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::server::{Asked, Reply, now};
use super::world::{Caller, Collection, Permission, Project, Robot, World};

const NOT_FOUND: &str = "NOT_FOUND";

/// The answer, and the world after it.
pub(super) fn answer(world: &mut World, asked: &Asked, url: &str) -> Reply {
    let Some(path) = asked.path.strip_prefix("/api/v2.0/") else { return Reply::new(404, "<html>404</html>") };
    let parts: Vec<String> = path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let login = asked.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    let caller = world.caller(login, now());
    // What anybody may ask; a login that is wrong is refused everywhere.
    match (asked.method.as_str(), parts.as_slice()) {
        _ if caller == Caller::Stranger => return Reply::error(401, "UNAUTHORIZED", "unauthorized"),
        ("GET", ["ping"]) => return Reply::new(200, "Pong"),
        ("GET", ["health"]) => return health(world),
        ("GET", ["systeminfo"]) => return systeminfo(world, url, &caller),
        ("GET", ["systeminfo", "getcert"]) => {
            return world.authority.as_ref().map_or_else(|| Reply::error(404, NOT_FOUND, "no certificate"), |pem| Reply::new(200, pem));
        }
        _ if caller == Caller::Nobody => return Reply::error(401, "UNAUTHORIZED", "unauthorized"),
        ("GET", ["users", "current"]) => {
            return Reply::json(200, &json!({ "user_id": 1, "username": login.map_or("", |(user, _)| user) }));
        }
        _ if caller != Caller::Admin => return Reply::error(403, "FORBIDDEN", "forbidden"),
        _ => {}
    }
    match (asked.method.as_str(), parts.as_slice()) {
        ("PUT", ["users", "1", "password"]) => password(world, &asked.json()),
        ("GET", ["projects"]) => projects(world, asked),
        ("POST", ["projects"]) => create_project(world, &asked.json()),
        ("DELETE", ["projects", project]) => delete_project(world, project),
        ("GET", ["projects", project, "repositories"]) => repositories(world, project),
        ("DELETE", ["projects", project, "repositories", repository]) => delete_repository(world, project, &decoded(repository)),
        ("GET", ["projects", project, "repositories", repository, "artifacts"]) => artifacts(world, project, &decoded(repository)),
        ("GET", ["robots"]) => robots(world, asked),
        ("POST", ["robots"]) => create_robot(world, &asked.json()),
        ("DELETE", ["robots", id]) => delete_robot(world, id),
        ("POST", ["system", "gc", "schedule"]) => collect(world, &asked.json()),
        ("GET", ["system", "gc"]) => {
            let newest = world.collections.iter().rev().take(1).map(|(id, status)| json!({ "id": id, "job_status": status }));
            Reply::json(200, &newest.collect())
        }
        ("GET", ["system", "gc", id]) => collection(world, id),
        ("GET", ["system", "gc", id, "log"]) => log(world, id),
        _ => Reply::error(404, NOT_FOUND, &format!("no {} {}", asked.method, asked.path)),
    }
}

/// Names of repositories are encoded twice.
fn decoded(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

fn health(world: &mut World) -> Reply {
    let starting = world.starting > 0;
    world.starting = world.starting.saturating_sub(1);
    let components = world.health.iter().map(|(name, ailment)| match ailment {
        _ if starting => json!({ "name": name, "status": "unhealthy", "error": "unknown status" }),
        Some(error) => json!({ "name": name, "status": "unhealthy", "error": error }),
        None => json!({ "name": name, "status": "healthy" }),
    });
    let components: Vec<Value> = components.collect();
    let well = !starting && world.health.iter().all(|(_, ailment)| ailment.is_none());
    Reply::json(200, &json!({ "status": if well { "healthy" } else { "unhealthy" }, "components": components }))
}

fn systeminfo(world: &World, url: &str, caller: &Caller) -> Reply {
    let mut info = json!({ "auth_mode": "db_auth", "self_registration": false });
    if *caller != Caller::Nobody
        && let Some(fields) = info.as_object_mut()
    {
        fields.insert("harbor_version".to_owned(), "v2.15.1-lab".into());
        fields.insert("external_url".to_owned(), url.into());
        fields.insert("registry_url".to_owned(), url.trim_start_matches("https://").into());
        fields.insert("has_ca_root".to_owned(), world.authority.is_some().into());
        fields.insert("registry_storage_provider_name".to_owned(), "s3".into());
    }
    Reply::json(200, &info)
}

fn password(world: &mut World, body: &Value) -> Reply {
    if body["old_password"] != world.password.as_str() {
        return Reply::error(403, "FORBIDDEN", "incorrect old_password");
    }
    body["new_password"].as_str().unwrap_or_default().clone_into(&mut world.password);
    Reply::new(200, "")
}

fn projects(world: &World, asked: &Asked) -> Reply {
    let name = asked.query("name").unwrap_or_default();
    let page: usize = asked.query("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let size: usize = asked.query("page_size").and_then(|size| size.parse().ok()).unwrap_or(10);
    let found = world.projects.iter().filter(|project| project.name.contains(&name)).skip((page - 1) * size).take(size);
    let shown = found.map(|project| json!({ "project_id": project.id, "name": project.name, "creation_time": project.created }));
    Reply::json(200, &shown.collect())
}

fn create_project(world: &mut World, body: &Value) -> Reply {
    let name = body["project_name"].as_str().unwrap_or_default();
    if world.closed {
        return Reply::error(403, "FORBIDDEN", "only the system administrator can create projects");
    }
    if world.project(name).is_some() {
        return Reply::error(409, "CONFLICT", &format!("The project named {name} already exists"));
    }
    let created = k8s_time(now());
    let id = world.add_project(name, body.pointer("/metadata/public") == Some(&"true".into()), &created);
    Reply::new(201, "").header("location", &format!("/api/v2.0/projects/{id}"))
}

/// RFC 3339.
fn k8s_time(seconds: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    format!("{date}T{:02}:{:02}:{:02}.000Z", clock.hour(), clock.minute(), clock.second())
}

fn delete_project(world: &mut World, project: &str) -> Reply {
    match world.project(project) {
        None => Reply::error(404, NOT_FOUND, "project not found"),
        Some(project) if !project.repositories.is_empty() => {
            Reply::error(412, "PRECONDITION", &format!("the project {} contains repositories, can not be deleted", project.name))
        }
        Some(Project { id, .. }) => {
            let id = *id;
            world.projects.retain(|project| project.id != id);
            world.robots.retain(|robot| robot.project != Some(id));
            Reply::new(200, "")
        }
    }
}

fn repositories(world: &mut World, project: &str) -> Reply {
    let Some(project) = world.project(project) else { return Reply::error(404, NOT_FOUND, "project not found") };
    let names = project.repositories.keys().map(|name| json!({ "name": format!("{}/{name}", project.name) }));
    Reply::json(200, &names.collect())
}

fn delete_repository(world: &mut World, project: &str, repository: &str) -> Reply {
    let Some(project) = world.project(project) else { return Reply::error(404, NOT_FOUND, "project not found") };
    let name = project.name.clone();
    if project.repositories.remove(repository).is_none() {
        return Reply::error(404, NOT_FOUND, "repository not found");
    }
    world.forget_images(&format!("{name}/{repository}"));
    Reply::new(200, "")
}

fn artifacts(world: &mut World, project: &str, repository: &str) -> Reply {
    let found = world.project(project).and_then(|project| project.repositories.get(repository));
    let Some(artifacts) = found else { return Reply::error(404, NOT_FOUND, "repository not found") };
    let shown = artifacts.iter().map(|artifact| {
        let tags: Vec<_> = artifact.tags.iter().map(|tag| json!({ "name": tag })).collect();
        json!({ "digest": artifact.digest, "tags": tags, "type": "IMAGE" })
    });
    Reply::json(200, &shown.collect())
}

fn robots(world: &World, asked: &Asked) -> Reply {
    let filter = asked.query("q").unwrap_or_default();
    let project = filter.split("ProjectID=").nth(1).and_then(|id| id.parse::<i64>().ok());
    // As Harbor does: only without a level it is sure to leave out those of projects.
    let is_listed = |robot: &&Robot| filter == "Level=system" || robot.project == project;
    let page: usize = asked.query("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let size: usize = asked.query("page_size").and_then(|size| size.parse().ok()).unwrap_or(10);
    let found = world.robots.iter().filter(is_listed).skip((page - 1) * size).take(size);
    let shown = found.map(|robot| {
        json!({ "id": robot.id, "name": robot.name, "disable": robot.disabled, "expires_at": robot.expires_at, "level": "project" })
    });
    Reply::json(200, &shown.collect())
}

fn create_robot(world: &mut World, body: &Value) -> Reply {
    let permissions = body["permissions"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|permission| Permission {
        project: permission["namespace"].as_str().unwrap_or_default().to_owned(),
        actions: permission["access"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|access| Some(access["action"].as_str()?.to_owned()))
            .collect(),
    });
    let permissions: Vec<Permission> = permissions.collect();
    let name = body["name"].as_str().unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)) {
        return Reply::error(400, "BAD_REQUEST", "the robot name is not valid");
    }
    let (project, full) = if body["level"] == "project" {
        let [permission] = permissions.as_slice() else { return Reply::error(400, "BAD_REQUEST", "one project, please") };
        let Some(project) = world.project(&permission.project) else { return Reply::error(404, NOT_FOUND, "project not found") };
        (Some(project.id), format!("robot${}+{name}", project.name))
    } else {
        let missing = permissions
            .iter()
            .find(|permission| permission.project != "*" && !world.projects.iter().any(|project| project.name == permission.project));
        if missing.is_some() {
            return Reply::error(404, NOT_FOUND, "project not found");
        }
        (None, format!("robot${name}"))
    };
    if world.robots.iter().any(|robot| robot.name == full) {
        return Reply::error(409, "CONFLICT", "the robot account exists");
    }
    let days = body["duration"].as_i64().unwrap_or(-1);
    let expires_at = if days < 0 { -1 } else { now() + days * 86_400 };
    let (id, secret) = (world.number(), format!("Rs{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
    let answer = json!({ "id": id, "name": full, "secret": secret, "creation_time": k8s_time(now()), "expires_at": expires_at });
    world.robots.push(Robot { id, name: full, secret, project, permissions, disabled: false, expires_at });
    Reply::json(201, &answer).header("location", &format!("/api/v2.0/robots/{id}"))
}

fn delete_robot(world: &mut World, id: &str) -> Reply {
    let before = world.robots.len();
    world.robots.retain(|robot| robot.id.to_string() != id);
    if world.robots.len() == before { Reply::error(404, NOT_FOUND, "robot not found") } else { Reply::new(200, "") }
}

fn collect(world: &mut World, body: &Value) -> Reply {
    let (kind, dry) = (body.pointer("/schedule/type"), body.pointer("/parameters/dry_run"));
    if kind != Some(&"Manual".into()) || dry != Some(&true.into()) {
        return Reply::error(400, "BAD_REQUEST", "only dry runs here");
    }
    let id = world.number();
    world.collections.push((id, "Pending".to_owned()));
    if world.collection == Collection::Busy {
        return Reply::error(409, "CONFLICT", "there is a running GC job");
    }
    Reply::new(201, "").header("location", &format!("/api/v2.0/system/gc/{id}"))
}

fn collection(world: &mut World, id: &str) -> Reply {
    let end = world.collection;
    let Some((id, status)) = world.collections.iter_mut().find(|(known, _)| known.to_string() == id) else {
        return Reply::error(404, NOT_FOUND, "no such collection");
    };
    let next = match (status.as_str(), end) {
        ("Pending", Collection::Stuck) => "Pending",
        ("Pending", _) => "Running",
        ("Running", Collection::Error) => "Error",
        ("Running", _) => "Success",
        ("Error", _) => "Error",
        _ => "Success",
    };
    next.clone_into(status);
    Reply::json(200, &json!({ "id": id, "job_name": "GARBAGE_COLLECTION", "job_kind": "MANUAL", "job_status": next }))
}

fn log(world: &World, id: &str) -> Reply {
    if !world.collections.iter().any(|(known, _)| known.to_string() == id) || world.collection == Collection::NoLog {
        return Reply::error(404, NOT_FOUND, "the log file is not found");
    }
    Reply::new(
        200,
        "2026-11-22T12:00:00Z [INFO] [/jobservice/job/impl/gc/garbage_collection.go:168]: Garbage Collection parameters: [dry_run: true]\n",
    )
}
