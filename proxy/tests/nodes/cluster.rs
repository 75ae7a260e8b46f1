//! Two nodes and what managed databases, cluster DNS and kube-proxy do for them.
//!
//! ```text
//!  node1 ── 10.244.1.0/24: pods          10.1.0.1   Redis :25061, PostgreSQL :25060, both with TLS
//!    │  10.0.1.2                         10.1.0.53  DNS
//!    └────────────── the test's own network ──────────────┐
//!                                              10.0.2.2   │
//!                                         node2 ── 10.244.2.0/24: pods
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use lab::netns::{self, Machine};
use lab::{Authority, Dns, Gate, Leaf, Postgres, Redis};

use super::pod::{Pod, Volumes};
use super::template::{Service, Template, text};

/// What the Service's name would resolve to.
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const SERVERS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 53);
pub(crate) const CLIENT_PASSWORD: &str = "what clients know";

/// Everything but the pods.
pub(crate) struct Cluster {
    pub(crate) template: Template,
    pub(crate) service: Service,
    pub(crate) nodes: [Node; 2],
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    _gates: [Gate; 2],
    dns: Dns,
    secret: Vec<(&'static str, String)>,
}

pub(crate) struct Node {
    number: u8,
    pub(crate) machine: Machine,
    /// A pod that is no proxy, where clients are.
    pub(crate) clients: Arc<Machine>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let issue = |name: &str| authority.issue(&Leaf::server().names(&[name])).unwrap();
        let redis = Redis::builder(&authority).certificate(issue("valkey.example.com")).password("of the server").start().await.unwrap();
        let postgres = Postgres::builder(&authority).certificate(issue("postgres.example.com")).ssl_only();
        // The plan that the configuration speaks of; three more are the superuser's.
        let postgres = postgres.user("harbor", "of harbor", "registry").max_connections(47 + 3).start().await.unwrap();

        for address in [SERVERS, DNS] {
            netns::sh("ip addr add \"$1/32\" dev lo", &[&address.to_string()]).unwrap();
        }
        let gates = [
            Gate::start_at((SERVERS, 25061).into(), redis.address()).await.unwrap(),
            Gate::start_at((SERVERS, 25060).into(), postgres.address()).await.unwrap(),
        ];
        let dns = Dns::start(DNS).await.unwrap();
        let template = Template::read();
        let secret = vec![
            ("valkey-password", "of the server".to_owned()),
            ("postgres-password", "of harbor".to_owned()),
            ("client-password", CLIENT_PASSWORD.to_owned()),
            ("postgres-ca.crt", authority.ca_pem()),
        ];
        let service = Service::read(&template);
        let cluster = Self { template, service, nodes: [Node::new(1), Node::new(2)], redis, postgres, _gates: gates, dns, secret };
        cluster.list_peers(&[]);
        cluster
    }

    /// A pod on a node, its container started.
    pub(crate) fn pod(&self, node: &Node, name: &str, last: u8) -> Pod {
        let volumes = Volumes {
            config: &[("proxy.yaml", text("proxy.yaml"))],
            secret: &self.secret,
            resolv_conf: &self.dns.resolv_conf(&["harbor.svc.cluster.local", "svc.cluster.local", "cluster.local"]),
        };
        let mut pod = Pod::new(name, &node.machine, node.ip(last), node.ip(1), &self.template, &volumes);
        pod.launch(&self.template);
        pod
    }

    /// The headless Service: every pod that there is, ready or not.
    pub(crate) fn list_peers(&self, pods: &[&Pod]) {
        let servers = ["valkey.example.com", "postgres.example.com"].map(|name| (name, SERVERS.into()));
        let peers = pods.iter().map(|pod| ("redis-tls-proxy-peers.harbor.svc.cluster.local", pod.ip.into()));
        self.dns.set(&servers.into_iter().chain(peers).collect::<Vec<_>>()).unwrap();
    }

    /// What kube-proxy does on every node when the Service's endpoints have changed: with `internalTrafficPolicy: Local`, only those on the node
    /// count, and without one nobody answers.
    pub(crate) fn serve_by(&self, ready: &[&Pod]) {
        for node in &self.nodes {
            let ips: Vec<_> = ready.iter().map(|pod| pod.ip).filter(|ip| !self.service.local || node.has(*ip)).collect();
            node.route(&self.service, &ips);
        }
    }

    /// The Service's address for Redis.
    pub(crate) fn redis_address() -> SocketAddr {
        (CLUSTER_IP, 6379).into()
    }

    /// The Service's address for PostgreSQL.
    pub(crate) fn postgres_address() -> SocketAddr {
        (CLUSTER_IP, 5432).into()
    }
}

impl Node {
    fn new(number: u8) -> Self {
        let machine = Machine::new(&format!("node{number}")).unwrap();
        let (own, through) = (Ipv4Addr::new(10, 0, number, 2), Ipv4Addr::new(10, 0, number, 1));
        machine.plug_into(None, own, through).unwrap();
        netns::sh(
            "ip route add \"$1\" via \"$2\" dev \"$3\"",
            &[&format!("10.244.{number}.0/24"), &own.to_string(), &format!("node{number}")],
        )
        .unwrap();
        let clients = Arc::new(Machine::new(&format!("clients{number}")).unwrap());
        let node = Self { number, machine, clients };
        node.clients.plug_into(Some(&node.machine), node.ip(9), node.ip(1)).unwrap();
        node
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, last)
    }

    fn has(&self, ip: Ipv4Addr) -> bool {
        ip.octets()[2] == self.number
    }

    /// In one transaction, as kube-proxy; connections that are open stay with their pod.
    fn route(&self, service: &Service, pods: &[Ipv4Addr]) {
        let rules: String = service
            .ports
            .iter()
            .map(|(port, target)| {
                let to = |(index, ip): (usize, &Ipv4Addr)| format!("{index} : {ip} . {target}");
                let choices: Vec<_> = pods.iter().enumerate().map(to).collect();
                match pods.len() {
                    0 => format!("ip daddr {CLUSTER_IP} tcp dport {port} drop\n"),
                    count => format!(
                        "ip daddr {CLUSTER_IP} tcp dport {port} dnat to numgen random mod {count} map {{ {} }}\n",
                        choices.join(", ")
                    ),
                }
            })
            .collect();
        let table = format!(
            "table ip service\ndelete table ip service\ntable ip service {{\nchain prerouting {{\ntype nat hook prerouting priority dstnat\n{rules}}}\n}}\n"
        );
        let mut nft = Command::new("nft");
        self.machine.feed(nft.args(["-f", "-"]), &table).unwrap();
    }
}
