//! What differs between an object as it is and as it would be: a line for each field. `[pure]`

use serde_json::{Map, Value};

/// Written by the API server and its controllers alone.
const NOBODYS: [&str; 8] = [
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];
/// Counts the pod templates of a DaemonSet: it moves with them.
const COUNTER: &str = "deprecated.daemonset.template.generation";
/// Of a text with many lines, so many are shown.
const MOST_LINES: usize = 12;
/// A value that is longer is cut.
const WIDTH: usize = 70;

/// The object without what nobody decides: status, versions, times.
#[must_use]
pub(super) fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    let Some(fields) = bare.as_object_mut() else { return bare };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        NOBODYS.iter().for_each(|name| drop(metadata.remove(*name)));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(COUNTER);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    bare
}

/// `spec.replicas: 1 → 2`, a line for each field. Of Secrets only the keys are told.
#[must_use]
pub(super) fn lines(live: &Value, wanted: &Value) -> Vec<String> {
    let is_secret = wanted.get("kind").and_then(Value::as_str) == Some("Secret");
    let mut found = Vec::new();
    compare("", Some(&bare(live)), Some(&bare(wanted)), &mut |path, before, after| {
        if is_secret && !path.starts_with("metadata.labels") {
            found.push(format!(
                "{path}: {}",
                match (before, after) {
                    (None, _) => "added",
                    (_, None) => "removed",
                    _ => "another value",
                }
            ));
        } else {
            tell(path, before, after, &mut found);
        }
    });
    found
}

/// Every place where the two differ, as deep as both have the same shape.
fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut impl FnMut(&str, Option<&Value>, Option<&Value>)) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in keys(old, new) {
                compare(&join(path, key), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                let name = new.get("name").and_then(Value::as_str).map_or_else(|| index.to_string(), str::to_owned);
                compare(&format!("{path}[{name}]"), Some(old), Some(new), found);
            }
        }
        _ => found(path, before, after),
    }
}

fn keys<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> std::collections::BTreeSet<&'a str> {
    old.keys().chain(new.keys()).map(String::as_str).collect()
}

fn join(path: &str, key: &str) -> String {
    // A key with dots is a label's, an annotation's or a file's.
    let key = if key.contains('.') { format!("[{key}]") } else { key.to_owned() };
    if path.is_empty() || key.starts_with('[') { format!("{path}{key}") } else { format!("{path}.{key}") }
}

fn tell(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<String>) {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| text.contains('\n')).map(str::to_owned);
    if let (Some(old), Some(new)) = (text(before), text(after)) {
        found.push(format!("{path}:"));
        found.extend(of_text(&old, &new));
        return;
    }
    found.push(match (before, after) {
        (None, after) => format!("{path}: added {}", shown(after)),
        (before, None) => format!("{path}: removed {}", shown(before)),
        (before, after) => format!("{path}: {} → {}", shown(before), shown(after)),
    });
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let first = text.lines().next().unwrap_or_default();
    if first.chars().count() > WIDTH || first.len() < text.len() {
        return format!("{}…", first.chars().take(WIDTH).collect::<String>());
    }
    text
}

/// The lines between the first and the last that differ.
fn of_text(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()).saturating_sub(head);
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let middle = |lines: &[&str], mark: char| -> Vec<String> {
        let between = lines.len().saturating_sub(head + tail);
        let mut shown: Vec<_> =
            lines.iter().skip(head).take(between.min(MOST_LINES)).map(|line| format!("  {mark} {}", line.trim_end())).collect();
        if between > MOST_LINES {
            shown.push(format!("  {mark} … {} more lines", between - MOST_LINES));
        }
        shown
    };
    [middle(&old, '-'), middle(&new, '+')].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_differs_is_a_line_and_no_other() {
        let live = json!({"kind": "X", "metadata": {"name": "x", "uid": "1", "labels": {"a.b/c": "1"}}, "status": {"x": 1},
            "spec": {"n": 1, "same": [1], "list": [{"name": "one", "image": "a"}], "gone": true}});
        let wanted = json!({"kind": "X", "metadata": {"name": "x", "uid": "2", "labels": {"a.b/c": "2"}},
            "spec": {"n": 2, "same": [1], "list": [{"name": "one", "image": "b"}], "new": "y"}});
        assert_eq!(
            lines(&live, &wanted),
            [
                "metadata.labels[a.b/c]: 1 → 2",
                "spec.gone: removed true",
                "spec.list[one].image: a → b",
                "spec.n: 1 → 2",
                "spec.new: added y",
            ]
        );
        assert!(lines(&live, &live).is_empty());
    }

    #[test]
    fn of_a_secret_only_keys_are_told() {
        let live = json!({"kind": "Secret", "data": {"a": "b2xk", "b": "Z29uZQ=="}});
        let wanted = json!({"kind": "Secret", "data": {"a": "bmV3", "c": "bW9yZQ=="}});
        assert_eq!(lines(&live, &wanted), ["data.a: another value", "data.b: removed", "data.c: added"]);
        assert_eq!(lines(&json!({"kind": "Secret"}), &wanted).iter().filter(|line| line.contains("bmV3")).count(), 0);
    }

    #[test]
    fn of_a_text_the_lines_that_differ_are_told() {
        let file = |middle: &str| json!({"kind": "ConfigMap", "data": {"x.yaml": format!("a\n{middle}\nz\n")}});
        assert_eq!(lines(&file("b"), &file("c\nd")), ["data[x.yaml]:", "  - b", "  + c", "  + d"]);
        let long = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert!(lines(&file("b"), &file(&long)).iter().any(|line| line.contains("28 more lines")));
    }
}
