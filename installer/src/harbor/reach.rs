//! Where Harbor is, and whom to trust there.
//!
//! | said | reached | trusted |
//! |---|---|---|
//! | `--harbor URL` | there | public authorities, `--ca-file` |
//! | a spec with `harbor.host` | by https at that name | the same, and the authority that the cluster tells |
//! | a spec without (clusterIP), or `--forward` | through the Kubernetes API, at a loopback port | the same; the certificate must be for the host of the spec |
//!
//! The authority of a certificate that the chart made is in a Secret of the cluster, and the cluster is verified by its own: that is where trust
//! comes from. An authority that a server which is not verified tells of itself proves nothing, so nobody asks for one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use reqwest::Url;
use rustls_pki_types::CertificateDer;

use super::{Harbor, Login};
use crate::cluster::{Cluster, Forward};
use crate::http::{self, Route};
use crate::render::{Reached, reached};
use crate::spec::{Expose, Spec};

/// A Harbor that can be called.
pub struct Reachable {
    /// Without a login.
    pub harbor: Harbor,
    /// What clients write before an image's name: `harbor.example.com`, `harbor.example.com:30003`.
    pub registry: String,
    /// Names that Harbor may call itself by in the addresses that it gives: host names, without a port.
    pub names: Vec<String>,
    /// The authority that it was verified by, where it is not a public one.
    pub authority: Option<Authority>,
    /// Kept as long as Harbor is called.
    pub forward: Option<Forward>,
}

/// A certificate authority that is not public, and who told of it.
#[derive(Clone, Debug)]
pub struct Authority {
    /// PEM.
    pub pem: String,
    /// The same.
    pub certificates: Vec<CertificateDer<'static>>,
    /// `Secret harbor/harbor-nginx`, `--ca-file x.pem` …
    pub source: String,
}

impl Authority {
    /// From a file.
    ///
    /// # Errors
    /// When it cannot be read or holds no certificate.
    pub fn file(path: &Path) -> Result<Self> {
        let shown = path.display();
        let pem = std::fs::read(path).with_context(|| format!("--ca-file {shown} cannot be read"))?;
        Self::new(&pem, format!("--ca-file {shown}"))
    }

    /// From PEM; only its certificates are kept.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn new(pem: &[u8], source: String) -> Result<Self> {
        let certificates = http::certificates(pem).with_context(|| source.clone())?;
        let pem = certificates.iter().map(pem_of).collect();
        Ok(Self { pem, certificates, source })
    }

    /// What the cluster tells: `ca.crt` of the Secret that the chart made, or of the spec's own. `None`: no such Secret, or it names no
    /// authority, as with certificates of public ones.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn of_cluster(cluster: &Cluster, spec: &Spec) -> Result<Option<Self>> {
        let Some(name) = secret(spec) else { return Ok(None) };
        let pem = in_secret(cluster, &name, "ca.crt").await?;
        pem.map(|pem| Self::new(&pem, format!("the Secret {}/{name}", cluster.namespace))).transpose()
    }
}

/// Harbor's own certificate, as the cluster tells it: what a browser shows is to be compared with it.
///
/// # Errors
/// When the cluster cannot be asked, or what it tells is no certificate.
pub async fn certificate(cluster: &Cluster, spec: &Spec) -> Result<Option<CertificateDer<'static>>> {
    let Some(name) = secret(spec) else { return Ok(None) };
    let Some(pem) = in_secret(cluster, &name, "tls.crt").await? else { return Ok(None) };
    Ok(http::certificates(&pem).with_context(|| format!("tls.crt of the Secret {name}"))?.into_iter().next())
}

/// Days until that certificate ends; negative, it has.
///
/// # Errors
/// As [`certificate`].
pub async fn certificate_days(cluster: &Cluster, spec: &Spec) -> Result<Option<i64>> {
    let Some(certificate) = certificate(cluster, spec).await? else { return Ok(None) };
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok().context("Harbor's certificate is malformed")?;
    let left = parsed.validity().not_after.timestamp().saturating_sub(Timestamp::now().as_second());
    Ok(Some(left.div_euclid(86_400)))
}

