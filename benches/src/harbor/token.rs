//! `/service/token`: tokens as docker-registry wants them, signed with RS256.

use anyhow::{Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

/// In the tokens.
pub(super) const ISSUER: &str = "harbor-token-issuer";
/// Whom they are for.
pub(super) const SERVICE: &str = "harbor-registry";
/// Seconds.
const LIFE: i64 = 1800;

pub(super) struct Signer {
    key: RsaKeyPair,
    certificate: Certificate,
}

impl Signer {
    pub(super) fn new() -> Result<Self> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "lab token");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&pair)?;
        let key = RsaKeyPair::from_pkcs8(&pair.serialize_der()).map_err(|error| anyhow!("the token's key: {error}"))?;
        Ok(Self { key, certificate })
    }

    /// PEM.
    pub(super) fn certificate(&self) -> String {
        self.certificate.pem()
    }

    /// For `access`: `[{"type":"repository","name":"p/r","actions":["pull"]}]`. `now` in seconds since 1970.
    pub(super) fn sign(&self, subject: &str, access: &Value, now: i64, id: i64) -> Result<String> {
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [BASE64_STANDARD.encode(self.certificate.der())] });
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "iat": now, "nbf": now - 60, "exp": now + LIFE, "jti": id.to_string(),
            "access": access,
        });
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| anyhow!("the token cannot be signed"))?;
        Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}
