//! Configuration: flags, environment, file and URLs in, one checked [`Config`] out.
//!
//! The story: [`settings`] is the table of everything that can be set. Each place that values come from is read into a *layer*
//! (`layers`): the file by `yaml` and `file`, URLs by `url`. `build` (and `pool`) look through all layers at once and make a [`Listener`] per URL;
//! `cross` compares listeners with each other and with the machine. Nothing stops at the first mistake: [`load`] returns all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod build;
mod cross;
mod explain;
mod file;
mod layers;
mod mistakes;
mod pem;
mod pool;
mod probe;
mod process;
mod schema;
mod secrets;
pub mod settings;
mod types;
mod url;
pub mod value;
mod words;
mod yaml;

pub use explain::Section;
pub use mistakes::{Mistake, Mistakes, Origin, Site};
pub use pem::{read_pair, read_password, read_roots};
pub use probe::probe_bind;
pub use schema::schema;
pub use types::{
    ClientAuth, Config, Credentials, ListenAddr, ListenTls, Listener, LogFormat, Password, Pool, PoolBudget, PoolMode, Process, Protocol,
    Upstream, UpstreamTls,
};

use build::Draft;
use layers::{Found, Layer, View};
use secrets::Secrets;
use settings::{Key, Scope};
use url::Url;
use value::Value;

/// Reads a variable of the environment; an argument, so that tests need not change their own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The upstream's password, when exactly one listener needs one.
pub const PASSWORD_ENV: &str = "REDIS_TLS_PROXY_PASSWORD";

/// The local password that clients must give.
pub const CLIENT_PASSWORD_ENV: &str = "REDIS_TLS_PROXY_CLIENT_PASSWORD";

/// The file, in place of `--config`.
pub const CONFIG_ENV: &str = "REDIS_TLS_PROXY_CONFIG";

/// What the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To listen: addresses must be free.
    Serve,
    /// To look at the upstreams only: nothing will listen, so addresses are not looked at.
    Check,
}

/// Everything that a configuration is made of.
pub struct Sources<'a> {
    /// From the command line; one listener each.
    pub urls: Vec<String>,
    /// Instead of URLs: the file.
    pub file: Option<PathBuf>,
    /// The flags that were given.
    pub flags: BTreeMap<Key, String>,
    /// The environment.
    pub env: Env<'a>,
    /// The names in it; those that begin like ours and are not are a warning.
    pub variables: Vec<String>,
    /// To serve or to check.
    pub purpose: Purpose,
    /// Can this address be had? [`probe_bind`], except in tests that name fixed ports.
    pub probe: &'a dyn Fn(&ListenAddr) -> Result<(), String>,
}

/// A checked configuration, and what people should hear about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// One line each, to be logged; never a password.
    pub warnings: Vec<String>,
    sections: Vec<Section>,
}

impl Loaded {
    /// What would run: a line per listener.
    #[must_use]
    pub fn table(&self) -> String {
        explain::table(&self.config)
    }

    /// Every effective setting of the process and of each listener, with its origin and explanation. Passwords are `***`.
    #[must_use]
    pub fn explanation(&self) -> String {
        explain::explanation(&self.sections)
    }
}

/// A listener that was asked for: its URL taken apart, or the mistakes reported and a stand-in taken.
struct Wanted {
    site: Site,
    url: Url,
    query: Layer,
    own: Layer,
    /// The URL cannot be read and has options: what seems to be missing may be among them.
    is_unclear: bool,
}

impl Wanted {
    fn new(site: Site, text: &str, url: Url, own: Layer, mistakes: &mut Mistakes) -> Self {
        // They are not guessed at: what looks like an option may be the half of a password.
        let is_unclear = url.is_stand_in && text.contains('?');
        Self { query: layers::from_query(&url.query, &site, mistakes), site, url, own, is_unclear }
    }

    /// Gives a `tls://`, which has no default, an address that nobody will use.
    fn need_not_listen(&mut self) {
        let address = ListenAddr::Tcp(([127, 0, 0, 1], self.url.port).into());
        let found = Found { text: address.to_string(), value: Value::Listen(address), origin: Origin::Default };
        self.own.fall_back(Key::Listen, found);
    }

    fn view<'a>(&'a self, flags: &'a Layer, env: &'a Layer, top: &'a Layer) -> View<'a> {
        View { layers: [&self.query, flags, env, &self.own, top], protocol: Some(self.url.protocol), site: Some(&self.site) }
    }
}

