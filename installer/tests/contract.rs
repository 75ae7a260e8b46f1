//! The client and the lab's fake, both judged by DigitalOcean's own document: neither can drift from the API without a test that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "contract/document.rs"]
mod document;
mod support;

use std::process::Command;
use std::time::Duration;

use document::Document;
use doks_harbor::digitalocean::{
    CacheConfig, Client, DatabaseStatus, Engine, FirewallRule, Grant, MaintenanceWindow, NewDatabase, NewSpacesKey, Patience,
};
use lab::digitalocean::{CLUSTER, Database, Exchange, Fake, REGION, Rule, VPC};
use lab::{Process, free_port};
use support::Desk;

fn client(url: &str, token: &str) -> Client {
    let patience = Patience { first: Duration::from_millis(5), ..Patience::default() };
    Client::new(url, token.to_owned().into(), doks_harbor::http::client().unwrap()).with_patience(patience)
}

fn new_database(name: &str, engine: Engine, version: &str, project: Option<String>) -> NewDatabase {
    NewDatabase {
        name: name.to_owned(),
        engine,
        version: version.to_owned(),
        num_nodes: 1,
        size: "db-s-1vcpu-1gb".to_owned(),
        region: REGION.to_owned(),
        private_network_uuid: VPC.to_owned(),
        project_id: project,
        tags: vec![format!("harbor-proxy:{CLUSTER}")],
        rules: vec![FirewallRule::cluster(CLUSTER)],
    }
}

/// Each call of the client at least once, with the answers that it can expect.
async fn every_call(client: &Client) {
    client.account().await.unwrap();
    assert!(client.regions().await.unwrap().iter().any(|region| region.slug == REGION && region.available));
    assert_eq!(client.vpc(VPC).await.unwrap().unwrap().region, REGION);
    assert!(client.vpc("00000000-0000-4000-8000-000000000000").await.unwrap().is_none());
    assert_eq!(client.clusters().await.unwrap()[0].id, CLUSTER);
    let credentials = client.cluster_credentials(CLUSTER, Duration::from_secs(600)).await.unwrap();
    assert!(credentials.server.starts_with("https://") && credentials.token.is_some());
    let projects = client.projects().await.unwrap();
    let project = projects.iter().find(|project| !project.is_default).unwrap();
    let options = client.database_options().await.unwrap();
    assert!(options.options["pg"].versions.contains(&"17".to_owned()));
    client.create_tag("harbor-proxy:1").await.unwrap();

    let pg = client.create_database(&new_database("harbor-pg-1", Engine::Pg, "17", Some(project.id.clone()))).await.unwrap();
    assert!(client.database(&pg.id).await.unwrap().is_none(), "hidden at first");
    while client.database(&pg.id).await.unwrap().is_none_or(|pg| pg.status != DatabaseStatus::Online) {}
    postgres(client, &pg.id).await;
    let valkey = client.create_database(&new_database("harbor-valkey-1", Engine::Valkey, "8", None)).await.unwrap();
    while client.database(&valkey.id).await.unwrap().is_none_or(|valkey| valkey.status != DatabaseStatus::Online) {}
    cache(client, &valkey.id).await;

    client.tag_database("harbor-proxy:1", &pg.id).await.unwrap();
    let urns = [format!("do:dbaas:{}", valkey.id), "do:space:harbor".to_owned()];
    assert!(client.assign(&project.id, &urns).await.unwrap().iter().all(|resource| resource.status == "assigned"));
    spaces(client).await;
    let refused = client.create_database(&new_database("harbor-redis-1", Engine::Redis, "7", None)).await.unwrap_err();
    assert_eq!(refused.status(), Some(422));
    let taken = client.create_database(&new_database("somebodys", Engine::Valkey, "8", None)).await.unwrap_err();
    assert!(taken.is_name_taken());
    client.delete_database(&pg.id).await.unwrap();
    while client.database(&pg.id).await.unwrap().is_some() {}
}

