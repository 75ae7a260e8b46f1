//! The end of a bucket, with everything that can hide in one.

use doks_harbor::spaces::{Emptied, Found};
use futures_util::StreamExt;
use futures_util::stream::iter;

use crate::servers::{Server, soon};

pub(crate) async fn everything_goes(server: &Server) {
    let (spaces, bucket) = (&server.ours(), &server.name());
    spaces.create(bucket, soon()).await.unwrap();
    let write = async |name: String| spaces.write(bucket, &name, b"12345").await.unwrap();
    // More than one page.
    iter(0..1090).map(|n| write(format!("blobs/{n:04}/a b+c%2F"))).buffer_unordered(16).count().await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    server.put_document(bucket, "versioning", enabled).await;
    // Ten more versions of ten that are there, and marks on five of them.
    iter(0..10).map(|n| write(format!("blobs/{n:04}/a b+c%2F"))).buffer_unordered(16).count().await;
    for n in 0..5 {
        spaces.delete(bucket, &format!("blobs/{n:04}/a b+c%2F")).await.unwrap();
    }
    // What XML cannot carry has to be deleted by itself.
    write("bell\u{7}".to_owned()).await;
    for n in 0..3 {
        server.begin_upload(bucket, &format!("uploads/{n} +%")).await;
    }

    let contents = spaces.contents(bucket).await.unwrap();
    assert_eq!((contents.objects, contents.bytes, contents.more), (1086, 5 * 1086, false));
    let mut told = Vec::new();
    let emptied = spaces.empty(bucket, |so_far| told.push(so_far)).await.unwrap();
    assert_eq!(emptied, Emptied { objects: 1106, uploads: 3 });
    assert!(told.len() >= 2 && told.is_sorted_by_key(|so_far| so_far.objects), "{told:?}");
    assert_eq!(told.last(), Some(&emptied));

    assert_eq!(spaces.contents(bucket).await.unwrap().objects, 0);
    assert_eq!(spaces.empty(bucket, |_| panic!("there is nothing left")).await.unwrap(), Emptied::default());
    spaces.delete_bucket(bucket).await.unwrap();
    assert_eq!(spaces.find(bucket).await.unwrap(), Found::Missing);
}
