//! What the tests of the client share.

use std::time::Duration;

use doks_harbor::digitalocean::{Client, Engine, FirewallRule, NewDatabase, Patience};
use lab::digitalocean::{CLUSTER, Database, Fake, REGION, VPC};

/// A client with little patience, so that a test of ten tries takes no minute.
pub(crate) fn client(fake: &Fake) -> Client {
    at(&fake.url(), fake.token())
}

pub(crate) fn at(url: &str, token: &str) -> Client {
    Client::new(url, token.to_owned().into(), doks_harbor::http::client().unwrap()).with_patience(patience())
}

pub(crate) fn patience() -> Patience {
    Patience { first: Duration::from_millis(2), longest: Duration::from_millis(20), ..Patience::default() }
}

pub(crate) fn new_database(name: &str) -> NewDatabase {
    NewDatabase {
        name: name.to_owned(),
        engine: Engine::Pg,
        version: "17".to_owned(),
        num_nodes: 1,
        size: "db-s-1vcpu-1gb".to_owned(),
        region: REGION.to_owned(),
        private_network_uuid: VPC.to_owned(),
        project_id: None,
        tags: vec!["harbor-proxy:1".to_owned()],
        rules: vec![FirewallRule::cluster(CLUSTER)],
    }
}

/// With one PostgreSQL, and its id.
pub(crate) fn with_postgres() -> (Fake, String) {
    let database = Database::new("pg", "pg", "17");
    let id = database.id.clone();
    (Fake::builder().database(database).start().unwrap(), id)
}

/// How often `METHOD PATH` was asked for.
pub(crate) fn count(fake: &Fake, call: &str) -> usize {
    fake.calls().iter().filter(|other| *other == call).count()
}
