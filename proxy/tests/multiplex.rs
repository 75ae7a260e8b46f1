//! Clients that share upstream connections see what they would see on a connection of their own: order, state, errors, and no delay by others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod modes;
mod support;

use std::time::Duration;

use lab::{Resp, Value};
use modes::{Bed, Client, Mode};
use support::{SOON, reset_on_close};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

modes::in_every_mode!(
    order_is_kept_across_every_switch,
    a_watch_is_its_clients_alone,
    a_watch_does_not_outlive_its_client,
    a_transaction_in_pieces_disturbs_nobody,
    an_unfinished_transaction_never_happens,
    databases_are_each_clients_own,
    both_protocols_at_the_same_time,
    names_are_each_clients_own,
    quit_comes_after_everything_before_it,
    protocol_errors_are_the_servers_own,
    errors_come_word_by_word,
    a_subscriber_of_resp2_may_do_little_else,
    a_subscriber_of_resp3_may_do_everything,
    reset_ends_every_state,
    wait_is_answered,
    replies_can_be_turned_off,
    a_tracking_client_is_told,
    the_connection_has_one_number,
    a_script_can_be_killed,
    a_client_that_closes_its_half_is_answered,
    a_refused_transaction_leaves_nothing_behind,
    a_reset_that_is_none_changes_nothing,
    what_no_reset_takes_away_is_nobody_elses;
    pooled: replication_is_refused
);

/// What a bulk string is in a reply.
fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

async fn three(bed: &Bed) -> (Client, Client, Client) {
    (bed.resp().await, bed.resp().await, bed.resp().await)
}

async fn order_is_kept_across_every_switch(mode: Mode) {
    const ROUNDS: i64 = 10; // a pop that waits in vain takes the server 100 ms
    let bed = Bed::start(mode).await;
    let mut client = bed.resp().await;
    let mut pipeline = Vec::new();
    let round: [&[&str]; 15] = [
        &["INCR", "n"],
        &["BLPOP", "nothing", "0.001"],
        &["INCR", "n"],
        &["WATCH", "n"],
        &["MULTI"],
        &["INCR", "n"],
        &["EXEC"],
        &["SELECT", "1"],
        &["INCR", "n"],
        &["SELECT", "0"],
        &["RPUSH", "l", "x"],
        &["BLPOP", "l", "0"],
        &["SUBSCRIBE", "ch"],
        &["UNSUBSCRIBE", "ch"],
        &["INCR", "n"],
    ];
    for command in std::iter::repeat_n(round, usize::try_from(ROUNDS).unwrap()).flatten() {
        pipeline.extend(lab::resp::encode(command));
    }
    client.raw(&pipeline).await;
    for i in 0..ROUNDS {
        let n = 4 * i;
        let (ok, subscribed) = (Value::ok, |verb, count| Value::Array(vec![bulk(verb), bulk("ch"), Value::Int(count)]));
        let wanted = [
            Value::Int(n + 1),
            Value::Null,
            Value::Int(n + 2),
            ok(),
            ok(),
            Value::Simple("QUEUED".into()),
            Value::Array(vec![Value::Int(n + 3)]),
            ok(),
            Value::Int(i + 1),
            ok(),
            Value::Int(1),
            Value::Array(vec![bulk("l"), bulk("x")]),
            subscribed("subscribe", 1),
            subscribed("unsubscribe", 0),
            Value::Int(n + 4),
        ];
        for (wanted, command) in wanted.into_iter().zip(round) {
            assert_eq!(client.read().await, wanted, "round {i}: {command:?}");
        }
    }
}

async fn a_watch_is_its_clients_alone(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut watcher, mut other, mut third) = three(&bed).await;
    other.ask(&["SET", "k", "1"]).await;
    assert_eq!(watcher.say(&["WATCH", "k"]).await, "OK");
    assert_eq!(third.say(&["WATCH", "another"]).await, "OK");
    assert_eq!(other.say(&["SET", "k", "2"]).await, "OK");
    for (client, wanted) in [(&mut watcher, Value::Null), (&mut third, Value::Array(vec![Value::ok()]))] {
        assert_eq!(client.say(&["MULTI"]).await, "OK");
        assert_eq!(client.say(&["SET", "done", "x"]).await, "QUEUED");
        assert_eq!(client.ask(&["EXEC"]).await, wanted);
    }
    // With EXEC the watch is over.
    other.ask(&["SET", "k", "3"]).await;
    assert_eq!(watcher.say(&["MULTI"]).await, "OK");
    assert_eq!(watcher.ask(&["EXEC"]).await, Value::Array(vec![]));
}

