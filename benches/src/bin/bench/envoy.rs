//! Envoy's two ways to stand before Redis: `tcp_proxy` carries bytes, `redis_proxy` shares one connection of each worker among all clients.

use serde_json::{Value, json};

use crate::programs::Setup;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Tcp,
    /// `buffered`: requests wait until there is 1 KiB of them, 1 ms at most. Best for many clients, worst for one.
    Redis {
        buffered: bool,
    },
}

pub(crate) fn envoy_config(mode: Mode, setup: &Setup<'_>) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let endpoint = address(setup.target.ports.0);
    let limits = json!({ "max_connections": 20000, "max_pending_requests": 20000, "max_requests": 100_000 });
    json!({ "static_resources": {
        "listeners": [{
            "name": "server", "address": address(setup.port), "tcp_backlog_size": 4096,
            "filter_chains": [{ "filters": [filter(mode)] }],
        }],
        "clusters": [{
            "name": "server", "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [limits] },
            "upstream_connection_options": { "tcp_keepalive": {} },
            "load_assignment": { "cluster_name": "server", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }] },
            "transport_socket": transport(setup),
        }],
    } })
}

fn filter(mode: Mode) -> Value {
    match mode {
        Mode::Tcp => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "server", "cluster": "server", "idle_timeout": "3600s",
            },
        }),
        Mode::Redis { buffered } => json!({
            "name": "envoy.filters.network.redis_proxy",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.redis_proxy.v3.RedisProxy"),
                "stat_prefix": "server",
                // Without a size there is no waiting, whatever the time says.
                "settings": {
                    "op_timeout": "20s",
                    "max_buffer_size_before_flush": if buffered { 1024 } else { 0 },
                    "buffer_flush_timeout": "0.001s",
                },
                "prefix_routes": { "catch_all_route": { "cluster": "server" } },
            },
        }),
    }
}

fn transport(setup: &Setup<'_>) -> Value {
    let validation = json!({
        "trusted_ca": { "filename": setup.target.ca },
        "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": "localhost" } }],
    });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost", "max_session_keys": 64,
            "common_tls_context": {
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
                "validation_context": validation,
            },
        },
    })
}
