//! Harbor's own user `admin`. Its password in the keyring is the one that Harbor was started with the first time; later it changes only by
//! Harbor's API.

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::reach::address;
use super::{Call, Error, Harbor, Login};
use crate::harbor_secrets;
use crate::keyring::{Entry, Keyring};

/// Its name, in every Harbor.
pub const ADMIN: &str = "admin";
/// Its number, in every Harbor.
const ID: &str = "1";

/// Admin's login, from the keyring.
///
/// # Errors
/// When the keyring does not hold it.
pub fn login(keyring: &Keyring) -> Result<Login> {
    let password = keyring.get(Entry::HarborAdminPassword)?;
    let file = keyring.folder().join(Entry::HarborAdminPassword.file());
    let password = password.with_context(|| format!("{} is missing; say --user and --password-file", file.display()))?;
    Ok(Login { user: ADMIN.to_owned(), password })
}

/// Changes the password in Harbor, then in the keyring. A run that was killed in between is finished by the next one: the new password is kept
/// beside the old one before Harbor is told of it, and is not thrown away before it is known to work: it may be the only one that does.
///
/// # Errors
/// When Harbor cannot be reached or refuses; then the old password stays, or the next run finds that the new one works.
pub async fn rotate(http: &reqwest::Client, harbor: &str, keyring: &Keyring) -> Result<()> {
    let harbor = Harbor::new(http.clone(), address(harbor)?, None);
    let old = keyring.get(Entry::HarborAdminPassword)?.context("the keyring holds no harbor-admin-password")?;
    let new = match keyring.get(Entry::HarborAdminNewPassword)? {
        Some(begun) if works(&harbor, &begun).await? => return finish(keyring, &begun),
        Some(begun) => begun,
        None => harbor_secrets::admin_password()?,
    };
    keyring.put(Entry::HarborAdminNewPassword, &new)?;
    let change = json!({ "old_password": old.expose_secret(), "new_password": new.expose_secret() });
    let answer = admin(&harbor, &old).change(Method::PUT, &format!("/users/{ID}/password"), Some(change)).await;
    match answer {
        Ok(_) => finish(keyring, &new),
        // A request of before may have been carried out only now.
        Err(error) if is_no(&error) && works(&harbor, &new).await? => finish(keyring, &new),
        Err(error) if is_no(&error) => bail!(
            "Harbor does not accept the admin password of the keyring: somebody has changed it; write the current one into {}",
            keyring.folder().join(Entry::HarborAdminPassword.file()).display()
        ),
        Err(error) => Err(error).context("whether admin has the new password is not known: run again"),
    }
}

fn admin(harbor: &Harbor, password: &SecretString) -> Harbor {
    harbor.as_user(Some(Login { user: ADMIN.to_owned(), password: password.clone() }))
}

fn is_no(error: &Error) -> bool {
    matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}

/// Whether Harbor lets it in. Anything but a clear yes or no is an error: the answer decides which password is kept.
async fn works(harbor: &Harbor, password: &SecretString) -> Result<bool> {
    let call = Call { method: Method::GET, path: "/users/current", query: &[], body: None, largest: super::LARGEST };
    match admin(harbor, password).call(&call).await {
        Ok(answer) if answer.status == StatusCode::OK => Ok(true),
        Ok(answer) => bail!("Harbor answered {} to a login of admin; run again when it is well", answer.status),
        Err(error) if is_no(&error) => Ok(false),
        Err(error) => Err(error).context("run again when Harbor is well"),
    }
}

fn finish(keyring: &Keyring, new: &SecretString) -> Result<()> {
    keyring.put(Entry::HarborAdminPassword, new)?;
    keyring.forget(Entry::HarborAdminNewPassword)
}