async fn in_secret(cluster: &Cluster, name: &str, key: &str) -> Result<Option<Vec<u8>>> {
    let found = cluster.api::<Secret>().get_opt(name).await.map_err(cluster.told(&format!("read the Secret {name}")))?;
    Ok(found.and_then(|secret| secret.data?.remove(key)).map(|value| value.0).filter(|value| !value.is_empty()))
}

/// The certificate as PEM.
fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = left;
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// The Secret with the certificate: the spec's own, or the one that the chart makes. A Gateway's is not Harbor's.
fn secret(spec: &Spec) -> Option<String> {
    let made = |of: &str| format!("{}-{of}", fullname(&spec.harbor.release));
    match (&spec.harbor.tls_secret, spec.harbor.expose) {
        (_, Expose::Route) => None,
        (Some(secret), _) => Some(secret.clone()),
        (None, Expose::Ingress | Expose::Traefik) => Some(made("ingress")),
        (None, Expose::ClusterIp | Expose::LoadBalancer | Expose::NodePort) => Some(made("nginx")),
    }
}

/// What the chart's own names begin with.
#[must_use]
pub fn fullname(release: &str) -> String {
    if release.contains("harbor") { release.to_owned() } else { format!("{release}-harbor") }
}

/// The way through the cluster, and the way that HTTP takes on it.
async fn forward(cluster: &Cluster, spec: &Spec, local: u16) -> Result<(Forward, bool)> {
    let release = &spec.harbor.release;
    match spec.harbor.expose {
        // Nginx's Service, whose name our values fix.
        Expose::ClusterIp | Expose::LoadBalancer | Expose::NodePort => {
            Ok((Forward::to_service(cluster, release, "https", local).await?, true))
        }
        // TLS ends at the ingress or the Gateway; API and registry are core's.
        Expose::Ingress | Expose::Traefik | Expose::Route => {
            Ok((Forward::to_service(cluster, &format!("{}-core", fullname(release)), "80", local).await?, false))
        }
    }
}

/// By an address that somebody said. It is where the login goes: https, or this machine.
///
/// # Errors
/// When it is no such address, or `authority` no authority.
pub fn by_address(address: &str, authority: Option<Authority>, spec: Option<&Spec>) -> Result<Reachable> {
    let base = self::address(address)?;
    let registry = authority_of(&base).context("--harbor has no host")?;
    let mut names: Vec<_> = base.host_str().map(str::to_owned).into_iter().collect();
    names.extend(spec.map(|spec| reached(spec).host));
    let route = Route { authorities: authority.iter().flat_map(|authority| authority.certificates.clone()).collect(), at: None };
    let harbor = Harbor::new(http::client_for(&route)?, base, None);
    Ok(Reachable { harbor, registry, names, authority, forward: None })
}

/// At the host of the spec.
///
/// # Errors
/// As [`by_address`].
pub fn by_host(spec: &Spec, authority: Option<Authority>) -> Result<Reachable> {
    let Reached { url, .. } = reached(spec);
    by_address(&url, authority, None)
}

/// Through the cluster, at a loopback port (0: any). TLS is verified for the host of the spec; where TLS ends before Harbor, plain HTTP goes from
/// loopback through the API server's TLS.
///
/// # Errors
/// When there is no Harbor in the cluster.
pub async fn through(cluster: &Cluster, spec: &Spec, authority: Option<Authority>, local: u16) -> Result<Reachable> {
    let at = reached(spec);
    let (forward, tls) = forward(cluster, spec, local).await?;
    let registry = Url::parse(&at.url).ok().and_then(|url| authority_of(&url)).unwrap_or_else(|| at.host.clone());
    let (base, route) = if tls {
        let authorities = authority.iter().flat_map(|authority| authority.certificates.clone()).collect();
        // Without a port, so that the one of the loopback address counts.
        (format!("https://{}/", at.host), Route { authorities, at: Some((at.host.clone(), forward.address())) })
    } else {
        (format!("http://{}/", forward.address()), Route::default())
    };
    let harbor = Harbor::new(http::client_for(&route)?, Url::parse(&base)?, None);
    Ok(Reachable { harbor, registry, names: vec![at.host], authority, forward: Some(forward) })
}

