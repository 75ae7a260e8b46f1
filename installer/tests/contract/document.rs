//! DigitalOcean's own OpenAPI document, as a referee of single exchanges.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, Validator};
use lab::digitalocean::Exchange;
use serde_json::{Map, Value, json};

/// Beside the checkout, or where the environment says.
const PLACE: &str = "shared/digitalocean/openapi-subset.json";
const VARIABLE: &str = "DOKS_HARBOR_OPENAPI";

/// Where the document is known to be wrong: where, what it lacks, and why we know better. Everything else is believed.
const DEFECTS: [(&str, &str, &str); 1] = [(
    "/components/schemas/tags_resource/properties/resources/items/properties/resource_type/enum",
    "database",
    "the description beside it and DigitalOcean's own clients tag databases",
)];

pub(crate) struct Document(Value);

impl Document {
    /// The document with its defects mended; `None`, said aloud, where there is none.
    pub(crate) fn find() -> Option<Self> {
        let path = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(|| {
            let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
            ancestors.map(|dir| dir.join(PLACE)).find(|path| path.exists())
        });
        let Some(path) = path else {
            eprintln!(
                "SKIPPED: no {PLACE} beside the checkout, and {VARIABLE} names none; nothing was compared with DigitalOcean's document"
            );
            return None;
        };
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut document: Value = serde_json::from_slice(&text).unwrap();
        for (place, lacking, why) in DEFECTS {
            let words = document.pointer_mut(place).and_then(Value::as_array_mut);
            let words = words.unwrap_or_else(|| panic!("the document has no {place} any more: is the defect mended ({why})?"));
            assert!(!words.iter().any(|word| word == lacking), "{place} has {lacking} now: drop it from DEFECTS");
            words.push(lacking.into());
        }
        Some(Self(document))
    }