async fn a_watch_does_not_outlive_its_client(mode: Mode) {
    let bed = Bed::start(mode).await;
    for round in 0..10 {
        let mut watcher = bed.resp().await;
        assert_eq!(watcher.say(&["WATCH", "k"]).await, "OK");
        drop(watcher);
        let (mut other, mut next) = (bed.resp().await, bed.resp().await);
        other.ask(&["SET", "k", "1"]).await;
        // WATCH, so that it is pinned too, and perhaps to the very connection.
        assert_eq!(next.say(&["WATCH", "unrelated"]).await, "OK");
        assert_eq!(next.say(&["MULTI"]).await, "OK");
        assert_eq!(next.ask(&["EXEC"]).await, Value::Array(vec![]), "round {round}");
    }
}

async fn a_transaction_in_pieces_disturbs_nobody(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut slow, mut other, mut second) = three(&bed).await;
    for client in [&mut slow, &mut second] {
        assert_eq!(client.say(&["MULTI"]).await, "OK");
        assert_eq!(client.say(&["INCR", "n"]).await, "QUEUED");
    }
    assert_eq!(other.ask(&["GET", "n"]).await, Value::Null);
    assert_eq!(other.say(&["SET", "n", "10"]).await, "OK");
    assert_eq!(slow.ask(&["EXEC"]).await, Value::Array(vec![Value::Int(11)]));
    assert_eq!(second.say(&["DISCARD"]).await, "OK");
    assert_eq!(other.say(&["GET", "n"]).await, "11");
    assert_eq!(slow.say(&["EXEC"]).await, "ERR EXEC without MULTI");
}

async fn an_unfinished_transaction_never_happens(mode: Mode) {
    let bed = Bed::start(mode).await;
    let whole: Vec<_> = [&["MULTI"][..], &["SET", "k", "1"], &["EXEC"]].iter().flat_map(|command| lab::resp::encode(command)).collect();
    for cut in 1..whole.len() {
        let mut client = bed.resp().await;
        client.raw(&whole[..cut]).await;
        if cut % 2 == 0 {
            reset_on_close(client.stream());
        }
    }
    let mut other = bed.resp().await;
    assert_eq!(other.say(&["SET", "marker", "1"]).await, "OK");
    // One that is complete, as the control.
    assert_eq!(other.ask(&["GET", "k"]).await, Value::Null);
    other.raw(&whole).await;
    for wanted in [Value::ok(), Value::Simple("QUEUED".into()), Value::Array(vec![Value::ok()])] {
        assert_eq!(other.read().await, wanted);
    }
}

async fn databases_are_each_clients_own(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut clients = Vec::new();
    for database in 0..8 {
        let mut client = bed.resp().await;
        assert_eq!(client.say(&["SELECT", &database.to_string()]).await, "OK");
        assert_eq!(client.say(&["SET", "k", &database.to_string()]).await, "OK");
        clients.push(client);
    }
    for (database, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.say(&["GET", "k"]).await, database.to_string());
        // Pinned, in its own database too.
        assert_eq!(client.say(&["WATCH", "k"]).await, "OK");
        assert_eq!(client.say(&["GET", "k"]).await, database.to_string());
        assert_eq!(client.say(&["UNWATCH"]).await, "OK");
        assert_eq!(client.say(&["SELECT", "16"]).await, "ERR DB index is out of range");
        assert_eq!(client.say(&["GET", "k"]).await, database.to_string());
    }
    assert_eq!(bed.resp().await.say(&["GET", "k"]).await, "0", "a new client begins in database 0");
}

