//! The command table held against a real server: is everything in it, do the server's flags agree, and do the commands that may share a
//! connection really leave nothing on it?
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

use std::collections::{BTreeMap, BTreeSet};

use lab::resp::encode;
use lab::{Authority, Redis, Resp, Value};
use redis_tls_proxy::redis::class::{Class, Local, Pinning, Transaction};
use redis_tls_proxy::redis::{classify, table};
use tokio::net::TcpStream;

/// `GET`, or `OBJECT|FREQ`.
type Name = String;

/// What the server says of a command.
struct Described {
    /// Negative: at least so many words.
    arity: i64,
    flags: BTreeSet<String>,
}

fn name(entry: &table::Entry) -> Name {
    entry.subcommand.map_or_else(|| entry.name.to_owned(), |subcommand| format!("{}|{subcommand}", entry.name))
}

fn known() -> BTreeMap<Name, Class> {
    table::entries().map(|entry| (name(&entry), entry.class)).collect()
}

fn shared(class: Class) -> bool {
    matches!(class, Class::Read | Class::Write | Class::Wait)
}

async fn server() -> Redis {
    Redis::builder(&Authority::new().unwrap()).plain().start().await.unwrap()
}

async fn connect(redis: &Redis) -> Resp<TcpStream> {
    Resp::connect(("127.0.0.1", redis.plain_port().unwrap())).await.unwrap()
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Map(items) => items,
        other => panic!("no array: {other:?}"),
    }
}

/// All commands and subcommands, by `COMMAND`.
async fn described(redis: &Redis) -> BTreeMap<Name, Described> {
    let reply = redis.admin(&["COMMAND"]).await.unwrap();
    let mut all = BTreeMap::new();
    for command in items(&reply) {
        let command = items(command);
        for described in std::iter::once(command).chain(items(&command[9]).iter().map(items)) {
            let Value::Int(arity) = described[1] else { panic!("{described:?}") };
            let flags = items(&described[2]).iter().map(Value::text).collect();
            all.insert(described[0].text().to_uppercase(), Described { arity, flags });
        }
    }
    assert!(all.len() > 300, "only {} commands", all.len());
    all
}

#[tokio::test]
async fn everything_that_the_server_has_is_in_the_table() {
    let redis = server().await;
    let mut names: BTreeSet<Name> = described(&redis).await.into_keys().collect();
    let list = redis.admin(&["COMMAND", "LIST"]).await.unwrap();
    names.extend(items(&list).iter().map(|name| name.text().to_uppercase()));
    let docs = redis.admin(&["COMMAND", "DOCS"]).await.unwrap();
    for command in items(&docs).chunks(2) {
        names.insert(command[0].text().to_uppercase());
        let subcommands = items(&command[1]).chunks(2).find(|pair| pair[0].text() == "subcommands");
        names.extend(subcommands.iter().flat_map(|pair| items(&pair[1]).chunks(2)).map(|pair| pair[0].text().to_uppercase()));
    }
    let known = known();
    let new: Vec<_> = names.iter().filter(|name| !known.contains_key(*name)).collect();
    assert!(new.is_empty(), "not in the command table, so each takes a connection of its own: {new:?}");
}

/// Not admin, barred from scripts, and shared all the same. The server bars them because they make no sense there.
const BARRED_BUT_SHARED: &[&str] = &[
    // They run scripts, or are about them.
    "EVAL",
    "EVALSHA",
    "EVALSHA_RO",
    "EVAL_RO",
    "FCALL",
    "FCALL_RO",
    "FUNCTION|DELETE",
    "FUNCTION|DUMP",
    "FUNCTION|FLUSH",
    "FUNCTION|LIST",
    "FUNCTION|LOAD",
    "FUNCTION|RESTORE",
    "SCRIPT|EXISTS",
    "SCRIPT|FLUSH",
    "SCRIPT|LOAD",
    "SCRIPT|SHOW",
    // About the server.
    "ACL|CAT",
    "ACL|GENPASS",
    "ACL|WHOAMI",
    "ROLE",
    // A class of their own.
    "WAIT",
    "WAITAOF",
];

