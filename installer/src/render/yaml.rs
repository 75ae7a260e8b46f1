//! The one writer of YAML: a document with comments above its keys.
//!
//! Helm and Harbor's `prepare` read YAML 1.1, where `yes`, `on`, `012` and `1:30` are no strings. Every scalar goes through serde-saphyr, which
//! quotes them; only the frame of keys, lists and comments is written here, because no serializer keeps comments.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Where a comment is broken.
const COMMENT_WIDTH: usize = 110;

/// A map that becomes a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document {
    /// What is written.
    pub(super) root: Value,
    /// Above the first key.
    head: Vec<String>,
    /// By path, such as `database.external.host` or `listeners.1.url`.
    notes: BTreeMap<String, String>,
}

impl Document {
    /// An empty one.
    #[must_use]
    pub(super) fn new() -> Self {
        Self::of(Value::Object(Map::new()))
    }

    /// One with this content.
    #[must_use]
    pub(super) const fn of(root: Value) -> Self {
        Self { root, head: Vec::new(), notes: BTreeMap::new() }
    }

    /// Adds a paragraph above everything. Lines are broken where they are long.
    pub(super) fn head(&mut self, text: &str) {
        self.head.push(text.to_owned());
    }

    /// Sets the key at this path of map keys; what lies between is made.
    pub(super) fn set(&mut self, path: &str, value: impl Into<Value>) {
        put(&mut self.root, path, value.into());
    }

    /// Sets a key, and says why.
    pub(super) fn explain(&mut self, path: &str, why: &str, value: impl Into<Value>) {
        self.set(path, value);
        self.note(path, why);
    }

    /// A comment above a key. It vanishes with its key.
    pub(super) fn note(&mut self, path: &str, why: &str) {
        self.notes.insert(path.to_owned(), why.to_owned());
    }

    /// The text.
    #[must_use]
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        for (index, paragraph) in self.head.iter().enumerate() {
            if index > 0 {
                lines.push("#".to_owned());
            }
            lines.extend(comment(paragraph));
        }
        lines.extend(self.block(&self.root, ""));
        lines.push(String::new());
        lines.join("\n")
    }

    /// The lines of a value that stands for itself, without indentation.
    fn block(&self, value: &Value, path: &str) -> Vec<String> {
        match value {
            Value::Object(map) if !map.is_empty() => map.iter().flat_map(|(key, value)| self.entry(key, value, path)).collect(),
            Value::Array(items) if !items.is_empty() => {
                let items = items.iter().enumerate();
                items.flat_map(|(index, item)| self.item(item, &join(path, &index.to_string()))).collect()
            }
            scalar => plain(scalar),
        }
    }

    fn entry(&self, key: &str, value: &Value, path: &str) -> Vec<String> {
        let path = join(path, key);
        let mut lines: Vec<_> = self.notes.get(&path).map(|why| comment(why)).unwrap_or_default();
        let is_nested = match value {
            Value::Object(map) => !map.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        if is_nested {
            let key = plain(&Value::from(key)).join(" ");
            lines.push(format!("{key}:"));
            lines.extend(self.block(value, &path).into_iter().map(|line| indent(&line)));
        } else {
            let mut one = Map::new();
            one.insert(key.to_owned(), value.clone());
            lines.extend(plain(&Value::Object(one)));
        }
        lines
    }

    /// An item of a list: its first line that is no comment begins with the dash.
    fn item(&self, item: &Value, path: &str) -> Vec<String> {
        let mut lines: Vec<_> = self.notes.get(path).map(|why| comment(why)).unwrap_or_default();
        let mut begun = false;
        for line in self.block(item, path) {
            if begun {
                lines.push(indent(&line));
            } else if line.starts_with('#') {
                lines.push(line);
            } else {
                begun = true;
                lines.push(format!("- {line}"));
            }
        }
        lines
    }
}

/// Documents of one file, as `kubectl apply -f` takes them.
#[must_use]
pub(super) fn several(documents: &[Document]) -> String {
    documents.iter().map(Document::text).collect::<Vec<_>>().join("---\n")
}

/// The value at a path of map keys.
#[must_use]
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// Every line with a `#`, none too long.
#[must_use]
pub(super) fn comment(text: &str) -> Vec<String> {
    text.lines().flat_map(wrapped).collect()
}

fn wrapped(line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = "#".to_owned();
    // What is set in, such as a command, stays in one piece.
    if line.starts_with(' ') {
        return vec![format!("# {line}")];
    }
    for word in line.split_whitespace() {
        if current.len() > 1 && current.len() + word.len() + 1 > COMMENT_WIDTH {
            lines.push(std::mem::replace(&mut current, "#".to_owned()));
        }
        current.push(' ');
        current.push_str(word);
    }
    lines.push(current);
    lines
}

fn put(into: &mut Value, path: &str, value: Value) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(map) = into else { return };
    match rest {
        None => {
            map.insert(key.to_owned(), value);
        }
        Some(rest) => put(map.entry(key).or_insert_with(|| Value::Object(Map::new())), rest, value),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn indent(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("  {line}") }
}

/// As serde-saphyr writes it. Plain data cannot fail to be written.
fn plain(value: &Value) -> Vec<String> {
    // Long strings stay on their line: a name broken in two is hard to look for.
    // A block of text needs a key before it, whose indentation its own counts from.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 100_000, prefer_block_scalars: value.is_object() };
    let text = serde_saphyr::to_string_with_options(value, options).unwrap_or_default();
    text.strip_suffix('\n').unwrap_or(&text).split('\n').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_stand_above_their_keys() {
        let mut document = Document::of(json!({"b": [{"x": 1, "y": {"z": "no"}}, 2], "a": {}, "text": "one\n\ntwo\n", "1.19": "1.19"}));
        document.head("Head.");
        document.note("b.0.x", "Why x.");
        document.note("b.0.y.z", "Why z.");
        document.note("b", "Why b.");
        document.note("gone", "Never seen.");
        let expected = "# Head.\n\"1.19\": \"1.19\"\na: {}\n# Why b.\nb:\n  # Why x.\n  - x: 1\n    \"y\":\n      # Why z.\n      z: \"no\"\n  - 2\n\
                        text: |\n  one\n\n  two\n";
        assert_eq!(document.text(), expected);
    }

    #[test]
    fn long_comments_are_broken_and_commands_are_not() {
        let lines = comment(&format!("{}\n  {}", "word ".repeat(50), "word ".repeat(50)));
        assert_eq!(lines.iter().filter(|line| line.len() > COMMENT_WIDTH).count(), 1);
        assert!(lines.iter().all(|line| line.starts_with("# ")));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,12}",
            "[a-z\n ]{0,12}",
            Just("yes".to_owned()),
            Just("0o17".to_owned()),
            Just("1:30".to_owned()),
            Just("~".to_owned()),
            Just("# no comment".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{0,8}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in prop::collection::btree_map("[a-z.]{1,8}", any_value(), 1..5)) {
            let value = Value::Object(value.into_iter().collect());
            let text = Document::of(value.clone()).text();
            let back: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
