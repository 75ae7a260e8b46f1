//! PgBouncer in the proxy's place: `LAB_POOLER=pgbouncer` runs the claims about `session` and `transaction` against it, where it is installed.
//! That tells a claim that is impossible from one that is new.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use lab::process::{Launch, is_root};
use lab::{Process, free_port};

use super::{Bed, PASSWORD, USER};
use crate::support::SOON;

pub(crate) fn is_wanted() -> bool {
    std::env::var("LAB_POOLER").is_ok_and(|pooler| pooler == "pgbouncer")
}

pub(crate) async fn start(bed: &Bed, size: &str) -> (Process, SocketAddr) {
    let port = free_port().unwrap();
    let password = PASSWORD.replace('\'', "''");
    let settings = [
        "[databases]".to_owned(),
        format!("* = host=localhost port={} user={USER} password='{password}'", bed.gate.port()),
        "[pgbouncer]".to_owned(),
        format!("listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {}", bed.mode.name()),
        format!(
            "default_pool_size = {size}\nserver_tls_sslmode = verify-full\nserver_tls_ca_file = {}",
            bed.lab.postgres.ca_file().display()
        ),
        "ignore_startup_parameters = options,extra_float_digits,search_path\nmax_client_conn = 2000\nlogfile =\n".to_owned(),
    ];
    let file = bed.dir.path().join("pgbouncer.ini");
    fs::write(&file, settings.join("\n")).unwrap();
    let mut command = Command::new(lab::process::require("pgbouncer", "pgbouncer").unwrap());
    if is_root() {
        command.args(["-u", "postgres"]);
    }
    let mut process = Process::spawn_with("pgbouncer", command.arg("-q").arg(&file), bed.dir.path(), Launch::default()).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    process.ready(SOON, async || tokio::net::TcpStream::connect(address).await.is_ok()).await.unwrap();
    (process, address)
}
