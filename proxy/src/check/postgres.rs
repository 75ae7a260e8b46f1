//! PostgreSQL: login, what the server says of itself, empty queries.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::report::{Finding, Name};
use super::{Outcome, Steps, is_nearly_full};
use crate::config::Credentials;
use crate::error::{Error, Kind, Result, Side};
use crate::postgres::message::{HEADER_BYTES, message_bytes};
use crate::postgres::startup::{First, parse};
use crate::postgres::{Account, Login, SqlState, Startup, log_in};
use crate::stream::Stream;
use crate::upstream::Upstream;

/// The longest message that is read; the queries below have rows of some 100 bytes.
const LIMIT_BYTES: usize = 64 * 1024;
/// What the login says to a client: AuthenticationOk, and perhaps notices.
const CLIENT_BYTES: usize = 256 * 1024;
const SILENT: &str = "it accepts connections but does not answer: is it overloaded or stopped?";

/// All roles may ask for these. `datid` leaves out the server's own processes; `true`: settings that older versions do not have are NULL.
const FACTS: &str = "select current_setting('server_version'), \
    (select ssl from pg_stat_ssl where pid = pg_backend_pid()), \
    (select count(*) from pg_stat_activity where datid is not null), \
    current_setting('max_connections'), \
    current_setting('superuser_reserved_connections'), \
    current_setting('reserved_connections', true), \
    pg_is_in_recovery()";

pub(super) async fn take_steps(upstream: &Upstream, stream: &mut Stream, steps: &mut Steps) -> Option<()> {
    if !steps.take(Name::Login, SILENT, begin(upstream, stream)).await? {
        let why = "not tried: it needs a login; give credentials to see it";
        steps.skip(Name::Server, why);
        steps.skip(Name::RoundTrip, why);
        return None;
    }
    steps.take(Name::Server, SILENT, server(stream)).await?;
    steps.round_trips("empty query", async || query(stream, "").await.map(drop)).await
}

/// As when serving. The value: there is a session.
async fn begin(upstream: &Upstream, stream: &mut Stream) -> Outcome<bool> {
    let config = upstream.config();
    let (Some(Credentials { user: Some(user), .. }), Some(password)) = (&config.credentials, upstream.password()) else {
        let says = "no credentials given: the client's own login passes through";
        return Ok((Finding::ok(says).fact("credentials", false), false));
    };
    let end_point = stream.end_point();
    let account = Account {
        user,
        password: &password,
        database: config.database.as_deref(),
        allow_trust: config.tls.client_cert.is_some(),
        end_point: end_point.as_deref(),
        keys: &upstream.scram_keys,
    };
    // What the login says to the client is of no use here. The far end has to be there, and has said all it ever will: after a refusal the
    // login waits for that.
    let (mut client, mut far) = duplex(CLIENT_BYTES);
    // Nothing in memory refuses to be closed.
    let _ = far.shutdown().await;
    match Box::pin(log_in(&mut client, stream, &startup()?, account)).await? {
        Login::Ready => {}
        Login::Refused(code) => return Err(refused(code)),
        Login::ClientGone => return Err(Error::ours(Kind::Io, "the login was given up").into()),
    }
    until_ready(stream).await?.map_err(refused)?;
    let database = config.database.as_deref().unwrap_or(user);
    let finding = Finding::ok(format!("as {user}, database {database}"));
    Ok((finding.fact("credentials", true).fact("user", user.as_str()), true))
}

/// A client that wants nothing special; the login puts the user and the database in.
fn startup() -> Result<Startup> {
    let mut packet = b"\0\0\0\0\0\x03\0\0user\0check\0application_name\0redis-tls-proxy check\0\0".to_vec();
    if let (Ok(length), Some(field)) = (u32::try_from(packet.len()), packet.first_chunk_mut()) {
        *field = length.to_be_bytes();
    }
    match parse(Bytes::from(packet)) {
        Ok(First::Startup(startup)) => Ok(startup),
        _ => Err(Error::ours(Kind::Protocol, "no startup packet could be made")),
    }
}

/// The server's refusal in words; its own are in its log, and only the code is sure to be free of secrets.
fn refused(code: Option<SqlState>) -> Box<Finding> {
    let code = code.as_ref().map_or("none", SqlState::as_str);
    let (what, cure) = match code {
        "53300" => ("the server is out of connections", "lower the pool sizes, raise max_connections or choose a bigger plan"),
        "3D000" => ("there is no such database", "correct the database in the URL, or create it"),
        "28000" | "28P01" => ("the server refuses this user", "check user, password and pg_hba.conf"),
        "42501" => ("the user may not connect to this database", "GRANT CONNECT ON DATABASE … TO the user"),
        "57P03" => ("the server is starting up or shutting down", "try again"),
        _ => ("the server refused", "the server's log has its reason"),
    };
    Box::new(Finding::fail(format!("{what} (SQLSTATE {code})"), cure))
}

