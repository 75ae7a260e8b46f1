//! The end state, without what differs from run to run: ids, passwords, times.

use serde_json::{Map, Value, json};

use super::world::{Database, Phase, World};

pub(super) fn of(world: &World) -> Value {
    let databases: Map<String, Value> =
        world.databases.iter().map(|database| (database.name.clone(), database_of(world, database))).collect();
    let mut keys: Vec<Value> = world
        .keys
        .iter()
        .map(|key| {
            let mut grants = key.grants.clone();
            grants.sort();
            json!({ "name": key.name, "grants": grants })
        })
        .collect();
    keys.sort_by_key(Value::to_string);
    let projects: Map<String, Value> = world
        .projects
        .iter()
        .map(|project| {
            let mut resources: Vec<String> = project.resources.iter().map(|urn| named(world, urn)).collect();
            resources.sort();
            (project.name.clone(), json!(resources))
        })
        .collect();
    json!({ "databases": databases, "keys": keys, "tags": world.tags, "projects": projects })
}

fn database_of(world: &World, database: &Database) -> Value {
    let phase = match database.phase {
        Phase::Creating(_) => "creating",
        Phase::Online => "online",
        Phase::Deleting(_) => "deleting",
    };
    let mut tags = database.tags.clone();
    tags.sort();
    let mut rules: Vec<Value> =
        database.rules.iter().map(|rule| json!({ "type": rule.kind, "value": rule.value, "description": rule.description })).collect();
    rules.sort_by_key(Value::to_string);
    let mut users: Vec<Value> = database.users.iter().map(|user| json!({ "name": user.name, "role": user.role })).collect();
    users.sort_by_key(Value::to_string);
    let mut dbs = database.dbs.clone();
    dbs.sort();
    let vpc = world.vpcs.iter().find(|vpc| vpc.id == database.vpc).map(|vpc| vpc.name.as_str());
    json!({
        "engine": database.engine,
        "version": database.version,
        "num_nodes": database.num_nodes,
        "size": database.size,
        "region": database.region,
        "vpc": vpc,
        "phase": phase,
        "tags": tags,
        "rules": rules,
        "users": users,
        "dbs": dbs,
        "eviction_policy": database.eviction_policy,
        "maintenance": database.maintenance,
        "config": database.config,
    })
}

/// By its name instead of its id.
fn named(world: &World, urn: &str) -> String {
    let database = urn.strip_prefix("do:dbaas:").and_then(|id| world.databases.iter().find(|database| database.id == id));
    database.map_or_else(|| urn.to_owned(), |database| format!("do:dbaas:{}", database.name))
}
