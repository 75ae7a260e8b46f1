//! What the cluster has to reach Harbor by: ingress classes, and the certificate of a Secret.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::IngressClass;
use kube::Api;
use kube::api::ListParams;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

use super::{Cluster, problem};

/// Marks the class of those who name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Exposure {
    /// Ingress classes, and whether each is the default; nothing where we may not look.
    pub classes: Option<Vec<(String, bool)>>,
    /// What is in the Secret that was asked for; nothing where none was.
    pub certificate: Option<Seen>,
}

/// The certificate of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is no such Secret.
    Missing,
    /// It holds none that can be read.
    Malformed(String),
    /// It is there.
    There {
        /// DNS names that it is for, `*.example.com` among them.
        names: Vec<String>,
        /// Its end, Unix seconds.
        ends: i64,
    },
}

impl Exposure {
    /// Asks for the classes, and for the certificate of this Secret.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn look(cluster: &Cluster, secret: Option<&str>) -> Result<Self> {
        let classes = match Api::<IngressClass>::all(cluster.client.clone()).list(&ListParams::default()).await {
            Ok(classes) => Some(classes.items.iter().filter_map(class).collect()),
            Err(error) if problem::status(&error).is_some_and(|status| status.code == 403) => None,
            Err(error) => return Err(cluster.told("list the ingress classes")(error)),
        };
        let Some(name) = secret else { return Ok(Self { classes, certificate: None }) };
        let found = cluster.api::<Secret>().get_opt(name).await.map_err(cluster.told(&format!("read the Secret {name}")))?;
        let certificate = found.map_or(Seen::Missing, |secret| {
            let pem = secret.data.and_then(|mut data| data.remove("tls.crt"));
            pem.context("it has no tls.crt").and_then(|pem| read(&pem.0)).unwrap_or_else(|why| Seen::Malformed(format!("{why:#}")))
        });
        Ok(Self { classes, certificate: Some(certificate) })
    }
}

impl Seen {
    /// Whether it is for this host: as it is, or with a star for its first label (RFC 6125, 6.4.3).
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let Self::There { names, .. } = self else { return false };
        let parent = host.split_once('.').map(|(_, parent)| parent);
        names.iter().any(|name| {
            name.eq_ignore_ascii_case(host)
                || name.strip_prefix("*.").zip(parent).is_some_and(|(name, parent)| name.eq_ignore_ascii_case(parent))
        })
    }
}

fn class(class: &IngressClass) -> Option<(String, bool)> {
    let annotations = class.metadata.annotations.as_ref();
    let is_default = annotations.and_then(|all| all.get(DEFAULT)).is_some_and(|value| value == "true");
    Some((class.metadata.name.clone()?, is_default))
}

/// The first of the chain is the server's own.
fn read(pem: &[u8]) -> Result<Seen> {
    let der = CertificateDer::from_pem_slice(pem).context("tls.crt holds no certificate in PEM")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).context("its certificate is malformed")?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(Seen::There { names: names.collect(), ends: certificate.validity().not_after.timestamp() })
}
