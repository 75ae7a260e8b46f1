//! The configuration file: its keys into layers, everything unknown into mistakes.

use super::layers::{Layer, put, unknown};
use super::mistakes::{Mistakes, Origin, Site};
use super::settings::{Scope, by_file_key};
use super::yaml::{self, Entry, Node, Yaml};

/// Larger than any configuration, smaller than any harm.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// A file as it was written.
#[derive(Default)]
pub(super) struct RawFile {
    /// Settings of the process, and defaults of all listeners.
    pub(super) top: Layer,
    pub(super) listeners: Vec<RawListener>,
}

/// One entry of `listeners:`.
pub(super) struct RawListener {
    /// The line of its URL.
    pub(super) line: usize,
    /// `None`: missing, which was reported.
    pub(super) url: Option<String>,
    pub(super) own: Layer,
}

/// Reads the text of a file; all that is wrong goes to `mistakes`.
pub(super) fn read(text: &str, mistakes: &mut Mistakes) -> RawFile {
    let mut file = RawFile::default();
    let root = match yaml::parse(text) {
        Ok(root) => root,
        Err((line, why)) => {
            mistakes.line(line, "syntax", why);
            return file;
        }
    };
    let entries = match root.value {
        Yaml::Map(entries) => entries,
        Yaml::Nothing => Vec::new(),
        Yaml::Text(_) | Yaml::List(_) => {
            mistakes.line(root.line, "syntax", "is not a map of settings; start with `listeners:`");
            return file;
        }
    };
    let mut listeners = None;
    for entry in unique(entries, mistakes) {
        if entry.key == "listeners" {
            listeners = Some(entry);
        } else {
            setting(&mut file.top, entry, None, mistakes);
        }
    }
    match listeners {
        None => mistakes.line(1, "listeners", "is missing; give at least one, as `listeners: [{url: \"rediss://HOST\"}]`"),
        Some(entry) => file.listeners = list(entry, mistakes),
    }
    file
}

fn list(entry: Entry, mistakes: &mut Mistakes) -> Vec<RawListener> {
    let items = match entry.value.value {
        Yaml::List(items) if !items.is_empty() => items,
        Yaml::List(_) | Yaml::Nothing => {
            mistakes.line(entry.line, "listeners", "is empty; give at least one `- url: rediss://HOST`");
            return Vec::new();
        }
        Yaml::Text(_) | Yaml::Map(_) => {
            mistakes.line(entry.line, "listeners", "is not a list; start each listener with `- url: …`");
            return Vec::new();
        }
    };
    items.into_iter().filter_map(|item| listener(item, mistakes)).collect()
}

fn listener(item: Node, mistakes: &mut Mistakes) -> Option<RawListener> {
    let Yaml::Map(entries) = item.value else {
        mistakes.line(item.line, "listeners", "has an entry that is not a map; write `- url: rediss://HOST`");
        return None;
    };
    let (mut own, mut url) = (Layer::default(), None);
    for entry in unique(entries, mistakes) {
        if entry.key == "url" {
            url = Some((entry.line, entry.value.value));
        } else {
            setting(&mut own, entry, Some(item.line), mistakes);
        }
    }
    let (line, url) = match url {
        Some((line, Yaml::Text(url))) => (line, Some(url)),
        Some((line, _)) => {
            mistakes.line(line, "url", "is not a text; give one such as rediss://HOST");
            (line, None)
        }
        None => {
            mistakes.line(item.line, "url", "is missing; give one such as rediss://HOST");
            (item.line, None)
        }
    };
    Some(RawListener { line, url, own })
}

/// Drops and reports what is there twice: YAML forbids it, and which one was meant nobody knows.
fn unique(entries: Vec<Entry>, mistakes: &mut Mistakes) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        match kept.iter().find(|earlier| earlier.key == entry.key) {
            Some(earlier) => mistakes.line(entry.line, &entry.key, format!("is there already, on line {}; keep one", earlier.line)),
            None => kept.push(entry),
        }
    }
    kept
}

/// One `key: value`; `inside` is the line of the listener around it.
fn setting(layer: &mut Layer, entry: Entry, inside: Option<usize>, mistakes: &mut Mistakes) {
    let Some(setting) = by_file_key(&entry.key) else {
        let (scope, more) = if inside.is_some() { (Some(Scope::Listener), ["url"]) } else { (None, ["listeners"]) };
        mistakes.line(entry.line, &entry.key, unknown(&entry.key, scope, &more));
        return;
    };
    if inside.is_some() && setting.scope == Scope::Process {
        mistakes.line(entry.line, &entry.key, "is a setting of the process; move it to the top level");
        return;
    }
    match entry.value.value {
        Yaml::Text(text) => put(layer, setting, &text, Origin::File(entry.line), mistakes),
        Yaml::Nothing => mistakes.line(entry.line, &entry.key, "has no value; give one, or remove the line for the default"),
        Yaml::List(_) => mistakes.line(entry.line, &entry.key, "is a list; give one value"),
        Yaml::Map(_) => mistakes.line(entry.line, &entry.key, "is a map; give one value"),
    }
}

impl RawListener {
    /// Where messages about it point.
    pub(super) fn site(&self) -> Site {
        Site::File(self.line)
    }
}
