//! The crate `redis`: RESP2 and RESP3, one connection shared by many tasks, pipelines, transactions, scripts, publish and subscribe.

use std::time::Duration;

use futures_util::{StreamExt, future};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisResult};
use tokio::time::timeout;

use super::servers::{Key, RedisLab, Way};

const SOON: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn visit(lab: &RedisLab, way: Way) -> Result<()> {
    let key = lab.key(way);
    for protocol in [ProtocolVersion::RESP2, ProtocolVersion::RESP3] {
        let prefix = format!("redis_rs:{way:?}:{protocol:?}");
        let client = client(&key, key.password, protocol)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        values(&mut connection, &prefix).await?;
        errors(&mut connection).await?;
        subscriptions(&client, &mut connection, &prefix).await?;
        let (blocking_client, prefix) = (client.clone(), format!("{prefix}:sync"));
        tokio::task::spawn_blocking(move || without_tasks(&blocking_client, &prefix)).await?.map_err(|error| error.to_string())?;
        let wrong = self::client(&key, Some("not this one"), protocol)?.get_multiplexed_async_connection().await;
        let error = wrong.err().ok_or("a wrong password was accepted")?;
        // Logging in by AUTH, the crate has a word of its own for a refusal; by HELLO it gives the server's.
        match protocol {
            ProtocolVersion::RESP2 => assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}"),
            _ => assert_eq!(error.code(), Some("WRONGPASS"), "{error}"),
        }
    }
    Ok(())
}

fn client(key: &Key, password: Option<&str>, protocol: ProtocolVersion) -> RedisResult<Client> {
    let mut login = RedisConnectionInfo::default().set_protocol(protocol);
    if let Some(password) = password {
        login = login.set_password(password);
    }
    Client::open(("127.0.0.1", key.port).into_connection_info()?.set_redis_settings(login))
}

async fn values(connection: &mut MultiplexedConnection, prefix: &str) -> Result<()> {
    let blob: Vec<u8> = (0..300_000_u32).map(|i| i.wrapping_mul(31).to_le_bytes()[1]).collect();
    let name = format!("{prefix}:blob");
    let () = connection.set(&name, &blob).await?;
    assert_eq!(connection.get::<_, Vec<u8>>(&name).await?, blob);
    assert_eq!(connection.get::<_, Option<String>>(format!("{prefix}:nothing")).await?, None);

    let tasks = (0..100).map(|i| {
        let (mut connection, name) = (connection.clone(), format!("{prefix}:{i}"));
        async move {
            let () = connection.set(&name, i).await?;
            connection.get::<_, i64>(&name).await
        }
    });
    let answers: RedisResult<Vec<i64>> = future::join_all(tasks).await.into_iter().collect();
    assert_eq!(answers?, (0..100).collect::<Vec<_>>());

    let mut pipe = redis::pipe();
    for i in 0..1000 {
        pipe.cmd("ECHO").arg(i);
    }
    assert_eq!(pipe.query_async::<Vec<i64>>(connection).await?, (0..1000).collect::<Vec<_>>());
    let counter = format!("{prefix}:counter");
    let mut atomic = redis::pipe();
    atomic.atomic().incr(&counter, 5).ignore().get(&counter);
    assert_eq!(atomic.query_async::<(i64,)>(connection).await?, (5,));
    Ok(())
}

async fn errors(connection: &mut MultiplexedConnection) -> Result<()> {
    let sha = "f".repeat(40);
    let error = redis::cmd("EVALSHA").arg(sha).arg(0).query_async::<()>(connection).await.unwrap_err();
    assert_eq!((error.code(), error.detail()), (Some("NOSCRIPT"), Some("No matching script. Please use EVAL.")));
    let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg("return ARGV[1]").query_async(connection).await?;
    assert_eq!(redis::cmd("EVALSHA").arg(sha).arg(0).arg("x\r\ny").query_async::<String>(connection).await?, "x\r\ny");
    Ok(())
}

async fn subscriptions(client: &Client, connection: &mut MultiplexedConnection, prefix: &str) -> Result<()> {
    let mut pubsub = client.get_async_pubsub().await?;
    let channel = format!("{prefix}:news");
    pubsub.subscribe(&channel).await?;
    assert_eq!(connection.publish::<_, _, i64>(&channel, "first").await?, 1);
    let message = timeout(SOON, pubsub.on_message().next()).await?.ok_or("the subscription ended")?;
    assert_eq!(message.get_payload::<String>()?, "first");
    pubsub.unsubscribe(&channel).await?;
    assert_eq!(connection.publish::<_, _, i64>(&channel, "nobody").await?, 0);
    Ok(())
}

/// The crate's other face: connections of one thread each.
fn without_tasks(client: &Client, prefix: &str) -> RedisResult<()> {
    let (mut one, mut two) = (client.get_connection()?, client.get_connection()?);
    for connection in [&one, &two] {
        connection.set_read_timeout(Some(SOON))?;
    }
    let (list, counter, channel) = (format!("{prefix}:list"), format!("{prefix}:counter"), format!("{prefix}:news"));
    let () = redis::Commands::set(&mut one, &counter, 1)?;
    assert_eq!(redis::pipe().incr(&counter, 1).incr(&counter, 1).query::<(i64, i64)>(&mut one)?, (2, 3));
    // WATCH, read, MULTI, EXEC; the first attempt is spoiled by somebody else.
    let mut attempts = 0;
    let (doubled,): (i64,) = redis::transaction(&mut one, &[&counter], |connection, pipe| {
        attempts += 1;
        let value: i64 = redis::Commands::get(connection, &counter)?;
        if attempts == 1 {
            let () = redis::Commands::incr(&mut two, &counter, 10)?;
        }
        pipe.cmd("SET").arg(&counter).arg(value * 2).ignore().get(&counter).query(connection)
    })?;
    assert_eq!((doubled, attempts), (26, 2));
    let () = redis::Commands::rpush(&mut one, &list, "job")?;
    assert_eq!(redis::Commands::blpop::<_, (String, String)>(&mut two, &list, 5.0)?.1, "job");

    let mut pubsub = two.as_pubsub();
    pubsub.subscribe(&channel)?;
    assert_eq!(redis::Commands::publish::<_, _, i64>(&mut one, &channel, "first")?, 1);
    assert_eq!(pubsub.get_message()?.get_payload::<String>()?, "first");
    pubsub.unsubscribe(&channel)?;
    drop(pubsub);
    assert_eq!(redis::Commands::get::<_, i64>(&mut two, &counter)?, 26);
    Ok(())
}
