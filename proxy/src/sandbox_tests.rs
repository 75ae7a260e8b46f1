//! The rules against the real kernel. Each test confines a thread of its own, so that the others stay free.

use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;
use crate::config::{Credentials, ListenTls, Listener, LogFormat, Pool, PoolMode, Process, Protocol, Upstream, UpstreamTls};

/// Runs `inside` on a confined thread; false, with a line, where the kernel does not enforce everything.
fn confined(allowed: Allowed, inside: impl FnOnce() + Send + 'static) -> bool {
    let thread = std::thread::spawn(move || {
        let achieved = confine(&allowed).unwrap();
        if achieved != Confinement::Fully {
            eprintln!("skipped: Landlock is {achieved} on this kernel");
            return false;
        }
        inside();
        true
    });
    thread.join().unwrap()
}

fn config(listen: ListenAddr, file: &dyn Fn(&str) -> PathBuf) -> Config {
    let seconds = Duration::from_secs;
    let listener = Listener {
        name: "x".into(),
        protocol: Protocol::Redis,
        listen,
        upstream: Upstream {
            host: "db.example".into(),
            port: 25_061,
            database: None,
            credentials: Some(Credentials { user: None, password: Password::File(file("upstream-password")) }),
            tls: UpstreamTls {
                ca_file: Some(file("ca")),
                ca_only: true,
                server_name: None,
                client_cert: Some((file("cert"), file("key"))),
                tls13_only: false,
                post_quantum: true,
            },
            connect_timeout: seconds(10),
            direct_tls: false,
        },
        pool: Pool {
            mode: PoolMode::Relay,
            size: 1,
            min_idle: 1,
            max_idle_age: seconds(240),
            max_lifetime: seconds(3600),
            wait_timeout: seconds(30),
            budget: None,
            prepared_statements: 500,
        },
        client_auth: ClientAuth::Password(Password::File(file("client-password"))),
        listen_tls: Some(ListenTls { cert: file("listen-cert"), key: file("listen-key"), client_ca: Some(file("client-ca")) }),
        max_clients: 10,
        idle_timeout: Duration::ZERO,
        tcp_keepalive: Duration::ZERO,
        tcp_user_timeout: Duration::ZERO,
    };
    let process = Process {
        admin: None,
        workers: 1,
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        log_format: LogFormat::Text,
        log_level: "info".into(),
        quiet: false,
        landlock: true,
    };
    Config { process, listeners: vec![listener] }
}

#[test]
fn every_file_of_the_configuration_is_covered() {
    let names = ["upstream-password", "ca", "cert", "key", "client-password", "listen-cert", "listen-key", "client-ca"];
    let config = config(ListenAddr::Unix("/run/x/proxy.sock".into()), &|name| PathBuf::from(format!("/secrets/{name}/file")));
    let allowed = Allowed::for_config(&config);
    for name in names {
        assert!(allowed.read.contains(&PathBuf::from(format!("/secrets/{name}"))), "{name}");
    }
    assert_eq!(allowed.sockets, BTreeSet::from(["/run/x".into()]));
    assert_eq!(allowed.connect, BTreeSet::from([53, 25_061]));
    assert!(!allowed.read.contains(Path::new("/")));
}

#[test]
fn files_outside_and_execution_are_refused() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(inside.path().join("ca.pem"), "in").unwrap();
    fs::write(outside.path().join("key.pem"), "out").unwrap();
    let allowed = Allowed::for_config(&config(ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &|_| inside.path().join("ca.pem")));
    let (inside, outside) = (inside.path().to_path_buf(), outside.path().to_path_buf());
    confined(allowed, move || {
        assert_eq!(fs::read_to_string(inside.join("ca.pem")).unwrap(), "in");
        assert_eq!(fs::read_to_string(outside.join("key.pem")).unwrap_err().kind(), PermissionDenied);
        assert_eq!(fs::write(inside.join("new"), "x").unwrap_err().kind(), PermissionDenied);
        assert_eq!(fs::remove_file(inside.join("ca.pem")).unwrap_err().kind(), PermissionDenied);
        assert_eq!(fs::read_dir("/home").err().map(|e| e.kind()), Some(PermissionDenied));
        assert!(!fs::read_to_string("/proc/self/stat").unwrap().is_empty(), "the process metrics need it");
        assert!(!fs::read_to_string("/etc/passwd").unwrap().is_empty());
        assert_eq!(std::process::Command::new("/bin/true").status().unwrap_err().kind(), PermissionDenied);
    });
}

