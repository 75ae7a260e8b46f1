//! The fake DigitalOcean keeps state as the real one does, goes wrong as told, and can be held.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests may say what they expect too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lab::digitalocean::{At, CLUSTER, Cluster, Database, Event, Fake, Fault, Moment, REGION, VPC};
use lab::until;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// Sends a request and leaves the answer for later.
fn send(port: u16, token: &str, call: &str, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{call} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

/// Status and body; `None` when the connection ended without.
fn answer(mut stream: TcpStream) -> Option<(u16, Value)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn call(fake: &Fake, call: &str, body: &Value) -> Option<(u16, Value)> {
    answer(send(fake.port(), fake.token(), call, body))
}

fn get(fake: &Fake, path: &str) -> (u16, Value) {
    call(fake, &format!("GET {path}"), &Value::Null).unwrap()
}

fn post(fake: &Fake, path: &str, body: &Value) -> (u16, Value) {
    call(fake, &format!("POST {path}"), body).unwrap()
}

fn postgres(name: &str) -> Value {
    json!({
        "name": name, "engine": "pg", "version": "17", "num_nodes": 1, "size": "db-s-1vcpu-1gb", "region": REGION,
        "private_network_uuid": VPC, "tags": ["ours"], "rules": [{ "type": "k8s", "value": CLUSTER }],
    })
}

#[test]
fn a_database_is_hidden_then_creating_then_online_then_going_then_gone() {
    let fake = Fake::builder().hidden_polls(2).creating_polls(2).deleting_polls(2).start().unwrap();
    let (status, made) = post(&fake, "/v2/databases", &postgres("a"));
    assert_eq!((status, &made["database"]["status"]), (201, &json!("creating")));
    let path = format!("/v2/databases/{}", made["database"]["id"].as_str().unwrap());
    let looks: Vec<_> = (0..5).map(|_| get(&fake, &path)).map(|(status, body)| (status, body["database"]["status"].clone())).collect();
    let (hidden, creating, online) = ((404, Value::Null), (200, json!("creating")), (200, json!("online")));
    assert_eq!(looks, [hidden.clone(), hidden, creating.clone(), creating, online]);

    assert_eq!(post(&fake, "/v2/databases", &postgres("a")).1["message"], "cluster name is not available");
    assert_eq!(call(&fake, &format!("DELETE {path}"), &Value::Null).unwrap().0, 204);
    assert_eq!(get(&fake, "/v2/databases").1["databases"], json!([]), "not listed any more");
    assert_eq!(post(&fake, "/v2/databases", &postgres("a")).0, 422, "and its name is still taken");
    assert_eq!(get(&fake, &path).0, 404);
    assert_eq!(post(&fake, "/v2/databases", &postgres("a")).0, 201);
}

#[test]
fn what_the_real_one_refuses_is_refused() {
    let fake = Fake::builder().cluster(Cluster::new("c", "other", "ams3", "v")).start().unwrap();
    for (field, value, word) in [
        ("name", json!("a_b"), "letters"),
        ("engine", json!("redis"), "no longer"),
        ("engine", json!("postgres"), "engine"),
        ("version", json!("13"), "version 13"),
        ("region", json!("mars1"), "mars1"),
        ("num_nodes", json!(2), "size"),
        ("private_network_uuid", json!("v"), "network"),
        ("tags", json!(["a b"]), "tag"),
        ("project_id", json!("nobody"), "project"),
    ] {
        let mut body = postgres("a");
        body[field] = value;
        let (status, answer) = post(&fake, "/v2/databases", &body);
        assert!(status == 422 && answer["message"].as_str().unwrap().contains(word), "{field}: {answer}");
    }
    fake.world(|world| world.database_limit = 0);
    assert_eq!(post(&fake, "/v2/databases", &postgres("a")).0, 422);
    let valkey = Database::new("v", "valkey", "8");
    let path = format!("/v2/databases/{}", valkey.id);
    fake.world(|world| world.databases.push(valkey));
    assert_eq!(
        post(&fake, &format!("{path}/users"), &json!({ "name": "x" })).1["message"],
        "operation is not supported for this cluster type"
    );
}

#[test]
fn only_its_token_counts_and_scopes_are_missed_by_name() {
    let fake = Fake::builder().lacks("database:read").token("right").start().unwrap();
    assert_eq!(answer(send(fake.port(), "wrong", "GET /v2/account", &Value::Null)).unwrap().0, 401);
    assert_eq!(get(&fake, "/v2/account").0, 200);
    let (status, body) = get(&fake, "/v2/databases");
    assert!(status == 403 && body["message"].as_str().unwrap().contains("database:read"), "{body}");
    assert_eq!(get(&fake, "/v2/droplets").0, 404);
}

#[test]
fn hooks_hear_of_keys_users_and_databases_before_they_are_answered() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (for_keys, for_all) = (Arc::clone(&heard), Arc::clone(&heard));
    let database = Database::new("pg", "pg", "17");
    let path = format!("/v2/databases/{}", database.id);
    let fake = Fake::builder()
        .database(database)
        .on_key(move |access_key, secret_key, grants| {
            assert!(!secret_key.is_empty());
            for_keys.lock().unwrap().push(format!("key {access_key} {grants:?}"));
        })
        .hook(move |event| match event {
            Event::User { database, name, .. } => for_all.lock().unwrap().push(format!("user {name} of {database}")),
            Event::Db { database, name } => for_all.lock().unwrap().push(format!("db {name} of {database}")),
            Event::KeyDeleted { access_key } => for_all.lock().unwrap().push(format!("no key {access_key}")),
            Event::Key { .. } => {}
        })
        .start()
        .unwrap();
    let new = json!({ "name": "k", "grants": [{ "bucket": "b", "permission": "readwrite" }] });
    let (_, made) = post(&fake, "/v2/spaces/keys", &new);
    let key = made["key"]["access_key"].as_str().unwrap();
    assert!(made["key"]["secret_key"].is_string());
    assert!(get(&fake, "/v2/spaces/keys").1["keys"][0].get("secret_key").is_none(), "told once");
    call(&fake, &format!("DELETE /v2/spaces/keys/{key}"), &Value::Null).unwrap();
    post(&fake, &format!("{path}/users"), &json!({ "name": "harbor" }));
    post(&fake, &format!("{path}/dbs"), &json!({ "name": "registry" }));
    let expected = [
        format!("key {key} [(\"b\", \"readwrite\")]"),
        format!("no key {key}"),
        "user harbor of pg".to_owned(),
        "db registry of pg".to_owned(),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert!(!format!("{:?}", fake.log()).contains(made["key"]["secret_key"].as_str().unwrap()));
}

#[tokio::test]
async fn a_held_request_tells_goes_on_and_is_dropped_with_its_client() {
    let fake = Fake::start().unwrap();
    let frozen = fake.freeze_at(1, Moment::BeforeCommit);
    let held = send(fake.port(), fake.token(), "POST /v2/databases", &postgres("a"));
    frozen.reached().await;
    assert_eq!(fake.snapshot()["databases"], json!({}), "nothing was done yet");
    fake.thaw();
    assert_eq!(answer(held).unwrap().0, 201);

    let frozen = fake.freeze_at(2, Moment::AfterCommit);
    let held = send(fake.port(), fake.token(), "POST /v2/databases", &postgres("b"));
    frozen.reached().await;
    assert!(fake.snapshot()["databases"]["b"].is_object(), "all was done");
    drop(held);

    let frozen = fake.freeze_at(3, Moment::BeforeCommit);
    let held = send(fake.port(), fake.token(), "POST /v2/databases", &postgres("c"));
    frozen.reached().await;
    held.shutdown(Shutdown::Both).unwrap();
    drop(held);
    // The next connection is served after the end of that one was seen.
    until("the fake saw it leave", SOON, || get(&fake, "/v2/account").0 == 200).await.unwrap();
    fake.thaw();
    assert_eq!(get(&fake, "/v2/databases").1["databases"].as_array().unwrap().len(), 2, "nobody is there for whom to do it");
    assert_eq!(fake.mutations(), 3);
}

#[test]
fn faults_hit_the_request_that_they_were_meant_for_and_no_other() {
    let fake = Fake::start().unwrap();
    fake.fault(At::Mutation(2), Fault::After(500));
    fake.fault(At::Request(4), Fault::CutBefore);
    fake.fault(At::call("GET", "/v2/regions"), Fault::Burst(7));
    let statuses: Vec<_> = ["a", "b", "c"].map(|name| post(&fake, "/v2/databases", &postgres(name)).0).into();
    assert_eq!(statuses, [201, 500, 201]);
    assert_eq!(fake.snapshot()["databases"].as_object().unwrap().len(), 3, "the second was done");
    assert!(call(&fake, "GET /v2/account", &Value::Null).is_none());
    assert_eq!(get(&fake, "/v2/account").0, 200);
    assert_eq!((get(&fake, "/v2/regions").0, get(&fake, "/v2/regions").0), (429, 200));
}

#[test]
fn as_a_program_it_prints_its_address_and_ends_with_its_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_digitalocean"));
    let mut child = command.env("DIGITALOCEAN_TOKEN", "t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (url, token) = (lines.next().unwrap(), lines.next().unwrap());
    let port = url.strip_prefix("http://127.0.0.1:").unwrap().parse().unwrap();
    assert_eq!(answer(send(port, &token, "GET /v2/account", &Value::Null)).unwrap().0, 200);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
