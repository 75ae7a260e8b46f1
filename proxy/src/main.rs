//! redis-tls-proxy (temporary main).
use redis_tls_proxy::app::App;
use redis_tls_proxy::config::*;
use std::time::Duration;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let config = Config {
        process: Process {
            admin: None,
            workers: a.get(4).map_or(2, |n| n.parse().unwrap()),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            log_format: LogFormat::Text,
            log_level: "info".into(),
            quiet: true,
            landlock: false,
        },
        listeners: vec![Listener {
            name: "x".into(),
            protocol: Protocol::Redis,
            listen: ListenAddr::Tcp(a[1].parse().unwrap()),
            upstream: Upstream {
                host: "127.0.0.1".into(),
                port: a[2].parse().unwrap(),
                database: None,
                credentials: None,
                connect_timeout: Duration::from_secs(10),
                direct_tls: false,
                tls: UpstreamTls {
                    ca_file: Some(a[3].clone().into()),
                    ca_only: true,
                    server_name: None,
                    client_cert: None,
                    tls13_only: false,
                    post_quantum: true,
                },
            },
            pool: Pool {
                mode: PoolMode::Relay,
                size: 0,
                min_idle: a.get(5).map_or(8, |n| n.parse().unwrap()),
                max_idle_age: Duration::from_secs(240),
                max_lifetime: Duration::from_secs(3600),
                wait_timeout: Duration::from_secs(30),
            },
            client_auth: ClientAuth::None,
            listen_tls: None,
            max_clients: 10000,
            idle_timeout: Duration::ZERO,
            tcp_keepalive: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(15),
        }],
    };
    let app = App::build(config).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let m = app.metrics.clone();
    let clean = rt
        .block_on(app.run(async {
            let _ = tokio::signal::ctrl_c().await;
        }))
        .unwrap();
    eprintln!(
        "{}",
        m.render()
            .unwrap()
            .lines()
            .filter(|l| l.contains("leases") || l.contains("handshakes") || l.contains("closed"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    std::process::exit(i32::from(!clean));
}