async fn server(stream: &mut Stream) -> Outcome<()> {
    let row = match query(stream, FACTS).await? {
        Ok(row) => row,
        Err(code) => {
            let code = code.as_ref().map_or("none", SqlState::as_str);
            return Ok((Finding::ok("it does not say what it is").warn("facts", format!("not allowed (SQLSTATE {code})")), ()));
        }
    };
    let text = |index: usize| row.get(index).and_then(Option::as_deref);
    let number = |index: usize| text(index).and_then(|text| text.parse::<u64>().ok());
    let (version, standby, tls) = (text(0).unwrap_or("of unknown version"), text(6) == Some("t"), text(1));
    let role = if standby { ", a standby: it takes no writes" } else { "" };
    let mut finding = Finding::ok(format!("PostgreSQL {version}{role}")).fact("version", version).fact("standby", standby);
    // Behind a pooler this is about the pooler's own connection.
    if let Some(tls) = tls {
        let says = if tls == "t" {
            "the server says that this session is encrypted"
        } else {
            "the server says that this session is not encrypted: a pooler is between"
        };
        finding = finding.fact("tls", tls == "t").line("tls", says);
    }
    let reserved = number(4).unwrap_or_default().saturating_add(number(5).unwrap_or_default());
    for (key, value) in [("in_use", number(2)), ("max_connections", number(3)), ("superuser_reserved_connections", number(4))] {
        if let Some(value) = value {
            finding = finding.fact(key, value);
        }
    }
    let shown = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let line = format!("{} in use of max_connections {}, {reserved} of them reserved", shown(number(2)), shown(number(3)));
    let finding = match (number(2), number(3)) {
        (Some(used), Some(limit)) if is_nearly_full(used, limit.saturating_sub(reserved)) => {
            finding.warn("connections", format!("{line}: nearly full; lower the pool sizes or choose a bigger plan"))
        }
        _ => finding.line("connections", line),
    };
    Ok((finding, ()))
}

type Row = Vec<Option<String>>;

/// Runs a query; its first row, empty when there is none, or the code of the server's refusal.
async fn query(stream: &mut Stream, sql: &str) -> Result<std::result::Result<Row, Option<SqlState>>> {
    // The length counts itself and the NUL.
    let length = u32::try_from(sql.len()).unwrap_or(u32::MAX).saturating_add(5);
    let message = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
    let sent = async {
        stream.write_all(&message).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| Error::io(Side::Upstream, &error))?;
    until_ready(stream).await
}

/// Reads up to ReadyForQuery, or to an error that ends the session.
async fn until_ready(stream: &mut Stream) -> Result<std::result::Result<Row, Option<SqlState>>> {
    let mut outcome = Ok(Row::new());
    loop {
        match next(stream).await? {
            Some((b'Z', _)) => return Ok(outcome),
            Some((b'E', body)) => outcome = Err(SqlState::of_error(&body)),
            Some((b'D', body)) if outcome.as_ref().is_ok_and(Vec::is_empty) => {
                outcome = Ok(columns(&body).ok_or_else(|| Error::upstream(Kind::Protocol, "sent a row that is none"))?);
            }
            Some(_) => {}
            // FATAL: the reason, and then the end.
            None if outcome.is_err() => return Ok(outcome),
            None => return Err(Error::upstream(Kind::Io, "the server closed the session; see its log")),
        }
    }
}

async fn next(stream: &mut Stream) -> Result<Option<(u8, Vec<u8>)>> {
    let broken = |error: std::io::Error| Error::io(Side::Upstream, &error);
    let mut header = [0; HEADER_BYTES];
    let (first, rest) = header.split_at_mut(1);
    if stream.read(first).await.map_err(broken)? == 0 {
        return Ok(None);
    }
    stream.read_exact(rest).await.map_err(broken)?;
    let total = message_bytes(header, LIMIT_BYTES).map_err(|error| Error::upstream(Kind::Protocol, format!("sent {error}")))?;
    // Grows with what arrives, not with what the header promises.
    let mut body = Vec::new();
    let length = u64::try_from(total.saturating_sub(HEADER_BYTES)).unwrap_or(u64::MAX);
    (&mut *stream).take(length).read_to_end(&mut body).await.map_err(broken)?;
    let [kind, ..] = header;
    Ok(Some((kind, body)))
}

/// The columns of a DataRow.
fn columns(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        row.push(match i32::from_be_bytes(*length) {
            -1 => None,
            length => {
                let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_cut_ones_refused() {
        let body = b"\0\x02\0\0\0\x02on\xff\xff\xff\xff";
        assert_eq!(columns(body), Some(vec![Some("on".to_owned()), None]));
        for cut in 0..body.len() {
            assert_eq!(columns(&body[..cut]), None, "cut at {cut}");
        }
        assert_eq!(columns(b"\0\x01\x80\0\0\0"), None);
    }

    #[test]
    fn the_startup_packet_can_be_made() {
        assert_eq!(startup().unwrap().chosen_database(), None);
    }
}
