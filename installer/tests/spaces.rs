//! Spaces, from outside: the same matrix on a stand-in (always) and on Ceph's own gateway (with `LAB_CEPH=1`), and faults that only the
//! stand-in has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test says what it expects")]
#![allow(clippy::print_stdout, reason = "which of many failed, and what was skipped")]

#[path = "spaces/claims.rs"]
mod claims;
#[path = "spaces/emptying.rs"]
mod emptying;
#[path = "spaces/faults.rs"]
mod faults;
#[path = "spaces/servers.rs"]
mod servers;

use std::time::Duration;

use doks_harbor::spaces::{Error, Found, Made, OWNER, Step};
use servers::{Server, soon, within};

/// Runs each of these on both servers; on Ceph one after the other, because it takes a while to start.
macro_rules! matrix {
    ($($check:path),+ $(,)?) => {
        #[tokio::test]
        async fn on_the_stand_in() {
            $(
                println!("{}", stringify!($check));
                $check(&Server::fake().await).await;
            )+
        }

        #[tokio::test]
        async fn on_ceph() {
            let Some(server) = Server::ceph().await else { return };
            $(
                println!("{}", stringify!($check));
                $check(&server).await;
            )+
        }
    };
}

matrix! {
    the_right_key_can_do_everything,
    a_wrong_secret_is_told_at_once,
    an_unknown_key_is_told_from_a_foreign_bucket,
    a_foreign_bucket_is_left_alone,
    a_missing_bucket_is_told,
    a_fresh_key_is_waited_for,
    lifecycle_rules_of_others_stay,
    a_key_that_only_reads_proves_nothing,
    names_survive_the_way,
    claims::of_many_one_wins,
    claims::what_is_there_is_never_overwritten,
    emptying::everything_goes,
}

async fn the_right_key_can_do_everything(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.accepted(&bucket, soon()).await.unwrap();
    assert_eq!(spaces.find(&bucket).await.unwrap(), Found::Missing);
    assert_eq!(spaces.create(&bucket, soon()).await.unwrap(), Made::Created);
    assert_eq!(spaces.create(&bucket, soon()).await.unwrap(), Made::Existed);
    assert_eq!(spaces.find(&bucket).await.unwrap(), Found::Mine);
    spaces.prove(&bucket).await.unwrap();
    assert_eq!(spaces.contents(&bucket).await.unwrap().objects, 0, "the proof left something");

    assert_eq!(spaces.read(&bucket, OWNER).await.unwrap(), None);
    spaces.write(&bucket, OWNER, b"one").await.unwrap();
    spaces.write(&bucket, OWNER, b"two").await.unwrap();
    assert_eq!(spaces.read(&bucket, OWNER).await.unwrap().unwrap(), b"two");
    let contents = spaces.contents(&bucket).await.unwrap();
    assert_eq!((contents.objects, contents.bytes, contents.more), (1, 3, false));

    assert_eq!(spaces.delete_bucket(&bucket).await.unwrap_err().code(), Some("BucketNotEmpty"));
    for _ in 0..2 {
        spaces.delete(&bucket, OWNER).await.unwrap();
    }
    for _ in 0..2 {
        spaces.delete_bucket(&bucket).await.unwrap();
    }
    assert_eq!(spaces.find(&bucket).await.unwrap(), Found::Missing);
}

async fn a_wrong_secret_is_told_at_once(server: &Server) {
    let spaces = server.with_key("US", "not the secret");
    let bucket = server.name();
    for error in [
        within(spaces.accepted(&bucket, soon())).await.unwrap_err(),
        spaces.find(&bucket).await.unwrap_err(),
        spaces.create(&bucket, soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), Some("SignatureDoesNotMatch"), "{error}");
        let shown = format!("{error} {error:?} {spaces:?}");
        assert!(!shown.contains("not the secret") && !shown.contains("X-Amz"), "{shown}");
        assert!(shown.contains("request_id: Some(") || shown.contains("HEAD"), "{shown}");
    }
}

async fn an_unknown_key_is_told_from_a_foreign_bucket(server: &Server) {
    let bucket = server.name();
    server.theirs().create(&bucket, soon()).await.unwrap();
    let nobody = server.with_key("NOBODY", "secret");
    assert_eq!(nobody.find(&bucket).await.unwrap_err().code(), Some("InvalidAccessKeyId"));
    let error = nobody.accepted(&bucket, tokio::time::Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::TooLate { .. }) && text.contains("NOBODY") && text.contains("InvalidAccessKeyId"), "{text}");
}

async fn a_foreign_bucket_is_left_alone(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    server.theirs().create(&bucket, soon()).await.unwrap();
    server.theirs().write(&bucket, "precious", b"x").await.unwrap();
    assert_eq!(spaces.find(&bucket).await.unwrap(), Found::Foreign);
    assert_eq!(spaces.create(&bucket, soon()).await.unwrap(), Made::Taken);
    assert_eq!(step(spaces.prove(&bucket).await), (Step::Put, "AccessDenied".to_owned()));
    assert_eq!(spaces.abort_uploads_after(&bucket, 7).await.unwrap_err().code(), Some("AccessDenied"));
    spaces.empty(&bucket, |_| ()).await.unwrap_err();
    assert_eq!(server.theirs().read(&bucket, "precious").await.unwrap().unwrap(), b"x");
}

