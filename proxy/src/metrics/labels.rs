//! The closed label sets: what a label of a metric may say.

use crate::error::labels;

labels! {
    /// Why a client was turned away before it was served.
    RejectReason {
        /// `max_clients` reached.
        MaxClients = "max_clients",
        /// The process is draining.
        Draining = "draining",
        /// Wrong or missing password, or certificate.
        Auth = "auth",
        /// The client's TLS handshake failed.
        Tls = "tls",
        /// The first bytes were not the listener's protocol.
        Protocol = "protocol",
        /// Login took too long.
        Timeout = "timeout",
        /// No upstream connection could be had.
        Upstream = "upstream",
    }
}

labels! {
    /// Why a served client's session ended.
    CloseReason {
        /// The client closed first.
        Client = "client",
        /// The upstream closed first.
        Upstream = "upstream",
        /// The client's connection broke.
        ClientError = "client_error",
        /// The upstream's connection broke.
        UpstreamError = "upstream_error",
        /// Its replies waited for a client that did not take them, beyond what may wait.
        SlowReader = "slow_reader",
        /// It broke the protocol, and was told so.
        Protocol = "protocol",
        /// `idle_timeout` passed.
        Idle = "idle",
        /// Closed by a drain at a protocol boundary.
        Drain = "drain",
        /// Its upstream connection belonged to the share of another proxy from then on.
        Recalled = "recalled",
        /// Cut when `drain_timeout` passed.
        Cut = "cut",
    }
}

labels! {
    /// What an upstream connection is doing.
    UpstreamState {
        /// Being opened: name, TCP, TLS, login.
        Connecting = "connecting",
        /// Ready and unused.
        Idle = "idle",
        /// In a client's hands.
        Leased = "leased",
        /// Shared by clients (`multiplex`).
        Lane = "lane",
    }
}

labels! {
    /// The parts of opening an upstream connection.
    DialPhase {
        /// Name resolution.
        Dns = "dns",
        /// TCP connect.
        Tcp = "tcp",
        /// TLS handshake (for PostgreSQL with its SSLRequest).
        Tls = "tls",
        /// The proxy's own login.
        Login = "login",
    }
}

labels! {
    /// TLS version and whether the session was resumed.
    Handshake {
        /// TLS 1.2, full.
        Tls12Full = "1.2,full",
        /// TLS 1.2, resumed.
        Tls12Resumed = "1.2,resumed",
        /// TLS 1.3, full.
        Tls13Full = "1.3,full",
        /// TLS 1.3, resumed.
        Tls13Resumed = "1.3,resumed",
    }
}

labels! {
    /// How a client got its upstream connection.
    LeaseOutcome {
        /// One was ready.
        Warm = "warm",
        /// A new one was opened for it.
        Cold = "cold",
        /// It waited for one that was being opened or returned.
        Waited = "waited",
        /// It got none in time.
        Timeout = "timeout",
        /// It got none because opening failed.
        Failed = "failed",
    }
}

labels! {
    /// Why an unused upstream connection was thrown away.
    EvictReason {
        /// Older than `pool_max_idle_age`.
        IdleAge = "idle_age",
        /// Older than `pool_max_lifetime`.
        Lifetime = "lifetime",
        /// Its place was needed for another database, user, worker or proxy.
        Pressure = "pressure",
        /// It could not be brought back to the state of a new one.
        Unclean = "unclean",
        /// The server says that it is a replica now.
        ReadOnly = "read_only",
        /// The server closed it or sent something unasked.
        ServerClosed = "server_closed",
        /// The name now points elsewhere.
        Dns = "dns",
        /// Certificates or passwords changed.
        Reload = "reload",
        /// PAUSE or RECONNECT of the admin console.
        Admin = "admin",
        /// The process is draining.
        Drain = "drain",
    }
}

labels! {
    /// What became of a changed file.
    ReloadResult {
        /// In use now.
        Ok = "ok",
        /// Refused; the previous one stays in use.
        Failed = "failed",
    }
}

labels! {
    /// Why a client got an upstream connection of its own.
    PinReason {
        /// `session`: each client has one.
        Session = "session",
        /// WATCH, until EXEC, DISCARD or UNWATCH.
        Watch = "watch",
        /// MULTI whose EXEC had not arrived with it.
        Multi = "multi",
        /// A command that may block: BLPOP, XREAD BLOCK and their kind.
        Blocking = "blocking",
        /// A command that must not queue behind others: SCRIPT KILL, CLIENT LIST, DEBUG and their kind.
        Once = "once",
        /// A request too big to be kept until it is whole.
        BigRequest = "big_request",
        /// SUBSCRIBE and its kind.
        Subscribe = "subscribe",
        /// MONITOR.
        Monitor = "monitor",
        /// A command that changes or asks for the connection's own state: CLIENT TRACKING, CLIENT ID and their kind.
        Connection = "connection",
        /// A command that the table does not know.
        Unknown = "unknown_command",
        /// A session advisory lock (`transaction`).
        AdvisoryLock = "advisory_lock",
        /// LISTEN.
        Listen = "listen",
        /// A temporary table.
        TempTable = "temp_table",
        /// PREPARE in SQL.
        Prepare = "prepare",
        /// A cursor WITH HOLD.
        HoldCursor = "cursor_with_hold",
        /// SET ROLE, SET SESSION AUTHORIZATION.
        Role = "role",
        /// A setting that cannot be followed.
        Setting = "setting",
        /// `currval`, `lastval`.
        Sequence = "sequence",
        /// LOAD.
        Load = "load",
    }
}

labels! {
    /// How a request reached the upstream.
    RequestClass {
        /// On a lane.
        Shared = "shared",
        /// On a lane, a whole MULTI … EXEC at once.
        Transaction = "transaction",
        /// On a connection of the client's own.
        Pinned = "pinned",
    }
}

labels! {
    /// Why the proxy answered a request with an error of its own.
    RefusalReason {
        /// SYNC, PSYNC, REPLCONF.
        Forbidden = "forbidden",
        /// The bytes were not the protocol.
        Protocol = "protocol",
        /// Wrong or missing password.
        Auth = "auth",
        /// No upstream connection could be had.
        Upstream = "upstream",
        /// None was free in time.
        Timeout = "timeout",
    }
}