async fn both_protocols_at_the_same_time(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut two, mut three, mut other) = three(&bed).await;
    assert!(matches!(three.ask(&["HELLO", "3"]).await, Value::Map(_)));
    assert!(matches!(other.ask(&["HELLO", "2"]).await, Value::Array(_)));
    for _ in 0..20 {
        assert!(!three.ask(&["HSET", "h", "f", "v"]).await.is_error());
        assert_eq!(two.ask(&["HGETALL", "h"]).await, Value::Array(vec![bulk("f"), bulk("v")]));
        assert_eq!(three.ask(&["HGETALL", "h"]).await, Value::Map(vec![bulk("f"), bulk("v")]));
        assert_eq!(other.ask(&["HGETALL", "h"]).await, Value::Array(vec![bulk("f"), bulk("v")]));
    }
    assert!(matches!(three.ask(&["HELLO", "2"]).await, Value::Array(_)));
    assert_eq!(three.ask(&["HGETALL", "h"]).await, Value::Array(vec![bulk("f"), bulk("v")]));
    assert_eq!(three.say(&["HELLO", "4"]).await, "NOPROTO unsupported protocol version");
}

async fn names_are_each_clients_own(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut one, mut two, mut nameless) = three(&bed).await;
    assert_eq!(one.say(&["CLIENT", "SETNAME", "one"]).await, "OK");
    assert!(matches!(two.ask(&["HELLO", "3", "SETNAME", "two"]).await, Value::Map(_)));
    for _ in 0..3 {
        assert_eq!(one.say(&["CLIENT", "GETNAME"]).await, "one");
        assert_eq!(two.say(&["CLIENT", "GETNAME"]).await, "two");
        assert_eq!(nameless.ask(&["CLIENT", "GETNAME"]).await, Value::Null);
        // A pin in between changes nothing.
        assert_eq!(one.ask(&["BLPOP", "nothing", "0.001"]).await, Value::Null);
    }
    let refusal = "ERR Client names cannot contain spaces, newlines or special characters.";
    assert_eq!(one.say(&["CLIENT", "SETNAME", "not a name"]).await, refusal);
    assert_eq!(one.say(&["CLIENT", "GETNAME"]).await, "one");
    assert_eq!(one.say(&["CLIENT", "SETNAME", ""]).await, "OK");
    assert_eq!(one.ask(&["CLIENT", "GETNAME"]).await, Value::Null);
}

async fn quit_comes_after_everything_before_it(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut client = bed.resp().await;
    let mut pipeline = Vec::new();
    (0..500).for_each(|i| pipeline.extend(lab::resp::encode(&["ECHO", &i.to_string()])));
    pipeline.extend(lab::resp::encode(&["BLPOP", "nothing", "0.05"]));
    pipeline.extend(lab::resp::encode(&["QUIT"]));
    client.raw(&pipeline).await;
    for i in 0..500 {
        assert_eq!(client.read().await.text(), i.to_string());
    }
    assert_eq!(client.read().await, Value::Null);
    assert_eq!(client.read().await, Value::ok());
    client.ends().await;
}