#[tokio::test]
async fn the_server_s_flags_agree() {
    let known = known();
    for (name, Described { flags, .. }) in described(&server().await).await {
        let class = known[&name];
        let has = |flag: &str| flags.contains(flag);
        assert!(!(has("write") && class == Class::Read), "{name} writes");
        assert!(!has("readonly") || class == Class::Read, "{name} only reads, and is {class:?}");
        assert!(!has("no_auth") || matches!(class, Class::Local(_)), "{name} is for clients that have not logged in, and is {class:?}");
        // Allowed while a script blocks the server: to end it, or because it is about the connection.
        assert!(!(has("allow_busy") && shared(class)), "{name} must get past whatever is busy, and is {class:?}");
        assert!(!(has("no_multi") && shared(class)), "{name} cannot be queued, and is {class:?}");
        assert!(!(has("admin") && matches!(class, Class::Write | Class::Wait)), "{name} is the administrator's, and is {class:?}");
        if has("blocking") {
            let command: Vec<_> = name.split('|').chain(["BLOCK", "0"]).collect();
            assert_eq!(classify(&encode(&command)), Some(Class::Blocking), "{name}");
        }
        if has("pubsub") && has("noscript") {
            assert_eq!(class, Class::Pinning(Pinning::Subscribe), "{name}");
        }
        if has("noscript") && !has("admin") && shared(class) {
            assert!(BARRED_BUT_SHARED.contains(&name.as_str()), "{name} is barred from scripts: why may it be shared?");
        }
    }
}

/// Arguments that make a command do something, where `1` would not.
fn arguments(name: &str, arity: i64) -> Vec<Vec<u8>> {
    let words: Option<&[&str]> = match name {
        // The database that a script selects is the script's own.
        "EVAL" => Some(&["redis.call('SELECT', 3) redis.call('SET', 'k', 'v') return 1", "0"]),
        "EVAL_RO" => Some(&["redis.call('SELECT', 3) return redis.call('GET', 'k')", "0"]),
        "WAIT" => Some(&["0", "1"]),
        "WAITAOF" => Some(&["0", "0", "1"]),
        "MIGRATE" => Some(&["127.0.0.1", "1", "no-such-key", "0", "1"]),
        "CONFIG|GET" => Some(&["*"]),
        "SWAPDB" => Some(&["0", "1"]),
        "SET" => Some(&["k", "v", "EX", "100"]),
        "SCAN" => Some(&["0"]),
        "SORT" => Some(&["l", "STORE", "sorted"]),
        "XREAD" => Some(&["STREAMS", "x", "0"]),
        "XADD" => Some(&["x", "*", "f", "v"]),
        "XGROUP|CREATE" => Some(&["x", "g", "0", "MKSTREAM"]),
        "XREADGROUP" => Some(&["GROUP", "g", "c", "STREAMS", "x", ">"]),
        "GEOADD" => Some(&["g", "1", "1", "m"]),
        "GEORADIUS" => Some(&["g", "1", "1", "1", "m"]),
        "GEOSEARCH" => Some(&["g", "FROMMEMBER", "m", "BYRADIUS", "1", "m"]),
        "BITOP" => Some(&["NOT", "dest", "k"]),
        "ZADD" => Some(&["z", "1", "m"]),
        "ZUNION" => Some(&["1", "z"]),
        "LMOVE" => Some(&["l", "l", "LEFT", "LEFT"]),
        "LMPOP" => Some(&["1", "l", "LEFT"]),
        "FUNCTION|LOAD" => Some(&["#!lua name=l\nredis.register_function('f', function() return 1 end)"]),
        "FCALL" => Some(&["f", "0"]),
        "COMMAND|GETKEYS" => Some(&["GET", "k"]),
        _ => None,
    };
    if let Some(words) = words {
        return words.iter().map(|word| word.as_bytes().to_vec()).collect();
    }
    let given = name.split('|').count();
    let wanted = usize::try_from(arity.unsigned_abs()).unwrap() - given;
    // A key for each command, of whatever type it makes it.
    let key = format!("key of {name}");
    (0..wanted).map(|at| if at == 0 && given == 1 { key.clone().into_bytes() } else { b"1".to_vec() }).collect()
}

