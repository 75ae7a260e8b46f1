//! Free loopback ports that two tests never share, in one process or in several.
//!
//! A port is taken from below the range that the kernel uses for outgoing connections: one from inside it could become some connection's source
//! port between here and the server's bind. A reservation is an abstract unix socket named after the port, so it ends with the process and
//! leaves no file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use socket2::{Domain, Socket, Type};

const LOWEST: u16 = 12_000;
/// `net.ipv4.ip_local_port_range` begins at 32768 unless somebody changed it.
const HIGHEST: u16 = 32_000;
const ATTEMPTS: usize = 2_000;

/// Reservations live as long as the process: a port is handed out once.
static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A TCP port that is free on 127.0.0.1 and ::1 and that no other lab on this machine is given.
///
/// # Errors
/// When none is found.
pub fn free_port() -> Result<u16> {
    for _ in 0..ATTEMPTS {
        let port = fastrand::u16(LOWEST..HIGHEST);
        let Ok(name) = UnixAddr::from_abstract_name(format!("redis-tls-proxy-lab-port-{port}")) else { continue };
        let Ok(reservation) = UnixListener::bind_addr(&name) else { continue };
        if is_free(Ipv4Addr::LOCALHOST.into(), port) && is_free(Ipv6Addr::LOCALHOST.into(), port) {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reservation);
            return Ok(port);
        }
    }
    bail!("no free port between {LOWEST} and {HIGHEST}: are other programs holding them?")
}

/// True also where the machine has no IPv6.
fn is_free(ip: IpAddr, port: u16) -> bool {
    let address = SocketAddr::new(ip, port);
    let Ok(socket) = Socket::new(Domain::for_address(address), Type::STREAM, None) else { return ip.is_ipv6() };
    // As servers do: connections in TIME_WAIT do not count.
    let _ = socket.set_reuse_address(true);
    match socket.bind(&address.into()) {
        Ok(()) => socket.listen(1).is_ok(),
        Err(error) => ip.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ports_are_free_and_never_handed_out_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        let (v4, v6) = (TcpListener::bind(("127.0.0.1", ports[0])), TcpListener::bind(("::1", ports[0])));
        v4.unwrap();
        assert!(v6.is_ok() || !std::path::Path::new("/proc/net/if_inet6").exists());
    }
}
