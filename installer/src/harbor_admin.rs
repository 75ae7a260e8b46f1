//! Harbor's own user `admin`. Its password in the keyring is the one that Harbor was started with the first time; later it changes only by
//! Harbor's API.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::harbor_secrets;
use crate::keyring::{Entry, Keyring};

/// Id of `admin`, in every Harbor.
const ADMIN: &str = "1";
/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Change<'a> {
    old_password: &'a str,
    new_password: &'a str,
}

/// Changes the password in Harbor, then in the keyring. A run that was killed in between is finished by the next one: the new password is kept
/// beside the old one before Harbor is told of it, and is not thrown away before it is known to work: it may be the only one that does.
///
/// # Errors
/// When Harbor cannot be reached or refuses; then the old password stays, or the next run finds that the new one works.
pub async fn rotate(http: &reqwest::Client, harbor: &str, keyring: &Keyring) -> Result<()> {
    let harbor = address(harbor)?;
    let old = keyring.get(Entry::HarborAdminPassword)?.context("the keyring holds no harbor-admin-password")?;
    let new = match keyring.get(Entry::HarborAdminNewPassword)? {
        Some(begun) if works(http, &harbor, &begun).await? => return finish(keyring, &begun),
        Some(begun) => begun,
        None => harbor_secrets::admin_password()?,
    };
    keyring.put(Entry::HarborAdminNewPassword, &new)?;
    let change = Change { old_password: old.expose_secret(), new_password: new.expose_secret() };
    let url = format!("{harbor}/api/v2.0/users/{ADMIN}/password");
    let request = http.put(url).timeout(TIMEOUT).basic_auth("admin", Some(old.expose_secret())).json(&change);
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("Harbor does not answer; run again")?;
    match answer.status() {
        StatusCode::OK => finish(keyring, &new),
        // A request of before may have been carried out only now.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if works(http, &harbor, &new).await? => finish(keyring, &new),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
            "Harbor does not accept the admin password of the keyring: somebody has changed it; write the current one into {}",
            keyring.folder().join(Entry::HarborAdminPassword.file()).display()
        ),
        status => bail!("Harbor answered {status} to a new admin password; run again"),
    }
}

/// Passwords go over https, or to this machine.
fn address(harbor: &str) -> Result<String> {
    let url = Url::parse(harbor).ok().filter(Url::has_host);
    let url = url.with_context(|| format!("--harbor {harbor:?} is no address; say it as https://harbor.example.com"))?;
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--harbor must hold no login: the password comes from the keyring");
    }
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
        bail!("--harbor {harbor}: passwords go over https only, or over http on this machine (`kubectl port-forward`)");
    }
    Ok(harbor.trim_end_matches('/').to_owned())
}

/// Whether Harbor lets it in. Anything but a clear yes or no is an error: the answer decides which password is kept.
async fn works(http: &reqwest::Client, harbor: &str, password: &SecretString) -> Result<bool> {
    let request = http.get(format!("{harbor}/api/v2.0/users/current")).timeout(TIMEOUT).basic_auth("admin", Some(password.expose_secret()));
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("Harbor does not answer; run again")?;
    match answer.status() {
        StatusCode::OK => Ok(true),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
        status => bail!("Harbor answered {status} to a login of admin; run again when it is well"),
    }
}

fn finish(keyring: &Keyring, new: &SecretString) -> Result<()> {
    keyring.put(Entry::HarborAdminPassword, new)?;
    keyring.forget(Entry::HarborAdminNewPassword)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_travels_in_clear_only_to_this_machine() {
        for good in ["https://harbor.example.com/", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:80"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["http://harbor.example.com", "http://127.0.0.1.example.com", "http://localhost.example.com", "harbor", "https://a:b@c"]
        {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
