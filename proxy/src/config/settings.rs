//! The table of settings: one entry each, and everything else is derived from it.
//!
//! An entry gives a setting its name, its kind, its default and its words. Flags, environment variables, file keys, URL query keys, the
//! help, `validate --explain` and the JSON schema all come from here, so that they cannot disagree. Adding a setting means one entry here
//! and one line where `build` or `process` reads it.

use super::types::Protocol;
use super::value::{Kind, Limits};

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The process as a whole: flag, environment, or top level of the file.
    Process,
    /// One listener: all of these, a listener of the file, or a URL's query. At the top level of the file it is the default of all.
    Listener,
}

/// What holds when nobody says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This value, written as a user would.
    Is(&'static str),
    /// A value per protocol; `None` where it must be given.
    Per {
        /// For `rediss://`.
        redis: &'static str,
        /// For `postgresql://`.
        postgresql: &'static str,
        /// For `tls://`.
        tls: Option<&'static str>,
    },
    /// No value; the text says what happens then.
    Absent(&'static str),
}

impl Preset {
    /// The value for a listener of `protocol` (`None` for the process).
    #[must_use]
    pub fn text(self, protocol: Option<Protocol>) -> Option<&'static str> {
        match (self, protocol) {
            (Self::Is(text), _) => Some(text),
            (Self::Per { redis, .. }, Some(Protocol::Redis)) => Some(redis),
            (Self::Per { postgresql, .. }, Some(Protocol::Postgres)) => Some(postgresql),
            (Self::Per { tls, .. }, Some(Protocol::Tls)) => tls,
            (Self::Per { .. }, None) | (Self::Absent(_), _) => None,
        }
    }

    /// As shown in the help.
    #[must_use]
    pub fn shown(self) -> String {
        match self {
            Self::Is(text) | Self::Absent(text) => text.to_owned(),
            Self::Per { redis, postgresql, tls } => {
                format!("redis {redis}, postgresql {postgresql}, tls {}", tls.unwrap_or("none: must be given"))
            }
        }
    }
}

/// How the names of all our environment variables begin.
pub const ENV_PREFIX: &str = "REDIS_TLS_PROXY_";

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its identity in code.
    pub key: Key,
    /// `kebab-case`, as in the flag.
    pub name: &'static str,
    /// Process or listener.
    pub scope: Scope,
    /// How its text is read.
    pub kind: Kind,
    /// Its default.
    pub preset: Preset,
    /// One line, for the help.
    pub help: &'static str,
    /// Why one would change it, for `--explain`.
    pub explain: &'static str,
}

impl Setting {
    /// `snake_case`: the key in the file and in a URL's query.
    #[must_use]
    pub fn file_key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The environment variable.
    #[must_use]
    pub fn env_key(&self) -> String {
        format!("{ENV_PREFIX}{}", self.file_key().to_uppercase())
    }
}

/// Declares [`Key`] and [`SETTINGS`] together, so that a key is the index of its entry.
macro_rules! settings {
    ($($key:ident $name:literal $scope:ident, $kind:expr, $preset:expr, $help:literal, $explain:literal;)+) => {
        /// The identity of a setting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "an entry of the table documents its key: see its `help` and `explain`")]
        pub enum Key { $($key),+ }

        /// Every setting, in the order in which people meet them.
        pub static SETTINGS: &[Setting] = &[$(
            Setting { key: Key::$key, name: $name, scope: Scope::$scope, kind: $kind, preset: $preset, help: $help, explain: $explain }
        ),+];

        impl Key {
            /// Its entry in the table.
            #[must_use]
            pub fn setting(self) -> &'static Setting {
                #[expect(clippy::indexing_slicing, reason = "the macro makes the enum and the table of one list")]
                &SETTINGS[self as usize]
            }
        }
    };
}