/// Everything that comes, to the end.
async fn whole(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    let read = timeout(SOON, client.stream().read_to_end(&mut bytes)).await.expect("it is not closed");
    // A reset behind the words is an end as well: the peer did not read everything.
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn protocol_errors_are_the_servers_own(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mistakes = [
        "*1\r\nfoo\r\n",
        "*x\r\n",
        "*2147483648\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$x\r\n",
        "*1\r\n$536870913\r\n",
        "*2\r\n$3\r\nGET\r\n:1\r\n",
        "SET \"k\r\n",
        "SET 'k'x v\r\n",
        "PING\r\n*1\r\n%1\r\n",
        "MULTI\r\nPING\r\n*1\r\n+\r\n",
        "HELLO 3\r\nSUBSCRIBE ch\r\n*1\r\n+\r\n",
    ];
    let without_id = |text: String| text.split("\r\n").filter(|line| !line.starts_with(':')).collect::<Vec<_>>().join("\r\n");
    for mistake in mistakes.map(String::from).into_iter().chain(["x".repeat(70_000), format!("*{}", "1".repeat(70_000))]) {
        let (mut direct, mut client) = (bed.past().await, bed.resp().await);
        direct.raw(mistake.as_bytes()).await;
        client.raw(mistake.as_bytes()).await;
        let wanted = without_id(whole(&mut direct).await);
        assert!(wanted.contains("-ERR Protocol error") || mistake.len() > 70_000, "{mistake:?}: {wanted:?}");
        assert_eq!(without_id(whole(&mut client).await), wanted, "{:?}", mistake.get(..40.min(mistake.len())));
    }
}

async fn errors_come_word_by_word(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut direct, mut client) = (bed.past().await, bed.resp().await);
    let commands: [&[&str]; 14] = [
        &["EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "0"],
        &["EVALSHA", "short", "0"],
        &["EVAL", "return redis.call('nosuch')", "0"],
        &["EVAL", "return", "x"],
        &["EVAL", "syntax error", "0"],
        &["NOSUCH", "a", "b\r\nc"],
        &["nosuch"],
        &["GET"],
        &["SET", "k", "v", "EX", "-1"],
        &["CLIENT", "NOSUCH"],
        &["OBJECT"],
        &["SELECT", "minus"],
        &["HELLO", "x"],
        &["XREAD", "BLOCK", "1"],
    ];
    for command in commands {
        let (wanted, got) = (direct.ask(command).await, client.ask(command).await);
        assert!(wanted.is_error(), "{command:?}: {wanted:?}");
        assert_eq!(got, wanted, "{command:?}");
    }
    assert_eq!(client.say(&["PING"]).await, "PONG");
}

async fn a_subscriber_of_resp2_may_do_little_else(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut subscriber, mut other, mut direct) = (bed.resp().await, bed.resp().await, bed.past().await);
    let subscribed = Value::Array(vec![bulk("subscribe"), bulk("ch"), Value::Int(1)]);
    assert_eq!(subscriber.ask(&["SUBSCRIBE", "ch"]).await, subscribed);
    assert!(!direct.ask(&["SUBSCRIBE", "other"]).await.is_error());
    for command in
        [&["GET", "k"][..], &["SET", "k", "v"], &["SELECT", "1"], &["CLIENT", "SETNAME", "x"], &["MULTI"], &["NOSUCH"], &["HELLO", "3"]]
    {
        let (wanted, got) = (direct.ask(command).await, subscriber.ask(command).await);
        assert!(wanted.is_error(), "{command:?}: {wanted:?}");
        assert_eq!(got, wanted, "{command:?}");
    }
    assert_eq!(other.ask(&["PUBLISH", "ch", "one"]).await, Value::Int(1));
    assert_eq!(subscriber.ask(&["PING"]).await, Value::Array(vec![bulk("message"), bulk("ch"), bulk("one")]));
    assert_eq!(subscriber.read().await, Value::Array(vec![bulk("pong"), bulk("")]));
    assert_eq!(subscriber.ask(&["UNSUBSCRIBE"]).await, Value::Array(vec![bulk("unsubscribe"), bulk("ch"), Value::Int(0)]));
    assert_eq!(other.ask(&["PUBLISH", "ch", "two"]).await, Value::Int(0));
    assert_eq!(subscriber.ask(&["GET", "k"]).await, Value::Null);
    assert_eq!(subscriber.say(&["QUIT"]).await, "OK");
    subscriber.ends().await;
}

async fn a_subscriber_of_resp3_may_do_everything(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut subscriber, mut other) = (bed.resp().await, bed.resp().await);
    subscriber.ask(&["HELLO", "3"]).await;
    assert_eq!(subscriber.ask(&["SUBSCRIBE", "ch"]).await, Value::Push(vec![bulk("subscribe"), bulk("ch"), Value::Int(1)]));
    for i in 0..20_i64 {
        assert_eq!(subscriber.ask(&["INCR", "n"]).await, Value::Int(i + 1));
        assert_eq!(other.ask(&["PUBLISH", "ch", &i.to_string()]).await, Value::Int(1));
        assert_eq!(subscriber.read().await, Value::Push(vec![bulk("message"), bulk("ch"), bulk(&i.to_string())]));
    }
}

