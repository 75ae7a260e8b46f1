//! Who handles what, and the scope that it needs.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::answer::Answer;
use super::world::World;
use super::{account, databases, inside, spaces};

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) parts: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    /// `Null` where there was none; a string where it was no JSON.
    pub(super) body: Value,
}

impl Call {
    pub(super) fn new(method: &str, path: &str, query: &str, body: &[u8]) -> Self {
        let parts = path.trim_start_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let text = || Value::String(String::from_utf8_lossy(body).into_owned());
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap_or_else(|_| text()) };
        Self { method: method.to_owned(), path: path.to_owned(), parts, query, body }
    }

    /// A part of the path, after `/v2/x/`.
    pub(super) fn part(&self, index: usize) -> &str {
        self.parts.get(index + 2).map_or("", String::as_str)
    }

    pub(super) fn asks(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A field of the body that is a string.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

type Handler = fn(&mut World, &Call) -> Answer;

/// The answer, and the world after it.
pub(super) fn handle(world: &mut World, call: &Call) -> Answer {
    let parts: Vec<&str> = call.parts.iter().map(String::as_str).collect();
    let Some((scope, handler)) = route(&call.method, &parts) else { return Answer::not_found() };
    if world.lacks.contains(scope) {
        return Answer::lacks(scope);
    }
    handler(world, call)
}

fn route(method: &str, parts: &[&str]) -> Option<(&'static str, Handler)> {
    let ["v2", resource, rest @ ..] = parts else { return None };
    Some(match (method, *resource, rest) {
        ("GET", "account", []) => ("account:read", account::get),
        ("GET", "regions", []) => ("regions:read", account::regions),
        ("GET", "vpcs", []) => ("vpc:read", account::vpcs),
        ("GET", "vpcs", [_]) => ("vpc:read", account::vpc),
        ("GET", "kubernetes", ["clusters"]) => ("kubernetes:read", account::clusters),
        ("GET", "kubernetes", ["clusters", _]) => ("kubernetes:read", account::cluster),
        ("GET", "kubernetes", ["clusters", _, "credentials"]) => ("kubernetes:access_cluster", account::credentials),
        ("GET", "projects", []) => ("project:read", account::projects),
        ("GET", "projects", ["default"]) => ("project:read", account::default_project),
        ("GET", "projects", [_, "resources"]) => ("project:read", account::project_resources),
        ("POST", "projects", [_, "resources"]) => ("project:assign_resource", account::assign),
        ("POST", "tags", []) => ("tag:create", account::create_tag),
        ("GET", "tags", [_]) => ("tag:read", account::tag),
        ("POST", "tags", [_, "resources"]) => ("tag:create", account::tag_resources),
        ("GET", "databases", ["options"]) => ("database:read", databases::options),
        ("GET", "databases", []) => ("database:read", databases::list),
        ("POST", "databases", []) => ("database:create", databases::create),
        ("GET", "databases", [_]) => ("database:read", databases::get),
        ("DELETE", "databases", [_]) => ("database:delete", databases::delete),
        ("GET", "databases", [_, "ca"]) => ("database:read", inside::ca),
        ("GET", "databases", [_, "users"]) => ("database:read", inside::users),
        ("POST", "databases", [_, "users"]) => ("database:create", inside::create_user),
        ("GET", "databases", [_, "users", _]) => ("database:read", inside::user),
        ("DELETE", "databases", [_, "users", _]) => ("database:delete", inside::delete_user),
        ("POST", "databases", [_, "users", _, "reset_auth"]) => ("database:update", inside::reset_user),
        ("GET", "databases", [_, "dbs"]) => ("database:read", inside::dbs),
        ("POST", "databases", [_, "dbs"]) => ("database:create", inside::create_db),
        ("GET", "databases", [_, "firewall"]) => ("database:read", inside::firewall),
        ("PUT", "databases", [_, "firewall"]) => ("database:update", inside::set_firewall),
        ("GET", "databases", [_, "eviction_policy"]) => ("database:read", inside::eviction_policy),
        ("PUT", "databases", [_, "eviction_policy"]) => ("database:update", inside::set_eviction_policy),
        ("PUT", "databases", [_, "maintenance"]) => ("database:update", inside::set_maintenance),
        ("GET", "databases", [_, "config"]) => ("database:read", inside::config),
        ("PATCH", "databases", [_, "config"]) => ("database:update", inside::set_config),
        ("GET", "spaces", ["keys"]) => ("spaces_key:read", spaces::list),
        ("POST", "spaces", ["keys"]) => ("spaces_key:create_credentials", spaces::create),
        ("GET", "spaces", ["keys", _]) => ("spaces_key:read", spaces::get),
        ("DELETE", "spaces", ["keys", _]) => ("spaces_key:delete", spaces::delete),
        _ => return None,
    })
}
