//! A network of machines on one machine: namespaces with addresses and routes of their own, in a world that ends with the test.
//!
//! [`isolated`] runs the test once more inside new network, mount and process namespaces. There, loopback is the test's own, every address may
//! be taken, and nothing that it makes outlives it: when its process ends, however, the kernel ends all that it started and takes the network
//! away. The test's own namespace is the middle of that world; [`Machine`]s hang on it, or on each other.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::{Launch, Process, find, is_root, require, run};

/// Tells the inner run from the outer one.
const INSIDE: &str = "LAB_NETWORK_OF_ITS_OWN";

/// A network namespace that is removed when dropped.
pub struct Machine {
    name: String,
}

/// Runs the test function `test` (its whole path in the test program) once more in a world of its own. `false`: that has happened, and there is
/// nothing left to do. `true`: this *is* the inner run.
///
/// # Errors
/// The inner run failed or took longer than `limit`, with its output; or the machine does not allow namespaces.
#[expect(clippy::print_stderr, reason = "what the inner run has to say, the outer one says")]
pub async fn isolated(test: &str, limit: Duration) -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    if !is_root() {
        bail!("network namespaces need root");
    }
    for (program, package) in [("unshare", "util-linux"), ("ip", "iproute2"), ("nft", "nftables")] {
        require(program, package)?;
    }
    // Names of namespaces are kept in /run, which is the machine's.
    const PREPARE: &str = "mount -t tmpfs lab /run && ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"]);
    command.args(["sh", "-c", PREPARE, "sh"]).arg(std::env::current_exe()?);
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"]).env(INSIDE, "1");
    let dir = tempfile::Builder::new().prefix("lab-world-").tempdir()?;
    let mut inner = Process::spawn("test", &command, dir.path())?;
    let status = inner.wait_exit(limit).await;
    let output = format!("{}{}", inner.stdout(), inner.stderr());
    match status {
        // A name that fits no test is a success that has tested nothing.
        Ok(status) if status.success() && output.contains("1 passed") => {
            eprint!("{}", inner.stderr());
            Ok(false)
        }
        Ok(status) => Err(anyhow!("{test} in a network of its own: {status}\n{output}")),
        Err(error) => Err(anyhow!("{error}\n{output}")),
    }
}

/// Runs a script with arguments in the test's own network.
///
/// # Errors
/// When a command in it fails; the text has what it said.
pub fn sh(script: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).args(arguments);
    run(&command, Launch::default(), "")
}

impl Machine {
    /// A new one: loopback is up, packets for others are passed on, no cable is plugged in.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        sh("ip netns add \"$1\"", &[name])?;
        let machine = Self { name: name.to_owned() };
        machine.sh("ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward", &[])?;
        Ok(machine)
    }

    /// A cable from here to `gateway` (`None`: to the test's own network), and all routes through it. Both ends are one hop apart: `own` belongs to
    /// this machine alone, and the gateway answers as `through`.
    ///
    /// # Errors
    /// When an interface of the name is there already.
    pub fn plug_into(&self, gateway: Option<&Self>, own: Ipv4Addr, through: Ipv4Addr) -> Result<()> {
        let link = "ip link add \"$1\" type veth peer name eth0 netns \"$1\"; ip addr add \"$3/32\" dev \"$1\"; ip link set \"$1\" up; \
                    ip route add \"$2/32\" dev \"$1\" src \"$3\"";
        let (own, through) = (own.to_string(), through.to_string());
        let arguments = [self.name.as_str(), &own, &through];
        // A namespace's name is known everywhere in this world, so the gateway can reach into it.
        gateway.map_or_else(|| sh(link, &arguments), |gateway| gateway.sh(link, &arguments))?;
        let routes = "ip addr add \"$2/32\" dev eth0; ip link set eth0 up; ip route add \"$3\" dev eth0; ip route add default via \"$3\"";
        self.sh(routes, &arguments).map(drop)
    }

    /// Runs a script with arguments in it.
    ///
    /// # Errors
    /// When a command in it fails; the text has what it said.
    pub fn sh(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh"]).args(arguments);
        run(&self.command(&command), Launch::default(), "")
    }

    /// Runs a script given on standard input by a program in it, e.g. `nft -f -`.
    ///
    /// # Errors
    /// When it fails; the text has what it said.
    pub fn feed(&self, command: &Command, input: &str) -> Result<String> {
        run(&self.command(command), Launch::default(), input)
    }

    /// The same command, in this machine's network. Its process id is that of the program itself.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        let mut wrapped = Command::new(find("nsenter").unwrap_or_else(|| "nsenter".into()));
        wrapped.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped
    }

    /// Connects from this machine. A socket stays in the network that it was made in; the calling task stays where it is.
    ///
    /// # Errors
    /// As the connection fails, or when it takes longer than `limit`: nobody refuses what a router drops.
    pub async fn connect(&self, address: SocketAddr, limit: Duration) -> Result<TcpStream> {
        let namespace = File::open(format!("/run/netns/{}", self.name)).context("the machine is gone")?;
        let make = move || -> io::Result<TcpSocket> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpSocket::new_v4()
        };
        // A thread of its own, since it is lost to this network.
        let made = std::thread::Builder::new().spawn(make)?.join().map_err(|_| anyhow!("a thread that made a socket has died"))?;
        let socket = made.context("no socket in the machine's network")?;
        let stream = tokio::time::timeout(limit, socket.connect(address)).await;
        let stream = stream.map_err(|_| anyhow!("{address} does not answer in {limit:?}"))?.with_context(|| format!("{address}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its interfaces go with it, on both ends.
        let _ = sh("ip netns del \"$1\"", &[&self.name]);
    }
}