async fn reset_ends_every_state(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut client, mut other) = (bed.resp().await, bed.resp().await);
    other.ask(&["SET", "k", "zero"]).await;
    let states: [&[&[&str]]; 7] = [
        &[&["SELECT", "3"]],
        &[&["HELLO", "3"]],
        &[&["MULTI"], &["SET", "k", "never"]],
        &[&["WATCH", "k"]],
        &[&["SUBSCRIBE", "ch"]],
        &[&["CLIENT", "SETNAME", "me"]],
        &[&["HELLO", "3"], &["SELECT", "2"], &["CLIENT", "TRACKING", "ON"], &["GET", "k"]],
    ];
    for state in states {
        for command in state {
            assert!(!client.ask(command).await.is_error(), "{command:?}");
        }
        assert_eq!(client.ask(&["RESET"]).await, Value::Simple("RESET".into()), "{state:?}");
        assert_eq!(client.ask(&["HGETALL", "nothing"]).await, Value::Array(vec![]), "{state:?}");
        assert_eq!(client.ask(&["CLIENT", "GETNAME"]).await, Value::Null, "{state:?}");
        assert_eq!(client.say(&["GET", "k"]).await, "zero", "{state:?}");
        other.ask(&["SET", "k", "zero"]).await;
        assert_eq!(other.ask(&["PUBLISH", "ch", "x"]).await, Value::Int(0), "{state:?}");
        assert_eq!(client.say(&["MULTI"]).await, "OK", "{state:?}");
        assert_eq!(client.ask(&["EXEC"]).await, Value::Array(vec![]), "{state:?}");
    }
}

async fn wait_is_answered(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut client = bed.resp().await;
    assert_eq!(client.ask(&["WAIT", "0", "0"]).await, Value::Int(0));
    assert_eq!(client.say(&["SET", "k", "v"]).await, "OK");
    assert_eq!(client.ask(&["WAIT", "0", "100"]).await, Value::Int(0));
    let started = Instant::now();
    assert_eq!(client.ask(&["WAIT", "1", "200"]).await, Value::Int(0));
    assert!(started.elapsed() >= Duration::from_millis(150), "nobody waited: {:?}", started.elapsed());
}

async fn replies_can_be_turned_off(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut client, mut other) = (bed.resp().await, bed.resp().await);
    client.send(&["CLIENT", "REPLY", "SKIP"]).await;
    client.send(&["SET", "k", "1"]).await;
    assert_eq!(client.say(&["ECHO", "one"]).await, "one");
    client.send(&["CLIENT", "REPLY", "OFF"]).await;
    client.send(&["SET", "k", "2"]).await;
    assert_eq!(client.say(&["CLIENT", "REPLY", "ON"]).await, "OK");
    assert_eq!(client.say(&["GET", "k"]).await, "2");
    assert_eq!(other.say(&["GET", "k"]).await, "2");
}

async fn a_tracking_client_is_told(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut client, mut other) = (bed.resp().await, bed.resp().await);
    client.ask(&["HELLO", "3"]).await;
    assert_eq!(client.say(&["CLIENT", "TRACKING", "ON"]).await, "OK");
    assert_eq!(client.ask(&["GET", "k"]).await, Value::Null);
    assert_eq!(other.say(&["SET", "k", "1"]).await, "OK");
    assert_eq!(client.read().await, Value::Push(vec![bulk("invalidate"), Value::Array(vec![bulk("k")])]));
    assert_eq!(client.say(&["GET", "k"]).await, "1");
}

async fn the_connection_has_one_number(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut one, mut two) = (bed.resp().await, bed.resp().await);
    let (first, second) = (one.ask(&["CLIENT", "ID"]).await, two.ask(&["CLIENT", "ID"]).await);
    assert!(matches!(first, Value::Int(_)) && first != second, "{first:?} {second:?}");
    one.ask(&["SET", "k", "v"]).await;
    assert_eq!(one.ask(&["CLIENT", "ID"]).await, first);
    // Which is what unblocking by number needs.
    let Value::Int(id) = first else { unreachable!() };
    one.send(&["BLPOP", "nothing", "0"]).await;
    bed.wait_blocked(1.0).await;
    assert_eq!(two.ask(&["CLIENT", "UNBLOCK", &id.to_string()]).await, Value::Int(1));
    assert_eq!(one.read().await, Value::Null);
}

async fn a_script_can_be_killed(mode: Mode) {
    let bed = Bed::with(mode, |redis| redis.line("lua-time-limit 20"), &[]).await;
    let (mut busy, mut other) = (bed.resp().await, bed.resp().await);
    other.ask(&["PING"]).await;
    busy.send(&["EVAL", "while true do end", "0"]).await;
    let deadline = Instant::now() + SOON;
    // NOTBUSY until it runs, and then it has to get past it.
    while other.say(&["SCRIPT", "KILL"]).await != "OK" {
        assert!(Instant::now() < deadline, "the script is never seen to run");
    }
    let ended = busy.read().await;
    assert!(ended.is_error() && ended.text().contains("Script killed by user"), "{ended:?}");
    assert_eq!(busy.say(&["PING"]).await, "PONG");
    assert_eq!(other.say(&["PING"]).await, "PONG");
}

