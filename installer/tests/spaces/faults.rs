//! What a server does on its bad days.

use std::time::Duration;

use doks_harbor::spaces::{Error, Found, Made, OWNER, Spaces, Step};
use lab::s3::{Fake, Faults, Grant};
use tokio::time::Instant;

use crate::servers::{objects, soon, spaces};
use crate::step;

const BUCKET: &str = "harbor-b";
const OTHER: &str = "harbor-c";

/// One with a key and a bucket.
async fn start() -> (Fake, Spaces) {
    let fake = Fake::start().await.unwrap();
    fake.add_key("US", "our secret", Grant::Full);
    let ours = spaces(&fake.endpoint(), "US", "our secret");
    ours.create(BUCKET, soon()).await.unwrap();
    (fake, ours)
}

#[tokio::test]
async fn what_is_new_takes_its_time() {
    let fake = Fake::start().await.unwrap();
    fake.set_faults(Faults { slow_keys: 4, slow_buckets: 5, ..Faults::default() });
    fake.add_key("US", "our secret", Grant::Full);
    let ours = spaces(&fake.endpoint(), "US", "our secret");
    ours.accepted(BUCKET, soon()).await.unwrap();
    assert_eq!(ours.create(BUCKET, soon()).await.unwrap(), Made::Created);
    ours.prove(BUCKET).await.unwrap();

    fake.set_faults(Faults { slow_buckets: u32::MAX, ..Faults::default() });
    let error = ours.create(OTHER, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, Error::TooLate { .. }) && error.to_string().contains("bucket harbor-c"), "{error}");
}

#[tokio::test]
async fn one_gateway_that_knows_a_key_is_not_all_of_them() {
    let fake = Fake::start().await.unwrap();
    fake.set_faults(Faults { slow_keys: 9, flapping: true, ..Faults::default() });
    fake.add_key("US", "our secret", Grant::Full);
    let ours = spaces(&fake.endpoint(), "US", "our secret");
    ours.accepted(BUCKET, soon()).await.unwrap();
    for _ in 0..9 {
        assert_eq!(ours.find(BUCKET).await.unwrap(), Found::Missing);
    }
}

#[tokio::test]
async fn a_name_whose_bucket_is_still_dying_is_waited_for() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { aborted: 5, ..Faults::default() });
    assert_eq!(ours.create(OTHER, soon()).await.unwrap(), Made::Created);
    fake.set_faults(Faults { aborted: u32::MAX, ..Faults::default() });
    let error = ours.create("harbor-d", Instant::now()).await.unwrap_err();
    assert!(error.is("OperationAborted"), "{error}");
    assert_eq!(ours.create("No_Name", soon()).await.unwrap_err().code(), Some("InvalidBucketName"));
}

#[tokio::test]
async fn of_very_much_a_part_is_counted() {
    let (fake, ours) = start().await;
    for n in 0..20_001 {
        assert!(fake.put(BUCKET, &format!("{n:05}"), b"12"));
    }
    let contents = ours.contents(BUCKET).await.unwrap();
    assert_eq!((contents.objects, contents.bytes, contents.more), (20_000, 40_000, true));
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
        assert!(ours.write_new(BUCKET, &name, b"me").await.unwrap(), "{faults:?}");
        fake.set_faults(faults.clone());
        ours.prove(BUCKET).await.unwrap();
        fake.set_faults(faults.clone());
        assert!(ours.abort_uploads_after(BUCKET, fastrand::u32(1..)).await.unwrap(), "{faults:?}");
        fake.set_faults(faults);
        let bucket = format!("harbor-{}", fastrand::u64(..));
        assert_ne!(ours.create(&bucket, soon()).await.unwrap(), Made::Taken);
        assert_eq!(ours.find(&bucket).await.unwrap(), Found::Mine);
    }
}

#[tokio::test]
async fn an_answer_lost_after_the_claim_is_still_a_claim() {
    let (fake, ours) = start().await;
    // The look before it passes, the answer to the write is lost, the second attempt meets the first.
    let claim = ours.write_new(BUCKET, OWNER, b"me");
    let lose = async {
        while !fake.requests().iter().any(|request| request == &format!("GET {BUCKET}/{OWNER}")) {
            tokio::task::yield_now().await;
        }
        fake.set_faults(Faults { lose: 1, ..Faults::default() });
    };
    let (claimed, ()) = tokio::join!(claim, lose);
    assert!(claimed.unwrap());
    assert_eq!(objects(&fake, BUCKET)[OWNER], b"me");
}

