//! Who may use shared connections: local passwords that stay local, logins that the server judges, guessers that get nowhere.
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

use lab::certs::write_private;
use lab::redis::Builder;
use lab::resp::encode;
use lab::{Redis, Resp, Value};
use modes::{CLIENT_PASSWORD, Client, Mode, UPSTREAM_PASSWORD};
use support::{Front, SOON, Trust, front};
use tokio::time::{Instant, timeout};

const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_AUTH: &str = "NOAUTH Authentication required.";

/// The tests of the two modes that share.
macro_rules! in_both_modes {
    ($($name:ident),+ $(,)?) => {
        mod session {
            $(#[tokio::test] async fn $name() { super::$name(super::Mode::Session).await; })+
        }
        mod multiplex {
            $(#[tokio::test] async fn $name() { super::$name(super::Mode::Multiplex).await; })+
        }
    };
}

in_both_modes!(
    the_server_judges_each_login_once,
    who_has_not_logged_in_costs_nothing,
    a_stranger_may_send_no_more_than_redis_takes_from_one,
    a_server_without_a_password_serves_anybody,
    hello_logs_in,
    a_password_changed_upstream_is_noticed,
    a_login_on_a_connection_of_its_own_stays_there,
    guessing_is_slow_and_ends,
    local_passwords_are_asked_for_again_after_reset,
    a_local_password_never_reaches_the_server,
    a_new_password_file_retires_what_the_old_one_opened,
);

/// A server, and a proxy in front of it.
struct Place {
    redis: Redis,
    front: Front,
    trust: Trust,
}

impl Place {
    /// The server wants a login, and the proxy has none.
    async fn judged(mode: Mode) -> Self {
        Self::with(mode, |redis| redis.password(UPSTREAM_PASSWORD).user("app", "app-pw"), "", &["--client-auth", "upstream"]).await
    }

    async fn with(mode: Mode, describe: impl FnOnce(Builder<'_>) -> Builder<'_>, login: &str, arguments: &[&str]) -> Self {
        let trust = Trust::new();
        let redis = describe(Redis::builder(&trust.authority)).start().await.unwrap();
        let url = format!("rediss://{login}localhost:{}", redis.port());
        // One worker: what one client has taught it holds for the next.
        let all = [&["--pool", mode.name(), "--workers", "1", "--pool-wait-timeout", "3s"], arguments].concat();
        let front = front(&url, &trust.ca, &all).await;
        Self { redis, front, trust }
    }

    /// Clients need [`CLIENT_PASSWORD`], and the proxy has the server's.
    async fn local(mode: Mode) -> Self {
        let trust = Trust::new();
        let redis = Redis::builder(&trust.authority).password(UPSTREAM_PASSWORD).start().await.unwrap();
        let (client, upstream) = (trust.path("client-password"), trust.path("upstream-password"));
        write_private(&client, CLIENT_PASSWORD).unwrap();
        write_private(&upstream, UPSTREAM_PASSWORD).unwrap();
        let url = format!("rediss://default@localhost:{}?password_file={}", redis.port(), upstream.display());
        let arguments = ["--pool", mode.name(), "--workers", "1", "--client-auth", "password", "--client-password-file"];
        let front = front(&url, &trust.ca, &[&arguments[..], &[client.to_str().unwrap()]].concat()).await;
        Self { redis, front, trust }
    }

    async fn client(&self) -> Client {
        Client::new(self.front.resp().await)
    }

    /// Connections that the server has seen, but for those of the tests.
    async fn handshakes(&self) -> f64 {
        self.front.metric("tls_handshakes_total", &[]).await
    }

    fn log(&self) -> String {
        self.front.proxy.stderr()
    }
}

async fn the_server_judges_each_login_once(mode: Mode) {
    let place = Place::judged(mode).await;
    let mut clients = Vec::new();
    for login in [&["AUTH", UPSTREAM_PASSWORD][..], &["AUTH", "app", "app-pw"]].repeat(4) {
        let mut client = place.client().await;
        assert_eq!(client.say(login).await, "OK", "{}", place.log());
        let who = client.say(&["ACL", "WHOAMI"]).await;
        assert_eq!(who, if login.len() == 2 { "default" } else { "app" }, "{}", place.log());
        clients.push(client);
    }
    let made = place.handshakes().await;
    if mode == Mode::Multiplex {
        assert!(made <= 4.0, "{made} connections for two logins");
    } else {
        assert_eq!(made, 8.0, "one for each client, and none only to ask");
    }
    // At the same time: one question.
    let mut asking: Vec<Client> = Vec::new();
    place.redis.admin(&["ACL", "SETUSER", "late", "on", ">late-pw", "+@all", "~*"]).await.unwrap();
    for _ in 0..8 {
        let mut client = place.client().await;
        client.send(&["AUTH", "late", "late-pw"]).await;
        asking.push(client);
    }
    for client in &mut asking {
        assert_eq!(client.read().await, Value::ok());
    }
    assert_eq!(place.handshakes().await, made + 1.0);
}

async fn who_has_not_logged_in_costs_nothing(mode: Mode) {
    let place = Place::judged(mode).await;
    let (mut first, mut second) = (place.client().await, place.client().await);
    for client in [&mut first, &mut second] {
        for command in
            [&["GET", "k"][..], &["SUBSCRIBE", "c"], &["MULTI"], &["BLPOP", "l", "0"], &["SELECT", "1"], &["CLIENT", "ID"]].repeat(5)
        {
            assert_eq!(client.say(command).await, NO_AUTH, "{command:?}");
        }
        assert!(client.say(&["HELLO", "3"]).await.starts_with("NOAUTH HELLO must be called"));
        assert_eq!(client.say(&["RESET"]).await, "RESET");
    }
    assert_eq!(place.handshakes().await, 1.0, "the server was asked once whether it wants a login\n{}", place.log());
    assert!(place.front.metric("refusals_total", &[("reason", "auth")]).await >= 60.0);
    assert_eq!(second.say(&["AUTH", "app", "app-pw"]).await, "OK");
    assert_eq!(second.say(&["SET", "k", "v"]).await, "OK");
    assert_eq!(first.say(&["QUIT"]).await, "OK");
    first.ends().await;
    // RESET takes the login away again.
    assert_eq!(second.say(&["RESET"]).await, "RESET");
    assert_eq!(second.say(&["GET", "k"]).await, NO_AUTH);
    assert_eq!(second.say(&["AUTH", "app", "app-pw"]).await, "OK");
    assert_eq!(second.say(&["GET", "k"]).await, "v");
}

async fn a_stranger_may_send_no_more_than_redis_takes_from_one(mode: Mode) {
    let place = Place::judged(mode).await;
    let many = vec!["x"; 11];
    let big = "x".repeat(16 * 1024 + 1);
    for (command, words) in [
        (encode(&many), "ERR Protocol error: unauthenticated multibulk length"),
        (encode(&["GET", &big]), "ERR Protocol error: unauthenticated bulk length"),
    ] {
        let mut others = place.client().await;
        assert_eq!(others.say(&["AUTH", "app", "app-pw"]).await, "OK");
        let mut client = place.client().await;
        client.raw(&command).await;
        assert_eq!(client.read().await.text(), words);
        client.ends().await;
        assert_eq!(others.say(&["PING"]).await, "PONG");
        // Who has logged in may send it.
        others.raw(&command).await;
        assert!(!others.read().await.text().contains("Protocol error"));
    }
}

async fn a_server_without_a_password_serves_anybody(mode: Mode) {
    let place = Place::with(mode, |redis| redis, "", &[]).await;
    // More than a stranger may send, as the very first word: who it is has to be found out first.
    let many: Vec<_> = ["MGET"].into_iter().chain(std::iter::repeat_n("k", 200)).collect();
    let (mut first, mut second) = (place.client().await, place.client().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&many).await, Value::Array(vec![Value::Null; 200]));
    }
    assert!(first.say(&["AUTH", "guess"]).await.starts_with("ERR AUTH <password> called without any password configured"));
    assert_eq!(first.say(&["AUTH", "nobody", "guess"]).await, WRONG);
    assert_eq!(first.say(&["SET", "k", "v"]).await, "OK", "a wrong login takes nothing away");
    assert_eq!(first.say(&["AUTH", "default", "anything"]).await, "OK");
    assert_eq!(first.say(&["GET", "k"]).await, "v");
    // From now on it wants one. Those who are on a connection of their own stay, as on a direct one; new ones are strangers.
    place.redis.admin(&["CONFIG", "SET", "requirepass", UPSTREAM_PASSWORD]).await.unwrap();
    assert_eq!(first.say(&["GET", "k"]).await, "v");
    let mut admin = Resp::new(tokio::net::UnixStream::connect(place.redis.dir().join("redis.sock")).await.unwrap());
    admin.command(&["AUTH", UPSTREAM_PASSWORD]).await.unwrap();
    assert!(!admin.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap().is_error());
    let deadline = Instant::now() + SOON;
    loop {
        let mut client = place.client().await;
        if client.try_ask(&["PING"]).await.is_ok_and(|reply| reply.text() == NO_AUTH) {
            assert_eq!(client.say(&["AUTH", UPSTREAM_PASSWORD]).await, "OK");
            assert_eq!(client.say(&["GET", "k"]).await, "v");
            break;
        }
        assert!(Instant::now() < deadline, "{}", place.log());
    }
}

async fn hello_logs_in(mode: Mode) {
    for place in [Place::judged(mode).await, Place::local(mode).await] {
        let (user, password) = if place.redis.password() == Some(UPSTREAM_PASSWORD) && place.trust.path("client-password").exists() {
            ("redis", CLIENT_PASSWORD)
        } else {
            ("app", "app-pw")
        };
        let mut client = place.client().await;
        for (hello, begins) in [
            (&["HELLO", "3", "AUTH", user, "guess"][..], "WRONGPASS"),
            (&["HELLO", "4", "AUTH", user, password], "NOPROTO"),
            (&["HELLO", "3", "AUTH", user], "ERR Syntax error in HELLO option 'AUTH'"),
            (&["GET", "k"], "NOAUTH"),
        ] {
            assert!(client.say(hello).await.starts_with(begins), "{hello:?}");
        }
        let reply = client.ask(&["HELLO", "3", "AUTH", user, password, "SETNAME", "worker"]).await;
        assert!(matches!(reply, Value::Map(_)), "{reply:?}");
        assert_eq!(client.say(&["CLIENT", "GETNAME"]).await, "worker");
        assert_eq!(client.ask(&["GET", "k"]).await, Value::Null);
        assert!(matches!(client.ask(&["HELLO", "2", "AUTH", user, password]).await, Value::Array(_)));
        assert_eq!(client.say(&["HELLO", "2", "AUTH", user, "guess"]).await, WRONG);
        assert_eq!(client.say(&["SET", "k", "v"]).await, "OK");
    }
}

async fn a_password_changed_upstream_is_noticed(mode: Mode) {
    let place = Place::judged(mode).await;
    let (mut inside, mut other) = (place.client().await, place.client().await);
    assert_eq!(inside.say(&["AUTH", "app", "app-pw"]).await, "OK");
    assert_eq!(inside.say(&["SET", "k", "v"]).await, "OK");
    assert_eq!(other.say(&["AUTH", UPSTREAM_PASSWORD]).await, "OK");
    place.redis.admin(&["ACL", "SETUSER", "app", "resetpass", ">new-pw"]).await.unwrap();
    // Within the half minute after the last verdict the next may still get in; after it nobody does.
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let answer = place.client().await.say(&["AUTH", "app", "app-pw"]).await;
        if answer == WRONG {
            break;
        }
        assert_eq!(answer, "OK");
        assert!(Instant::now() < deadline, "never noticed");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if mode == Mode::Multiplex {
        // Its lane has ended: it hears why, and is closed.
        assert_eq!(inside.say(&["GET", "k"]).await, WRONG, "{}", place.log());
        inside.ends().await;
    } else {
        assert_eq!(inside.say(&["GET", "k"]).await, "v", "a connection of its own, as a direct one");
    }
    assert_eq!(other.say(&["GET", "k"]).await, "v", "the others do not notice");
    let mut anew = place.client().await;
    assert_eq!(anew.say(&["AUTH", "app", "new-pw"]).await, "OK");
    assert_eq!(anew.say(&["GET", "k"]).await, "v");
}

async fn a_login_on_a_connection_of_its_own_stays_there(mode: Mode) {
    let place = Place::judged(mode).await;
    for login in [&["AUTH", "app", "app-pw"][..], &["HELLO", "2", "AUTH", "app", "app-pw"]] {
        for inside_multi in [false, true] {
            let mut client = place.client().await;
            assert_eq!(client.say(&["AUTH", UPSTREAM_PASSWORD]).await, "OK");
            assert_eq!(client.say(&["WATCH", "k"]).await, "OK");
            if inside_multi {
                assert_eq!(client.say(&["MULTI"]).await, "OK");
                assert_eq!(client.say(login).await, "QUEUED");
                assert!(matches!(client.ask(&["EXEC"]).await, Value::Array(_)));
            } else {
                assert!(!client.ask(login).await.is_error());
                assert_eq!(client.say(&["UNWATCH"]).await, "OK");
            }
            assert_eq!(client.say(&["ACL", "WHOAMI"]).await, "app");
            drop(client);
            // Whoever gets that connection next is who it says it is.
            for _ in 0..3 {
                let mut next = place.client().await;
                assert_eq!(next.say(&["AUTH", UPSTREAM_PASSWORD]).await, "OK");
                assert_eq!(next.say(&["WATCH", "k"]).await, "OK");
                assert_eq!(next.say(&["ACL", "WHOAMI"]).await, "default", "{login:?}");
            }
        }
    }
}

/// Guesses until the end, and how often that was refused.
async fn guess(mut client: Client, login: &[&str]) -> usize {
    let mut refused = 0;
    while let Ok(reply) = client.try_ask(login).await {
        assert_eq!(reply.text(), WRONG);
        refused += 1;
        assert!(refused <= 10, "no end of guessing");
    }
    refused
}

async fn guessing_is_slow_and_ends(mode: Mode) {
    let place = Place::judged(mode).await;
    let mut right = place.client().await;
    assert_eq!(right.say(&["AUTH", "app", "app-pw"]).await, "OK");
    let before = place.handshakes().await;
    let started = Instant::now();
    let guesser = place.client().await;
    assert_eq!(guess(guesser, &["AUTH", "app", "guess"]).await, 10);
    let lasted = started.elapsed();
    assert!(lasted >= Duration::from_millis(1900), "ten tries took {lasted:?}");
    assert_eq!(place.handshakes().await, before + 10.0);
    // Many guessers, each with another guess: all of them together are slow, and who is known does not wait behind them.
    let mut crowd = tokio::task::JoinSet::new();
    for guesser in 0..40 {
        let client = place.client().await;
        crowd.spawn(async move { guess(client, &["HELLO", "3", "AUTH", "app", &format!("guess-{guesser}")]).await });
    }
    let (before, started) = (place.handshakes().await, Instant::now());
    let mut slowest = Duration::ZERO;
    while started.elapsed() < Duration::from_millis(1500) {
        let asked = Instant::now();
        let mut client = place.client().await;
        assert_eq!(client.say(&["AUTH", "app", "app-pw"]).await, "OK");
        assert_eq!(client.say(&["PING"]).await, "PONG");
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await; // as clients come
    }
    let guesses = place.front.metric("refusals_total", &[("reason", "auth")]).await - 10.0;
    assert!(guesses <= 60.0, "{guesses} guesses were answered in {:?}", started.elapsed());
    assert!(slowest < Duration::from_secs(1), "who is known waited {slowest:?}");
    if mode == Mode::Multiplex {
        assert!(place.handshakes().await - before <= 60.0);
    }
    crowd.shutdown().await;
    let told = place.log().lines().filter(|line| line.contains("10 wrong passwords")).count();
    assert_eq!(told, 1, "{}", place.log());
}

async fn local_passwords_are_asked_for_again_after_reset(mode: Mode) {
    let place = Place::local(mode).await;
    let mut client = place.client().await;
    for login in [&["AUTH", CLIENT_PASSWORD][..], &["AUTH", "redis", CLIENT_PASSWORD], &["HELLO", "3", "AUTH", "anyone", CLIENT_PASSWORD]] {
        for pinned in [false, true] {
            assert_eq!(client.say(&["GET", "k"]).await, NO_AUTH);
            assert_eq!(client.say(&["AUTH", "guess"]).await, WRONG);
            assert!(!client.ask(login).await.is_error(), "{login:?}");
            assert_eq!(client.ask(&["DEL", "k"]).await, Value::Int(0));
            if pinned {
                assert_eq!(client.say(&["WATCH", "k"]).await, "OK");
            }
            // Again: right, and wrong, which takes nothing away.
            assert_eq!(client.say(&["AUTH", "other", CLIENT_PASSWORD]).await, "OK");
            assert_eq!(client.say(&["AUTH", UPSTREAM_PASSWORD]).await, WRONG);
            assert_eq!(client.say(&["HELLO", "2", "AUTH", "redis", "guess"]).await, WRONG);
            assert_eq!(client.ask(&["GET", "k"]).await, Value::Null);
            assert_eq!(client.say(&["RESET"]).await, "RESET");
            if client.say(&["PING"]).await != NO_AUTH {
                panic!("RESET must take the login away");
            }
        }
        client = place.client().await; // three wrong ones each: a client has ten
    }
}

async fn a_local_password_never_reaches_the_server(mode: Mode) {
    let place = Place::local(mode).await;
    let mut monitor = Resp::new(tokio::net::UnixStream::connect(place.redis.dir().join("redis.sock")).await.unwrap());
    monitor.command(&["AUTH", UPSTREAM_PASSWORD]).await.unwrap();
    assert_eq!(monitor.command(&["MONITOR"]).await.unwrap(), Value::ok());
    // MONITOR hides AUTH and HELLO from who watches; a name that the server does not know it counts.
    place.redis.admin(&["CONFIG", "RESETSTAT"]).await.unwrap();
    place.redis.admin(&["ACL", "LOG", "RESET"]).await.unwrap();
    let states: [&[&[&str]]; 4] = [&[], &[&["WATCH", "k"]], &[&["MULTI"]], &[&["SUBSCRIBE", "c"]]];
    let password = CLIENT_PASSWORD;
    let long = ["HELLO", "3", "AUTH", "u", password, "SETNAME", "a", "SETNAME", "b", "SETNAME", "c", "SETNAME", "d"];
    let logins: [&[&str]; 10] = [
        &["AUTH", password],
        &["AUTH", "u", password],
        &["AUTH", "u", "v", password],
        &["HELLO", "2", "AUTH", "u", password],
        &["HELLO", "4", "AUTH", "u", password],
        &["HELLO", "x", "AUTH", "u", password],
        &["HELLO", "2", "NONSENSE", "AUTH", "u", password],
        &["HELLO", "2", "SETNAME", "not a name", "AUTH", "u", password],
        &["HELLO", "2", "AUTH", "u", password, "NONSENSE"],
        &long,
    ];
    for state in states {
        for login in logins {
            let mut client = place.client().await;
            assert_eq!(client.say(&["AUTH", password]).await, "OK");
            client.ask(&["GET", "k"]).await;
            for command in state {
                client.ask(command).await;
            }
            // As an array, and as a line; whatever it is answered.
            client.send(login).await;
            let line = login.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() });
            client.raw(format!("{}\r\n", line.collect::<Vec<_>>().join(" ")).as_bytes()).await;
            client.raw(&encode(&["QUIT"])).await;
            client.rest().await;
        }
    }
    // A refused AUTH or HELLO AUTH is in the log of the ACL, with the name of its user.
    let denied = place.redis.admin(&["ACL", "LOG"]).await.unwrap();
    assert_eq!(denied, Value::Array(vec![]), "the server has seen a login of a client's");
    let stats = place.redis.admin(&["INFO", "commandstats"]).await.unwrap().text();
    for line in stats.lines().filter(|line| line.starts_with("cmdstat_auth") || line.starts_with("cmdstat_hello")) {
        // Some are rejected, because a subscriber may not say HELLO; all without a password.
        assert!(line.contains("failed_calls=0"), "{line}");
    }
    place.redis.admin(&["ECHO", "the-end"]).await.unwrap();
    loop {
        let seen = timeout(SOON, monitor.read()).await.unwrap().unwrap().text();
        assert!(!seen.contains(password), "{seen}");
        if seen.contains("the-end") {
            break;
        }
    }
}

