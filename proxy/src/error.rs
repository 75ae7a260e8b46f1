//! What can go wrong, and whose fault it is.
//!
//! One error type for the data path. Its *side* says who has to act (the client, the upstream, or us), its *kind* is at the same time the
//! metric label and the word in the log, and its message says what to do. Texts that reach a client are built by [`Error::for_client`]
//! alone: they never carry a name, an address or a secret of the upstream.

use std::fmt;
use std::io;

/// Who caused it, and so who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program that connected to us.
    Client,
    /// The server behind us, or the network to it.
    Upstream,
    /// This process: a limit, a deadline, a shutdown.
    Ours,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Ours => "proxy",
        })
    }
}

/// Declares an enum whose variants are the closed label set of a metric.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $crate::error::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use labels;

/// A closed set of metric label values.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The value as it appears in metrics and logs.
    fn label(self) -> &'static str;
    /// Its position in [`Label::ALL`].
    fn index(self) -> usize;
}

labels! {
    /// What went wrong. The label of `redis_tls_proxy_errors_total{kind}` and, for the `tls_` kinds, of `…tls_errors_total{kind}`.
    Kind {
        /// The upstream's name did not resolve.
        Dns = "dns",
        /// No TCP connection: refused, unreachable, timed out.
        Tcp = "tcp",
        /// The upstream's certificate is past its notAfter.
        TlsExpired = "tls_expired",
        /// The upstream's certificate is before its notBefore.
        TlsNotYetValid = "tls_not_yet_valid",
        /// The certificate is for another name.
        TlsName = "tls_name",
        /// The certificate's issuer is not among the trusted roots.
        TlsIssuer = "tls_issuer",
        /// The peer sent a TLS alert: it refused the handshake.
        TlsRefused = "tls_refused",
        /// The peer does not speak TLS on this port.
        TlsPlaintext = "tls_plaintext",
        /// Any other TLS failure.
        TlsOther = "tls_other",
        /// The peer refused the password, or asked for a login that is not allowed.
        Login = "login",
        /// The server is there but cannot serve now: it loads its data, has no free place, or is a replica without its primary.
        Unavailable = "unavailable",
        /// The peer broke its protocol.
        Protocol = "protocol",
        /// A deadline passed.
        Timeout = "timeout",
        /// The connection broke.
        Io = "io",
        /// A configured limit was reached.
        Limit = "limit",
        /// The process is going away.
        Draining = "draining",
    }
}

impl Kind {
    /// The kinds that are TLS failures.
    #[must_use]
    pub fn is_tls(self) -> bool {
        self.label().starts_with("tls_")
    }

    /// The kinds that may be gone at the next try, without anybody's doing.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Dns | Self::Tcp | Self::Timeout | Self::Io | Self::Unavailable)
    }
}

/// An error of the data path: whose, what, and in words why and what to do about it.
#[derive(Clone)]
pub struct Error {
    /// Who has to act.
    pub side: Side,
    /// The metric label.
    pub kind: Kind,
    /// One line for the log: why, and the cure. Never a secret, a key, a query or a payload.
    pub why: String,
    /// The server's own reply, whole, when what it refused is what a client asked for (its database, its login): that client must hear just
    /// this. For no other eyes; never logged.
    pub reply: Option<Box<[u8]>>,
}

impl Error {
    /// The client did something that it must not, or vanished.
    pub fn client(kind: Kind, why: impl Into<String>) -> Self {
        Self { side: Side::Client, kind, why: why.into(), reply: None }
    }

    /// The upstream did, or could not be reached.
    pub fn upstream(kind: Kind, why: impl Into<String>) -> Self {
        Self { side: Side::Upstream, kind, why: why.into(), reply: None }
    }

    /// A limit, a deadline or a shutdown of ours.
    pub fn ours(kind: Kind, why: impl Into<String>) -> Self {
        Self { side: Side::Ours, kind, why: why.into(), reply: None }
    }

    /// Where the side is not known beforehand.
    pub fn on(side: Side, kind: Kind, why: impl Into<String>) -> Self {
        Self { side, kind, why: why.into(), reply: None }
    }

    /// A socket error on `side`.
    #[must_use]
    pub fn io(side: Side, error: &io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::TimedOut { Kind::Timeout } else { Kind::Io };
        Self { side, kind, why: error.to_string(), reply: None }
    }

    /// With the server's reply for the client that asked.
    #[must_use]
    pub fn replying(self, reply: &[u8]) -> Self {
        Self { reply: Some(reply.into()), ..self }
    }

    /// What a client may be told: the kind of trouble, without addresses, names or the upstream's own words.
    #[must_use]
    pub fn for_client(&self) -> &'static str {
        match (self.side, self.kind) {
            (Side::Upstream, Kind::Dns) => "the server's name does not resolve",
            (Side::Upstream, Kind::Tcp) => "the server cannot be reached",
            (Side::Upstream, Kind::Login) => "the server refused the proxy's login",
            (Side::Upstream, kind) if kind.is_tls() => "TLS to the server failed",
            (Side::Upstream, Kind::Unavailable) => "the server cannot serve now",
            (Side::Upstream, Kind::Timeout) => "the server did not answer in time",
            (Side::Upstream, _) => "the connection to the server failed",
            (Side::Ours, Kind::Limit) => "too many clients",
            (Side::Ours, Kind::Timeout) => "timed out waiting for a server connection",
            (Side::Ours, Kind::Draining) => "the proxy is shutting down",
            (Side::Ours, _) => "internal error",
            (Side::Client, Kind::Timeout) => "login timed out",
            (Side::Client, _) => "protocol error",
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.side, self.kind.label(), self.why)
    }
}

impl std::error::Error for Error {}

/// A result of the data path.
pub type Result<T> = std::result::Result<T, Error>;
