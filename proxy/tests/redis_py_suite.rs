//! redis-py's own tests through every mode: what fails there has to fail on a direct connection too.
//!
//! Takes minutes and is therefore asked for by name: `.ci/clients redis-py`, then
//! `cargo test -p redis-tls-proxy --test redis_py_suite -- --ignored relay`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may say what they expect too"
)]

mod modes;
mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use modes::{Bed, Mode};
use support::text;
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The parts that talk to a server of this kind; the others are about clusters, modules, or no server at all.
const PARTS: &[&str] = &[
    "test_client.py",
    "test_commands.py",
    "test_connection.py",
    "test_connection_pool.py",
    "test_encoding.py",
    "test_function.py",
    "test_lock.py",
    "test_monitor.py",
    "test_multiprocessing.py",
    "test_pipeline.py",
    "test_pubsub.py",
    "test_scripting.py",
    "test_asyncio/test_commands.py",
    "test_asyncio/test_connection.py",
    "test_asyncio/test_connection_pool.py",
    "test_asyncio/test_encoding.py",
    "test_asyncio/test_lock.py",
    "test_asyncio/test_monitor.py",
    "test_asyncio/test_pipeline.py",
    "test_asyncio/test_pubsub.py",
    "test_asyncio/test_scripting.py",
];

/// What sees through `multiplex` by inspecting the connection itself: the test, and what it looks at. No other mode has an excuse.
const INSPECTS_THE_CONNECTION: &[(&str, &str)] = &[
    ("::test_client_kill", "looks for its clients in CLIENT LIST by their names, addresses and ids, which are those of shared connections"),
    ("::test_client_list_after_client_setname", "looks for its name in CLIENT LIST; a shared connection has none"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn relay() {
    the_suite_gives_the_same_result(Mode::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn session() {
    the_suite_gives_the_same_result(Mode::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn multiplex() {
    the_suite_gives_the_same_result(Mode::Multiplex).await;
}

async fn the_suite_gives_the_same_result(mode: Mode) {
    let bed = Bed::with(mode, |redis| redis, &["--log-level", "warn"]).await;
    let parts: Vec<_> = PARTS.iter().map(|part| format!("tests/{part}")).collect();
    let all = suite(bed.address(), &parts).await;
    assert!(all.passed > 1500, "only {} tests passed", all.passed);
    // Some depend on time and chance: what fails again counts.
    let failed = suite(bed.address(), &all.failed.into_iter().collect::<Vec<_>>()).await.failed;
    let direct = Bed::start(Mode::Direct).await;
    let excused = suite(direct.address(), &failed.iter().cloned().collect::<Vec<_>>()).await.failed;
    let inspects = |test: &&String| mode == Mode::Multiplex && INSPECTS_THE_CONNECTION.iter().any(|(name, _)| test.contains(name));
    let ours: Vec<_> = failed.difference(&excused).filter(|test| !inspects(test)).collect();
    eprintln!("{}: {} passed, {} fail here and directly, {} here alone", mode.name(), all.passed, excused.len(), ours.len());
    assert!(ours.is_empty(), "these pass on a direct connection: {ours:#?}\n{}", bed.log());
}

struct Outcome {
    passed: usize,
    failed: BTreeSet<String>,
}

/// Runs these parts, or tests by their names.
async fn suite(address: SocketAddr, tests: &[String]) -> Outcome {
    if tests.is_empty() {
        return Outcome { passed: 0, failed: BTreeSet::new() };
    }
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
    let home = home();
    let mut pytest = Command::new(home.join("bin/python"));
    pytest.args(["-B", "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-q", "--tb=no", "-rfE", "--timeout=60"]);
    pytest.args(["-m", "not onlycluster and not redismod and not ssl and not cp_integration and not multidb_integration"]);
    pytest.args(["--redis-url", &format!("redis://127.0.0.1:{}/9", address.port())]).args(tests);
    pytest.current_dir(home.join("source")).env("COLUMNS", "1000").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, pytest.output()).await.expect("it does not end").unwrap();
    let said = text(&output.stdout);
    let failed: BTreeSet<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR ")))
        .map(|line| line.split(" - ").next().unwrap_or(line).to_owned())
        .collect();
    // 0: all passed, 1: some failed. Anything else, and a sum that does not fit, is about the run itself.
    let sum = said.lines().last().unwrap_or_default();
    let number = |word: &str| sum.split(", ").find_map(|part| part.split_once(word)?.0.trim().parse::<usize>().ok()).unwrap_or(0);
    let passed = number(" passed");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}\n{}", output.status, said + &text(&output.stderr));
    assert_eq!(number(" failed") + number(" error"), failed.len(), "{sum}");
    Outcome { passed, failed }
}

/// What `.ci/clients redis-py` installed.
fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients").join("redis-py");
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/suite.txt");
    let is_current = std::fs::read(home.join("installed")).is_ok_and(|list| list == std::fs::read(wanted).unwrap());
    assert!(is_current, "{} is missing or old: run .ci/clients redis-py first", home.display());
    home
}
