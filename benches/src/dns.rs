//! A name server (dnsmasq) for programs that must find names as they do in production, by DNS and not by a hosts file: in a network of the
//! test's own ([`crate::netns`]), where port 53 is free.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Process, Signal, require};

const START: Duration = Duration::from_secs(30);

/// A running name server that knows what it is told, and nothing else; killed when dropped.
pub struct Dns {
    process: Process,
    address: Ipv4Addr,
    dir: TempDir,
}

impl Dns {
    /// Answers on port 53 of `address`, which must be this network's.
    ///
    /// # Errors
    /// When dnsmasq is not installed or does not start.
    pub async fn start(address: Ipv4Addr) -> Result<Self> {
        let program = require("dnsmasq", "dnsmasq-base")?;
        let dir = tempfile::Builder::new().prefix("lab-dns-").tempdir()?;
        let hosts = dir.path().join("hosts");
        fs::write(&hosts, "")?;
        let mut command = Command::new(program);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file="]);
        // What is not in the file does not exist. Root, because the file lies in a folder of its own.
        command.args(["--local=//", "--address=/#/", "--user=root", &format!("--listen-address={address}")]);
        command.arg(format!("--addn-hosts={}", hosts.display()));
        let mut process = Process::spawn("dnsmasq", &command, dir.path())?;
        let listens = async || TcpStream::connect(SocketAddr::from((address, 53))).await.is_ok();
        process.ready(START, listens).await?;
        Ok(Self { process, address, dir })
    }

    /// From now on these names, without a dot at the end, have these addresses, and no others have any. A moment passes until it is so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set<N: AsRef<str>>(&self, names: &[(N, IpAddr)]) -> Result<()> {
        let lines: String = names.iter().map(|(name, address)| format!("{address} {}\n", name.as_ref())).collect();
        fs::write(self.dir.path().join("hosts"), lines)?;
        self.process.signal(Signal::HUP);
        Ok(())
    }

    /// An `/etc/resolv.conf` that asks it, as a kubelet would write it for a pod with these search domains.
    #[must_use]
    pub fn resolv_conf(&self, search: &[&str]) -> String {
        format!("nameserver {}\nsearch {}\noptions ndots:5\n", self.address, search.join(" "))
    }
}
