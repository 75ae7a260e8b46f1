//! Configuration from the outside: files with their exact messages, precedence, the command line, the example, and that no password is
//! ever shown. Nothing here needs a network; fixed ports appear in texts only and are not bound.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests say what they expect, like the tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis_tls_proxy::cli::{self, Command, Exit};
use redis_tls_proxy::config::settings::Key;
use redis_tls_proxy::config::{self, ClientAuth, ListenAddr, Loaded, Mistakes, Password, PoolBudget, PoolMode, Purpose, Sources};
use secrecy::ExposeSecret;

#[path = "config/command_line.rs"]
mod command_line;
#[path = "config/example.rs"]
mod example;
#[path = "config/secrets.rs"]
mod secrets;

/// What a test gives besides a file or URLs.
#[derive(Default)]
struct Given<'a> {
    flags: &'a [(Key, &'a str)],
    env: &'a [(&'a str, &'a str)],
    check: bool,
}

fn load(urls: &[&str], file: Option<&Path>, given: &Given<'_>) -> Result<Loaded, Mistakes> {
    config::load(&Sources {
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        file: file.map(Path::to_path_buf),
        flags: given.flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect(),
        env: &env(given.env),
        variables: given.env.iter().map(|(name, _)| (*name).to_owned()).collect(),
        purpose: if given.check { Purpose::Check } else { Purpose::Serve },
        probe: &|_| Ok(()),
    })
}

fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn load_urls(urls: &[&str]) -> Result<Loaded, Mistakes> {
    load(urls, None, &Given::default())
}

/// Everything that was refused, a mistake a line.
fn refused(result: Result<Loaded, Mistakes>) -> String {
    result.expect_err("should be refused").to_string()
}

/// Parses a command line without the program's name.
fn command_line(args: &[&str], variables: &[(&str, &str)]) -> Result<Command, Exit> {
    let args = std::iter::once("redis-tls-proxy").chain(args.iter().copied()).map(OsString::from);
    cli::parse(args, &env(variables))
}

/// The files of a folder with this extension, in order. Paths are relative to the crate, as they appear in messages.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

