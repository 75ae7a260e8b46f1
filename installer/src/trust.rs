//! What makes docker, containerd and podman trust a registry whose certificate is of no public authority.
//!
//! Each of them has a folder in which the authority of one registry is written down; nothing else on the machine trusts it for anything else.
//! Where the authority comes from is told with it, and it is never one that an unverified server says of itself.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::harbor::Harbor;
use crate::harbor::reach::{Authority, Reachable};
use crate::http::{self, Route};

mod advice;
mod files;

pub use files::{Outcome, Place, Written, config_path_is_set};

/// A certificate, for people to compare.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// Its name.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// RFC 3339.
    pub expires: String,
    /// `AB:CD:…`, as openssl and browsers show it.
    pub sha256: String,
}

/// What there is to say, or what was written.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As in an image's name.
    pub registry: String,
    /// Everybody trusts it already.
    pub public: bool,
    /// Who told of the authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The authority.
    pub certificates: Vec<Card>,
    /// The authority, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// Files, if any were asked for.
    pub written: Vec<Written>,
    /// What is left to do by hand.
    pub notes: Vec<String>,
}

/// Whether every client trusts the certificate without being told: it verifies with the public authorities alone. What is reached in plain HTTP
/// through the cluster shows no certificate; there it is asked at the name that clients use.
pub async fn is_public(at: &Reachable) -> bool {
    let base = if at.harbor.base().scheme() == "https" {
        Some(at.harbor.base().clone())
    } else {
        format!("https://{}/", at.registry).parse().ok()
    };
    let forwarded = at.forward.as_ref().filter(|_| at.harbor.base().scheme() == "https");
    let route = Route { authorities: Vec::new(), at: forwarded.and_then(|forward| Some((at.names.first()?.clone(), forward.address()))) };
    let (Some(base), Ok(client)) = (base, http::client_for(&route)) else { return false };
    Harbor::new(client, base, None).ping().await.is_ok()
}

/// The authority that clients need: the one that Harbor was verified by, or the one that Harbor tells of through the cluster, whose way is
/// verified itself.
///
/// # Errors
/// When there is none, or when it is not the one that signed Harbor's certificate.
pub async fn authority(at: &Reachable) -> Result<Authority> {
    let is_tls = at.harbor.base().scheme() == "https";
    match &at.authority {
        Some(authority) => {
            if is_tls {
                at.harbor.ping().await.with_context(|| format!("the authority of {} is not the one of this Harbor", authority.source))?;
            }
            Ok(authority.clone())
        }
        None if at.forward.is_some() && !is_tls => {
            let (pem, _) = at.harbor.authority().await?.context(
                "neither the cluster nor Harbor tells an authority: the certificate is the ingress controller's or the Gateway's; say --ca-file",
            )?;
            Authority::new(pem.as_bytes(), "Harbor's /systeminfo/getcert, through the cluster".to_owned())
        }
        None => {
            at.harbor.ping().await?;
            anyhow::bail!("no authority is known that signed the certificate of {}; say --ca-file", at.registry)
        }
    }
}

impl Card {
    /// Of a certificate, DER.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn of(der: &[u8]) -> Result<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok().context("the authority's certificate is malformed")?;
        let expires =
            Timestamp::from_second(parsed.validity().not_after.timestamp()).map_or_else(|_| "?".to_owned(), |time| time.to_string());
        let hash = digest(&SHA256, der);
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        Ok(Self { subject: parsed.subject().to_string(), issuer: parsed.issuer().to_string(), expires, sha256 })
    }
}

impl Report {
    /// For a registry that everybody trusts.
    #[must_use]
    pub const fn public(registry: String) -> Self {
        Self { registry, public: true, source: None, certificates: Vec::new(), pem: None, written: Vec::new(), notes: Vec::new() }
    }

    /// For one that nobody trusts yet.
    ///
    /// # Errors
    /// When a certificate is malformed.
    pub fn private(registry: String, authority: &Authority, written: Vec<Written>, notes: Vec<String>) -> Result<Self> {
        let certificates = authority.certificates.iter().map(|certificate| Card::of(certificate)).collect::<Result<_>>()?;
        let (source, pem) = (Some(authority.source.clone()), Some(authority.pem.clone()));
        Ok(Self { registry, public: false, source, certificates, pem, written, notes })
    }
}

/// The authority's file in some folder.
fn ca_in(folder: &Path) -> PathBuf {
    folder.join("ca.crt")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = &self.registry;
        if self.public {
            return writeln!(f, "The certificate of {registry} is of a public authority: docker, containerd and podman trust it already.");
        }
        writeln!(f, "{registry} has a certificate of this authority, told by {}:\n", self.source.as_deref().unwrap_or("?"))?;
        for card in &self.certificates {
            writeln!(
                f,
                "  subject   {}\n  issuer    {}\n  expires   {}\n  SHA-256   {}\n",
                card.subject, card.issuer, card.expires, card.sha256
            )?;
        }
        if self.written.is_empty() {
            write!(f, "{}", advice::by_hand(registry))?;
            writeln!(f, "\nThe authority, ca.crt:\n\n{}", self.pem.as_deref().unwrap_or_default())?;
        }
        for file in &self.written {
            writeln!(f, "  {} {} ({})", file.outcome.mark(), file.path.display(), file.outcome.words())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

pub use advice::{CONFIG_PATH, NODES};