settings! {
    Listen "listen" Listener, Kind::Listen,
        Preset::Per { redis: "127.0.0.1:6379", postgresql: "127.0.0.1:5432", tls: None },
        "Where clients connect: IP:PORT or unix:PATH",
        "An address that is not loopback needs client authentication (client_auth or listen_client_ca) or unsafe_listen. A unix socket is made \
         with mode 0660. Port 0 takes a free port.";
    Name "name" Listener, Kind::Label, Preset::Absent("protocol and port, such as redis-6379"),
        "The listener's name in metrics and logs",
        "Unique among the listeners; letters, digits, dot, dash and underscore.";
    Pool "pool" Listener, Kind::Words(&["relay", "session", "multiplex", "transaction"]), Preset::Is("relay"),
        "How connections are shared: relay, session, multiplex, transaction",
        "relay gives every client an upstream connection of its own, never used before, whose TLS handshake is done already: exact, for every \
         protocol. session (rediss://, postgresql://) also gives every client its own, brings it back to the state of a new one when the client \
         has gone, and uses it again: for clients that come and go, and for those that inspect their connection. multiplex (rediss://) sends the \
         requests of all clients over a few connections and gives a client its own only while a command needs that (WATCH, MULTI, BLPOP, \
         SUBSCRIBE, ...). transaction (postgresql://) lends a client a connection for one transaction at a time, and for longer only while it has \
         something on it that cannot follow it to another (LISTEN, session locks, temporary tables, ...). Both are for many clients, little \
         processor time, and servers with few connections to give. In session and transaction the proxy logs in at PostgreSQL itself.";
    PoolSize "pool-size" Listener, Kind::Count(0, 100_000), Preset::Is("0"),
        "Upstream connections at most, over all workers; 0 = no limit",
        "For the pooled modes, on each node that runs the proxy: clients beyond it wait for pool_wait_timeout. In session it is the number of \
         clients served at one time. postgresql:// has 20 unless this or pool_budget_total says otherwise. multiplex keeps one connection open per worker, database, RESP version and login in use, up to four \
         while slow commands are under way, and these keep their places: allow for them and for the clients that need their own at one time. In \
         relay the upstream connections follow the clients: limit those with max_clients.";
    PoolMinIdle "pool-min-idle" Listener, Kind::Count(0, 10_000), Preset::Per { redis: "8", postgresql: "2", tls: Some("4") },
        "Connections kept ready, over all workers; fewer in pooled modes",
        "Each takes a slot of the server's connection limit, on every node that runs the proxy; in relay not of PostgreSQL's max_connections, as \
         it is logged in only for its client; session and transaction keep 1 there unless this says otherwise. 0 keeps none ready: every client waits for a handshake. multiplex keeps 2 besides the shared ones, for \
         the first client that needs its own and in place of a shared one that is lost: what clients give back stays ready too, so more are \
         seldom of use. In the pooled modes these are of the URL's database, RESP2, with the proxy's login.";
    PoolMaxIdleAge "pool-max-idle-age" Listener, Kind::Duration(Limits::POOL_AGE), Preset::Is("4m"),
        "Replace a connection that was unused for so long",
        "Keep it below the server's own idle timeout (DigitalOcean closes after 300 s), or clients are handed dead connections. Shared \
         connections of multiplex that nobody uses are closed after it as well. In relay for PostgreSQL 45 s is the most, whatever is said here: \
         a ready connection is not logged in, and the server's authentication_timeout is 60 s.";
    PoolMaxLifetime "pool-max-lifetime" Listener, Kind::Duration(Limits::POOL_AGE), Preset::Is("1h"),
        "Replace a connection this old when it is free",
        "For the pooled modes: spreads clients over the server's addresses again after a failover, and bounds how long one TLS session \
         lives. A shared connection of multiplex takes no more requests then and closes when it has answered all. In relay a connection lives as \
         long as its client.";
    PoolWaitTimeout "pool-wait-timeout" Listener, Kind::Duration(Limits::POOL_WAIT), Preset::Is("30s"),
        "How long a client waits for an upstream connection; 0 = not at all",
        "After it the client gets an error in its own protocol instead of waiting on: in session and multiplex of Redis as the reply to its \
         command, and it stays connected. Within it a server that is down is tried again and again. 0 is for clients that would rather hear at once: \
         the pooled modes then try once to open one, for connect_timeout at most, and while the server is known to be down not even that; \
         relay hands out only what is ready.";
    PoolBudgetTotal "pool-budget-total" Listener, Kind::Count(0, 100_000), Preset::Is("0"),
        "Connections that all proxies together may have; 0 = not divided",
        "For session and transaction of postgresql://: what the server has to give (DigitalOcean: 22 per GB of memory), divided evenly among the \
         proxies that pool_budget_peers finds. Each then has its share, or pool_size if that is given and less. When a proxy is added the others \
         give up connections before it may open its own, so that the sum holds.";
    PoolBudgetReserve "pool-budget-reserve" Listener, Kind::Count(0, 10_000), Preset::Is("3"),
        "Connections of pool-budget-total that no proxy may use",
        "For people and programs that go to the server directly; PostgreSQL itself keeps three back for superusers.";
    PoolBudgetPeers "pool-budget-peers" Listener, Kind::ServerName, Preset::Absent("none: this proxy has all of it"),
        "DNS name with an address for each proxy that shares the budget",
        "In Kubernetes a headless Service that selects the proxy's pods. It should also list pods that are not ready \
         (publishNotReadyAddresses): they may have connections open. Its records should live 5 s at most (the Corefile of CoreDNS \
         says how long), or a fleet that grows may exceed the budget until the old ones are forgotten. A proxy that \
         starts has no connections for 15 s, until the others have made room. If the name cannot be resolved, the shares stay as they are.";
    PreparedStatements "prepared-statements" Listener, Kind::Count(1, 100_000), Preset::Is("200"),
        "Prepared statements kept on each upstream connection",
        "For transaction: clients that prepare the same statement share one on the server. Beyond so many the one not used for longest is closed, \
         and prepared again when a client needs it. Each takes memory in the server, often 10 to 100 KiB.";
    PasswordFile "password-file" Listener, Kind::Path, Preset::Absent("none: see the URL"),
        "File with the upstream password",
        "Read again when its content changes; one trailing newline is not part of the password. Goes with the user of the URL.";
    PasswordEnv "password-env" Listener, Kind::EnvName, Preset::Absent("none: see the URL"),
        "Name of an environment variable with the upstream password",
        "The name, never the password itself. When one listener alone needs a password, REDIS_TLS_PROXY_PASSWORD works without this.";
    ConnectTimeout "connect-timeout" Listener, Kind::Duration(Limits::WAIT), Preset::Is("10s"),
        "Limit for name, TCP, TLS and login upstream together",
        "Also bounds how long a client that finds no ready connection waits for a new one.";
    CaFile "ca-file" Listener, Kind::Path, Preset::Absent("none: the public roots"),
        "PEM file of roots to trust besides the public ones",
        "For servers with a private CA, such as DigitalOcean's PostgreSQL. Read again when its content changes.";
    CaOnly "ca-only" Listener, Kind::Switch, Preset::Is("off"),
        "Trust ca-file alone, not the public roots",
        "The narrowest choice: no public authority can then vouch for the server.";
    ServerName "server-name" Listener, Kind::ServerName, Preset::Absent("the host of the URL"),
        "Name to send (SNI) and to verify in the certificate",
        "For a server reached through another name or an IP address, such as a tunnel.";
    ClientCert "client-cert" Listener, Kind::Path, Preset::Absent("none"),
        "PEM certificate chain to show to the upstream",
        "Together with client_key, for servers that ask for a certificate.";
    ClientKey "client-key" Listener, Kind::Path, Preset::Absent("none"),
        "PEM key of client-cert",
        "Must belong to the first certificate in client_cert.";
    TlsMin "tls-min" Listener, Kind::Words(&["1.2", "1.3"]), Preset::Is("1.2"),
        "Oldest TLS version accepted upstream: 1.2 or 1.3",
        "1.3 refuses servers that cannot speak it.";
    PostQuantum "post-quantum" Listener, Kind::Switch, Preset::Is("on"),
        "Offer post-quantum key exchange (X25519MLKEM768)",
        "Turn it off when a middlebox on the way drops the larger first message of the handshake (1.7 kB).";
    DirectTls "direct-tls" Listener, Kind::Switch, Preset::Is("off"),
        "PostgreSQL 17 and newer: TLS from the first byte",
        "Saves one round trip per connection; older servers do not understand it.";
    ListenCert "listen-cert" Listener, Kind::Path, Preset::Absent("none: clients speak plaintext"),
        "PEM certificate chain to show to clients",
        "With it, and listen_key, clients of this listener must speak TLS.";
    ListenKey "listen-key" Listener, Kind::Path, Preset::Absent("none"),
        "PEM key of listen-cert",
        "Must belong to the first certificate in listen_cert.";
    ListenClientCa "listen-client-ca" Listener, Kind::Path, Preset::Absent("none: clients need no certificate"),
        "PEM roots that must have signed the clients' certificates",
        "Mutual TLS: a client without a certificate from one of these is refused.";
    ClientAuth "client-auth" Listener, Kind::Words(&["none", "password", "upstream"]), Preset::Is("none"),
        "How clients prove who they are: none, password, upstream",
        "password checks a local password, different from the server's own, with any user name; upstream lets the client's own login through to \
         the server, which judges it. none is for loopback and unix sockets; without a login of the proxy's own, clients \
         log in at the server as with upstream. With one, relay still passes a Redis client's own AUTH on to the server, while session and \
         multiplex answer it as a server without a password does.";
    ClientPasswordFile "client-password-file" Listener, Kind::Path, Preset::Absent("none"),
        "File with the password that clients must give",
        "For client_auth password. Can also come from the environment variable REDIS_TLS_PROXY_CLIENT_PASSWORD.";
    UnsafeListen "unsafe-listen" Listener, Kind::Switch, Preset::Is("off"),
        "Allow clients from other machines without authentication",
        "Anyone who reaches the port then uses the database with the proxy's login. Only behind a NetworkPolicy or a firewall.";
    MaxClients "max-clients" Listener, Kind::Count(1, 1_000_000), Preset::Is("10000"),
        "Clients at one time, over all workers",
        "More are refused in the protocol's own words, and counted.";
    IdleTimeout "idle-timeout" Listener, Kind::Duration(Limits::IDLE), Preset::Is("0s"),
        "Close a client that was silent both ways for so long; 0 = never",
        "Off, because connection pools keep silent connections on purpose; dead peers are found by tcp_keepalive.";
    TcpKeepalive "tcp-keepalive" Listener, Kind::Duration(Limits::KEEPALIVE), Preset::Is("30s"),
        "Start keepalive probes after so long, on both sides; 0 = off",
        "Finds peers that vanished without a word, such as a node that died.";
    TcpUserTimeout "tcp-user-timeout" Listener, Kind::Duration(Limits::USER_TIMEOUT), Preset::Is("15s"),
        "Give up on unacknowledged data after so long; 0 = the system's default",
        "The system's default is about 15 minutes: a failover would hang for as long.";
    Admin "admin" Process, Kind::Admin, Preset::Is("127.0.0.1:9090"),
        "Address of metrics, probes and the status page; off = none",
        "Serves /metrics, /startup, /readiness, /liveness, /status and a page at /. Holds no secret, but tells who connects: keep it inside.";
    LogFormat "log-format" Process, Kind::Words(&["text", "json"]), Preset::Is("text"),
        "How log lines look: text or json",
        "text for people, json for collectors.";
    LogLevel "log-level" Process, Kind::Filter, Preset::Is("info"),
        "What is logged: error, warn, info, debug, trace, or a filter",
        "A filter names parts of the program: info,redis_tls_proxy=debug.";
    Quiet "quiet" Process, Kind::Switch, Preset::Is("off"),
        "Log warnings and errors only",
        "Overrules log_level.";
    Workers "workers" Process, Kind::Workers, Preset::Is("auto"),
        "Threads that carry traffic; auto = one for two CPUs, 1 to 4",
        "More than the CPUs that the process may use only costs memory.";
    DrainDelay "drain-delay" Process, Kind::Duration(Limits::DRAIN), Preset::Is("0s"),
        "Go on accepting for so long after SIGTERM",
        "Readiness says no meanwhile, so that load balancers look elsewhere before connections are refused.";
    DrainTimeout "drain-timeout" Process, Kind::Duration(Limits::DRAIN), Preset::Is("25s"),
        "Time for busy clients to finish; then they are cut",
        "Counts after drain_delay. Keep the sum below Kubernetes' terminationGracePeriodSeconds (30 s).";
    Landlock "landlock" Process, Kind::Switch, Preset::Is("on"),
        "Confine the process with Landlock where the kernel has it",
        "It can then only read its certificate and password files and make its unix sockets.";
}

/// The setting with this `snake_case` key.
#[must_use]
pub fn by_file_key(text: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.file_key() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_own_kind() {
        let mut seen = 0;
        for setting in SETTINGS {
            for protocol in [None, Some(Protocol::Redis), Some(Protocol::Postgres), Some(Protocol::Tls)] {
                if let Some(text) = setting.preset.text(protocol) {
                    setting.kind.parse(text).unwrap_or_else(|why| panic!("{}: {why}", setting.name));
                    seen += 1;
                }
            }
        }
        assert!(seen > SETTINGS.len());
    }

    #[test]
    fn names_are_unique_and_keys_are_indexes() {
        let names: std::collections::BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(SETTINGS.iter().all(|setting| setting.key.setting().name == setting.name));
        assert_eq!(by_file_key("pool_min_idle").unwrap().env_key(), "REDIS_TLS_PROXY_POOL_MIN_IDLE");
        assert!(by_file_key("pool-min-idle").is_none());
    }

    #[test]
    fn words_keep_their_form() {
        for setting in SETTINGS {
            assert!(!setting.help.ends_with('.') && setting.help.len() <= 72, "{}: help", setting.name);
            assert!(setting.explain.ends_with('.'), "{}: explain", setting.name);
        }
    }
}