/// Reads, combines and checks. Reads files and probes addresses, so it blocks: call it before the runtime starts.
///
/// # Errors
/// Every mistake of all sources; never empty, never containing a password.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Mistakes> {
    let shown = sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let mut mistakes = Mistakes::new(shown);
    let mut warnings = Vec::new();
    let flags = layers::from_flags(&sources.flags, &mut mistakes);
    let env = layers::from_env(sources.env, &mut mistakes);
    let (top, mut wanted) = match &sources.file {
        Some(path) => from_file(path, &mut mistakes),
        None => (Layer::default(), from_urls(&sources.urls, &mut mistakes, &mut warnings)),
    };
    if sources.purpose == Purpose::Check {
        wanted.iter_mut().for_each(Wanted::need_not_listen);
    }
    let none = Layer::default();
    let whole = View { layers: [&none, &flags, &env, &none, &top], protocol: None, site: None };
    let process = process::process(&whole);
    let mut sections = vec![Section::new("process".to_owned(), &whole, Scope::Process)];

    let views: Vec<View<'_>> = wanted.iter().map(|wanted| wanted.view(&flags, &env, &top)).collect();
    let secrets = Secrets::assign(sources.env, &wanted, &views, &mut mistakes, &mut warnings);
    let mut drafts = Vec::new();
    for ((wanted, view), secrets) in wanted.iter().zip(&views).zip(&secrets) {
        if wanted.is_unclear {
            continue;
        }
        let draft = build::listener(view, &wanted.site, &wanted.url, secrets, &mut mistakes);
        cross::files(view, &draft, &mut mistakes);
        cross::lanes_have_places(view, &draft.listener, process.workers, &mut mistakes);
        sections.push(Section::listener(&draft.listener, view));
        warnings.extend(cross::surprise(&draft.listener, process.workers));
        drafts.push(draft);
    }
    cross::useless(&whole, &wanted, &mut mistakes);
    // Two URLs of one server have one label.
    let mut said = BTreeSet::new();
    warnings.retain(|warning| said.insert(warning.clone()));
    if sources.purpose == Purpose::Serve {
        let given_to_all = cross::given_to_all(&whole, wanted.len(), &mut mistakes);
        let admin_origin = whole.find(Key::Admin).map_or(Origin::Default, |found| found.origin);
        if !given_to_all {
            cross::duplicates(&drafts, process.admin, &admin_origin, &mut mistakes);
        }
        cross::addresses(&drafts, process.admin, &admin_origin, sources.probe, &mut mistakes);
    }
    for (name, what) in layers::unknown_variables(&sources.variables, &views) {
        if mistakes.is_empty() {
            warnings.push(format!("{name}: {what}"));
        } else {
            // Most likely the cause of another mistake: what it should have set is missing.
            mistakes.elsewhere(name, what);
        }
    }
    if mistakes.is_empty() {
        let config = Config { process, listeners: drafts.into_iter().map(|draft: Draft| draft.listener).collect() };
        Ok(Loaded { config, warnings, sections })
    } else {
        Err(mistakes)
    }
}

fn from_file(path: &Path, mistakes: &mut Mistakes) -> (Layer, Vec<Wanted>) {
    let text = pem::read(path, file::MAX_BYTES)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8; save it as such", path.display())));
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            mistakes.elsewhere("--config", why);
            return (Layer::default(), Vec::new());
        }
    };
    let raw = file::read(&text, mistakes);
    let wanted = raw.listeners.into_iter().map(|listener| {
        let site = listener.site();
        let text = listener.url.as_deref().unwrap_or_default();
        let url = Url::parse(text).unwrap_or_else(|why| {
            if listener.url.is_some() {
                mistakes.site(&site, None, why);
            }
            Url::stand_in(text)
        });
        if url.password.is_some() {
            let why = "holds a password, and files are copied and committed; use password_file or password_env instead";
            mistakes.site(&site, None, why);
        }
        Wanted::new(site, text, url, listener.own, mistakes)
    });
    (raw.top, wanted.collect())
}

fn from_urls(urls: &[String], mistakes: &mut Mistakes, warnings: &mut Vec<String>) -> Vec<Wanted> {
    if urls.is_empty() {
        mistakes.elsewhere("URL", "is missing; give at least one, such as rediss://HOST, or --config FILE");
    }
    let wanted = urls.iter().enumerate().map(|(index, text)| {
        let url = Url::parse(text);
        let label = url.as_ref().map_or_else(|_| format!("URL {}", index + 1), Url::label);
        if url.as_ref().is_ok_and(|url| url.password.is_some()) {
            warnings.push(format!(
                "{label}: its password is on the command line, where every user of this machine can read it; use ?password_file=FILE or \
                 {PASSWORD_ENV}"
            ));
        }
        let site = Site::Argument(label);
        let url = url.unwrap_or_else(|why| {
            mistakes.site(&site, None, why);
            Url::stand_in(text)
        });
        Wanted::new(site, text, url, Layer::default(), mistakes)
    });
    wanted.collect()
}
