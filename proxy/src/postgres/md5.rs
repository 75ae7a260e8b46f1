//! `[pure]` The answer to an MD5 password request, for servers whose stored passwords are still of that kind.
//!
//! MD5 protects little by itself; here it only ever travels inside verified TLS.

use md5::{Digest, Md5};

/// `md5` and the hash of (hash of password and user) and salt, in hexadecimal.
#[must_use]
pub fn answer(user: &[u8], password: &[u8], salt: [u8; 4]) -> String {
    let stored = hex(&[password, user]);
    format!("md5{}", hex(&[stored.as_bytes(), &salt]))
}

fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_md5sum() {
        // printf 'passwordmd5_user' | md5sum, then that text and the bytes 2a 3d 8f e0 once more.
        assert_eq!(hex(&[b"password", b"md5_user"]), "7cd2b9a92689eab2e58caf2da80afa15");
        assert_eq!(answer(b"md5_user", b"password", [0x2a, 0x3d, 0x8f, 0xe0]), "md562af4dd09bbb41884907a838a3233294");
    }
}
