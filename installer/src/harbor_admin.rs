//! Harbor's own user `admin`. Its password in the keyring is the one that Harbor was started with the first time; later it changes only by
//! Harbor's API.

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::harbor_secrets;
use crate::keyring::{Entry, Keyring};

/// Id of `admin`, in every Harbor.
const ADMIN: &str = "1";

#[derive(Serialize)]
struct Change<'a> {
    old_password: &'a str,
    new_password: &'a str,
}

/// Changes the password in Harbor, then in the keyring. A run that was killed in between is finished by the next one: the new password is kept
/// beside the old one before Harbor is told of it.
///
/// # Errors
/// When Harbor cannot be reached or refuses; the old password then stays.
pub async fn rotate(http: &reqwest::Client, harbor: &str, keyring: &Keyring) -> Result<()> {
    let harbor = harbor.trim_end_matches('/');
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|begin| harbor.starts_with(begin));
    if !harbor.starts_with("https://") && !local {
        bail!("--harbor {harbor}: passwords go over https only, or over http on this machine (`kubectl port-forward`)");
    }
    let old = keyring.get(Entry::HarborAdminPassword)?.context("the keyring holds no harbor-admin-password")?;
    let new = match keyring.get(Entry::HarborAdminNewPassword)? {
        Some(begun) if works(http, harbor, &begun).await? => return finish(keyring, &begun),
        Some(begun) => begun,
        None => harbor_secrets::admin_password()?,
    };
    keyring.put(Entry::HarborAdminNewPassword, &new)?;
    let change = Change { old_password: old.expose_secret(), new_password: new.expose_secret() };
    let request =
        http.put(format!("{harbor}/api/v2.0/users/{ADMIN}/password")).basic_auth("admin", Some(old.expose_secret())).json(&change);
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("Harbor does not answer")?;
    match answer.status().as_u16() {
        200 => finish(keyring, &new),
        401 | 403 => {
            keyring.forget(Entry::HarborAdminNewPassword)?;
            bail!(
                "Harbor does not accept the admin password of the keyring: somebody has changed it; write the current one into harbor-admin-password"
            )
        }
        status => bail!("Harbor answered {status} to a new admin password; run again"),
    }
}

async fn works(http: &reqwest::Client, harbor: &str, password: &SecretString) -> Result<bool> {
    let request = http.get(format!("{harbor}/api/v2.0/users/current")).basic_auth("admin", Some(password.expose_secret()));
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("Harbor does not answer")?;
    Ok(answer.status().is_success())
}

fn finish(keyring: &Keyring, new: &SecretString) -> Result<()> {
    keyring.put(Entry::HarborAdminPassword, new)?;
    keyring.forget(Entry::HarborAdminNewPassword)
}
