//! A certificate authority made at run time, and leaf certificates with every fault a client must notice.
//!
//! Nothing is checked in, so nothing expires in the repository. The chain is root -> (intermediate) -> leaf.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use time::{Duration, OffsetDateTime};

/// A root and an intermediate certificate, both with P-256 keys.
pub struct Authority {
    root: Certificate,
    root_issuer: Issuer<'static, KeyPair>,
    intermediate: Certificate,
    intermediate_issuer: Issuer<'static, KeyPair>,
}

/// What a leaf certificate should be like. Start with [`Leaf::server`] or [`Leaf::client`], then spoil it.
#[derive(Clone, Debug)]
pub struct Leaf {
    names: Vec<String>,
    common_name: String,
    /// Relative to now.
    valid: (Duration, Duration),
    rsa: bool,
    client: bool,
    chain: Chain,
}

/// Who signs a leaf and what is sent with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Root,
    Intermediate,
    IntermediateMissing,
}

/// A certificate with its key, as PEM. Has no `Debug`, because of the key.
#[derive(Clone)]
pub struct Issued {
    /// The leaf, followed by the intermediate where there is one to send.
    pub chain_pem: String,
    /// The private key, PKCS#8 (RSA: as rcgen writes it).
    pub key_pem: String,
}

/// Where a certificate and its key were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain.
    pub cert: PathBuf,
    /// The key, mode 0600.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority. Two of them never trust each other's certificates, though their names are alike.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self> {
        let (root_params, root_key) = (authority_params("Lab Root CA", 1), KeyPair::generate()?);
        let root = root_params.self_signed(&root_key)?;
        let root_issuer = Issuer::new(root_params, root_key);
        let (params, key) = (authority_params("Lab Intermediate CA", 0), KeyPair::generate()?);
        let intermediate = params.signed_by(&key, &root_issuer)?;
        Ok(Self { root, root_issuer, intermediate, intermediate_issuer: Issuer::new(params, key) })
    }

    /// The root certificate, which clients should trust.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.root.pem()
    }

    /// The root certificate as DER.
    #[must_use]
    pub fn ca_der(&self) -> rustls_pki_types::CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Writes the root certificate to `dir/ca.pem`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_ca(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("ca.pem");
        fs::write(&path, self.ca_pem()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// When a name is neither an address nor a DNS name.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued> {
        let key = KeyPair::generate_for(if leaf.rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 })?;
        let issuer = if leaf.chain == Chain::Root { &self.root_issuer } else { &self.intermediate_issuer };
        let mut chain_pem = leaf.params()?.signed_by(&key, issuer)?.pem();
        if leaf.chain == Chain::Intermediate {
            chain_pem.push_str(&self.intermediate.pem());
        }
        Ok(Issued { chain_pem, key_pem: key.serialize_pem() })
    }
}

impl Leaf {
    /// A good server certificate for `localhost`, 127.0.0.1 and ::1, valid for a year, P-256.
    #[must_use]
    pub fn server() -> Self {
        Self {
            names: ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec(),
            common_name: "localhost".into(),
            valid: (-Duration::days(1), Duration::days(365)),
            rsa: false,
            client: false,
            chain: Chain::Root,
        }
    }

    /// A good client certificate whose common name is `name` (PostgreSQL's `clientcert=verify-full` compares it with the user).
    #[must_use]
    pub fn client(name: &str) -> Self {
        Self { names: Vec::new(), common_name: name.into(), client: true, ..Self::server() }
    }

    /// Other names and addresses; the first becomes the common name.
    #[must_use]
    pub fn names<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        self.names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        self.common_name = self.names.first().cloned().unwrap_or_default();
        self
    }

    /// Ended yesterday.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.valid = (-Duration::days(30), -Duration::days(1));
        self
    }

    /// Begins tomorrow.
    #[must_use]
    pub fn not_yet_valid(mut self) -> Self {
        self.valid = (Duration::days(1), Duration::days(30));
        self
    }

    /// For a name that nobody connects to.
    #[must_use]
    pub fn wrong_name(self) -> Self {
        self.names(&["elsewhere.test"])
    }

    /// Ends in so many days and one hour, so that "days left" counted in whole days is `days`.
    #[must_use]
    pub fn days_left(mut self, days: u16) -> Self {
        self.valid.1 = Duration::days(days.into()) + Duration::hours(1);
        self
    }

    /// RSA-2048 instead of P-256.
    #[must_use]
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Signed by the intermediate, which is sent along.
    #[must_use]
    pub fn through_intermediate(mut self) -> Self {
        self.chain = Chain::Intermediate;
        self
    }

    /// Signed by the intermediate, which the server forgets to send: an unknown issuer.
    #[must_use]
    pub fn without_intermediate(mut self) -> Self {
        self.chain = Chain::IntermediateMissing;
        self
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone()).context("a name of the certificate is not valid")?;
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now + self.valid.0, now + self.valid.1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![if self.client { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth }];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl Issued {
    /// Writes `dir/NAME.crt` and `dir/NAME.key` (mode 0600), replacing older ones.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<Files> {
        let files = Files { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        fs::write(&files.cert, &self.chain_pem).with_context(|| format!("cannot write {}", files.cert.display()))?;
        write_private(&files.key, &self.key_pem)?;
        Ok(files)
    }
}

/// Writes a file that only its owner can read, replacing an older one.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn authority_params(name: &str, depth: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::days(60), now + Duration::days(3650));
    params
}
