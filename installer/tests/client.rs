//! The client against the lab's fake DigitalOcean: what it tries again and what it must not, pages, limits, and answers that mean harm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

#[path = "client/mod.rs"]
mod shared;

use std::time::Duration;

use doks_harbor::digitalocean::{Error, FirewallRule, Patience};
use lab::digitalocean::{At, Fake, Fault, Key, Moment, Rule};
use lab::free_port;
use serde_json::json;
use shared::{at, client, count, new_database, patience, with_postgres};
use tokio::time::Instant;

fn keys(name: &str, number: usize) -> impl Iterator<Item = Key> {
    let key = |n: usize| (format!("DO{n:018}"), "s".repeat(43));
    (0..number).map(key).map(move |(access_key, secret_key)| Key { name: name.to_owned(), access_key, secret_key, grants: Vec::new() })
}

// Pages.

#[tokio::test]
async fn all_pages_are_read_from_the_same_place_wherever_the_answer_points() {
    let fake = Fake::builder().world(|world| world.keys.extend(keys("a name & more", 450))).start().unwrap();
    fake.world(|world| world.keys.extend(keys("another", 1)));
    let found = client(&fake).spaces_keys("a name & more").await.unwrap();
    assert_eq!(found.len(), 450);
    // The fake's links name api.digitalocean.com; that all came here shows that host and path of a link count for nothing.
    let queries: Vec<_> = fake.log().into_iter().map(|exchange| exchange.query).collect();
    assert_eq!(queries.len(), 3);
    assert!(queries.iter().all(|query| query.contains(&("per_page".to_owned(), "200".to_owned()))), "{queries:?}");
}

#[tokio::test]
async fn lists_that_the_document_knows_no_pages_of_are_asked_for_without_and_followed_nevertheless() {
    let fake = Fake::start().unwrap();
    let page = |name: &str, next: &str| {
        let next = if next.is_empty() { json!({}) } else { json!({ "next": format!("https://api.digitalocean.com/v2/databases?{next}") }) };
        Fault::body(json!({ "databases": [{ "name": name }], "links": { "pages": next } }).to_string())
    };
    fake.fault(At::Request(1), page("one", "page=2"));
    fake.fault(At::Request(2), page("two", ""));
    let names: Vec<_> = client(&fake).databases().await.unwrap().into_iter().map(|database| database.name).collect();
    assert_eq!(names, ["one", "two"]);
    let log = fake.log();
    assert!(log[0].query.is_empty() && log[1].query == [("page".to_owned(), "2".to_owned())], "{log:?}");
}

#[tokio::test]
async fn pages_that_go_in_a_circle_and_pages_of_something_else_are_errors() {
    for next in ["https://api.digitalocean.com/v2/projects?per_page=200", "https://evil.example/v2/account?page=2", "//evil.example", "7"] {
        let fake = Fake::start().unwrap();
        let body = json!({ "projects": [], "links": { "pages": { "next": next } } }).to_string();
        fake.faults(At::call("GET", "/v2/projects"), 100, Fault::body(body));
        let error = client(&fake).projects().await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{next}: {error}");
        assert_eq!(fake.requests(), 1, "{next}");
    }
}