async fn a_new_password_file_retires_what_the_old_one_opened(mode: Mode) {
    let place = Place::local(mode).await;
    let mut client = place.client().await;
    assert_eq!(client.say(&["AUTH", CLIENT_PASSWORD]).await, "OK");
    assert_eq!(client.say(&["SET", "k", "v"]).await, "OK");
    let ids = async || {
        let list = place.redis.admin(&["CLIENT", "LIST"]).await.unwrap().text();
        let ours = list.lines().filter(|line| !line.contains("redis.sock")).map(str::to_owned);
        ours.map(|line| line["id=".len()..].split(' ').next().unwrap().parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let old = ids().await;
    assert!(!old.is_empty());
    place.redis.admin(&["ACL", "SETUSER", "default", ">Another-s3cret-99"]).await.unwrap();
    write_private(&place.trust.path("upstream-password"), "Another-s3cret-99").unwrap();
    place.front.wait("reloads_total", &[("result", "ok")], |reloads| reloads >= 1.0).await;
    if mode == Mode::Session {
        assert_eq!(client.say(&["GET", "k"]).await, "v", "a connection of its own stays until it is given back");
        client = place.client().await;
        assert_eq!(client.say(&["AUTH", CLIENT_PASSWORD]).await, "OK");
    }
    // The lane is replaced under the client's feet.
    let deadline = Instant::now() + SOON;
    while ids().await.iter().any(|id| old.contains(id)) {
        assert_eq!(client.say(&["GET", "k"]).await, "v", "{}", place.log());
        assert!(Instant::now() < deadline, "what the old password opened lives on");
        tokio::time::sleep(Duration::from_millis(20)).await; // between two looks at the server
    }
    assert_eq!(client.say(&["GET", "k"]).await, "v");
    assert_eq!(place.front.metric("errors_total", &[]).await, 0.0, "{}", place.log());
}
