//! The JSON schema of the configuration file, for editors and for checks in CI. Derived from the table of settings.

use serde_json::{Map, Value, json};

use super::settings::{SETTINGS, Scope, Setting};
use super::value::Kind;

/// The schema (draft 2020-12), as indented JSON.
#[must_use]
pub fn schema() -> String {
    let mut top = Map::new();
    let mut listener = Map::new();
    listener.insert(
        "url".to_owned(),
        json!({
            "type": "string",
            "pattern": "^(rediss|postgresql|postgres|tls)://",
            "description": "The server behind the listener: rediss://[user@]host[:port][/db], postgresql://[user@]host[:port][/database] or tls://host:port"
        }),
    );
    for setting in SETTINGS {
        top.insert(setting.file_key(), property(setting));
        if setting.scope == Scope::Listener {
            listener.insert(setting.file_key(), property(setting));
        }
    }
    top.insert(
        "listeners".to_owned(),
        json!({
            "type": "array",
            "minItems": 1,
            "description": "One entry per address that clients connect to",
            "items": { "type": "object", "additionalProperties": false, "required": ["url"], "properties": listener }
        }),
    );
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "redis-tls-proxy configuration",
        "type": "object",
        "additionalProperties": false,
        "required": ["listeners"],
        "properties": top
    });
    format!("{schema:#}\n")
}

fn property(setting: &Setting) -> Value {
    let mut property = match setting.kind {
        Kind::Duration(limits) if limits.zero => {
            json!({ "anyOf": [{ "const": 0 }, { "type": "string", "pattern": "^([0-9]+ *[a-zA-Z]+ *)+$|^0$" }] })
        }
        Kind::Duration(_) => json!({ "type": "string", "pattern": "^([0-9]+ *[a-zA-Z]+ *)+$" }),
        Kind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        // `1.3` without quotes is a number to a YAML reader.
        Kind::Words(words) => {
            let numbers = words.iter().filter_map(|word| word.parse::<f64>().ok()).map(Value::from);
            json!({ "enum": words.iter().map(|word| Value::from(*word)).chain(numbers).collect::<Vec<_>>() })
        }
        Kind::Switch => json!({ "enum": [true, false, "on", "off", "yes", "no"] }),
        Kind::Workers => json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] }),
        // `off` without quotes is a boolean to a YAML 1.1 reader.
        Kind::Admin => json!({ "anyOf": [{ "const": false }, { "type": "string" }] }),
        Kind::Path | Kind::Listen | Kind::Filter | Kind::Label | Kind::ServerName | Kind::EnvName => {
            json!({ "type": "string", "minLength": 1 })
        }
    };
    if let Some(object) = property.as_object_mut() {
        object.insert("description".to_owned(), json!(format!("{}. {}", setting.help, setting.explain)));
        object.insert("default".to_owned(), json!(setting.preset.shown()));
    }
    property
}
