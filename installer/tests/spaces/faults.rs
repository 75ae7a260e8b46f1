//! What a server does on its bad days.

use std::time::Duration;

use doks_harbor::spaces::{Error, Found, Made, OWNER, Spaces, Step};
use lab::s3::{Fake, Faults, Grant};
use tokio::time::Instant;

use crate::servers::{objects, soon, spaces};
use crate::step;

/// One with a key and a bucket.
async fn start() -> (Fake, Spaces) {
    let fake = Fake::start().await.unwrap();
    fake.add_key("US", "our secret", Grant::Full);
    let ours = spaces(&fake.endpoint(), "US", "our secret");
    ours.create("b", soon()).await.unwrap();
    (fake, ours)
}

#[tokio::test]
async fn what_is_new_takes_its_time() {
    let fake = Fake::start().await.unwrap();
    fake.set_faults(Faults { slow_keys: 4, slow_buckets: 5, ..Faults::default() });
    fake.add_key("US", "our secret", Grant::Full);
    let ours = spaces(&fake.endpoint(), "US", "our secret");
    ours.accepted("b", soon()).await.unwrap();
    assert_eq!(ours.create("b", soon()).await.unwrap(), Made::Created);
    ours.prove("b").await.unwrap();

    fake.set_faults(Faults { slow_buckets: u32::MAX, ..Faults::default() });
    let error = ours.create("c", Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, Error::TooLate { .. }) && error.to_string().contains("bucket c"), "{error}");
}

#[tokio::test]
async fn a_bad_moment_is_outlived() {
    let (fake, ours) = start().await;
    for faults in [
        Faults { busy: 2, ..Faults::default() },
        Faults { cut: 2, ..Faults::default() },
        Faults { lose: 1, ..Faults::default() },
        Faults { delay: Duration::from_millis(20), ..Faults::default() },
    ] {
        fake.set_faults(faults.clone());
        let name = format!("{OWNER}-{}", fastrand::u64(..));
        assert!(ours.write_new("b", &name, b"me").await.unwrap(), "{faults:?}");
        fake.set_faults(faults.clone());
        ours.prove("b").await.unwrap();
        fake.set_faults(faults.clone());
        assert!(ours.abort_uploads_after("b", fastrand::u32(1..)).await.unwrap(), "{faults:?}");
        fake.set_faults(faults);
        let bucket = format!("b{}", fastrand::u64(..));
        assert_ne!(ours.create(&bucket, soon()).await.unwrap(), Made::Taken);
        assert_eq!(ours.find(&bucket).await.unwrap(), Found::Mine);
    }
}

#[tokio::test]
async fn an_answer_lost_after_the_claim_is_still_a_claim() {
    let (fake, ours) = start().await;
    // The look before it passes, the answer to the write is lost, the second attempt meets the first.
    let claim = ours.write_new("b", OWNER, b"me");
    let lose = async {
        while !fake.requests().iter().any(|request| request == &format!("GET b/{OWNER}")) {
            tokio::task::yield_now().await;
        }
        fake.set_faults(Faults { lose: 1, ..Faults::default() });
    };
    let (claimed, ()) = tokio::join!(claim, lose);
    assert!(claimed.unwrap());
    assert_eq!(objects(&fake, "b")[OWNER], b"me");
}

#[tokio::test]
async fn a_server_that_is_busy_for_ever_is_given_up() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { busy: u32::MAX, ..Faults::default() });
    let nowhere = spaces(&format!("http://127.0.0.1:{}", lab::free_port().unwrap()), "US", "our secret");
    let (busy, gone) = tokio::join!(ours.read("b", "x"), nowhere.read("b", "x"));
    let (busy, gone) = (busy.unwrap_err(), gone.unwrap_err());
    assert_eq!(busy.code(), Some("SlowDown"));
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
    for shown in [format!("{busy} {busy:?}"), format!("{gone} {gone:?}")] {
        assert!(shown.contains("GET b/x") && !shown.contains("X-Amz") && !shown.contains("our secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_key_for_one_bucket_can_what_harbor_does_and_no_more() {
    let (fake, ours) = start().await;
    ours.create("c", soon()).await.unwrap();
    fake.add_key("SCOPED", "its secret", Grant::ReadWrite("b".to_owned()));
    let scoped = spaces(&fake.endpoint(), "SCOPED", "its secret");
    scoped.accepted("b", soon()).await.unwrap();
    scoped.prove("b").await.unwrap();
    assert_eq!(scoped.find("c").await.unwrap(), Found::Foreign);
    assert_eq!(scoped.uploads_aborted_after("b").await.unwrap_err().code(), Some("AccessDenied"));
    let error = scoped.accepted("c", Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

#[tokio::test]
async fn a_proof_that_fails_halfway_leaves_nothing() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { blind: true, ..Faults::default() });
    assert_eq!(step(ours.prove("b").await).0, Step::List);
    assert!(objects(&fake, "b").is_empty());

    fake.set_faults(Faults { keep: Some(".harbor-proxy/".to_owned()), ..Faults::default() });
    let error = ours.prove("b").await.unwrap_err();
    assert!(error.to_string().contains("garbage"), "{error}");
    assert_eq!(step(Err(error)).0, Step::Delete);

    fake.set_faults(Faults { forgetful: true, ..Faults::default() });
    assert_eq!(step(ours.prove("b").await).0, Step::Delete);
}

#[tokio::test]
async fn a_server_without_conditions_still_keeps_what_is_there() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { unconditional: true, ..Faults::default() });
    assert!(ours.write_new("b", OWNER, b"first").await.unwrap());
    assert!(!ours.write_new("b", OWNER, b"second").await.unwrap());
    assert_eq!(objects(&fake, "b")[OWNER], b"first");
}

#[tokio::test]
async fn objects_that_stay_are_told() {
    let (fake, ours) = start().await;
    for name in ["a", "kept/1", "kept/2", "z"] {
        ours.write("b", name, b"x").await.unwrap();
    }
    fake.set_faults(Faults { keep: Some("kept/".to_owned()), ..Faults::default() });
    let error = ours.empty("b", |_| ()).await.unwrap_err();
    assert!(matches!(&error, Error::Undeleted { objects: 2, first, .. } if first == "kept/1") && error.is("AccessDenied"), "{error}");
    assert_eq!(objects(&fake, "b").len(), 2);

    fake.set_faults(Faults { forgetful: true, ..Faults::default() });
    let error = ours.empty("b", |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Undeleted { .. }), "{error}");
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let (_fake, ours) = start().await;
    ours.write("b", "layer", &vec![0; (1 << 20) + 1]).await.unwrap();
    assert!(matches!(ours.read("b", "layer").await.unwrap_err(), Error::Malformed { .. }));
}

#[test]
fn an_endpoint_is_a_url() {
    for endpoint in ["", "nyc3", "nyc3.digitaloceanspaces.com", "ftp://nyc3", "https://", "https://me:password@nyc3"] {
        let keys = doks_harbor::spaces::Keys { access_key: "US".to_owned(), secret_key: "s".to_owned().into() };
        let error = Spaces::new(endpoint, keys, crate::servers::client()).unwrap_err();
        assert!(matches!(error, Error::Endpoint { .. }) && !error.to_string().contains("password"), "{endpoint}");
    }
}
