//! `make demo`: the whole path in half a minute. An imitation of DigitalOcean whose databases are real servers on this machine, provisioned by
//! `doks-harbor`; the proxy, started from what that wrote; real load generators; one table.
//!
//! `KEEP=1` leaves everything running until Ctrl-C, for a look at the status page and a try by hand.

#![expect(clippy::print_stdout, reason = "printing is what the demo is for")]

mod account;
mod load;

use std::path::PathBuf;

use account::Account;
use anyhow::{Context, Result, ensure};
use lab::{Authority, Proxy, free_port};
use load::Load;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (installer, proxy) = (program("doks-harbor")?, program("redis-tls-proxy")?);
    say("An imitation of DigitalOcean's API, whose databases are a real Redis and a real PostgreSQL on this machine, TLS only");
    let account = Account::open(&Authority::new()?, installer).await?;

    account.preflight().await?;
    account.plan().await?;
    account.apply().await?;
    account.obey().await?;
    account.show_files()?;

    let (redis, postgres) = (free_port()?, free_port()?);
    let config = account.render_local(redis, postgres).await?;
    say("redis-tls-proxy, started from that file");
    let proxy = Proxy::start(&proxy, &["run", "--config", &config.display().to_string(), "--quiet"], &[]).await?;
    let load = Load { account: &account, redis, postgres, password: account.secret("client-password")? };
    println!("   with the password for clients  {}", load.ping_through_the_proxy()?);
    println!("   the same at Redis itself       {}", load.ping_at_the_database()?);

    say("Load: redis-benchmark and pgbench");
    let rows = load.measure().await?;
    load::print(&rows);
    let clients = proxy.metric("redis_tls_proxy_clients_accepted_total", &[]).await?;
    let opened = proxy.metric("redis_tls_proxy_tls_handshakes_total", &[]).await?;
    ensure!(clients > opened, "{clients} clients cost {opened} connections to the servers: nothing was shared");
    println!("\n   {clients} clients shared {opened} connections to the servers.");

    account.status().await?;
    println!("\nStatus page  http://{}/\nMetrics      http://{0}/metrics", proxy.admin());
    if std::env::var_os("KEEP").is_some() {
        println!("\nTry it, in another terminal:\n{}", account.try_it());
        println!("  REDISCLI_AUTH=$(cat doks-harbor.keyring/client-password) redis-cli -p {redis}");
        println!("  PGPASSWORD=$(cat doks-harbor.keyring/client-password) psql -h 127.0.0.1 -p {postgres} -U harbor registry");
        println!("\nCtrl-C ends it.");
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

fn say(what: &str) {
    println!("\n── {what}");
}

/// Built into the same folder as this program.
fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let program = here.parent().context("no folder")?.join(name);
    ensure!(program.exists(), "{} is missing; run `make demo`, which builds it", program.display());
    Ok(program)
}
