//! Spaces keys. The secret is told once.

use serde_json::{Value, json};

use super::account::BORN;
use super::answer::{Answer, page, secret};
use super::routes::Call;
use super::world::{Event, Key, World};

const MOST_KEYS: usize = 200;

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let wanted = call.asks("name");
    let keys = world.keys.iter().filter(|key| wanted.is_none_or(|name| name == key.name));
    let keys: Vec<Value> = keys.map(show).collect();
    page(&call.path, &call.query, "keys", &keys)
}

pub(super) fn get(world: &mut World, call: &Call) -> Answer {
    let key = world.keys.iter().find(|key| key.access_key == call.part(1));
    key.map_or_else(Answer::not_found, |key| Answer::ok(json!({ "key": show(key) })))
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let Some(name) = call.text("name").filter(|name| !name.is_empty()) else { return Answer::error(400, "name is required") };
    let grants = call.body.get("grants").and_then(Value::as_array).map_or_else(Vec::new, |grants| {
        let field = |grant: &Value, name: &str| grant.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        grants.iter().map(|grant| (field(grant, "bucket"), field(grant, "permission"))).collect::<Vec<_>>()
    });
    let is_full = |(bucket, permission): &(String, String)| bucket.is_empty() && permission == "fullaccess";
    let is_scoped = |(bucket, permission): &(String, String)| !bucket.is_empty() && matches!(permission.as_str(), "read" | "readwrite");
    let is_allowed = grants.iter().all(is_scoped) || (grants.len() == 1 && grants.iter().all(is_full));
    if !is_allowed {
        return Answer::error(400, "fullaccess cannot be mixed with other grants, and other grants need a bucket");
    }
    if world.keys.len() >= MOST_KEYS {
        return Answer::unprocessable("The limit of Spaces access keys is reached");
    }
    let key = Key { name: name.to_owned(), access_key: format!("DO{}", secret("", 18).to_uppercase()), secret_key: secret("", 43), grants };
    let mut shown = show(&key);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("secret_key".to_owned(), key.secret_key.clone().into());
    }
    let (access_key, secret_key, grants) = (key.access_key.clone(), key.secret_key.clone(), key.grants.clone());
    world.events.push(Event::Key { access_key, secret_key, grants });
    // The newest first, as the real one sorts.
    world.keys.insert(0, key);
    Answer::created(json!({ "key": shown }))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let before = world.keys.len();
    world.keys.retain(|key| key.access_key != call.part(1));
    if world.keys.len() == before {
        return Answer::not_found();
    }
    world.events.push(Event::KeyDeleted { access_key: call.part(1).to_owned() });
    Answer::empty(204)
}

fn show(key: &Key) -> Value {
    let grants = key.grants.iter().map(|(bucket, permission)| json!({ "bucket": bucket, "permission": permission }));
    json!({ "name": key.name, "access_key": key.access_key, "grants": grants.collect::<Vec<_>>(), "created_at": BORN })
}