async fn a_missing_bucket_is_told(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    assert_eq!(spaces.read(&bucket, "x").await.unwrap_err().code(), Some("NoSuchBucket"));
    assert_eq!(spaces.contents(&bucket).await.unwrap_err().code(), Some("NoSuchBucket"));
    assert_eq!(spaces.uploads_aborted_after(&bucket).await.unwrap_err().code(), Some("NoSuchBucket"));
    assert_eq!(step(spaces.prove(&bucket).await), (Step::Put, "NoSuchBucket".to_owned()));
    let text = spaces.prove(&bucket).await.unwrap_err().to_string();
    assert!(text.contains(&bucket) && text.contains("region"), "{text}");
}

async fn a_fresh_key_is_waited_for(server: &Server) {
    let (access, bucket) = (format!("FRESH{}", fastrand::u32(..)), server.name());
    let spaces = server.with_key(&access, "fresh secret");
    assert_eq!(spaces.find(&bucket).await.unwrap_err().code(), Some("InvalidAccessKeyId"));
    let (accepted, ()) = tokio::join!(spaces.accepted(&bucket, soon()), server.add_key(&access, "fresh secret"));
    accepted.unwrap();
    assert_eq!(spaces.create(&bucket, soon()).await.unwrap(), Made::Created);
    server.remove_key(&access).await;
    assert_eq!(within(gone(&spaces, &bucket)).await.code(), Some("InvalidAccessKeyId"));
}

/// The gateway may remember a key for a moment.
async fn gone(spaces: &doks_harbor::spaces::Spaces, bucket: &str) -> Error {
    loop {
        if let Err(error) = spaces.find(bucket).await {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lifecycle_rules_of_others_stay(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.create(&bucket, soon()).await.unwrap();
    assert_eq!(spaces.uploads_aborted_after(&bucket).await.unwrap(), None);
    assert!(spaces.abort_uploads_after(&bucket, 7).await.unwrap());
    assert!(!spaces.abort_uploads_after(&bucket, 7).await.unwrap(), "nothing was to be changed");
    assert_eq!(spaces.uploads_aborted_after(&bucket).await.unwrap(), Some(7));

    let theirs = "<LifecycleConfiguration>\
        <Rule><ID>old &amp; logs</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>31</Days></Expiration></Rule>\
        <Rule><ID>off</ID><Prefix>x/</Prefix><Status>Disabled</Status>\
        <NoncurrentVersionExpiration><NoncurrentDays>17</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";
    server.put_document(&bucket, "lifecycle", theirs).await;
    assert_eq!(spaces.uploads_aborted_after(&bucket).await.unwrap(), None);
    for days in [7, 3] {
        assert!(spaces.abort_uploads_after(&bucket, days).await.unwrap());
        assert_eq!(spaces.uploads_aborted_after(&bucket).await.unwrap(), Some(days));
        let now = server.document(&bucket, "lifecycle").await;
        assert_eq!(now.matches("<Rule>").count(), 3, "{now}");
        let kept = ["<ID>old &amp; logs</ID>", "<Prefix>logs/</Prefix>", "<Days>31</Days>", "<ID>off</ID>", "<Prefix>x/</Prefix>"];
        for part in kept.into_iter().chain(["<Status>Disabled</Status>", "<NoncurrentDays>17</NoncurrentDays>"]) {
            assert!(now.contains(part), "{part} is lost: {now}");
        }
    }
}

async fn a_key_that_only_reads_proves_nothing(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.create(&bucket, soon()).await.unwrap();
    let reader = server.reader(&bucket).await;
    reader.accepted(&bucket, soon()).await.unwrap();
    assert_eq!(reader.find(&bucket).await.unwrap(), Found::Mine);
    assert_eq!(step(reader.prove(&bucket).await), (Step::Put, "AccessDenied".to_owned()));
    let text = reader.prove(&bucket).await.unwrap_err().to_string();
    assert!(text.contains("only read") && text.contains("readwrite"), "{text}");
    assert_eq!(spaces.contents(&bucket).await.unwrap().objects, 0);
}

/// What software and people call things.
const NAMES: &[&str] = &[
    "a b",
    " a",
    "a+b",
    "100%",
    "%2F",
    "a%2Fb",
    "ü/ñ/日本",
    "?x=1&y#z",
    "<&>'\"",
    "a//b",
    "folder/",
    "tab\there",
    "line\nfeed",
    "return\r",
    "~!@$*()_-=[]{}|\\:;,.^`",
    "..a",
];

async fn names_survive_the_way(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.create(&bucket, soon()).await.unwrap();
    for name in NAMES {
        assert!(spaces.write_new(&bucket, name, name.as_bytes()).await.unwrap(), "{name:?}");
    }
    for name in NAMES {
        assert_eq!(spaces.read(&bucket, name).await.unwrap().as_deref(), Some(name.as_bytes()), "{name:?}");
    }
    assert_eq!(spaces.contents(&bucket).await.unwrap().objects, NAMES.len() as u64);
    let (last, rest) = NAMES.split_last().unwrap();
    spaces.delete(&bucket, last).await.unwrap();
    assert_eq!(spaces.read(&bucket, last).await.unwrap(), None);
    assert_eq!(spaces.empty(&bucket, |_| ()).await.unwrap().objects, rest.len() as u64);
    spaces.delete_bucket(&bucket).await.unwrap();
    for name in [".", "..", "a/../../other/b", "./a"] {
        let error = spaces.delete(&bucket, name).await.unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name}: {error}");
    }
}

/// Where a proof failed, and with which word of S3's.
fn step(proof: Result<(), Error>) -> (Step, String) {
    match proof.unwrap_err() {
        Error::Unproven { step, cause, .. } => (step, cause.code().unwrap_or("").to_owned()),
        error => panic!("{error}"),
    }
}
