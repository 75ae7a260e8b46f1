//! The image: what `.ci/image` has built has just what it should, and works where there is nothing else; the Dockerfile names what exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::netns::isolated;
use lab::process::{Launch, Process, run};
use lab::{Authority, Dns, Leaf, Redis, Resp};
use serde_json::{Value, json};

const USER: &str = "65532:65532";
const LIMIT: Duration = Duration::from_secs(120);

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn given(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run .ci/image --check"))
}

/// Where the image's files were unpacked.
fn root() -> PathBuf {
    PathBuf::from(given("LAB_IMAGE_ROOT"))
}

fn text(file: &str) -> String {
    fs::read_to_string(checkout().join(file)).unwrap()
}

/// There is no docker here to try it. What it copies must be there, be let through to it, and be all that cargo needs.
#[test]
fn the_dockerfile_copies_what_is_there() {
    let (dockerfile, let_through) = (text("proxy/Dockerfile"), text(".dockerignore"));
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let mut copied: Vec<&str> = lines.flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' ')).collect();
    for file in &copied {
        assert!(checkout().join(file).exists(), "{file}");
    }
    let mut passes: Vec<&str> = let_through.lines().filter_map(|line| line.strip_prefix('!')).collect();
    copied.sort_unstable();
    passes.sort_unstable();
    assert_eq!(copied, passes);
    let workspace = text("Cargo.toml");
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    for member in serde_json::from_str::<Vec<String>>(members).unwrap() {
        assert!(copied.contains(&member.as_str()), "{member} is a member of the workspace");
    }
    // One toolchain, one user and one entry point, wherever the image is built.
    let toolchain = workspace.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{toolchain}-")));
    let script = text(".ci/image");
    for said in ["proxy:x:65532:65532:redis-tls-proxy:/:/none", "proxy:x:65532:\"", "target-feature=+crt-static", USER] {
        assert!(dockerfile.contains(said) && script.contains(said), "{said}");
    }
}

#[test]
#[ignore = "needs the image: .ci/image --check"]
fn it_has_two_programs_and_a_user() {
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--config"]).arg(format!("oci:{}", given("LAB_IMAGE_LAYOUT")));
    let image: Value = serde_json::from_str(&run(&inspect, Launch::default(), "").unwrap()).unwrap();
    let config = &image["config"];
    assert_eq!((&config["User"], &config["Entrypoint"]), (&json!(USER), &json!(["/redis-tls-proxy"])));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let mut find = Command::new("find");
    find.arg(root()).args(["-mindepth", "1", "-printf", "%M %U %T@ %P\n"]);
    let mut files: Vec<_> = run(&find, Launch::default(), "").unwrap().lines().map(str::to_owned).collect();
    files.sort();
    let expected = [
        "-rw-r--r-- 0 0.0000000000 etc/group",
        "-rw-r--r-- 0 0.0000000000 etc/passwd",
        "-rwxr-xr-x 0 0.0000000000 doks-harbor",
        "-rwxr-xr-x 0 0.0000000000 redis-tls-proxy",
        "drwxr-xr-x 0 0.0000000000 etc",
    ];
    assert_eq!(files, expected);
}

/// A container of it, as a runtime makes one: names and configuration in /etc, everything read-only, no /tmp, no other user than its own.
fn container(folder: &Path, program: &str, arguments: &[String]) -> Command {
    const CONTAIN: &str = r#"root=$1 user=$2; shift 2
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount -o remount,bind,ro "$root"
        exec chroot --userspec="$user" --groups= "$root" "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-ec", CONTAIN, "sh"]).arg(folder).arg(USER).arg(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// By a name with a dot at the end, and by a short one that the search domains complete: the static program has the C library's resolver, and
/// none of the files that a dynamic one would load for it.
#[tokio::test]
#[ignore = "needs the image, root and dnsmasq: .ci/image --check"]
async fn it_finds_a_server_by_name() {
    if !isolated("it_finds_a_server_by_name", LIMIT).await.unwrap() {
        return;
    }
    let local: IpAddr = Ipv4Addr::LOCALHOST.into();
    let dns = Dns::start(Ipv4Addr::new(127, 0, 0, 53)).await.unwrap();
    dns.set(&[("valkey.test.example", local)]).unwrap();
    let authority = Authority::new().unwrap();
    let certificate = authority.issue(&Leaf::server().names(&["valkey.test.example", "valkey"])).unwrap();
    let redis = Redis::builder(&authority).certificate(certificate).start().await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("root");
    run(Command::new("cp").arg("-a").arg(root()).arg(&folder), Launch::default(), "").unwrap();
    fs::create_dir(folder.join("proc")).unwrap();
    for (file, content) in [
        ("etc/resolv.conf", dns.resolv_conf(&["cluster.local", "test.example"])),
        ("etc/hosts", "127.0.0.1 localhost\n".to_owned()),
        ("etc/ca.crt", authority.ca_pem()),
    ] {
        fs::write(folder.join(file), content).unwrap();
    }

    let port = redis.port();
    let mut arguments: Vec<String> = ["--ca-file", "/etc/ca.crt", "--ca-only", "--admin", "127.0.0.1:9090"].map(String::from).to_vec();
    arguments.extend(
        [(1, "valkey.test.example."), (2, "valkey")]
            .map(|(at, name)| format!("rediss://{name}:{port}?listen=127.0.0.{at}:6379&name=n{at}")),
    );
    let mut proxy = Process::spawn("proxy", &container(&folder, "/redis-tls-proxy", &arguments), dir.path()).unwrap();
    let started =
        async || lab::proxy::request(([127, 0, 0, 1], 9090).into(), "GET", "/startup", "").await.is_ok_and(|answer| answer.status == 200);
    proxy.ready(Duration::from_secs(30), started).await.unwrap();
    for at in [1, 2] {
        let mut client = Resp::connect((Ipv4Addr::new(127, 0, 0, at), 6379)).await.unwrap();
        let reply = tokio::time::timeout(Duration::from_secs(30), client.command(&["PING"])).await;
        assert_eq!(reply.unwrap().unwrap().text(), "PONG", "{at}: {}{}", proxy.stdout(), proxy.stderr());
    }
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let of = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!((of("Uid:"), of("CapEff:")), (vec!["65532".to_owned(); 4], vec!["0000000000000000".to_owned()]));

    // The Job's program is there, too.
    let version = run(&container(&folder, "/doks-harbor", &["--version".to_owned()]), Launch::default(), "").unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}