#[test]
fn valid_files_are_read() {
    let paths = files("tests/config/valid", "yaml");
    assert_eq!(paths.len(), 5);
    for path in &paths {
        let loaded = load(&[], Some(path), &Given::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(loaded.warnings.is_empty(), "{}: {:?}", path.display(), loaded.warnings);
    }
}

/// `UPDATE_GOLDEN=1` rewrites the expected messages.
#[test]
fn invalid_files_are_refused_with_these_words() {
    let paths = files("tests/config/invalid", "yaml");
    assert_eq!(paths.len(), 40);
    let mut wrong = String::new();
    for path in &paths {
        let got = refused(load(&[], Some(path), &Given::default()));
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if got != expected {
            wrong.push_str(&format!("{}:\n-- expected\n{expected}-- got\n{got}\n", path.display()));
        }
        assert!(!got.to_lowercase().replace('_', "-").contains("correct-horse"), "{}: shows a password", path.display());
        for line in got.lines() {
            assert!(line.contains("; ") || line.contains("did you mean"), "{}: no cure: {line}", path.display());
        }
    }
    assert_eq!(paths.len(), files("tests/config/invalid", "txt").len(), "a message without its file");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_mistake_is_told_at_once_and_in_order() {
    let text = fs::read_to_string("tests/config/invalid/everything.txt").unwrap();
    assert!(text.lines().count() >= 8, "{text}");
    let lines: Vec<usize> = text.lines().map(|line| line.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn top_level_settings_are_defaults_of_all_listeners() {
    let loaded = load(&[], Some(Path::new("tests/config/valid/defaults-for-all.yaml")), &Given::default()).unwrap();
    let config = &loaded.config;
    assert_eq!((config.process.admin, config.process.workers), (None, 2));
    let [redis, postgres] = config.listeners.as_slice() else { panic!("two listeners") };
    assert_eq!((redis.max_clients, redis.pool.min_idle, redis.upstream.direct_tls), (7, 3, false));
    assert_eq!((postgres.max_clients, postgres.pool.min_idle, postgres.upstream.direct_tls), (50, 3, true));
    assert_eq!((redis.name.as_str(), redis.upstream.database.as_deref()), ("redis-6379", Some("2")));
    assert_eq!((postgres.name.as_str(), postgres.listen.to_string()), ("pg", "[::1]:6432".to_owned()));
}

#[test]
fn values_are_read_as_other_programs_write_them() {
    let loaded = load(&[], Some(Path::new("tests/config/valid/words.yaml")), &Given::default()).unwrap();
    let process = &loaded.config.process;
    assert!(process.admin.is_none() && !process.landlock && process.quiet && process.drain_delay.is_zero());
    let listener = &loaded.config.listeners[0];
    assert!(listener.upstream.tls.tls13_only);
    assert_eq!(listener.listen, ListenAddr::Unix("redis.sock".into()));
    assert_eq!((listener.name.as_str(), listener.max_clients), ("redis-redis", 9));
    assert_eq!((listener.idle_timeout, listener.upstream.connect_timeout), (Duration::from_secs(5400), Duration::from_millis(250)));
}

#[test]
fn defaults_are_those_of_the_contract() {
    let loaded = load_urls(&["rediss://h", "postgresql://h", "tls://h:9?listen=127.0.0.1:9"]).unwrap();
    let process = &loaded.config.process;
    assert_eq!(process.admin, Some("127.0.0.1:9090".parse().unwrap()));
    assert!((1..=4).contains(&process.workers) && process.landlock && !process.quiet);
    assert_eq!((process.drain_delay, process.drain_timeout), (Duration::ZERO, Duration::from_secs(25)));
    let shown: Vec<_> = loaded
        .config
        .listeners
        .iter()
        .map(|l| (l.name.as_str(), l.listen.to_string(), l.pool.min_idle, l.upstream.port, l.max_clients))
        .collect();
    assert_eq!(
        shown,
        [
            ("redis-6379", "127.0.0.1:6379".to_owned(), 8, 6379, 10_000),
            ("postgresql-5432", "127.0.0.1:5432".to_owned(), 2, 5432, 10_000),
            ("tls-9", "127.0.0.1:9".to_owned(), 4, 9, 10_000),
        ]
    );
    let redis = &loaded.config.listeners[0];
    assert_eq!(redis.pool.max_idle_age, Duration::from_secs(240));
    assert_eq!(redis.pool.max_lifetime, Duration::from_secs(3600));
    assert_eq!((redis.pool.size, redis.pool.wait_timeout), (0, Duration::from_secs(30)));
    assert_eq!((redis.tcp_keepalive, redis.tcp_user_timeout), (Duration::from_secs(30), Duration::from_secs(15)));
    assert_eq!((redis.upstream.connect_timeout, redis.idle_timeout), (Duration::from_secs(10), Duration::ZERO));
    assert!(redis.upstream.tls.post_quantum && !redis.upstream.tls.tls13_only && !redis.upstream.tls.ca_only);
    assert!(redis.upstream.credentials.is_none() && matches!(redis.client_auth, ClientAuth::None));
}

#[test]
fn each_mode_holds_where_it_can() {
    let given = Given { flags: &[(Key::Pool, "multiplex"), (Key::Workers, "2"), (Key::PoolWaitTimeout, "0")], ..Given::default() };
    let loaded = load(&["rediss://h", "postgresql://h"], None, &given).unwrap();
    let [redis, postgres] = loaded.config.listeners.as_slice() else { panic!("two listeners") };
    assert_eq!((redis.pool.mode, redis.pool.min_idle, redis.pool.wait_timeout), (PoolMode::Multiplex, 2, Duration::ZERO));
    assert_eq!((postgres.pool.mode, postgres.pool.min_idle), (PoolMode::Relay, 2));
    let explained = loaded.explanation();
    for row in ["pool: multiplex   [flag --pool]", "pool: relay   [flag --pool]", "pool_min_idle: 2   [default]"] {
        assert!(explained.contains(row), "{row}\n{explained}");
    }
    // Where none of the listeners can, it is a mistake.
    let all = |mode, url| load(&[url], None, &Given { flags: &[(Key::Pool, mode)], ..Given::default() });
    for (mode, url, words) in [
        ("multiplex", "postgresql://h", "--pool: can be multiplex for rediss:// only; use relay\n"),
        ("transaction", "rediss://h", "--pool: can be transaction for postgresql:// only; use relay\n"),
        ("session", "tls://h:1?listen=127.0.0.1:1", "--pool: can be other than relay for rediss:// and postgresql:// only; use relay\n"),
    ] {
        assert_eq!(refused(all(mode, url)), words);
        assert!(all("relay", url).is_ok());
    }

    let pool = |query: &str| load_urls(&[&format!("rediss://h?{query}")]).unwrap().config.listeners.remove(0).pool;
    assert_eq!((pool("pool=session").mode, pool("pool=session").min_idle), (PoolMode::Session, 8));
    assert_eq!(pool("pool=multiplex&pool_min_idle=5").min_idle, 5);
    assert_eq!(pool("pool=session&pool_size=4").min_idle, 4);
}

#[test]
fn pooled_postgresql_is_limited_unless_told_otherwise() {
    let loaded = load(&[], Some(Path::new("tests/config/valid/pooled-postgres.yaml")), &Given::default()).unwrap();
    let pools: Vec<_> = loaded.config.listeners.iter().map(|listener| &listener.pool).collect();
    let [redis, transaction, session, relay] = pools.as_slice() else { panic!("four listeners") };
    assert_eq!((redis.mode, redis.size, redis.budget.as_ref()), (PoolMode::Relay, 0, None));
    assert_eq!((transaction.mode, transaction.size, transaction.min_idle), (PoolMode::Transaction, 0, 1));
    let budget = PoolBudget { total: 22, reserve: 4, peers: Some("peers.example".to_owned()) };
    assert_eq!((transaction.budget.as_ref(), transaction.prepared_statements), (Some(&budget), 100));
    assert_eq!((session.mode, session.size, session.min_idle, session.budget.as_ref()), (PoolMode::Session, 20, 1, None));
    assert_eq!((relay.mode, relay.size, relay.min_idle), (PoolMode::Relay, 0, 2));
    let (explained, table) = (loaded.explanation(), loaded.table());
    assert!(explained.contains("pool_size: 20   [default]") && table.contains("transaction, 1 ready, a share of 18"), "{explained}{table}");

    let pool = |query: &str| load_urls(&[&format!("postgresql://u:p@h?{query}")]).unwrap().config.listeners.remove(0).pool;
    assert_eq!((pool("pool=session").size, pool("pool=session&pool_size=0").size), (20, 0));
    let both = pool("pool=transaction&pool_size=7&pool_budget_total=30");
    assert_eq!((both.size, both.budget, both.prepared_statements), (7, Some(PoolBudget { total: 30, reserve: 3, peers: None }), 200));
    assert_eq!((pool("pool=transaction&pool_min_idle=5").min_idle, pool("pool_min_idle=5").min_idle), (5, 5));
}

#[test]
fn lanes_need_their_places() {
    let workers = Given { flags: &[(Key::Workers, "3")], ..Given::default() };
    let of = |query: &str| load(&[&format!("rediss://h?{query}")], None, &workers);
    let too_small = refused(of("pool=multiplex&pool_size=2"));
    assert!(too_small.contains("pool_size: is 2, and each of the 3 workers keeps a connection"), "{too_small}");
    let tight = of("pool=multiplex&pool_size=3").unwrap().warnings;
    assert!(matches!(tight.as_slice(), [one] if one.contains("raise pool_size")), "{tight:?}");
    for fine in ["pool=multiplex&pool_size=4", "pool=multiplex", "pool=session&pool_size=1", "pool_size=1"] {
        assert!(of(fine).unwrap().warnings.is_empty(), "{fine}");
    }
}

/// Adds one source after the other, weakest first, and looks who wins each time.
#[test]
fn the_url_wins_over_flag_env_listener_top_level_and_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.yaml");
    for strength in 0..=5 {
        let top = if strength >= 1 { "max_clients: 1\n" } else { "" };
        let own = if strength >= 2 { "    max_clients: 2\n" } else { "" };
        let query = if strength >= 5 { "?max_clients=5" } else { "" };
        fs::write(&path, format!("{top}listeners:\n  - url: rediss://h{query}\n{own}")).unwrap();
        let env: &[_] = if strength >= 3 { &[("REDIS_TLS_PROXY_MAX_CLIENTS", "3")] } else { &[] };
        let flags: &[_] = if strength >= 4 { &[(Key::MaxClients, "4")] } else { &[] };
        let loaded = load(&[], Some(&path), &Given { flags, env, check: false }).unwrap();
        let (expected, origin) =
            [(10_000, "default"), (1, "line 1"), (2, "line 4"), (3, "environment"), (4, "flag --max-clients"), (5, "URL on line 3")]
                [strength];
        assert_eq!(loaded.config.listeners[0].max_clients, expected);
        let row = format!("max_clients: {expected}   [{origin}]");
        let explained = loaded.explanation();
        assert!(explained.contains(&row), "{row}\n{explained}");
    }
}

#[test]
fn mistakes_name_the_place_of_the_value() {
    let given = Given {
        flags: &[(Key::PoolSize, "many"), (Key::Workers, "0")],
        env: &[("REDIS_TLS_PROXY_TLS_MIN", "1.1"), ("REDIS_TLS_PROXY_LOG_FORMAT", "")],
        check: false,
    };
    assert_eq!(
        refused(load(&["rediss://h?max_clients=x&max_client=1&admin=off", "rediss://u:p"], None, &given)),
        "--pool-size: `many` is not a whole number; give a whole number from 0 to 100000\n\
         --workers: 0 is out of range; give a whole number from 1 to 1024, or auto\n\
         REDIS_TLS_PROXY_TLS_MIN: `1.1` is not one of the choices; did you mean `1.2`?\n\
         rediss://h:6379: max_clients: `x` is not a whole number; give a whole number from 1 to 1000000\n\
         rediss://h:6379: max_client: is not a setting; did you mean `max_clients`?\n\
         rediss://h:6379: admin: is a setting of the process, not of one URL; say --admin\n\
         URL 2: has a port that is not a number from 1 to 65535; correct it (is the @ between password and host missing, or a / in the \
         password not written as %2F?)\n"
    );
}

#[test]
fn one_listen_address_cannot_serve_two_listeners() {
    let given = Given { flags: &[(Key::Listen, "127.0.0.1:1")], env: &[("REDIS_TLS_PROXY_NAME", "a")], check: false };
    let got = refused(load(&["rediss://h", "rediss://i"], None, &given));
    assert!(got.contains("--listen: would be the same for all 2 listeners; give each its own"), "{got}");
    assert!(got.contains("REDIS_TLS_PROXY_NAME: would be the same for all 2 listeners"), "{got}");
    let got = refused(load_urls(&["rediss://h", "rediss://i"]));
    let expected = "rediss://i:6379: listen: 127.0.0.1:6379 is taken by rediss://h:6379; add ?listen=127.0.0.1:PORT to one of the URLs\n";
    assert_eq!(got, expected);
    // Nothing listens during a check.
    assert!(load(&["rediss://h", "rediss://i"], None, &Given { check: true, ..Given::default() }).is_ok());
}

#[test]
fn only_guarded_listeners_face_the_network() {
    let listen = |more: &str| format!("rediss://h?listen=0.0.0.0:1{more}");
    assert!(refused(load_urls(&["rediss://h?listen=0.0.0.0:0"])).contains("can be reached from other machines"));
    let got = refused(load_urls(&[&listen("")]));
    assert!(got.contains("0.0.0.0:1 can be reached from other machines, and clients need no login; say --client-auth password"), "{got}");
    assert!(got.trim_end().ends_with("or --unsafe-listen"), "{got}");
    for more in ["&unsafe_listen=on", "&client_auth=upstream"] {
        assert!(load_urls(&[&listen(more)]).is_ok(), "{more}");
    }
    let env = [("REDIS_TLS_PROXY_CLIENT_PASSWORD", "local")];
    let loaded = load(&[&listen("&client_auth=password")], None, &Given { env: &env, ..Given::default() }).unwrap();
    let ClientAuth::Password(Password::Inline(password)) = &loaded.config.listeners[0].client_auth else { panic!() };
    assert_eq!(password.expose_secret(), "local");
    assert!(load_urls(&["rediss://h?listen=[::ffff:127.0.0.1]:1"]).is_ok());
}

/// The password of the only listener that needs one.
fn login(urls: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let loaded =
        load(urls, None, &Given { env: variables, check: true, ..Given::default() }).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let logins = loaded.config.listeners.iter().map(|listener| match &listener.upstream.credentials {
        None => "-".to_owned(),
        Some(credentials) => match &credentials.password {
            Password::Inline(password) => format!("{:?} {}", credentials.user, password.expose_secret()),
            Password::File(path) => format!("{:?} in {}", credentials.user, path.display()),
        },
    });
    logins.chain(loaded.warnings.iter().cloned()).collect()
}

#[test]
fn passwords_come_from_url_file_or_environment() {
    let variable = [("REDIS_TLS_PROXY_PASSWORD", "env"), ("MINE", "mine")];
    assert_eq!(login(&["rediss://u@h"], &variable), ["Some(\"u\") env"]);
    assert_eq!(login(&["rediss://h"], &variable), ["None env"]);
    assert_eq!(login(&["rediss://h"], &[]), ["-"]);
    assert_eq!(login(&["rediss://h", "postgresql://u@h"], &variable), ["-", "Some(\"u\") env"]);
    assert_eq!(login(&["rediss://u@h?password_env=MINE"], &variable[1..]), ["Some(\"u\") mine"]);
    assert_eq!(login(&["rediss://h?password_file=tests/config/files/password"], &[]), ["None in tests/config/files/password"]);
    let warned = login(&["rediss://:p%40ss@h"], &[]);
    assert_eq!(warned[0], "None p@ss");
    assert!(warned[1].starts_with("rediss://h:6379: its password is on the command line"), "{warned:?}");
    let unclear = login(&["postgresql://h"], &variable);
    assert!(unclear[1].starts_with("REDIS_TLS_PROXY_PASSWORD is set, but it is not clear for which listener"), "{unclear:?}");
    let given = Given { env: &variable, check: true, ..Given::default() };
    let got = refused(load(&["rediss://u@h", "postgresql://u@h"], None, &given));
    assert!(got.contains("REDIS_TLS_PROXY_PASSWORD: is one password and 2 listeners need one; give each its own"), "{got}");
}

#[test]
fn a_client_password_that_nobody_asks_for_is_a_warning() {
    let env = [("REDIS_TLS_PROXY_CLIENT_PASSWORD", "local")];
    let loaded = load(&["rediss://h"], None, &Given { env: &env, ..Given::default() }).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("no listener asks clients for it"));
}

#[test]
fn a_variable_that_nobody_reads_is_a_warning() {
    let warnings = |env: &[(&str, &str)]| load(&["rediss://h"], None, &Given { env, ..Given::default() }).unwrap().warnings;
    let got = warnings(&[
        ("REDIS_TLS_PROXY_MAX_CLIENT", "s3cret"),
        ("REDIS_TLS_PROXY_PASWORD", "s3cret"),
        ("REDIS_TLS_PROXY_BOGUS", "1"),
        ("REDIS_TLS_PROXY_MAX_CLIENTS", "5"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(
        got,
        [
            "REDIS_TLS_PROXY_MAX_CLIENT: is not a setting; did you mean REDIS_TLS_PROXY_MAX_CLIENTS?",
            "REDIS_TLS_PROXY_PASWORD: is not a setting; did you mean REDIS_TLS_PROXY_PASSWORD?",
            "REDIS_TLS_PROXY_BOGUS: is not a setting; `redis-tls-proxy run --help` lists the settings",
        ]
    );
    let env = [("REDIS_TLS_PROXY_PASWORD", "s3cret")];
    let got = refused(load(&["rediss://u@h"], None, &Given { env: &env, ..Given::default() }));
    assert!(got.contains("user but no password") && got.contains("did you mean REDIS_TLS_PROXY_PASSWORD?"), "{got}");
    // Kubernetes, for Services that are named like the program.
    for name in [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_REDIS",
        "PORT",
        "PORT_6379_TCP",
        "PORT_6379_TCP_ADDR",
        "ADMIN_SERVICE_HOST",
        "ADMIN_PORT_9090_TCP_PROTO",
    ] {
        assert_eq!(warnings(&[(&format!("REDIS_TLS_PROXY_{name}"), "x")]), [""; 0], "{name}");
    }
    let env = [("REDIS_TLS_PROXY_MINE", "x")];
    let loaded = load(&["rediss://h?password_env=REDIS_TLS_PROXY_MINE"], None, &Given { env: &env, ..Given::default() }).unwrap();
    assert_eq!(loaded.warnings, [""; 0], "named by password_env");
}

#[test]
fn what_is_given_for_all_holds_where_it_makes_sense() {
    let urls = ["rediss://h", "postgresql://u@h", "tls://h:1?listen=127.0.0.1:1"];
    let flags = [(Key::DirectTls, "on"), (Key::PasswordFile, "tests/config/files/password")];
    let loaded = load(&urls, None, &Given { flags: &flags, ..Given::default() }).unwrap();
    let shown: Vec<_> = loaded.config.listeners.iter().map(|l| (l.upstream.direct_tls, l.upstream.credentials.is_some())).collect();
    assert_eq!(shown, [(false, true), (true, true), (false, false)]);
    let env = [("REDIS_TLS_PROXY_DIRECT_TLS", "on")];
    assert!(load(&urls[1..2], None, &Given { env: &[], flags: &flags, check: false }).is_ok());
    assert!(load(&[urls[0], "postgresql://h"], None, &Given { env: &env, ..Given::default() }).is_ok());

    let got = refused(load(&urls[2..], None, &Given { flags: &flags, ..Given::default() }));
    assert_eq!(
        got,
        "--direct-tls: is for postgresql:// only, the others always start with TLS; remove it\n\
         --password-file: is for rediss:// and postgresql://, which log in; remove it\n"
    );
    let got = refused(load_urls(&["rediss://h?direct_tls=on", "postgresql://h"]));
    assert!(got.contains("rediss://h:6379: direct_tls: is for postgresql:// only"), "{got}");
}

#[test]
fn a_warning_is_told_once() {
    let loaded = load_urls(&["rediss://:p@h", "rediss://:p@h?listen=127.0.0.1:1"]).unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn only_regular_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let got = refused(load(&[], Some(&fifo), &Given::default()));
    assert!(got.ends_with("it is a pipe or a device; give the path of a regular file\n"), "{got}");
    let got = refused(load(&[], Some(Path::new("-")), &Given::default()));
    assert_eq!(got, "--config: cannot read standard input; give the path of a regular file\n");
}

#[test]
fn addresses_in_use_are_told_with_the_other_mistakes() {
    let result = config::load(&Sources {
        urls: vec!["rediss://h?max_clients=0".to_owned()],
        file: None,
        flags: BTreeMap::new(),
        env: &|_| None,
        variables: Vec::new(),
        purpose: Purpose::Serve,
        probe: &|address| Err(format!("{address} is in use; stop it")),
    });
    let got = refused(result);
    assert!(got.contains("rediss://h:6379: listen: 127.0.0.1:6379 is in use"), "{got}");
    assert!(got.contains("--admin: 127.0.0.1:9090 is in use") && got.contains("max_clients"), "{got}");
}

#[test]
fn a_missing_or_unreadable_file_is_one_clear_mistake() {
    let got = refused(load(&[], Some(Path::new("tests/config/none.yaml")), &Given::default()));
    let expected =
        "--config: cannot read tests/config/none.yaml: no such file or directory; check the path, and that the volume is mounted\n";
    assert_eq!(got, expected);
}
