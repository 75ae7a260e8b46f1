//! What the one-shot Job does, as the databases' administrator, from where Harbor will stand.
//!
//! ```text
//!   both servers: name, TCP, verified TLS, login, round trip   with the proxy's own configuration and code
//!   PostgreSQL:   the grant, as the administrator              from version 15 on nobody may create tables in `public` unasked
//!                 a table made and dropped, as Harbor's user   the proof
//! ```
//!
//! Everything may be done twice. A server that cannot be reached yet (a new node is let in by the firewall only after a while) is tried again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use redis_tls_proxy::check::check;
use redis_tls_proxy::cli::Output;
use redis_tls_proxy::config::{self, Config, Listener, Protocol, Purpose, Sources};
use redis_tls_proxy::error_log::ErrorLog;
use redis_tls_proxy::metrics::Metrics;
use redis_tls_proxy::upstream::Upstream;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(3);
/// The first version that wants the grant: 15.0.
const WANTS_GRANT: i32 = 150_000;
/// Of the table that proves it; dropped in the same transaction.
const PROOF: &str = "doks_harbor_proof";
/// A termination message has 4096 bytes at most.
const MOST_BYTES: usize = 4000;

/// What to do it with.
pub struct Work {
    /// The proxy's own configuration: which servers, whom to trust, whom to log in as.
    pub config: PathBuf,
    /// The administrator of PostgreSQL.
    pub admin: String,
    /// File with the administrator's password.
    pub admin_password: PathBuf,
    /// How long servers may be out of reach.
    pub patience: Duration,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `PostgreSQL 17.2`.
    pub server: String,
    /// What was done about the grant.
    pub grant: String,
    /// What every server showed, by the name of its listener.
    pub servers: Vec<Server>,
}

/// What one server showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `valkey`, `postgresql`.
    pub name: String,
    /// `TLS 1.3`.
    pub tls: String,
    /// Who signed its certificate.
    pub issuer: String,
    /// Days until the certificate ends.
    pub days_left: Option<i64>,
    /// Median of a round trip.
    pub round_trip_milliseconds: Option<f64>,
}

impl Report {
    /// A line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(Server::line).collect();
        format!("{}: {}; {}", self.server, self.grant, servers.join("; "))
    }
}

impl Server {
    fn line(&self) -> String {
        let days = self.days_left.map_or_else(String::new, |days| format!(", {days} days left"));
        let trip = self.round_trip_milliseconds.map_or_else(String::new, |trip| format!(", round trip {trip:.1} ms"));
        format!("{} over {}, certificate by {}{days}{trip}", self.name, self.tls, self.issuer)
    }
}

/// Does all of it.
///
/// # Errors
/// The step that failed, in words without secrets.
pub async fn run(work: &Work) -> Result<Report> {
    let config = load(&work.config)?;
    let postgres = config.listeners.iter().find(|listener| listener.protocol == Protocol::Postgres);
    let postgres = postgres.context("the proxy's configuration has no PostgreSQL")?;
    let servers = reached(&config, work.patience).await?;
    let admin = password(&work.admin_password)?;
    let (server, grant) = grant(postgres, &work.admin, &admin).await?;
    Ok(Report { server, grant, servers })
}

/// One document that fits into a termination message.
#[must_use]
pub fn last_words(outcome: &Result<Report>) -> String {
    let mut text = match outcome {
        Ok(report) => serde_json::to_string(report).unwrap_or_default(),
        Err(error) => format!("{error:#}"),
    };
    if let Some((cut, _)) = text.char_indices().find(|(index, _)| *index >= MOST_BYTES) {
        text.truncate(cut);
    }
    text
}

fn load(path: &Path) -> Result<Config> {
    let sources = Sources {
        urls: Vec::new(),
        file: Some(path.to_owned()),
        flags: std::collections::BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Check,
        probe: &|_| Ok(()),
    };
    config::load(&sources).map(|loaded| loaded.config).map_err(|mistakes| anyhow!("{mistakes}"))
}