async fn postgres(client: &Client, id: &str) {
    assert!(client.databases().await.unwrap().iter().any(|database| database.id == id));
    assert!(client.ca(id).await.unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    client.create_database_user(id, "harbor").await.unwrap();
    client.create_database_user(id, "harbor").await.unwrap();
    assert_eq!(client.database_users(id).await.unwrap().len(), 2);
    client.reset_database_user(id, "harbor").await.unwrap();
    assert!(client.database_user(id, "nobody").await.unwrap().is_none());
    client.delete_database_user(id, "harbor").await.unwrap();
    client.create_db(id, "registry").await.unwrap();
    client.create_db(id, "registry").await.unwrap();
    assert_eq!(client.dbs(id).await.unwrap().len(), 2);
    let mut rules = client.firewall(id).await.unwrap();
    rules.push(FirewallRule { uuid: None, kind: "ip_addr".to_owned(), value: "192.0.2.1".to_owned(), description: None });
    client.set_firewall(id, &rules).await.unwrap();
    let window = MaintenanceWindow { day: "tuesday".to_owned(), hour: "14:00".to_owned() };
    client.set_maintenance(id, &window).await.unwrap();
    let told = client.database(id).await.unwrap().unwrap().maintenance_window.unwrap();
    assert!(told.is(&window) && told.hour == "14:00:00");
}

async fn cache(client: &Client, id: &str) {
    client.set_eviction_policy(id, "noeviction").await.unwrap();
    assert_eq!(client.eviction_policy(id).await.unwrap(), "noeviction");
    let config = CacheConfig { ssl: Some(true), timeout: Some(0), databases: None };
    client.set_cache_config(id, Engine::Valkey, &config).await.unwrap();
    let told = client.cache_config(id, Engine::Valkey).await.unwrap();
    assert_eq!(told, CacheConfig { databases: Some(16), ..config });
}

async fn spaces(client: &Client) {
    let full = NewSpacesKey { name: "harbor-temporary-1".to_owned(), grants: vec![Grant::full()] };
    let scoped = NewSpacesKey { name: "harbor-1".to_owned(), grants: vec![Grant::on("harbor-1")] };
    for new in [full, scoped] {
        let key = client.create_spaces_key(&new).await.unwrap();
        assert_eq!(client.spaces_keys(&new.name).await.unwrap().len(), 1);
        assert_eq!(client.all_spaces_keys().await.unwrap().len(), 1);
        client.delete_spaces_key(&key.access_key).await.unwrap();
    }
}

fn fake() -> Fake {
    let mut foreign = Database::new("somebodys", "redis", "7");
    foreign.rules = vec![Rule::new("ip_addr", "192.0.2.7", Some("office"))];
    foreign.end_of_life = Some("2025-06-30T00:00:00Z".to_owned());
    let there = Fake::builder().kubernetes("https://192.0.2.1:443", "PEM", "token").database(foreign);
    there.hidden_polls(1).creating_polls(2).deleting_polls(2).start().unwrap()
}

fn agree(document: &Document, exchanges: &[Exchange]) {
    let complaints: Vec<String> = exchanges.iter().flat_map(|exchange| document.judge(exchange)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test]
async fn requests_and_answers_agree_with_digitaloceans_document() {
    let Some(document) = Document::find() else { return };
    let fake = fake();
    every_call(&client(&fake.url(), fake.token())).await;
    // Refusals, too.
    assert_eq!(client(&fake.url(), "wrong").account().await.unwrap_err().status(), Some(401));
    fake.world(|world| world.lacks.insert("database:create".to_owned()));
    assert!(
        client(&fake.url(), fake.token()).create_database(&new_database("x", Engine::Pg, "17", None)).await.unwrap_err().is_forbidden()
    );
    fake.world(|world| world.lacks.insert("database:view_credentials".to_owned()));
    let hidden = client(&fake.url(), fake.token()).databases().await.unwrap();
    assert!(hidden.iter().all(|database| database.connection.as_ref().is_some_and(|connection| connection.password.is_none())));

    let log = fake.log();
    agree(&document, &log);
    let called = document.templates(&log);
    assert!(called.len() >= 32, "every call of the client is among these: {called:#?}");
}

#[tokio::test]
async fn the_referee_sees_what_is_wrong() {
    let Some(document) = Document::find() else { return };
    let judged = |method: &str, path: &str, body: serde_json::Value, answer: Option<(u16, serde_json::Value)>| {
        let exchange = Exchange { number: 1, method: method.to_owned(), path: path.to_owned(), query: Vec::new(), body, answer };
        document.judge(&exchange).join("\n")
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let wrong = json(r#"{"name":"a","engine":"postgres","num_nodes":"1","size":"s","region":"r","nodes":1,"id":"x"}"#);
    let complaints = judged("POST", "/v2/databases", wrong, None);
    for expected in ["postgres", "\"1\"", "/nodes is not known", "/id is not to be sent"] {
        assert!(complaints.contains(expected), "{expected} in {complaints}");
    }
    let answer = json(r#"{"database":{"id":"7","name":"a","engine":"pg","num_nodes":1,"size":"s","region":"r"}}"#);
    assert!(judged("GET", &format!("/v2/databases/{CLUSTER}"), serde_json::Value::Null, Some((200, answer))).contains("uuid"));
    assert!(judged("GET", "/v2/droplets", serde_json::Value::Null, None).contains("no such call"));
    assert!(judged("PUT", &format!("/v2/databases/{CLUSTER}/firewall"), json(r#"{"rules":[{"type":"k8s"}]}"#), None).contains("value"));
}

/// Run by `.ci/prism`: the installer's calls, through DigitalOcean's document, to the fake. A bad request comes back as 422, a bad answer
/// as 500 with the list of what is wrong with it.
#[tokio::test]
#[ignore = "needs Prism; .ci/prism installs it and runs this"]
async fn prism_between_client_and_fake_has_nothing_to_say() {
    let fake = fake();
    let Some(prism) = Prism::before(&fake).await else { return };
    every_call(&client(&prism.url, fake.token())).await;
    assert!(fake.requests() > 50, "they went through it");
    prism.has_nothing_to_say();
}

/// The program itself, from its first plan to its end, with Prism in between.
#[tokio::test]
#[ignore = "needs Prism; .ci/prism installs it and runs this"]
async fn prism_between_program_and_fake_has_nothing_to_say() {
    let mut desk = Desk::with(Fake::builder().creating_polls(2).hidden_polls(1).deleting_polls(1), "").await;
    let Some(prism) = Prism::before(&desk.cloud.api).await else { return };
    desk.api = Some(prism.url.clone());
    desk.run(&["preflight"]).await.ends_with(0);
    desk.run(&["plan"]).await.ends_with(2);
    desk.apply().await.ends_with(0);
    desk.run(&["status", "--cloud"]).await.ends_with(0);
    desk.run(&["rotate", "spaces", "--yes"]).await.ends_with(0);
    desk.run(&["rotate", "spaces", "--finish", "--yes"]).await.ends_with(0);
    desk.run(&["rotate", "pg", "--yes"]).await.ends_with(0);
    let bucket = desk.cloud.s3.snapshot().buckets.into_keys().next().unwrap();
    let names: Vec<_> = desk.cloud.api.world(|world| world.databases.iter().map(|database| database.name.clone()).collect());
    let mut arguments = vec!["destroy", "--databases", "--bucket", "--poll", "10ms", "--confirm", &bucket];
    names.iter().for_each(|name| arguments.extend(["--confirm", name]));
    desk.run(&arguments).await.ends_with(0);
    prism.has_nothing_to_say();
}

/// The referee, before a fake.
struct Prism {
    url: String,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Prism {
    /// `None`, said aloud, without the document.
    async fn before(fake: &Fake) -> Option<Self> {
        let program = std::env::var_os("PRISM").expect("PRISM must name the program; run .ci/prism");
        let (document, dir, port) = (Document::find()?, tempfile::tempdir().unwrap(), free_port().unwrap());
        let path = dir.path().join("openapi.json");
        document.write(&path);
        let mut command = Command::new(program);
        command.args(["proxy", "--errors", "-h", "127.0.0.1", "-p", &port.to_string()]).arg(&path).arg(fake.url());
        let mut process = Process::spawn("prism", &command, dir.path()).unwrap();
        let up = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        process.ready(Duration::from_secs(120), up).await.unwrap();
        Some(Self { url: format!("http://127.0.0.1:{port}"), process, _dir: dir })
    }

    fn has_nothing_to_say(&self) {
        let said = self.process.stdout();
        // The document knows no 422 and no 404 of some calls, but the API does; that is the one thing to be said.
        let violations =
            said.lines().filter(|line| line.contains("Violation") && !line.contains("Unable to match the returned status code"));
        assert_eq!(violations.collect::<Vec<_>>(), [""; 0], "{said}");
    }
}
