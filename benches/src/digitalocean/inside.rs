//! What is inside of a database cluster: users, databases, firewall, policy, settings.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::account::BORN;
use super::answer::{Answer, secret};
use super::routes::Call;
use super::world::{Database, Event, Phase, Rule, User, World};

const UNSUPPORTED: &str = "operation is not supported for this cluster type";
const POLICIES: [&str; 6] = ["noeviction", "allkeys_lru", "allkeys_random", "volatile_lru", "volatile_random", "volatile_ttl"];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MOST_RULES: usize = 100;

/// The cluster of the path, as far as it can be seen.
fn of<'a>(world: &'a mut World, call: &Call) -> Option<&'a mut Database> {
    let is_there = |database: &&mut Database| database.hidden == 0 && !matches!(database.phase, Phase::Deleting(_));
    world.databases.iter_mut().find(|database| database.id == call.part(0)).filter(is_there)
}

/// Changes need a cluster that is ready.
fn ready<'a>(world: &'a mut World, call: &Call) -> Result<&'a mut Database, Answer> {
    match of(world, call) {
        None => Err(Answer::not_found()),
        Some(database) if database.phase == Phase::Online => Ok(database),
        Some(_) => Err(Answer::unprocessable("cluster is not online")),
    }
}

fn show_secrets(world: &World) -> bool {
    !world.lacks.contains("database:view_credentials")
}

pub(super) fn ca(world: &mut World, call: &Call) -> Answer {
    let Some(engine) = of(world, call).map(|database| database.engine.clone()) else { return Answer::not_found() };
    let Some(pem) = world.births.ca.get(&engine) else { return Answer::not_found() };
    Answer::ok(json!({ "ca": { "certificate": BASE64_STANDARD.encode(pem) } }))
}

pub(super) fn show_user(user: &User, secrets: bool) -> Value {
    let mut shown = json!({ "name": user.name, "role": user.role });
    if let (true, Some(fields)) = (secrets, shown.as_object_mut()) {
        fields.insert("password".to_owned(), user.password.clone().into());
    }
    shown
}

pub(super) fn users(world: &mut World, call: &Call) -> Answer {
    let secrets = show_secrets(world);
    let Some(database) = of(world, call) else { return Answer::not_found() };
    Answer::ok(json!({ "users": database.users.iter().map(|user| show_user(user, secrets)).collect::<Vec<_>>() }))
}

pub(super) fn user(world: &mut World, call: &Call) -> Answer {
    let secrets = show_secrets(world);
    let user = of(world, call).and_then(|database| database.users.iter().find(|user| user.name == call.part(2)));
    user.map_or_else(Answer::not_found, |user| Answer::ok(json!({ "user": show_user(user, secrets) })))
}

pub(super) fn create_user(world: &mut World, call: &Call) -> Answer {
    let secrets = show_secrets(world);
    let database = match ready(world, call) {
        Ok(database) if database.is_pg() => database,
        Ok(_) => return Answer::unprocessable(UNSUPPORTED),
        Err(why) => return why,
    };
    let Some(name) = call.text("name").filter(|name| !name.is_empty()) else { return Answer::unprocessable("name is required") };
    if database.users.iter().any(|user| user.name == name) {
        return Answer::unprocessable("user already exists");
    }
    let user = User { name: name.to_owned(), role: "normal", password: secret("AVNS_", 19) };
    let shown = show_user(&user, secrets);
    let event = Event::User { database: database.name.clone(), name: user.name.clone(), password: user.password.clone() };
    database.users.push(user);
    world.events.push(event);
    Answer::created(json!({ "user": shown }))
}

pub(super) fn reset_user(world: &mut World, call: &Call) -> Answer {
    let secrets = show_secrets(world);
    let database = match ready(world, call) {
        Ok(database) if database.is_pg() => database,
        Ok(_) => return Answer::unprocessable(UNSUPPORTED),
        Err(why) => return why,
    };
    let name = database.name.clone();
    let Some(user) = database.users.iter_mut().find(|user| user.name == call.part(2)) else { return Answer::not_found() };
    user.password = secret("AVNS_", 19);
    let shown = show_user(user, secrets);
    let event = Event::User { database: name, name: user.name.clone(), password: user.password.clone() };
    world.events.push(event);
    Answer::ok(json!({ "user": shown }))
}

pub(super) fn delete_user(world: &mut World, call: &Call) -> Answer {
    let Some(database) = of(world, call) else { return Answer::not_found() };
    let Some(user) = database.users.iter().find(|user| user.name == call.part(2)) else { return Answer::not_found() };
    if user.role == "primary" {
        return Answer::unprocessable("the default user cannot be deleted");
    }
    database.users.retain(|user| user.name != call.part(2));
    Answer::empty(204)
}

pub(super) fn dbs(world: &mut World, call: &Call) -> Answer {
    let Some(database) = of(world, call) else { return Answer::not_found() };
    if !database.is_pg() {
        return Answer::unprocessable(UNSUPPORTED);
    }
    Answer::ok(json!({ "dbs": database.dbs.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() }))
}