#[test]
fn only_the_upstreams_ports_can_be_reached() {
    let (upstream, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (upstream_at, other_at) = (upstream.local_addr().unwrap(), other.local_addr().unwrap());
    let mut config = config(ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &|_| "/etc/passwd".into());
    config.listeners[0].upstream.port = upstream_at.port();
    confined(Allowed::for_config(&config), move || {
        TcpStream::connect(upstream_at).unwrap();
        assert_eq!(TcpStream::connect(other_at).unwrap_err().kind(), PermissionDenied);
        assert_eq!(TcpListener::bind("127.0.0.1:0").unwrap_err().kind(), PermissionDenied);
        // A socket that was bound before goes on working, and so does a thread that starts now.
        std::thread::spawn(move || {
            assert_eq!(TcpStream::connect(other_at).unwrap_err().kind(), PermissionDenied, "threads inherit it");
            upstream.accept().unwrap();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn the_resolver_still_works() {
    use std::net::ToSocketAddrs;
    confined(Allowed::for_config(&config(ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &|_| "ca.pem".into())), || {
        let addresses: Vec<_> = ("localhost", 1).to_socket_addrs().unwrap().collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()) && !addresses.is_empty(), "{addresses:?}");
    });
}

#[test]
fn a_unix_socket_can_be_replaced_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    let allowed = Allowed::for_config(&config(ListenAddr::Unix(path.clone()), &|_| "/etc/passwd".into()));
    let listener = UnixListener::bind(&path).unwrap();
    let ran = confined(allowed, move || {
        let aside = path.with_extension("old");
        fs::rename(&path, &aside).unwrap();
        fs::remove_file(&aside).unwrap();
        assert_eq!(fs::write(&path, "no file").unwrap_err().kind(), PermissionDenied);
    });
    drop(listener);
    assert!(!ran || fs::read_dir(directory.path()).unwrap().next().is_none());
}

/// How kubelet updates a mounted Secret: a new directory, a new link renamed over `..data`, the old directory removed.
#[test]
fn a_kubernetes_secret_can_be_rotated() {
    for configured in ["ca.pem", "..data/ca.pem"] {
        let mount = tempfile::tempdir().unwrap();
        let at = mount.path().to_path_buf();
        let publish = {
            let at = at.clone();
            move |version: &str| {
                fs::create_dir(at.join(version)).unwrap();
                fs::write(at.join(version).join("ca.pem"), version).unwrap();
                symlink(version, at.join("..data_tmp")).unwrap();
                fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
            }
        };
        publish("..2026_01");
        symlink("..data/ca.pem", at.join("ca.pem")).unwrap();
        let file = at.join(configured);
        let allowed = Allowed::for_config(&config(ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), &|_| file.clone()));
        let (rotate, rotated) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let reader = std::thread::spawn(move || {
            confined(allowed, move || {
                assert_eq!(fs::read_to_string(&file).unwrap(), "..2026_01");
                rotate.0.send(()).unwrap();
                rotated.1.recv().unwrap();
                assert_eq!(fs::read_to_string(&file).unwrap(), "..2026_02", "after the rotation");
            })
        });
        // An error here is a kernel without Landlock: the reader has ended without asking.
        if rotate.1.recv().is_ok() {
            publish("..2026_02");
            fs::remove_dir_all(at.join("..2026_01")).unwrap();
            rotated.0.send(()).unwrap();
        }
        reader.join().unwrap();
    }
}

#[test]
fn links_out_of_the_tree_do_not_open_the_tree() {
    let (tree, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(elsewhere.path().join("ca.pem"), "x").unwrap();
    fs::create_dir(tree.path().join("certs")).unwrap();
    symlink(elsewhere.path(), tree.path().join("certs/linked")).unwrap();
    let needed = directories_of(&tree.path().join("certs/linked/ca.pem"));
    assert!(needed.contains(&elsewhere.path().canonicalize().unwrap()));
    assert!(!needed.contains(&tree.path().join("certs")), "{needed:?}");
    assert!(!needed.contains(tree.path()), "{needed:?}");
    assert_eq!(directories_of(Path::new("ca.pem")), BTreeSet::from([".".into()]));
}