/// All steps of `redis-tls-proxy check`, again and again until none fails.
async fn reached(config: &Config, patience: Duration) -> Result<Vec<Server>> {
    let begun = Instant::now();
    loop {
        let (report, is_good) = Box::pin(check(config, Output::Json)).await;
        let report: Value = serde_json::from_str(&report).context("the check's report cannot be read")?;
        let listeners = report.get("listeners").and_then(Value::as_array).cloned().unwrap_or_default();
        if is_good {
            return Ok(listeners.iter().map(server).collect());
        }
        if begun.elapsed() >= patience {
            bail!("{}", listeners.iter().filter_map(failure).collect::<Vec<_>>().join("; "));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn step<'a>(listener: &'a Value, name: &str) -> Option<&'a Value> {
    listener.get("steps")?.as_array()?.iter().find(|step| step.get("step").and_then(Value::as_str) == Some(name))
}

fn text(value: Option<&Value>, pointer: &str) -> String {
    value.and_then(|value| value.pointer(pointer)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn server(listener: &Value) -> Server {
    let (tls, trip) = (step(listener, "tls"), step(listener, "round_trip"));
    Server {
        name: text(Some(listener), "/name"),
        tls: text(tls, "/facts/version"),
        issuer: text(tls, "/facts/chain/0/issuer"),
        days_left: tls.and_then(|tls| tls.pointer("/facts/days_left")).and_then(Value::as_i64),
        round_trip_milliseconds: trip.and_then(|trip| trip.pointer("/facts/p50_milliseconds")).and_then(Value::as_f64),
    }
}

/// `valkey at private-…:25061, tls: …; cure`
fn failure(listener: &Value) -> Option<String> {
    let steps = listener.get("steps")?.as_array()?;
    let failed = steps.iter().find(|step| step.get("status").and_then(Value::as_str) == Some("fail"))?;
    let says = [text(Some(failed), "/says"), text(Some(failed), "/error"), text(Some(failed), "/cure")];
    let says: Vec<_> = says.into_iter().filter(|part| !part.is_empty()).collect();
    Some(format!(
        "{} at {}, {}: {}",
        text(Some(listener), "/name"),
        text(Some(listener), "/upstream"),
        text(Some(failed), "/step"),
        says.join("; ")
    ))
}

/// What the server is, and what was done.
async fn grant(postgres: &Listener, admin: &str, admin_password: &SecretString) -> Result<(String, String)> {
    let login = postgres.upstream.credentials.as_ref().context("the proxy's configuration has no login at PostgreSQL")?;
    let user = login.user.as_deref().context("the proxy's configuration has no user of PostgreSQL")?;
    let own = upstream(postgres)?.password().context("the password of Harbor's user is missing")?;
    let (version, server) = session(postgres, admin, admin_password, async |client| {
        let row = client.query_one("select current_setting('server_version_num')::int, current_setting('server_version')", &[]).await?;
        let (version, server): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if version >= WANTS_GRANT {
            client.batch_execute(&format!("GRANT ALL ON SCHEMA public TO {}", quoted(user))).await?;
        }
        Ok((version, server))
    })
    .await
    .with_context(|| format!("PostgreSQL, as its administrator {admin}"))?;
    let proof = format!("BEGIN; CREATE TABLE {PROOF} (it integer); INSERT INTO {PROOF} VALUES (1); DROP TABLE {PROOF}; COMMIT");
    session(postgres, user, &own, async |client| Ok(client.batch_execute(&proof).await?))
        .await
        .with_context(|| format!("PostgreSQL, as Harbor's user {user}, who must be able to make tables"))?;
    let granted = if version >= WANTS_GRANT { "was granted its schema and" } else { "needs no grant and" };
    Ok((format!("PostgreSQL {server}"), format!("{user} {granted} can make tables")))
}

/// `"name"`, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A session over TLS that the proxy's own code verifies, and its orderly end.
async fn session<T>(postgres: &Listener, user: &str, password: &SecretString, work: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
    let connection = upstream(postgres)?.connect().await.map_err(|error| anyhow!("{}", error.why))?;
    let mut login = tokio_postgres::Config::new();
    // What is inside of TLS is plaintext to this library.
    login.user(user).password(password.expose_secret()).ssl_mode(tokio_postgres::config::SslMode::Disable);
    login.dbname(postgres.upstream.database.as_deref().unwrap_or(user)).application_name("doks-harbor database");
    let (client, driver) = login.connect_raw(connection.stream, NoTls).await.map_err(|error| said(&error))?;
    let working = async {
        let outcome = work(&client).await;
        // Tells the driver that it is over.
        drop(client);
        outcome
    };
    let (outcome, driven) = tokio::join!(working, driver);
    let outcome = outcome.map_err(|error| error.downcast_ref::<tokio_postgres::Error>().map(said).unwrap_or(error));
    // What broke the connection tells more than what it did to the query.
    match (outcome, driven) {
        (Err(error), Err(broken)) if broken.as_db_error().is_some() => Err(error.context(said(&broken))),
        (outcome, _) => outcome,
    }
}

/// The server's own sentence and code.
fn said(error: &tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(told) => anyhow!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => anyhow!("{error}"),
    }
}

fn upstream(listener: &Listener) -> Result<Upstream> {
    let metrics = Metrics::new().map_err(|error| anyhow!("{error}"))?.listener(&listener.name);
    let errors = std::sync::Arc::new(ErrorLog::new(&listener.name, metrics.clone()));
    Upstream::new(listener, metrics, errors).map_err(|why| anyhow!("{why}"))
}

fn password(path: &Path) -> Result<SecretString> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text.trim_end_matches('\n').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(quoted("harbor"), "\"harbor\"");
        assert_eq!(quoted("a\"b; drop"), "\"a\"\"b; drop\"");
    }

    #[test]
    fn last_words_fit_and_are_text() {
        let long = last_words(&Err(anyhow!("ä".repeat(5000))));
        assert!(long.len() <= MOST_BYTES + 4 && long.chars().all(|one| one == 'ä'));
        let report = Report { server: "PostgreSQL 17".to_owned(), ..Report::default() };
        assert_eq!(serde_json::from_str::<Report>(&last_words(&Ok(report.clone()))).unwrap(), report);
    }
}
