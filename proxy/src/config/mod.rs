//! Configuration: flags, environment, file and URLs in, one checked [`Config`] out.

mod types;

pub use types::{
    ClientAuth, Config, Credentials, ListenAddr, ListenTls, Listener, LogFormat, Password, Pool, PoolMode, Process, Protocol, Upstream,
    UpstreamTls,
};