#[tokio::test]
async fn no_rule_is_never_read_out_of_an_answer_about_something_else() {
    let (fake, id) = with_postgres();
    fake.fault(At::Any, Fault::body(r#"{"id":"ok","message":"hello"}"#));
    assert!(matches!(client(&fake).firewall(&id).await, Err(Error::Malformed { .. })));
}

// What is tried again.

#[tokio::test]
async fn what_may_be_done_twice_is_tried_again() {
    for fault in [Fault::Before(500), Fault::After(502), Fault::Before(503), Fault::CutBefore, Fault::CutAfter] {
        let (fake, id) = with_postgres();
        fake.faults(At::Any, 2, fault.clone());
        assert_eq!(client(&fake).databases().await.unwrap().len(), 1, "{fault:?}");
        fake.faults(At::Any, 2, fault.clone());
        client(&fake).set_firewall(&id, &[FirewallRule::cluster("x")]).await.unwrap();
        fake.faults(At::Any, 2, fault.clone());
        client(&fake).create_tag("harbor-proxy:1").await.unwrap();
        fake.faults(At::Any, 2, fault.clone());
        client(&fake).tag_database("harbor-proxy:1", &id).await.unwrap();
        fake.faults(At::Any, 2, fault.clone());
        // Done by the first try: the second finds nothing, which is what was wanted.
        client(&fake).delete_database(&id).await.unwrap();
        assert_eq!(fake.requests(), 15, "{fault:?}");
        assert_eq!(fake.snapshot()["databases"], json!({}), "{fault:?}");
    }
}

#[tokio::test]
async fn tries_are_bounded_and_end_with_the_words_and_the_id_of_the_request() {
    let fake = Fake::start().unwrap();
    fake.faults(At::Any, 1_000, Fault::Before(503));
    let error = client(&fake).account().await.unwrap_err();
    assert_eq!(fake.requests(), Patience::default().tries as usize);
    assert_eq!(error.status(), Some(503));
    let text = error.to_string();
    assert!(text.starts_with("GET /v2/account: Something went wrong. (503 service_unavailable, request "), "{text}");
}

#[tokio::test]
async fn a_no_is_not_tried_again() {
    for status in [400, 401, 403, 404, 409, 422, 501] {
        let fake = Fake::start().unwrap();
        fake.fault(At::Any, Fault::Before(status));
        assert_eq!(client(&fake).account().await.unwrap_err().status(), Some(status));
        assert_eq!(fake.requests(), 1, "{status}");
    }
    let fake = Fake::builder().lacks("account:read").start().unwrap();
    let error = client(&fake).account().await.unwrap_err();
    assert!(error.is_forbidden() && error.to_string().contains("account:read"), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_is_told_as_such_also_for_creates() {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let client = at(&url, "dop_v1_token");
    assert!(matches!(client.account().await, Err(Error::Unreachable { .. })));
    let error = client.create_database(&new_database("harbor-pg-1")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.is_lost());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let fake = Fake::start().unwrap();
    let frozen = fake.freeze(At::Any, Moment::BeforeCommit);
    let client = client(&fake).with_patience(Patience { answer: Duration::from_millis(700), ..patience() });
    assert_eq!(client.account().await.unwrap().status, "active");
    assert!(frozen.is_reached());
    assert!(fake.requests() >= 2);
}

#[tokio::test]
async fn a_call_can_be_dropped_at_any_moment() {
    for moment in [Moment::BeforeCommit, Moment::AfterCommit] {
        let fake = Fake::start().unwrap();
        let frozen = fake.freeze_at(1, moment);
        let (client, new) = (client(&fake), new_database("harbor-pg-1"));
        tokio::select! {
            _ = client.create_database(&new) => panic!("it is held"),
            () = frozen.reached() => {}
        }
        // The next one finds what the dropped one did, if anything.
        client.create_database(&new).await.unwrap();
        assert_eq!(client.databases().await.unwrap().len(), 1, "{moment:?}");
    }
}

// Limits.

#[tokio::test]
async fn retry_after_is_honoured_by_every_method() {
    let fake = Fake::start().unwrap();
    fake.fault(At::Request(1), Fault::Burst(1));
    let started = Instant::now();
    client(&fake).account().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    // A create that was refused by a limit was not done, so it is sent again.
    fake.fault(At::Request(3), Fault::Burst(1));
    let started = Instant::now();
    client(&fake).create_database(&new_database("harbor-pg-1")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(count(&fake, "POST /v2/databases"), 2);
}

#[tokio::test]
async fn without_retry_after_the_reset_counts() {
    let fake = Fake::start().unwrap();
    fake.fault(At::Any, Fault::Hour(2));
    let started = Instant::now();
    client(&fake).account().await.unwrap();
    // Whole seconds, of which one has begun.
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_limit_that_is_far_away_is_told_instead_of_waited_for() {
    for fault in [Fault::Hour(2_000), Fault::Burst(2_000)] {
        let fake = Fake::start().unwrap();
        fake.fault(At::Any, fault);
        let error = client(&fake).account().await.unwrap_err();
        assert!(error.is_rate_limited());
        let text = error.to_string();
        assert!(text.contains("API rate limit exceeded. It is free again in 3") && text.contains(" minutes"), "{text}");
        assert_eq!(fake.requests(), 1);
    }
}

// Answers that mean harm.

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_of_one_line_without_their_content() {
    let deep = format!("{{\"account\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    for body in ["", "null", "[]", "<html>s3cret</html>", r#"{"account":"s3cret"}"#, r#"{"account":{"status":"#, "\u{feff}{}", "{}", &deep]
    {
        let fake = Fake::start().unwrap();
        fake.fault(At::Any, Fault::body(body));
        let error = client(&fake).account().await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("s3cret") && text.len() < 600 && !text.contains('\n'), "{text}");
        }
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let fake = Fake::start().unwrap();
    fake.faults(At::Any, 100, Fault::body(vec![b' '; 9 << 20]));
    let client = client(&fake).with_patience(Patience { tries: 2, ..patience() });
    let text = client.account().await.unwrap_err().to_string();
    assert!(text.contains("larger than 8 MiB"), "{text}");
}

#[tokio::test]
async fn a_refusal_in_html_is_not_repeated_and_one_with_escapes_is_tamed() {
    let fake = Fake::start().unwrap();
    let html = Fault::Answer {
        status: 403,
        headers: vec![("x-request-id".to_owned(), "id-of-the-header".to_owned())],
        body: b"<html><body>Forbidden by a proxy\n</body></html>".to_vec(),
    };
    fake.fault(At::Any, html);
    let text = client(&fake).account().await.unwrap_err().to_string();
    assert_eq!(
        text,
        "GET /v2/account: Forbidden, with no words that can be read (403 error, request id-of-the-header); give the token the scope account:read"
    );
    let escapes = json!({ "id": "x", "message": format!("\u{1b}[2J\r\nhello {}", "y".repeat(100_000)) }).to_string();
    fake.fault(At::Any, Fault::Answer { status: 400, headers: Vec::new(), body: escapes.into_bytes() });
    let text = client(&fake).account().await.unwrap_err().to_string();
    assert!(text.len() < 600 && !text.contains(char::is_control) && text.contains("hello"), "{text}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (fake, other) = (Fake::start().unwrap(), Fake::start().unwrap());
    let location = ("location".to_owned(), format!("{}/v2/account", other.url()));
    fake.fault(At::Any, Fault::Answer { status: 302, headers: vec![location], body: Vec::new() });
    let error = client(&fake).account().await.unwrap_err();
    assert_eq!(error.status(), Some(302));
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn the_token_goes_nowhere_in_clear_but_to_this_machine() {
    for base in ["http://api.digitalocean.com", "http://192.0.2.1:80", "nonsense", "https://user:s3cret@example.com"] {
        let error = at(base, "dop_v1_token").account().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

// Secrets.

#[tokio::test]
async fn no_secret_shows_in_any_text() {
    let (fake, id) = with_postgres();
    let client = client(&fake);
    let mut texts = vec![format!("{client:?}")];
    let mut secrets = vec![fake.token().to_owned()];
    let database = client.database(&id).await.unwrap().unwrap();
    secrets.extend(fake.world(|world| world.databases[0].users.iter().map(|user| user.password.clone()).collect::<Vec<_>>()));
    texts.push(format!("{database:?} {:?}", database.users));
    let new = doks_harbor::digitalocean::NewSpacesKey { name: "a".to_owned(), grants: vec![] };
    texts.push(format!("{:?}", client.create_spaces_key(&new).await.unwrap()));
    secrets.extend(fake.world(|world| world.keys.iter().map(|key| key.secret_key.clone()).collect::<Vec<_>>()));

    // Every kind of failure, told by a server that repeats what it was sent.
    let echo = json!({ "id": fake.token(), "message": format!("Bearer {} is bad", fake.token()), "request_id": fake.token() }).to_string();
    for status in [401, 403, 404, 422, 429, 500] {
        let headers = vec![("retry-after".to_owned(), "5000".to_owned())];
        fake.faults(At::Any, 100, Fault::Answer { status, headers, body: echo.clone().into_bytes() });
        let error = client.create_database(&new_database("a")).await.unwrap_err();
        texts.push(format!("{error} {error:?}"));
        fake.thaw();
    }
    for fault in [Fault::CutBefore, Fault::CutAfter, Fault::body(echo), Fault::body(format!(r#"{{"account":"{}"}}"#, fake.token()))] {
        fake.faults(At::Any, 100, fault);
        let error = client.account().await.unwrap_err();
        texts.push(format!("{error} {error:?}"));
        fake.thaw();
    }
    texts.push(format!("{:?}", fake.log()));
    assert!(secrets.iter().all(|secret| secret.len() > 16));
    for text in &texts {
        assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())), "{text}");
    }
}

// Foreign rules survive what the installer does to a firewall.

#[tokio::test]
async fn rules_of_others_keep_their_identity_and_their_words() {
    let (fake, id) = with_postgres();
    fake.world(|world| world.databases[0].rules.push(Rule::new("ip_addr", "192.0.2.7", Some("office"))));
    let before = fake.world(|world| world.databases[0].rules.clone());
    let mut rules = client(&fake).firewall(&id).await.unwrap();
    rules.push(FirewallRule::cluster("x"));
    client(&fake).set_firewall(&id, &rules).await.unwrap();
    let after = fake.world(|world| world.databases[0].rules.clone());
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], before[0]);
}
