//! Which of several values holds: URL query, flag, environment, the listener's own key, the file's top level, the default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::mistakes::{Mistakes, Origin, Site};
use super::settings::{ENV_PREFIX, Key, SETTINGS, Scope, Setting, by_file_key};
use super::types::Protocol;
use super::url::foreign_key;
use super::value::Value;
use super::{CLIENT_PASSWORD_ENV, CONFIG_ENV, PASSWORD_ENV, words};

/// A value that somebody gave, or the default.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) value: Value,
    /// As it was written.
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// The values of one place.
#[derive(Default)]
pub(super) struct Layer {
    /// All of them valid by themselves.
    found: BTreeMap<Key, Found>,
    /// Given, but wrong, and reported: what depends on these is not worth another message.
    broken: BTreeSet<Key>,
}

impl Layer {
    /// Given here, rightly or wrongly.
    pub(super) fn has(&self, key: Key) -> bool {
        self.found.contains_key(&key) || self.broken.contains(&key)
    }

    /// Given here rightly.
    pub(super) fn get(&self, key: Key) -> Option<&Found> {
        self.found.get(&key)
    }

    /// Puts in a value of ours, unless there is one.
    pub(super) fn fall_back(&mut self, key: Key, found: Found) {
        if !self.has(key) {
            self.found.insert(key, found);
        }
    }
}

/// Reads one value into a layer; one that is wrong is reported.
pub(super) fn put(layer: &mut Layer, setting: &'static Setting, text: &str, origin: Origin, mistakes: &mut Mistakes) {
    match setting.kind.parse(text) {
        Ok(value) => {
            layer.found.insert(setting.key, Found { value, text: text.to_owned(), origin });
        }
        Err(why) => {
            layer.broken.insert(setting.key);
            mistakes.setting(setting.key, &origin, None, why);
        }
    }
}

/// The flags that were given.
pub(super) fn from_flags(flags: &BTreeMap<Key, String>, mistakes: &mut Mistakes) -> Layer {
    let mut layer = Layer::default();
    for (key, text) in flags {
        put(&mut layer, key.setting(), text, Origin::Flag, mistakes);
    }
    layer
}

/// The variables that are set; an empty one counts as not set, as container platforms cannot always unset.
pub(super) fn from_env(env: &dyn Fn(&str) -> Option<String>, mistakes: &mut Mistakes) -> Layer {
    let mut layer = Layer::default();
    for setting in SETTINGS {
        if let Some(text) = env(&setting.env_key()).filter(|text| !text.is_empty()) {
            put(&mut layer, setting, &text, Origin::Env, mistakes);
        }
    }
    layer
}

/// The options in a URL's query. Values of unknown keys are never repeated: they may be secrets.
pub(super) fn from_query(query: &[(String, String)], site: &Site, mistakes: &mut Mistakes) -> Layer {
    let mut layer = Layer::default();
    for (key, text) in query {
        let shown =
            if key.len() <= 40 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) { key } else { "?" };
        match by_file_key(key) {
            Some(setting) if setting.scope == Scope::Process => {
                let cure = match site {
                    Site::Argument(_) => format!("say --{}", setting.name),
                    Site::File(_) => "move it to the top level".to_owned(),
                };
                mistakes.site(site, Some(shown), format!("is a setting of the process, not of one URL; {cure}"));
            }
            Some(setting) if layer.has(setting.key) => mistakes.site(site, Some(shown), "is given twice; keep one"),
            Some(setting) => put(&mut layer, setting, text, Origin::Query(site.clone()), mistakes),
            None => mistakes.site(site, Some(shown), unknown(key, Some(Scope::Listener), &[])),
        }
    }
    layer
}

/// What to say about a key that is not in the table.
pub(super) fn unknown(key: &str, scope: Option<Scope>, more: &[&str]) -> String {
    if let Some(what) = foreign_key(key) {
        return what.to_owned();
    }
    let keys: Vec<String> =
        SETTINGS.iter().filter(|setting| scope.is_none_or(|scope| setting.scope == scope)).map(Setting::file_key).collect();
    match words::nearest(key, keys.iter().map(String::as_str).chain(more.iter().copied())) {
        Some(word) => format!("is not a setting; did you mean `{word}`?"),
        None => "is not a setting; `redis-tls-proxy run --help` lists them".to_owned(),
    }
}

