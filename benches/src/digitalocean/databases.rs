//! Database clusters as wholes: options, list, birth, death.

use serde_json::{Value, json};

use super::account::{BORN, is_tag};
use super::answer::Answer;
use super::inside::{read_rules, show_user};
use super::routes::Call;
use super::world::{Database, Endpoint, Phase, World};

pub(super) fn options(world: &mut World, _: &Call) -> Answer {
    Answer::ok(world.options.clone())
}

/// The document knows no pages here.
pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let tag = call.asks("tag_name");
    let mut shown = Vec::new();
    let secrets = !world.lacks.contains("database:view_credentials");
    for database in &mut world.databases {
        pass(database);
        if database.unlisted > 0 {
            database.unlisted -= 1;
        } else if tag.is_none_or(|tag| database.tags.iter().any(|other| other == tag)) && !matches!(database.phase, Phase::Deleting(_)) {
            shown.push(show(database, secrets));
        }
    }
    bury(world);
    Answer::ok(json!({ "databases": shown }))
}

pub(super) fn get(world: &mut World, call: &Call) -> Answer {
    let secrets = !world.lacks.contains("database:view_credentials");
    let answer = world.databases.iter_mut().find(|database| database.id == call.part(0)).and_then(|database| {
        if database.hidden > 0 {
            database.hidden -= 1;
            return None;
        }
        pass(database);
        (database.phase != Phase::Deleting(0)).then(|| Answer::ok(json!({ "database": show(database, secrets) })))
    });
    bury(world);
    answer.unwrap_or_else(Answer::not_found)
}

/// Time goes by with each look.
fn pass(database: &mut Database) {
    database.phase = match database.phase {
        Phase::Creating(0) | Phase::Online => Phase::Online,
        Phase::Creating(looks) => Phase::Creating(looks - 1),
        Phase::Deleting(looks) => Phase::Deleting(looks.saturating_sub(1)),
    };
}

/// Now the names are free.
fn bury(world: &mut World) {
    world.databases.retain(|database| database.phase != Phase::Deleting(0));
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    match wanted(world, &call.body) {
        Err(why) => why,
        Ok(database) => {
            world.tags.extend(database.tags.iter().cloned());
            let urn = format!("do:dbaas:{}", database.id);
            let project = call.text("project_id");
            let home = world.projects.iter_mut().find(|other| project.map_or(other.is_default, |id| other.id == id));
            if let Some(home) = home {
                home.resources.insert(urn);
            }
            let secrets = !world.lacks.contains("database:view_credentials");
            let shown = show(&database, secrets);
            world.databases.push(database);
            Answer::created(json!({ "database": shown }))
        }
    }
}

/// What is to be made, or why it is not.
fn wanted(world: &World, body: &Value) -> Result<Database, Answer> {
    let refuse = |why: String| Err(Answer::unprocessable(&why));
    let text = |field: &str| body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(name), Some(engine), Some(size), Some(region), Some(nodes)) =
        (text("name"), text("engine"), text("size"), text("region"), body.get("num_nodes").and_then(Value::as_u64))
    else {
        return refuse("name, engine, num_nodes, size and region are required".to_owned());
    };
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return refuse("name is invalid: only letters, digits and hyphens".to_owned());
    }
    if world.databases.iter().any(|other| other.name == name) {
        return refuse("cluster name is not available".to_owned());
    }
    if world.databases.len() >= world.database_limit {
        return refuse("creating this/these database(s) will exceed your database cluster limit".to_owned());
    }
    if engine == "redis" {
        return refuse("caching cluster creates are no longer supported".to_owned());
    }
    let Some(offer) = world.options.pointer(&format!("/options/{engine}")) else { return refuse("invalid engine".to_owned()) };
    let offers = |field: &str, word: &str| offer.get(field).and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == word));
    if !offers("regions", region) {
        return refuse(format!("region {region} is not available for {engine}"));
    }
    let version = text("version").or_else(|| offer.get("default_version").and_then(Value::as_str)).unwrap_or_default();
    if !offers("versions", version) {
        return refuse(format!("invalid version {version} for engine {engine}"));
    }
    let layouts = offer.get("layouts").and_then(Value::as_array).cloned().unwrap_or_default();
    let fits = |layout: &Value| {
        layout.get("num_nodes").and_then(Value::as_u64) == Some(nodes)
            && layout.get("sizes").and_then(Value::as_array).is_some_and(|sizes| sizes.iter().any(|other| other == size))
    };
    if !layouts.iter().any(fits) {
        return refuse(format!("size {size} is not available with {nodes} node(s)"));
    }
    let fallback = world.vpcs.iter().find(|vpc| vpc.region == region).map(|vpc| vpc.id.as_str());
    let Some(vpc) = text("private_network_uuid").or(fallback) else { return refuse("no network in this region".to_owned()) };
    if !world.vpcs.iter().any(|other| other.id == vpc && other.region == region) {
        return refuse("private network uuid is not valid for this region".to_owned());
    }
    if text("project_id").is_some_and(|id| !world.projects.iter().any(|project| project.id == id)) {
        return refuse("project does not exist".to_owned());
    }
    let mut database = Database::new(name, engine, version);
    database.tags = body
        .get("tags")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |tags| tags.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    if !database.tags.iter().all(|tag| is_tag(tag)) {
        return refuse("tag name is invalid".to_owned());
    }
    if !database.tags.is_empty() && world.lacks.contains("tag:create") {
        return Err(Answer::lacks("tag:create"));
    }
    database.rules = body.get("rules").map_or_else(|| Ok(Vec::new()), |rules| read_rules(rules, &[]))?;
    (database.num_nodes, database.size, database.region, database.vpc) = (nodes, size.to_owned(), region.to_owned(), vpc.to_owned());
    birth(world, &mut database);
    Ok(database)
}

