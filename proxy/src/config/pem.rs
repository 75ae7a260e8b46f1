//! Looking at certificate and password files before anyone depends on them.
//!
//! Each function takes paths and gives back what is wrong, in words with a cure. Contents are never quoted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

/// The public roots are about 250 KiB as PEM; nothing here is larger.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A longer password is a wrong file.
const MAX_PASSWORD_BYTES: usize = 64 * 1024;

/// Reads a file of bounded size.
///
/// # Errors
/// Why it cannot be read, and the cure.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let refused = |error: std::io::Error| {
        let cure = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path, and that the volume is mounted",
            std::io::ErrorKind::PermissionDenied => "let the proxy's user read it",
            _ => "it must be a readable file",
        };
        format!("cannot read {shown}: {}; {cure}", plain(&error))
    };
    if path == Path::new("-") {
        return Err("cannot read standard input; give the path of a regular file".to_owned());
    }
    // Opening a FIFO waits for its writer, and what it holds can be read once only; a directory has its own words below.
    let kind = std::fs::metadata(path).map_err(refused)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(format!("cannot read {shown}: it is a pipe or a device; give the path of a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = max_bytes.saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(refused)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > max_bytes {
        return Err(format!("{shown} is larger than {} KiB; it is the wrong file", max_bytes / 1024));
    }
    Ok(bytes)
}

/// The system's words without `(os error 2)`.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Reads a file of trusted roots: at least one certificate, each usable as a root.
///
/// # Errors
/// What is wrong, and the cure.
pub fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let roots = certificates(path)?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|_| format!("{} holds a certificate that is damaged; get the file again", path.display()))?;
    }
    Ok(roots)
}

/// Reads a chain and its key: both parse, and the key belongs to the first certificate.
///
/// # Errors
/// What is wrong, and the cure.
pub fn read_pair(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(cert)?;
    let pem = read(key, MAX_BYTES)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{} holds no private key in PEM; it must have a BEGIN PRIVATE KEY block (not encrypted)", key.display()))?;
    match CertifiedKey::from_der(chain.clone(), private.clone_key(), &aws_lc_rs::default_provider()) {
        Ok(_) => Ok((chain, private)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(format!(
            "{} does not belong to the certificate in {}; give the pair that was issued together",
            key.display(),
            cert.display()
        )),
        Err(_) => Err(format!(
            "{} and {} cannot be used together: one is damaged or of an unknown kind; get both again",
            cert.display(),
            key.display()
        )),
    }
}

/// Reads the one password in a file; its last newline is not part of it.
///
/// # Errors
/// Why there is none, and the cure.
pub fn read_password(path: &Path) -> Result<SecretString, String> {
    let shown = path.display();
    let text =
        String::from_utf8(read(path, MAX_BYTES)?).map_err(|_| format!("{shown} is not UTF-8 text; write the password alone into it"))?;
    let password = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if password.is_empty() {
        return Err(format!("{shown} is empty; write the password into it"));
    }
    if password.len() > MAX_PASSWORD_BYTES || password.contains(['\n', '\0']) {
        return Err(format!("{shown} holds more than one line; write the password alone into it"));
    }
    Ok(SecretString::from(password))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = read(path, MAX_BYTES)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certs {
        Ok(certs) if certs.is_empty() => Err(format!("{shown} holds no certificate in PEM; it must have a BEGIN CERTIFICATE block")),
        Ok(certs) => Ok(certs),
        Err(_) => Err(format!("{shown} is damaged PEM; get the file again")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use secrecy::ExposeSecret;

    use super::*;

    fn certificate() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    #[test]
    fn certificates_and_keys() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let ((cert, key), (_, other)) = (certificate(), certificate());
        let damaged = cert.replacen("MII", "!!!", 1);
        let (cert, key, other) = (write("cert", &cert), write("key", &key), write("other", &other));
        assert_eq!(read_roots(&cert).unwrap().len(), 1);
        assert!(read_pair(&cert, &key).is_ok());
        let why = |result: Result<(), String>| result.unwrap_err();
        assert!(why(read_pair(&cert, &other).map(drop)).contains("does not belong to"));
        assert!(why(read_pair(&cert, &cert).map(drop)).contains("holds no private key"));
        assert!(why(read_pair(&key, &key).map(drop)).contains("holds no certificate"));
        assert!(why(read_roots(&write("damaged", &damaged)).map(drop)).contains("damaged"));
        assert!(why(read_roots(&dir.path().join("none")).map(drop)).contains("no such file or directory; check the path"));
        let junk = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(why(read_roots(&write("junk", junk)).map(drop)).contains("damaged"));
    }

    #[test]
    fn passwords() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (content, expected) in [
            (b"hunter2\n".as_slice(), Ok("hunter2")),
            (b"hunter2\r\n", Ok("hunter2")),
            (b" spaces count ", Ok(" spaces count ")),
            (b"\n", Err("is empty")),
            (b"", Err("is empty")),
            (b"one\ntwo\n", Err("more than one line")),
            (b"\xff\xfe", Err("not UTF-8")),
        ] {
            fs::write(&path, content).unwrap();
            match (read_password(&path), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.expose_secret(), expected),
                (Err(got), Err(part)) => assert!(got.contains(part) && !got.contains("two"), "{got}"),
                (got, expected) => panic!("{got:?} is not {expected:?}"),
            }
        }
        assert!(read_password(dir.path()).unwrap_err().contains("is a directory"));
    }
}
