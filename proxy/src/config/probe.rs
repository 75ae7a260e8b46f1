//! Would a listener get its address? Asked before anything starts, so that the answer comes with the other mistakes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};
use socket2::{Domain, SockAddr, Socket, Type};

use super::pem::plain;
use super::types::ListenAddr;
use super::value::UNIX_PATH_BYTES;

/// Binds `address` the way a listener does (SO_REUSEADDR and SO_REUSEPORT, so that an older process of the same user does not count as
/// in the way) and lets go of it at once. It never listens, so no client is taken from anybody. A unix socket's file is not touched.
///
/// # Errors
/// Why it cannot be had, and the cure.
pub fn probe_bind(address: &ListenAddr) -> Result<(), String> {
    match address {
        ListenAddr::Tcp(address) => tcp(*address).map_err(|error| tcp_cure(*address, &error)),
        ListenAddr::Unix(path) => unix(path),
    }
}

fn tcp(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())
}

fn tcp_cure(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; stop it (`ss -ltnp sport = :{port}` shows which) or choose another port")
        }
        ErrorKind::PermissionDenied => {
            format!("{address} is not allowed: ports below 1024 need CAP_NET_BIND_SERVICE; choose a port from 1024 on")
        }
        ErrorKind::AddrNotAvailable => {
            format!("{address} is not an address of this machine; `ip address` shows those, 0.0.0.0 is all of them")
        }
        _ => format!("{address} cannot be bound: {}; choose another address", plain(error)),
    }
}

fn unix(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.as_os_str().len() > UNIX_PATH_BYTES {
        return Err(format!("{shown} is longer than the {UNIX_PATH_BYTES} bytes that the system allows; choose a shorter path"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !folder.is_dir() {
        return Err(format!("{} is not a directory; make it, or choose another path for the socket", folder.display()));
    }
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Err(format!("no socket can be made in {}: permission denied; let the proxy's user write there", folder.display()));
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{shown} cannot be looked at: {}; choose another path", plain(&error))),
        Ok(data) if !data.file_type().is_socket() => {
            Err(format!("{shown} exists and is not a socket; move it away, or choose another path"))
        }
        // A socket file that nobody answers on was left by a process that died; the listener replaces it.
        Ok(_) if answers(path) => Err(format!("{shown} is in use by another program; stop it or choose another path")),
        Ok(_) => Ok(()),
    }
}

/// Never blocks: a full queue (`WouldBlock`) is an answer too.
fn answers(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    !matches!(connect(), Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn tcp_addresses() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let why = probe_bind(&ListenAddr::Tcp(address)).unwrap_err();
        assert!(why.starts_with(&format!("{address} is in use")), "{why}");
        assert_eq!(probe_bind(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap())), Ok(()));
        assert!(probe_bind(&ListenAddr::Tcp("192.0.2.1:1".parse().unwrap())).unwrap_err().contains("not an address of this machine"));
        let denied = tcp_cure(address, &ErrorKind::PermissionDenied.into());
        assert!(denied.contains("CAP_NET_BIND_SERVICE"), "{denied}");
    }

    #[test]
    fn a_port_shared_by_an_older_process_is_free() {
        let older = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        older.set_reuse_address(true).unwrap();
        older.set_reuse_port(true).unwrap();
        older.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        older.listen(1).unwrap();
        let address = older.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(probe_bind(&ListenAddr::Tcp(address)), Ok(()));
    }

    #[test]
    fn unix_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let probe = |path: &Path| probe_bind(&ListenAddr::Unix(path.to_path_buf()));
        assert_eq!(probe(&path), Ok(()));
        assert!(!path.exists());
        let listener = UnixListener::bind(&path).unwrap();
        assert!(probe(&path).unwrap_err().contains("in use"));
        drop(listener);
        assert_eq!(probe(&path), Ok(()), "left over by a process that died");
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert!(probe(&plain).unwrap_err().contains("not a socket"));
        assert!(probe(&dir.path().join("none/s")).unwrap_err().contains("not a directory"));
        assert!(probe(&dir.path().join("x".repeat(120))).unwrap_err().contains("107 bytes"));
    }
}
