//! The admin server over real sockets, with a process behind it that is made of flags.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

#[derive(Default)]
struct Fake {
    started: AtomicBool,
    draining: AtomicBool,
    log_level: Mutex<String>,
    ticked: AtomicBool,
}

impl Control for Fake {
    fn started(&self) -> Result<(), String> {
        if self.started.load(SeqCst) { Ok(()) } else { Err("redis-6379: certificates are not loaded yet".into()) }
    }

    fn ready(&self) -> Result<(), String> {
        self.started()?;
        if self.draining.load(SeqCst) { Err("draining".into()) } else { Ok(()) }
    }

    fn metrics(&self) -> String {
        // Larger than every buffer on the way.
        "# HELP a b\na 1\n".repeat(50_000)
    }

    fn snapshot(&self) -> Snapshot {
        snapshot::tests::sample()
    }

    fn tick(&self) {
        self.ticked.store(true, SeqCst);
    }

    fn drain(&self) {
        self.draining.store(true, SeqCst);
    }

    fn set_log_level(&self, directive: &str) -> Result<(), String> {
        if directive == "bad" {
            return Err("log level: bad".into());
        }
        directive.clone_into(&mut self.log_level.lock().unwrap());
        Ok(())
    }

    fn log_level(&self) -> String {
        self.log_level.lock().unwrap().clone()
    }
}

const QUICK: Limits = Limits { connections: 4, header_timeout: Duration::from_millis(150), body_timeout: Duration::from_millis(150) };

fn start(limits: Limits) -> (Admin, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    fake.started.store(true, SeqCst);
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (spawn_with(listener, Arc::clone(&fake) as Arc<dyn Control>, limits).unwrap(), fake)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Everything the server says until it closes; a reset counts as the end.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(answer).unwrap()
}

fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    rest(stream)
}

fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    raw(address, &format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{length}\r\n{body}"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {answer:?}")).parse().unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn it_ticks_while_it_serves() {
    let (admin, fake) = start(LIMITS);
    let mut tries = 0..1000;
    while !fake.ticked.load(SeqCst) {
        assert!(tries.next().is_some(), "a thousand answers and no tick");
        assert_eq!(status(&request(admin.address(), "GET /liveness", "", "")), 200);
    }
}

#[test]
fn every_path_answers_get_and_head() {
    let (admin, fake) = start(LIMITS);
    fake.set_log_level("info").unwrap();
    for (path, content_type, start_of_body) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/status", "application/json", "{\"version\":\"0.1.0\",\"state\":\"ready\""),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "# HELP a b\na 1\n"),
        ("/startup", "text/plain; charset=utf-8", "ok\n"),
        ("/readiness", "text/plain; charset=utf-8", "ok\n"),
        ("/liveness", "text/plain; charset=utf-8", "ok\n"),
        ("/log-level", "text/plain; charset=utf-8", "info\n"),
        ("/metrics?x=y", "text/plain; version=0.0.4; charset=utf-8", "# HELP"),
    ] {
        let get = request(admin.address(), &format!("GET {path}"), "", "");
        assert_eq!(status(&get), 200, "{path}: {get}");
        assert!(get.contains(&format!("content-type: {content_type}\r\n")), "{path}: {get}");
        assert!(get.contains("x-content-type-options: nosniff\r\n") && get.contains("cache-control: no-store\r\n"), "{get}");
        assert!(body(&get).starts_with(start_of_body), "{path}: {get}");
        assert!(get.contains(&format!("content-length: {}\r\n", body(&get).len())), "{path}");
        let head = request(admin.address(), &format!("HEAD {path}"), "", "");
        assert_eq!((status(&head), body(&head)), (200, ""), "{path}");
        assert!(head.contains(&format!("content-length: {}\r\n", body(&get).len())), "{head}");
    }
}

#[test]
fn probes_say_no_with_a_reason() {
    let (admin, fake) = start(LIMITS);
    fake.started.store(false, SeqCst);
    let startup = request(admin.address(), "GET /startup", "", "");
    assert_eq!((status(&startup), body(&startup)), (503, "redis-6379: certificates are not loaded yet\n"));
    assert_eq!(status(&request(admin.address(), "GET /readiness", "", "")), 503);
    assert_eq!(status(&request(admin.address(), "GET /liveness", "", "")), 200, "a slow start is no reason to kill it");
}

#[test]
fn drain_and_log_level_reach_the_process() {
    let (admin, fake) = start(LIMITS);
    let drained = request(admin.address(), "POST /drain", "", "");
    assert_eq!(status(&drained), 202, "{drained}");
    assert!(fake.draining.load(SeqCst));
    let readiness = request(admin.address(), "GET /readiness", "", "");
    assert_eq!((status(&readiness), body(&readiness)), (503, "draining\n"));

    let set = request(admin.address(), "PUT /log-level", "", " debug,rustls=warn\n");
    assert_eq!((status(&set), body(&set)), (200, "debug,rustls=warn\n"));
    assert_eq!(fake.log_level(), "debug,rustls=warn");
    let bad = request(admin.address(), "PUT /log-level", "", "bad");
    assert_eq!((status(&bad), body(&bad)), (400, "log level: bad\n"));
    assert_eq!(fake.log_level(), "debug,rustls=warn");
}

