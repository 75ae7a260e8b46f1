//! What would run, for people: the short table and the long explanation of `validate`. Passwords are `***`.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::layers::View;
use super::mistakes::{Origin, Site};
use super::settings::{Key, SETTINGS, Scope};
use super::types::{ClientAuth, Config, Credentials, Listener, Pool, PoolMode, Protocol};

/// The effective settings of one listener, or of the process.
#[derive(Clone, Debug)]
pub struct Section {
    title: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    key: String,
    value: String,
    origin: String,
    explain: &'static str,
}

impl Section {
    /// All settings of `scope` as `view` has them.
    pub(super) fn new(title: String, view: &View<'_>, scope: Scope) -> Self {
        let rows = SETTINGS.iter().filter(|setting| setting.scope == scope).map(|setting| {
            let found = view.find(setting.key);
            let (value, origin) = match found {
                Some(found) => (found.text, origin(&found.origin, setting.name)),
                None => (format!("({})", setting.preset.shown()), "default".to_owned()),
            };
            Row { key: setting.file_key(), value, origin, explain: setting.explain }
        });
        Self { title, rows: rows.collect() }
    }

    /// All settings of `listener`, with its URL, and what depends on others of them as it came out.
    pub(super) fn listener(listener: &Listener, view: &View<'_>) -> Self {
        let mut section = Self::new(format!("listener {}", listener.name), view, Scope::Listener);
        let pool = &listener.pool;
        for (key, value) in [
            (Key::Name, listener.name.clone()),
            (Key::Pool, pool.mode.name().to_owned()),
            (Key::PoolSize, pool.size.to_string()),
            (Key::PoolMinIdle, pool.min_idle.to_string()),
        ] {
            let key = key.setting().file_key();
            if let Some(row) = section.rows.iter_mut().find(|row| row.key == key) {
                row.value = value;
            }
        }
        let origin = match view.site {
            Some(Site::File(line)) => format!("line {line}"),
            _ => "command line".to_owned(),
        };
        let value = match &listener.upstream.credentials {
            None => upstream(listener),
            credentials => upstream(listener).replacen("://", &format!("://{}@", login(credentials.as_ref())), 1),
        };
        let explain = match listener.protocol {
            Protocol::Postgres => {
                "The server. Its certificate is always verified: chain, name and dates. A database that the client names itself wins over the \
                 one here, unless it is merely the client's user name, which libpq fills in."
            }
            Protocol::Redis | Protocol::Tls => "The server. Its certificate is always verified: chain, name and dates.",
        };
        section.rows.insert(0, Row { key: "url".to_owned(), value, origin, explain });
        section
    }
}

fn origin(origin: &Origin, name: &str) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Flag => format!("flag --{name}"),
        Origin::Env => "environment".to_owned(),
        Origin::File(line) => format!("line {line}"),
        Origin::Query(Site::File(line)) => format!("URL on line {line}"),
        Origin::Query(Site::Argument(_)) => "URL".to_owned(),
    }
}

/// Every effective setting: value, origin, explanation.
pub(super) fn explanation(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        out.push_str(&section.title);
        out.push('\n');
        for row in &section.rows {
            out.push_str(&format!("  {}: {}   [{}]\n", row.key, row.value, row.origin));
            for line in wrapped(row.explain, 92) {
                out.push_str(&format!("      {line}\n"));
            }
        }
        out.push('\n');
    }
    out
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line per listener: what clients reach, what is behind it, and how both sides are secured.
pub(super) fn table(config: &Config) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["LISTENER", "ADDRESS", "UPSTREAM", "LOGIN", "CLIENTS", "POOL"]);
    for listener in &config.listeners {
        table.add_row([
            listener.name.clone(),
            listener.listen.to_string(),
            upstream(listener),
            login(listener.upstream.credentials.as_ref()),
            clients(listener),
            pool(listener),
        ]);
    }
    let admin = config.process.admin.map_or_else(|| "off".to_owned(), |address| format!("http://{address}"));
    let rows: Vec<String> = table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned()).collect();
    format!("{}\nadmin {admin}, {} worker(s)\n", rows.join("\n"), config.process.workers)
}

/// `rediss://host:6379/0`, without any login.
pub(super) fn upstream(listener: &Listener) -> String {
    let upstream = &listener.upstream;
    let scheme = match listener.protocol.name() {
        "redis" => "rediss",
        other => other,
    };
    let host = if upstream.host.contains(':') { format!("[{}]", upstream.host) } else { upstream.host.clone() };
    let database = upstream.database.as_ref().map(|database| format!("/{database}")).unwrap_or_default();
    format!("{scheme}://{host}:{}{database}", upstream.port)
}

fn login(credentials: Option<&Credentials>) -> String {
    match credentials {
        None => "the client's own".to_owned(),
        Some(Credentials { user, .. }) => format!("{}:***", user.as_deref().unwrap_or_default()),
    }
}

fn clients(listener: &Listener) -> String {
    let auth = match listener.client_auth {
        ClientAuth::None => "no login",
        ClientAuth::Password(_) => "local password",
        ClientAuth::Upstream => "server judges",
    };
    let tls = match &listener.listen_tls {
        None => "plaintext",
        Some(tls) if tls.client_ca.is_some() => "mutual TLS",
        Some(_) => "TLS",
    };
    format!("{tls}, {auth}")
}

fn pool(listener: &Listener) -> String {
    let Pool { mode, size, min_idle, budget, .. } = &listener.pool;
    let mut most = if *size > 0 && *mode != PoolMode::Relay { format!(", {size} at most") } else { String::new() };
    if let Some(budget) = budget {
        most.push_str(&format!(", a share of {}", budget.total.saturating_sub(budget.reserve)));
    }
    format!("{}, {min_idle} ready{most}", mode.name())
}
