//! `trust`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{DONE, show};
use crate::cli;
use crate::cli::{Runtime, Shared};
use crate::trust::{CONFIG_PATH, NODES, Place, Report, authority, config_path_is_set, is_public};

pub(super) async fn run(shared: &Shared, args: &cli::Trust) -> Result<u8> {
    let at = super::harbor::reachable(shared, &args.reach).await?;
    if is_public(&at).await {
        show(shared.output, &Report::public(at.registry))?;
        return Ok(DONE);
    }
    let authority = authority(&at).await?;
    let (mut written, mut notes) = (Vec::new(), Vec::new());
    if let Some(what) = args.write {
        let root = args.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let place = if args.user { Place::Home(config_home()?) } else { Place::Root(root.clone()) };
        written = place.write(what, &at.registry, &authority.pem, args.force)?;
        if matches!(what, Runtime::Containerd | Runtime::All) {
            if !args.user && !config_path_is_set(&root) {
                notes.push(CONFIG_PATH.to_owned());
            }
            notes.push(NODES.to_owned());
        }
    }
    show(shared.output, &Report::private(at.registry, &authority, written, notes)?)?;
    Ok(DONE)
}

/// `~/.config`.
fn config_home() -> Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config"))).context("neither HOME nor XDG_CONFIG_HOME is set")
}
