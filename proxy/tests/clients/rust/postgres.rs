//! tokio-postgres: queries, binary values, pipelining, transactions, COPY, cancel, notifications, errors.

use std::time::Duration;

use futures_util::{SinkExt, TryStreamExt, future, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Error, IsolationLevel, NoTls};

use super::servers::{Key, PostgresLab, Way};

const SOON: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn visit(lab: &PostgresLab, way: Way) -> Result<()> {
    let key = lab.key(way);
    let (mut client, mut notices) = connect(&key, key.password).await?;
    let who = client.query_one("select current_user::text, current_database()::text, current_setting('application_name')", &[]).await?;
    assert_eq!((who.get(0), who.get(1), who.get(2)), ("app", "app", "a 'name' \\ of ours"));
    values(&client).await?;
    pipelines(&client).await?;
    errors(&client).await?;
    transactions(&mut client).await?;
    copies(&client).await?;

    let (other, _) = connect(&key, key.password).await?;
    cancels(&client, &other).await?;
    client.batch_execute("listen news").await?;
    other.execute("select pg_notify('news', 'first')", &[]).await?;
    let (channel, payload) = timeout(SOON, notices.recv()).await?.ok_or("the connection ended")?;
    assert_eq!((channel.as_str(), payload.as_str()), ("news", "first"));

    let wrong = connect(&key, Some("not this one")).await;
    match key.is_checked {
        true => assert_eq!(wrong.err().ok_or("a wrong password was accepted")?.code(), Some(&SqlState::INVALID_PASSWORD)),
        false => assert_eq!(one(&wrong?.0, "select 7").await?, 7),
    }
    Ok(())
}

/// A client, and what it is notified of.
async fn connect(key: &Key, password: Option<&str>) -> std::result::Result<(Client, mpsc::UnboundedReceiver<(String, String)>), Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(key.port).user(key.user).dbname("app").application_name("a 'name' \\ of ours");
    if let Some(password) = password {
        config.password(password);
    }
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let messages = stream::poll_fn(move |context| connection.poll_message(context));
    tokio::spawn(messages.try_for_each(move |message| {
        if let AsyncMessage::Notification(news) = message {
            let _ = sender.send((news.channel().to_owned(), news.payload().to_owned()));
        }
        future::ready(Ok(()))
    }));
    Ok((client, receiver))
}

async fn one(client: &Client, sql: &str) -> std::result::Result<i32, Error> {
    client.query_one(sql, &[]).await?.try_get(0)
}

/// 300 KB of every byte value.
fn blob() -> Vec<u8> {
    (0..300_000_u32).map(|i| i.wrapping_mul(31).to_le_bytes()[1]).collect()
}

async fn values(client: &Client) -> Result<()> {
    let row = client.query_one("select $1::int8, $2::text, $3::bytea, null::int4", &[&i64::MIN, &"häß\u{1F600}", &blob()]).await?;
    assert_eq!((row.get(0), row.get(1), row.get(3)), (i64::MIN, "häß\u{1F600}", None::<i32>));
    assert_eq!(row.get::<_, Vec<u8>>(2), blob());
    let rows = client.query("select i, repeat('x', i % 50) from generate_series(1, 20000) i", &[]).await?;
    assert_eq!(rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum::<i64>(), 200_010_000);
    let statement = client.prepare("select $1::int4 * 2").await?;
    for i in 0..100 {
        assert_eq!(client.query_one(&statement, &[&i]).await?.get::<_, i32>(0), i * 2);
    }
    Ok(())
}

async fn pipelines(client: &Client) -> Result<()> {
    let statement = client.prepare("select $1::int4, $2::bytea").await?;
    let payload = vec![7_u8; 20_000];
    let answers = (0..100_i32).map(|i| {
        let (statement, payload) = (&statement, &payload);
        async move { client.query_one(statement, &[&i, payload]).await.map(|row| (i, row.get::<_, i32>(0), row.get::<_, Vec<u8>>(1).len())) }
    });
    for answer in future::join_all(answers).await {
        let (asked, got, bytes) = answer?;
        assert_eq!((asked, 20_000), (got, bytes));
    }
    Ok(())
}

async fn errors(client: &Client) -> Result<()> {
    let error = client.query("select * from no_such_table", &[]).await.unwrap_err();
    let words = error.as_db_error().ok_or("no error of the server")?;
    assert_eq!((words.code(), words.message()), (&SqlState::UNDEFINED_TABLE, "relation \"no_such_table\" does not exist"));
    assert_eq!(one(client, "select 1").await?, 1);
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<()> {
    client.batch_execute("create temporary table t (i int)").await?;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
    transaction.execute("insert into t values (1)", &[]).await?;
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    transaction.execute("insert into t values (2)", &[]).await?;
    transaction.commit().await?;
    assert_eq!(one(client, "select sum(i)::int from t").await?, 2);
    Ok(())
}

async fn copies(client: &Client) -> Result<()> {
    client.batch_execute("create temporary table c (i int, text text)").await?;
    let sink = client.copy_in("copy c from stdin").await?;
    let mut sink = std::pin::pin!(sink);
    for i in 0..200 {
        let lines: String = (0..100).map(|j| format!("{}\t{}\n", i * 100 + j, "y".repeat(100))).collect();
        sink.feed(bytes::Bytes::from(lines)).await?;
    }
    assert_eq!(sink.finish().await?, 20_000);
    let out = client.copy_out("copy c to stdout").await?;
    let bytes = std::pin::pin!(out).try_fold(0, |sum, chunk| future::ready(Ok(sum + chunk.len()))).await?;
    let expected: usize = (0..20_000).map(|i: i32| i.to_string().len() + 102).sum();
    assert_eq!(bytes, expected);
    Ok(())
}

async fn cancels(client: &Client, other: &Client) -> Result<()> {
    let pid = one(client, "select pg_backend_pid()").await?;
    let token = client.cancel_token();
    let cancel = async {
        // A cancel that comes before its query is lost.
        let sleeping = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
        while other.query_opt(sleeping, &[&pid]).await?.is_none() {}
        token.cancel_query(NoTls).await
    };
    let (answer, sent) = timeout(SOON, future::join(client.query("select pg_sleep(30)", &[]), cancel)).await?;
    sent?;
    assert_eq!(answer.expect_err("pg_sleep came to its end").code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(one(client, "select 1").await?, 1);
    Ok(())
}
