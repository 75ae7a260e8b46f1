//! The two servers behind one face, with what tests have to arrange past the client.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use doks_harbor::spaces::{Keys, Spaces};
use lab::s3::{Ceph, Fake, Grant};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tokio::time::Instant;

/// For a server that shares two slow cores with everybody.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) enum Server {
    Fake(Fake),
    Ceph(Box<Ceph>),
}

impl Server {
    pub(crate) async fn fake() -> Self {
        let fake = Fake::start().await.unwrap();
        fake.add_key("US", "our secret", Grant::Full);
        fake.add_key_of("them", "THEM", "their secret", Grant::Full);
        Self::Fake(fake)
    }

    /// `None` without `LAB_CEPH=1`; with it everything must be there.
    pub(crate) async fn ceph() -> Option<Self> {
        if std::env::var_os("LAB_CEPH").is_none_or(|value| value != "1") {
            println!("skipped: Ceph's gateway takes a while to start; `.ci/ceph` installs it and sets LAB_CEPH=1");
            return None;
        }
        let ceph = Ceph::start().await.unwrap();
        ceph.add_key("US", "our secret").await.unwrap();
        ceph.add_user("them").await.unwrap();
        ceph.add_key_of("them", "THEM", "their secret").await.unwrap();
        Some(Self::Ceph(Box::new(ceph)))
    }

    pub(crate) fn ours(&self) -> Spaces {
        self.with_key("US", "our secret")
    }

    pub(crate) fn theirs(&self) -> Spaces {
        self.with_key("THEM", "their secret")
    }

    pub(crate) async fn reader(&self, bucket: &str) -> Spaces {
        match self {
            Self::Fake(fake) => fake.add_key("READER", "reader's secret", Grant::Read(bucket.to_owned())),
            Self::Ceph(ceph) => ceph.add_reader("READER", "reader's secret").await.unwrap(),
        }
        self.with_key("READER", "reader's secret")
    }

    pub(crate) async fn add_key(&self, access: &str, secret: &str) {
        match self {
            Self::Fake(fake) => fake.add_key(access, secret, Grant::Full),
            Self::Ceph(ceph) => ceph.add_key(access, secret).await.unwrap(),
        }
    }

    pub(crate) async fn remove_key(&self, access: &str) {
        match self {
            Self::Fake(fake) => assert!(fake.remove_key(access)),
            Self::Ceph(ceph) => ceph.remove_key(access).await.unwrap(),
        }
    }

    /// Of a bucket that is not there yet.
    pub(crate) fn name(&self) -> String {
        format!("harbor-{:08x}", fastrand::u32(..))
    }

    pub(crate) fn with_key(&self, access: &str, secret: &str) -> Spaces {
        spaces(&self.endpoint(), access, secret)
    }

    pub(crate) async fn put_document(&self, bucket: &str, what: &'static str, text: &str) {
        let (bucket, keys) = self.signer(bucket);
        let mut put = bucket.put_object(Some(&keys), "");
        put.query_mut().insert(what, "");
        let request = client().put(put.sign(LIMIT)).header("content-md5", sum(text)).body(text.to_owned());
        request.send().await.unwrap().error_for_status().unwrap();
    }

    pub(crate) async fn document(&self, bucket: &str, what: &'static str) -> String {
        let (bucket, keys) = self.signer(bucket);
        let mut get = bucket.get_object(Some(&keys), "");
        get.query_mut().insert(what, "");
        client().get(get.sign(LIMIT)).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    /// Begins an upload and leaves it.
    pub(crate) async fn begin_upload(&self, bucket: &str, object: &str) {
        let (bucket, keys) = self.signer(bucket);
        let url = bucket.create_multipart_upload(Some(&keys), object).sign(LIMIT);
        let answer = client().post(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        let (_, rest) = answer.split_once("<UploadId>").unwrap();
        let (id, _) = rest.split_once("</UploadId>").unwrap();
        let url = bucket.upload_part(Some(&keys), object, 1, id).sign(LIMIT);
        client().put(url).body("a part").send().await.unwrap().error_for_status().unwrap();
    }

    fn endpoint(&self) -> String {
        match self {
            Self::Fake(fake) => fake.endpoint(),
            Self::Ceph(ceph) => ceph.endpoint(),
        }
    }

    fn signer(&self, bucket: &str) -> (Bucket, Credentials) {
        let endpoint = self.endpoint().parse().unwrap();
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), "us-east-1").unwrap();
        (bucket, Credentials::new("US", "our secret"))
    }
}

pub(crate) fn spaces(endpoint: &str, access: &str, secret: &str) -> Spaces {
    let keys = Keys { access_key: access.to_owned(), secret_key: secret.to_owned().into() };
    Spaces::new(endpoint, keys, client()).unwrap()
}

pub(crate) fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

/// A deadline that is only met when something is broken.
pub(crate) fn soon() -> Instant {
    Instant::now() + LIMIT
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    // Less than `soon`: what ends with the deadline has waited in vain.
    tokio::time::timeout(LIMIT / 2, future).await.expect("this should not have taken so long")
}

fn sum(text: &str) -> String {
    use base64::Engine;
    use md5::{Digest, Md5};
    base64::prelude::BASE64_STANDARD.encode(Md5::digest(text))
}

/// By name, what is where.
pub(crate) fn objects(fake: &Fake, bucket: &str) -> BTreeMap<String, Vec<u8>> {
    fake.snapshot().buckets.get(bucket).map(|bucket| bucket.objects.clone()).unwrap_or_default()
}