pub(super) fn create_db(world: &mut World, call: &Call) -> Answer {
    let database = match ready(world, call) {
        Ok(database) if database.is_pg() => database,
        Ok(_) => return Answer::unprocessable(UNSUPPORTED),
        Err(why) => return why,
    };
    let Some(name) = call.text("name").filter(|name| !name.is_empty()) else { return Answer::unprocessable("name is required") };
    if database.dbs.iter().any(|other| other == name) {
        return Answer::unprocessable("database name already exists");
    }
    database.dbs.push(name.to_owned());
    let event = Event::Db { database: database.name.clone(), name: name.to_owned() };
    world.events.push(event);
    Answer::created(json!({ "db": { "name": name } }))
}

pub(super) fn firewall(world: &mut World, call: &Call) -> Answer {
    let Some(database) = of(world, call) else { return Answer::not_found() };
    let rules = database.rules.iter().map(|rule| {
        let mut shown = json!({
            "uuid": rule.uuid,
            "cluster_uuid": database.id,
            "type": rule.kind,
            "value": rule.value,
            "created_at": BORN,
        });
        if let (Some(description), Some(fields)) = (&rule.description, shown.as_object_mut()) {
            fields.insert("description".to_owned(), description.clone().into());
        }
        shown
    });
    Answer::ok(json!({ "rules": rules.collect::<Vec<_>>() }))
}

/// These and no others.
pub(super) fn set_firewall(world: &mut World, call: &Call) -> Answer {
    let Some(database) = of(world, call) else { return Answer::not_found() };
    match read_rules(call.body.get("rules").unwrap_or(&Value::Null), &database.rules) {
        Ok(rules) => {
            database.rules = rules;
            Answer::empty(204)
        }
        Err(why) => why,
    }
}

/// A rule that has the id of an old one keeps it, but not its description if that was not sent back.
pub(super) fn read_rules(rules: &Value, old: &[Rule]) -> Result<Vec<Rule>, Answer> {
    let Some(rules) = rules.as_array().filter(|rules| rules.len() <= MOST_RULES) else {
        return Err(Answer::unprocessable("rules must be a list of at most 100"));
    };
    rules
        .iter()
        .map(|rule| {
            let text = |field: &str| rule.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            let (Some(kind), Some(value)) = (text("type"), text("value")) else {
                return Err(Answer::unprocessable("type and value of a rule are required"));
            };
            let mut new = Rule::new(kind, value, text("description"));
            if let Some(uuid) = text("uuid") {
                if !old.iter().any(|rule| rule.uuid == uuid) {
                    return Err(Answer::unprocessable("no rule has this uuid"));
                }
                uuid.clone_into(&mut new.uuid);
            }
            Ok(new)
        })
        .collect()
}

pub(super) fn eviction_policy(world: &mut World, call: &Call) -> Answer {
    match of(world, call) {
        None => Answer::not_found(),
        Some(database) if database.is_pg() => Answer::unprocessable(UNSUPPORTED),
        Some(database) => Answer::ok(json!({ "eviction_policy": database.eviction_policy })),
    }
}

pub(super) fn set_eviction_policy(world: &mut World, call: &Call) -> Answer {
    let database = match ready(world, call) {
        Ok(database) if database.is_pg() => return Answer::unprocessable(UNSUPPORTED),
        Ok(database) => database,
        Err(why) => return why,
    };
    let Some(policy) = call.text("eviction_policy").filter(|policy| POLICIES.contains(policy)) else {
        return Answer::unprocessable("invalid eviction policy");
    };
    policy.clone_into(&mut database.eviction_policy);
    Answer::empty(204)
}

/// Told with seconds, whatever was sent.
pub(super) fn set_maintenance(world: &mut World, call: &Call) -> Answer {
    let database = match ready(world, call) {
        Ok(database) => database,
        Err(why) => return why,
    };
    let (Some(day), Some(hour)) = (call.text("day").filter(|day| DAYS.contains(day)), call.text("hour").and_then(|hour| hour.get(..5)))
    else {
        return Answer::unprocessable("invalid maintenance window");
    };
    database.maintenance = (day.to_owned(), format!("{hour}:00"));
    Answer::empty(204)
}

pub(super) fn config(world: &mut World, call: &Call) -> Answer {
    of(world, call).map_or_else(Answer::not_found, |database| Answer::ok(json!({ "config": database.config })))
}

pub(super) fn set_config(world: &mut World, call: &Call) -> Answer {
    let database = match ready(world, call) {
        Ok(database) => database,
        Err(why) => return why,
    };
    let Some(config) = call.body.get("config").and_then(Value::as_object) else { return Answer::unprocessable("config is required") };
    let prefix = format!("{}_", database.engine);
    if let Some(name) = config.keys().find(|name| !database.is_pg() && !name.starts_with(&prefix) && *name != "frequent_snapshots") {
        return Answer::unprocessable(&format!("invalid config parameter {name}"));
    }
    database.config.extend(config.clone());
    Answer::empty(200)
}
