//! `.dockerconfigjson`: logins by registry, as docker, podman and Kubernetes read them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::harbor::Login;

/// For one registry: `harbor.example.com`, with a port where it has one.
#[must_use]
pub fn write(registry: &str, login: &Login) -> SecretString {
    let password = login.password.expose_secret();
    let auth = BASE64_STANDARD.encode(format!("{}:{password}", login.user));
    let config = json!({ "auths": { registry: { "username": login.user, "password": password, "auth": auth } } });
    config.to_string().into()
}

/// The login for a registry, if there is one.
///
/// # Errors
/// When it is no such file. Never with a part of it.
pub fn read(config: &[u8], registry: &str) -> Result<Option<Login>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Auth>,
    }
    #[derive(Deserialize)]
    struct Auth {
        auth: Option<SecretString>,
        username: Option<String>,
        password: Option<SecretString>,
    }
    let mut config: Config = serde_json::from_slice(config).ok().context("it is no docker configuration (JSON with auths)")?;
    let Some(auth) = config.auths.remove(registry) else { return Ok(None) };
    if let (Some(user), Some(password)) = (auth.username, auth.password) {
        return Ok(Some(Login { user, password }));
    }
    let decoded =
        auth.auth.and_then(|auth| BASE64_STANDARD.decode(auth.expose_secret()).ok()).and_then(|auth| String::from_utf8(auth).ok());
    Ok(decoded.and_then(|auth| {
        let (user, password) = auth.split_once(':')?;
        Some(Login { user: user.to_owned(), password: password.into() })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_others_can_be_read_too() {
        let login = Login { user: "robot$p+x".to_owned(), password: "a:b\"c".into() };
        let config = write("h.example.com:30003", &login);
        let read = |config: &str, registry: &str| {
            read(config.as_bytes(), registry).unwrap().map(|login| (login.user, login.password.expose_secret().to_owned()))
        };
        assert_eq!(read(config.expose_secret(), "h.example.com:30003"), Some(("robot$p+x".to_owned(), "a:b\"c".to_owned())));
        assert_eq!(read(config.expose_secret(), "h.example.com"), None);
        let docker = format!(r#"{{"auths":{{"h":{{"auth":"{}"}}}},"credsStore":"x"}}"#, BASE64_STANDARD.encode("u:p"));
        assert_eq!(read(&docker, "h"), Some(("u".to_owned(), "p".to_owned())));
        assert_eq!(read("{}", "h"), None);
        assert!(super::read(b"x", "h").is_err());
    }
}
