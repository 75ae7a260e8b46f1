//! Who owns a bucket: two runs that begin at once on two machines must not both believe that they do.

use doks_harbor::spaces::OWNER;
use futures_util::future::join_all;

use crate::servers::{Server, soon};

pub(crate) async fn of_many_one_wins(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.create(&bucket, soon()).await.unwrap();
    for round in 0..10 {
        let name = format!("{OWNER}-{round}");
        let runs: Vec<_> = (0..8).map(|run| format!("run {run}")).collect();
        let won = join_all(runs.iter().map(|run| spaces.write_new(&bucket, &name, run.as_bytes()))).await;
        let won: Vec<_> = runs.iter().zip(won).filter(|(_, won)| *won.as_ref().unwrap()).map(|(run, _)| run.clone()).collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert_eq!(spaces.read(&bucket, &name).await.unwrap().unwrap(), won[0].as_bytes());
    }
}

pub(crate) async fn what_is_there_is_never_overwritten(server: &Server) {
    let (spaces, bucket) = (server.ours(), server.name());
    spaces.create(&bucket, soon()).await.unwrap();
    assert!(spaces.write_new(&bucket, OWNER, b"first").await.unwrap());
    assert!(!spaces.write_new(&bucket, OWNER, b"second").await.unwrap());
    assert!(spaces.write_new(&bucket, OWNER, b"first").await.unwrap(), "the owner comes back");
    assert_eq!(spaces.read(&bucket, OWNER).await.unwrap().unwrap(), b"first");
}
