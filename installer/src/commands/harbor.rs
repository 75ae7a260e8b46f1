//! The Harbor that a command talks to: found, trusted, logged in to.

use anyhow::{Context, Result, ensure};

use super::{cluster, keyring, read_spec};
use crate::cli::{HarborLogin, Reach, Shared};
use crate::cluster::Cluster;
use crate::harbor::reach::{self, Authority, Reachable};
use crate::harbor::{Login, admin};
use crate::spec::{Expose, Spec};

/// As the arguments say, else as the spec does. Where the certificate is of no public authority, the cluster is asked for its own.
pub(super) async fn reachable(shared: &Shared, args: &Reach) -> Result<Reachable> {
    let told = reach::authority_file(args.ca_file.as_ref())?;
    let Some(address) = &args.harbor else {
        let spec = read_spec(&shared.spec)?;
        if args.forward || spec.harbor.expose == Expose::ClusterIp {
            let cluster = cluster(shared, &spec).await?;
            return through(&cluster, &spec, told, 0).await;
        }
        return trusted(shared, Some(&spec), reach::by_host(&spec, told)?, |authority| reach::by_host(&spec, Some(authority))).await;
    };
    // A Harbor that was installed in another way needs no spec.
    let spec = shared.spec.exists().then(|| read_spec(&shared.spec)).transpose()?;
    let spec = spec.as_ref();
    trusted(shared, spec, reach::by_address(address, told, spec)?, |authority| reach::by_address(address, Some(authority), spec)).await
}

/// Through the cluster; `told` is the authority of a file.
pub(super) async fn through(cluster: &Cluster, spec: &Spec, told: Option<Authority>, local: u16) -> Result<Reachable> {
    let authority = match told {
        Some(authority) => Some(authority),
        None => Authority::of_cluster(cluster, spec).await?,
    };
    reach::through(cluster, spec, authority, local).await
}

async fn trusted(
    shared: &Shared,
    spec: Option<&Spec>,
    at: Reachable,
    again: impl FnOnce(Authority) -> Result<Reachable>,
) -> Result<Reachable> {
    let (Some(spec), None) = (spec, &at.authority) else { return Ok(at) };
    // Anything else that is wrong is told by the call that it is in the way of.
    let Err(error) = at.harbor.ping().await else { return Ok(at) };
    if !error.is_certificate() {
        return Ok(at);
    }
    let told = async { Authority::of_cluster(&cluster(shared, spec).await?, spec).await };
    match told.await {
        Ok(Some(authority)) => again(authority),
        Ok(None) => Ok(at),
        Err(why) => Err(error).with_context(|| format!("the cluster cannot be asked for the authority, either ({why:#})")),
    }
}

/// Who asks: a user that was said, else admin with the keyring's password.
pub(super) fn login(shared: &Shared, args: &HarborLogin) -> Result<Login> {
    match (&args.user, &args.password_file) {
        (user, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--password-file {} cannot be read", file.display()))?;
            let password = text.trim_end_matches(['\r', '\n']);
            ensure!(!password.is_empty(), "--password-file {} is empty", file.display());
            Ok(Login { user: user.clone().unwrap_or_else(|| admin::ADMIN.to_owned()), password: password.into() })
        }
        _ => {
            let keyring = keyring(shared)?;
            let missing = || format!("there is no keyring at {}; say --user and --password-file", shared.keyring.display());
            admin::login(&keyring.with_context(missing)?)
        }
    }
}