/// Each variable that begins like ours and that nobody reads, and what to say about it. Values are never shown.
pub(super) fn unknown_variables<'v>(variables: &'v [String], views: &[View<'_>]) -> impl Iterator<Item = (String, String)> + 'v {
    let ours = SETTINGS.iter().map(Setting::env_key).chain([CONFIG_ENV, PASSWORD_ENV, CLIENT_PASSWORD_ENV].map(str::to_owned));
    let ours: Vec<String> = ours.collect();
    let named: Vec<String> = views.iter().filter_map(|view| view.text(Key::PasswordEnv)).collect();
    variables.iter().filter(move |name| !ours.contains(name) && !named.contains(name)).filter_map(|name| {
        let rest = name.strip_prefix(ENV_PREFIX).filter(|rest| !is_service_link(rest))?;
        let keys = SETTINGS.iter().map(Setting::file_key).chain(["config", "password", "client_password"].map(str::to_owned));
        let keys: Vec<String> = keys.collect();
        let cure = match words::nearest(rest, keys.iter().map(String::as_str)) {
            Some(word) => format!("did you mean {ENV_PREFIX}{}?", word.to_uppercase()),
            None => "`redis-tls-proxy run --help` lists the settings".to_owned(),
        };
        Some((name.escape_debug().to_string(), format!("is not a setting; {cure}")))
    })
}

/// What Kubernetes sets for a Service named like us: `…SERVICE_HOST`, `…SERVICE_PORT_REDIS`, `…PORT`, `…PORT_6379_TCP_ADDR`; the dots may
/// hold the rest of a longer name.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let is_numbered = |after: &str| after.starts_with(|c: char| c.is_ascii_digit());
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_PORT")
        || rest.contains("_SERVICE_PORT_")
        || rest.split("_PORT_").skip(1).any(is_numbered)
}

/// All layers over one listener, or over the process, highest first.
pub(super) struct View<'a> {
    /// Query, flags, environment, own keys, top level.
    pub(super) layers: [&'a Layer; 5],
    /// Of the listener; `None` for the process.
    pub(super) protocol: Option<Protocol>,
    /// Where the listener is written down.
    pub(super) site: Option<&'a Site>,
}

impl View<'_> {
    /// The value that holds; `None` when there is none and no default either.
    pub(super) fn find(&self, key: Key) -> Option<Found> {
        let given = self.layers.iter().find(|layer| layer.has(key)).and_then(|layer| layer.get(key)).cloned();
        given.or_else(|| {
            let (setting, text) = (key.setting(), key.setting().preset.text(self.protocol)?);
            let value = setting.kind.parse(text).ok()?;
            Some(Found { value, text: text.to_owned(), origin: Origin::Default })
        })
    }

    /// The value that would hold is wrong, which was reported: the default stands in for it.
    pub(super) fn is_broken(&self, key: Key) -> bool {
        self.layers.iter().find(|layer| layer.has(key)).is_some_and(|layer| layer.get(key).is_none())
    }

    /// Given for this listener, not for all of them.
    pub(super) fn is_own(&self, key: Key) -> bool {
        let [query, _flags, _env, own, _top] = self.layers;
        query.has(key) || own.has(key)
    }

    /// Given by anyone.
    pub(super) fn is_given(&self, key: Key) -> bool {
        self.layers.iter().any(|layer| layer.has(key))
    }

    /// Reports a mistake where the value of `key` was given.
    pub(super) fn mistake(&self, mistakes: &mut Mistakes, key: Key, what: impl Into<String>) {
        let origin = self.find(key).map_or(Origin::Default, |found| found.origin);
        mistakes.setting(key, &origin, self.site, what);
    }

    /// `ca_file: FILE` or `--ca-file FILE`, as the user would write it.
    pub(super) fn spell(&self, key: Key, value: &str) -> String {
        spell(self.site, key, value)
    }

    pub(super) fn duration(&self, key: Key) -> Duration {
        match self.find(key).map(|found| found.value) {
            Some(Value::Duration(value)) => value,
            other => mismatch(key, &other),
        }
    }

    pub(super) fn count(&self, key: Key) -> usize {
        match self.find(key).map(|found| found.value) {
            Some(Value::Count(value)) => value,
            other => mismatch(key, &other),
        }
    }

    pub(super) fn switch(&self, key: Key) -> bool {
        match self.find(key).map(|found| found.value) {
            Some(Value::Switch(value)) => value,
            other => mismatch(key, &other),
        }
    }

    pub(super) fn word(&self, key: Key) -> &'static str {
        match self.find(key).map(|found| found.value) {
            Some(Value::Word(value)) => value,
            other => mismatch(key, &other),
        }
    }

    pub(super) fn path(&self, key: Key) -> Option<PathBuf> {
        match self.find(key).map(|found| found.value) {
            None => None,
            Some(Value::Path(value)) => Some(value),
            other => mismatch(key, &other),
        }
    }

    pub(super) fn text(&self, key: Key) -> Option<String> {
        match self.find(key).map(|found| found.value) {
            None => None,
            Some(Value::Text(value)) => Some(value),
            other => mismatch(key, &other),
        }
    }
}

/// `ca_file: FILE` for the file, `--ca-file FILE` for the command line.
pub(super) fn spell(site: Option<&Site>, key: Key, value: &str) -> String {
    match site {
        Some(Site::File(_)) => format!("{}: {value}", key.setting().file_key()),
        _ if value == "on" => format!("--{}", key.setting().name),
        _ => format!("--{} {value}", key.setting().name),
    }
}

/// The table and the code that reads it disagree: no input can cause this, and the tests read every setting.
fn mismatch(key: Key, value: &Option<Value>) -> ! {
    unreachable!("{key:?} is {value:?}")
}