impl Reachable {
    /// The same, logged in.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.harbor = self.harbor.as_user(Some(login));
        self
    }
}

impl Reachable {
    /// What keeps the cluster's nodes from pulling here, whatever their credentials: they know neither the cluster's own names nor its authorities.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let host = self.registry.split(':').next().unwrap_or_default();
        let mut obstacles = Vec::new();
        if host.ends_with(".svc") || host.ends_with(".svc.cluster.local") {
            obstacles.push(format!(
                "Nodes cannot pull from {}: they do not know names of the cluster's own DNS. Say harbor.expose and harbor.host in doks-harbor.yaml.",
                self.registry
            ));
        }
        if let Some(authority) = &self.authority {
            obstacles.push(format!(
                "Nodes refuse the certificate (x509: unknown authority) until they trust the authority of {}; `doks-harbor trust` tells how, and why a \
                 public certificate is better.",
                authority.source
            ));
        }
        obstacles
    }
}

/// `host` or `host:port`, as in an image's name.
#[must_use]
pub fn authority_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Passwords go over https, or to this machine.
///
/// # Errors
/// When it is no address, holds a login, or is not safe.
pub fn address(harbor: &str) -> Result<Url> {
    let url = Url::parse(harbor).ok().filter(Url::has_host);
    let mut url = url.with_context(|| format!("--harbor {harbor:?} is no address; say it as https://harbor.example.com"))?;
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--harbor must hold no login: the password comes from the keyring");
    }
    if !is_safe(&url) {
        bail!("--harbor {harbor}: passwords go over https only, or over http on this machine (`kubectl port-forward`)");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        bail!("--harbor {harbor}: Harbor is at the root of its host; say only https://HOST[:PORT]");
    }
    url.set_path("/");
    Ok(url)
}

/// Encrypted, or never leaves this machine.
#[must_use]
pub fn is_safe(url: &Url) -> bool {
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

/// A file's authority, if one was said.
///
/// # Errors
/// As [`Authority::file`].
pub fn authority_file(path: Option<&PathBuf>) -> Result<Option<Authority>> {
    path.map(|path| Authority::file(path)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_travels_in_clear_only_to_this_machine() {
        for good in ["https://harbor.example.com/", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:80"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://harbor.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "harbor",
            "https://a:b@c",
            "https://harbor.example.com/api/v2.0",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_the_chart() {
        let spec = |lines: &str| Spec::read(&format!("cluster: c\n{lines}")).unwrap();
        assert_eq!(secret(&spec("")), Some("harbor-nginx".to_owned()));
        let ingress = spec("harbor: {release: registry, expose: ingress, host: h.example.com}");
        assert_eq!(secret(&ingress), Some("registry-harbor-ingress".to_owned()));
        let own = spec("harbor: {expose: ingress, host: h.example.com, tls_secret: mine}");
        assert_eq!(secret(&own), Some("mine".to_owned()));
        assert_eq!(fullname("my-harbor"), "my-harbor");
    }

    #[test]
    fn an_authority_keeps_its_certificates_alone() {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let text = format!("# hello\n{}{}", made.signing_key.serialize_pem(), made.cert.pem());
        let authority = Authority::new(text.as_bytes(), "here".to_owned()).unwrap();
        assert_eq!(authority.pem, made.cert.pem().replace("\r\n", "\n"));
        assert!(Authority::new(b"nothing", "here".to_owned()).is_err());
    }
}