#[test]
fn control_is_refused_to_web_pages_and_foreign_names() {
    let (admin, fake) = start(LIMITS);
    let address = admin.address();
    for headers in ["Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: \r\n", "Host: evil.example\r\n"] {
        let answer = request(address, "POST /drain", headers, "");
        assert_eq!(status(&answer), 403, "{headers}: {answer}");
        assert_eq!(status(&request(address, "PUT /log-level", headers, "off")), 403, "{headers}");
    }
    let rebound = raw(address, "POST /drain HTTP/1.1\r\nHost: evil.example:9090\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&rebound), 403);
    assert_eq!(status(&raw(address, "POST /drain HTTP/1.0\r\n\r\n")), 403, "no Host");
    assert!(!fake.draining.load(SeqCst) && fake.log_level().is_empty());
    assert_eq!(status(&request(address, "POST /drain", &format!("Origin: http://{address}\r\n"), "")), 202);
}

#[test]
fn wrong_methods_and_paths() {
    let (admin, fake) = start(LIMITS);
    for (line, allow) in [
        ("GET /drain", "POST"),
        ("DELETE /log-level", "GET, HEAD, PUT"),
        ("POST /log-level", "GET, HEAD, PUT"),
        ("POST /metrics", "GET, HEAD"),
        ("OPTIONS /", "GET, HEAD"),
    ] {
        let answer = request(admin.address(), line, "", "");
        assert_eq!(status(&answer), 405, "{line}");
        assert!(answer.contains(&format!("allow: {allow}\r\n")), "{line}: {answer}");
    }
    for line in ["GET /nothing", "GET /metrics/", "GET //", "GET /%2e%2e/etc/passwd"] {
        assert_eq!(status(&request(admin.address(), line, "", "")), 404, "{line}");
    }
    assert!(!fake.draining.load(SeqCst));
}

#[test]
fn the_page_may_load_nothing() {
    let (admin, _fake) = start(LIMITS);
    let page = request(admin.address(), "GET /", "", "");
    let policy = page.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for element in ["style", "script"] {
        let (_, after) = body(&page).split_once(&format!("<{element}>")).unwrap();
        let (inside, _) = after.split_once(&format!("</{element}>")).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, inside.as_bytes());
        let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}'")), "{element}: {policy}");
    }
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let (admin, _fake) = start(LIMITS);
    let mut stream = connect(admin.address());
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(rest(stream).matches("HTTP/1.1 200 OK").count(), 1, "the second answer on the same connection");
}

#[test]
fn slow_headers_idle_connections_and_slow_bodies_end() {
    let (admin, _fake) = start(QUICK);
    for beginning in ["", "GET /metr", "GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"] {
        let mut stream = connect(admin.address());
        stream.write_all(beginning.as_bytes()).unwrap();
        let answer = rest(stream);
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // Kept alive and then idle.
    let mut stream = connect(admin.address());
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(rest(stream).matches("HTTP/1.1 200 OK").count(), 1);
    let slow = raw(admin.address(), "PUT /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nin");
    assert_eq!(status(&slow), 408, "{slow}");
}

#[test]
fn big_bodies_and_headers_are_refused() {
    let (admin, fake) = start(LIMITS);
    let exact = "x".repeat(256);
    assert_eq!(status(&request(admin.address(), "PUT /log-level", "", &exact)), 200);
    assert_eq!(status(&request(admin.address(), "PUT /log-level", "", &"y".repeat(257))), 413);
    let claimed = raw(admin.address(), "PUT /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(status(&claimed), 413, "refused by its length alone: {claimed}");
    let chunked = raw(
        admin.address(),
        &format!("PUT /log-level HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n{}\r\n", "z".repeat(512)),
    );
    assert_eq!(status(&chunked), 413);
    assert_eq!(fake.log_level(), exact);
    let header = request(admin.address(), "GET /liveness", &format!("X: {}\r\n", "a".repeat(17 * 1024)), "");
    assert_eq!(status(&header), 431);
}

#[test]
fn a_probe_gets_through_however_many_hold_on() {
    let (admin, _fake) = start(Limits { header_timeout: Duration::from_secs(60), ..QUICK });
    let held: Vec<TcpStream> = (0..20).map(|_| connect(admin.address())).collect();
    assert_eq!(status(&request(admin.address(), "GET /liveness", "", "")), 200);
    // The oldest were closed to make room.
    for stream in held.into_iter().take(16) {
        assert_eq!(rest(stream), "");
    }
}

#[test]
fn many_clients_at_once() {
    let (admin, _fake) = start(LIMITS);
    let address = admin.address();
    let clients: Vec<_> = (0..32).map(|_| std::thread::spawn(move || request(address, "GET /status", "", ""))).collect();
    for client in clients {
        assert_eq!(status(&client.join().unwrap()), 200);
    }
}

#[test]
fn two_processes_can_overlap_and_stopping_ends_the_thread() {
    let (admin, _fake) = start(LIMITS);
    let address = admin.address();
    let second = bind(address).unwrap();
    let held = connect(address);
    admin.stop();
    drop(second);
    assert_eq!(rest(held), "");
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn errors_of_one_connection_are_told_from_ours() {
    let of_one = |code: i32| is_of_one_connection(&io::Error::from_raw_os_error(code));
    // ECONNABORTED, EINTR; EMFILE, ENFILE, ENOMEM.
    assert_eq!([103, 4, 24, 23, 12].map(of_one), [true, true, false, false, false]);
}

/// The limit of descriptors is the process's, so this happens in a process of its own.
#[test]
fn accepting_survives_running_out_of_descriptors() {
    const INSIDE: &str = "ADMIN_TEST_OUT_OF_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "admin::tests::accepting_survives_running_out_of_descriptors", "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    let (admin, _fake) = start(LIMITS);
    let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: Some(64), maximum }).unwrap();
    let mut hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(hoard.len() < 64);
    hoard.pop();
    let mut stream = connect(admin.address());
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "no descriptor is left to accept it with");
    drop(hoard);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(status(&rest(stream)), 200);
}
