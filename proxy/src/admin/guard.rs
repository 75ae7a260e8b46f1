//! Who may control the process: only a program on this machine, and not a web page that a browser on this machine shows. `[pure]`
//!
//! The control routes have no password: being on loopback is the proof. A browser is on loopback too, and any page it shows can make it
//! send requests here. So a request that names its origin must come from our own page, and the name it was sent to must be an address or
//! `localhost`: a foreign name that was pointed at 127.0.0.1 (DNS rebinding) makes a foreign page look like our own.

use std::net::{IpAddr, SocketAddr};

/// What of a request decides; `None` for a header that is absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// The other end of the connection.
    pub(super) peer: SocketAddr,
    /// The `Host` header; `None` also when there are several or it is not text.
    pub(super) host: Option<&'a str>,
    /// The `Origin` header, if the request has one; bytes that are no text count as a foreign origin.
    pub(super) origin: Option<&'a str>,
}

/// Says why the caller may not control this process.
///
/// # Errors
/// One line for the caller: what is wrong with the request and how to send a good one.
pub(super) fn may_control(caller: &Caller<'_>) -> Result<(), &'static str> {
    if !is_loopback(caller.peer.ip()) {
        return Err("only programs on this machine may do this: send it to 127.0.0.1 (in Kubernetes: kubectl port-forward or exec)");
    }
    let Some(host) = caller.host.filter(|host| is_local_name(host)) else {
        return Err("send this to an IP address or localhost, not to a name");
    };
    match caller.origin {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://").is_some_and(|from| from.eq_ignore_ascii_case(host)) => Ok(()),
        Some(_) => Err("web pages may not do this: use curl"),
    }
}

/// `::ffff:127.0.0.1` is how a dual-stack socket shows an IPv4 loopback peer.
pub(super) fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Whether a `Host` header names an address or `localhost`, with or without a port.
fn is_local_name(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    name.eq_ignore_ascii_case("localhost") && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(peer: &str, host: Option<&str>, origin: Option<&str>) -> bool {
        may_control(&Caller { peer: peer.parse().unwrap(), host, origin }).is_ok()
    }

    #[test]
    fn loopback_in_every_spelling() {
        for (peer, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.9.10:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[::]:1", false),
            ("[fe80::1]:1", false),
        ] {
            assert_eq!(allowed(peer, Some("127.0.0.1:9090"), None), expected, "{peer}");
        }
    }

    #[test]
    fn names_that_a_resolver_could_have_pointed_here_are_refused() {
        for host in ["127.0.0.1", "127.0.0.1:9090", "localhost", "LocalHost:9090", "[::1]", "[::1]:9090", "10.2.3.4:9090"] {
            assert!(allowed("127.0.0.1:1", Some(host), None), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9090", "localhost.evil.example", "localhost:x", "[evil]:1", "::1:x", "127.0.0.1.evil"]
        {
            assert!(!allowed("127.0.0.1:1", Some(host), None), "{host}");
        }
        assert!(!allowed("127.0.0.1:1", None, None));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let from = |origin| allowed("127.0.0.1:1", Some("127.0.0.1:9090"), Some(origin));
        assert!(from("http://127.0.0.1:9090"));
        for origin in ["null", "", "http://127.0.0.1", "http://127.0.0.1:9091", "https://127.0.0.1:9090", "https://evil.example"] {
            assert!(!from(origin), "{origin}");
        }
    }
}
