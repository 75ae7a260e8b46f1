//! Harbor's own secrets, made once: the chart would make others with each rendering, and Harbor's compose installer ships the same for everybody.
//!
//! All of them are letters and digits, because Harbor's templates put some into URLs without quoting them right.

use anyhow::{Context, Result, anyhow};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use secrecy::SecretString;

use crate::keyring::Entry;

/// Whom core is at its registry.
pub const REGISTRY_USER: &str = "harbor_registry_user";

const LETTERS_AND_DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// About 190 bits.
const LONG: usize = 32;
/// Short enough to be typed, 143 bits.
const TYPED: usize = 24;
/// The registry hashes the password at each request of core's. A cost protects passwords that can be guessed; 190 random bits cannot.
const BCRYPT_COST: u32 = 5;

/// Makes what is not there yet. Secrets that belong together are made together.
///
/// # Errors
/// When the machine gives no random bytes or no RSA key.
pub fn missing(have: impl Fn(Entry) -> bool) -> Result<Vec<(Entry, SecretString)>> {
    let mut made = Vec::new();
    for (entry, length) in [
        (Entry::ClientPassword, LONG),
        // What Harbor wants: this long exactly.
        (Entry::HarborSecretKey, 16),
        (Entry::HarborCoreSecret, LONG),
        (Entry::HarborXsrfKey, 32),
        (Entry::HarborJobserviceSecret, LONG),
        (Entry::HarborRegistrySecret, LONG),
    ] {
        if !have(entry) {
            made.push((entry, random(length)?.into()));
        }
    }
    if !have(Entry::HarborAdminPassword) {
        made.push((Entry::HarborAdminPassword, admin_password()?));
    }
    if !have(Entry::HarborRegistryPassword) || !have(Entry::HarborRegistryHtpasswd) {
        let password = random(LONG)?;
        made.push((Entry::HarborRegistryHtpasswd, htpasswd(&password)?.into()));
        made.push((Entry::HarborRegistryPassword, password.into()));
    }
    if !have(Entry::HarborTokenCertificate) || !have(Entry::HarborTokenKey) {
        let (certificate, key) = token()?;
        made.push((Entry::HarborTokenCertificate, certificate.into()));
        made.push((Entry::HarborTokenKey, key.into()));
    }
    Ok(made)
}

/// Letters and digits, each as likely as any other.
fn random(length: usize) -> Result<String> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("the system gives no random bytes"))?;
        // 248 is the largest multiple of 62 in a byte: what is beyond would make some more likely.
        let drawn = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| LETTERS_AND_DIGITS.get(usize::from(byte % 62)));
        text.extend(drawn.take(length - text.len()).map(|byte| char::from(*byte)));
    }
    Ok(text)
}

/// For `admin`. Harbor wants an upper-case letter, a lower-case one and a digit.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn admin_password() -> Result<SecretString> {
    loop {
        let text = random(TYPED)?;
        let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
        if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit) {
            return Ok(text.into());
        }
    }
}

fn htpasswd(password: &str) -> Result<String> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| anyhow!("the system gives no random bytes"))?;
    let hash = bcrypt::hash_with_salt(password, BCRYPT_COST, salt).context("the registry's password cannot be hashed")?;
    Ok(format!("{REGISTRY_USER}:{}", hash.format_for_version(bcrypt::Version::TwoA)))
}

/// A certificate and its key. Core signs tokens with RS256, the registry verifies them with the certificate.
fn token() -> Result<(String, String)> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).context("no RSA key for Harbor's tokens could be made")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "harbor-token");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Nobody but Harbor's own two parts trusts it, and a date on which logins fail would help nobody.
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    let certificate = params.self_signed(&key).context("no certificate for Harbor's tokens could be made")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;

    use super::*;

    fn made(have: impl Fn(Entry) -> bool) -> BTreeMap<Entry, String> {
        missing(have).unwrap().into_iter().map(|(entry, secret)| (entry, secret.expose_secret().to_owned())).collect()
    }

    #[test]
    fn harbor_takes_each_of_them() {
        let secrets = made(|_| false);
        let told_by_digitalocean = [Entry::PostgresPassword, Entry::ValkeyPassword, Entry::SpacesAccessKey, Entry::SpacesSecretKey];
        for entry in Entry::ALL.iter().filter(|entry| !entry.is_passing()) {
            assert_ne!(secrets.contains_key(entry), told_by_digitalocean.contains(entry), "{entry:?}");
        }
        let admin = &secrets[&Entry::HarborAdminPassword];
        assert!((8..=128).contains(&admin.len()) && admin.bytes().any(|byte| byte.is_ascii_digit()));
        assert_eq!((secrets[&Entry::HarborSecretKey].len(), secrets[&Entry::HarborXsrfKey].len()), (16, 32));
        let (user, hash) = secrets[&Entry::HarborRegistryHtpasswd].split_once(':').unwrap();
        assert!(user == REGISTRY_USER && bcrypt::verify(&secrets[&Entry::HarborRegistryPassword], hash).unwrap());
        assert!(secrets[&Entry::HarborTokenKey].starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
        for (entry, secret) in &secrets {
            let is_one_word = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let has_a_form = [Entry::HarborTokenCertificate, Entry::HarborTokenKey, Entry::HarborRegistryHtpasswd].contains(entry);
            assert!(is_one_word || has_a_form, "{entry:?}");
        }
    }

    #[test]
    fn certificate_and_key_belong_together() {
        use rustls_pki_types::pem::PemObject;
        let (certificate, key) = token().unwrap();
        let certificate = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = rustls::sign::CertifiedKey::from_der(vec![certificate], key, &provider).unwrap();
        assert!(pair.keys_match().is_ok());
    }

    #[test]
    fn what_is_there_stays_and_halves_are_made_together() {
        assert!(made(|_| true).is_empty());
        let secrets = made(|entry| entry != Entry::HarborRegistryHtpasswd && entry != Entry::HarborTokenKey);
        let entries: Vec<_> = secrets.keys().copied().collect();
        let pairs = [Entry::HarborRegistryPassword, Entry::HarborRegistryHtpasswd, Entry::HarborTokenCertificate, Entry::HarborTokenKey];
        assert_eq!(entries, pairs);
        assert_ne!(made(|_| false)[&Entry::ClientPassword], made(|_| false)[&Entry::ClientPassword]);
    }
}
