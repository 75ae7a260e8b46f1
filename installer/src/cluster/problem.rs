//! What a call to the cluster's API can end with, in words: what was wanted, why not, and what to do. Never a body, never a secret.

use std::error::Error as _;

use anyhow::anyhow;
use kube::core::Status;

use super::Cluster;

impl Cluster {
    /// For `map_err`: `what` goes on from "may not" and "cannot": `read the Secret x`.
    pub fn told(&self, what: &str) -> impl FnOnce(kube::Error) -> anyhow::Error {
        let (what, server) = (what.to_owned(), self.access.server());
        move |error| explain(&what, &server, &error)
    }
}

/// The API server's own words, where it answered.
pub(super) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// 404, of the object or of its namespace.
pub(super) fn is_missing(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 404)
}

/// 404 of the kind itself: its CustomResourceDefinition is not installed.
pub(super) fn is_unknown_kind(error: &kube::Error) -> bool {
    // An object, or a namespace, that is missing is named.
    status(error).is_some_and(|status| status.code == 404 && status.details.as_ref().is_none_or(|details| details.name.is_empty()))
}

/// 409: somebody else was faster.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 409)
}

fn explain(what: &str, server: &str, error: &kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            let says = status.message.as_str();
            match status.code {
                401 => anyhow!(
                    "the cluster at {server} does not know this login, so doks-harbor cannot {what}; it may have ended: run again, or make a new \
                     kubeconfig with `doctl kubernetes cluster kubeconfig save`"
                ),
                403 => anyhow!(
                    "doks-harbor may not {what}: {says}; it needs the right to do so in the cluster (the ClusterRole admin in the namespace, and \
                     nodes to be listed), or another --kubeconfig"
                ),
                _ => anyhow!("doks-harbor cannot {what}: {says}"),
            }
        }
        kube::Error::Auth(why) => {
            anyhow!("the login for {server} cannot be made: {why}; is the program that the kubeconfig names installed?")
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::HttpError(_) | kube::Error::ReadEvents(_) => anyhow!(
            "the cluster at {server} does not answer, so doks-harbor cannot {what}: {}; is the cluster running, and is this machine among the \
             addresses that its control plane's firewall admits?",
            root(error)
        ),
        // The parser's position, not the text.
        kube::Error::SerdeError(why) => anyhow!("doks-harbor cannot {what}: the answer of {server} cannot be read: {why}"),
        _ => anyhow!("doks-harbor cannot {what}: {error}"),
    }
}

/// The innermost reason: the outer ones only say that there is one.
fn root(error: &kube::Error) -> String {
    let (mut at, mut says) = (error.source(), error.to_string());
    while let Some(inner) = at {
        (says, at) = (inner.to_string(), inner.source());
    }
    says
}
