//! What is wrong, where, and the cure: collected, so that one run tells everything.

use std::fmt;

use super::settings::Key;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A flag.
    Flag,
    /// The environment.
    Env,
    /// This line of the file.
    File(usize),
    /// The query of a URL.
    Query(Site),
}

/// Where a listener is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// As a URL on the command line: its scheme, host and port when they can be told, else its number.
    Argument(String),
    /// From this line of the file.
    File(usize),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the file, from 1; `None` when it is elsewhere.
    pub line: Option<usize>,
    /// `file:line: key`, `--flag`, `REDIS_TLS_PROXY_…` or the URL's label.
    pub place: String,
    /// What is wrong, and the cure after a semicolon. Never a password.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Every mistake of one run; never empty when it is returned as an error.
#[derive(Debug, Default)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: String) -> Self {
        Self { file, list: Vec::new() }
    }

    /// About the value of a setting; `site` tells the place of a default.
    pub(super) fn setting(&mut self, key: Key, origin: &Origin, site: Option<&Site>, what: impl Into<String>) {
        let setting = key.setting();
        let what = what.into();
        match (origin, site) {
            (Origin::Flag, _) | (Origin::Default, None) => self.elsewhere(format!("--{}", setting.name), what),
            (Origin::Env, _) => self.elsewhere(setting.env_key(), what),
            (Origin::File(line), _) => self.line(*line, &setting.file_key(), what),
            (Origin::Query(site), _) | (Origin::Default, Some(site)) => self.site(site, Some(&setting.file_key()), what),
        }
    }

    /// About a line of the file.
    pub(super) fn line(&mut self, line: usize, key: &str, what: impl Into<String>) {
        let place = format!("{}:{line}: {key}", self.file);
        self.push(Mistake { line: Some(line), place, what: what.into() });
    }

    /// About a URL, or a key in its query.
    pub(super) fn site(&mut self, site: &Site, key: Option<&str>, what: impl Into<String>) {
        match (site, key) {
            (Site::File(line), None) => self.line(*line, "url", what),
            (Site::File(line), Some(key)) => self.line(*line, key, what),
            (Site::Argument(label), None) => self.elsewhere(label.clone(), what),
            (Site::Argument(label), Some(key)) => self.elsewhere(format!("{label}: {key}"), what),
        }
    }

    /// About something that has no line.
    pub(super) fn elsewhere(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.push(Mistake { line: None, place: place.into(), what: what.into() });
    }

    /// A flag that is wrong is wrong for every listener, but said once.
    fn push(&mut self, mistake: Mistake) {
        if !self.list.contains(&mistake) {
            self.list.push(mistake);
        }
    }

    /// True while nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order of the file's lines, what has none first.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Mistake> {
        let mut list: Vec<&Mistake> = self.list.iter().collect();
        list.sort_by_key(|mistake| mistake.line);
        list
    }
}

impl fmt::Display for Mistakes {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sorted().iter().try_for_each(|mistake| writeln!(f, "{mistake}"))
    }
}

impl std::error::Error for Mistakes {}
