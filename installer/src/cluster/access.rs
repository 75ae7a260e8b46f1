//! The way in: credentials of DigitalOcean's API with a short life, kept in memory, or the user's kubeconfig.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use secrecy::{ExposeSecret, SecretString};

use crate::digitalocean::{Client, ClusterCredentials};

/// Each call makes a new token in the account's list, which is why the life is short and the call is made once a run.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// A server says nothing for so long: longer than a watch without events.
const SILENCE: Duration = Duration::from_secs(290);

/// A kubeconfig, with the context to use. Holds secrets: no `Debug`.
#[derive(Clone)]
pub struct Access {
    kubeconfig: Kubeconfig,
    config: kube::Config,
}

impl Access {
    /// From a file, and one of its contexts.
    ///
    /// # Errors
    /// When it cannot be read, or has no such context.
    pub async fn file(path: &Path, context: Option<&str>) -> Result<Self> {
        let shown = path.display();
        let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("--kubeconfig {shown} cannot be used"))?;
        Self::of(kubeconfig, context).await.with_context(|| format!("--kubeconfig {shown}"))
    }

    /// By DigitalOcean's API.
    ///
    /// # Errors
    /// As every call; a team with single sign-on gives no tokens.
    pub async fn digitalocean(client: &Client, cluster: &str) -> Result<Self> {
        let asked = client.cluster_credentials(cluster, LIFE).await;
        let credentials = asked.context("DigitalOcean gives no access to the cluster; say --kubeconfig FILE if you have your own")?;
        Self::of(kubeconfig(&credentials)?, None).await
    }

    async fn of(mut kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Self> {
        if let Some(context) = context {
            kubeconfig.current_context = Some(context.to_owned());
        }
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        if config.accept_invalid_certs {
            bail!(
                "it says insecure-skip-tls-verify, and all secrets would go to a server that nobody has verified: take that out, and name its \
                 certificate-authority"
            );
        }
        // Without it, a server that has gone without a word would be waited for without end.
        (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
        Ok(Self { kubeconfig, config })
    }

    /// For kube.
    pub(super) fn config(&self) -> Result<kube::Config> {
        Ok(self.config.clone())
    }

    /// The API server's address: `https://….k8s.ondigitalocean.com`.
    #[must_use]
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// For programs that want a file: helm, kubectl. Holds secrets.
    ///
    /// # Errors
    /// When it cannot be written as YAML.
    pub fn text(&self) -> Result<SecretString> {
        Ok(serde_saphyr::to_string(&self.kubeconfig)?.into())
    }
}

fn kubeconfig(credentials: &ClusterCredentials) -> Result<Kubeconfig> {
    let token =
        credentials.token.as_ref().context("DigitalOcean gives no token for the cluster (single sign-on); say --kubeconfig FILE")?;
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "doks",
        "contexts": [{"name": "doks", "context": {"cluster": "doks", "user": "doks"}}],
        "clusters": [{"name": "doks", "cluster": {
            "server": credentials.server,
            "certificate-authority-data": credentials.certificate_authority_data,
        }}],
        "users": [{"name": "doks", "user": {"token": token.expose_secret()}}],
    });
    Ok(serde_json::from_value(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_nobody_verifies_gets_nothing() {
        let read = async |cluster: &str| {
            let text = format!(
                "{{apiVersion: v1, kind: Config, current-context: x, contexts: [{{name: x, context: {{cluster: x, user: x}}}}], users: \
                 [{{name: x, user: {{token: t}}}}], clusters: [{{name: x, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]}}"
            );
            Access::of(serde_saphyr::from_str(&text).unwrap(), None).await
        };
        assert!(read("").await.is_ok());
        let refused = read(", insecure-skip-tls-verify: true").await.err().unwrap();
        assert!(refused.to_string().contains("insecure-skip-tls-verify"), "{refused}");
    }
}