/// What of `CLIENT INFO` must not change: all but ages, sizes and the last command.
fn state(info: &str) -> BTreeMap<&str, &str> {
    const STATE: &[&str] = &[
        "id", "addr", "name", "db", "sub", "psub", "ssub", "multi", "watch", "flags", "user", "redir", "resp", "lib-name", "lib-ver",
        "capa",
    ];
    info.trim_end().split(' ').filter_map(|field| field.split_once('=')).filter(|(name, _)| STATE.contains(name)).collect()
}

/// Sends the command with an ECHO and a CLIENT INFO behind it: its reply, when the ECHO's comes next, and the state of the connection.
async fn probe(client: &mut Resp<TcpStream>, command: &[Vec<u8>]) -> Result<(Value, String), String> {
    // In one piece: a server that closes at the first must not break the sending of the others.
    let all = [encode(command), encode(&["ECHO", "behind"]), encode(&["CLIENT", "INFO"])].concat();
    client.send_raw(&all).await.unwrap();
    let reply = client.read().await.map_err(|error| format!("no reply: {error}"))?;
    let behind = client.read().await.map_err(|error| format!("nothing behind: {error}"))?;
    if matches!(reply, Value::Push(_)) || behind.text() != "behind" {
        return Err(format!("not one reply: {reply:?}, then {behind:?}"));
    }
    let info = client.read().await.map_err(|error| format!("closed behind: {error}"))?;
    Ok((reply, info.text()))
}

#[tokio::test]
async fn shared_commands_leave_nothing_on_the_connection() {
    let redis = server().await;
    let known = known();
    let described = described(&redis).await;
    for version in ["2", "3"] {
        redis.admin(&["FLUSHALL"]).await.unwrap();
        redis.admin(&["FUNCTION", "FLUSH"]).await.unwrap();
        let mut client = connect(&redis).await;
        client.command(&["HELLO", version, "SETNAME", "probe"]).await.unwrap();
        let before = client.command(&["CLIENT", "INFO"]).await.unwrap().text();
        let (mut probed, mut worked) = (0, 0);
        for (name, Described { arity, .. }) in described.iter().filter(|(name, _)| shared(known[*name])) {
            // A container alone is an error about arguments; only so is it shared.
            let mut command: Vec<_> = name.split('|').map(|word| word.as_bytes().to_vec()).collect();
            if !known.keys().any(|other| other.starts_with(&format!("{name}|"))) {
                command.extend(arguments(name, *arity));
            }
            assert!(classify(&encode(&command)).is_some_and(shared), "{name}");
            let (reply, after) = probe(&mut client, &command).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(state(&after), state(&before), "{name}");
            probed += 1;
            worked += usize::from(!reply.is_error());
        }
        assert!(probed > 250 && worked > 180, "{worked} of {probed} commands did something");
    }
}

/// The probe above would notice: these do leave something, or are not answered with one frame.
#[tokio::test]
async fn commands_that_leave_something_are_seen_to() {
    let redis = server().await;
    for (line, class) in [
        ("SELECT 1", Class::Local(Local::Select)),
        ("CLIENT SETNAME other", Class::Local(Local::SetName)),
        ("HELLO 3", Class::Local(Local::Hello)),
        ("MULTI", Class::Transaction(Transaction::Multi)),
        ("CLIENT TRACKING ON", Class::Pinning(Pinning::Connection)),
        ("CLIENT NO-EVICT ON", Class::Pinning(Pinning::Forever)),
        ("CLIENT REPLY SKIP", Class::Pinning(Pinning::Silent)),
        ("SUBSCRIBE a b", Class::Pinning(Pinning::Subscribe)),
        ("UNSUBSCRIBE a b", Class::Pinning(Pinning::Subscribe)),
        ("MONITOR", Class::Pinning(Pinning::Monitor)),
        ("QUIT", Class::Local(Local::Quit)),
        ("POST / HTTP/1.1", Class::Hostile),
        ("Host: localhost", Class::Hostile),
    ] {
        let mut client = connect(&redis).await;
        let before = client.command(&["CLIENT", "INFO"]).await.unwrap().text();
        let command: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(classify(&encode(&command)), Some(class), "{line}");
        let probed = tokio::time::timeout(std::time::Duration::from_millis(300), probe(&mut client, &command)).await;
        let unchanged = matches!(probed, Ok(Ok((_, after))) if state(&after) == state(&before));
        assert!(!unchanged, "{line} left nothing");
    }
}
