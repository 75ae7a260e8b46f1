//! `open`: Harbor's pages in a browser, and who one is there.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use serde::Serialize;

use super::{DONE, cluster, complain, keyring, read_spec, show, unless_interrupted};
use crate::cli::{Open, Shared};
use crate::cluster::Cluster;
use crate::harbor::admin::ADMIN;
use crate::harbor::reach;
use crate::keyring::Entry;
use crate::render::reached;
use crate::render::secrets::Use;
use crate::spec::{Expose, Spec};
use crate::trust::Card;

/// What opens a page on desktops.
const OPENERS: [&str; 2] = ["xdg-open", "open"];
/// The same trouble is said at most so often.
const CALM: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Report {
    url: String,
    user: &'static str,
    /// Where the password is; never the password.
    password: Vec<String>,
    notes: Vec<String>,
    /// Until Ctrl-C.
    forwarded: bool,
}

pub(super) async fn run(shared: &Shared, args: &Open) -> Result<u8> {
    let spec = read_spec(&shared.spec)?;
    if !args.forward && spec.harbor.expose != Expose::ClusterIp {
        let notes = match spec.harbor.expose {
            Expose::LoadBalancer | Expose::NodePort => {
                vec!["Through the cluster, where that name does not lead there yet: --forward.".to_owned()]
            }
            _ => Vec::new(),
        };
        let report = Report { url: reached(&spec).url, user: ADMIN, password: password(shared, &spec)?, notes, forwarded: false };
        show(shared.output, &report)?;
        browse(args, &report.url);
        return Ok(DONE);
    }
    if matches!(spec.harbor.expose, Expose::Ingress | Expose::Traefik | Expose::Route) {
        bail!(
            "Harbor's pages and its API are two Services that only the ingress puts together, so a port-forward shows no pages; open {}",
            reached(&spec).url
        );
    }
    let cluster = cluster(shared, &spec).await?;
    let forwarded = async { forward(shared, args, &spec, &cluster).await };
    unless_interrupted(forwarded).await.unwrap_or(Ok(DONE))
}

async fn forward(shared: &Shared, args: &Open, spec: &Spec, cluster: &Cluster) -> Result<u8> {
    let at = super::harbor::through(cluster, spec, None, args.port).await?;
    // Verified, as always: what the browser will show is then what the cluster has.
    at.harbor.ping().await?;
    let forward = at.forward.as_ref().context("no port-forward")?;
    let url = format!("https://localhost:{}/", forward.address().port());
    let host = reached(spec).host;
    let mut notes = Vec::new();
    if let Some(certificate) = reach::certificate(cluster, spec).await? {
        notes.push(format!(
            "The browser will warn: the certificate is for {host}. It is the right one if its SHA-256 fingerprint is\n  {}",
            Card::of(&certificate)?.sha256
        ));
    }
    notes.push(format!(
        "Commands that the pages show are for {host}. A login by OIDC leads back there and does not work at this address; admin's does."
    ));
    let report = Report { url: url.clone(), user: ADMIN, password: password(shared, spec)?, notes, forwarded: true };
    show(shared.output, &report)?;
    browse(args, &url);
    let mut trouble = forward.trouble();
    while trouble.changed().await.is_ok() {
        let told = trouble.borrow_and_update().clone();
        if let Some(told) = told {
            complain(&format!("doks-harbor: a connection failed: {told}"));
        }
        tokio::time::sleep(CALM).await;
    }
    bail!("the port-forward has ended; run it again")
}

/// The keyring's file, and the Secret.
fn password(shared: &Shared, spec: &Spec) -> Result<Vec<String>> {
    let mut places = Vec::new();
    if let Some(keyring) = keyring(shared)? {
        let is_there = keyring.get(Entry::HarborAdminPassword)?.is_some_and(|password| !password.expose_secret().is_empty());
        if is_there {
            places.push(format!("{}", keyring.folder().join(Entry::HarborAdminPassword.file()).display()));
        }
    }
    if Use::Admin.is_referred_to(spec.harbor.chart) {
        places.push(format!(
            "kubectl get secret -n {} {} -o jsonpath='{{.data.HARBOR_ADMIN_PASSWORD}}' | base64 -d",
            spec.namespace,
            Use::Admin.name(&spec.harbor.release)
        ));
    }
    Ok(places)
}

/// Only where there is a desktop; that it does not work is no failure.
fn browse(args: &Open, url: &str) {
    if !args.browser {
        return;
    }
    let has_desktop = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let opened = has_desktop
        && OPENERS.iter().any(|opener| {
            let mut command = tokio::process::Command::new(opener);
            command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
        });
    if !opened {
        complain("there is no browser to start here; open the address yourself");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Harbor     {}\nuser       {}", self.url, self.user)?;
        for (number, place) in self.password.iter().enumerate() {
            writeln!(f, "{}{place}", if number == 0 { "password   in " } else { "           or " })?;
        }
        if !self.password.is_empty() {
            writeln!(f, "           (as Harbor was first started with, unless somebody has changed it there)")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))?;
        if self.forwarded { writeln!(f, "\nOpen until Ctrl-C.") } else { Ok(()) }
    }
}