    /// For other referees.
    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.0.to_string()).unwrap();
    }

    /// Everything that is wrong with an exchange, in words.
    pub(crate) fn judge(&self, exchange: &Exchange) -> Vec<String> {
        let Exchange { method, path, query, body, answer, .. } = exchange;
        let title = format!("{method} {path}");
        let Some((template, operation)) = self.operation(method, path) else {
            return vec![format!("{title}: the document has no such call")];
        };
        let mut complaints = self.judge_query(operation, query);
        let wanted = self.resolved(operation.pointer("/requestBody/content/application~1json/schema"));
        match wanted {
            Some(schema) if !body.is_null() => {
                complaints.extend(self.violations(schema, body).into_iter().map(|why| format!("request: {why}")));
                self.unknown(schema, body, "", &mut complaints);
            }
            Some(_) => complaints.push("request: a body is missing".to_owned()),
            None if !body.is_null() => complaints.push("request: a body that the document does not know".to_owned()),
            None => {}
        }
        if let Some((status, answer)) = answer {
            complaints.extend(self.judge_answer(operation, *status, answer).into_iter().map(|why| format!("answer {status}: {why}")));
        }
        complaints.into_iter().map(|why| format!("{title} ({template}): {why}")).collect()
    }

    fn judge_answer(&self, operation: &Value, status: u16, answer: &Value) -> Vec<String> {
        // The document tells no 403, 409 or 422 of databases, but the API has them; they look like every other error.
        let documented = self.resolved(operation.pointer(&format!("/responses/{status}")));
        let error = self.0.pointer("/components/schemas/error");
        let schema = match documented {
            Some(response) => self.resolved(response.pointer("/content/application~1json/schema")),
            None if matches!(status, 403 | 409 | 422 | 501 | 502 | 503) => error,
            None => return vec!["the document has no such status".to_owned()],
        };
        match schema {
            Some(schema) => self.violations(schema, answer),
            None if answer.is_null() => Vec::new(),
            None => vec!["a body where the document has none".to_owned()],
        }
    }

    fn judge_query(&self, operation: &Value, query: &[(String, String)]) -> Vec<String> {
        let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let find = |name: &str| {
            let mut known = parameters.iter().filter_map(|parameter| self.resolved(Some(parameter)));
            known.find(|parameter| parameter["in"] == "query" && parameter["name"] == name)
        };
        let judge = |(name, value): &(String, String)| match find(name) {
            None => vec![format!("query: {name} is not known here")],
            Some(parameter) => {
                let is_number = parameter["schema"]["type"] == "integer";
                let value = if is_number { value.parse::<u64>().map_or_else(|_| json!(value), Value::from) } else { json!(value) };
                self.violations(&parameter["schema"], &value).into_iter().map(|why| format!("query: {name}: {why}")).collect()
            }
        };
        query.iter().flat_map(judge).collect()
    }

    /// By method and path; a part in braces fits any, but one that fits without is preferred.
    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let fits = |template: &&String| {
            let (wanted, parts) = (template.split('/'), path.split('/'));
            wanted.clone().count() == parts.clone().count()
                && wanted.zip(parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
        };
        let paths = self.0["paths"].as_object()?;
        let template = paths.keys().filter(fits).min_by_key(|template| template.matches('{').count())?;
        Some((template, paths[template].get(method.to_lowercase())?))
    }

    fn resolved<'a>(&'a self, value: Option<&'a Value>) -> Option<&'a Value> {
        let value = value?;
        match value.get("$ref").and_then(Value::as_str) {
            Some(place) => self.resolved(self.0.pointer(place.strip_prefix('#')?)),
            None => Some(value),
        }
    }

    fn violations(&self, schema: &Value, value: &Value) -> Vec<String> {
        // References point into the document, so it travels along.
        let mut whole = json!({ "components": self.0["components"], "paths": self.0["paths"] });
        whole["allOf"] = json!([schema]);
        nullable(&mut whole);
        let errors: Vec<String> = validator(&whole).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        errors
    }

    /// Fields of a request that the document does not know or that only answers have; no validator minds either.
    fn unknown(&self, schema: &Value, value: &Value, place: &str, complaints: &mut Vec<String>) {
        let Some(schema) = self.resolved(Some(schema)) else { return };
        let properties = self.properties(schema);
        if let (Some(fields), false) = (value.as_object(), properties.is_empty()) {
            for (name, value) in fields {
                match properties.get(name).and_then(|property| self.resolved(Some(property))) {
                    None => complaints.push(format!("request: {place}/{name} is not known")),
                    Some(property) if property.get("readOnly") == Some(&json!(true)) => {
                        complaints.push(format!("request: {place}/{name} is not to be sent"));
                    }
                    Some(property) => self.unknown(property, value, &format!("{place}/{name}"), complaints),
                }
            }
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            values.iter().for_each(|value| self.unknown(items, value, &format!("{place}[]"), complaints));
        }
    }

    fn properties(&self, schema: &Value) -> Map<String, Value> {
        let mut properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for key in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                let Some(part) = self.resolved(Some(part)) else { continue };
                properties.extend(self.properties(part));
            }
        }
        properties
    }

    /// `METHOD TEMPLATE` of all calls in these exchanges.
    pub(crate) fn templates(&self, exchanges: &[Exchange]) -> BTreeSet<String> {
        let template = |exchange: &Exchange| {
            let (template, _) = self.operation(&exchange.method, &exchange.path)?;
            Some(format!("{} {template}", exchange.method))
        };
        exchanges.iter().filter_map(template).collect()
    }
}

/// OpenAPI 3.0 is JSON Schema of before, with `nullable` of its own.
fn nullable(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(nullable);
            if fields.get("nullable") == Some(&json!(true)) {
                let inner = std::mem::take(fields);
                let mut inner = Value::Object(inner);
                inner["nullable"] = json!(false);
                *schema = json!({ "anyOf": [{ "type": "null" }, inner] });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(nullable),
        _ => {}
    }
}

fn validator(schema: &Value) -> Validator {
    let is_uuid = |text: &str| {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let options = jsonschema::options().with_draft(Draft::Draft4).should_validate_formats(true).with_format("uuid", is_uuid);
    options.build(schema).unwrap()
}