/// `printf 'PING\r\n' | nc`
async fn a_client_that_closes_its_half_is_answered(mode: Mode) {
    let bed = Bed::start(mode).await;
    for requests in ["PING\r\n", "PING\r\nSET k v\r\nGET k\r\n", "MULTI\r\nPING\r\nEXEC\r\n"] {
        let (mut direct, mut client) = (bed.past().await, bed.resp().await);
        let mut heard = Vec::new();
        for client in [&mut direct, &mut client] {
            client.raw(requests.as_bytes()).await;
            client.stream().shutdown().await.unwrap();
            heard.push(whole(client).await);
        }
        assert!(!heard[0].is_empty());
        assert_eq!(heard[1], heard[0], "{requests:?}");
    }
}

async fn replication_is_refused(mode: Mode) {
    let bed = Bed::start(mode).await;
    for command in [&["SYNC"][..], &["PSYNC", "?", "-1"], &["REPLCONF", "capa", "eof"]] {
        let mut client: Resp<_> = Resp::connect(bed.address()).await.unwrap();
        let refused = timeout(SOON, client.command(command)).await.expect("no reply").unwrap();
        assert!(refused.is_error(), "{command:?}: {refused:?}");
    }
    assert_eq!(bed.redis.info("connected_slaves").await.unwrap(), 0.0);
    assert_eq!(bed.redis.info("sync_full").await.unwrap(), 0.0);
    assert_eq!(bed.resp().await.say(&["PING"]).await, "PONG");
}

/// Each in one write, as a pipelining client sends it; what the server makes of it must not reach the others.
async fn a_refused_transaction_leaves_nothing_behind(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (_, mut other, mut third) = three(&bed).await;
    for lines in [
        &["MULTI", "GET k", "DISCARD x"][..],
        &["MULTI", "GET k", "EXEC x"],
        &["MULTI x", "BLPOP none 0", "EXEC"],
        &["MULTI x", "WATCH k", "EXEC"],
        &["MULTI", "WAIT 1 0", "EXEC"],
        &["MULTI x", "WAIT 1 0", "EXEC"],
        &["MULTI", "MULTI", "EXEC"],
    ] {
        let mut broken = bed.resp().await;
        broken.raw((lines.join("\r\n") + "\r\n").as_bytes()).await;
        broken.read().await;
        assert_eq!(other.ask(&["SET", "k", "v1"]).await, Value::ok(), "{lines:?}");
        assert_eq!(third.ask(&["GET", "k"]).await, bulk("v1"), "{lines:?}");
        other.raw(b"MULTI\r\nSET k v2\r\nEXEC\r\n").await;
        assert_eq!(other.read().await, Value::ok(), "{lines:?}");
        assert_eq!(other.read().await.text(), "QUEUED", "{lines:?}");
        assert_eq!(other.read().await, Value::Array(vec![Value::ok()]), "{lines:?}");
    }
}

async fn a_reset_that_is_none_changes_nothing(mode: Mode) {
    let bed = Bed::start(mode).await;
    let mut client = bed.resp().await;
    assert_eq!(client.ask(&["SELECT", "3"]).await, Value::ok());
    assert!(client.ask(&["RESET", "now"]).await.is_error());
    assert_eq!(client.ask(&["SET", "where", "three"]).await, Value::ok());
    assert_eq!(client.ask(&["SELECT", "0"]).await, Value::ok());
    assert_eq!(client.ask(&["EXISTS", "where"]).await, Value::Int(0));
}

async fn what_no_reset_takes_away_is_nobody_elses(mode: Mode) {
    let bed = Bed::start(mode).await;
    let (mut first, mut second, _) = three(&bed).await;
    for _ in 0..3 {
        assert_eq!(first.ask(&["SCRIPT", "DEBUG", "YES"]).await, Value::ok());
        assert_eq!(first.say(&["RESET"]).await, "RESET");
        assert_eq!(second.ask(&["EVAL", "return 1+1", "0"]).await, Value::Int(2));
        let mut third = bed.resp().await;
        assert!(!third.ask(&["BLPOP", "none", "0.01"]).await.is_error());
    }
}
