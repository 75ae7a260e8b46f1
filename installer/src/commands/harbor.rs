//! The Harbor that a command talks to: found, trusted, logged in to.

use anyhow::{Context, Result, ensure};

use super::apply::keyring_as_in;
use super::{cluster, keyring, read_spec};
use crate::cli::{HarborLogin, Reach, Shared};
use crate::cluster::Cluster;
use crate::harbor::reach::{self, Authority, Reachable};
use crate::harbor::{Login, admin};
use crate::spec::{Expose, Spec};

/// As the arguments say, else as the spec does. Where the certificate is of no public authority, the cluster is asked for its own.
pub(super) async fn reachable(shared: &Shared, args: &Reach) -> Result<Reachable> {
    let told = reach::authority_file(args.ca_file.as_ref())?;
    let by_cluster = async |spec: &Spec| Authority::of_cluster(&cluster(shared, spec).await?, spec).await;
    if let Some(address) = &args.harbor {
        // A Harbor that was installed in another way needs no spec.
        let spec = shared.spec.exists().then(|| read_spec(&shared.spec)).transpose()?;
        let ask = async || match &spec {
            Some(spec) => by_cluster(spec).await,
            None => Ok(None),
        };
        return trusted(told, |authority| reach::by_address(address, authority, spec.as_ref()), ask).await;
    }
    let spec = read_spec(&shared.spec)?;
    if args.forward || spec.harbor.expose == Expose::ClusterIp {
        return through(&cluster(shared, &spec).await?, &spec, told, 0).await;
    }
    trusted(told, |authority| reach::by_host(&spec, authority), async || by_cluster(&spec).await).await
}

/// As the spec says, with a cluster that is at hand.
pub(super) async fn reachable_in(cluster: &Cluster, spec: &Spec) -> Result<Reachable> {
    if spec.harbor.expose == Expose::ClusterIp {
        return through(cluster, spec, None, 0).await;
    }
    trusted(None, |authority| reach::by_host(spec, authority), async || Authority::of_cluster(cluster, spec).await).await
}

/// Through the cluster; `told` is the authority of a file.
pub(super) async fn through(cluster: &Cluster, spec: &Spec, told: Option<Authority>, local: u16) -> Result<Reachable> {
    let authority = match told {
        Some(authority) => Some(authority),
        None => Authority::of_cluster(cluster, spec).await?,
    };
    reach::through(cluster, spec, authority, local).await
}

/// With the authority that was told, or, where that is needed, with the one that `ask` tells.
async fn trusted(
    told: Option<Authority>,
    at: impl Fn(Option<Authority>) -> Result<Reachable>,
    ask: impl AsyncFnOnce() -> Result<Option<Authority>>,
) -> Result<Reachable> {
    let first = at(told)?;
    if first.authority.is_some() {
        return Ok(first);
    }
    // Anything else that is wrong is told by the call that it is in the way of.
    let Err(error) = first.harbor.ping().await else { return Ok(first) };
    if !error.is_certificate() {
        return Ok(first);
    }
    match ask().await {
        Ok(Some(authority)) => at(Some(authority)),
        Ok(None) => Ok(first),
        Err(why) => Err(error).with_context(|| format!("the cluster cannot be asked for the authority, either ({why:#})")),
    }
}

/// Who asks: a user that was said, else admin with the password of the keyring: of this machine, or, where it has none, of the cluster.
pub(super) async fn login(shared: &Shared, args: &HarborLogin) -> Result<Login> {
    match (&args.user, &args.password_file) {
        (user, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--password-file {} cannot be read", file.display()))?;
            let password = text.trim_end_matches(['\r', '\n']);
            ensure!(!password.is_empty(), "--password-file {} is empty", file.display());
            Ok(Login { user: user.clone().unwrap_or_else(|| admin::ADMIN.to_owned()), password: password.into() })
        }
        _ => {
            if let Some(keyring) = keyring(shared)? {
                return admin::login(&keyring);
            }
            let elsewhere = async {
                let cluster = cluster(shared, &read_spec(&shared.spec)?).await?;
                keyring_as_in(&cluster, None).await?.context("nor in the cluster")
            };
            let missing = || format!("there is no keyring at {}; say --user and --password-file", shared.keyring.display());
            let (_folder, keyring) = elsewhere.await.with_context(missing)?;
            admin::login(&keyring)
        }
    }
}