fn birth(world: &World, database: &mut Database) {
    let births = &world.births;
    database.phase = Phase::Creating(births.creating_polls);
    database.hidden = births.hidden_polls;
    database.unlisted = births.unlisted_polls;
    if let Some(public) = births.public.get(&database.engine) {
        database.public = public.clone();
    }
    if let Some(private) = births.private.get(&database.engine) {
        database.private = private.clone();
    }
    if let (Some(password), Some(admin)) = (births.admin_password.get(&database.engine), database.users.first_mut()) {
        password.clone_into(&mut admin.password);
    }
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let looks = world.births.deleting_polls;
    let found = world.databases.iter_mut().find(|database| database.id == call.part(0) && !matches!(database.phase, Phase::Deleting(_)));
    let Some(database) = found else { return Answer::not_found() };
    database.phase = Phase::Deleting(looks);
    let urn = format!("do:dbaas:{}", database.id);
    world.projects.iter_mut().for_each(|project| {
        project.resources.remove(&urn);
    });
    bury(world);
    Answer::empty(204)
}

fn show(database: &Database, secrets: bool) -> Value {
    let admin = database.users.first();
    let connection = |endpoint: &Endpoint| {
        let mut shown = json!({
            "protocol": if database.is_pg() { "postgresql" } else { "rediss" },
            "database": if database.is_pg() { "defaultdb" } else { "" },
            "host": endpoint.host,
            "port": endpoint.port,
            "ssl": true,
        });
        if let (true, Some(admin), Some(fields)) = (secrets, admin, shown.as_object_mut()) {
            let uri = format!("{}://{}:{}@{}:{}", database.engine, admin.name, admin.password, endpoint.host, endpoint.port);
            fields.insert("uri".to_owned(), uri.into());
            fields.insert("user".to_owned(), admin.name.clone().into());
            fields.insert("password".to_owned(), admin.password.clone().into());
        }
        shown
    };
    let mut shown = json!({
        "id": database.id,
        "name": database.name,
        "engine": database.engine,
        "version": database.version,
        "semantic_version": format!("{}.1", database.version),
        "num_nodes": database.num_nodes,
        "size": database.size,
        "region": database.region,
        "status": if matches!(database.phase, Phase::Creating(_)) { "creating" } else { "online" },
        "created_at": BORN,
        "private_network_uuid": database.vpc,
        "tags": if database.tags.is_empty() { Value::Null } else { json!(database.tags) },
        "db_names": if database.dbs.is_empty() { Value::Null } else { json!(database.dbs) },
        "connection": connection(&database.public),
        "private_connection": connection(&database.private),
        "users": database.users.iter().map(|user| show_user(user, secrets)).collect::<Vec<_>>(),
        "maintenance_window": { "day": database.maintenance.0, "hour": database.maintenance.1, "pending": false, "description": [] },
    });
    if let (Some(end), Some(fields)) = (&database.end_of_life, shown.as_object_mut()) {
        fields.insert("version_end_of_life".to_owned(), end.clone().into());
    }
    shown
}