#[tokio::test]
async fn a_server_that_is_busy_for_ever_is_given_up() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { busy: u32::MAX, ..Faults::default() });
    let nowhere = spaces(&format!("http://127.0.0.1:{}", lab::free_port().unwrap()), "US", "our secret");
    let (busy, gone) = tokio::join!(ours.read(BUCKET, "x"), nowhere.read(BUCKET, "x"));
    let (busy, gone) = (busy.unwrap_err(), gone.unwrap_err());
    assert_eq!(busy.code(), Some("SlowDown"));
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
    for shown in [format!("{busy} {busy:?}"), format!("{gone} {gone:?}")] {
        assert!(shown.contains("GET harbor-b/x") && !shown.contains("X-Amz") && !shown.contains("our secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_key_for_one_bucket_can_what_harbor_does_and_no_more() {
    let (fake, ours) = start().await;
    ours.create(OTHER, soon()).await.unwrap();
    fake.add_key("SCOPED", "its secret", Grant::ReadWrite(BUCKET.to_owned()));
    let scoped = spaces(&fake.endpoint(), "SCOPED", "its secret");
    scoped.accepted(BUCKET, soon()).await.unwrap();
    scoped.prove(BUCKET).await.unwrap();
    assert_eq!(scoped.find(OTHER).await.unwrap(), Found::Foreign);
    assert_eq!(scoped.uploads_aborted_after(BUCKET).await.unwrap_err().code(), Some("AccessDenied"));
    let error = scoped.accepted(OTHER, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

#[tokio::test]
async fn a_proof_that_fails_halfway_leaves_nothing() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { blind: true, ..Faults::default() });
    assert_eq!(step(ours.prove(BUCKET).await).0, Step::List);
    assert!(objects(&fake, BUCKET).is_empty());

    fake.set_faults(Faults { keep: Some(".harbor-proxy/".to_owned()), ..Faults::default() });
    let error = ours.prove(BUCKET).await.unwrap_err();
    assert!(error.to_string().contains("garbage"), "{error}");
    assert_eq!(step(Err(error)).0, Step::Delete);

    fake.set_faults(Faults { forgetful: true, ..Faults::default() });
    assert_eq!(step(ours.prove(BUCKET).await).0, Step::Delete);
}

#[tokio::test]
async fn a_server_without_conditions_still_keeps_what_is_there() {
    let (fake, ours) = start().await;
    fake.set_faults(Faults { unconditional: true, ..Faults::default() });
    assert!(ours.write_new(BUCKET, OWNER, b"first").await.unwrap());
    assert!(!ours.write_new(BUCKET, OWNER, b"second").await.unwrap());
    assert_eq!(objects(&fake, BUCKET)[OWNER], b"first");
}

#[tokio::test]
async fn objects_that_stay_are_told() {
    let (fake, ours) = start().await;
    for name in ["a", "kept/1", "kept/2", "z"] {
        ours.write(BUCKET, name, b"x").await.unwrap();
    }
    fake.set_faults(Faults { keep: Some("kept/".to_owned()), ..Faults::default() });
    let error = ours.empty(BUCKET, |_| ()).await.unwrap_err();
    assert!(matches!(&error, Error::Undeleted { objects: 2, first, .. } if first == "kept/1") && error.is("AccessDenied"), "{error}");
    assert_eq!(objects(&fake, BUCKET).len(), 2);

    fake.set_faults(Faults { forgetful: true, ..Faults::default() });
    let error = ours.empty(BUCKET, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Undeleted { .. }), "{error}");
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let (_fake, ours) = start().await;
    ours.write(BUCKET, "layer", &vec![0; (1 << 20) + 1]).await.unwrap();
    assert!(matches!(ours.read(BUCKET, "layer").await.unwrap_err(), Error::Malformed { .. }));
}

#[test]
fn an_endpoint_is_a_url() {
    for endpoint in ["", "nyc3", "nyc3.digitaloceanspaces.com", "ftp://nyc3", "https://", "https://me:password@nyc3"] {
        let keys = doks_harbor::spaces::Keys { access_key: "US".to_owned(), secret_key: "s".to_owned().into() };
        let error = Spaces::new(endpoint, keys, crate::servers::client()).unwrap_err();
        assert!(matches!(error, Error::Endpoint { .. }) && !error.to_string().contains("password"), "{endpoint}");
    }
}
